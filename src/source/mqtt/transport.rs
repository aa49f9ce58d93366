//! The client library's two halves, one for each version of the protocol, as one: what a source needs of them.
//!
//! Invariants: nothing here decides; whatever the versions call differently has one name from here on.

use bytes::Bytes;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::{QoS, v5};
use rumqttc::{Outgoing, SubscribeFilter};

use super::config::{MqttConfig, Protocol};
use crate::limits::MQTT_WINDOW_MAX;

/// Room for what is sent beside acknowledgements: a subscription, a farewell.
const REQUESTS_BESIDE: usize = 16;

/// What the broker says, and what the client does by itself.
pub(super) enum Incoming {
    /// A connection stands.
    Connected,
    /// Topic by topic: why it is refused, if it is.
    Subscribed(Vec<Option<String>>),
    /// A message.
    Message(Message),
    /// The broker says why it ends the connection.
    Disconnected(String),
    /// Our farewell was sent.
    Left,
    /// Nothing that a source has to know.
    Other,
}

/// A message as it came.
pub(super) struct Message {
    /// What to acknowledge; `None` if it is not to be.
    pub(super) packet_id: Option<u16>,
    /// Where it was published.
    pub(super) topic: Bytes,
    /// What.
    pub(super) payload: Bytes,
}

/// Why a connection ended, or was not made.
pub(super) struct Lost {
    pub(super) reason: String,
    pub(super) remedy: &'static str,
}

/// What sends.
pub(super) enum Client {
    V5(rumqttc::v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// What receives, and keeps the connection alive while it is polled.
pub(super) enum EventLoop {
    V5(Box<rumqttc::v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// A client of the broker; nothing is connected before the event loop is polled.
///
/// # Errors
/// If the URL is wrong, or a file cannot be read.
pub(super) fn open(config: &MqttConfig, agent: &str) -> Result<(Client, EventLoop), String> {
    Ok(match config.protocol {
        Protocol::V5 => {
            // An acknowledgement of everything that the broker may have sent has room. What does not fit waits outside:
            // mosquitto 2.0 sends more than it may, once it has been acknowledged a full window at once.
            let requests = usize::from(config.receive_maximum) + REQUESTS_BESIDE;
            let (client, events) = rumqttc::v5::AsyncClient::new(config.options(agent)?, requests);
            (Client::V5(client), EventLoop::V5(Box::new(events)))
        }
        Protocol::V311 => {
            let options = config.options_of_311(agent)?;
            let (client, events) = rumqttc::AsyncClient::new(options, MQTT_WINDOW_MAX + REQUESTS_BESIDE);
            (Client::V311(client), EventLoop::V311(Box::new(events)))
        }
    })
}

impl Client {
    /// Asks for all `topics` at QoS 1.
    pub(super) fn subscribe(&self, topics: &[String]) -> Result<(), String> {
        match self {
            Self::V5(client) => {
                let filter = |topic: &String| v5::Filter::new(topic.clone(), QoS::AtLeastOnce);
                client.try_subscribe_many(topics.iter().map(filter)).map_err(|error| error.to_string())
            }
            Self::V311(client) => {
                let filter = |topic: &String| SubscribeFilter::new(topic.clone(), rumqttc::QoS::AtLeastOnce);
                client.try_subscribe_many(topics.iter().map(filter)).map_err(|error| error.to_string())
            }
        }
    }

    /// Acknowledges a message; an error if what was asked for before has to leave first.
    pub(super) fn acknowledge(&self, pkid: u16) -> Result<(), String> {
        match self {
            Self::V5(client) => {
                let publish = v5::Publish { qos: QoS::AtLeastOnce, pkid, ..v5::Publish::default() };
                client.try_ack(&publish).map_err(|error| error.to_string())
            }
            Self::V311(client) => {
                let mut publish = v4::Publish::new("", rumqttc::QoS::AtLeastOnce, Vec::new());
                publish.pkid = pkid;
                client.try_ack(&publish).map_err(|error| error.to_string())
            }
        }
    }

    /// Says farewell, once everything before it was sent.
    pub(super) fn leave(&self) -> Result<(), String> {
        match self {
            Self::V5(client) => client.try_disconnect().map_err(|error| error.to_string()),
            Self::V311(client) => client.try_disconnect().map_err(|error| error.to_string()),
        }
    }
}

impl EventLoop {
    /// The next thing that happens. Connects if nothing is connected, without a pause. Whatever the broker sends is a
    /// sign of life: its answer to a ping may wait behind all that it sends again after an outage, and a connection that
    /// is given up for that begins anew with the same.
    ///
    /// # Cancel safety
    /// None: a packet may be cut. Drop it only to [`Self::give_up`].
    pub(super) async fn poll(&mut self) -> Result<Incoming, Lost> {
        match self {
            Self::V5(events) => {
                let event = events.poll().await.map_err(|error| lost_of_5(&error))?;
                if matches!(event, rumqttc::v5::Event::Incoming(_)) {
                    events.state.await_pingresp = false;
                }
                Ok(of_5(event))
            }
            Self::V311(events) => {
                let event = events.poll().await.map_err(|error| lost_of_311(&error))?;
                if matches!(event, rumqttc::Event::Incoming(_)) {
                    events.state.await_pingresp = false;
                }
                Ok(of_311(event))
            }
        }
    }

    /// Ends the connection.
    pub(super) fn give_up(&mut self) {
        match self {
            Self::V5(events) => events.clean(),
            Self::V311(events) => events.clean(),
        }
        self.forget();
    }

    /// Drops what the connection that ended has brought and was not asked for yet: the client would hand it out as
    /// if the next one had brought it.
    pub(super) fn forget(&mut self) {
        match self {
            Self::V5(events) => events.state.events.clear(),
            Self::V311(events) => events.state.events.clear(),
        }
    }
}

fn of_5(event: rumqttc::v5::Event) -> Incoming {
    use rumqttc::v5::Event;
    match event {
        Event::Incoming(v5::Packet::ConnAck(_)) => Incoming::Connected,
        Event::Incoming(v5::Packet::SubAck(ack)) => {
            let refused = |code: &v5::SubscribeReasonCode| match code {
                v5::SubscribeReasonCode::Success(_) => None,
                refused => Some(format!("{refused:?}")),
            };
            Incoming::Subscribed(ack.return_codes.iter().map(refused).collect())
        }
        Event::Incoming(v5::Packet::Publish(publish)) => Incoming::Message(Message {
            packet_id: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
            topic: publish.topic,
            payload: publish.payload,
        }),
        Event::Incoming(v5::Packet::Disconnect(disconnect)) => {
            Incoming::Disconnected(format!("{:?}", disconnect.reason_code))
        }
        Event::Outgoing(Outgoing::Disconnect) => Incoming::Left,
        _ => Incoming::Other,
    }
}

fn of_311(event: rumqttc::Event) -> Incoming {
    use rumqttc::Event;
    match event {
        Event::Incoming(v4::Packet::ConnAck(_)) => Incoming::Connected,
        Event::Incoming(v4::Packet::SubAck(ack)) => {
            let refused = |code: &v4::SubscribeReasonCode| match code {
                v4::SubscribeReasonCode::Success(_) => None,
                v4::SubscribeReasonCode::Failure => Some("Failure".into()),
            };
            Incoming::Subscribed(ack.return_codes.iter().map(refused).collect())
        }
        Event::Incoming(v4::Packet::Publish(publish)) => Incoming::Message(Message {
            packet_id: (publish.qos != rumqttc::QoS::AtMostOnce).then_some(publish.pkid),
            topic: publish.topic.into(),
            payload: publish.payload,
        }),
        Event::Outgoing(Outgoing::Disconnect) => Incoming::Left,
        _ => Incoming::Other,
    }
}

const UNREACHABLE: &str = "check that the broker runs and source.mqtt.url";
const REFUSED: &str = "check user and password_file, and that the broker speaks this version (source.mqtt.protocol)";
const TLS: &str = "check [source.mqtt.tls]";
const AGAIN: &str = "it is tried again";

fn lost_of_5(error: &rumqttc::v5::ConnectionError) -> Lost {
    use rumqttc::v5::ConnectionError;
    let remedy = match error {
        ConnectionError::ConnectionRefused(_) => REFUSED,
        ConnectionError::Tls(_) => TLS,
        ConnectionError::Io(_) | ConnectionError::Timeout(_) => UNREACHABLE,
        _ => AGAIN,
    };
    Lost { reason: error.to_string(), remedy }
}

fn lost_of_311(error: &rumqttc::ConnectionError) -> Lost {
    use rumqttc::ConnectionError;
    use rumqttc::StateError::Deserialization;
    let remedy = match error {
        ConnectionError::ConnectionRefused(_) => REFUSED,
        ConnectionError::Tls(_) => TLS,
        ConnectionError::Io(_) | ConnectionError::NetworkTimeout => UNREACHABLE,
        ConnectionError::MqttState(Deserialization(rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(_))) => {
            "a message is too large, and the broker sends it again and again: let it refuse such (mosquitto: \
             message_size_limit), and end the session there"
        }
        _ => AGAIN,
    };
    Lost { reason: error.to_string(), remedy }
}

//! MQTT v5: a persistent session, manual acknowledgements in order of arrival, reconnecting with backoff.
//!
//! The event loop is always polled, since the keep-alive lives there; back-pressure is withholding
//! acknowledgements: the broker sends at most `receive_maximum` messages ahead, and what does not fit
//! into the pipeline yet waits here.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Outlet;
use super::ack::{AckOrder, Ticket};
use crate::decode::FormatName;
use crate::gauges::SourceState;
use crate::item::{Body, RawMessage};
use crate::limits::{MQTT_PACKET_BYTES_MAX, MQTT_RECEIVE_MAXIMUM};
use crate::pipeline::{Room, Sender};
use crate::receipt::Receipt;

/// First pause before the broker is tried again.
const RECONNECT_AFTER_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits for acknowledgements to leave.
const LAST_ACKS_WITHIN: Duration = Duration::from_secs(2);

/// `[[source.mqtt]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Its name: in the ledger, in messages, in the client id.
    pub name: String,
    /// `mqtt://host:port`, or `mqtts://host:port` with `tls`.
    pub url: String,
    /// What to subscribe to, at QoS 1.
    pub topics: Vec<String>,
    /// What messages hold.
    #[serde(default)]
    pub format: FormatName,
    /// The car, whatever topics say; if absent, `pitwire/CAR/…` names it, else it is the agent's.
    pub car: Option<String>,
    /// Put before the names of its devices.
    #[serde(default)]
    pub device_prefix: String,
    /// The client id; `pitwire-AGENT-NAME` if absent.
    pub client_id: Option<String>,
    /// Messages that the broker may send ahead of our acknowledgements.
    #[serde(default = "default_receive_maximum")]
    pub receive_maximum: u16,
    /// How long the broker keeps the session, and what it queues for it, while we are away.
    #[serde(default = "default_session_expiry", with = "humantime_serde")]
    pub session_expiry: Duration,
    /// Distance of keep-alive messages.
    #[serde(default = "default_keep_alive", with = "humantime_serde")]
    pub keep_alive: Duration,
    /// User name.
    pub user: Option<String>,
    /// File that holds the password; else `PITWIRE_MQTT_PASSWORD`.
    pub password_file: Option<PathBuf>,
    /// TLS, for `mqtts://`.
    pub tls: Option<TlsConfig>,
}

/// `[source.mqtt.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// File with the certificate of the authority that signed the broker's, PEM.
    pub ca: PathBuf,
    /// File with our certificate and key, PKCS#12, if the broker asks for one.
    pub client: Option<PathBuf>,
    /// File with the password of `client`.
    pub client_password_file: Option<PathBuf>,
}

const fn default_receive_maximum() -> u16 {
    MQTT_RECEIVE_MAXIMUM
}
const fn default_session_expiry() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}
const fn default_keep_alive() -> Duration {
    Duration::from_secs(10)
}

impl MqttConfig {
    /// Wire frames from `url`, everything else as documented.
    #[must_use]
    pub fn new(name: &str, url: &str, topics: &[String]) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            topics: topics.to_vec(),
            format: FormatName::Wire,
            car: None,
            device_prefix: String::new(),
            client_id: None,
            receive_maximum: default_receive_maximum(),
            session_expiry: default_session_expiry(),
            keep_alive: default_keep_alive(),
            user: None,
            password_file: None,
            tls: None,
        }
    }

    /// Host, port, and whether TLS is asked for.
    ///
    /// # Errors
    /// If the URL is not `mqtt://host[:port]` or `mqtts://host[:port]`.
    pub fn address(&self) -> Result<(String, u16, bool), String> {
        let expected = || format!("{:?} is not mqtt://host:port or mqtts://host:port", self.url);
        let (rest, tls, default_port) = match (self.url.strip_prefix("mqtt://"), self.url.strip_prefix("mqtts://")) {
            (Some(rest), _) => (rest, false, 1883),
            (_, Some(rest)) => (rest, true, 8883),
            _ => return Err(expected()),
        };
        if rest.contains('@') {
            return Err("user and password do not belong into the URL: see user and password_file".into());
        }
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| expected())?),
            _ => (rest, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('/') { Err(expected()) } else { Ok((host.into(), port, tls)) }
    }

    /// What is wrong, as (key, what would be right).
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        match self.address() {
            Err(reason) => faults.push(("url", reason)),
            Ok((_, _, true)) if self.tls.is_none() => {
                faults.push(("url", "mqtts:// needs a section [source.mqtt.tls] with ca".into()));
            }
            Ok((_, _, false)) if self.tls.is_some() => faults.push(("url", "with tls it has to be mqtts://".into())),
            Ok(_) => {}
        }
        if self.topics.is_empty() {
            faults.push(("topics", r#"at least one is needed, e.g. ["pitwire/44/#"]"#.into()));
        }
        if self.receive_maximum == 0 {
            faults.push(("receive_maximum", "must be at least 1".into()));
        }
        if self.keep_alive < Duration::from_secs(1) {
            faults.push(("keep_alive", "must be at least 1s".into()));
        }
        faults
    }

    fn options(&self, agent: &str) -> Result<MqttOptions, String> {
        let (host, port, tls) = self.address()?;
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("pitwire-{agent}-{}", self.name));
        let mut options = MqttOptions::new(client_id, host, port);
        options
            .set_keep_alive(self.keep_alive)
            .set_clean_start(false)
            .set_manual_acks(true)
            .set_session_expiry_interval(Some(u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX)))
            .set_receive_maximum(Some(self.receive_maximum))
            .set_max_packet_size(Some(MQTT_PACKET_BYTES_MAX))
            .set_connection_timeout(5);
        if let Some(user) = &self.user {
            let password = match &self.password_file {
                Some(path) => read(path)?.trim_end().to_owned(),
                None => std::env::var("PITWIRE_MQTT_PASSWORD").unwrap_or_default(),
            };
            options.set_credentials(user, password);
        }
        if let (true, Some(tls)) = (tls, &self.tls) {
            let client_password = tls.client_password_file.as_ref().map(read).transpose()?.unwrap_or_default();
            let client = tls.client.as_ref().map(read_bytes).transpose()?;
            let client_auth = client.map(|client| (client, client_password.trim_end().to_owned()));
            let configuration = TlsConfiguration::SimpleNative { ca: read_bytes(&tls.ca)?, client_auth };
            options.set_transport(Transport::tls_with_config(configuration));
        }
        Ok(options)
    }
}

fn read_bytes(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))
}

fn read(path: &PathBuf) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| format!("{} is not text", path.display()))
}

/// Receives until told to stop; then waits a little for what is settled to be acknowledged.
pub async fn run(config: MqttConfig, agent: String, outlet: Outlet) {
    let mut pause = RECONNECT_AFTER_MIN;
    let options = loop {
        match config.options(&agent) {
            Ok(options) => break options,
            // A certificate or a password may be mounted later.
            Err(reason) => show(&outlet, SourceState::Down, &reason),
        }
        tokio::select! {
            () = outlet.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RECONNECT_AFTER_MAX),
        }
    };
    // Room for an acknowledgement of everything the broker may have sent, and for a subscription.
    let (client, event_loop) = AsyncClient::new(options, usize::from(config.receive_maximum) + 16);
    let (settled, settled_rx) = mpsc::unbounded_channel();
    let order = AckOrder::default();
    let source =
        Source { config, outlet, client, settled, order, waiting: VecDeque::new(), pause: RECONNECT_AFTER_MIN };
    source.run(event_loop, settled_rx).await;
}

struct Source {
    config: MqttConfig,
    outlet: Outlet,
    client: AsyncClient,
    /// Bounded by what is unacknowledged: at most `receive_maximum` for each connection.
    settled: mpsc::UnboundedSender<Ticket>,
    order: AckOrder,
    /// Received, and not yet in the pipeline: at most `receive_maximum`.
    waiting: VecDeque<RawMessage>,
    pause: Duration,
}

/// How far a stop has come.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Messages go into the pipeline.
    Taking,
    /// None do any more; what is settled is acknowledged.
    Draining,
    /// Everything that will be settled is; the last acknowledgements leave.
    Leaving(tokio::time::Instant),
}

impl Source {
    async fn run(mut self, mut event_loop: EventLoop, mut settled: mpsc::UnboundedReceiver<Ticket>) {
        let mut phase = Phase::Taking;
        loop {
            let outcome = {
                // Pinned across the other branches: dropping it half-way could cut a packet.
                let mut poll = pin!(event_loop.poll());
                loop {
                    let sender = self.outlet.sender.clone();
                    let weight = self.waiting.front().zip(sender.as_ref()).map(|(front, sender)| sender.weigh(front));
                    tokio::select! {
                        outcome = &mut poll => break outcome,
                        Some(ticket) = settled.recv() => self.acknowledge(ticket),
                        room = room(sender.as_ref(), weight), if weight.is_some() => {
                            match (room, self.waiting.pop_front()) {
                                (Some(room), Some(message)) => room.put(message),
                                _ => return,
                            }
                        }
                        () = self.outlet.stop.cancelled(), if phase == Phase::Taking => {
                            phase = Phase::Draining;
                            // What waits here was never accepted: the broker keeps it.
                            self.waiting.clear();
                            self.outlet.sender = None;
                        }
                        () = self.outlet.settled.cancelled(), if phase == Phase::Draining => {
                            while let Ok(ticket) = settled.try_recv() {
                                self.acknowledge(ticket);
                            }
                            if self.client.try_disconnect().is_err() {
                                return;
                            }
                            phase = Phase::Leaving(tokio::time::Instant::now() + LAST_ACKS_WITHIN);
                        }
                        () = left(phase) => return,
                    }
                }
            };
            match outcome {
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(event) => self.event(event, phase != Phase::Taking),
                Err(error) => {
                    self.order.disconnected();
                    self.waiting.clear();
                    // Packets of the old connection must not be delivered after it.
                    event_loop.state.events.clear();
                    if phase != Phase::Taking {
                        return;
                    }
                    self.lost(&error).await;
                }
            }
        }
    }

    fn event(&mut self, event: Event, stopping: bool) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                let filter = |topic: &String| Filter::new(topic.clone(), QoS::AtLeastOnce);
                // Also when the session is present: the broker then sends what it retains again.
                let asked = self.client.try_subscribe_many(self.config.topics.iter().map(filter));
                if let Err(error) = asked {
                    show(&self.outlet, SourceState::Down, &format!("subscribe: {error}"));
                }
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let refused = |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                match ack.return_codes.iter().zip(&self.config.topics).find(|(code, _)| refused(code)) {
                    None => {
                        self.pause = RECONNECT_AFTER_MIN;
                        show(&self.outlet, SourceState::Connected, "");
                    }
                    Some((code, topic)) => {
                        let detail = format!("the broker refuses topic {topic:?}: {code:?}; see its access rules");
                        show(&self.outlet, SourceState::Down, &detail);
                    }
                }
            }
            Event::Incoming(Packet::Publish(publish)) if !stopping => self.publish(publish),
            Event::Incoming(Packet::Disconnect(disconnect)) => {
                let detail = format!("the broker disconnects: {:?}", disconnect.reason_code);
                show(&self.outlet, SourceState::Down, &detail);
            }
            _ => {}
        }
    }

    fn publish(&mut self, publish: Publish) {
        let now = self.outlet.clock.now();
        self.outlet.gauges.received(publish.payload.len(), now);
        let receipt = match publish.qos {
            QoS::AtMostOnce => Receipt::none(),
            _ => {
                let (ticket, settled) = (self.order.received(publish.pkid), self.settled.clone());
                Receipt::new(move || {
                    // The source may be gone: then nobody is left to tell.
                    let _ = settled.send(ticket);
                })
            }
        };
        self.waiting.push_back(RawMessage {
            source: self.outlet.id,
            body: Body::Message { topic: publish.topic, payload: publish.payload },
            accepted_at: now,
            received: self.outlet.clock.now_utc(),
            receipt,
        });
    }

    fn acknowledge(&mut self, ticket: Ticket) {
        for pkid in self.order.settled(ticket) {
            let publish = Publish { qos: QoS::AtLeastOnce, pkid, ..Publish::default() };
            // The queue has room for all that may be unacknowledged.
            if let Err(error) = self.client.try_ack(&publish) {
                tracing::error!(source = self.config.name, %error, "acknowledgement not queued: please report this");
            }
        }
    }

    async fn lost(&mut self, error: &ConnectionError) {
        let url = &self.config.url;
        let remedy = match error {
            ConnectionError::ConnectionRefused(_) => "check user and password_file, and that the broker speaks MQTT 5",
            ConnectionError::Tls(_) => "check [source.mqtt.tls]",
            ConnectionError::Io(_) | ConnectionError::Timeout(_) => "check that the broker runs and source.mqtt.url",
            _ => "it is tried again",
        };
        show(&self.outlet, SourceState::Down, &format!("{url}: {error}; {remedy}"));
        tokio::select! {
            () = self.outlet.stop.cancelled() => {}
            () = tokio::time::sleep(self.pause) => {}
        }
        self.pause = (self.pause * 2).min(RECONNECT_AFTER_MAX);
    }
}

async fn room(sender: Option<&Sender<RawMessage>>, weight: Option<usize>) -> Option<Room<'_, RawMessage>> {
    sender?.room(weight?).await
}

async fn left(phase: Phase) {
    match phase {
        Phase::Leaving(at) => tokio::time::sleep_until(at).await,
        Phase::Taking | Phase::Draining => std::future::pending().await,
    }
}

fn show(outlet: &Outlet, state: SourceState, detail: &str) {
    let source = &outlet.gauges.name;
    if outlet.gauges.set(state, detail, outlet.clock.now()) {
        match state {
            SourceState::Connected => tracing::info!(source, "subscribed"),
            _ => tracing::warn!(source, detail, "broker not usable"),
        }
    }
}

//! MQTT v5: a persistent session, manual acknowledgements in order of arrival, reconnecting with backoff.
//!
//! The event loop is always polled, since the keep-alive lives there; back-pressure is withholding
//! acknowledgements: the broker sends at most `receive_maximum` messages ahead, and what does not fit
//! into the pipeline yet waits here.
//!
//! A receipt that becomes void while its connection lives (a fault of ours) would hold back every later
//! acknowledgement: the connection is then given up, and the broker sends again what is not acknowledged.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use tokio::sync::mpsc;

use super::Outlet;
use super::ack::{AckOrder, Ticket};
use crate::gauges::SourceState;
use crate::item::{Body, RawMessage};
use crate::pipeline::{Room, Sender};
use crate::receipt::{Ending, Receipt};

mod config;

pub use config::{MqttConfig, TlsConfig};

/// First pause before the broker is tried again.
const RECONNECT_AFTER_MIN: Duration = Duration::from_millis(100);
/// A connection that held so long was a good one: after it the pauses begin anew. Two clients of one id, who
/// throw each other off at once, slow down instead.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// Longest pause.
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits for acknowledgements to leave.
const LAST_ACKS_WITHIN: Duration = Duration::from_secs(2);

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
    let source = Source {
        config,
        outlet,
        client,
        settled,
        order: AckOrder::default(),
        waiting: VecDeque::new(),
        pause: RECONNECT_AFTER_MIN,
        subscribed_at: None,
        void_pause: RECONNECT_AFTER_MIN,
    };
    source.run(event_loop, settled_rx).await;
}

/// How a message's receipt ended.
type Ended = (Ticket, Ending);

struct Source {
    config: MqttConfig,
    outlet: Outlet,
    client: AsyncClient,
    /// Bounded by what is unacknowledged: at most `receive_maximum` for each connection.
    settled: mpsc::UnboundedSender<Ended>,
    order: AckOrder,
    /// Received, and not yet in the pipeline: at most `receive_maximum` that are acknowledged, and as many
    /// others.
    waiting: VecDeque<RawMessage>,
    pause: Duration,
    subscribed_at: Option<Instant>,
    /// Pause after a receipt became void; it grows until an acknowledgement shows that things move.
    void_pause: Duration,
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
    async fn run(mut self, mut event_loop: EventLoop, mut settled: mpsc::UnboundedReceiver<Ended>) {
        let mut phase = Phase::Taking;
        loop {
            // What the event loop says; `None` if a message of this connection will never settle.
            let turn = {
                // Pinned across the other branches: dropping it half-way could cut a packet.
                let mut poll = pin!(event_loop.poll());
                loop {
                    let sender = self.outlet.sender.clone();
                    let weight = self.waiting.front().zip(sender.as_ref()).map(|(front, sender)| sender.weigh(front));
                    tokio::select! {
                        outcome = &mut poll => break Some(outcome),
                        Some(ended) = settled.recv() => {
                            if !self.acknowledge(ended) && phase == Phase::Taking {
                                break None;
                            }
                        }
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
                            while let Ok(ended) = settled.try_recv() {
                                self.acknowledge(ended);
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
            match turn {
                Some(Ok(Event::Outgoing(Outgoing::Disconnect))) => return,
                Some(Ok(event)) => self.event(event, phase != Phase::Taking),
                Some(Err(error)) => {
                    self.disconnected(&mut event_loop);
                    if phase != Phase::Taking {
                        return;
                    }
                    self.lost(&error).await;
                }
                None => {
                    event_loop.clean();
                    self.disconnected(&mut event_loop);
                    let detail =
                        "a message was given up inside the agent (please report this); the broker sends it again";
                    tracing::error!(source = self.config.name, "{detail}");
                    show(&self.outlet, SourceState::Down, detail);
                    self.rest(self.void_pause).await;
                    self.void_pause = (self.void_pause * 2).min(RECONNECT_AFTER_MAX);
                }
            }
        }
    }

    /// Forgets the connection: its packets must not be delivered, nor acknowledged, after it.
    fn disconnected(&mut self, event_loop: &mut EventLoop) {
        self.order.disconnected();
        self.waiting.clear();
        event_loop.state.events.clear();
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
                        self.subscribed_at = Some(self.outlet.clock.now());
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
            QoS::AtMostOnce if self.waiting.len() >= usize::from(self.config.receive_maximum) => {
                // The broker holds back only what it wants acknowledged.
                let refused = self.outlet.gauges.refused.fetch_add(1, Ordering::Relaxed) + 1;
                if refused.is_power_of_two() {
                    let source = &self.config.name;
                    tracing::warn!(source, refused, "no room for messages at qos 0: publish them at qos 1");
                }
                return;
            }
            QoS::AtMostOnce => Receipt::none(),
            _ => {
                let (ticket, settled) = (self.order.received(publish.pkid), self.settled.clone());
                Receipt::with_ending(move |ending| {
                    // The source may be gone: then nobody is left to tell.
                    let _ = settled.send((ticket, ending));
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

    /// Acknowledges what may be now; `false` if a message of this connection will never settle.
    fn acknowledge(&mut self, (ticket, ending): Ended) -> bool {
        if ending == Ending::Void {
            return !self.order.is_current(ticket);
        }
        for pkid in self.order.settled(ticket) {
            self.void_pause = RECONNECT_AFTER_MIN;
            let publish = Publish { qos: QoS::AtLeastOnce, pkid, ..Publish::default() };
            // The queue has room for all that may be unacknowledged.
            if let Err(error) = self.client.try_ack(&publish) {
                tracing::error!(source = self.config.name, %error, "acknowledgement not queued: please report this");
            }
        }
        true
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
        let now = self.outlet.clock.now();
        if self.subscribed_at.take().is_some_and(|at| now.saturating_duration_since(at) > GOOD_AFTER) {
            self.pause = RECONNECT_AFTER_MIN;
        }
        self.rest(self.pause).await;
        self.pause = (self.pause * 2).min(RECONNECT_AFTER_MAX);
    }

    /// A pause that a stop ends.
    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = self.outlet.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
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

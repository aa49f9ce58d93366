//! MQTT 5, or 3.1.1: a persistent session, manual acknowledgements in order of arrival, reconnecting with backoff.
//!
//! The event loop is always polled, since the keep-alive lives there; back-pressure is withholding
//! acknowledgements: the broker sends at most its window ahead (`receive_maximum` in MQTT 5), and what does not fit
//! into the pipeline yet waits here. Where a broker sends more than it may, the socket is left alone until there is room,
//! but for a packet in [`CROWDED_REST`].
//!
//! A receipt that becomes void while its connection lives (a fault of ours, or memory ran out and a copy that came
//! another way was dropped) would hold back every later acknowledgement: the connection is then given up, and the
//! broker sends again what is not acknowledged.
//!
//! Read this file, the loop, which knows no version; `transport` is the client library; `window` says when a broker
//! of 3.1.1 waits for us.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Outlet;
use super::ack::{AckOrder, Ticket};
use crate::gauges::SourceState;
use crate::item::{Body, RawBatch, RawMessage};
use crate::limits::MQTT_PACKET_BYTES_MAX;
use crate::pipeline::{Room, Sender};
use crate::receipt::{Ending, Receipt};

mod config;
mod transport;
mod waiting;
mod window;

pub use config::{MqttConfig, Protocol, TlsConfig};
use transport::{Client, EventLoop, Incoming, Lost, Message};
use waiting::Waiting;
use window::Window;

/// First pause before the broker is tried again.
const RECONNECT_AFTER_MIN: Duration = Duration::from_millis(100);
/// A connection that held so long was a good one: after it the pauses begin anew. Two clients of one id, who
/// throw each other off at once, slow down instead.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// Longest pause.
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(5);
/// Where messages come one by one and fast, the socket is looked at this often: what came meanwhile is handed on together,
/// and the stages are woken for all of it once. Far below any `flush_after`.
const GATHER_FOR: Duration = Duration::from_millis(1);
/// As long as batches follow each other closer than this.
const FAST: Duration = Duration::from_millis(5);
/// How long the socket is left alone where more waits than may: shorter than any keep-alive, for pings leave by it too.
const CROWDED_REST: Duration = Duration::from_secs(1);
/// How long a stop waits for acknowledgements to leave.
const LAST_ACKS_WITHIN: Duration = Duration::from_secs(2);

/// Receives until told to stop; then waits a little for what is settled to be acknowledged.
pub async fn run(config: MqttConfig, agent: String, outlet: Outlet) {
    let mut pause = RECONNECT_AFTER_MIN;
    let (client, event_loop) = loop {
        match transport::open(&config, &agent) {
            Ok(both) => break both,
            // A certificate or a password may be mounted later.
            Err(reason) => show(&outlet, SourceState::Down, &reason),
        }
        tokio::select! {
            () = outlet.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RECONNECT_AFTER_MAX),
        }
    };
    let window = (config.protocol == Protocol::V311).then(Window::default);
    let (settled, settled_rx) = mpsc::unbounded_channel();
    let source = Source {
        config,
        outlet,
        client,
        settled,
        order: AckOrder::default(),
        window,
        waiting: Waiting::default(),
        late: VecDeque::new(),
        handed_on_at: None,
        rest_until: None,
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
    client: Client,
    /// Bounded by what is unacknowledged: at most the broker's window for each connection.
    settled: mpsc::UnboundedSender<Ended>,
    order: AckOrder,
    /// Acknowledgements that wait until those before them have left, in order.
    late: VecDeque<u16>,
    /// Where the broker alone sets the window.
    window: Option<Window>,
    /// Received, and not yet in the pipeline: at most the broker's window of those that are acknowledged, and
    /// `receive_maximum` others; a packet each [`CROWDED_REST`] more.
    waiting: Waiting,
    /// When the last batch was.
    handed_on_at: Option<Instant>,
    /// Until then the socket is left alone.
    rest_until: Option<Instant>,
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
        let stop = self.outlet.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        loop {
            // What the event loop says; `None` if a message of this connection will never settle.
            let turn = {
                // Pinned across the other branches: dropping it half-way could cut a packet.
                let mut poll = pin!(event_loop.poll());
                loop {
                    let sender = self.outlet.sender.clone();
                    let ask_at = self.ask_at(phase);
                    let weight = self.waiting.weight().filter(|_| sender.is_some());
                    let (full, crowded) = (self.waiting.is_full(), self.is_crowded());
                    let rest_until = self.rest_until.filter(|_| phase == Phase::Taking && (!full || crowded));
                    // In this order: all that came is read before a part of it is handed on.
                    tokio::select! {
                        biased;
                        () = &mut stopped, if phase == Phase::Taking => {
                            phase = Phase::Draining;
                            // What waits here was never accepted: the broker keeps it.
                            self.waiting.clear();
                            self.outlet.sender = None;
                        }
                        () = left(phase), if phase != Phase::Taking => return,
                        Some(ended) = settled.recv() => {
                            let mut next = Some(ended);
                            let mut void = false;
                            while let Some(ended) = next {
                                void |= !self.acknowledge(ended);
                                next = settled.try_recv().ok();
                            }
                            if void && phase == Phase::Taking {
                                break None;
                            }
                        }
                        () = self.outlet.settled.cancelled(), if phase == Phase::Draining && self.late.is_empty() => {
                            while let Ok(ended) = settled.try_recv() {
                                self.acknowledge(ended);
                            }
                            if !self.late.is_empty() {
                                continue;
                            }
                            if self.client.leave().is_err() {
                                return;
                            }
                            phase = Phase::Leaving(tokio::time::Instant::now() + LAST_ACKS_WITHIN);
                        }
                        room = room(sender.as_ref(), weight), if weight.is_some() && full => match room {
                            Some(room) => self.hand_on(room),
                            None => return,
                        },
                        outcome = &mut poll, if rest_until.is_none() => break Some(outcome),
                        room = room(sender.as_ref(), weight), if weight.is_some() && !full => match room {
                            Some(room) => self.hand_on(room),
                            None => return,
                        },
                        () = until(rest_until), if rest_until.is_some() => self.rest_until = None,
                        () = until(ask_at), if ask_at.is_some() => self.ask_for_flush(),
                    }
                }
            };
            match turn {
                Some(Ok(Incoming::Left)) => return,
                Some(Ok(incoming)) => {
                    self.acknowledge_late();
                    self.incoming(incoming, phase != Phase::Taking);
                    if self.is_crowded() {
                        self.rest_until = Some(self.outlet.clock.now() + CROWDED_REST);
                    }
                }
                Some(Err(lost)) => {
                    event_loop.forget();
                    self.disconnected();
                    if phase != Phase::Taking {
                        return;
                    }
                    self.lost(&lost).await;
                }
                None => {
                    event_loop.give_up();
                    self.disconnected();
                    let detail = "a message could not be made durable and is asked for again: the agent's log says why";
                    tracing::warn!(source = self.config.name, "{detail}");
                    show(&self.outlet, SourceState::Down, detail);
                    self.rest(self.void_pause).await;
                    self.void_pause = (self.void_pause * 2).min(RECONNECT_AFTER_MAX);
                }
            }
        }
    }

    /// Whether more waits than the broker may have sent.
    fn is_crowded(&self) -> bool {
        self.waiting.len() > usize::from(self.config.receive_maximum)
    }

    /// Hands the next batch on; after it the socket may rest.
    fn hand_on(&mut self, room: Room<'_, RawBatch>) {
        let now = self.outlet.clock.now();
        let fast = self.handed_on_at.replace(now).is_some_and(|last| now.saturating_duration_since(last) < FAST);
        // Where the broker alone sets the window, it may be so small that each millisecond counts.
        self.rest_until = (fast && self.window.is_none()).then(|| now + GATHER_FOR);
        room.put(RawBatch { source: self.outlet.id, messages: self.waiting.take() });
    }

    /// Forgets the connection: its messages must not be delivered, nor acknowledged, after it.
    fn disconnected(&mut self) {
        self.order.disconnected();
        self.late.clear();
        self.waiting.clear();
        self.window = self.window.take().map(|_| Window::default());
    }

    fn incoming(&mut self, incoming: Incoming, stopping: bool) {
        match incoming {
            // Also when the session is present: the broker then sends what it retains again.
            Incoming::Connected => {
                if let Err(error) = self.client.subscribe(&self.config.topics) {
                    show(&self.outlet, SourceState::Down, &format!("subscribe: {error}"));
                }
            }
            Incoming::Subscribed(refusals) => {
                let all = refusals.iter().zip(&self.config.topics);
                match all.filter_map(|(refusal, topic)| refusal.as_ref().map(|refusal| (refusal, topic))).next() {
                    None => {
                        self.subscribed_at = Some(self.outlet.clock.now());
                        show(&self.outlet, SourceState::Connected, "");
                    }
                    Some((refusal, topic)) => {
                        let detail = format!("the broker refuses topic {topic:?}: {refusal}; see its access rules");
                        show(&self.outlet, SourceState::Down, &detail);
                    }
                }
            }
            Incoming::Message(message) if !stopping => self.message(message),
            Incoming::Disconnected(reason) => {
                show(&self.outlet, SourceState::Down, &format!("the broker disconnects: {reason}"));
            }
            Incoming::Message(_) | Incoming::Left | Incoming::Other => {}
        }
    }

    fn message(&mut self, Message { packet_id, topic, payload }: Message) {
        let now = self.outlet.clock.now();
        self.outlet.gauges.received(payload.len(), now);
        let receipt = match packet_id {
            // The broker holds back only what it wants acknowledged.
            None if self.waiting.len() >= usize::from(self.config.receive_maximum) => {
                return self.refuse("no room for messages at qos 0: publish them at qos 1");
            }
            None => Receipt::none(),
            Some(packet_id) => {
                let (ticket, settled) = (self.order.received(packet_id), self.settled.clone());
                if let Some(window) = &mut self.window {
                    window.arrived(self.order.outstanding(), now);
                }
                Receipt::with_ending(move |ending| {
                    // The source may be gone: then nobody is left to tell.
                    let _ = settled.send((ticket, ending));
                })
            }
        };
        if topic.len() + payload.len() > MQTT_PACKET_BYTES_MAX as usize {
            receipt.settle();
            return self
                .refuse("a message is too large (256 KiB): it is dropped, as brokers of MQTT 5 do by themselves");
        }
        let message = self.raw(Body::Message { topic, payload }, receipt, now);
        self.waiting.push(message);
    }

    fn raw(&self, body: Body, receipt: Receipt, accepted_at: std::time::Instant) -> RawMessage {
        RawMessage { body, accepted_at, received: self.outlet.clock.now_utc(), receipt }
    }

    /// Counts a message that is not taken.
    fn refuse(&self, why: &str) {
        let refused = self.outlet.gauges.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if refused.is_power_of_two() {
            tracing::warn!(source = self.config.name, refused, "{why}");
        }
    }

    /// When to ask for a flush: once the broker waits for acknowledgements, and all that it sent is on its way.
    fn ask_at(&self, phase: Phase) -> Option<Instant> {
        let window = self.window.as_ref().filter(|_| phase == Phase::Taking && self.waiting.is_empty())?;
        window.ask_at(self.order.outstanding())
    }

    fn ask_for_flush(&mut self) {
        let now = self.outlet.clock.now();
        if self.window.as_mut().is_some_and(|window| window.ask(now)) {
            let flush = self.raw(Body::Flush, Receipt::none(), now);
            self.waiting.push(flush);
        }
    }

    /// Acknowledges what may be now; `false` if a message of this connection will never settle.
    fn acknowledge(&mut self, (ticket, ending): Ended) -> bool {
        if ending == Ending::Void {
            return !self.order.is_current(ticket);
        }
        for packet_id in self.order.settled(ticket) {
            self.void_pause = RECONNECT_AFTER_MIN;
            if let Some(window) = &mut self.window {
                window.acknowledged(self.outlet.clock.now());
            }
            self.late.push_back(packet_id);
        }
        self.acknowledge_late();
        true
    }

    /// Acknowledges what waits for that, as far as there is room.
    fn acknowledge_late(&mut self) {
        while let Some(&packet_id) = self.late.front() {
            if self.client.acknowledge(packet_id).is_err() {
                break;
            }
            self.late.pop_front();
        }
    }

    async fn lost(&mut self, lost: &Lost) {
        let (url, Lost { reason, remedy }) = (&self.config.url, lost);
        show(&self.outlet, SourceState::Down, &format!("{url}: {reason}; {remedy}"));
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

async fn room(sender: Option<&Sender<RawBatch>>, weight: Option<usize>) -> Option<Room<'_, RawBatch>> {
    sender?.room(weight?).await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
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

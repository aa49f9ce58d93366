//! Publishing to a broker: MQTT v5, QoS 1, nothing lost when the connection is.
//!
//! rumqttc forgets what was in flight when the broker does not resume the session, so what is not
//! acknowledged yet is kept here, and published again in order on each new connection. A broker
//! that had it already then gets it twice, which QoS 1 allows.
//!
//! The publishing side blocks; a thread with a small runtime of its own talks to the broker.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::READER_PATIENCE;
use crate::error::{Error, Result};
use crate::options::Broker;
use crate::stop::Stop;

/// Messages that may wait for their PUBACK: 512 × 1 KiB frames = 512 KiB.
const IN_FLIGHT_MAX: usize = 512;
/// Room in rumqttc's queue: all that may wait, and the DISCONNECT.
const REQUESTS_MAX: usize = IN_FLIGHT_MAX + 1;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// An end waits this long without any PUBACK: longer than the longest backoff, several times.
const ACK_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
struct Message {
    topic: String,
    retain: bool,
    payload: Vec<u8>,
}

#[derive(Default)]
struct State {
    client: Option<AsyncClient>,
    /// Published and not acknowledged, by number, in order.
    waiting: VecDeque<(u64, Message)>,
    next_number: u64,
    /// Handed to rumqttc and not sent yet: these have no packet id.
    unnamed: VecDeque<u64>,
    /// Packet ids on the wire.
    named: HashMap<u16, u64>,
    acknowledged: u64,
}

impl State {
    fn hand_over(&mut self, number: u64, message: &Message) {
        let Some(client) = &self.client else { return };
        // There is room for all that may wait. If the connection ends meanwhile, the message is
        // published again with the next.
        let payload = message.payload.clone();
        if client.try_publish(&message.topic, QoS::AtLeastOnce, message.retain, payload).is_ok() {
            self.unnamed.push_back(number);
        }
    }

    fn connect(&mut self, client: AsyncClient) {
        self.client = Some(client);
        self.unnamed.clear();
        self.named.clear();
        for (number, message) in std::mem::take(&mut self.waiting) {
            self.hand_over(number, &message);
            self.waiting.push_back((number, message));
        }
    }

    fn sent(&mut self, packet_id: u16) {
        if let Some(number) = self.unnamed.pop_front() {
            self.named.insert(packet_id, number);
        }
    }

    fn acknowledge(&mut self, packet_id: u16) {
        let Some(number) = self.named.remove(&packet_id) else { return };
        if let Ok(at) = self.waiting.binary_search_by_key(&number, |(n, _)| *n) {
            self.waiting.remove(at);
            self.acknowledged += 1;
        }
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    end: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A publisher.
pub(crate) struct Mqtt {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    broker: Broker,
}

impl Mqtt {
    /// Begins to connect. Messages may be published at once.
    pub(crate) fn start(broker: &Broker, client_id: &str) -> Result<Self> {
        let mut options = MqttOptions::new(client_id, &broker.host, broker.port);
        options.set_keep_alive(Duration::from_secs(20));
        options.set_clean_start(true);
        options.set_connection_timeout(5);
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::failed("start the runtime for mqtt", e))?;
        let (theirs, name) = (Arc::clone(&shared), broker.to_string());
        let thread = std::thread::Builder::new()
            .name("mqtt".to_owned())
            .spawn(move || runtime.block_on(connections(&theirs, &options, &name)))
            .map_err(|e| Error::failed("start the thread for mqtt", e))?;
        Ok(Self { shared, thread: Some(thread), broker: broker.clone() })
    }

    /// Publishes a message, once less than [`IN_FLIGHT_MAX`] are unacknowledged.
    /// False if it was told to stop and the broker acknowledged nothing for a while; the message
    /// was not taken then.
    pub(crate) fn publish(&self, topic: &str, retain: bool, payload: &[u8], stop: &Stop) -> bool {
        let mut state = self.shared.lock();
        let mut progress = (state.acknowledged, Instant::now());
        while state.waiting.len() >= IN_FLIGHT_MAX {
            if state.acknowledged != progress.0 || !stop.is_stopped() {
                progress = (state.acknowledged, Instant::now());
            }
            if stop.is_aborted() || progress.1.elapsed() >= READER_PATIENCE {
                return false;
            }
            state = self.wait(state);
        }
        let message = Message { topic: topic.to_owned(), retain, payload: payload.to_vec() };
        let number = state.next_number;
        state.next_number += 1;
        state.hand_over(number, &message);
        state.waiting.push_back((number, message));
        true
    }

    /// Waits for the last PUBACK.
    ///
    /// # Errors
    /// If the broker acknowledges nothing for 30 s, or the wait was aborted.
    pub(crate) fn finish(&self, stop: &Stop) -> std::result::Result<(), String> {
        let mut state = self.shared.lock();
        let mut progress = (state.acknowledged, Instant::now());
        while !state.waiting.is_empty() {
            if state.acknowledged != progress.0 {
                progress = (state.acknowledged, Instant::now());
            }
            if stop.is_aborted() || progress.1.elapsed() >= ACK_PATIENCE {
                let missing = state.waiting.len();
                return Err(format!(
                    "{missing} messages were not acknowledged by {}: is the broker there?",
                    self.broker
                ));
            }
            state = self.wait(state);
        }
        Ok(())
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match self.shared.changed.wait_timeout(state, Duration::from_millis(50)) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.shared.end.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends within the time of a DISCONNECT; a panic there was reported there.
            let _ = thread.join();
        }
    }
}

async fn connections(shared: &Shared, options: &MqttOptions, name: &str) {
    let mut backoff = BACKOFF_MIN;
    let mut told = false;
    loop {
        let (client, mut events) = AsyncClient::new(options.clone(), REQUESTS_MAX);
        shared.lock().connect(client.clone());
        let error = loop {
            let event = tokio::select! {
                event = events.poll() => event,
                () = shared.end.notified() => {
                    if client.try_disconnect().is_ok() {
                        let farewell = async { while let Ok(event) = events.poll().await {
                            if matches!(event, Event::Outgoing(Outgoing::Disconnect)) { break; }
                        }};
                        let _ = tokio::time::timeout(Duration::from_millis(500), farewell).await;
                    }
                    return;
                }
            };
            match event {
                Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => shared.lock().sent(packet_id),
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    shared.lock().acknowledge(ack.pkid);
                    shared.changed.notify_all();
                }
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    backoff = BACKOFF_MIN;
                    if told {
                        info!("{name}: connected again");
                    }
                    told = false;
                }
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        shared.lock().client = None;
        if !told {
            told = true;
            warn!("{name}: {error}; frames wait, connecting again");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = shared.end.notified() => return,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

//! Delivery's loop: one task that owns what is pending and decides; all waiting is done in tasks of its own.

mod spilling;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::link::{Link, LinkState};
use super::quarantine::{Quarantine, Quarantined};
use super::record::samples_of;
use super::stats::{Mode, StatsHandle};
use super::tasks::{self, BacklogRecord, Done, Poison};
use super::{Config, Connect};
use crate::chunk::{Flush, Outgoing};
use crate::ledger::{Fate, Ledger};
use crate::limits::{BACKLOG_WRITES_MAX, PENDING_BYTES_MAX, PENDING_FLUSHES_MAX, WRITES_IN_FLIGHT_MAX};
use crate::pipeline::Receiver;
use crate::receipt::Receipt;
use crate::row::{AgentRow, Rows};
use crate::spill::{Overflow, Position, Record, Spill};
use crate::store::StoreError;

/// Distance of two heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// How long a write of the backlog, which has no deadline, may take.
const BACKLOG_WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Bytes fetched from the backlog ahead of its writes.
const FETCH_BYTES_MAX: u64 = 4 << 20;
/// Bytes of live writes in flight: a few of the largest flushes.
const LIVE_BYTES_MAX: usize = 8 << 20;

/// What delivery is made of.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// Where samples are counted.
    pub ledger: Arc<Ledger>,
    /// The backlog.
    pub spill: Spill,
    /// What the spill does when it is full.
    pub overflow: Overflow,
    /// The quarantine.
    pub quarantine: Spill,
    /// Connects to the store.
    pub connect: Connect,
    /// Makes the agent's heartbeat rows.
    pub heartbeat: Arc<dyn Fn() -> Vec<AgentRow> + Send + Sync>,
    /// Where it shows itself.
    pub stats: StatsHandle,
}

/// Delivery.
pub struct Deliver {
    parts: Parts,
    link: Link,
    quarantine: Quarantine,
    tasks: JoinSet<Done>,
    pending: VecDeque<Flush>,
    pending_bytes: usize,
    live_writes: usize,
    live_bytes: usize,
    backlog_writes: usize,
    fetched: VecDeque<(Position, Record)>,
    fetching: bool,
    connecting: bool,
    probing: bool,
    spilling: bool,
    spill_retry_at: Option<Instant>,
    /// Flushes that one append to the spill may take: fewer once more did not fit.
    spill_flushes_max: usize,
    heartbeat_at: Instant,
    heartbeating: bool,
    input_open: bool,
    give_up_at: Option<Instant>,
}

impl Deliver {
    /// Delivery that has not begun; [`Self::run`] it.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let quarantine = Quarantine::new(parts.quarantine.clone(), parts.ledger.clone());
        Self {
            link: Link::new(now),
            quarantine,
            parts,
            tasks: JoinSet::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            live_writes: 0,
            live_bytes: 0,
            backlog_writes: 0,
            fetched: VecDeque::new(),
            fetching: false,
            connecting: false,
            probing: false,
            spilling: false,
            spill_retry_at: None,
            spill_flushes_max: PENDING_FLUSHES_MAX,
            heartbeat_at: now,
            heartbeating: false,
            input_open: true,
            give_up_at: None,
        }
    }

    /// Delivers until the pipeline ends, then makes durable what is left, at most `drain_within`.
    /// Returns how many samples could not be made durable.
    pub async fn run(mut self, mut input: Receiver<Outgoing>) -> u64 {
        loop {
            self.schedule(Instant::now());
            if !self.input_open && self.is_idle() {
                break;
            }
            let now = Instant::now();
            if self.give_up_at.is_some_and(|at| now >= at) {
                break;
            }
            let takes = self.input_open
                && self.pending.len() < PENDING_FLUSHES_MAX
                && self.pending_bytes < PENDING_BYTES_MAX
                && !self.quarantine.full();
            let wake_at = self.wake_at(now);
            tokio::select! {
                item = input.recv(), if takes => self.take(item),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done, Instant::now()),
                    // A panic of ours in a task: what it held is lost to the ledger, and shows there.
                    Err(error) => tracing::error!(%error, "a task of delivery failed: please report this"),
                },
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
        self.finish().await
    }

    fn take(&mut self, item: Option<Outgoing>) {
        match item {
            Some(Outgoing::Flush(flush)) => {
                self.pending_bytes += flush.rows.bytes();
                self.pending.push_back(flush);
            }
            Some(Outgoing::Malformed(malformed)) => self.quarantine.push_message(malformed),
            None => {
                self.input_open = false;
                self.give_up_at = Some(Instant::now() + self.parts.config.drain_within);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty()
            && self.live_writes == 0
            && self.backlog_writes == 0
            && !self.spilling
            && self.quarantine.is_idle()
    }

    fn deadline(&self, flush: &Flush) -> Instant {
        flush.accepted_at + self.parts.config.durable_within
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let spill_at = self.pending.front().filter(|_| !self.spilling).map(|flush| {
            let deadline = self.deadline(flush);
            self.spill_retry_at.map_or(deadline, |retry| retry.max(deadline))
        });
        let probe_at = self.link.probe_at().filter(|_| !self.connecting && !self.probing && self.input_open);
        let heartbeat_at =
            (self.input_open && !self.heartbeating && self.link.up().is_some()).then_some(self.heartbeat_at);
        let candidates = [spill_at, probe_at, heartbeat_at, self.give_up_at, self.quarantine.wake_at()];
        // A second at most, so that the statistics stay fresh.
        let idle = now + Duration::from_secs(1);
        // A millisecond at least: a deadline that has passed but cannot be acted on must not spin.
        candidates.into_iter().flatten().fold(idle, Instant::min).max(now + Duration::from_millis(1))
    }

    /// Starts everything that can be started now.
    fn schedule(&mut self, now: Instant) {
        self.connect(now);
        self.write_live(now);
        self.write_backlog();
        self.spill_late(now);
        if let Some(work) = self.quarantine.next(now) {
            self.tasks.spawn(work);
        }
        self.beat(now);
        self.show(now);
    }

    /// Connects or probes, one attempt at a time.
    fn connect(&mut self, now: Instant) {
        if self.connecting || self.probing || self.link.probe_at().is_none_or(|at| now < at) {
            return;
        }
        match self.link.store().cloned() {
            None => {
                self.connecting = true;
                let connect = (self.parts.connect)();
                self.tasks.spawn(async move { Done::Connected(connect.await) });
            }
            Some(store) => {
                self.probing = true;
                self.tasks.spawn(async move {
                    let late = || StoreError::Unavailable { what: "check".into(), reason: "no answer in time".into() };
                    let checked = tokio::time::timeout(BACKLOG_WRITE_WITHIN, store.check()).await;
                    Done::Probed(checked.unwrap_or_else(|_| Err(late())))
                });
            }
        }
    }

    fn write_live(&mut self, now: Instant) {
        while let Some(store) = self.link.up().cloned() {
            let reserved = if self.has_backlog() { BACKLOG_WRITES_MAX } else { 0 };
            if self.live_writes + reserved >= WRITES_IN_FLIGHT_MAX || self.live_bytes >= LIVE_BYTES_MAX {
                return;
            }
            let Some(flush) = self.pending.front() else { return };
            let deadline = self.deadline(flush);
            // What is late goes to the spill, unless that fails: then the store is all there is.
            let until = if self.spill_retry_at.is_some() { now + BACKLOG_WRITE_WITHIN } else { deadline };
            if until <= now {
                return;
            }
            let Some(flush) = self.pending.pop_front() else { return };
            let bytes = flush.rows.bytes();
            self.pending_bytes -= bytes;
            self.live_writes += 1;
            self.live_bytes += bytes;
            self.tasks.spawn(async move {
                let outcome = tasks::write(&store, &flush.rows, until).await;
                Done::Live { flush: Box::new(flush), bytes, outcome, took: now.elapsed() }
            });
        }
    }

    fn has_backlog(&self) -> bool {
        !self.fetched.is_empty() || self.backlog_writes > 0 || self.parts.spill.stats().backlog_records > 0
    }

    fn write_backlog(&mut self) {
        if !self.input_open {
            // Stopping: the backlog stays where it is safe.
            self.give_back();
            return;
        }
        let Some(store) = self.link.up().cloned() else { return };
        if !self.fetching && self.fetched.is_empty() && self.has_backlog() {
            self.fetching = true;
            let spill = self.parts.spill.clone();
            self.tasks.spawn(async move {
                let batch = spill.next_batch(BACKLOG_WRITES_MAX * 2, FETCH_BYTES_MAX);
                // Everything may be in flight already: then there is nothing to wait for here.
                let batch = tokio::time::timeout(Duration::from_millis(100), batch).await;
                Done::Fetched(batch.ok().flatten().unwrap_or_default())
            });
        }
        let limit =
            if self.pending.is_empty() && self.live_writes == 0 { WRITES_IN_FLIGHT_MAX } else { BACKLOG_WRITES_MAX };
        while self.backlog_writes < limit {
            let Some((position, record)) = self.fetched.pop_front() else { return };
            let samples = samples_of(Some(&record.meta), record.weight, &self.parts.ledger);
            let rows = match Rows::decode(&record.payload) {
                Ok(rows) => rows,
                Err(error) => {
                    // Its checksum was right, so another version wrote it: keep it, and say so.
                    tracing::error!(%error, ?position, "a record of the spill cannot be read and stays there");
                    continue;
                }
            };
            self.backlog_writes += 1;
            let (store, began) = (store.clone(), Instant::now());
            let record = Box::new(BacklogRecord { position, samples, rows });
            self.tasks.spawn(async move {
                let outcome = tasks::write(&store, &record.rows, began + BACKLOG_WRITE_WITHIN).await;
                Done::Backlog { record, outcome, took: began.elapsed() }
            });
        }
    }

    /// Fetched records go back to their places.
    fn give_back(&mut self) {
        for (position, _) in self.fetched.drain(..) {
            self.parts.spill.nack(position);
        }
    }

    fn beat(&mut self, now: Instant) {
        let Some(store) = self.link.up().filter(|_| now >= self.heartbeat_at && self.input_open && !self.heartbeating)
        else {
            return;
        };
        self.heartbeat_at = now + HEARTBEAT_EVERY;
        self.heartbeating = true;
        let (store, rows) = (store.clone(), (self.parts.heartbeat)());
        self.tasks.spawn(async move {
            for row in rows {
                // A heartbeat that fails says nothing that the writes do not say.
                let _ = tokio::time::timeout(BACKLOG_WRITE_WITHIN, store.heartbeat(&row)).await;
            }
            Done::Heartbeat
        });
    }

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Connected(outcome) => {
                self.connecting = false;
                match outcome {
                    Ok(store) => self.link.connected(store),
                    Err(error) => self.failed(&error, now),
                }
            }
            Done::Probed(outcome) => {
                self.probing = false;
                match outcome {
                    Ok(()) => self.link.succeeded(),
                    Err(error) => self.failed(&error, now),
                }
            }
            Done::Live { flush, bytes, outcome, took } => {
                self.live_writes -= 1;
                self.live_bytes -= bytes;
                self.live_done(flush, outcome, took, now);
            }
            Done::Backlog { record, outcome, took } => {
                self.backlog_writes -= 1;
                self.backlog_done(record, outcome, took, now);
            }
            Done::Spilled { flushes, outcome } => self.spilled(flushes, outcome, now),
            Done::Fetched(records) => {
                self.fetching = false;
                self.fetched.extend(records);
            }
            Done::Quarantined { item, outcome } => {
                if let Some(position) = self.quarantine.done(item, outcome, now) {
                    self.parts.spill.ack(position);
                }
            }
            Done::Heartbeat => self.heartbeating = false,
        }
    }

    fn live_done(&mut self, flush: Box<Flush>, outcome: Result<Vec<Poison>, StoreError>, took: Duration, now: Instant) {
        match outcome {
            Ok(poison) => {
                self.link.succeeded();
                self.parts.stats.lock().wrote(flush.rows.len() - poison.len(), flush.rows.samples(), took);
                if poison.is_empty() {
                    settle(*flush, Fate::Stored);
                } else {
                    tracing::error!(rows = poison.len(), reason = poison[0].1, "the store refuses rows; quarantined");
                    self.quarantine.push_rows(Quarantined::Live(flush, poison));
                }
            }
            Err(error) => {
                self.failed(&error, now);
                self.pending_bytes += flush.rows.bytes();
                self.pending.push_front(*flush);
            }
        }
    }

    fn backlog_done(
        &mut self,
        record: Box<BacklogRecord>,
        outcome: Result<Vec<Poison>, StoreError>,
        took: Duration,
        now: Instant,
    ) {
        match outcome {
            Ok(poison) => {
                self.link.succeeded();
                self.parts.stats.lock().wrote(record.rows.len() - poison.len(), record.rows.samples(), took);
                if poison.is_empty() {
                    self.parts.ledger.settle_backlog(&record.samples, Fate::Stored);
                    self.parts.spill.ack(record.position);
                } else {
                    self.quarantine.push_rows(Quarantined::Backlog(record, poison));
                }
            }
            Err(error) => {
                self.failed(&error, now);
                self.parts.spill.nack(record.position);
                self.give_back();
            }
        }
    }

    fn failed(&mut self, error: &StoreError, now: Instant) {
        self.link.failed(error, now, jitter());
    }

    fn show(&mut self, now: Instant) {
        let spill = self.parts.spill.stats();
        if self.link.up().is_some() && self.pending.is_empty() && !self.spilling && spill.backlog_records == 0 {
            // Nothing is left that the spill would have to take.
            self.spill_retry_at = None;
            self.parts.stats.lock().spill_fault = None;
        }
        let mut stats = self.parts.stats.lock();
        stats.turns += 1;
        stats.turned_at = Some(now);
        stats.link = self.link.state();
        stats.detail = self.link.detail().into();
        stats.mode = match (self.link.state(), spill.backlog_records) {
            (LinkState::Up, 0) => Mode::Direct,
            (LinkState::Up, _) => Mode::Draining,
            _ => Mode::Spilling,
        };
        stats.writes_in_flight = self.live_writes + self.backlog_writes;
        stats.pending_flushes = self.pending.len();
        stats.pending_bytes = self.pending_bytes;
    }

    /// The end: whatever is still in memory could be made durable nowhere.
    async fn finish(mut self) -> u64 {
        self.tasks.shutdown().await;
        let left: u64 = self.pending.iter().map(|flush| flush.tally.samples()).sum();
        if left > 0 {
            tracing::error!(
                samples = left,
                "neither store nor spill took these before the stop; \
                 messages of a broker will come again, those of a serial port are lost"
            );
        }
        self.parts.spill.close().await;
        self.parts.quarantine.close().await;
        left
    }
}

/// Everything of `flush` has met `fate`.
fn settle(flush: Flush, fate: Fate) {
    flush.tally.settle(fate);
    flush.receipts.into_iter().for_each(Receipt::settle);
}

/// A random number in 0..1: enough chance to keep agents apart.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random % 1024) as f64 / 1024.0
}

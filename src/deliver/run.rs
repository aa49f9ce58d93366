//! Delivery's loop: one task that owns what is not durable yet and decides; all waiting is done in tasks
//! of its own. Read [`Deliver::run`], then `live`, `spilling`, `backlog` and `uplink`: the same type, by
//! subject.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use super::eta::Eta;
use super::gone::Lost;
use super::link::Link;
use super::memory::{Memory, is_owed};
use super::mode::{Mode, mode};
use super::poison::Suspicion;
use super::quarantine::Quarantine;
use super::spilling::Ways;
use super::stats::{Drain, StatsHandle};
use super::tasks::{Done, Pending};
use super::uplink::Chores;
use super::window::Window;
use super::{Config, Connect};
use crate::chunk::{Flush, Outgoing};
use crate::clock::Gateway;
use crate::gap::{GapCounts, Reason};
use crate::ledger::{Fate, Ledger};
use crate::pipeline::{Progress, Receiver};
use crate::receipt::Receipt;
use crate::row::AgentRow;
use crate::spill::{Overflow, Queues, Spill};

/// Longest time between two turns: what is shown stays fresh, and the watchdog sees it alive.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// What the end may take beyond `drain_within` for closing a disk that hangs.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Distance of two log lines about how far a drain has come.
const DRAIN_TOLD_EVERY: Duration = Duration::from_secs(10);

/// What delivery is made of.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// For what rows are too old.
    pub gateway: Arc<Gateway>,
    /// Where samples are counted.
    pub ledger: Arc<Ledger>,
    /// The backlog, by priority.
    pub spill: Queues,
    /// The spill's budget in bytes.
    pub spill_bytes_max: u64,
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
    /// Where gaps are counted.
    pub gaps: Arc<GapCounts>,
    /// Told when the agent stops: from then on `drain_within` counts.
    pub stop: CancellationToken,
}

/// Delivery.
pub struct Deliver {
    pub(super) parts: Parts,
    pub(super) link: Link,
    pub(super) quarantine: Quarantine,
    pub(super) suspicion: Suspicion,
    pub(super) tasks: JoinSet<Done>,
    /// By the moment at which they go to the spill.
    pub(super) pending: VecDeque<Pending>,
    /// Flushes that are neither stored nor spilled, wherever they are, and their bytes.
    pub(super) unstored: usize,
    pub(super) unstored_bytes: usize,
    pub(super) memory: Memory,
    pub(super) live_writes: usize,
    pub(super) live_bytes: usize,
    pub(super) backlog: Backlog,
    pub(super) connecting: bool,
    pub(super) probing: bool,
    /// An append to the spill is under way: one at a time.
    pub(super) spilling: bool,
    pub(super) spill_began_at: Instant,
    pub(super) ways: Ways,
    /// What was dropped because the spill is full, not yet on its way as rows.
    pub(super) dropped: Lost,
    /// Whether the spill took its last append.
    pub(super) spill_took: bool,
    pub(super) chores: Chores,
    input_open: bool,
    give_up_at: Option<Instant>,
    drain_told_at: Option<Instant>,
    eta: Eta,
}

impl Deliver {
    /// Delivery that has not begun; [`Self::run`] it.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let quarantine = Quarantine::new(parts.quarantine.clone(), parts.ledger.clone());
        let writes = Window::new(parts.config.writes_in_flight.into(), parts.config.durable_within, now);
        let dropped = Lost::new(Reason::Overflow, parts.gaps.clone());
        Self {
            link: Link::new(now, writes),
            dropped,
            spill_took: false,
            quarantine,
            suspicion: Suspicion::default(),
            parts,
            tasks: JoinSet::new(),
            pending: VecDeque::new(),
            unstored: 0,
            unstored_bytes: 0,
            memory: Memory::default(),
            live_writes: 0,
            live_bytes: 0,
            backlog: Backlog::new(now),
            connecting: false,
            probing: false,
            spilling: false,
            spill_began_at: now,
            ways: Ways::default(),
            chores: Chores::new(now),
            input_open: true,
            give_up_at: None,
            drain_told_at: None,
            eta: Eta::default(),
        }
    }

    /// Delivers until the pipeline ends, then makes durable what is left. Once told to stop it ends within
    /// `drain_within`, whatever the pipeline, the store and the disks do. Returns how many samples could
    /// not be made durable; they stay in flight in the ledger.
    pub async fn run(mut self, mut input: Receiver<Outgoing>) -> u64 {
        let stop = self.parts.stop.clone();
        loop {
            let now = Instant::now();
            self.schedule(now);
            if (!self.input_open && self.is_idle()) || self.give_up_at.is_some_and(|at| now >= at) {
                break;
            }
            let takes = self.input_open && !self.holds_back(now);
            let wake_at = self.wake_at(now);
            tokio::select! {
                item = input.recv(), if takes => self.take(item, Instant::now()),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done, Instant::now()),
                    // Every call that leaves this module is guarded in `tasks`, so this is our own mistake.
                    Err(error) => tracing::error!(%error, "a task of delivery failed: please report this"),
                },
                () = stop.cancelled(), if self.give_up_at.is_none() => self.begin_to_stop(Instant::now()),
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
        self.finish(input).await
    }

    fn take(&mut self, item: Option<Outgoing>, now: Instant) {
        match item {
            Some(Outgoing::Flush(flush)) => self.accept(flush, now),
            Some(Outgoing::Malformed(malformed)) => self.quarantine.push_message(malformed),
            None => {
                self.input_open = false;
                self.begin_to_stop(now);
            }
        }
    }

    pub(super) fn accept(&mut self, flush: Flush, now: Instant) {
        let within = self.parts.config.durable_within;
        let mut due = flush.accepted_at + within;
        if self.link.up().is_some() {
            // What the pipeline itself held up gets a chance with a store that is well.
            due = due.max(now + within / 4);
        }
        let (bytes, kept) = (flush.rows.bytes(), is_owed(&flush.receipts));
        let pending = Pending { flush, bytes, due, kept };
        self.unstored += 1;
        self.unstored_bytes += bytes;
        self.memory.takes(&pending);
        self.enqueue(pending);
    }

    /// Puts a flush where it belongs by its time, as a rule at the end.
    pub(super) fn enqueue(&mut self, pending: Pending) {
        let after = self.pending.iter().rposition(|other| other.due <= pending.due);
        self.pending.insert(after.map_or(0, |index| index + 1), pending);
    }

    /// A flush is not held any more: its samples and receipts are for the caller to settle.
    pub(super) fn release(&mut self, pending: Pending) -> Flush {
        self.unstored -= 1;
        self.unstored_bytes -= pending.bytes;
        self.memory.gives(&pending);
        pending.flush
    }

    /// Everything of a flush has met `fate`.
    pub(super) fn settle(&mut self, pending: Pending, fate: Fate) {
        let flush = self.release(pending);
        flush.tally.settle(fate);
        flush.receipts.into_iter().for_each(Receipt::settle);
    }

    fn begin_to_stop(&mut self, now: Instant) {
        self.give_up_at.get_or_insert(now + self.parts.config.drain_within);
    }

    pub(super) fn stopping(&self) -> bool {
        self.give_up_at.is_some()
    }

    fn is_idle(&self) -> bool {
        self.unstored == 0 && self.backlog.writes == 0 && self.quarantine.is_idle() && self.dropped.is_empty()
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let candidates = [
            self.spill_at(),
            self.link.probe_at().filter(|_| !self.connecting && !self.probing),
            self.backlog_wake_at(),
            self.chores_wake_at(),
            self.give_up_at,
            self.quarantine.wake_at(),
        ];
        // A millisecond at least: whatever mistake is made above must not spin.
        let soonest = candidates.into_iter().flatten().fold(now + TURN_EVERY, Instant::min);
        soonest.max(now + Duration::from_millis(1))
    }

    /// Starts everything that can be started now: live data first.
    fn schedule(&mut self, now: Instant) {
        self.connect(now);
        self.declare_dropped(now);
        self.write_live(now);
        self.spill_late(now);
        self.relieve(now);
        self.forgive();
        self.write_backlog(now);
        if let Some(work) = self.quarantine.next(now) {
            self.tasks.spawn(work);
        }
        self.do_chores(now);
        self.link.report(now);
        self.show(now);
    }

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Connected(outcome) => self.connected(outcome, now),
            Done::Probed(outcome) => self.probed(outcome, now),
            Done::Live { pending, outcome, took } => self.live_done(*pending, outcome, took, now),
            Done::Backlog { record, bytes, outcome, took } => self.backlog_done(*record, bytes, outcome, took, now),
            Done::Spilled { priority, flushes, outcome } => self.spilled(priority, flushes, outcome, now),
            Done::Fetched(records) => self.backlog.fetched(records),
            Done::Quarantined { item, outcome } => {
                if let Some(place) = self.quarantine.done(item, outcome, now) {
                    self.parts.spill.ack(place);
                }
            }
            Done::Heartbeat => self.chores.beaten(),
            Done::Expired(outcome) => self.chores.expired(outcome, now),
        }
    }

    fn show(&mut self, now: Instant) {
        let backlog = self.has_backlog();
        let mode = mode(self.link.state(), backlog);
        let left = self.parts.spill.stats().backlog_weight;
        self.eta.note((mode == Mode::Draining).then_some(left), now);
        let shrinks_per_s = self.eta.shrinks_per_s(left, now);
        self.parts.stats.set_lag(self.lag(backlog, now));
        let mut stats = self.parts.stats.lock();
        stats.turns += 1;
        stats.turned_at = Some(now);
        stats.link = self.link.state();
        if stats.detail != self.link.detail() {
            stats.detail = self.link.detail().into();
        }
        stats.mode = mode;
        let (since, done) = stats.drain.map_or((now, 0), |drain| (drain.since, drain.done));
        stats.drain = (mode == Mode::Draining).then(|| {
            let left = shrinks_per_s.and_then(|per_s| Duration::try_from_secs_f64(left as f64 / per_s).ok());
            Drain { since, done, shrinks_per_s, left }
        });
        stats.writes_in_flight = self.writes_in_flight();
        stats.writes_in_flight_limit = self.link.window();
        stats.pending_flushes = self.unstored;
        stats.pending_bytes = self.unstored_bytes;
        stats.holding_back = self.holds_back(now);
        stats.quarantine_lost = self.quarantine.lost();
        let drain = stats.drain;
        drop(stats);
        self.tell_drain(drain, left, now);
    }

    /// Says in the log, now and then, how far a drain has come.
    fn tell_drain(&mut self, drain: Option<Drain>, left: u64, now: Instant) {
        let Some(Drain { since, done, left: left_for, .. }) = drain else {
            self.drain_told_at = None;
            return;
        };
        if now.duration_since(*self.drain_told_at.get_or_insert(since)) >= DRAIN_TOLD_EVERY {
            self.drain_told_at = Some(now);
            let progress = Progress::at("samples of the backlog", done, Some(done + left), now.duration_since(since));
            let progress = Progress { left: left_for, ..progress };
            tracing::info!("draining: {progress}");
        }
    }

    /// How long the uplink has lagged; see [`super::StatsHandle::lag`].
    fn lag(&self, draining: bool, now: Instant) -> Duration {
        let spilled = if draining { self.parts.spill.stats().oldest } else { None };
        let within = self.parts.config.durable_within;
        let waiting =
            self.pending.iter().map(|pending| pending.flush.accepted_at).filter(|at| *at + within < now).min();
        spilled.max(waiting.map(|at| now.duration_since(at))).unwrap_or_default()
    }

    /// The end: whatever is still in memory could be made durable nowhere.
    async fn finish(mut self, input: Receiver<Outgoing>) -> u64 {
        self.parts.ledger.end();
        // Whoever still wants to send learns that nobody takes it.
        drop(input);
        self.tasks.shutdown().await;
        self.give_back();
        if !self.dropped.is_empty() {
            tracing::error!("what the full spill dropped could not be declared as a gap before the stop");
        }
        let left = self.parts.ledger.snapshot().total.in_flight;
        if left > 0 {
            tracing::error!(
                samples = left,
                "neither store nor spill took these before the stop; \
                 messages of a broker will come again, those of a serial port are lost"
            );
        }
        let close = async {
            self.parts.spill.close().await;
            self.parts.quarantine.close().await;
        };
        if tokio::time::timeout(CLOSE_WITHIN, close).await.is_err() {
            tracing::warn!("the disk of the spill does not answer; left as it is");
        }
        left
    }
}

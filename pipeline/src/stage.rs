//! A stage's book: its workers' and its own counts.

use crate::clock::Clock;
use crate::failure::Limit;
use crate::histogram::Histogram;
use crate::meter::{Doing, Reading, WorkerMeter};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};
use crate::window::Window;

/// Shared by a stage's workers, and by whoever looks on. A source has one too, with one worker.
#[derive(Debug)]
pub(crate) struct StageMeter {
    pub(crate) name: String,
    pub(crate) workers: Vec<WorkerMeter>,
    /// Items on which the last attempt failed, and what became of them.
    pub(crate) failed: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    /// Attempts.
    pub(crate) retried: AtomicU64,
    pub(crate) panicked: AtomicU64,
    window: Mutex<Window>,
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl StageMeter {
    pub(crate) fn new(name: &str, workers: usize, clock: Clock) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            name: name.into(),
            workers: (0..workers).map(|_| WorkerMeter::new(clock.timed)).collect(),
            failed: zero(),
            skipped: zero(),
            quarantined: zero(),
            retried: zero(),
            panicked: zero(),
            window: Mutex::new(Window::default()),
        }
    }

    /// Everybody begins to wait for items at `now`; what went before belongs to no state.
    pub(crate) fn begin(&self, now: u64) {
        self.workers.iter().for_each(|worker| worker.begin(now));
    }

    pub(crate) fn readings(&self, now: u64) -> Vec<Reading> {
        self.workers.iter().map(|worker| worker.read(now)).collect()
    }

    pub(crate) fn latency(&self) -> Histogram {
        let mut histogram = Histogram::default();
        self.workers.iter().for_each(|worker| worker.add_latency_to(&mut histogram));
        histogram
    }

    fn finished(&self) -> (u64, u64) {
        let given: u64 = self.workers.iter().map(WorkerMeter::given).sum();
        let failed = self.failed.load(Ordering::Relaxed);
        (given + failed, failed)
    }

    /// A new bin has begun.
    pub(crate) fn turn_window(&self, now: u64) {
        let mut window = lock(&self.window);
        let (finished, failed) = self.finished();
        window.turn(now, finished, failed);
    }

    /// (finished, failed) within the last window.
    pub(crate) fn recent(&self, now: u64) -> (u64, u64) {
        let mut window = lock(&self.window);
        let (finished, failed) = self.finished();
        window.turn(now, finished, failed);
        window.recent(finished, failed)
    }

    /// The last window's (failed, finished), if that is over `limit`.
    pub(crate) fn over(&self, limit: Option<Limit>, now: u64) -> Option<(Limit, u64, u64)> {
        let limit = limit?;
        let (of, failed) = self.recent(now);
        limit.is_exceeded(failed, of).then_some((limit, failed, of))
    }

    /// Workers that hold an item.
    pub(crate) fn in_progress(readings: &[Reading]) -> u64 {
        readings.iter().filter(|reading| reading.doing != Doing::Starved).count() as u64
    }
}

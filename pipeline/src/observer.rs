//! Looking on: what a running pipeline shows of itself. It holds no way into the pipeline.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::control::Control;
use crate::graph::{NodeKind, Order, PoolNode};
use crate::meter::{Doing, Reading};
use crate::queue::{QueueSnapshot, Shared};
use crate::snapshot::{OutletSnapshot, PoolSnapshot, Snapshot, SourceSnapshot, StageSnapshot};
use crate::stage::StageMeter;
use crate::sync::Arc;
use crate::watchdog::Moves;

/// A queue, whatever is in it.
pub(crate) trait AnyQueue: Send + Sync {
    fn name(&self) -> &str;
    fn begin(&self, now: u64);
    fn snapshot(&self, now: u64) -> QueueSnapshot;
    fn moves(&self) -> (u64, u64);
    /// What is left in it, as a `Vec` of its items, and how many these are.
    fn take_left_any(&self) -> (Box<dyn Any + Send>, usize);
}

impl<T: Send + 'static> AnyQueue for Shared<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self, now: u64) {
        Self::begin(self, now);
    }

    fn snapshot(&self, now: u64) -> QueueSnapshot {
        Self::snapshot(self, now)
    }

    fn moves(&self) -> (u64, u64) {
        Self::moves(self)
    }

    fn take_left_any(&self) -> (Box<dyn Any + Send>, usize) {
        let left = self.take_left();
        let count = left.len();
        (Box::new(left), count)
    }
}

pub(crate) struct StageEntry {
    pub(crate) meter: Arc<StageMeter>,
    pub(crate) clock: Clock,
    pub(crate) kind: NodeKind,
    pub(crate) order: Option<Order>,
    pub(crate) pool: Option<usize>,
    pub(crate) queue: usize,
    pub(crate) output: Option<usize>,
}

pub(crate) struct SourceEntry {
    pub(crate) meter: Arc<StageMeter>,
    pub(crate) total: Option<u64>,
    pub(crate) queue: usize,
}

/// Everything that is looked at.
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<Control>,
    pub(crate) started: AtomicU64,
    pub(crate) queues: Vec<Arc<dyn AnyQueue>>,
    pub(crate) stages: Vec<StageEntry>,
    pub(crate) sources: Vec<SourceEntry>,
    pub(crate) pools: Vec<PoolNode>,
    /// Queues from which somebody else takes, and who that is.
    pub(crate) outlets: Vec<(usize, String)>,
}

impl Inner {
    /// Time counts from now on.
    pub(crate) fn begin(&self) {
        let now = self.clock.read();
        self.started.store(now, Ordering::Relaxed);
        self.queues.iter().for_each(|queue| queue.begin(self.clock.now()));
        self.sources.iter().for_each(|source| source.meter.begin(self.clock.now()));
        for stage in &self.stages {
            stage.meter.begin(if stage.clock.timed { now } else { 0 });
        }
    }

    fn wall(&self, now: u64, timed: bool) -> u64 {
        if timed { now.saturating_sub(self.started.load(Ordering::Relaxed)) } else { 0 }
    }

    fn stage(&self, entry: &StageEntry, at: u64) -> StageSnapshot {
        let timed = entry.clock.timed;
        let now = if timed { at } else { 0 };
        let readings = entry.meter.readings(now);
        let spent = |doing: Doing| readings.iter().map(|reading| reading.spent[doing as usize]).sum::<u64>();
        let count = |counter: &crate::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let hol_wait_ns = spent(Doing::Turn);
        let (recent, recent_failed) = if timed { entry.meter.recent(now) } else { (0, 0) };
        StageSnapshot {
            name: entry.meter.name.clone(),
            kind: entry.kind,
            concurrency: readings.len(),
            order: entry.order,
            pool: entry.pool.map(|pool| self.pools[pool].name.clone()),
            input: self.queues[entry.queue].name().to_owned(),
            output: entry.output.map(|queue| self.queues[queue].name().to_owned()),
            taken: readings.iter().map(|reading| reading.taken).sum(),
            given: readings.iter().map(|reading| reading.given).sum(),
            in_progress: StageMeter::in_progress(&readings),
            failed: count(&entry.meter.failed),
            skipped: count(&entry.meter.skipped),
            quarantined: count(&entry.meter.quarantined),
            retried: count(&entry.meter.retried),
            panicked: count(&entry.meter.panicked),
            busy_ns: spent(Doing::Busy),
            starved_ns: spent(Doing::Starved),
            blocked_ns: spent(Doing::Blocked) + hol_wait_ns,
            hol_wait_ns,
            pool_wait_ns: spent(Doing::PoolWait),
            wall_ns: self.wall(at, timed),
            latency: entry.meter.latency(),
            recent,
            recent_failed,
        }
    }

    fn source(&self, entry: &SourceEntry, at: u64) -> SourceSnapshot {
        let timed = self.clock.timed;
        let reading = entry.meter.workers[0].read(if timed { at } else { 0 });
        SourceSnapshot {
            name: entry.meter.name.clone(),
            queue: self.queues[entry.queue].name().to_owned(),
            done: reading.given,
            total: entry.total,
            ended: reading.doing == Doing::Starved && (reading.taken > 0 || reading.spent[Doing::Busy as usize] > 0),
            failed: entry.meter.failed.load(Ordering::Relaxed) > 0,
            busy_ns: reading.spent[Doing::Busy as usize],
            blocked_ns: reading.spent[Doing::Blocked as usize],
            wall_ns: self.wall(at, true),
            latency: entry.meter.latency(),
        }
    }
}

/// A view of a running pipeline; clones share it.
#[derive(Clone)]
pub struct Observer {
    pub(crate) inner: Arc<Inner>,
}

impl Observer {
    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Everything since the start. Two of them make an interval: [`Snapshot::since`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.inner;
        let at = inner.clock.read();
        let stages: Vec<StageSnapshot> = inner.stages.iter().map(|entry| inner.stage(entry, at)).collect();
        let pools = inner.pools.iter().map(|pool| PoolSnapshot {
            name: pool.name.clone(),
            threads: pool.threads,
            holds: pool.holds,
            busy_ns: stages.iter().filter(|s| s.pool.as_ref() == Some(&pool.name)).map(|s| s.busy_ns).sum(),
            wall_ns: inner.wall(at, inner.clock.timed),
        });
        Snapshot {
            pipeline: inner.name.clone(),
            wall_ns: inner.wall(at, true),
            timed: inner.clock.timed,
            pools: pools.collect(),
            stages,
            sources: inner.sources.iter().map(|entry| inner.source(entry, at)).collect(),
            queues: self.queues(),
            outlets: inner
                .outlets
                .iter()
                .map(|(queue, name)| OutletSnapshot {
                    name: name.clone(),
                    queue: inner.queues[*queue].name().to_owned(),
                })
                .collect(),
        }
    }

    /// What each queue holds now, in the order of the way.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueSnapshot> {
        let now = self.inner.clock.now();
        self.inner.queues.iter().map(|queue| queue.snapshot(now)).collect()
    }

    /// What a watchdog looks at.
    pub(crate) fn moves(&self) -> Vec<Moves> {
        let inner = &*self.inner;
        let waits = |queue: usize| inner.queues[queue].moves();
        let stages = inner.stages.iter().map(|entry| {
            let (waiting, taken) = waits(entry.queue);
            let retried = entry.meter.retried.load(Ordering::Relaxed);
            let worker = |reading: Reading| (reading.doing, reading.taken + retried);
            Moves {
                name: entry.meter.name.clone(),
                waiting,
                taken,
                behind: entry.output.map(|queue| waits(queue).0),
                workers: entry.meter.readings(0).into_iter().map(worker).collect(),
                is_outlet: false,
            }
        });
        let outlets = inner.outlets.iter().map(|(queue, name)| {
            let (waiting, taken) = waits(*queue);
            Moves { name: name.clone(), waiting, taken, behind: None, workers: Vec::new(), is_outlet: true }
        });
        stages.chain(outlets).collect()
    }
}

//! What a pipeline shows of itself at one moment, and over an interval.

use serde::Serialize;

use crate::graph::{NodeKind, Order};
use crate::histogram::Histogram;
use crate::queue::QueueSnapshot;

/// Everything since the start, or over an interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The pipeline's name.
    pub pipeline: String,
    /// How long, in ns.
    pub wall_ns: u64,
    /// Whether times were kept.
    pub timed: bool,
    /// The sources that are pulled.
    pub sources: Vec<SourceSnapshot>,
    /// The stages, in the order of the way.
    pub stages: Vec<StageSnapshot>,
    /// The queues, in the order of the way.
    pub queues: Vec<QueueSnapshot>,
    /// The pools.
    pub pools: Vec<PoolSnapshot>,
    /// Who takes what comes out.
    pub outlets: Vec<OutletSnapshot>,
}

impl Snapshot {
    /// What happened since `earlier`, a former snapshot of the same pipeline. What a queue or stage holds is as
    /// of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        fn pairs<'s, T>(now: &'s [T], then: &'s [T], since: impl Fn(&T, &T) -> T + 's) -> impl Iterator<Item = T> + 's {
            now.iter().zip(then).map(move |(now, then)| since(now, then))
        }
        Self {
            pipeline: self.pipeline.clone(),
            wall_ns: self.wall_ns.saturating_sub(earlier.wall_ns),
            timed: self.timed,
            sources: pairs(&self.sources, &earlier.sources, SourceSnapshot::since).collect(),
            stages: pairs(&self.stages, &earlier.stages, StageSnapshot::since).collect(),
            queues: pairs(&self.queues, &earlier.queues, QueueSnapshot::since).collect(),
            pools: pairs(&self.pools, &earlier.pools, PoolSnapshot::since).collect(),
            outlets: self.outlets.clone(),
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&StageSnapshot> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The queue of this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&QueueSnapshot> {
        self.queues.iter().find(|queue| queue.name == name)
    }

    /// How long, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.wall_ns as f64 / 1e9
    }
}

/// A stage. Its times sum up: busy + starved + blocked + pool wait = concurrency × wall.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageSnapshot {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Operations at most.
    pub concurrency: usize,
    /// In which order it gives.
    pub order: Option<Order>,
    /// The pool that it works on.
    pub pool: Option<String>,
    /// The queue that it takes from.
    pub input: String,
    /// The queue that it fills.
    pub output: Option<String>,
    /// Items taken.
    pub taken: u64,
    /// Items given; for a sink, those that it is done with.
    pub given: u64,
    /// Workers that hold an item now: in an operation, or with a result that waits.
    pub in_progress: u64,
    /// Items on which the last attempt failed.
    pub failed: u64,
    /// Of these, dropped.
    pub skipped: u64,
    /// Of these, given to the quarantine.
    pub quarantined: u64,
    /// Attempts that failed and were followed by another.
    pub retried: u64,
    /// Attempts that panicked.
    pub panicked: u64,
    /// In operations, pauses between attempts among them.
    pub busy_ns: u64,
    /// Waiting for items.
    pub starved_ns: u64,
    /// Waiting with a result: for its turn, for room, or for room in the quarantine.
    pub blocked_ns: u64,
    /// Of that, waiting for the turn: behind a slower item that came before.
    pub hol_wait_ns: u64,
    /// Waiting for a thread of the pool, or on the way back from one.
    pub pool_wait_ns: u64,
    /// How long it ran: the clock's time, not times the concurrency.
    pub wall_ns: u64,
    /// How long operations took.
    pub latency: Histogram,
    /// Items finished within the last [`WINDOW`](crate::WINDOW), failed ones among them.
    pub recent: u64,
    /// Items that failed within it.
    pub recent_failed: u64,
}

impl StageSnapshot {
    /// What happened since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let [busy_ns, starved_ns, room_ns, hol_wait_ns, pool_wait_ns] = between(self.states(), earlier.states());
        Self {
            taken: self.taken.saturating_sub(earlier.taken),
            given: self.given.saturating_sub(earlier.given),
            failed: self.failed.saturating_sub(earlier.failed),
            skipped: self.skipped.saturating_sub(earlier.skipped),
            quarantined: self.quarantined.saturating_sub(earlier.quarantined),
            retried: self.retried.saturating_sub(earlier.retried),
            panicked: self.panicked.saturating_sub(earlier.panicked),
            busy_ns,
            starved_ns,
            blocked_ns: room_ns + hol_wait_ns,
            hol_wait_ns,
            pool_wait_ns,
            wall_ns: self.wall_ns.saturating_sub(earlier.wall_ns),
            latency: self.latency.since(&earlier.latency),
            ..self.clone()
        }
    }

    /// The times of its states, each instant in one of them.
    const fn states(&self) -> [u64; 5] {
        let room_ns = self.blocked_ns.saturating_sub(self.hol_wait_ns);
        [self.busy_ns, self.starved_ns, room_ns, self.hol_wait_ns, self.pool_wait_ns]
    }

    fn share(&self, nanos: u64) -> f64 {
        let whole = self.concurrency as f64 * self.wall_ns as f64;
        if whole > 0.0 { nanos as f64 / whole } else { 0.0 }
    }

    /// The share of its slots' time spent in operations, 0 to 1.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.share(self.busy_ns)
    }

    /// The share spent waiting for items.
    #[must_use]
    pub fn starved(&self) -> f64 {
        self.share(self.starved_ns)
    }

    /// The share spent waiting with a result, for its turn or for room.
    #[must_use]
    pub fn blocked(&self) -> f64 {
        self.share(self.blocked_ns)
    }

    /// The share spent waiting for the turn.
    #[must_use]
    pub fn hol_wait(&self) -> f64 {
        self.share(self.hol_wait_ns)
    }

    /// The share spent waiting for the pool.
    #[must_use]
    pub fn pool_wait(&self) -> f64 {
        self.share(self.pool_wait_ns)
    }

    /// The share of the items of the last window that failed, 0 to 1.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        if self.recent == 0 { 0.0 } else { self.recent_failed as f64 / self.recent as f64 }
    }
}

/// What was spent in each state between two looks. A look counts the present state up to its own moment; a worker that
/// had read the clock before, and booked the change after it, takes a little of that back. What a state lost so, another
/// one got: it is taken from the longest, and the sum stays the time that passed.
fn between(now: [u64; 5], then: [u64; 5]) -> [u64; 5] {
    let mut spent = [0; 5];
    let mut lost = 0;
    for ((spent, now), then) in spent.iter_mut().zip(now).zip(then) {
        *spent = now.saturating_sub(then);
        lost += then.saturating_sub(now);
    }
    while lost > 0
        && let Some(longest) = spent.iter_mut().max().filter(|longest| **longest > 0)
    {
        let taken = lost.min(*longest);
        *longest -= taken;
        lost -= taken;
    }
    spent
}

/// A source that is pulled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceSnapshot {
    /// Its name.
    pub name: String,
    /// The queue that it fills.
    pub queue: String,
    /// Items given.
    pub done: u64,
    /// Items in all, if it knows.
    pub total: Option<u64>,
    /// Whether it has ended.
    pub ended: bool,
    /// Whether it ended by an error.
    pub failed: bool,
    /// In `next`.
    pub busy_ns: u64,
    /// Waiting for room.
    pub blocked_ns: u64,
    /// How long it ran.
    pub wall_ns: u64,
    /// How long `next` took.
    pub latency: Histogram,
}

impl SourceSnapshot {
    /// What happened since `earlier`; `done` stays the sum.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            busy_ns: self.busy_ns.saturating_sub(earlier.busy_ns),
            blocked_ns: self.blocked_ns.saturating_sub(earlier.blocked_ns),
            wall_ns: self.wall_ns.saturating_sub(earlier.wall_ns),
            latency: self.latency.since(&earlier.latency),
            ..self.clone()
        }
    }
}

/// A pool of threads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolSnapshot {
    /// Its name.
    pub name: String,
    /// Its threads.
    pub threads: usize,
    /// Operations that it holds.
    pub holds: usize,
    /// What its threads spent in operations, in all.
    pub busy_ns: u64,
    /// How long it ran.
    pub wall_ns: u64,
}

impl PoolSnapshot {
    /// What happened since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            busy_ns: self.busy_ns.saturating_sub(earlier.busy_ns),
            wall_ns: self.wall_ns.saturating_sub(earlier.wall_ns),
            ..self.clone()
        }
    }

    /// The share of its threads' time spent in operations, 0 to 1.
    #[must_use]
    pub fn busy(&self) -> f64 {
        let whole = self.threads as f64 * self.wall_ns as f64;
        if whole > 0.0 { self.busy_ns as f64 / whole } else { 0.0 }
    }
}

/// Who takes what comes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutletSnapshot {
    /// Its name.
    pub name: String,
    /// The queue that it takes from.
    pub queue: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_look_counted_too_early_is_not_counted_twice() {
        // The earlier look saw a busy worker 30 longer than it then booked.
        assert_eq!(between([100, 200, 0, 0, 0], [130, 50, 0, 0, 0]), [0, 120, 0, 0, 0]);
        assert_eq!(between([10, 20, 3, 4, 5], [10, 10, 3, 0, 0]), [0, 10, 0, 4, 5]);
        assert_eq!(between([0; 5], [7, 0, 0, 0, 0]), [0; 5], "a clock that stands still");
    }
}

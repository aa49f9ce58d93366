//! How the pipeline has done over the last seconds: the shares of each stage's time, and what limits.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::monitor::status::{Latency, PipelineStatus, QueueStatus, StageStatus, VerdictKind, VerdictStatus};
use crate::pipeline::{Limiting, Observer, Snapshot, Still, Verdict};

/// The interval that is shown: long enough for shares that mean something, short enough to follow a lap.
const INTERVAL: Duration = Duration::from_secs(5);
/// Snapshots are kept this far apart at least, whoever asks how often: 5 at most are kept.
const KEPT_EVERY: Duration = Duration::from_secs(1);

/// Looks at the pipeline, and remembers how it stood some seconds ago.
pub(super) struct Flow {
    observer: Observer,
    before: Mutex<VecDeque<(Instant, Snapshot)>>,
}

impl Flow {
    pub(super) fn new(observer: Observer) -> Self {
        Self { observer, before: Mutex::default() }
    }

    /// What happened since about [`INTERVAL`] ago, or since the start.
    fn interval(&self, now: Instant) -> Snapshot {
        let snapshot = self.observer.snapshot();
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        while before.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= INTERVAL) {
            before.pop_front();
        }
        let interval = before.front().map_or_else(|| snapshot.clone(), |(_, then)| snapshot.since(then));
        if before.back().is_none_or(|(at, _)| now.duration_since(*at) >= KEPT_EVERY) {
            before.push_back((now, snapshot));
        }
        interval
    }

    /// The pipeline and its queues. `still` is what the watchdog said last.
    pub(super) fn status(&self, now: Instant, still: Option<&Still>) -> (PipelineStatus, Vec<QueueStatus>) {
        let interval = self.interval(now);
        let sums = self.observer.snapshot();
        let stages = interval.stages.iter().zip(&sums.stages).map(|(recent, sum)| StageStatus {
            name: sum.name.clone(),
            concurrency: sum.concurrency,
            order: sum.order,
            taken: sum.taken,
            given: sum.given,
            failed: sum.failed,
            skipped: sum.skipped,
            busy: recent.busy(),
            starved: recent.starved(),
            blocked: recent.blocked(),
            pool_wait: recent.pool_wait(),
            latency_ms: Latency {
                p50: millis(recent.latency.quantile(0.5)),
                p99: millis(recent.latency.quantile(0.99)),
            },
            stands_still_for_s: still.filter(|still| still.name == sum.name).map(|still| still.since.as_secs_f64()),
        });
        let pipeline = PipelineStatus { verdict: verdict(&Verdict::of(&interval)), stages: stages.collect() };
        let queues = interval.queues.into_iter().zip(sums.queues);
        // Sums since the start, but for the shares.
        let queues = queues.map(|(recent, sum)| QueueStatus { empty: recent.empty, full: recent.full, ..sum.into() });
        (pipeline, queues.collect())
    }
}

fn verdict(verdict: &Verdict) -> VerdictStatus {
    let (kind, stage) = match verdict {
        Verdict::Unknown | Verdict::Idle | Verdict::Nothing { .. } => (VerdictKind::Idle, None),
        Verdict::Limits(Limiting::Stage { name, .. }) => (VerdictKind::Stage, Some(name)),
        Verdict::Limits(Limiting::Pool { stage, .. }) => (VerdictKind::Pool, Some(stage)),
        Verdict::Limits(Limiting::Input { .. }) => (VerdictKind::Source, None),
        Verdict::Limits(Limiting::Outlet { name, .. }) => (VerdictKind::Outlet, Some(name)),
    };
    VerdictStatus { kind, stage: stage.cloned(), text: verdict.to_string() }
}

fn millis(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64() * 1000.0)
}

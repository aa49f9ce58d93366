//! The engine: sources → stages → sink, stitched by queues that are bounded in items and in bytes.
//!
//! ```text
//!  input ─▶ [queue] ─▶ stage ─▶ [queue] ─▶ stage ─▶ [queue] ─▶ sink
//! ```
//! It knows nothing of telemetry. Every stage runs in a task of its own, takes one item at a time in the
//! order of arrival, and is told when a deadline that it asked for has come. When the senders of the
//! first queue are gone, end-of-stream walks down: each stage flushes what it holds, then ends.
//!
//! Invariants: an item is in exactly one place; a queue never holds more than its bounds, save that one
//! item larger than the bound in bytes passes alone; a panic in a stage is a failure of that item,
//! counted and logged, and never an end of stream.
//!
//! Deliberately absent so far: concurrency within a stage, CPU pools, failure policies, latency
//! histograms, the verdict on which stage limits.

mod queue;
mod stage;

pub use queue::{Bounds, QueueSnapshot, Receiver, Room, SendError, Sender, queue};
pub use stage::{Stage, StageSnapshot};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;

use stage::StageStats;

/// A pipeline under construction, and then running.
#[derive(Default)]
pub struct Pipeline {
    queues: Vec<Arc<queue::QueueStats>>,
    stages: Vec<Arc<StageStats>>,
    tasks: Vec<(String, JoinHandle<()>)>,
}

/// The open end of a pipeline: what comes out of it is to be taken by a stage or by a sink.
#[must_use = "what comes out of a chain has to go somewhere"]
pub struct Chain<'p, T> {
    pipeline: &'p mut Pipeline,
    receiver: Receiver<T>,
}

impl Pipeline {
    /// An empty pipeline.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the pipeline with a queue called `name`; many senders may share it, and are served in turn.
    pub fn input<T: Send + 'static>(&mut self, name: &str, bounds: Bounds<T>) -> (Sender<T>, Chain<'_, T>) {
        let (sender, receiver) = queue(name, bounds);
        self.queues.push(receiver.stats());
        (sender, Chain { pipeline: self, receiver })
    }

    /// What the queues hold now.
    #[must_use]
    pub fn queues(&self) -> QueueGauges {
        QueueGauges(self.queues.clone())
    }

    /// What the stages did so far.
    #[must_use]
    pub fn stages(&self) -> Vec<StageSnapshot> {
        self.stages.iter().map(|stats| stats.snapshot()).collect()
    }

    /// Waits until end-of-stream has walked through every stage.
    ///
    /// # Errors
    /// The names of the stages whose task ended otherwise.
    pub async fn join(self) -> Result<(), Vec<String>> {
        let mut failed = Vec::new();
        for (name, task) in self.tasks {
            if task.await.is_err() {
                failed.push(name);
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }
}

impl<'p, T: Send + 'static> Chain<'p, T> {
    /// Appends a stage with a queue behind it.
    pub fn stage<S: Stage<In = T>>(self, stage: S, bounds: Bounds<S::Out>) -> Chain<'p, S::Out> {
        let name = stage.name().to_owned();
        let (sender, receiver) = queue(&name, bounds);
        let stats = StageStats::new(&name);
        self.pipeline.queues.push(receiver.stats());
        self.pipeline.stages.push(stats.clone());
        let task = tokio::spawn(stage::run(stage, self.receiver, sender, stats));
        self.pipeline.tasks.push((name, task));
        Chain { pipeline: self.pipeline, receiver }
    }

    /// Ends the pipeline: whoever holds the receiver is the sink.
    #[must_use]
    pub fn sink(self) -> Receiver<T> {
        self.receiver
    }
}

/// The queues of a running pipeline, for whoever looks on.
#[derive(Clone)]
pub struct QueueGauges(Vec<Arc<queue::QueueStats>>);

impl QueueGauges {
    /// What each queue holds now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<QueueSnapshot> {
        self.0.iter().map(|stats| stats.snapshot()).collect()
    }

    /// For each queue, in the order of the way, the items it holds and those that have left it so far.
    #[must_use]
    pub fn moves(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|s| (s.items.load(Ordering::Relaxed), s.taken.load(Ordering::Relaxed))).collect()
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;

//! What a stage is, and the task that runs it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::add;
use super::queue::{Receiver, Sender};

/// Items that waited already when a deadline passed and may still join what it ends: without them a
/// stage that lags would end each gathering after one item, and lag the more.
const JOINING_MAX: u32 = 256;

/// One step of a pipeline: pure, synchronous, with state of its own.
///
/// `process` may put any number of items out. A stage that gathers says by [`Stage::deadline`] when it
/// wants to be woken without new input.
pub trait Stage: Send + 'static {
    /// What it takes.
    type In: Send + 'static;
    /// What it gives.
    type Out: Send + 'static;

    /// Its name in statistics and messages.
    fn name(&self) -> &str;

    /// Takes one item.
    fn process(&mut self, item: Self::In, out: &mut Vec<Self::Out>);

    /// When it wants [`Stage::on_deadline`] to be called, if at all.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has come.
    fn on_deadline(&mut self, _now: Instant, _out: &mut Vec<Self::Out>) {}

    /// No more input will come: gives out what it holds.
    fn finish(&mut self, _out: &mut Vec<Self::Out>) {}
}

/// What a stage did so far.
#[derive(Debug, Clone)]
pub struct StageSnapshot {
    /// Its name.
    pub name: String,
    /// Items taken.
    pub taken: u64,
    /// Items given.
    pub given: u64,
    /// Items on which it panicked.
    pub failed: u64,
}

#[derive(Debug)]
pub(crate) struct StageStats {
    name: String,
    taken: AtomicU64,
    given: AtomicU64,
    failed: AtomicU64,
}

impl StageStats {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self { name: name.into(), taken: zero(), given: zero(), failed: zero() })
    }

    pub(crate) fn snapshot(&self) -> StageSnapshot {
        StageSnapshot {
            name: self.name.clone(),
            taken: self.taken.load(Ordering::Relaxed),
            given: self.given.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

enum Call<T> {
    Item(T),
    Deadline,
    Finish,
}

pub(crate) async fn run<S: Stage>(
    mut stage: S,
    mut input: Receiver<S::In>,
    output: Sender<S::Out>,
    stats: Arc<StageStats>,
) {
    let mut out = Vec::new();
    let mut joining = 0;
    loop {
        let call = next(stage.deadline(), &mut input, &mut joining).await;
        let last = matches!(call, Call::Finish);
        if matches!(call, Call::Item(_)) {
            add(&stats.taken, 1);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| match call {
            Call::Item(item) => stage.process(item, &mut out),
            Call::Deadline => stage.on_deadline(Instant::now(), &mut out),
            Call::Finish => stage.finish(&mut out),
        }));
        if outcome.is_err() {
            add(&stats.failed, 1);
            tracing::error!(stage = stats.name, "a stage panicked on one item and goes on: please report this");
        }
        for item in out.drain(..) {
            add(&stats.given, 1);
            if output.send(item).await.is_err() {
                // Whoever was to take it is gone; dropping our receiver tells those above.
                return;
            }
        }
        if last {
            return;
        }
    }
}

async fn next<T>(deadline: Option<Instant>, input: &mut Receiver<T>, joining: &mut u32) -> Call<T> {
    let item = match deadline {
        None => input.recv().await,
        Some(deadline) => {
            // A deadline that has passed goes before all but a few: a flood of input must not hold back
            // what is old.
            if Instant::now() >= deadline {
                let waiting = if *joining < JOINING_MAX { input.try_recv() } else { None };
                *joining = if waiting.is_some() { *joining + 1 } else { 0 };
                return waiting.map_or(Call::Deadline, Call::Item);
            }
            *joining = 0;
            match tokio::time::timeout_at(deadline.into(), input.recv()).await {
                Ok(item) => item,
                Err(_) => return Call::Deadline,
            }
        }
    };
    item.map_or(Call::Finish, Call::Item)
}

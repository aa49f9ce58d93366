//! The semantics of the engine, each as a test of a pipeline that runs: by subject.
//!
//! What is timed runs on tokio's paused clock, so no test depends on how fast the machine is. What races runs on
//! several threads, and asserts only what holds in every order of events.

// What helps a test is part of it.
#![allow(clippy::unwrap_used)]

mod aggregating;
mod bottlenecks;
mod building;
mod cpu;
mod draining;
mod edges;
mod failing;
mod flow;
mod looking_on;
mod many_sources;
mod order;
mod statistics;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pitwire_pipeline::{Bounds, Error, Operation};

/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts how many are inside at once.
#[derive(Clone, Default)]
struct Inside {
    now: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

impl Inside {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

/// Takes as long as `ms` says of the item, and hands it on.
struct Takes<F> {
    ms: F,
    inside: Inside,
}

fn takes<F>(ms: F) -> Takes<F> {
    Takes { ms, inside: Inside::default() }
}

impl<F: Fn(u64) -> u64 + Send + Sync + 'static> Operation<u64> for Takes<F> {
    type Out = u64;

    async fn run(&self, item: &mut u64) -> Result<u64, Error> {
        self.inside.enter();
        tokio::time::sleep(Duration::from_millis((self.ms)(*item))).await;
        self.inside.leave();
        Ok(*item)
    }
}

/// Yields once and hands the item on.
struct Yields(Inside);

impl Operation<u64> for Yields {
    type Out = u64;

    async fn run(&self, item: &mut u64) -> Result<u64, Error> {
        self.0.enter();
        tokio::task::yield_now().await;
        self.0.leave();
        Ok(*item)
    }
}

fn items<T>(items_max: usize) -> Bounds<T> {
    Bounds::items(items_max)
}

/// Waits until `holds`; on a paused clock the waiting takes no time.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

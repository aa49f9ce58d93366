//! rayon's pool behind an ordered window: a task starts operations on the pool and hands over what is done in the order
//! in which it was started.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{mpsc, oneshot};

use super::Peer;
use super::by_hand::{source, window};
use crate::task::{CONCURRENCY, CPU_SCHEDULED, Payload, Probe, RUNTIME_THREADS, Tally, work};

pub(crate) struct Rayon;

impl Peer for Rayon {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let pool = pool(RUNTIME_THREADS);
        let mut queue = source(items, P::make);
        for _ in 0..3 {
            queue = stage(Arc::clone(&pool), queue, CONCURRENCY, |item| item);
        }
        let mut tally = Tally::default();
        while let Some(item) = queue.recv().await {
            tally.take(&item);
        }
        tally
    }

    async fn cpu(items: u64, threads: usize) -> Tally {
        let mut queue = stage(pool(threads), source(items, |index| index), CPU_SCHEDULED, work);
        let mut tally = Tally::default();
        while let Some(item) = queue.recv().await {
            tally.take_worked(&item);
        }
        tally
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        // Threads enough that the window is what bounds.
        let pool = pool(4 * CONCURRENCY);
        let source = source(Probe::ITEMS, |index| index);
        let mut queue = stage(pool, source, CONCURRENCY, move |item| probe.blocking_operation(item));
        let mut tally = Tally::default();
        while let Some(item) = queue.recv().await {
            tally.take(&item);
        }
        tally
    }
}

fn pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started"))
}

fn stage<T, U>(
    pool: Arc<ThreadPool>,
    input: mpsc::Receiver<T>,
    scheduled_max: usize,
    operation: impl Fn(T) -> U + Send + Sync + 'static,
) -> mpsc::Receiver<U>
where
    T: Send + 'static,
    U: Send + 'static,
{
    let operation = Arc::new(operation);
    window(input, scheduled_max, move |item| {
        let (done, result) = oneshot::channel();
        let operation = Arc::clone(&operation);
        pool.spawn(move || {
            // The stage is gone where nobody takes it.
            let _ = done.send(operation(item));
        });
        result
    })
}

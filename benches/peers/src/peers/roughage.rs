//! The crate roughage: `buffered` that does not stop while its consumer is busy. All stages are polled by the task that
//! consumes, and what is done waits in the stage's own bound: there are no queues to give a length to.

use std::sync::Arc;

use roughage::AsyncPipeline;

use super::Peer;
use crate::task::{CONCURRENCY, CPU_SCHEDULED, Payload, Probe, Tally, no_op, work};

pub(crate) struct Roughage;

impl Peer for Roughage {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        on_a_thread(async move || {
            let mut tally = Tally::default();
            AsyncPipeline::from_iter((0..items).map(P::make))
                .map_concurrent(no_op, CONCURRENCY)
                .map_concurrent(no_op, CONCURRENCY)
                .map_concurrent(no_op, CONCURRENCY)
                .for_each(async |item| tally.take(&item))
                .await;
            tally
        })
        .await
    }

    async fn cpu(items: u64, _: usize) -> Tally {
        on_a_thread(async move || {
            let mut tally = Tally::default();
            AsyncPipeline::from_iter(0..items)
                .map_concurrent(|index| tokio::task::spawn_blocking(move || work(index)), CPU_SCHEDULED)
                .for_each(async |item| {
                    if let Ok(item) = item {
                        tally.take_worked(&item);
                    }
                })
                .await;
            tally
        })
        .await
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        on_a_thread(async move || {
            let mut tally = Tally::default();
            AsyncPipeline::from_iter(0..Probe::ITEMS)
                .map_concurrent(|item| Arc::clone(&probe).operation(item), CONCURRENCY)
                .for_each(async |item| tally.take(&item))
                .await;
            tally
        })
        .await
    }
}

/// Its pipeline is not `Send`, so it cannot be spawned: it has a thread of its own and the runtime's timer and pool.
async fn on_a_thread<F>(pipeline: F) -> Tally
where
    F: AsyncFnOnce() -> Tally + Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    let (done, tally) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || done.send(runtime.block_on(pipeline())));
    let tally = tally.await.expect("the pipeline does not panic");
    drop(thread.join());
    tally
}

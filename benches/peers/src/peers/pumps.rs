//! The crate pumps. Its stages hand over through channels of one item; `backpressure(n)` puts a queue of `n` behind a
//! stage, filled by a task more.

use std::sync::Arc;

use pumps::{Concurrency, Pipeline};

use super::Peer;
use crate::task::{CONCURRENCY, CPU_SCHEDULED, Payload, Probe, QUEUE_ITEMS, Tally, no_op, work};

/// With a queue behind the source and behind each stage.
pub(crate) struct Pumps;

impl Peer for Pumps {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let (mut output, _) = Pipeline::from_iter((0..items).map(P::make))
            .backpressure(QUEUE_ITEMS)
            .map(no_op, Concurrency::concurrent_ordered(CONCURRENCY))
            .backpressure(QUEUE_ITEMS)
            .map(no_op, Concurrency::concurrent_ordered(CONCURRENCY))
            .backpressure(QUEUE_ITEMS)
            .map(no_op, Concurrency::concurrent_ordered(CONCURRENCY))
            .backpressure(QUEUE_ITEMS)
            .build();
        let mut tally = Tally::default();
        while let Some(item) = output.recv().await {
            tally.take(&item);
        }
        tally
    }

    async fn cpu(items: u64, _: usize) -> Tally {
        // It has no pool for CPU work: tokio's is what its functions may await.
        let (mut output, _) = Pipeline::from_iter(0..items)
            .backpressure(QUEUE_ITEMS)
            .map(
                |index| tokio::task::spawn_blocking(move || work(index)),
                Concurrency::concurrent_ordered(CPU_SCHEDULED),
            )
            .backpressure(QUEUE_ITEMS)
            .build();
        let mut tally = Tally::default();
        while let Some(Ok(item)) = output.recv().await {
            tally.take_worked(&item);
        }
        tally
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        let (mut output, _) = Pipeline::from_iter(0..Probe::ITEMS)
            .backpressure(QUEUE_ITEMS)
            .map(move |item| Arc::clone(&probe).operation(item), Concurrency::concurrent_ordered(CONCURRENCY))
            .backpressure(QUEUE_ITEMS)
            .build();
        let mut tally = Tally::default();
        while let Some(item) = output.recv().await {
            tally.take(&item);
        }
        tally
    }
}

/// Without the queues: fewer tasks, one item between two stages.
pub(crate) struct BarePumps;

impl Peer for BarePumps {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let (mut output, _) = Pipeline::from_iter((0..items).map(P::make))
            .map(no_op, Concurrency::concurrent_ordered(CONCURRENCY))
            .map(no_op, Concurrency::concurrent_ordered(CONCURRENCY))
            .map(no_op, Concurrency::concurrent_ordered(CONCURRENCY))
            .build();
        let mut tally = Tally::default();
        while let Some(item) = output.recv().await {
            tally.take(&item);
        }
        tally
    }

    async fn cpu(_: u64, _: usize) -> Tally {
        unreachable!("measured with queues only")
    }

    async fn probed(_: Arc<Probe>) -> Tally {
        unreachable!("measured with queues only")
    }
}

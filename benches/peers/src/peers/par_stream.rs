//! The crate par-stream: `par_then` for functions that are awaited, `par_map` for work on threads.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use par_stream::{ParParams, ParStreamExt as _};

use super::Peer;
use crate::task::{CONCURRENCY, Payload, Probe, QUEUE_ITEMS, Tally, no_op, work};

pub(crate) struct ParStream;

impl Peer for ParStream {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let mut output = stream::iter((0..items).map(P::make))
            .par_then(params(CONCURRENCY), no_op)
            .par_then(params(CONCURRENCY), no_op)
            .par_then(params(CONCURRENCY), no_op);
        let mut tally = Tally::default();
        while let Some(item) = output.next().await {
            tally.take(&item);
        }
        tally
    }

    async fn cpu(items: u64, threads: usize) -> Tally {
        // Its workers are threads, so there are as many as are asked for.
        let mut output = stream::iter(0..items).par_map(params(threads), |index| move || work(index));
        let mut tally = Tally::default();
        while let Some(item) = output.next().await {
            tally.take_worked(&item);
        }
        tally
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        let mut output =
            stream::iter(0..Probe::ITEMS).par_then(params(CONCURRENCY), move |item| Arc::clone(&probe).operation(item));
        let mut tally = Tally::default();
        while let Some(item) = output.next().await {
            tally.take(&item);
        }
        tally
    }
}

fn params(num_workers: usize) -> ParParams {
    ParParams { num_workers, buf_size: Some(QUEUE_ITEMS) }
}

//! The crate pariter: an iterator whose work is done on threads, in order. Functions only, so it has the CPU stage.

use std::sync::Arc;

use pariter::IteratorExt as _;

use super::Peer;
use crate::task::{CONCURRENCY, CPU_SCHEDULED, Payload, Probe, Tally, work};

pub(crate) struct Pariter;

impl Peer for Pariter {
    async fn no_ops<P: Payload>(_: u64) -> Tally {
        unreachable!("it is for work that is worth a thread")
    }

    async fn cpu(items: u64, threads: usize) -> Tally {
        let mut tally = Tally::default();
        (0..items)
            .parallel_map_custom(|it| it.threads(threads).buffer_size(CPU_SCHEDULED), work)
            .for_each(|item| tally.take_worked(&item));
        tally
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        let mut tally = Tally::default();
        (0..Probe::ITEMS)
            .parallel_map_custom(
                |it| it.threads(CONCURRENCY).buffer_size(CPU_SCHEDULED),
                move |item| probe.blocking_operation(item),
            )
            .for_each(|item| tally.take(&item));
        tally
    }
}

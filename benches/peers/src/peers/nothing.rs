//! No pipeline at all: a loop on each thread. What the machine gives at best for the CPU stage, one thread and two.

use std::sync::Arc;

use super::Peer;
use crate::task::{Payload, Probe, Tally, work};

pub(crate) struct Nothing;

impl Peer for Nothing {
    async fn no_ops<P: Payload>(_: u64) -> Tally {
        unreachable!("a loop that does nothing is nothing")
    }

    async fn cpu(items: u64, threads: usize) -> Tally {
        let workers = (0..threads as u64).map(|thread| {
            std::thread::spawn(move || {
                let (from, to) = (items * thread / threads as u64, items * (thread + 1) / threads as u64);
                (from..to).map(work).collect::<Vec<_>>()
            })
        });
        let mut tally = Tally::default();
        for worker in workers.collect::<Vec<_>>() {
            worker.join().expect("the loop cannot fail").iter().for_each(|item| tally.take_worked(item));
        }
        tally
    }

    async fn probed(_: Arc<Probe>) -> Tally {
        unreachable!("it has no stages")
    }
}

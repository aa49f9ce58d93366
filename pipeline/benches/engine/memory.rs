//! Memory: allocations in steady state, and what a pipeline holds that does nothing.

use std::alloc::System;

use pitwire_pipeline::{Bounds, Builder, Order, Policy};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::cases::{CONCURRENCY, Nothing, QUEUE, runtime};
use super::{Aim, Measured};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Five stages of four workers with statistics.
fn five_stages(builder: &mut Builder) -> (pitwire_pipeline::Sender<u64>, pitwire_pipeline::Receiver<u64>) {
    let (sender, mut chain) = builder.push_input("in", "main", Bounds::items(QUEUE));
    for name in ["a", "b", "c", "d", "e"] {
        let stage = chain.stage(name).concurrency(CONCURRENCY).order(Order::Input).on_failure(Policy::fail());
        chain = stage.run(Nothing, Bounds::items(QUEUE));
    }
    (sender, chain.outlet("taker"))
}

pub(crate) fn allocations(_repeat: usize) -> Vec<Measured> {
    const WARM: u64 = 20_000;
    const ITEMS: u64 = 200_000;
    let runtime = runtime();
    let value = runtime.block_on(async {
        let mut builder = Builder::new("allocations");
        let (sender, mut outlet) = five_stages(&mut builder);
        let pipeline = builder.build().expect("the pipeline is complete").start();
        let mut pass = async |items: u64| {
            let send = async {
                for item in 0..items {
                    sender.send(item).await.expect("the pipeline runs");
                }
            };
            let take = async {
                for _ in 0..items {
                    outlet.recv().await.expect("the pipeline runs");
                }
            };
            tokio::join!(send, take);
        };
        pass(WARM).await;
        let region = Region::new(COUNTING);
        pass(ITEMS).await;
        let change = region.change();
        drop(sender);
        pipeline.join().await.result.expect("nothing fails");
        (change.allocations + change.reallocations) as f64 / ITEMS as f64
    });
    let aim = Some(Aim::AtMost(0.1));
    let (case, what, unit) = ("allocations", "per item through five stages", "allocations");
    vec![Measured { case, what, value, unit, range: (value, value), beside: None, aim }]
}

pub(crate) fn idle(_repeat: usize) -> Vec<Measured> {
    let runtime = runtime();
    let value = runtime.block_on(async {
        let region = Region::new(COUNTING);
        let mut builder = Builder::new("idle");
        let (sender, outlet) = five_stages(&mut builder);
        let pipeline = builder.build().expect("the pipeline is complete").start();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let change = region.change();
        drop((sender, outlet));
        pipeline.join().await.result.expect("nothing fails");
        change.bytes_allocated as f64 - change.bytes_deallocated as f64
    });
    let (case, what, unit) = ("idle", "heap of five idle stages of four", "bytes");
    let aim = Some(Aim::AtMost(1_048_576.0));
    vec![Measured { case, what, value, unit, range: (value, value), beside: None, aim }]
}

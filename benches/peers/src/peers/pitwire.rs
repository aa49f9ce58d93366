//! The engine itself, with its statistics on as it is run, and with its times off.

use std::sync::Arc;

use pitwire_pipeline::{Bounds, Builder, Error, OnSourceError, Operation, Order, Policy, from_iter};

use super::Peer;
use crate::task::{CONCURRENCY, CPU_SCHEDULED, Payload, Probe, QUEUE_ITEMS, Tally, work};

/// With its statistics, or with counts only.
pub(crate) struct Pitwire<const STATISTICS: bool>;

impl<const STATISTICS: bool> Peer for Pitwire<STATISTICS> {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let mut builder = Builder::new("no-ops").statistics(STATISTICS);
        let source = from_iter((0..items).map(P::make));
        let mut chain = builder
            .input("items", Bounds::items(QUEUE_ITEMS))
            .source("source", source, OnSourceError::FailPipeline)
            .chain();
        for name in ["first", "second", "third"] {
            chain = chain
                .stage(name)
                .concurrency(CONCURRENCY)
                .order(Order::Input)
                .on_failure(Policy::fail())
                .run(NoOp, Bounds::items(QUEUE_ITEMS));
        }
        let mut output = chain.outlet("sink");
        let pipeline = builder.build().expect("it is well formed").start();
        let mut tally = Tally::default();
        while let Some(item) = output.recv().await {
            tally.take(&item);
        }
        pipeline.join().await.result.expect("nothing fails");
        tally
    }

    async fn cpu(items: u64, threads: usize) -> Tally {
        let mut builder = Builder::new("cpu").statistics(STATISTICS);
        let pool = builder.pool("threads", threads, CPU_SCHEDULED);
        let mut output = builder
            .input("items", Bounds::items(QUEUE_ITEMS))
            .source("source", from_iter(0..items), OnSourceError::FailPipeline)
            .chain()
            .stage("work")
            .concurrency(CPU_SCHEDULED)
            .order(Order::Input)
            .on_failure(Policy::fail())
            .cpu(pool, |index| Ok(work(*index)), Bounds::items(QUEUE_ITEMS))
            .outlet("sink");
        let pipeline = builder.build().expect("it is well formed").start();
        let mut tally = Tally::default();
        while let Some(item) = output.recv().await {
            tally.take_worked(&item);
        }
        pipeline.join().await.result.expect("nothing fails");
        tally
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        let mut builder = Builder::new("probed").statistics(STATISTICS);
        let mut output = builder
            .input("items", Bounds::items(QUEUE_ITEMS))
            .source("source", from_iter(0..Probe::ITEMS), OnSourceError::FailPipeline)
            .chain()
            .stage("probed")
            .concurrency(CONCURRENCY)
            .order(Order::Input)
            .on_failure(Policy::fail())
            .run(Probed(probe), Bounds::items(QUEUE_ITEMS))
            .outlet("sink");
        let pipeline = builder.build().expect("it is well formed").start();
        let mut tally = Tally::default();
        while let Some(item) = output.recv().await {
            tally.take(&item);
        }
        pipeline.join().await.result.expect("nothing fails");
        tally
    }
}

struct NoOp;

impl<P: Payload> Operation<P> for NoOp {
    type Out = P;

    async fn run(&self, item: &mut P) -> Result<P, Error> {
        Ok(std::mem::take(item))
    }
}

struct Probed(Arc<Probe>);

impl Operation<u64> for Probed {
    type Out = u64;

    async fn run(&self, item: &mut u64) -> Result<u64, Error> {
        Ok(Arc::clone(&self.0).operation(*item).await)
    }
}

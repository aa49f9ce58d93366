//! Sources of different paces, loaded at once while the processing already runs; then a clean stop, in which
//! what is queued is still processed.
//!
//! `cargo run -p pitwire-pipeline --example many_sources`

// A program for a terminal.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use pitwire_pipeline::{Bounds, Builder, Error, OnSourceError, Policy, Progress, Source, Verdict};

/// Gives `total` readings of one car, one every `every`.
struct Log {
    car: u64,
    every: Duration,
    given: u64,
    total: Option<u64>,
}

impl Source for Log {
    type Item = (u64, u64);

    async fn next(&mut self) -> Result<Option<(u64, u64)>, Error> {
        // A sleep that is dropped at the stop has taken nothing yet.
        tokio::time::sleep(self.every).await;
        if self.total == Some(self.given) {
            return Ok(None);
        }
        self.given += 1;
        Ok(Some((self.car, self.given)))
    }

    fn total(&self) -> Option<u64> {
        self.total
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let log = |car, every_ms, total| Log { car, every: Duration::from_millis(every_ms), given: 0, total };
    let mut builder = Builder::new("load");
    let mut input = builder.input("readings", Bounds::items(32));
    let live = input.sender("the pit wall"); // somebody who pushes
    let stage = input
        .source("car 1, a fast file", log(1, 1, Some(200)), OnSourceError::EndSource)
        .source("car 2, a slow file", log(2, 10, Some(500)), OnSourceError::EndSource)
        .source("car 3, live", log(3, 5, None), OnSourceError::EndSource)
        .chain()
        .stage("process")
        .concurrency(4)
        // Each car's readings in their order, whatever the others do.
        .order_by_key(|(car, _): &(u64, u64)| *car);
    let mut outlet = stage
        .on_failure(Policy::skip())
        .map(
            |(car, reading)| async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok((car, reading))
            },
            Bounds::items(32),
        )
        .outlet("main");
    let pipeline = builder.build()?.start();

    let stopper = pipeline.stopper();
    let observer = pipeline.observer();
    let stops = tokio::spawn(async move {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for source in &observer.snapshot().sources {
                let progress = Progress::of(source, None);
                println!("{} {progress}", progress.bar(22));
            }
            println!("{}\n", Verdict::of(&observer.snapshot()));
        }
        let pushed = live.send((9, 1)).await.is_ok();
        println!("stop: sources end at their next reading, what is queued is processed");
        stopper.stop();
        pushed // and `live` is dropped, so that its stream ends too
    });

    let mut last = std::collections::BTreeMap::new();
    let mut processed = 0;
    while let Some((car, reading)) = outlet.recv().await {
        processed += 1;
        if last.insert(car, reading).unwrap_or(0) + 1 != reading {
            return Err(format!("car {car}: reading {reading} is out of order").into());
        }
    }
    let pushed = u64::from(stops.await?);
    let ended = pipeline.join_within(Duration::from_secs(5)).await;
    ended.result?;
    let given: u64 = ended.snapshot.sources.iter().map(|source| source.done).sum();
    println!("given {given} by sources and {pushed} pushed, processed {processed}, left {}", ended.leftovers.len());
    if given + pushed == processed { Ok(()) } else { Err("some are missing".into()) }
}

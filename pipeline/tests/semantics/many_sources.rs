//! Many sources into one pipeline.

use pitwire_pipeline::{Builder, OnSourceError, Policy, Source, from_iter};

use super::*;

/// Gives `count` items, one every `every`.
struct Paced {
    every: Duration,
    left: u64,
    first: u64,
}

impl Source for Paced {
    type Item = u64;

    async fn next(&mut self) -> Result<Option<u64>, Error> {
        tokio::time::sleep(self.every).await;
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.first += 1;
        Ok(Some(self.first - 1))
    }

    fn total(&self) -> Option<u64> {
        Some(self.left)
    }
}

/// Never gives anything.
struct Stalled;

impl Source for Stalled {
    type Item = u64;

    async fn next(&mut self) -> Result<Option<u64>, Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_source_slows_nobody_and_one_that_ends_early_changes_nothing() {
    let mut builder = Builder::new("paces");
    let input = builder
        .input("in", items(4))
        .source("stalled", Stalled, OnSourceError::FailPipeline)
        .source("short", from_iter(0..3_u64), OnSourceError::FailPipeline)
        .source(
            "fast",
            Paced { every: Duration::from_millis(1), left: 1_000, first: 1_000 },
            OnSourceError::FailPipeline,
        )
        .source(
            "slow",
            Paced { every: Duration::from_millis(100), left: 10, first: 5_000 },
            OnSourceError::FailPipeline,
        );
    let stage = input.chain().stage("a").concurrency(2).on_failure(Policy::fail());
    let mut outlet = stage.run(takes(|_| 0), items(4)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let began = tokio::time::Instant::now();
    let mut out = Vec::new();
    while out.len() < 3 + 1_000 + 10 {
        out.push(outlet.recv().await.unwrap());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_000) && took < Duration::from_millis(1_100), "{took:?}");
    for range in [0..3, 1_000..2_000, 5_000..5_010] {
        let of_source: Vec<u64> = out.iter().copied().filter(|n| range.contains(n)).collect();
        assert_eq!(of_source, range.collect::<Vec<_>>());
    }
    let sources = pipeline.snapshot().sources;
    let seen: Vec<(u64, Option<u64>)> = sources.iter().map(|source| (source.done, source.total)).collect();
    assert_eq!(seen, [(0, None), (3, Some(3)), (1_000, Some(1_000)), (10, Some(10))]);
    pipeline.stop();
    assert_eq!(outlet.recv().await, None);
    assert!(pipeline.join().await.leftovers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn senders_that_wait_are_served_in_the_order_in_which_they_came() {
    let (sender, mut receiver) = pitwire_pipeline::queue("in", items(1));
    sender.send(0).await.unwrap();
    for item in 1..=5 {
        let sender = sender.clone();
        tokio::spawn(async move { sender.send(item).await.unwrap() });
        tokio::task::yield_now().await;
    }
    drop(sender);
    let mut all = Vec::new();
    while let Some(item) = receiver.recv().await {
        all.push(item);
    }
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn sources_and_senders_share_an_input_and_are_served_alike() {
    let mut builder = Builder::new("both");
    let mut input = builder.input("in", items(1));
    let sender = input.sender("pushes");
    let input = input.source("pulled", from_iter(vec![1_u64; 50]), OnSourceError::FailPipeline);
    let mut outlet = input.chain().outlet("test");
    let pipeline = builder.build().unwrap().start();
    tokio::spawn(async move {
        for _ in 0..50 {
            sender.send(2).await.unwrap();
        }
    });
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    assert_eq!((out.iter().sum::<u64>(), out.len()), (150, 100));
    // Neither gets far ahead of the other while both have something.
    let lead = out[..60].iter().filter(|n| **n == 1).count();
    assert!((20..=40).contains(&lead), "{lead} of 60");
    pipeline.join().await.result.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_nothing_is_lost_or_doubled_however_many_send() {
    let mut builder = Builder::new("crowd");
    let mut input = builder.input("in", items(3));
    for n in 0..8_u64 {
        input = input.source(&format!("s{n}"), from_iter(n * 1_000..n * 1_000 + 1_000), OnSourceError::FailPipeline);
    }
    let inside = Inside::default();
    let stage = input.chain().stage("a").concurrency(4).on_failure(Policy::fail());
    let mut outlet = stage.run(Yields(inside), items(3)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    out.sort_unstable();
    assert_eq!(out, (0..8_000).collect::<Vec<_>>());
    pipeline.join().await.result.unwrap();
}

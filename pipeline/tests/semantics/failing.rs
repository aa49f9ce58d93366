//! Failure policies.

use std::sync::Mutex;

use pitwire_pipeline::{
    Backoff, Builder, Ended, Limit, OnSourceError, Order, PipelineError, Policy, Source, from_iter, quarantine,
};

use super::*;

/// Fails on multiples of seven, panics on multiples of eleven.
struct Picky;

impl Operation<u64> for Picky {
    type Out = u64;

    async fn run(&self, item: &mut u64) -> Result<u64, Error> {
        tokio::time::sleep(Duration::from_millis(*item % 5)).await;
        assert!(!item.is_multiple_of(11), "eleven");
        if item.is_multiple_of(7) { Err(format!("{item} is a multiple of seven").into()) } else { Ok(*item) }
    }
}

const FAIL: usize = 14 + 9 - 1; // below 100, from 1: multiples of 7, of 11, and 77 is both

async fn picky(policy: Policy<u64>, order: Order, numbers: std::ops::Range<u64>) -> (Vec<u64>, Ended) {
    let mut builder = Builder::new("picky");
    let input = builder.input("in", items(8)).source("numbers", from_iter(numbers), OnSourceError::FailPipeline);
    let stage = input.chain().stage("picky").concurrency(3).order(order).on_failure(policy);
    let mut outlet = stage.run(Picky, items(8)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    (out, pipeline.join().await)
}

#[tokio::test(start_paused = true)]
async fn skip_drops_and_counts_and_a_panic_is_a_failure_too() {
    for order in [Order::Input, Order::Completion] {
        let (mut out, ended) = picky(Policy::skip(), order, 1..100).await;
        out.sort_unstable();
        assert_eq!(out, (1..100).filter(|n| n % 7 != 0 && n % 11 != 0).collect::<Vec<_>>());
        let stage = &ended.snapshot.stages[0];
        assert_eq!((stage.taken, stage.given), (99, 99 - FAIL as u64));
        assert_eq!((stage.failed, stage.skipped, stage.quarantined), (FAIL as u64, FAIL as u64, 0));
        assert_eq!((stage.panicked, stage.in_progress), (9, 0));
        assert!(ended.result.is_ok() && ended.leftovers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn quarantine_hands_over_the_item_and_its_error_and_is_bounded() {
    let (way_in, mut kept) = quarantine("kept", 2);
    let running = tokio::spawn(picky(Policy::quarantine(way_in), Order::Input, 1..100));
    // Nobody takes: the stage waits after two and those in its slots.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!running.is_finished());
    let mut seen = Vec::new();
    while let Some(failed) = kept.recv().await {
        assert_eq!((failed.stage.as_str(), failed.attempts), ("picky", 1));
        seen.push((failed.item, failed.error.to_string()));
    }
    let (_, ended) = running.await.unwrap();
    seen.sort();
    assert_eq!(seen.len(), FAIL);
    assert_eq!(seen[0], (7, "7 is a multiple of seven".into()));
    assert!(seen[1].0 == 11 && seen[1].1.contains("eleven"), "{:?}", seen[1]);
    let stage = &ended.snapshot.stages[0];
    assert_eq!((stage.quarantined, stage.skipped), (FAIL as u64, 0));
    assert!(stage.blocked_ns > 0);
}

#[tokio::test(start_paused = true)]
async fn quarantine_by_a_function_gets_the_same() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let take = kept.clone();
    let policy = Policy::quarantine_with(move |failed| take.lock().unwrap().push(failed.item));
    let (_, ended) = picky(policy, Order::Completion, 1..100).await;
    assert_eq!((kept.lock().unwrap().len(), ended.snapshot.stages[0].quarantined), (FAIL, FAIL as u64));
}

#[tokio::test(start_paused = true)]
async fn fail_ends_the_pipeline_names_the_stage_and_hands_back_what_is_left() {
    for order in [Order::Input, Order::Completion] {
        let (out, mut ended) = picky(Policy::fail(), order, 1..1_000).await;
        let error = ended.result.unwrap_err();
        assert!(matches!(&error, PipelineError::Stage { stage, attempt: 1, panicked: false, .. } if stage == "picky"));
        assert_eq!(error.to_string(), "stage \"picky\" failed at attempt 1: 7 is a multiple of seven");
        let left: Vec<u64> = ended.leftovers.take("in").unwrap();
        assert_eq!(left[0], 7, "the one that failed is handed back");
        let unsent: Vec<u64> = ended.leftovers.take("picky").unwrap();
        let given = ended.snapshot.sources[0].done + 1;
        let mut all = [out, left, unsent].concat();
        all.sort_unstable();
        assert!(all.len() as u64 == given || all.len() as u64 == given - 1, "{} of {given}", all.len());
        assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "nothing is lost or doubled");
        assert!(ended.leftovers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn in_order_of_input_nothing_is_given_beyond_the_item_that_failed() {
    let (out, _) = picky(Policy::fail(), Order::Input, 1..1_000).await;
    assert_eq!(out, [1, 2, 3, 4, 5, 6]);
}

/// Fails on each item as often as the item says.
struct Times(Mutex<std::collections::HashMap<u64, u64>>);

impl Operation<u64> for Times {
    type Out = u64;

    async fn run(&self, item: &mut u64) -> Result<u64, Error> {
        let mut tried = self.0.lock().unwrap();
        let tried = tried.entry(*item).or_default();
        *tried += 1;
        if *tried > *item { Ok(*tried) } else { Err(format!("attempt {tried}").into()) }
    }
}

#[tokio::test(start_paused = true)]
async fn retry_tries_again_with_growing_pauses_and_then_does_what_follows() {
    let first = Duration::from_millis(100);
    let backoff = Backoff { attempts: 4, first, max: Duration::from_secs(1), seed: 1 };
    let (way_in, mut kept) = quarantine("kept", 8);
    let mut builder = Builder::new("retry");
    let (input, chain) = builder.push_input("in", "test", items(8));
    let stage = chain.stage("times").on_failure(Policy::quarantine(way_in).after_retries(backoff));
    let mut outlet = stage.run(Times(Mutex::default()), items(8)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    let began = tokio::time::Instant::now();
    for n in [0, 3, 4] {
        input.send(n).await.unwrap();
    }
    drop(input);
    assert_eq!((outlet.recv().await, outlet.recv().await), (Some(1), Some(4)));
    let took = began.elapsed();
    assert!(took >= 7 * first / 2 && took <= 7 * first + Duration::from_millis(5), "{took:?}");
    let failed = kept.recv().await.unwrap();
    assert_eq!((failed.item, failed.attempts, failed.error.to_string().as_str()), (4, 4, "attempt 4"));
    let stage = &pipeline.join().await.snapshot.stages[0];
    assert_eq!((stage.taken, stage.given, stage.failed, stage.retried), (3, 2, 1, 6));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_not_tried_again() {
    let backoff = Backoff { attempts: 9, first: Duration::from_secs(1), max: Duration::from_secs(1), seed: 1 };
    let (_, ended) = picky(Policy::skip().after_retries(backoff), Order::Input, 11..12).await;
    assert_eq!((ended.snapshot.stages[0].panicked, ended.snapshot.stages[0].retried), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_over_a_sliding_window() {
    let mut builder = Builder::new("window");
    let (input, chain) = builder.push_input("in", "test", items(8));
    let stage = chain.stage("stage").on_failure(Policy::skip());
    stage.for_each(|ok: bool| async move { if ok { Ok(()) } else { Err("no".into()) } });
    let pipeline = builder.build().unwrap().start();
    for second in 0..20 {
        for _ in 0..10 {
            input.send(second >= 15).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let stage = &pipeline.snapshot().stages[0];
    let rate = stage.failure_rate();
    assert!((0.4..=0.5).contains(&rate), "{rate}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(pipeline.snapshot().stages[0].failure_rate(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_within_the_window_fail_the_pipeline() {
    let policy = || Policy::skip().limit(Limit { percent: 30.0, at_least: 5 });
    let (out, ended) = picky(policy(), Order::Input, 1..100).await;
    assert!(ended.result.is_ok() && out.len() == 99 - FAIL, "one in five is allowed");
    let limit = Limit { percent: 10.0, at_least: 5 };
    for statistics in [true, false] {
        let mut builder = Builder::new("limit").statistics(statistics);
        let input = builder.input("in", items(8)).source("s", from_iter(1..100_u64), OnSourceError::FailPipeline);
        let stage = input.chain().stage("picky").on_failure(Policy::skip().limit(limit));
        let mut outlet = stage.run(Picky, items(8)).outlet("test");
        let pipeline = builder.build().unwrap().start();
        while outlet.recv().await.is_some() {}
        let ended = pipeline.join().await;
        let error = ended.result.unwrap_err();
        // 7, 11, 14, 21 and 22 are the first five.
        assert!(matches!(&error, PipelineError::TooMany { failed: 5, of: 22, .. }), "{error}");
        assert!(!ended.leftovers.is_empty());
    }
}

/// Gives three items, then fails as told.
struct Breaks {
    left: u64,
    panics: bool,
}

impl Source for Breaks {
    type Item = u64;

    async fn next(&mut self) -> Result<Option<u64>, Error> {
        let left = self.left.checked_sub(1);
        assert!(left.is_some() || !self.panics, "the cable burns");
        self.left = left.ok_or("the cable is cut")?;
        Ok(Some(1))
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_ends_alone_or_fails_the_pipeline_as_was_said() {
    for (on_error, panics) in [
        (OnSourceError::EndSource, false),
        (OnSourceError::EndSource, true),
        (OnSourceError::FailPipeline, false),
        (OnSourceError::FailPipeline, true),
    ] {
        let mut builder = Builder::new("breaks");
        let input = builder.input("in", items(2)).source("breaks", Breaks { left: 3, panics }, on_error);
        let other = from_iter(vec![10_u64; 5]);
        let mut outlet = input.source("other", other, OnSourceError::FailPipeline).chain().outlet("test");
        let pipeline = builder.build().unwrap().start();
        let mut sum = 0;
        while let Some(item) = outlet.recv().await {
            sum += item;
        }
        let ended = pipeline.join().await;
        assert!(ended.snapshot.sources[0].failed);
        if on_error == OnSourceError::EndSource {
            assert!(ended.result.is_ok() && sum == 53);
        } else {
            let error = ended.result.unwrap_err().to_string();
            let expected = if panics { "the cable burns" } else { "the cable is cut" };
            assert!(error.starts_with("source \"breaks\" failed") && error.contains(expected), "{error}");
        }
    }
}

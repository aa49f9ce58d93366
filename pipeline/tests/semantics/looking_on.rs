//! The watchdog on running pipelines, and progress.

use pitwire_pipeline::{Builder, OnSourceError, Policy, Progress, StillWhy, Watchdog, from_iter, quarantine};
use tokio::time::Instant;

use super::*;

const AFTER: Duration = Duration::from_secs(10);

/// Looks once a second for a minute; the first that is named.
async fn minute(watchdog: &mut Watchdog, holds_back: bool) -> Option<(String, StillWhy)> {
    for _ in 0..60 {
        if let Some(still) = watchdog.look(holds_back, Instant::now().into_std()) {
            return Some((still.name, still.why));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_hangs_is_named_and_not_those_that_wait_for_it() {
    for statistics in [true, false] {
        let mut builder = Builder::new("hangs").statistics(statistics);
        let input = builder.input("in", items(4)).source("n", from_iter(0..99_u64), OnSourceError::FailPipeline);
        let stage = input.chain().stage("a").concurrency(2).on_failure(Policy::fail()).run(takes(|_| 1), items(4));
        let stage = stage.stage("b").concurrency(3).on_failure(Policy::fail());
        let chain = stage.run(takes(|n| if n == 20 { 1_000_000_000 } else { 1 }), items(4));
        chain.stage("c").on_failure(Policy::fail()).sink(takes(|_| 1));
        let pipeline = builder.build().unwrap().start();
        let mut watchdog = Watchdog::new(pipeline.observer(), AFTER);
        assert_eq!(minute(&mut watchdog, false).await, Some(("b".into(), StillWhy::Operation)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outlet_that_is_not_taken_from_is_named_unless_its_taker_has_a_reason() {
    let mut builder = Builder::new("outlet");
    let input = builder.input("in", items(4)).source("n", from_iter(0..99_u64), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").on_failure(Policy::fail());
    let _outlet = stage.run(takes(|_| 1), items(4)).outlet("the printer");
    let pipeline = builder.build().unwrap().start();
    let mut watchdog = Watchdog::new(pipeline.observer(), AFTER);
    assert_eq!(minute(&mut watchdog, true).await, None);
    assert_eq!(minute(&mut watchdog, false).await, Some(("the printer".into(), StillWhy::Outlet(4))));
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_that_is_full_is_named_by_its_stage() {
    let mut builder = Builder::new("quarantine");
    let input = builder.input("in", items(4)).source("n", from_iter(0..99_u64), OnSourceError::FailPipeline);
    let (way_in, _kept) = quarantine("kept", 1);
    let stage = input.chain().stage("a").on_failure(Policy::quarantine(way_in));
    stage.for_each(|_: u64| async { Err("no".into()) });
    let pipeline = builder.build().unwrap().start();
    let mut watchdog = Watchdog::new(pipeline.observer(), AFTER);
    assert_eq!(minute(&mut watchdog, false).await, Some(("a".into(), StillWhy::Quarantine)));
}

#[tokio::test(start_paused = true)]
async fn silence_slow_work_and_retries_are_fine() {
    let mut builder = Builder::new("fine");
    let (input, chain) = builder.push_input("in", "test", items(64));
    let backoff = pitwire_pipeline::Backoff { attempts: 99, first: AFTER / 2, max: AFTER / 2, seed: 3 };
    let stage = chain.stage("a").on_failure(Policy::skip().after_retries(backoff));
    stage.for_each(|_: u64| async { Err("not yet".into()) });
    let pipeline = builder.build().unwrap().start();
    let mut watchdog = Watchdog::new(pipeline.observer(), AFTER);
    assert_eq!(minute(&mut watchdog, false).await, None, "silence");
    input.send(1).await.unwrap();
    assert_eq!(minute(&mut watchdog, false).await, None, "it tries");
    assert!(pipeline.snapshot().stages[0].retried > 10);
}

#[tokio::test(start_paused = true)]
async fn a_finite_source_shows_how_far_it_is() {
    let mut builder = Builder::new("progress");
    let input = builder.input("in", items(1)).source("files", from_iter(0..100_u64), OnSourceError::FailPipeline);
    input.chain().stage("a").on_failure(Policy::fail()).sink(takes(|_| 100));
    let pipeline = builder.build().unwrap().start();
    tokio::time::sleep(Duration::from_millis(5_050)).await;
    let snapshot = pipeline.snapshot();
    let progress = Progress::of(&snapshot.sources[0], None);
    // One is in the queue and one with the stage, besides the fifty that are done.
    assert_eq!((progress.done, progress.total), (52, Some(100)));
    let left = progress.left.unwrap().as_secs_f64();
    assert!((4.0..5.5).contains(&left), "{left}");
    assert!(progress.to_string().starts_with("files: 52 of 100 (52 %), 10/s"), "{progress}");
    assert_eq!(progress.bar(12), "[#####-----]");
    let ended = pipeline.join().await;
    let last = Progress::of(&ended.snapshot.sources[0], Some(&snapshot.sources[0]));
    assert_eq!((last.done, last.left), (100, Some(Duration::ZERO)));
}

//! CPU stages and their pools.

use std::sync::mpsc;

use pitwire_pipeline::{Builder, OnSourceError, Order, Policy, from_iter, quarantine};

use super::*;

#[tokio::test]
async fn cpu_operations_run_on_named_threads_of_the_pool_and_never_more_at_once_than_it_has() {
    for order in [Order::Input, Order::Completion] {
        let mut builder = Builder::new("cpu");
        let pool = builder.pool("crunch", 2, 5);
        let input = builder.input("in", items(8)).source("numbers", from_iter(0..500_u64), OnSourceError::FailPipeline);
        let inside = Inside::default();
        let operation = {
            let inside = inside.clone();
            move |n: &mut u64| {
                inside.enter();
                let name = std::thread::current().name().unwrap_or_default().to_owned();
                std::thread::yield_now();
                inside.leave();
                Ok((*n, name))
            }
        };
        let stage = input.chain().stage("stage").concurrency(5).order(order).on_failure(Policy::fail());
        let mut outlet = stage.cpu(pool, operation, items(8)).outlet("test");
        let pipeline = builder.build().unwrap().start();
        let mut out = Vec::new();
        while let Some((n, name)) = outlet.recv().await {
            assert!(name == "crunch-0" || name == "crunch-1", "{name}");
            out.push(n);
        }
        if order == Order::Completion {
            out.sort_unstable();
        }
        assert_eq!(out, (0..500).collect::<Vec<_>>());
        assert!(inside.peak() <= 2);
        let stage = &pipeline.join().await.snapshot.stages[0];
        assert_eq!((stage.given, stage.latency.count()), (500, 500));
        assert!(stage.pool_wait_ns > 0);
    }
}

#[tokio::test]
async fn a_source_goes_on_while_every_thread_of_the_pool_is_taken() {
    let mut builder = Builder::new("taken");
    let pool = builder.pool("cpu", 1, 1);
    let input = builder.input("in", items(50)).source("numbers", from_iter(0..50_u64), OnSourceError::FailPipeline);
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let operation = move |n: &mut u64| {
        // Ends once the test has let go of its end.
        let _ = released.lock().unwrap().recv();
        Ok(*n)
    };
    let stage = input.chain().stage("stage").on_failure(Policy::fail());
    let mut outlet = stage.cpu(pool, operation, items(50)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    until("the source has given all", || pipeline.snapshot().sources[0].done == 50).await;
    assert_eq!(pipeline.snapshot().stages[0].given, 0);
    drop(release);
    let mut out = 0;
    while outlet.recv().await.is_some() {
        out += 1;
    }
    assert_eq!(out, 50);
    pipeline.join().await.result.unwrap();
}

#[tokio::test]
async fn a_failure_or_panic_on_the_pool_meets_the_stages_policy_and_the_thread_lives() {
    let mut builder = Builder::new("fails");
    let pool = builder.pool("cpu", 1, 2);
    let input = builder.input("in", items(8)).source("numbers", from_iter(0..40_u64), OnSourceError::FailPipeline);
    let (way_in, mut kept) = quarantine("kept", 40);
    let operation = |n: &mut u64| match *n % 4 {
        1 => Err("one".into()),
        2 => panic!("two"),
        _ => Ok(*n),
    };
    let stage = input.chain().stage("stage").concurrency(2).on_failure(Policy::quarantine(way_in));
    let mut outlet = stage.cpu(pool, operation, items(40)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    assert_eq!(out, (0..40).filter(|n| n % 4 == 0 || n % 4 == 3).collect::<Vec<_>>());
    let mut failed = Vec::new();
    while let Some(one) = kept.recv().await {
        failed.push((one.item, one.error.to_string()));
    }
    failed.sort();
    assert_eq!((failed.len(), &failed[0], &failed[1]), (20, &(1, "one".into()), &(2, "two".into())));
    assert_eq!(pipeline.join().await.snapshot.stages[0].panicked, 10);
}

#[tokio::test]
async fn an_abort_hands_back_what_waits_for_the_pool_and_waits_for_what_runs() {
    let mut builder = Builder::new("abort");
    let pool = builder.pool("cpu", 1, 3);
    let (input, chain) = builder.push_input("in", "test", items(8));
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let inside = Inside::default();
    let operation = {
        let inside = inside.clone();
        move |n: &mut u64| {
            inside.enter();
            let _ = released.lock().unwrap().recv();
            Ok(*n)
        }
    };
    let stage = chain.stage("stage").concurrency(3).on_failure(Policy::fail());
    let outlet = stage.cpu(pool, operation, items(8)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    for n in 0..6 {
        input.send(n).await.unwrap();
    }
    until("one runs", || inside.now() == 1).await;
    let ending = tokio::spawn(pipeline.join_within(Duration::ZERO));
    // The tasks are gone once the queue takes nothing any more; then the operation may end.
    while input.send(99).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(release);
    let mut ended = ending.await.unwrap();
    let left = ended.leftovers.take::<u64>("in").unwrap();
    assert_eq!((ended.still_running, &left[..6]), (0, &[0, 1, 2, 3, 4, 5][..]));
    drop(outlet);
}

#[tokio::test]
async fn stages_may_share_a_pool_and_wait_for_each_other_only_by_its_threads() {
    let mut builder = Builder::new("shared");
    let pool = builder.pool("cpu", 1, 4);
    let input = builder.input("in", items(2)).source("numbers", from_iter(0..300_u64), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(2).on_failure(Policy::fail());
    let stage = stage.cpu(pool, |n: &mut u64| Ok(*n + 1), items(1)).stage("b").concurrency(2);
    let stage = stage.on_failure(Policy::fail());
    let mut outlet = stage.cpu(pool, |n: &mut u64| Ok(*n * 2), items(1)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    assert_eq!(out, (1..=300).map(|n| n * 2).collect::<Vec<_>>());
    pipeline.join().await.result.unwrap();
}

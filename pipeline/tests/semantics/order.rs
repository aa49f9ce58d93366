//! Concurrency and order.

use pitwire_pipeline::{Builder, OnSourceError, Order, Policy, from_iter};

use super::*;

/// Runs `numbers` through one stage; answers what comes out and the most operations that were in progress.
async fn through(
    numbers: impl IntoIterator<Item = u64, IntoIter: Send + 'static>,
    concurrency: usize,
    order: Order,
    ms: fn(u64) -> u64,
) -> (Vec<u64>, usize) {
    let mut builder = Builder::new("order");
    let input = builder.input("in", items(8)).source("numbers", from_iter(numbers), OnSourceError::FailPipeline);
    let operation = takes(ms);
    let inside = operation.inside.clone();
    let stage = input.chain().stage("stage").concurrency(concurrency).order(order).on_failure(Policy::fail());
    let mut outlet = stage.run(operation, items(8)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    pipeline.join().await.result.unwrap();
    (out, inside.peak())
}

#[tokio::test(start_paused = true)]
async fn a_stage_never_has_more_operations_in_progress_than_its_concurrency_and_reaches_it() {
    for concurrency in [1, 2, 3, 7] {
        for order in [Order::Completion, Order::Input] {
            let (out, peak) = through(0..100, concurrency, order, |n| 1 + n * 37 % 11).await;
            assert_eq!((out.len(), peak), (100, concurrency), "{order:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_waits_for_its_turn_keeps_its_slot() {
    // The first takes long; the others are done at once and wait: with 4 slots, items 1 to 3 and no more are begun.
    let mut builder = Builder::new("slots");
    let (input, chain) = builder.push_input("in", "test", items(100));
    let begun = Inside::default();
    let seen = begun.clone();
    let stage = chain.stage("stage").concurrency(4).order(Order::Input).on_failure(Policy::fail());
    let operation = move |n: u64| {
        seen.enter();
        async move {
            tokio::time::sleep(Duration::from_secs(if n == 0 { 100 } else { 0 })).await;
            Ok(n)
        }
    };
    let mut outlet = stage.map(operation, items(100)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    for n in 0..50 {
        input.send(n).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert_eq!(begun.now(), 4);
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.stages[0].in_progress, snapshot.stages[0].taken), (4, 4));
    drop(input);
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    assert_eq!(out, (0..50).collect::<Vec<_>>());
    // Three slots waited for 100 s behind the slow one.
    let snapshot = pipeline.join().await.snapshot;
    let waited = Duration::from_nanos(snapshot.stages[0].hol_wait_ns).as_secs_f64();
    assert!((299.0..=301.0).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn in_order_of_input_results_come_as_their_items_came() {
    let (out, _) = through(0..200, 5, Order::Input, |n| (n * 7919) % 13).await;
    assert_eq!(out, (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn in_order_of_completion_a_slow_one_holds_back_nobody() {
    let (out, _) = through(0..20, 2, Order::Completion, |n| if n == 0 { 1_000 } else { 1 }).await;
    assert_eq!(out.last(), Some(&0));
    assert_eq!(out[..19], (1..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn by_key_items_of_one_key_keep_their_order_and_others_pass() {
    let mut builder = Builder::new("keys");
    let input = builder.input("in", items(30)).source("numbers", from_iter(0..60_u64), OnSourceError::FailPipeline);
    let operation = takes(|n| if n % 3 == 0 { 50 } else { 1 });
    let inside = operation.inside.clone();
    let stage = input.chain().stage("stage").concurrency(3).order_by_key(|n: &u64| n % 3).on_failure(Policy::fail());
    let mut outlet = stage.run(operation, items(100)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    pipeline.join().await.result.unwrap();
    for key in 0..3 {
        let of_key: Vec<u64> = out.iter().copied().filter(|n| n % 3 == key).collect();
        assert_eq!(of_key, (0..60).filter(|n| n % 3 == key).collect::<Vec<_>>());
    }
    assert!(inside.peak() <= 3);
    // While the first of key 0 took 50 ms, ten of each other key were in the queue of 30 beside nine of its own.
    let first_slow = out.iter().position(|n| *n == 0).unwrap();
    assert!(first_slow >= 18, "only {first_slow} passed");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_key_stays_in_the_bounds_of_the_queue() {
    let mut builder = Builder::new("parked");
    let (input, chain) = builder.push_input("in", "test", items(5));
    let stage = chain.stage("stage").concurrency(4).order_by_key(|_: &u64| 0).on_failure(Policy::fail());
    let outlet = stage.run(takes(|_| 1_000_000), items(5)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    let mut accepted = 0;
    while tokio::time::timeout(Duration::from_secs(1), input.send(accepted)).await.is_ok() {
        accepted += 1;
    }
    let snapshot = pipeline.snapshot();
    assert_eq!((accepted, snapshot.queues[0].items, snapshot.stages[0].in_progress), (6, 5, 1));
    drop((input, outlet));
    assert!(!pipeline.join_within(Duration::ZERO).await.in_time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_order_and_concurrency_hold_as_well() {
    for order in [Order::Input, Order::Completion, Order::Key] {
        let mut builder = Builder::new("threads");
        let input = builder.input("in", items(16));
        let input = input.source("numbers", from_iter(0..5_000_u64), OnSourceError::FailPipeline);
        let inside = Inside::default();
        let stage = input.chain().stage("stage").concurrency(5);
        let stage = if order == Order::Key { stage.order_by_key(|n| n % 7) } else { stage.order(order) };
        let stage = stage.on_failure(Policy::fail()).run(Yields(inside.clone()), items(16));
        let mut outlet = stage.outlet("test");
        let pipeline = builder.build().unwrap().start();
        let mut out = Vec::new();
        while let Some(item) = outlet.recv().await {
            out.push(item);
        }
        pipeline.join().await.result.unwrap();
        assert!(inside.peak() <= 5);
        match order {
            Order::Input => assert!(out.is_sorted()),
            Order::Completion => out.sort_unstable(),
            Order::Key => {
                let of_key = |key| out.iter().filter(move |n| **n % 7 == key);
                assert!((0..7).all(|key| of_key(key).is_sorted()));
                out.sort_unstable();
            }
        }
        assert_eq!(out, (0..5_000).collect::<Vec<_>>());
    }
}

//! Bounds, back-pressure, and tasks that run by themselves.

use pitwire_pipeline::{Aggregate, Builder, OnSourceError, Order, Plan, Policy, Receiver, Source, from_iter};

use super::*;

/// Starts `plan`, takes nothing, and answers how many items the source gave.
async fn run_ahead<T>(plan: Plan, given: &Inside, outlet: Option<Receiver<T>>) -> u64 {
    let pipeline = plan.start();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let given = given.now();
    drop(outlet);
    assert!(!pipeline.join_within(Duration::ZERO).await.in_time || given > 0);
    given as u64
}

/// Endless; counts what it gave.
struct Endless(Inside);

impl Source for Endless {
    type Item = u64;

    async fn next(&mut self) -> Result<Option<u64>, Error> {
        self.0.enter();
        Ok(Some(self.0.now() as u64))
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_stops_makes_sources_stop_after_the_sum_of_the_bounds() {
    for (queue, concurrency) in [(1, 1), (4, 1), (1, 5), (7, 3)] {
        for order in [Order::Input, Order::Completion] {
            let mut builder = Builder::new("sum");
            let given = Inside::default();
            let input = builder.input("in", items(queue));
            let input = input.source("endless", Endless(given.clone()), OnSourceError::FailPipeline);
            let stage = input.chain().stage("a").concurrency(concurrency).order(order).on_failure(Policy::fail());
            let stage = stage.run(takes(|n| n % 3), items(queue)).stage("b").on_failure(Policy::fail());
            let outlet = stage.run(takes(|_| 0), items(queue)).outlet("test");
            let plan = builder.build().unwrap();
            let max = plan.run_ahead_max();
            // Three queues, `a`, `b`, and the source's hand.
            assert_eq!(max.items, Some((3 * queue + concurrency + 1 + 1) as u64), "{max}");
            assert_eq!(Some(run_ahead(plan, &given, Some(outlet)).await), max.items);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_sources_have_one_item_each_in_hand() {
    let mut builder = Builder::new("hands");
    let given = Inside::default();
    let mut input = builder.input("in", items(4));
    for name in ["x", "y", "z"] {
        input = input.source(name, Endless(given.clone()), OnSourceError::FailPipeline);
    }
    let outlet = input.chain().outlet("test");
    let plan = builder.build().unwrap();
    assert_eq!(plan.run_ahead_max().items, Some(4 + 3));
    assert_eq!(run_ahead(plan, &given, Some(outlet)).await, 7);
}

#[tokio::test(start_paused = true)]
async fn a_batch_stands_for_its_items_in_the_sum() {
    let mut builder = Builder::new("batches");
    let given = Inside::default();
    let input = builder.input("in", items(3)).source("endless", Endless(given.clone()), OnSourceError::FailPipeline);
    let outlet = input.chain().aggregate("tens", Aggregate::new().items(10), items(2)).outlet("test");
    let plan = builder.build().unwrap();
    // The hand, the queue, a full batch that waits for room, and two in the queue.
    let max = plan.run_ahead_max();
    assert_eq!(max.items, Some(1 + 3 + 10 + 2 * 10), "{max}");
    assert_eq!(Some(run_ahead(plan, &given, Some(outlet)).await), max.items);
}

#[tokio::test(start_paused = true)]
async fn bounds_in_bytes_make_sources_stop_as_well() {
    let bytes = |bytes| Bounds { items: 1_000, bytes, weigh: |_: &u64| 10 };
    let mut builder = Builder::new("bytes");
    let given = Inside::default();
    let input = builder.input("in", bytes(25)).source("endless", Endless(given.clone()), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(2).on_failure(Policy::fail());
    let outlet = stage.run(takes(|_| 0), bytes(5)).outlet("test");
    let plan = builder.build().unwrap();
    assert_eq!(plan.run_ahead_max().items, Some(1 + 1_000 + 2 + 1_000));
    // Two of 10 bytes fit into 25, and one alone into 5.
    let max = plan.run_ahead_max_of(10);
    assert_eq!(max.items, Some(1 + 2 + 2 + 1), "{max}");
    assert_eq!(Some(run_ahead(plan, &given, Some(outlet)).await), max.items);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_end_is_in_the_sum_with_its_concurrency() {
    let mut builder = Builder::new("sink");
    let given = Inside::default();
    let input = builder.input("in", items(2)).source("endless", Endless(given.clone()), OnSourceError::FailPipeline);
    let stage = input.chain().stage("sink").concurrency(3).on_failure(Policy::fail());
    stage.sink(takes(|_| 1_000_000_000));
    let plan = builder.build().unwrap();
    assert_eq!(plan.run_ahead_max().items, Some(1 + 2 + 3));
    assert_eq!(run_ahead::<u64>(plan, &given, None).await, 6);
}

#[tokio::test(start_paused = true)]
async fn an_item_larger_than_the_bound_in_bytes_passes_alone() {
    let bounds = Bounds { items: 100, bytes: 25, weigh: |bytes: &usize| *bytes };
    let (sender, mut receiver) = pitwire_pipeline::queue("in", bounds);
    sender.send(10).await.unwrap();
    let late = tokio::time::timeout(Duration::from_secs(1), sender.send(1_000_000)).await;
    assert!(late.is_err(), "it goes in only when it is alone");
    assert_eq!(receiver.recv().await, Some(10));
    sender.send(1_000_000).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), sender.send(1)).await.is_err());
    assert_eq!(receiver.recv().await, Some(1_000_000));
    sender.send(1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_goes_on_up_to_the_bounds_although_the_consumer_does_not_poll() {
    let mut builder = Builder::new("unpolled");
    let input = builder.input("in", items(2)).source("numbers", from_iter(0..100_u64), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(4).on_failure(Policy::fail());
    let mut outlet = stage.run(takes(|_| 10), items(8)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    // Nobody touches the outlet meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.stages[0].given, snapshot.stages[0].taken), (8, 12));
    let mut out = 0;
    while outlet.recv().await.is_some() {
        out += 1;
    }
    assert_eq!(out, 100);
    pipeline.join().await.result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_for_room_gives_its_place_back() {
    let bounds = Bounds { items: 4, bytes: 10, weigh: |bytes: &usize| *bytes };
    let (sender, mut receiver) = pitwire_pipeline::queue("in", bounds);
    sender.send(10).await.unwrap();
    for _ in 0..10 {
        assert!(tokio::time::timeout(Duration::from_millis(2), sender.room(5)).await.is_err());
    }
    assert_eq!(receiver.recv().await, Some(10));
    for _ in 0..2 {
        drop(sender.room(10).await.unwrap());
        sender.send(5).await.unwrap();
        assert_eq!(receiver.recv().await, Some(5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_learns_that_nobody_takes_any_more_and_gets_its_item_back() {
    let (sender, receiver) = pitwire_pipeline::queue("in", items(1));
    sender.send(6).await.unwrap();
    let waiting = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send(7).await.unwrap_err().0 }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(receiver);
    assert_eq!(waiting.await.unwrap(), 7);
    assert_eq!(sender.send(8).await.unwrap_err().0, 8);
}

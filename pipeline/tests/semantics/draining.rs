//! Stops, ends and what is handed back.

use pitwire_pipeline::{Aggregate, Builder, Ended, OnSourceError, Order, Policy, Stage, from_iter};

use super::*;

#[tokio::test(start_paused = true)]
async fn stop_ends_sources_at_an_item_and_everything_accepted_comes_out() {
    let mut builder = Builder::new("stop");
    let input = builder.input("in", items(8)).source("endless", from_iter(0_u64..), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(3).on_failure(Policy::fail()).run(takes(|n| n % 7), items(8));
    let mut outlet = stage.aggregate("tens", Aggregate::new().items(10), items(8)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let stopper = pipeline.stopper();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stopper.stop();
    });
    let mut out = Vec::new();
    while let Some(batch) = outlet.recv().await {
        out.extend(batch);
    }
    let ended = pipeline.join_within(Duration::from_secs(1)).await;
    assert!(ended.in_time && ended.result.is_ok() && ended.leftovers.is_empty());
    let done = ended.snapshot.sources[0].done;
    assert!(done > 100, "{done}");
    assert_eq!(out, (0..done).collect::<Vec<_>>());
}

/// Everything that was handed back, and its sum with what came out.
fn handed_back(ended: &mut Ended, names: &[&str]) -> Vec<u64> {
    names.iter().flat_map(|name| ended.leftovers.take::<u64>(name).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn after_the_deadline_queues_batches_and_operations_are_handed_back() {
    for order in [Order::Input, Order::Completion] {
        let mut builder = Builder::new("hand back");
        let (input, chain) = builder.push_input("in", "test", items(8));
        let stage = chain.stage("a").concurrency(3).order(order).on_failure(Policy::fail());
        // Multiples of ten never end.
        let chain = stage.run(takes(|n| if n % 10 == 0 { 1_000_000_000 } else { 1 }), items(4));
        let chain = chain.aggregate("batch", Aggregate::new().items(4), items(1));
        let stage = chain.stage("write").on_failure(Policy::fail());
        stage.for_each(|_: Vec<u64>| async { std::future::pending().await });
        let pipeline = builder.build().unwrap().start();
        let mut accepted = 0;
        while tokio::time::timeout(Duration::from_secs(1), input.send(accepted + 1)).await.is_ok() {
            accepted += 1;
        }
        drop(input);
        let mut ended = pipeline.join_within(Duration::from_secs(5)).await;
        assert!(!ended.in_time && ended.result.is_ok());
        let mut all = handed_back(&mut ended, &["in", "a"]);
        let batches: Vec<Vec<u64>> = ended.leftovers.take("batch").unwrap();
        assert!(!batches.is_empty());
        all.extend(batches.concat());
        all.sort_unstable();
        assert_eq!(all, (1..=accepted).collect::<Vec<_>>(), "{order:?}");
        assert!(ended.leftovers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_back_is_in_order_and_of_the_type_asked_for() {
    let mut builder = Builder::new("types");
    let (input, chain) = builder.push_input("in", "test", items(8));
    let stage = chain.stage("a").concurrency(2).on_failure(Policy::fail());
    let outlet = stage.run(takes(|_| 1_000_000), items(8)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    for n in 0..6 {
        input.send(n).await.unwrap();
    }
    tokio::task::yield_now().await;
    let mut ended = pipeline.join_within(Duration::from_secs(1)).await;
    let error = ended.leftovers.take::<String>("in").unwrap_err().to_string();
    assert!(error.contains("\"in\"") && error.contains("String"), "{error}");
    assert_eq!(ended.leftovers.counts().collect::<Vec<_>>(), [("in", 6)]);
    assert_eq!(ended.leftovers.take::<u64>("in").unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ended.leftovers.take::<u64>("nowhere").unwrap(), [0; 0]);
    drop((input, outlet));
}

#[tokio::test(start_paused = true)]
async fn what_a_source_has_in_hand_is_handed_back_too() {
    let mut builder = Builder::new("hand");
    let input = builder.input("in", items(2)).source("numbers", from_iter(0..10_u64), OnSourceError::FailPipeline);
    let outlet = input.chain().outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut ended = pipeline.join_within(Duration::from_secs(1)).await;
    assert_eq!(ended.leftovers.take::<u64>("in").unwrap(), [0, 1, 2]);
    drop(outlet);
}

#[tokio::test(start_paused = true)]
async fn a_taker_that_goes_away_ends_the_pipeline_and_what_is_left_is_handed_back() {
    let mut builder = Builder::new("gone");
    let input = builder.input("in", items(4)).source("endless", from_iter(0_u64..), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(2).on_failure(Policy::fail());
    let mut outlet = stage.run(takes(|_| 1), items(4)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    assert_eq!(outlet.recv().await, Some(0));
    drop(outlet);
    let mut ended = pipeline.join().await;
    let mut all = handed_back(&mut ended, &["in", "a"]);
    all.sort_unstable();
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
}

/// Holds everything until the end.
struct Holds(Vec<u64>);

impl Stage for Holds {
    type In = u64;
    type Out = u64;

    fn name(&self) -> &str {
        "holds"
    }

    fn process(&mut self, item: u64, _out: &mut Vec<u64>) {
        self.0.push(item);
    }

    fn finish(&mut self, out: &mut Vec<u64>) {
        out.append(&mut self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_with_a_state_is_finished_on_an_abort_and_what_it_held_is_handed_back() {
    let mut builder = Builder::new("holds");
    let (input, chain) = builder.push_input("in", "test", items(8));
    let outlet = chain.stateful(Holds(Vec::new()), items(2)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    for n in 0..5 {
        input.send(n).await.unwrap();
    }
    let mut ended = pipeline.join_within(Duration::from_secs(1)).await;
    assert_eq!(ended.leftovers.take::<u64>("holds").unwrap(), [0, 1, 2, 3, 4]);
    drop((input, outlet));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_an_abort_at_any_moment_loses_and_doubles_nothing() {
    for round in 0..40 {
        let mut builder = Builder::new("abort");
        let pool = builder.pool("cpu", 2, 3);
        let input = builder.input("in", items(3)).source("endless", from_iter(0_u64..), OnSourceError::FailPipeline);
        let order = if round % 2 == 0 { Order::Input } else { Order::Completion };
        let stage = input.chain().stage("a").concurrency(3).order(order).on_failure(Policy::fail());
        let stage = stage.cpu(pool, |n: &mut u64| Ok(*n), items(2)).stage("b").concurrency(2).order(order);
        let stage = stage.on_failure(Policy::fail());
        let mut outlet = stage.run(Yields(Inside::default()), items(2)).outlet("test");
        let pipeline = builder.build().unwrap().start();
        let mut out = Vec::new();
        for _ in 0..round * 3 {
            out.extend(outlet.recv().await);
        }
        let mut ended = pipeline.join_within(Duration::ZERO).await;
        assert_eq!(ended.still_running, 0);
        out.extend(handed_back(&mut ended, &["in", "a", "b"]));
        out.sort_unstable();
        assert_eq!(out, (0..out.len() as u64).collect::<Vec<_>>(), "round {round}");
    }
}

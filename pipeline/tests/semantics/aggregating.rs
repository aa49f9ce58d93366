//! Batches, and stages with a state of their own.

use pitwire_pipeline::{Aggregate, Builder, Receiver, Sender, Stage};
use tokio::time::Instant;

use super::*;

fn batching(rule: Aggregate<u64>) -> (Sender<u64>, Receiver<Vec<u64>>, pitwire_pipeline::Pipeline) {
    let mut builder = Builder::new("batches");
    let (input, chain) = builder.push_input("in", "test", items(64));
    let outlet = chain.aggregate("batch", rule, items(64)).outlet("taker");
    (input, outlet, builder.build().unwrap().start())
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_complete_by_items_and_the_last_one_at_the_end_of_the_stream() {
    let (input, mut outlet, pipeline) = batching(Aggregate::new().items(3));
    for n in 0..7 {
        input.send(n).await.unwrap();
    }
    drop(input);
    let mut batches = Vec::new();
    while let Some(batch) = outlet.recv().await {
        batches.push(batch);
    }
    assert_eq!(batches, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    pipeline.join().await.result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_never_exceeds_its_bytes_save_by_one_item_that_is_larger() {
    let (input, mut outlet, pipeline) = batching(Aggregate::new().bytes(10, |n| *n as usize));
    for n in [4, 4, 4, 25, 10, 1] {
        input.send(n).await.unwrap();
    }
    drop(input);
    let mut batches = Vec::new();
    while let Some(batch) = outlet.recv().await {
        batches.push(batch);
    }
    assert_eq!(batches, [vec![4, 4], vec![4], vec![25], vec![10], vec![1]]);
    pipeline.join().await.result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_by_its_age_without_new_input() {
    let (input, mut outlet, _pipeline) = batching(Aggregate::new().items(100).age(Duration::from_millis(200)));
    let began = Instant::now();
    input.send(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    input.send(2).await.unwrap();
    assert_eq!(outlet.recv().await, Some(vec![1, 2]));
    assert_eq!(began.elapsed().as_millis(), 200, "the age is the first item's");
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_hold_back_what_is_old() {
    let (input, mut outlet, _pipeline) = batching(Aggregate::new().age(Duration::from_millis(100)));
    let flood = tokio::spawn(async move {
        for n in 0..1_000 {
            input.send(n).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let first = outlet.recv().await.unwrap();
    assert!((99..=101).contains(&first.len()), "{}", first.len());
    flood.await.unwrap();
}

/// Adds up pairs; panics on 13; a lone one leaves by age.
struct Pairs {
    held: Vec<u64>,
    since: Option<std::time::Instant>,
}

const AGE: Duration = Duration::from_millis(20);

impl Stage for Pairs {
    type In = u64;
    type Out = Vec<u64>;

    fn name(&self) -> &str {
        "pairs"
    }

    fn process(&mut self, item: u64, out: &mut Vec<Vec<u64>>) {
        assert_ne!(item, 13, "unlucky");
        self.since.get_or_insert(Instant::now().into_std());
        self.held.push(item);
        if self.held.len() == 2 {
            self.finish(out);
        }
    }

    fn deadline(&self) -> Option<std::time::Instant> {
        self.since.map(|since| since + AGE)
    }

    fn on_deadline(&mut self, _now: std::time::Instant, out: &mut Vec<Vec<u64>>) {
        self.finish(out);
    }

    fn finish(&mut self, out: &mut Vec<Vec<u64>>) {
        self.since = None;
        if !self.held.is_empty() {
            out.push(std::mem::take(&mut self.held));
        }
    }
}

fn pairs() -> (Sender<u64>, Receiver<Vec<u64>>, pitwire_pipeline::Pipeline) {
    let mut builder = Builder::new("pairs");
    let (input, chain) = builder.push_input("in", "test", items(64));
    let outlet = chain.stateful(Pairs { held: Vec::new(), since: None }, items(64)).outlet("taker");
    (input, outlet, builder.build().unwrap().start())
}

#[tokio::test(start_paused = true)]
async fn a_stage_with_a_state_flushes_at_the_end_of_the_stream_and_at_its_deadline() {
    let (input, mut outlet, pipeline) = pairs();
    for n in 0..3 {
        input.send(n).await.unwrap();
    }
    let began = Instant::now();
    assert_eq!(outlet.recv().await, Some(vec![0, 1]));
    assert_eq!((outlet.recv().await, began.elapsed()), (Some(vec![2]), AGE));
    input.send(3).await.unwrap();
    drop(input);
    assert_eq!((outlet.recv().await, outlet.recv().await), (Some(vec![3]), None));
    assert_eq!(began.elapsed(), AGE);
    pipeline.join().await.result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_stage_with_a_state_costs_one_item_and_is_counted() {
    let (input, mut outlet, pipeline) = pairs();
    for n in [1, 13, 2] {
        input.send(n).await.unwrap();
    }
    drop(input);
    assert_eq!((outlet.recv().await, outlet.recv().await), (Some(vec![1, 2]), None));
    let ended = pipeline.join().await;
    assert!(ended.result.is_ok());
    let stage = &ended.snapshot.stages[0];
    let counts = (stage.taken, stage.given, stage.failed, stage.skipped, stage.panicked);
    assert_eq!(counts, (3, 1, 1, 1, 1));
}

/// Gathers all; what came is old at once, as after a stall.
struct Late(Vec<u64>);

impl Stage for Late {
    type In = u64;
    type Out = Vec<u64>;

    fn name(&self) -> &str {
        "late"
    }

    fn process(&mut self, item: u64, _out: &mut Vec<Vec<u64>>) {
        self.0.push(item);
    }

    fn deadline(&self) -> Option<std::time::Instant> {
        (!self.0.is_empty()).then(|| Instant::now().into_std())
    }

    fn on_deadline(&mut self, _now: std::time::Instant, out: &mut Vec<Vec<u64>>) {
        out.push(std::mem::take(&mut self.0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_already_joins_what_a_passed_deadline_ends_and_a_flood_does_not_hold_it_back() {
    let mut builder = Builder::new("late");
    let (input, chain) = builder.push_input("in", "test", items(1_000));
    let mut outlet = chain.stateful(Late(Vec::new()), items(4)).outlet("taker");
    for item in 0..600 {
        input.send(item).await.unwrap();
    }
    let _pipeline = builder.build().unwrap().start();
    let mut groups = Vec::new();
    while groups.iter().sum::<usize>() < 600 {
        groups.push(outlet.recv().await.unwrap().len());
    }
    assert_eq!(groups, [257, 257, 86]);
}

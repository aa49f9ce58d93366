use std::time::{Duration, Instant};

use super::*;

fn bounds<T>(items: usize, bytes: usize) -> Bounds<T> {
    Bounds { items, bytes, weigh: |_| 10 }
}

/// Adds one; panics on 13; gathers pairs if asked to, and flushes a lone one by age.
struct Gather {
    held: Vec<u32>,
    since: Option<Instant>,
    age: Duration,
}

impl Stage for Gather {
    type In = u32;
    type Out = Vec<u32>;

    fn name(&self) -> &str {
        "gather"
    }

    fn process(&mut self, item: u32, out: &mut Vec<Vec<u32>>) {
        assert_ne!(item, 13, "unlucky");
        self.since.get_or_insert_with(Instant::now);
        self.held.push(item);
        if self.held.len() == 2 {
            self.finish(out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.age)
    }

    fn on_deadline(&mut self, _now: Instant, out: &mut Vec<Vec<u32>>) {
        self.finish(out);
    }

    fn finish(&mut self, out: &mut Vec<Vec<u32>>) {
        self.since = None;
        if !self.held.is_empty() {
            out.push(std::mem::take(&mut self.held));
        }
    }
}

fn gather(age_ms: u64) -> Gather {
    Gather { held: Vec::new(), since: None, age: Duration::from_millis(age_ms) }
}

#[tokio::test]
async fn end_of_stream_walks_down_and_flushes_what_is_held() {
    let mut pipeline = Pipeline::new();
    let (input, chain) = pipeline.input("in", bounds(4, 1000));
    let mut sink = chain.stage(gather(10_000), bounds(4, 1000)).sink();
    for item in 0..5 {
        input.send(item).await.unwrap();
    }
    drop(input);
    let mut all = Vec::new();
    while let Some(group) = sink.recv().await {
        all.push(group);
    }
    assert_eq!(all, [vec![0, 1], vec![2, 3], vec![4]]);
    pipeline.join().await.unwrap();
}

#[tokio::test]
async fn a_deadline_fires_without_new_input() {
    let mut pipeline = Pipeline::new();
    let (input, chain) = pipeline.input("in", bounds(4, 1000));
    let mut sink = chain.stage(gather(20), bounds(4, 1000)).sink();
    input.send(1).await.unwrap();
    assert_eq!(sink.recv().await, Some(vec![1]));
}

#[tokio::test]
async fn a_panic_costs_one_item_and_never_ends_the_stream() {
    let mut pipeline = Pipeline::new();
    let (input, chain) = pipeline.input("in", bounds(4, 1000));
    let mut sink = chain.stage(gather(10_000), bounds(4, 1000)).sink();
    for item in [1, 13, 2] {
        input.send(item).await.unwrap();
    }
    assert_eq!(sink.recv().await, Some(vec![1, 2]));
    let stages = pipeline.stages();
    assert_eq!((stages[0].taken, stages[0].given, stages[0].failed), (3, 1, 1));
}

#[tokio::test]
async fn a_consumer_that_stops_makes_the_source_stop_after_the_sum_of_the_bounds() {
    let mut pipeline = Pipeline::new();
    let (input, chain) = pipeline.input("in", bounds(4, 1000));
    let sink = chain.stage(gather(10_000), bounds(2, 1000)).sink();
    let mut accepted = 0;
    while tokio::time::timeout(Duration::from_millis(50), input.send(accepted)).await.is_ok() {
        accepted += 1;
    }
    // 2 groups of 2 in the last queue, 1 group of 2 waiting in the stage, 4 items in the first queue.
    assert_eq!(accepted, 2 * 2 + 2 + 4);
    let queues = pipeline.queues().snapshot();
    assert_eq!((queues[0].items, queues[0].items_max, queues[1].items), (4, 4, 2));
    drop(sink);
}

#[tokio::test]
async fn bytes_bound_a_queue_as_well_and_a_larger_item_passes_alone() {
    let (input, mut output) = queue("in", Bounds { items: 100, bytes: 25, weigh: |bytes: &usize| *bytes });
    input.send(10).await.unwrap();
    input.send(10).await.unwrap();
    let blocked = tokio::time::timeout(Duration::from_millis(30), input.room(10)).await;
    assert!(blocked.is_err(), "30 bytes fit into 25");
    output.recv().await;
    output.recv().await;
    input.send(1_000_000).await.unwrap();
    assert_eq!(output.recv().await, Some(1_000_000));
}

#[tokio::test]
async fn a_sender_learns_that_the_receiver_is_gone_and_gets_its_item_back() {
    let (input, output) = queue("in", bounds::<u8>(1, 100));
    drop(output);
    let SendError(item) = input.send(7).await.unwrap_err();
    assert_eq!(item, 7);
}

/// Gathers all; what came is old at once, as after a stall.
struct Late {
    held: Vec<u32>,
}

impl Stage for Late {
    type In = u32;
    type Out = Vec<u32>;

    fn name(&self) -> &str {
        "late"
    }

    fn process(&mut self, item: u32, _out: &mut Vec<Vec<u32>>) {
        self.held.push(item);
    }

    fn deadline(&self) -> Option<Instant> {
        (!self.held.is_empty()).then(Instant::now)
    }

    fn on_deadline(&mut self, _now: Instant, out: &mut Vec<Vec<u32>>) {
        out.push(std::mem::take(&mut self.held));
    }
}

#[tokio::test]
async fn what_waits_already_joins_what_a_passed_deadline_ends_and_a_flood_does_not_hold_it_back() {
    let mut pipeline = Pipeline::new();
    let (input, chain) = pipeline.input("in", bounds(1_000, 100_000));
    for item in 0..600 {
        input.send(item).await.unwrap();
    }
    let mut sink = chain.stage(Late { held: Vec::new() }, bounds(4, 1000)).sink();
    let mut groups = Vec::new();
    while groups.iter().sum::<usize>() < 600 {
        groups.push(sink.recv().await.unwrap().len());
    }
    assert_eq!(groups, [257, 257, 86]);
}

#[tokio::test]
async fn several_senders_are_served_in_turn() {
    let (input, mut output) = queue("in", bounds::<u32>(1, 1000));
    input.send(0).await.unwrap();
    let senders: Vec<_> = (1..=3)
        .map(|item| {
            let input = input.clone();
            tokio::spawn(async move { input.send(item).await.unwrap() })
        })
        .collect();
    tokio::task::yield_now().await;
    drop(input);
    let mut all = Vec::new();
    while let Some(item) = output.recv().await {
        all.push(item);
    }
    assert_eq!(all, [0, 1, 2, 3]);
    for sender in senders {
        sender.await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_wait_for_room_gives_its_place_back() {
    let (input, mut output) = queue("in", Bounds { items: 4, bytes: 10, weigh: |bytes: &usize| *bytes });
    input.send(10).await.unwrap();
    for _ in 0..10 {
        assert!(tokio::time::timeout(Duration::from_millis(2), input.room(5)).await.is_err());
    }
    assert_eq!(output.recv().await, Some(10));
    for _ in 0..2 {
        input.send(5).await.unwrap();
        assert_eq!(output.recv().await, Some(5));
    }
}

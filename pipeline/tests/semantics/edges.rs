//! What stages and callers get wrong at the edges, and what must not come of it.

use std::time::Instant;

use pitwire_pipeline::{Aggregate, Builder, Stage, queue};

use super::*;

/// Passes all; panics when asked for its deadline by an item of 2, and each time its deadline of item 3 comes.
struct Careless {
    last: u64,
    woken: Inside,
}

impl Stage for Careless {
    type In = u64;
    type Out = u64;

    fn name(&self) -> &str {
        "careless"
    }

    fn process(&mut self, item: u64, out: &mut Vec<u64>) {
        self.last = item;
        out.push(item);
    }

    fn deadline(&self) -> Option<Instant> {
        assert_ne!(self.last, 2, "no idea");
        (self.last == 3).then(|| tokio::time::Instant::now().into_std())
    }

    fn on_deadline(&mut self, _now: Instant, _out: &mut Vec<u64>) {
        self.woken.enter();
        panic!("not now");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_about_a_deadline_is_a_failure_of_the_stage_and_neither_an_end_of_stream_nor_a_spin() {
    let mut builder = Builder::new("careless");
    let woken = Inside::default();
    let (input, chain) = builder.push_input("in", "test", items(8));
    let stage = Careless { last: 0, woken: woken.clone() };
    let mut outlet = chain.stateful(stage, items(8)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    for n in 0..=3 {
        input.send(n).await.unwrap();
        assert_eq!(outlet.recv().await, Some(n));
    }
    tokio::time::sleep(Duration::from_millis(9_500)).await;
    assert!((9..=11).contains(&woken.now()), "woken {} times in ten seconds", woken.now());
    input.send(4).await.unwrap();
    assert_eq!(outlet.recv().await, Some(4));
    drop(input);
    assert_eq!(outlet.recv().await, None);
    let ended = pipeline.join().await;
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    assert_eq!(ended.snapshot.stages[0].panicked, woken.now() as u64 + 1);
}

#[tokio::test(start_paused = true)]
async fn an_age_beyond_the_end_of_time_is_none() {
    let mut builder = Builder::new("age");
    let (input, chain) = builder.push_input("in", "test", items::<u64>(8));
    let mut outlet = chain.aggregate("batch", Aggregate::new().age(Duration::MAX), items(8)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    input.send(1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(input);
    assert_eq!(outlet.recv().await, Some(vec![1]));
    assert!(pipeline.join().await.result.is_ok());
}

/// Computes for two and a half seconds without a pause.
struct Hog;

impl Stage for Hog {
    type In = u64;
    type Out = u64;

    fn name(&self) -> &str {
        "hog"
    }

    fn process(&mut self, item: u64, out: &mut Vec<u64>) {
        std::thread::sleep(Duration::from_millis(2_500));
        out.push(item);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_computes_without_a_pause_does_not_keep_join_within_waiting() {
    let mut builder = Builder::new("hog");
    let (input, chain) = builder.push_input("in", "test", items(8));
    let outlet = chain.stateful(Hog, items(8)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    input.send(1).await.unwrap();
    drop(input);
    until("it computes", || pipeline.snapshot().stages[0].taken == 1).await;
    let began = Instant::now();
    let ended = pipeline.join_within(Duration::from_millis(100)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((ended.in_time, ended.still_running), (false, 1));
    drop(outlet);
}

#[tokio::test(start_paused = true)]
async fn small_items_do_not_overtake_a_large_one_that_waits_for_room_in_bytes() {
    let (input, mut output) = queue("in", Bounds { items: 100, bytes: 10, weigh: |bytes: &usize| *bytes });
    input.send(6).await.unwrap();
    let waits = |bytes: usize| {
        let input = input.clone();
        tokio::spawn(async move { input.send(bytes).await.unwrap() })
    };
    let large = waits(9);
    tokio::task::yield_now().await;
    let small = waits(1);
    tokio::task::yield_now().await;
    let order = [output.recv().await, output.recv().await, output.recv().await];
    assert_eq!(order, [Some(6), Some(9), Some(1)]);
    large.await.unwrap();
    small.await.unwrap();
}

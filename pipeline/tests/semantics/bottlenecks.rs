//! Planted bottlenecks, and the verdict on each.

use pitwire_pipeline::{Builder, Limiting, OnSourceError, Pipeline, Policy, Source, Verdict, from_iter};

use super::*;

/// Judges what happens within `time`, after as long a start.
async fn verdict(pipeline: &Pipeline, time: Duration) -> Verdict {
    tokio::time::sleep(time).await;
    let before = pipeline.snapshot();
    tokio::time::sleep(time).await;
    Verdict::of(&pipeline.snapshot().since(&before))
}

/// An endless source, a stage `read` of 4 and a sink `write`, with these times in ms.
fn io(source: u64, read: u64, write: u64) -> Pipeline {
    let mut builder = Builder::new("io");
    let input = builder.input("in", items(8)).source("files", Paced(source), OnSourceError::FailPipeline);
    let stage = input.chain().stage("read").concurrency(4).on_failure(Policy::fail());
    let chain = stage.run(takes(move |_| read), items(8));
    chain.stage("write").on_failure(Policy::fail()).sink(takes(move |_| write));
    builder.build().unwrap().start()
}

/// Gives an item each so many ms.
struct Paced(u64);

impl Source for Paced {
    type Item = u64;

    async fn next(&mut self) -> Result<Option<u64>, Error> {
        tokio::time::sleep(Duration::from_millis(self.0)).await;
        Ok(Some(1))
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_stage_of_io_is_named_with_what_more_slots_would_give() {
    let verdict = verdict(&io(1, 100, 10), Duration::from_secs(60)).await;
    assert!(matches!(&verdict, Verdict::Limits(Limiting::Stage { name, slots: 4, .. }) if name == "read"), "{verdict}");
    assert_eq!(
        verdict.to_string(),
        "stage \"read\" limits: its 4 slots are busy 100 % of the time; 5 would give up to 1.2 ×; \"write\" limits at 2.5 ×"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_is_named() {
    let verdict = verdict(&io(1, 10, 100), Duration::from_secs(60)).await;
    let Verdict::Limits(Limiting::Stage { name, load, .. }) = &verdict else { panic!("{verdict}") };
    assert!(name == "write" && *load > 0.95, "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_is_named() {
    let verdict = verdict(&io(100, 10, 20), Duration::from_secs(60)).await;
    let Verdict::Limits(Limiting::Input { names, gain, .. }) = &verdict else { panic!("{verdict}") };
    let at = gain.next_limits_at.unwrap();
    assert!(names == &["files"] && (4.0..6.0).contains(&at), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_cpu_stage_is_named_by_its_pool_if_its_threads_are_taken_and_by_its_slots_if_not() {
    for (threads, slots) in [(1, 4), (2, 1)] {
        let mut builder = Builder::new("cpu");
        let pool = builder.pool("crunch", threads, 4);
        let input = builder.input("in", items(8)).source("n", from_iter(0_u64..), OnSourceError::FailPipeline);
        let stage = input.chain().stage("parse").concurrency(slots).on_failure(Policy::fail());
        // It sleeps where others would compute: so the test says the same on a busy machine.
        let parse = |n: &mut u64| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(*n)
        };
        let chain = stage.cpu(pool, parse, items(8));
        chain.stage("write").concurrency(2).on_failure(Policy::fail()).sink(takes(|_| 0));
        let pipeline = builder.build().unwrap().start();
        let verdict = verdict(&pipeline, Duration::from_millis(300)).await;
        match &verdict {
            Verdict::Limits(Limiting::Pool { name, threads: 1, stage, .. }) => {
                assert!(threads == 1 && name == "crunch" && stage == "parse", "{verdict}");
            }
            Verdict::Limits(Limiting::Stage { name, slots: 1, .. }) => {
                assert!(threads == 2 && name == "parse", "{verdict}");
            }
            _ => panic!("{threads} threads, {slots} slots: {verdict}"),
        }
        pipeline.stop();
        pipeline.join().await.result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_too_slowly_from_the_outlet_is_named() {
    let mut builder = Builder::new("outlet");
    let input = builder.input("in", items(8)).source("n", Paced(1), OnSourceError::FailPipeline);
    let stage = input.chain().stage("read").concurrency(4).on_failure(Policy::fail());
    let mut outlet = stage.run(takes(|_| 2), items(8)).outlet("the printer");
    let pipeline = builder.build().unwrap().start();
    tokio::spawn(async move {
        while outlet.recv().await.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let verdict = verdict(&pipeline, Duration::from_secs(60)).await;
    let expected = "\"the printer\", who takes from the outlet, limits";
    assert!(verdict.to_string().starts_with(expected), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_waits_behind_slow_items_is_told_so() {
    let mut builder = Builder::new("hol");
    let input = builder.input("in", items(8)).source("n", from_iter(0_u64..), OnSourceError::FailPipeline);
    let stage = input.chain().stage("read").concurrency(4).on_failure(Policy::fail());
    let chain = stage.run(takes(|n| if n % 4 == 0 { 100 } else { 1 }), items(8));
    chain.stage("write").on_failure(Policy::fail()).sink(takes(|_| 1));
    let pipeline = builder.build().unwrap().start();
    let verdict = verdict(&pipeline, Duration::from_secs(10)).await.to_string();
    assert!(verdict.starts_with("stage \"read\" limits") && verdict.contains("% behind a slower item"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_idle_and_a_light_load_limits_nothing() {
    let mut builder = Builder::new("idle");
    let (input, chain) = builder.push_input("in", "test", items(8));
    chain.stage("a").concurrency(2).on_failure(Policy::fail()).sink(takes(|_| 1));
    let pipeline = builder.build().unwrap().start();
    assert_eq!(verdict(&pipeline, Duration::from_secs(10)).await, Verdict::Idle);
    let feeding = tokio::spawn(async move {
        loop {
            // Bursts that keep it busy for half of the time.
            for _ in 0..100 {
                input.send(1).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let busy = verdict(&pipeline, Duration::from_secs(10)).await;
    assert!(matches!(&busy, Verdict::Nothing { load, .. } if (0.3..0.7).contains(load)), "{busy}");
    feeding.abort();
}

#[test]
fn without_times_there_is_no_verdict() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut builder = Builder::new("off").statistics(false);
        let (_input, chain) = builder.push_input("in", "test", items(8));
        chain.stage("a").on_failure(Policy::fail()).sink(takes(|_| 1));
        let pipeline = builder.build().unwrap().start();
        assert_eq!(Verdict::of(&pipeline.snapshot()), Verdict::Unknown);
    });
}

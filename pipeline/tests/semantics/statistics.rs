//! Statistics: times that sum up, counts, queues, intervals.

use pitwire_pipeline::{Aggregate, Builder, OnSourceError, Order, Pipeline, Policy, Snapshot, from_iter, quarantine};

use super::*;

/// Whether all times of each stage sum up to its slots' time, within 1 %.
fn assert_identity(snapshot: &Snapshot) {
    for stage in &snapshot.stages {
        let sum = stage.busy_ns + stage.starved_ns + stage.blocked_ns + stage.pool_wait_ns;
        let whole = stage.concurrency as f64 * stage.wall_ns as f64;
        let ratio = if whole > 0.0 { sum as f64 / whole } else { 1.0 };
        assert!((0.99..=1.01).contains(&ratio), "{}: {ratio}", stage.name);
        assert!(stage.hol_wait_ns <= stage.blocked_ns);
    }
}

/// Takes all from `outlet` at a pace, and looks now and then.
async fn looked_at(pipeline: Pipeline, mut outlet: pitwire_pipeline::Receiver<u64>, pace: Duration) -> Snapshot {
    let start = pipeline.snapshot();
    let mut last = start.clone();
    let mut taken = 0;
    while outlet.recv().await.is_some() {
        taken += 1;
        if taken % 50 == 0 {
            let now = pipeline.snapshot();
            assert_identity(&now);
            assert_identity(&now.since(&last));
            last = now;
        }
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
    }
    let ended = pipeline.join().await;
    assert_identity(&ended.snapshot);
    ended.snapshot
}

#[tokio::test(start_paused = true)]
async fn times_sum_up_to_concurrency_times_the_clock_whatever_limits() {
    // (operation of a, of b, pace of the taker) in ms
    for (a, b, pace) in [(10, 1, 0), (1, 10, 0), (1, 1, 10), (0, 0, 0), (5, 5, 1)] {
        for order in [Order::Input, Order::Completion, Order::Key] {
            let mut builder = Builder::new("identity");
            let input = builder.input("in", items(4));
            let input = input.source("numbers", from_iter(0..200_u64), OnSourceError::FailPipeline);
            let stage = input.chain().stage("a").concurrency(3);
            let stage = if order == Order::Key { stage.order_by_key(|n| n % 5) } else { stage.order(order) };
            let stage = stage.on_failure(Policy::fail()).run(takes(move |n| a * (1 + n % 3)), items(4));
            let stage = stage.stage("b").concurrency(2).on_failure(Policy::fail());
            let outlet = stage.run(takes(move |_| b), items(4)).outlet("test");
            let pipeline = builder.build().unwrap().start();
            looked_at(pipeline, outlet, Duration::from_millis(pace)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_sum_up_on_real_threads_with_a_pool_too() {
    let mut builder = Builder::new("identity");
    let pool = builder.pool("cpu", 2, 4);
    let input = builder.input("in", items(16)).source("n", from_iter(0..3_000_u64), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(4).on_failure(Policy::fail());
    let spin = |n: &mut u64| Ok((0..2_000).fold(*n, |sum, k| std::hint::black_box(sum ^ k)));
    let stage = stage.cpu(pool, spin, items(16)).stage("b").concurrency(3).on_failure(Policy::fail());
    let outlet = stage.run(Yields(Inside::default()), items(16)).outlet("test");
    let snapshot = looked_at(builder.build().unwrap().start(), outlet, Duration::ZERO).await;
    assert_eq!((snapshot.stages[0].given, snapshot.stages[1].given), (3_000, 3_000));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_stage_is_not_a_busy_one_and_a_starved_one_neither() {
    let mut builder = Builder::new("blocked");
    let input = builder.input("in", items(4)).source("numbers", from_iter(0..100_u64), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(2).on_failure(Policy::fail()).run(takes(|_| 1), items(2));
    let stage = stage.stage("slow").on_failure(Policy::fail()).run(takes(|_| 100), items(2));
    let stage = stage.stage("c").concurrency(3).on_failure(Policy::fail());
    let outlet = stage.run(takes(|_| 1), items(2)).outlet("test");
    let snapshot = looked_at(builder.build().unwrap().start(), outlet, Duration::ZERO).await;
    let [a, slow, c] = [0, 1, 2].map(|n| &snapshot.stages[n]);
    assert!(a.busy() < 0.02 && a.blocked() > 0.9, "{a:?}");
    assert!(slow.busy() > 0.98, "{slow:?}");
    assert!(c.busy() < 0.02 && c.starved() > 0.95, "{c:?}");
    assert!(snapshot.queue("a").unwrap().full > 0.9);
    assert!(snapshot.queue("slow").unwrap().empty > 0.95);
    assert!(snapshot.queue("a").unwrap().blocked_ms > 9_000, "{:?}", snapshot.queue("a"));
    let p50 = slow.latency.quantile(0.5).unwrap().as_secs_f64();
    assert!((0.094..0.107).contains(&p50), "{p50}");
}

#[tokio::test(start_paused = true)]
async fn counts_queues_and_peaks_are_as_they_were() {
    let mut builder = Builder::new("counts");
    let (input, chain) = builder.push_input("in", "test", items(5));
    let (way_in, _kept) = quarantine("kept", 9);
    let stage = chain.stage("a").on_failure(Policy::quarantine(way_in));
    let chain = stage.map(|n: u64| async move { if n == 2 { Err("two".into()) } else { Ok(n) } }, items(5));
    let mut outlet = chain.aggregate("pairs", Aggregate::new().items(2), items(5)).outlet("taker");
    let plan = builder.build().unwrap();
    for n in 0..5 {
        input.send(n).await.unwrap();
    }
    let pipeline = plan.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let snapshot = pipeline.snapshot();
    let [a, pairs] = [0, 1].map(|n| &snapshot.stages[n]);
    assert_eq!((a.taken, a.given, a.failed, a.quarantined, a.in_progress), (5, 4, 1, 1, 0));
    assert_eq!((pairs.taken, pairs.given), (4, 2));
    let seen: Vec<_> = snapshot.queues.iter().map(|q| (q.name.as_str(), q.items, q.items_peak, q.taken)).collect();
    assert_eq!(seen, [("in", 0, 5, 5), ("a", 0, 4, 4), ("pairs", 2, 2, 0)]);
    assert_eq!(outlet.recv().await, Some(vec![0, 1]));
    let later = pipeline.snapshot().since(&snapshot);
    assert_eq!((later.stages[0].taken, later.queues[2].taken), (0, 1));
    drop(input);
}

#[tokio::test(start_paused = true)]
async fn without_statistics_counts_are_kept_and_times_are_not() {
    let mut builder = Builder::new("off").statistics(false);
    let input = builder.input("in", items(4)).source("numbers", from_iter(0..100_u64), OnSourceError::FailPipeline);
    let stage = input.chain().stage("a").concurrency(3).on_failure(Policy::fail());
    let mut outlet = stage.run(takes(|n| n % 3), items(4)).outlet("test");
    let pipeline = builder.build().unwrap().start();
    let mut out = Vec::new();
    while let Some(item) = outlet.recv().await {
        out.push(item);
    }
    assert!(out.is_sorted());
    let snapshot = pipeline.join().await.snapshot;
    let stage = &snapshot.stages[0];
    assert_eq!((stage.taken, stage.given, stage.latency.count()), (100, 100, 0));
    assert_eq!((stage.busy_ns, stage.starved_ns, stage.blocked_ns, stage.pool_wait_ns), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_can_be_written_as_json() {
    let mut builder = Builder::new("json");
    let (input, chain) = builder.push_input("in", "test", items(4));
    let mut outlet = chain.stage("a").on_failure(Policy::skip()).run(takes(|_| 5), items(4)).outlet("taker");
    let pipeline = builder.build().unwrap().start();
    input.send(1).await.unwrap();
    outlet.recv().await.unwrap();
    let json = serde_json::to_value(pipeline.snapshot()).unwrap();
    assert_eq!(json["stages"][0]["name"], "a");
    assert_eq!(json["stages"][0]["latency"]["count"], 1);
    assert_eq!(json["queues"][1]["name"], "a");
}

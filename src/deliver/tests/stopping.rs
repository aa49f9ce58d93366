//! The stop, in every state.

use super::*;

#[tokio::test]
async fn a_stop_with_a_store_that_works_stores_what_is_left_at_once() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Slow(ms(20)));
    for _ in 0..60 {
        bench.send(&[("a", 1)]).await;
    }
    let (left, counts, took) = bench.end().await;
    assert_eq!((left, counts.in_flight, counts.stored + counts.backlog), (0, 0, 60));
    assert!(took < ms(1_000), "{took:?}");
}

#[tokio::test]
async fn a_stop_without_a_store_spills_what_is_left_without_waiting_for_d() {
    let dir = temporary();
    let mut setup = Setup::default();
    setup.config.durable_within = ms(5_000);
    setup.config.drain_within = ms(8_000);
    let bench = Bench::start_with(&dir, Script::Refuses, setup);
    for _ in 0..60 {
        bench.send(&[("a", 1)]).await;
    }
    bench.until("taken", |b| b.stats.snapshot().pending_flushes == 60).await;
    let fired = bench.fired.clone();
    let (left, counts, took) = bench.end().await;
    assert_eq!((left, counts.backlog, fired.load(Ordering::SeqCst)), (0, 60, 60));
    assert!(took < ms(1_500), "{took:?}");
}

#[tokio::test]
async fn a_stop_with_a_store_that_hangs_spills_within_d() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Works);
    bench.send(&[("a", 1)]).await;
    bench.until("up", |b| b.counts().stored == 1).await;
    bench.store.now(Script::Hangs);
    for _ in 0..60 {
        bench.send(&[("a", 1)]).await;
    }
    let (left, counts, took) = bench.end().await;
    assert_eq!((left, counts.backlog, counts.stored), (0, 60, 1));
    assert!(took < ms(1_000), "{took:?}");
}

#[tokio::test]
async fn a_stop_leaves_the_backlog_where_it_is_safe_and_the_next_run_recovers_it() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    for _ in 0..200 {
        bench.send(&[("a", 1)]).await;
    }
    bench.until("spilled", |b| b.counts().backlog == 200).await;
    bench.store.now(Script::Slow(ms(50)));
    bench.until("draining", |b| b.counts().stored > 0).await;
    let store = bench.store.clone();
    let (left, counts, took) = bench.end().await;
    assert_eq!((left, counts.stored + counts.backlog), (0, 200));
    assert!(counts.backlog > 0 && took < ms(1_000), "{counts:?} {took:?}");
    store.now(Script::Works);
    let again = Bench::start_on(dir.path(), store.clone(), connect_to(&store), Setup::default());
    let recovered = again.counts().recovered;
    assert!(recovered >= counts.backlog, "what was stored of unfinished segments may come again");
    again.until("drained", |b| b.counts().backlog == 0).await;
    let now = again.ledger.snapshot();
    assert_eq!((now.total.stored, now.sources["ecu"].recovered), (recovered, recovered));
    assert_eq!(store.samples(), 200, "a reader sees each sample once");
}

#[tokio::test]
async fn a_stop_while_neither_store_nor_disk_answers_ends_in_time_and_says_what_is_lost() {
    for (script, hangs) in [(Script::Hangs, true), (Script::Refuses, false), (Script::Panics, false)] {
        let dir = temporary();
        let bench = Bench::start(&dir, script);
        if hangs {
            bench.disk.hangs(true)
        } else {
            bench.disk.fails(true)
        }
        bench.quarantine_disk.fails(true);
        for _ in 0..20 {
            bench.send(&[("a", 1)]).await;
        }
        bench.push(bench.malformed(10)).await;
        tokio::time::sleep(ms(300)).await;
        let (fired, disk) = (bench.fired.clone(), bench.disk.clone());
        let (left, counts, took) = bench.end().await;
        disk.hangs(false);
        assert_eq!((left, counts.in_flight, fired.load(Ordering::SeqCst)), (20, 20, 0), "{script:?}");
        assert!(took < ms(4_500), "drain_within is 2 s and closing 2 s at most: {took:?}");
    }
}

#[tokio::test]
async fn a_stop_ends_in_time_although_the_pipeline_is_held_back_and_never_says_its_end() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    bench.disk.fails(true);
    while bench.try_large(400 << 10).await {}
    assert!(bench.stats.snapshot().holding_back);
    let began = Instant::now();
    bench.stop.cancel();
    let Bench { task, sender, ledger, .. } = bench;
    let left = tokio::time::timeout(ms(6_000), task).await.expect("delivery does not end").unwrap();
    assert!(began.elapsed() < ms(4_500), "{:?}", began.elapsed());
    assert!(left > 0 && ledger.snapshot().balanced, "{:?}", ledger.snapshot());
    let sender = sender.unwrap();
    let more = sender.send(Outgoing::Flush(Flush {
        rows: Rows::default(),
        receipts: Vec::new(),
        tally: crate::ledger::Tally::default(),
        accepted_at: Instant::now(),
        priority: Priority::Normal,
    }));
    assert!(tokio::time::timeout(ms(1_000), more).await.expect("whoever sends learns of the end").is_err());
}

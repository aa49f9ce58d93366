//! The store works, fails, hangs, comes back.

use super::*;

#[tokio::test]
async fn while_the_store_takes_writes_all_is_stored_and_nothing_is_written_to_the_disk() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Works);
    for _ in 0..50 {
        bench.send(&[("a", 10), ("b", 5)]).await;
        tokio::time::sleep(ms(5)).await;
    }
    bench.until("stored", |b| b.counts().stored == 750).await;
    assert_eq!((bench.fired(), bench.stats.snapshot().mode), (50, Mode::Direct));
    assert_eq!(bench.stats.snapshot().samples_written, 750);
    assert_eq!((bench.spill.stats().written_bytes, bench.spill.stats().syncs), (0, 0));
    let store = bench.store.clone();
    let spill = bench.dir.join("spill");
    let (left, counts, _) = bench.end().await;
    assert_eq!((left, counts.stored, counts.in_flight, store.samples()), (0, 750, 0, 750));
    assert_eq!(std::fs::read_dir(spill).unwrap().count(), 0);
}

#[tokio::test]
async fn what_the_pipeline_held_up_goes_to_a_store_that_is_well_not_to_the_disk() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Works);
    bench.send(&[("a", 1)]).await;
    bench.until("up", |b| b.counts().stored == 1).await;
    let mut late = bench.flush(&[("a", 1)]);
    late.accepted_at -= ms(5_000);
    bench.push(Outgoing::Flush(late)).await;
    bench.until("stored", |b| b.counts().stored == 2).await;
    assert_eq!(bench.spill.stats().written_bytes, 0);
}

#[tokio::test]
async fn with_a_store_that_hangs_receipts_fire_at_d_with_the_sync_of_the_spill_and_not_before() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Works);
    bench.send(&[("a", 1)]).await;
    bench.until("up", |b| b.counts().stored == 1).await;
    bench.store.now(Script::Hangs);
    for _ in 0..20 {
        bench.send(&[("a", 10)]).await;
    }
    tokio::time::sleep(ms(120)).await;
    assert_eq!((bench.fired(), bench.counts().in_flight, bench.spill.stats().syncs), (1, 200, 0), "before D");
    let took = bench.until("spilled", |b| b.counts().backlog == 200).await;
    assert!(took < ms(500), "D plus a sync, it took {took:?} more");
    assert_eq!((bench.fired(), bench.stats.snapshot().mode), (21, Mode::Spilling));
    assert_eq!(bench.spill.stats().backlog_weight, 200);
    assert!(bench.spill.stats().syncs <= 6, "one sync serves many: {}", bench.spill.stats().syncs);
    assert_eq!(bench.store.in_flight.load(Ordering::SeqCst), 0, "what hung was given up");
}

#[tokio::test]
async fn a_store_that_fails_at_once_is_not_asked_as_fast_as_it_can_fail() {
    for script in [Script::Refuses, Script::ReadsOnly] {
        let dir = temporary();
        let bench = Bench::start(&dir, Script::Works);
        bench.send(&[("a", 1)]).await;
        bench.until("up", |b| b.counts().stored == 1).await;
        bench.store.now(script);
        let (writes, cpu) = (bench.store.writes(), cpu_time());
        for _ in 0..100 {
            bench.send(&[("a", 10)]).await;
            tokio::time::sleep(ms(20)).await;
        }
        let (writes, cpu) = (bench.store.writes() - writes, cpu_time() - cpu);
        assert!(writes < 40, "{script:?}: {writes} writes in 2 s");
        assert!(cpu < ms(600), "{script:?}: {cpu:?} of CPU in 2 s");
        bench.until("spilled", |b| b.counts().backlog == 1_000).await;
        assert_eq!(bench.fired(), 101);
        let (left, counts, _) = bench.end().await;
        assert_eq!((left, counts.backlog), (0, 1_000), "{script:?}");
    }
}

#[tokio::test]
async fn after_an_outage_the_backlog_drains_to_nothing_and_each_row_is_there() {
    for outage in [Script::Hangs, Script::Refuses, Script::ReadsOnly] {
        let dir = temporary();
        let bench = Bench::start(&dir, outage);
        for _ in 0..100 {
            bench.send(&[("a", 10)]).await;
        }
        bench.until("spilled", |b| b.counts().backlog == 1_000).await;
        bench.store.now(Script::Works);
        bench.until("drained", |b| b.spill.stats().backlog_records == 0).await;
        assert_eq!(bench.stats.snapshot().mode, Mode::Direct);
        let store = bench.store.clone();
        assert!(store.in_flight_max.load(Ordering::SeqCst) <= usize::from(Config::default().writes_in_flight));
        let (left, counts, _) = bench.end().await;
        assert_eq!((left, counts.stored, counts.backlog, store.samples()), (0, 1_000, 0, 1_000), "{outage:?}");
    }
}

#[tokio::test]
async fn live_data_does_not_wait_for_the_backlog() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    for _ in 0..600 {
        bench.send(&[("old", 1)]).await;
    }
    bench.until("spilled", |b| b.counts().backlog == 600).await;
    bench.store.now(Script::Slow(ms(20)));
    bench.until("draining", |b| b.store.samples() > 30).await;
    let written = bench.spill.stats().written_bytes;
    for _ in 0..20 {
        let began = Instant::now();
        let before = bench.store.stored().get("new").copied().unwrap_or_default();
        bench.send(&[("new", 1)]).await;
        bench.until("live data stored", |b| b.store.stored().get("new").copied().unwrap_or_default() > before).await;
        assert!(began.elapsed() < ms(150), "{:?}", began.elapsed());
    }
    assert!(bench.spill.stats().backlog_records > 0, "the backlog was still there");
    bench.until("drained", |b| b.counts().stored == 620).await;
    assert_eq!(bench.spill.stats().written_bytes, written, "nothing new was spilled");
}

#[tokio::test]
async fn one_partition_that_fails_is_not_tried_in_a_loop_while_the_others_are_stored() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Without("bad"));
    let cpu = cpu_time();
    for _ in 0..60 {
        bench.send(&[("good", 1)]).await;
        bench.send(&[("bad", 1)]).await;
        tokio::time::sleep(ms(30)).await;
    }
    bench.until("settled", |b| b.counts().in_flight == 0).await;
    let (writes, stored) = (bench.store.writes(), bench.store.samples());
    assert!(writes < 60 + 200, "{writes} writes");
    assert!(cpu_time() - cpu < ms(800), "{:?} of CPU", cpu_time() - cpu);
    assert!(stored >= 1 && bench.counts().backlog >= 60, "{stored} stored");
    bench.store.now(Script::Works);
    bench.until("drained", |b| b.counts().stored == 120).await;
}

#[tokio::test]
async fn a_driver_that_panics_costs_no_sample_and_no_place_in_the_window() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Panics);
    for _ in 0..40 {
        bench.send(&[("a", 1)]).await;
    }
    bench.until("spilled", |b| b.counts().backlog == 40).await;
    assert!(bench.stats.snapshot().detail.contains("panicked"), "{}", bench.stats.snapshot().detail);
    bench.store.now(Script::Works);
    bench.until("stored", |b| b.counts().stored == 40).await;
    bench.store.now(Script::Panics);
    bench.send(&[("a", 1)]).await;
    bench.until("spilled", |b| b.counts().backlog == 1).await;
    bench.store.now(Script::Works);
    bench.until("stored", |b| b.counts().stored == 41).await;
    assert_eq!(bench.fired(), 41);
}

#[tokio::test]
async fn heartbeats_go_out_while_the_store_is_up_and_hold_nothing_up_when_it_hangs() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Works);
    bench.until("one heartbeat", |b| b.store.heartbeats.load(Ordering::SeqCst) == 1).await;
    bench.until("a second", |b| b.store.heartbeats.load(Ordering::SeqCst) == 2).await;
    bench.store.now(Script::Hangs);
    tokio::time::sleep(ms(5_500)).await;
    bench.send(&[("a", 1)]).await;
    bench.until("spilled", |b| b.counts().backlog == 1).await;
}

#[tokio::test]
async fn idle_it_takes_next_to_no_cpu_whatever_is_broken() {
    for (script, disk_fails) in [(Script::Works, false), (Script::Hangs, false), (Script::Refuses, true)] {
        let dir = temporary();
        let bench = Bench::start(&dir, script);
        bench.disk.fails(disk_fails);
        bench.quarantine_disk.fails(disk_fails);
        bench.send(&[("a", 1)]).await;
        bench.push(bench.malformed(100)).await;
        tokio::time::sleep(ms(1_000)).await;
        let (turns, cpu) = (bench.stats.snapshot().turns, cpu_time());
        tokio::time::sleep(ms(4_000)).await;
        let (turns, cpu) = (bench.stats.snapshot().turns - turns, cpu_time() - cpu);
        println!("{script:?}, failing disk {disk_fails}: {turns} turns, {cpu:?} of CPU in 4 s");
        assert!((3..40).contains(&turns), "{script:?}: {turns} turns in 4 s");
        assert!(cpu < ms(40), "{script:?}: {cpu:?} of CPU in 4 s");
        bench.counts();
    }
}

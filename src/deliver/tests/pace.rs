//! What is foretold of a drain, how live data and the backlog share a store that is slow, and what a long way there
//! changes: nothing.

use super::*;

#[tokio::test]
async fn the_end_of_a_steady_drain_is_foretold_within_a_fifth_at_each_quarter_of_it() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    for _ in 0..1_080 {
        bench.send(&[("a", 10)]).await;
    }
    bench.until("spilled", |b| b.counts().backlog == 10_800).await;
    // 12 writes at a time, each 200 ms: 60 records a second.
    bench.store.now(Script::Slow(ms(200)));
    bench.until("draining", |b| b.stats.snapshot().drain.is_some_and(|drain| drain.done > 0)).await;
    let began = Instant::now();
    let mut seen = Vec::new();
    while bench.counts().backlog > 0 {
        let foretold = bench.stats.snapshot().drain.and_then(|drain| drain.left);
        seen.push((began.elapsed(), bench.spill.stats().backlog_weight, foretold));
        assert!(began.elapsed() < Duration::from_secs(60), "it does not drain: {:?}", seen.last());
        tokio::time::sleep(ms(10)).await;
    }
    let end = began.elapsed();
    for quarter in 1..=3 {
        let at = seen.iter().find(|(_, left, _)| *left <= 10_800 - 2_700 * quarter).expect("it went by");
        let foretold = at.2.expect("it is known by then").as_secs_f64();
        let truth = (end - at.0).as_secs_f64();
        println!("at {} %: {foretold:.2} s foretold, {truth:.2} s were left", quarter * 25);
        assert!((foretold / truth - 1.0).abs() < 0.2, "at {} %: {foretold} s instead of {truth} s", quarter * 25);
    }
    bench.until("nothing drains", |b| b.stats.snapshot().drain.is_none()).await;
}

/// Offers live data beyond what a slow store takes beside a backlog; answers how many records of the backlog were
/// stored a second, and within which time 99 of 100 live flushes were durable.
async fn overloaded(backlog_share: u8) -> (f64, Duration) {
    // The store is slow here, not the disk: in memory, where there is such a place.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| temporary());
    let config = Config { durable_within: ms(1_000), backlog_share, ..Setup::default().config };
    let within = config.durable_within;
    let bench = Bench::start_with(&dir, Script::Refuses, Setup { config, ..Setup::default() });
    for _ in 0..900 {
        bench.send(&[("old", 1)]).await;
    }
    bench.until("spilled", |b| b.counts().backlog == 900).await;
    // 160 writes a second, and 250 live ones come.
    bench.store.now(Script::Slow(ms(100)));
    let old = |b: &Bench| b.store.stored().get("old").copied().unwrap_or_default();
    bench.until("draining", |b| old(b) > 0).await;
    let took = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut offer = tokio::time::interval(ms(20));
    let (mut began, mut before) = (Instant::now(), 0);
    for tick in 0..300 {
        offer.tick().await;
        if tick == 50 {
            // Until here the backlog's writes from before the live data came still counted.
            (began, before) = (Instant::now(), old(&bench));
        }
        for _ in 0..5 {
            let (mut flush, took, since) = (bench.flush(&[("new", 1)]), took.clone(), Instant::now());
            flush.receipts.push(Receipt::new(move || took.lock().unwrap().push(since.elapsed())));
            bench.push(Outgoing::Flush(flush)).await;
        }
        assert_eq!(bench.stats.snapshot().mode, Mode::Draining, "slow is not gone, after {tick} ticks");
    }
    let per_s = (old(&bench) - before) as f64 / began.elapsed().as_secs_f64();
    assert!(old(&bench) < 900, "the backlog was there all the while");
    bench.until("all live data is durable", |_| took.lock().unwrap().len() == 1_500).await;
    let mut took = std::mem::take(&mut *took.lock().unwrap());
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    assert!(p99 < 2 * within, "99 of 100 live flushes were durable within {p99:?}, D is {within:?}");
    let live = bench.store.stored().get("new").copied().unwrap_or_default();
    assert!(live > 200, "live data is stored too, not only spilled: {live}");
    (per_s, p99)
}

#[tokio::test]
async fn beyond_what_a_slow_store_takes_the_backlog_has_its_share_and_live_data_is_durable_in_time() {
    let (quarter, p99) = overloaded(25).await;
    println!("a quarter: {quarter:.1} records/s of the backlog, live p99 {p99:?}");
    let (half, p99) = overloaded(50).await;
    println!("a half: {half:.1} records/s of the backlog, live p99 {p99:?}");
    // 4 and 8 writes at a time of 100 ms are 40 and 80 a second; some go to reading and syncing.
    assert!((24.0..48.0).contains(&quarter), "{quarter} records/s");
    assert!((48.0..96.0).contains(&half), "{half} records/s");
}

#[tokio::test]
async fn a_healthy_store_300_ms_away_gets_a_wide_car_and_the_disk_nothing() {
    let dir = temporary();
    let config = Config::default();
    let flush_after = config.flush_after;
    let bench = Bench::start_with(&dir, Script::Slow(ms(300)), Setup { config, ..Setup::default() });
    bench.send(&[("first", 1)]).await;
    bench.until("up", |b| b.counts().stored == 1).await;
    // 782 channels at 100 Hz from four devices: five flushes a second each.
    let names: Vec<String> = (0..196).map(|channel| format!("channel.{channel}")).collect();
    let channels: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 20)).collect();
    let mut pace = tokio::time::interval(flush_after / 4);
    for _ in 0..120 {
        pace.tick().await;
        let mut flush = bench.flush(&channels);
        // Its first sample came when the chunk was opened.
        flush.accepted_at -= flush_after;
        bench.push(Outgoing::Flush(flush)).await;
        let now = bench.stats.snapshot();
        assert_eq!((now.mode, now.link), (Mode::Direct, LinkState::Up), "{now:?}");
    }
    bench.until("stored", |b| b.counts().stored == 1 + 120 * 196 * 20).await;
    assert_eq!((bench.spill.stats().written_bytes, bench.stats.snapshot().mode), (0, Mode::Direct));
    println!("at most {} writes at once", bench.store.in_flight_max.load(Ordering::SeqCst));
}

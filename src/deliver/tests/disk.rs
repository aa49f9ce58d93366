//! The spill is full, or its disk fails.

use std::collections::BTreeMap;

use super::*;
use crate::gap::{Gap, Reason};

/// Ten chunks of 400 KiB fill four MiB.
const LARGE: usize = 400 << 10;

fn small(overflow: Overflow) -> Setup {
    Setup { overflow, disk_max: ByteSize::mib(4), ..Setup::default() }
}

/// The samples that the stored gaps speak of, each gap once.
fn declared(bench: &Bench) -> u64 {
    let written = bench.store.written.lock().unwrap();
    let events = written.iter().flat_map(|rows| &rows.events);
    let gaps: BTreeMap<i64, u64> = events
        .map(|event| {
            let gap = Gap::parse(&event.text).unwrap();
            assert_eq!(
                (gap.reason, &gap.channels[..], event.device.as_str()),
                (Reason::Overflow, &["a".to_owned()][..], "ecu")
            );
            assert_eq!(Some(event.number as u64), gap.samples);
            (event.sequence, event.number as u64)
        })
        .collect();
    gaps.values().sum()
}

/// Sends large flushes until the bench takes no more or `max` is reached; answers how many it took.
async fn fill(bench: &Bench, max: usize) -> usize {
    for sent in 0..max {
        if !bench.try_large(LARGE).await {
            return sent;
        }
        tokio::time::sleep(ms(20)).await;
    }
    max
}

#[tokio::test]
async fn a_full_spill_drops_its_oldest_and_counts_them_exactly() {
    let dir = temporary();
    let bench = Bench::start_with(&dir, Script::Refuses, small(Overflow::DropOldest));
    assert_eq!(fill(&bench, 40).await, 40);
    bench.until("settled", |b| b.counts().in_flight == 0).await;
    let counts = bench.counts();
    let dropped = counts.dropped[&Policy::Overflow];
    assert!(dropped >= 300 && counts.backlog > 0, "{counts:?}");
    assert_eq!((dropped + counts.backlog, bench.fired()), (400, 40));
    assert_eq!((bench.spill.stats().dropped_weight, bench.spill.stats().backlog_weight), (dropped, counts.backlog));
    assert!(bench.spill.stats().disk_bytes <= 4 << 20);
    bench.store.now(Script::Works);
    bench.until("drained", |b| b.counts().backlog == 0).await;
    assert_eq!(bench.counts().stored, counts.backlog, "the newest are stored");
    bench.until("declared", |b| declared(b) >= dropped).await;
    assert_eq!(declared(&bench), dropped, "exactly what was dropped");
}

#[tokio::test]
async fn a_full_spill_told_to_drop_the_newest_keeps_what_it_has_and_counts_the_rest() {
    let dir = temporary();
    let bench = Bench::start_with(&dir, Script::Refuses, small(Overflow::DropNewest));
    assert_eq!(fill(&bench, 40).await, 40);
    bench.until("settled", |b| b.counts().in_flight == 0).await;
    let counts = bench.counts();
    assert_eq!((counts.dropped[&Policy::Overflow] + counts.backlog, bench.fired()), (400, 40));
    assert!(counts.backlog > 0 && bench.spill.stats().dropped_records == 0);
    let stats = bench.stats.snapshot();
    assert!(stats.spill_full && stats.spill_fault.is_some_and(|fault| fault.contains("bytes are used")));
    bench.store.now(Script::Works);
    bench.until("drained", |b| b.counts().backlog == 0).await;
    let first_is_there =
        bench.store.written.lock().unwrap().iter().any(|rows| rows.chunks.first().is_some_and(|chunk| chunk.seq == 0));
    assert!(first_is_there && bench.counts().stored == counts.backlog);
    let dropped = counts.dropped[&Policy::Overflow];
    bench.until("declared", |b| declared(b) >= dropped).await;
    assert_eq!(declared(&bench), dropped, "exactly what was dropped");
}

#[tokio::test]
async fn a_full_spill_told_to_block_holds_the_sources_back_and_drops_nothing() {
    let dir = temporary();
    let bench = Bench::start_with(&dir, Script::Refuses, small(Overflow::Block));
    let sent = fill(&bench, 200).await;
    assert!((60..200).contains(&sent), "24 MiB in memory and 4 on disk, it took {sent}");
    let stats = bench.stats.snapshot();
    assert!(stats.holding_back && stats.pending_bytes < 30 << 20, "{stats:?}");
    let counts = bench.counts();
    assert!(counts.dropped.is_empty() && counts.in_flight > 0 && counts.backlog > 0, "{counts:?}");
    bench.store.now(Script::Works);
    let took = bench.until("stored", |b| b.counts().in_flight == 0 && b.counts().backlog == 0).await;
    assert!(took < ms(10_000), "{took:?}");
    assert_eq!(bench.fired(), sent);
}

#[tokio::test]
async fn a_disk_that_fails_while_the_store_is_away_bounds_memory_and_both_recover_alone() {
    for disk_first in [true, false] {
        let dir = temporary();
        let bench = Bench::start(&dir, Script::Refuses);
        bench.disk.fails(true);
        let sent = fill(&bench, 200).await;
        assert!((50..100).contains(&sent), "24 MiB of memory, it took {sent}");
        let stats = bench.stats.snapshot();
        assert!(stats.holding_back && stats.pending_bytes < 26 << 20, "{stats:?}");
        assert_eq!((bench.fired(), bench.counts().backlog), (0, 0), "no receipt without a sync");
        assert!(stats.spill_fault.is_some());
        let took = if disk_first {
            bench.disk.fails(false);
            bench.until("spilled", |b| b.fired() == sent).await
        } else {
            bench.store.now(Script::Works);
            bench.until("stored", |b| b.fired() == sent).await
        };
        assert!(took < ms(10_000), "{took:?}, the disk first: {disk_first}");
        assert!(!bench.stats.snapshot().holding_back);
    }
}

#[tokio::test]
async fn after_a_disk_has_failed_d_holds_again_once_it_works() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    bench.disk.fails(true);
    bench.send(&[("a", 1)]).await;
    bench.until("a fault", |b| b.stats.snapshot().spill_fault.is_some()).await;
    bench.store.now(Script::Works);
    bench.until("stored", |b| b.counts().stored == 1).await;
    bench.disk.fails(false);
    tokio::time::sleep(ms(5_000)).await;
    bench.store.now(Script::Hangs);
    bench.send(&[("a", 1)]).await;
    let took = bench.until("spilled", |b| b.counts().backlog == 1).await;
    assert!(took < ms(600), "D is 200 ms, it took {took:?}");
    assert!(bench.stats.snapshot().spill_fault.is_none());
}

#[tokio::test]
async fn live_data_is_stored_while_the_disk_hangs_in_a_sync() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    bench.disk.hangs(true);
    bench.send(&[("old", 1)]).await;
    tokio::time::sleep(ms(400)).await;
    bench.store.now(Script::Works);
    bench.until("up", |b| b.stats.snapshot().link == LinkState::Up).await;
    for _ in 0..10 {
        bench.send(&[("new", 1)]).await;
    }
    bench.until("live data stored", |b| b.counts().stored >= 10).await;
    assert_eq!(bench.store.stored().get("new"), Some(&10));
    bench.disk.hangs(false);
    bench.until("all stored", |b| b.counts().stored == 11).await;
}

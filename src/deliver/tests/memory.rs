//! Neither the store nor the spill can be written.

use super::*;
use crate::limits::{KEPT_BYTES_MAX, UNSTORED_BYTES_MAX, UNSTORED_FLUSHES_MAX};

const LARGE: usize = 400 << 10;
/// Samples of each flush.
const SAMPLES: u64 = 10;

/// A bench whose store refuses and whose disk fails from the start.
fn nowhere(dir: &TempDir, overflow: Overflow) -> Bench {
    let bench = Bench::start_with(dir, Script::Refuses, Setup { overflow, ..Setup::default() });
    bench.disk.fails(true);
    bench
}

impl Bench {
    /// A flush of a serial port, as the pipeline gives it: a receipt that nobody waits for.
    fn serial(&self, bytes: usize) -> Flush {
        let sequence = self.sent.fetch_add(1, Ordering::SeqCst) as i64;
        let mut rows = rows(&[("serial", SAMPLES as i32)]);
        (rows.chunks[0].seq, rows.chunks[0].data) = (sequence, vec![7; bytes]);
        let tally = self.ledger.receive(self.ledger.source("port"), SAMPLES);
        Flush {
            rows,
            receipts: vec![Receipt::unowed()],
            tally,
            accepted_at: Instant::now(),
            priority: Priority::default(),
        }
    }

    fn message(&self, bytes: usize) -> Flush {
        let mut flush = self.flush(&[("mqtt", SAMPLES as i32)]);
        flush.rows.chunks[0].data = vec![7; bytes];
        flush
    }

    /// Gives it to delivery; `false` if that takes nothing more.
    async fn offer(&self, make: impl FnOnce(&Self) -> Flush, bytes: usize) -> bool {
        let sender = self.sender.as_ref().expect("the bench still runs");
        let Ok(room) = tokio::time::timeout(ms(2_000), sender.room(bytes + 1_024)).await else { return false };
        room.expect("delivery has ended").put(Outgoing::Flush(make(self)));
        // What was sent is judged in order, not in bursts.
        tokio::task::yield_now().await;
        true
    }

    fn of(&self, source: &str) -> Counts {
        self.ledger.snapshot().sources.get(source).cloned().unwrap_or_default()
    }

    fn dropped(&self) -> u64 {
        self.of("port").dropped.get(&Policy::Memory).copied().unwrap_or_default()
    }

    /// Waits until all that was sent has been taken out of the queue and memory is at its bound.
    async fn until_bounded(&self) {
        self.until("bounded", |b| {
            let pending = b.stats.snapshot().pending_flushes as u64;
            pending * SAMPLES == b.counts().in_flight && !b.stats.snapshot().holding_back
        })
        .await;
    }

    /// Sequences of serial flushes that the store has.
    fn serial_stored(&self) -> std::collections::BTreeSet<i64> {
        let written = self.store.written.lock().unwrap();
        let chunks = written.iter().flat_map(|rows| &rows.chunks);
        chunks.filter(|chunk| chunk.channel == "serial").map(|chunk| chunk.seq).collect()
    }
}

#[tokio::test]
async fn memory_drops_what_nobody_can_send_again_and_counts_it_exactly_and_keeps_messages() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let dir = temporary();
        let bench = nowhere(&dir, overflow);
        let (mut ports, mut messages) = (0, 0);
        for turn in 0..150 {
            // No faster than spilling is tried: else the first append takes what is to be judged.
            if turn % 10 == 5 {
                assert!(bench.offer(|b| b.message(LARGE), LARGE).await, "{overflow:?}: message {messages}");
                messages += 1;
            } else {
                assert!(bench.offer(|b| b.serial(LARGE), LARGE).await, "{overflow:?}: serial flush {ports}");
                ports += 1;
            }
            tokio::time::sleep(ms(5)).await;
        }
        bench.until_bounded().await;
        let (dropped, stats) = (bench.dropped(), bench.stats.snapshot());
        println!("{overflow:?}: {dropped} samples of {} dropped, {stats:?}", ports * SAMPLES);
        assert!(dropped >= 50 * SAMPLES, "{dropped}");
        assert!(stats.pending_bytes <= UNSTORED_BYTES_MAX && stats.alarm.contains("dropped.memory"), "{stats:?}");
        assert_eq!(bench.of("port").in_flight + dropped, ports * SAMPLES);
        assert_eq!((bench.of("ecu").in_flight, bench.of("ecu").dropped.len()), (messages * SAMPLES, 0));
        assert_eq!((bench.fired(), bench.counts().backlog), (0, 0), "no receipt without a sync");

        bench.disk.fails(false);
        let took = bench.until("spilled", |b| b.counts().in_flight == 0).await;
        assert!(took < ms(10_000), "{took:?}");
        assert_eq!((bench.dropped(), bench.fired() as u64), (dropped, messages), "{overflow:?}");
        bench.until("the alarm is over", |b| b.stats.snapshot().alarm.is_empty()).await;
        bench.store.now(Script::Works);
        bench.until("drained", |b| b.counts().backlog == 0).await;
        let stored = bench.serial_stored();
        assert_eq!(stored.len() as u64 * SAMPLES, ports * SAMPLES - dropped);
        let has = [stored.contains(&0), stored.contains(&149)];
        assert_eq!(has, if overflow == Overflow::DropOldest { [false, true] } else { [true, false] }, "{overflow:?}");
        let (left, counts, _) = bench.end().await;
        assert_eq!((left, counts.stored + dropped), (0, (ports + messages) * SAMPLES));
    }
}

#[tokio::test]
async fn memory_that_is_told_to_block_drops_nothing_and_holds_everything_back() {
    let dir = temporary();
    let bench = nowhere(&dir, Overflow::Block);
    let mut sent = 0;
    while sent < 200 && bench.offer(|b| b.serial(LARGE), LARGE).await {
        sent += 1;
    }
    assert!((50..100).contains(&sent), "24 MiB of memory and a queue, it took {sent}");
    let stats = bench.stats.snapshot();
    assert!(stats.holding_back && stats.alarm.contains("held back"), "{stats:?}");
    assert_eq!((bench.dropped(), bench.counts().in_flight), (0, sent * SAMPLES));
    bench.disk.fails(false);
    let took = bench.until("spilled", |b| b.counts().backlog == sent * SAMPLES).await;
    assert!(took < ms(10_000), "{took:?}");
    assert!(!bench.stats.snapshot().holding_back && bench.stats.snapshot().alarm.is_empty());
}

#[tokio::test]
async fn messages_fill_their_part_of_memory_and_then_hold_back_with_none_dropped() {
    let dir = temporary();
    let bench = nowhere(&dir, Overflow::DropOldest);
    // The ring is full before: messages take its place, and serial flushes still come through.
    for _ in 0..80 {
        assert!(bench.offer(|b| b.serial(LARGE), LARGE).await);
        tokio::time::sleep(ms(5)).await;
    }
    let mut messages = 0;
    while messages < 200 && bench.offer(|b| b.message(LARGE), LARGE).await {
        messages += 1;
        if bench.stats.snapshot().holding_back {
            continue;
        }
        assert!(bench.offer(|b| b.serial(100), 100).await, "{messages} messages");
    }
    let kept = messages * LARGE as u64;
    let queue = 8 << 20;
    assert!((KEPT_BYTES_MAX as u64..KEPT_BYTES_MAX as u64 + queue + (2 << 20)).contains(&kept), "{messages} messages");
    let stats = bench.stats.snapshot();
    assert!(stats.holding_back && stats.pending_bytes <= UNSTORED_BYTES_MAX + LARGE, "{stats:?}");
    assert_eq!((bench.of("ecu").dropped.len(), bench.fired()), (0, 0));
    assert!(bench.dropped() > 0);
    bench.disk.fails(false);
    let took = bench.until("spilled", |b| b.counts().in_flight == 0).await;
    assert!(took < ms(10_000), "{took:?}");
    assert_eq!(bench.fired() as u64, messages);
}

#[tokio::test]
async fn many_small_messages_do_not_push_serial_flushes_out_by_their_number() {
    let dir = temporary();
    let bench = nowhere(&dir, Overflow::DropOldest);
    let each = UNSTORED_FLUSHES_MAX as u64 + 200;
    for _ in 0..each {
        assert!(bench.offer(|b| b.message(10), 10).await && bench.offer(|b| b.serial(10), 10).await);
    }
    bench.until("a fault", |b| b.stats.snapshot().spill_fault.is_some()).await;
    bench.until_bounded().await;
    let (port, dropped) = (bench.of("port"), bench.dropped());
    assert_eq!(port.in_flight + dropped, each * SAMPLES);
    assert!(port.in_flight >= (UNSTORED_FLUSHES_MAX as u64 - 1) * SAMPLES && dropped > 0, "{port:?}");
    assert_eq!(bench.of("ecu").in_flight, each * SAMPLES);
    bench.store.now(Script::Works);
    bench.until("stored", |b| b.counts().in_flight == 0).await;
    assert_eq!((bench.counts().stored, bench.dropped()), (2 * each * SAMPLES - dropped, dropped));
}

#[tokio::test]
async fn a_disk_that_hangs_counts_as_one_that_fails_after_a_while() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    bench.disk.hangs(true);
    assert!(bench.offer(|b| b.serial(LARGE), LARGE).await);
    bench.until("an alarm", |b| !b.stats.snapshot().alarm.is_empty()).await;
    for sent in 0..120 {
        assert!(bench.offer(|b| b.serial(LARGE), LARGE).await, "{sent}");
        tokio::time::sleep(ms(2)).await;
    }
    bench.until_bounded().await;
    assert!(bench.dropped() > 0);
    assert_eq!(bench.of("port").in_flight + bench.dropped(), 121 * SAMPLES);
    bench.disk.hangs(false);
    let took = bench.until("spilled", |b| b.counts().in_flight == 0).await;
    assert!(took < ms(10_000), "{took:?}");
}

#[tokio::test]
async fn a_disk_that_hangs_is_an_alarm_though_it_took_data_before() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    assert!(bench.offer(|b| b.serial(100), 100).await);
    bench.until("spilled", |b| b.counts().backlog == SAMPLES).await;
    assert_eq!(bench.stats.snapshot().alarm, "");
    bench.disk.hangs(true);
    assert!(bench.offer(|b| b.serial(100), 100).await);
    bench.until("an alarm", |b| !b.stats.snapshot().alarm.is_empty()).await;
    bench.disk.hangs(false);
    bench.until("spilled", |b| b.counts().in_flight == 0).await;
    bench.until("the alarm is over", |b| b.stats.snapshot().alarm.is_empty()).await;
}

#[tokio::test]
async fn a_message_that_repeats_what_memory_has_dropped_counts_as_the_original() {
    let dir = temporary();
    let bench = nowhere(&dir, Overflow::DropOldest);
    bench.push(Outgoing::Flush(bench.serial(100))).await;
    bench.until("a fault", |b| b.stats.snapshot().spill_fault.is_some()).await;
    // This one has a repetition that waits for it, that one has none yet.
    let (joined, lonely) = (bench.serial(100), bench.serial(100));
    let (fired, watch) = (bench.fired.clone(), lonely.receipts[0].watch());
    let repeat = Receipt::new(move || {
        fired.fetch_add(1, Ordering::SeqCst);
    });
    assert!(joined.receipts[0].watch().join(repeat).is_ok());
    bench.push(Outgoing::Flush(joined)).await;
    bench.push(Outgoing::Flush(lonely)).await;
    for _ in 0..90 {
        assert!(bench.offer(|b| b.serial(LARGE), LARGE).await);
    }
    bench.until("the ring has turned", |b| b.dropped() >= 20 * SAMPLES).await;
    assert!(watch.is_void(), "its repetition is not acknowledged for a sample that is gone");
    bench.store.now(Script::Works);
    bench.until("stored", |b| b.counts().in_flight == 0).await;
    assert!(bench.serial_stored().contains(&1) && !bench.serial_stored().contains(&2));
    assert_eq!(bench.fired(), 1);
}

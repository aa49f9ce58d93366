//! Channels of different priorities: what gives way, and what comes first.

use super::*;
use crate::gap::{Gap, Reason};

const LARGE: usize = 400 << 10;

fn all() -> Setup {
    Setup { priorities: Priority::ALL.to_vec(), disk_max: ByteSize::mib(12), ..Setup::default() }
}

/// The channel of a priority here.
const fn channel(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "brake",
        Priority::Normal => "speed",
        Priority::Low => "vibration",
    }
}

impl Bench {
    fn flush_of(&self, priority: Priority, bytes: usize) -> Flush {
        let mut flush = self.flush(&[(channel(priority), 10)]);
        let chunk = &mut flush.rows.chunks[0];
        chunk.data = vec![7; bytes];
        // One after the other, as a device sends.
        let later_us = chunk.seq * 200_000;
        (chunk.d0, chunk.t0, chunk.t1) = (chunk.d0 + later_us, chunk.t0 + later_us, chunk.t1 + later_us);
        Flush { priority, ..flush }
    }

    async fn send_of(&self, priority: Priority, bytes: usize) {
        self.push(Outgoing::Flush(self.flush_of(priority, bytes))).await;
    }

    /// The channels of the stored chunks, in the order in which they were written.
    fn order(&self) -> Vec<String> {
        let written = self.store.written.lock().unwrap();
        written.iter().flat_map(|rows| &rows.chunks).map(|chunk| chunk.channel.clone()).collect()
    }

    /// Samples that the stored gaps speak of, by channel.
    fn declared_of(&self, priority: Priority) -> u64 {
        let written = self.store.written.lock().unwrap();
        let events = written.iter().flat_map(|rows| &rows.events);
        let gaps: std::collections::BTreeMap<i64, u64> = events
            .filter_map(|event| {
                let gap = Gap::parse(&event.text).unwrap();
                assert_eq!(gap.reason, Reason::Overflow);
                let ours = gap.channels == [channel(priority).to_owned()];
                ours.then_some((event.sequence, event.number as u64))
            })
            .collect();
        gaps.values().sum()
    }
}

#[tokio::test]
async fn a_full_spill_gives_up_what_matters_least_and_drains_what_matters_most_first() {
    let dir = temporary();
    let bench = Bench::start_with(&dir, Script::Refuses, all());
    for _ in 0..14 {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            bench.send_of(priority, LARGE).await;
            tokio::time::sleep(ms(20)).await;
        }
    }
    bench.until("settled", |b| b.counts().in_flight == 0).await;
    let counts = bench.counts();
    let dropped = counts.dropped[&Policy::Overflow];
    assert_eq!((dropped + counts.backlog, bench.fired()), (420, 42), "{counts:?}");
    let of = |wanted| bench.spill.each().find(|(priority, _)| *priority == wanted).unwrap().1.stats();
    let [high, normal, low] = Priority::ALL.map(of);
    println!("dropped: high {}, normal {}, low {}", high.dropped_weight, normal.dropped_weight, low.dropped_weight);
    assert_eq!((high.dropped_weight, high.backlog_weight), (0, 140));
    assert!(low.dropped_weight >= 60 && low.backlog_weight > 0, "{low:?}");
    assert_eq!(high.dropped_weight + normal.dropped_weight + low.dropped_weight, dropped);
    assert!(bench.spill.stats().disk_bytes <= 12 << 20);
    bench.store.now(Script::Works);
    bench.until("drained", |b| b.counts().backlog == 0).await;
    let order = bench.order();
    let last = |priority| order.iter().rposition(|stored| stored == channel(priority)).unwrap();
    let first = |priority| order.iter().position(|stored| stored == channel(priority)).unwrap();
    // Several writes are in flight at once.
    assert!(last(Priority::High) < first(Priority::Normal) + 12, "{order:?}");
    assert!(first(Priority::High) < first(Priority::Normal) && first(Priority::Normal) < first(Priority::Low));
    let gone = |priority| bench.declared_of(priority);
    bench.until("declared", |b| b.declared_of(Priority::Low) >= low.dropped_weight).await;
    assert_eq!(gone(Priority::Low), low.dropped_weight, "exactly, and by channel");
    assert_eq!((gone(Priority::Normal), gone(Priority::High)), (normal.dropped_weight, 0));
}

#[tokio::test]
async fn a_narrow_link_takes_what_matters_most_and_the_rest_goes_to_the_spill() {
    let dir = temporary();
    let config = Config { writes_in_flight: 2, durable_within: ms(400), ..Setup::default().config };
    let bench = Bench::start_with(&dir, Script::Works, Setup { config, ..all() });
    bench.send_of(Priority::Normal, 100).await;
    bench.until("up", |b| b.counts().stored == 10).await;
    // 20 writes a second, and 45 come.
    bench.store.now(Script::Slow(ms(100)));
    for _ in 0..30 {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            bench.send_of(priority, 100).await;
        }
        tokio::time::sleep(ms(66)).await;
    }
    let stored = bench.store.stored();
    let of = |priority| stored.get(channel(priority)).copied().unwrap_or_default();
    println!("{stored:?}");
    assert!(of(Priority::High) > of(Priority::Normal) && of(Priority::Normal) > of(Priority::Low), "{stored:?}");
    assert!(of(Priority::High) > 2 * of(Priority::Low), "{stored:?}");
    bench.store.now(Script::Works);
    bench.until("all is stored", |b| b.store.samples() == 910).await;
    assert_eq!(bench.counts().dropped.values().sum::<u64>(), 0);
}

#[tokio::test]
async fn memory_gives_up_what_matters_least_as_well() {
    let dir = temporary();
    let bench = Bench::start_with(&dir, Script::Refuses, Setup { disk_max: ByteSize::mib(64), ..all() });
    bench.disk.fails(true);
    for _ in 0..35 {
        for priority in [Priority::Low, Priority::High] {
            let mut flush = bench.flush_of(priority, LARGE);
            flush.receipts = vec![Receipt::unowed()];
            bench.push(Outgoing::Flush(flush)).await;
            tokio::time::sleep(ms(5)).await;
        }
    }
    bench.until("bounded", |b| b.stats.snapshot().pending_flushes as u64 * 10 == b.counts().in_flight).await;
    let dropped = bench.counts().dropped[&Policy::Memory];
    assert!((50..=350).contains(&dropped), "{dropped}");
    bench.disk.fails(false);
    bench.until("spilled", |b| b.counts().in_flight == 0).await;
    bench.store.now(Script::Works);
    bench.until("drained", |b| b.counts().backlog == 0).await;
    let stored = bench.store.stored();
    assert_eq!(stored[channel(Priority::High)], 35, "{stored:?}");
    assert_eq!(stored[channel(Priority::Low)] as u64 * 10, 350 - dropped);
}

#[tokio::test]
async fn a_priority_whose_way_is_full_does_not_hold_up_the_others() {
    let dir = temporary();
    let setup = Setup { overflow: Overflow::Block, ..all() };
    let bench = Bench::start_with(&dir, Script::Refuses, setup);
    // Of twelve segments four are for the others.
    for _ in 0..24 {
        bench.send_of(Priority::Low, LARGE).await;
        tokio::time::sleep(ms(20)).await;
    }
    bench.until("full", |b| b.stats.snapshot().spill_full).await;
    let before = bench.counts().backlog;
    bench.send_of(Priority::High, LARGE).await;
    let took = bench.until("spilled", |b| b.counts().backlog == before + 10).await;
    assert!(took < ms(1_500), "within D and not with the next try of what is full: {took:?}");
    assert!(bench.stats.snapshot().spill_fault.is_some(), "and the fault is still shown");
    assert_eq!(bench.stats.snapshot().alarm, "", "something can be written");
    bench.store.now(Script::Works);
    bench.until("drained", |b| b.counts().stored == 250).await;
    bench.until("well", |b| b.stats.snapshot().spill_fault.is_none()).await;
}

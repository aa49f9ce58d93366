//! What leaves together, when, and who is told.

use super::*;
use crate::limits::{FLUSH_BYTES_MAX, SAMPLES_FLUSH_MAX};

#[test]
fn a_device_is_flushed_when_its_oldest_sample_has_waited_long_enough_and_no_other_with_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.stage.deadline(), None);
    let (a, b) = (origin("a", 1, ClockBase::Utc), origin("b", 1, ClockBase::Utc));
    bench.batch_at(&a, vec![every_10_ms("x", MINUTE, 1)], MINUTE, 0);
    bench.batch_at(&b, vec![every_10_ms("x", MINUTE, 1)], MINUTE, 100);
    bench.batch_at(&a, vec![every_10_ms("x", MINUTE + 10_000, 1)], MINUTE, 150);
    assert_eq!(bench.stage.deadline(), Some(bench.began + FLUSH_AFTER));
    assert!(bench.at(199).is_empty());
    let first = bench.at(200);
    assert_eq!((first.len(), &*chunks(&first)[0].device, chunks(&first)[0].n), (1, "a", 2));
    assert_eq!(first[0].accepted_at, bench.began, "d counts from the oldest");
    assert_eq!(bench.stage.deadline(), Some(bench.began + Duration::from_millis(300)));
    let second = bench.at(300);
    assert_eq!(&*chunks(&second)[0].device, "b");
    assert_eq!(bench.stage.deadline(), None);
    assert!(bench.finish().is_empty());
    store(first);
    store(second);
}

#[test]
fn an_input_that_lags_is_gathered_and_not_flushed_batch_by_batch() {
    let mut bench = Bench::new();
    let a = origin("a", 1, ClockBase::Utc);
    bench.batch_at(&a, vec![every_10_ms("x", MINUTE, 1)], MINUTE, 0);
    assert!(bench.at(600).is_empty(), "a deadline missed by 400 ms");
    for i in 1..10 {
        bench.batch_at(&a, vec![every_10_ms("x", MINUTE + i * 10_000, 1)], MINUTE, i as u64 * 10);
        assert!(bench.at(600 + i as u64).is_empty());
    }
    assert_eq!(bench.stage.deadline(), Some(bench.began + Duration::from_millis(800)));
    let flushed = bench.at(800);
    assert_eq!((flushed.len(), chunks(&flushed)[0].n), (1, 10));
    assert_eq!(flushed[0].accepted_at, bench.began, "d still counts from the oldest");
    // In time again: as before.
    bench.batch_at(&a, vec![every_10_ms("x", MINUTE + 100_000, 1)], MINUTE, 700);
    assert_eq!(bench.stage.deadline(), Some(bench.began + Duration::from_millis(900)));
    let in_time = bench.at(900);
    assert_eq!(in_time.len(), 1);
    store(flushed);
    store(in_time);
}

#[test]
fn boots_and_devices_never_share_a_chunk() {
    let mut bench = Bench::new();
    for origin in [utc(), origin("ecu", 8, ClockBase::Utc), origin("tcu", 7, ClockBase::Utc)] {
        bench.batch_at(&origin, vec![every_10_ms("a", MINUTE, 1)], MINUTE, 0);
    }
    let out = bench.finish();
    let mut rows: Vec<_> = chunks(&out).iter().map(|row| (row.device.clone(), row.boot, row.n)).collect();
    rows.sort();
    assert_eq!(rows, [("ecu".to_owned(), 7, 1), ("ecu".into(), 8, 1), ("tcu".into(), 7, 1)]);
    store(out);
}

#[test]
fn a_receipt_fires_when_the_flushes_of_all_its_buckets_are_settled_and_the_tally_is_split_among_them() {
    let mut bench = Bench::new();
    let other = bench.ledger.source("other");
    bench.batch(vec![every_10_ms("a", MINUTE - 30_000, 6), every_10_ms("b", MINUTE, 2)]);
    let custody = Custody { receipt: bench.receipt(), tally: bench.ledger.receive(other, 3) };
    let columns = vec![every_10_ms("c", MINUTE - 10_000, 3)];
    let (accepted_at, received) = (bench.began, UnixMicros(MINUTE));
    bench.give(Item::Batch(Batch { origin: utc(), columns, accepted_at, received, custody }));
    let mut out = bench.finish();
    assert_eq!(out.iter().map(|flush| flush.tally.samples()).collect::<Vec<_>>(), [4, 7]);
    let last = out.split_off(1);
    store(out);
    assert_eq!(bench.fired(), 0);
    store(last);
    assert_eq!(bench.fired(), 2);
    let now = bench.ledger.snapshot();
    assert!(now.balanced, "{now:?}");
    assert_eq!((now.total.stored, now.sources["other"].stored), (11, 3));
}

#[test]
fn a_receipt_of_a_flush_that_is_given_up_never_fires() {
    let mut bench = Bench::new();
    bench.batch(vec![every_10_ms("a", MINUTE - 30_000, 6)]);
    let mut out = bench.finish();
    let given_up = out.remove(0);
    given_up.tally.settle(Fate::Quarantined);
    drop(given_up.receipts);
    store(out);
    assert_eq!(bench.fired(), 0);
}

#[test]
fn events_alone_make_a_flush_with_their_receipts() {
    let mut bench = Bench::new();
    bench.event(&utc(), MINUTE + 7, "lap", "lap 5".into());
    bench.event(&utc(), MINUTE + 8, "session", "race".into());
    let out = bench.at(200);
    assert_eq!((out.len(), out[0].rows.chunks.len(), out[0].rows.extents.len()), (1, 0, 0));
    let event = &out[0].rows.events[0];
    assert_eq!((event.t, event.d, event.sequence, event.number, &*event.kind), (MINUTE + 7, MINUTE + 7, 3, 5, "lap"));
    let session = &out[0].rows.sessions[0];
    assert_eq!((session.start, session.number, &*session.name), (MINUTE + 8, 5, "race"));
    assert_eq!(bench.fired(), 0);
    store(out);
    assert_eq!(bench.fired(), 2);
}

#[test]
fn a_frame_of_which_nothing_is_left_settles_without_a_write() {
    let mut bench = Bench::new();
    assert!(bench.batch(Vec::new()).is_empty());
    assert!(bench.batch(vec![every_10_ms("a", MINUTE, 1)]).is_empty());
    store(bench.at(200));
    assert_eq!(bench.fired(), 2);
    bench.batch(Vec::new());
    assert!(bench.at(200).is_empty(), "no empty flush");
    assert_eq!(bench.fired(), 3);
}

#[test]
fn what_comes_beside_the_chunks_is_written_once_though_the_flush_has_several_partitions() {
    let mut bench = Bench::new();
    bench.event(&utc(), MINUTE, "marker", String::new());
    bench.batch(vec![every_10_ms("a", MINUTE - 30_000, 6)]);
    let out = bench.finish();
    assert_eq!(out.iter().map(|flush| flush.rows.events.len()).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(out.iter().map(|flush| flush.rows.channels.len()).collect::<Vec<_>>(), [1, 0]);
    store(out);
    assert_eq!(bench.fired(), 2);
}

#[test]
fn a_channel_is_announced_once_by_its_catalogue_or_by_its_first_sample() {
    let mut bench = Bench::new();
    bench.catalogue(&utc(), vec![meta("a", ValueKind::I16), meta("b", ValueKind::F32)]);
    bench.batch(vec![every_10_ms("a", MINUTE, 1), every_10_ms("c", MINUTE, 1)]);
    let out = bench.at(200);
    let rows: Vec<_> = out[0].rows.channels.iter().map(|row| (&*row.channel, &*row.value_kind)).collect();
    assert_eq!(rows, [("a", "i16"), ("b", "f32"), ("c", "i16")]);
    store(out);
    bench.batch(vec![every_10_ms("c", MINUTE + 10_000, 1)]);
    let later = bench.finish();
    assert!(later[0].rows.channels.is_empty());
    store(later);
}

#[test]
fn a_catalogue_that_needs_shorter_buckets_ends_open_chunks_and_its_extents_say_so() {
    let mut bench = Bench::new();
    bench.batch(vec![every_10_ms("a", MINUTE + 25_000_000, 1)]);
    bench.catalogue(&utc(), (0..782).map(|n| meta(&format!("c{n}"), ValueKind::I16)).collect());
    bench.batch(vec![every_10_ms("a", MINUTE + 25_010_000, 1)]);
    let out = bench.finish();
    let extents: Vec<_> = out.iter().flat_map(|f| &f.rows.extents).map(|e| (e.bucket - MINUTE, e.length_us)).collect();
    assert_eq!(extents, [(0, 60_000_000), (20_000_000, 20_000_000)]);
    assert!(chunks(&out).iter().all(|row| row.n == 1));
    store(out);
}

#[test]
fn a_flush_leaves_at_its_bound_of_bytes_without_waiting_for_its_age() {
    let mut bench = Bench::new();
    let mut out = Vec::new();
    let mut batches = 0;
    // What cannot be packed: any bits.
    let noise = |i: u64| f64::from_bits(xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()));
    let noise: Vec<f64> = (0..10_000).map(noise).collect();
    while out.is_empty() {
        batches += 1;
        let times = Times::Regular { t0: DeviceTime(MINUTE + batches * 10_000), period_ns: 1_000, count: 10_000 };
        out = bench.batch(vec![column(&meta("a", ValueKind::F64), times, Values::F64(noise.clone()))]);
    }
    assert!(out[0].rows.bytes() < FLUSH_BYTES_MAX + 100_000, "{}", out[0].rows.bytes());
    assert!(batches <= FLUSH_BYTES_MAX as i64 / 80_000 + 1, "{batches}");
    store(out);
    assert_eq!(i64::from(bench.fired()), batches);
    let mut events = Vec::new();
    for t in 0.. {
        events = bench.event(&utc(), MINUTE + t, "text", "x".repeat(4_000));
        if !events.is_empty() {
            break;
        }
    }
    assert!(events[0].rows.bytes() < FLUSH_BYTES_MAX + 100_000, "texts of events count as well");
    store(events);
}

#[test]
fn keys_are_never_used_twice() {
    let mut bench = Bench::new();
    let mut out = Vec::new();
    for second in 0..5 {
        out.extend(bench.batch(vec![every_10_ms("a", MINUTE + second * 1_000_000, 250), every_10_ms("b", MINUTE, 1)]));
        out.extend(bench.at(10_000));
    }
    let mut keys: Vec<i64> = chunks(&out).iter().map(|row| row.seq).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..keys.len() as i64).collect::<Vec<_>>());
    store(out);
}

#[test]
fn forgotten_devices_come_back_without_loss() {
    let mut bench = Bench::new();
    let mut sent = 0;
    for round in 0..2 {
        for boot in 0..400 {
            let origin = origin("ecu", boot, ClockBase::Utc);
            store(bench.batch_at(&origin, vec![every_10_ms("a", MINUTE + round * 10_000, 1)], MINUTE, 0));
            store(bench.at(200));
            sent += 1;
        }
    }
    let now = bench.ledger.snapshot();
    assert!(now.balanced && now.total.stored == sent, "{now:?}");
    assert_eq!(u64::from(bench.fired()), sent);
}

#[test]
fn a_source_that_waits_closes_its_own_devices_and_no_other() {
    let mut bench = Bench::new();
    let other = bench.ledger.source("other");
    let (a, b) = (origin("a", 1, ClockBase::Utc), origin("b", 1, ClockBase::Utc));
    bench.batch_at(&a, vec![every_10_ms("x", MINUTE, 2)], MINUTE, 0);
    let custody = Custody { receipt: Receipt::none(), tally: bench.ledger.receive(other, 3) };
    let (columns, accepted_at, received) = (vec![every_10_ms("y", MINUTE, 3)], bench.began, UnixMicros(MINUTE));
    bench.give(Item::Batch(Batch { origin: b, columns, accepted_at, received, custody }));
    let asked = bench.give(Item::Flush(bench.source));
    assert_eq!((asked.len(), &*chunks(&asked)[0].device, chunks(&asked)[0].n), (1, "a", 2));
    store(asked);
    assert_eq!(bench.fired(), 1);
    assert!(bench.give(Item::Flush(bench.source)).is_empty(), "nothing is left to close");
    // Whose an event is, nobody knows here.
    bench.event(&a, MINUTE, "lap", String::new());
    let asked = bench.give(Item::Flush(bench.source));
    assert_eq!((asked.len(), asked[0].rows.events.len()), (1, 1));
    store(asked);
    let rest = bench.at(200);
    assert_eq!(&*chunks(&rest)[0].device, "b", "by its age");
    store(rest);
    assert!(bench.ledger.snapshot().balanced);
}

#[test]
fn channels_of_different_priorities_leave_apart_and_the_receipt_fires_with_the_last_of_them() {
    let config = priority::Config { high: vec!["brake*".into()], low: vec!["vib*".into()] };
    let clock = Scripted::manual(UnixMicros(MINUTE));
    let mut bench = Bench::with_priorities(Vec::new(), &clock, Priorities::new(&config));
    bench.event(&utc(), MINUTE, "text", "hello".into());
    bench.batch(["brake_fl", "speed", "vib_x", "brake_fr"].map(|name| every_10_ms(name, MINUTE, 5)).to_vec());
    let out = bench.finish();
    let of = |flush: &Flush| flush.rows.chunks.iter().map(|row| row.channel.clone()).collect::<Vec<_>>();
    let all: Vec<_> = out.iter().map(|flush| (flush.priority, of(flush), flush.tally.samples())).collect();
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
    let expected = [
        (Priority::High, owned(&["brake_fl", "brake_fr"]), 10),
        (Priority::Normal, owned(&["speed"]), 5),
        (Priority::Low, owned(&["vib_x"]), 5),
    ];
    assert_eq!(all, expected);
    assert_eq!(out[0].rows.events.len(), 1, "what came beside the chunks goes with the highest");
    assert!(out.iter().all(|flush| flush.rows.extents.len() == 1), "each names its partition");
    let fired = bench.fired();
    let mut out = out.into_iter();
    store(out.by_ref().take(2).collect());
    assert_eq!(bench.fired(), fired);
    store(out.collect());
    assert_eq!(bench.fired(), fired + 2, "the event's and the batch's");
}

#[test]
fn channels_whose_samples_become_rows_go_in_flushes_of_their_own_with_an_extent_for_each() {
    let mut bench = Bench::new();
    let columns = vec![
        every_10_ms("a", MINUTE - 20_000, 5),
        every_10_ms("row.a", MINUTE - 20_000, 5),
        every_10_ms("row.b", MINUTE, 3),
    ];
    bench.batch(columns);
    let out = bench.finish();
    let extents = |flush: &Flush| -> Vec<_> {
        let rows = flush.rows.extents.iter();
        rows.map(|e| (e.layout.clone(), e.channel.clone(), (e.bucket - MINUTE) / 1_000_000, e.length_us)).collect()
    };
    // The channel's 100 Hz allow five minutes; MINUTE is a multiple of ten.
    let rows = |channel: &str, start_s| ("rows".to_owned(), channel.to_owned(), start_s, 300_000_000_i64);
    let chunks = |start_s| ("chunks".to_owned(), String::new(), start_s, 60_000_000);
    assert_eq!(
        out.iter().map(extents).collect::<Vec<_>>(),
        [vec![rows("row.a", -300), rows("row.a", 0), rows("row.b", 0)], vec![chunks(-60)], vec![chunks(0)],]
    );
    let counts = |flush: &Flush| flush.rows.chunks.iter().map(|row| row.n).collect::<Vec<_>>();
    assert_eq!(out.iter().map(counts).collect::<Vec<_>>(), [vec![2, 3, 3], vec![2], vec![3]]);
    assert!(out[0].rows.chunks.iter().all(|row| row.layout == Layout::Rows));
    assert_eq!(bench.fired(), 0);
    store(out);
    assert_eq!(bench.fired(), 1, "when all of them are stored");
}

#[test]
fn many_samples_that_become_rows_go_in_several_flushes() {
    let mut bench = Bench::new();
    let each = i64::try_from(SAMPLES_FLUSH_MAX / 4).unwrap();
    let column = |name: &str| {
        let times = Times::Regular { t0: DeviceTime(MINUTE), period_ns: 100_000, count: each as u32 };
        column(&meta(name, ValueKind::I16), times, Values::I16(vec![1; each as usize]))
    };
    bench.batch((0..10).map(|i| column(&format!("row.{i}"))).collect());
    let out = bench.finish();
    assert_eq!(out.iter().map(|flush| flush.rows.chunks.len()).collect::<Vec<_>>(), [4, 4, 2]);
    store(out);
}

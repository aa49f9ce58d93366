//! What ends a chunk, and what its row says.

use super::*;
use crate::limits::{CHUNK_SAMPLES_MAX, CHUNK_SPAN_US};

#[test]
fn a_row_holds_the_raw_samples_bit_for_bit_and_their_identity() {
    let mut bench = Bench::new();
    let times = Times::Regular { t0: DeviceTime(MINUTE + 5), period_ns: 272_727, count: 4 };
    let kinds = [
        Values::I16(vec![i16::MIN, -1, 0, i16::MAX]),
        Values::I32(vec![i32::MIN, -1, 0, i32::MAX]),
        Values::F32(vec![-0.0, f32::MIN_POSITIVE, 1e30, 0.1]),
        Values::F64(vec![-0.0, 0.1, 1e300, 1.0]),
    ];
    let names = ["a", "b", "c", "d"];
    let columns = names.iter().zip(&kinds).map(|(n, v)| column(&meta(n, v.kind()), times.clone(), v.clone()));
    bench.batch(columns.collect());
    let out = bench.finish();
    assert_eq!(out.len(), 1);
    for ((row, values), (seq, name)) in chunks(&out).into_iter().zip(&kinds).zip((0..).zip(names)) {
        let decoded = codec::decode(row.d0, &row.data, row.codec, row.n).unwrap();
        assert_eq!(decoded.times, times.iter().collect::<Vec<_>>());
        assert_eq!(format!("{:?}", decoded.values), format!("{values:?}"));
        assert_eq!(decoded.scaling, Scaling { scale: 0.5, offset: 1.0 });
        assert_eq!((&*row.car, &*row.device, &*row.channel, row.boot), ("44", "ecu", name, 7));
        assert_eq!((row.writer, row.seq, row.bucket), ([9; 16], seq, MINUTE));
        assert_eq!((row.d0, row.t0, row.t1), (MINUTE + 5, MINUTE + 5, MINUTE + 5 + 818));
    }
    store(out);
}

#[test]
fn a_rows_summary_is_of_its_physical_numbers_only() {
    let mut bench = Bench::new();
    let times = Times::Regular { t0: DeviceTime(MINUTE), period_ns: 1_000_000, count: 5 };
    let values = Values::F32(vec![4.0, f32::NAN, -2.0, 10.0, f32::INFINITY]);
    bench.batch(vec![column(&meta("a", ValueKind::F32), times, values)]);
    let nothing = column(&meta("b", ValueKind::F32), Times::one(DeviceTime(MINUTE)), Values::F32(vec![f32::NAN]));
    bench.batch(vec![nothing]);
    let out = bench.finish();
    let rows = chunks(&out);
    let summary = |row: &ChunkRow| (row.n, row.v_min, row.v_max, row.v_mean, row.v_last);
    assert_eq!(summary(rows[0]), (5, Some(0.0), Some(6.0), Some(3.0), Some(6.0)));
    assert_eq!(summary(rows[1]), (1, None, None, None, None));
    store(out);
}

#[test]
fn flags_keep_their_samples_and_are_or_ed_in_the_row() {
    let mut bench = Bench::new();
    let mut flagged = every_10_ms("a", MINUTE, 4);
    flagged.flags.push(Quality::OUT_OF_RANGE, 1, 2);
    bench.batch(vec![every_10_ms("a", MINUTE - 20_000, 2), flagged, every_10_ms("a", MINUTE + 40_000, 1)]);
    let out = bench.finish();
    let all: Vec<(i64, u16)> = chunks(&out).into_iter().flat_map(samples).map(|(t, _, q)| (t - MINUTE, q)).collect();
    assert_eq!(all, [(-20_000, 0), (-10_000, 0), (0, 0), (10_000, 0), (20_000, 1), (30_000, 0), (40_000, 0)]);
    assert_eq!(chunks(&out).iter().map(|row| row.quality).collect::<Vec<_>>(), [0, 1]);
    store(out);
}

#[test]
fn a_chunk_ends_at_its_buckets_edge() {
    let mut bench = Bench::new();
    bench.batch(vec![every_10_ms("a", MINUTE - 30_000, 6)]);
    let out = bench.finish();
    let rows: Vec<_> =
        chunks(&out).iter().map(|row| (row.bucket - MINUTE, row.n, row.t0 - MINUTE, row.t1 - MINUTE)).collect();
    assert_eq!(rows, [(-60_000_000, 3, -30_000, -10_000), (0, 3, 0, 20_000)]);
    assert_eq!(out.iter().map(|flush| flush.rows.extents.len()).collect::<Vec<_>>(), [1, 1]);
    store(out);
}

#[test]
fn a_chunk_ends_after_a_second_of_device_time() {
    let mut bench = Bench::new();
    bench.batch(vec![every_10_ms("a", MINUTE, 250)]);
    let out = bench.finish();
    let rows: Vec<_> = chunks(&out).iter().map(|row| (row.n, row.t1 - row.t0)).collect();
    assert_eq!(rows, [(101, CHUNK_SPAN_US), (101, CHUNK_SPAN_US), (48, 470_000)]);
    store(out);
}

#[test]
fn a_chunk_ends_when_its_channels_description_changes_and_another_channels_goes_on() {
    let mut bench = Bench::new();
    let other = |column: Column, scale: f64| {
        let scaling = Scaling { scale, offset: 0.0 };
        Column { channel: Arc::new(ChannelMeta { scaling, ..(*column.channel).clone() }), ..column }
    };
    for (t, scale) in [(0, 0.5), (20_000, 0.5), (40_000, 0.25), (60_000, f64::NAN), (80_000, f64::NAN)] {
        bench.batch(vec![other(every_10_ms("a", MINUTE + t, 2), scale), every_10_ms("b", MINUTE + t, 2)]);
    }
    let out = bench.finish();
    let rows: Vec<_> = chunks(&out).iter().map(|row| (row.channel.clone(), row.t0 - MINUTE, row.n)).collect();
    let named = |name: &str| rows.iter().filter(|r| r.0 == name).map(|r| (r.1, r.2)).collect::<Vec<_>>();
    assert_eq!(named("a"), [(0, 4), (40_000, 2), (60_000, 4)]);
    assert_eq!(named("b"), [(0, 10)]);
    let kind = column(&meta("b", ValueKind::F32), Times::one(DeviceTime(MINUTE)), Values::F32(vec![1.0]));
    bench.batch(vec![every_10_ms("b", MINUTE, 1)]);
    bench.batch(vec![kind]);
    let kinds = bench.finish();
    assert_eq!(chunks(&kinds).len(), 2);
    store(out);
    store(kinds);
}

#[test]
fn a_chunk_ends_at_its_bound_of_samples_and_nothing_is_lost() {
    let mut bench = Bench::new();
    let mut sent = 0;
    let mut out = Vec::new();
    for burst in 0..3_i64 {
        let times = Times::Regular { t0: DeviceTime(MINUTE + burst * 65_535), period_ns: 1_000, count: 65_535 };
        sent += 65_535;
        out.extend(bench.batch(vec![column(&meta("a", ValueKind::I16), times, Values::I16(vec![1; 65_535]))]));
    }
    out.extend(bench.finish());
    let rows = chunks(&out);
    assert!(rows.iter().all(|row| row.n as usize <= CHUNK_SAMPLES_MAX));
    assert_eq!(rows.iter().map(|row| row.n as usize).sum::<usize>(), sent);
    store(out);
    assert_eq!((bench.fired(), bench.ledger.snapshot().total.stored), (3, sent as u64));
}

#[test]
fn samples_out_of_order_are_sorted_within_their_chunk_with_values_and_flags() {
    let mut bench = Bench::new();
    let mut late = every_10_ms("a", MINUTE, 2);
    late.flags = Flags::all(Quality::OUT_OF_RANGE, 2);
    bench.batch(vec![every_10_ms("a", MINUTE + 20_000, 2)]);
    bench.batch(vec![late]);
    let out = bench.finish();
    assert_eq!(chunks(&out).len(), 1);
    let row = chunks(&out)[0];
    let expected = [(0, 1.0, 1), (10_000, 1.5, 1), (20_000, 1.0, 0), (30_000, 1.5, 0)];
    assert_eq!(samples(row), expected.map(|(t, v, q)| (MINUTE + t, v, q)));
    assert_eq!((row.d0, row.t1, row.v_last), (MINUTE, MINUTE + 30_000, Some(1.5)));
    store(out);
}

#[test]
fn explicit_times_that_jump_about_all_arrive() {
    let mut bench = Bench::new();
    let times = [5, 4, 5, 70_000_000, 3, -70_000_000, 2_000_000, 6];
    let given: Vec<i64> = times.iter().map(|t| MINUTE + t).collect();
    let values = Values::I32((0..8).collect());
    bench.batch(vec![column(&meta("a", ValueKind::I32), Times::Explicit(given.clone()), values)]);
    let out = bench.finish();
    let mut found: Vec<(i64, f64)> = chunks(&out).into_iter().flat_map(samples).map(|(t, v, _)| (t, v)).collect();
    let mut expected: Vec<(i64, f64)> = given.iter().zip(0..).map(|(&t, v)| (t, f64::from(v) * 0.5 + 1.0)).collect();
    found.sort_by(|a, b| a.partial_cmp(b).unwrap());
    expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(found, expected);
    store(out);
}

#[test]
fn times_at_the_ends_of_i64_do_no_harm() {
    for base in [ClockBase::Utc, ClockBase::Boot] {
        let mut bench = Bench::new();
        let origin = origin("ecu", 7, base);
        for (index, t) in [i64::MIN, i64::MAX, i64::MIN + 1, -1, 0, i64::MAX - 1].into_iter().enumerate() {
            let times = Times::Regular { t0: DeviceTime(t), period_ns: 0, count: 1 };
            let one = column(&meta("a", ValueKind::I16), times, Values::I16(vec![index as i16]));
            store(bench.batch_at(&origin, vec![one], MINUTE, 0));
            store(bench.event(&origin, t, "lap", String::new()));
        }
        let out = bench.finish();
        let mut times: Vec<i64> = chunks(&out).into_iter().flat_map(samples).map(|(t, _, _)| t).collect();
        times.sort_unstable();
        assert_eq!(times, [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX]);
        store(out);
        let now = bench.ledger.snapshot();
        assert!(now.balanced && now.total.stored == 6, "{now:?}");
        assert_eq!(bench.fired(), 12);
    }
}

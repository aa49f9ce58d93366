use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::super::merge::{ReadSample, Series};
use super::super::plan::ChannelFilter;
use super::super::testing::{Chunk, MemoryStore, channel_row, chunk, clock_row, on_each, write};
use super::*;
use crate::row::{ClockRow, KIND_DERIVED, Layout, Rows};
use crate::sample::Quality;

/// (UTC, device, channel, boot, device time)
type Identity<'a> = (i64, &'a str, &'a str, i64, i64);

/// (UTC, device, boot, channel, value, flags)
type Seen = (i64, String, i64, String, f64, u16);

async fn read_in_blocks(store: &dyn Store, query: &Query, samples: usize) -> (Vec<Seen>, ReadCounts) {
    let reader = Reader::new(store, "44").with_retry_after(Duration::from_millis(1));
    let mut reading = reader.read(query).await.unwrap().with_block_samples(samples);
    let mut seen = Vec::new();
    while let Some(block) = reading.next().await.unwrap() {
        for sample in block.samples {
            let series = &block.series[sample.series as usize];
            let Series { device, boot, channel, .. } = series;
            seen.push((sample.t_us, device.to_string(), *boot, channel.to_string(), sample.value, sample.quality.0));
        }
    }
    let (done, all) = reading.progress();
    assert_eq!(done, all);
    let counts = reading.counts().clone();
    assert_eq!(counts.samples, seen.len() as u64);
    (seen, counts)
}

/// (UTC, value, flags)
async fn read(store: &dyn Store) -> Vec<(i64, f64, u16)> {
    let (seen, counts) = read_in_blocks(store, &Query::default(), 2).await;
    assert_eq!((counts.damaged, counts.late), (0, 0));
    seen.into_iter().map(|(t, _, _, _, value, quality)| (t, value, quality)).collect()
}

#[tokio::test]
async fn a_redelivered_stretch_is_one_and_its_flags_are_or_ed() {
    on_each(async |store: &dyn Store| {
        let mut first = chunk(&[(10, 1.0), (20, 2.0), (30, 3.0)]);
        first.samples[1].2 = 1;
        let mut again = Chunk { writer: 2, ..chunk(&[(20, 2.0), (30, 3.0), (40, 4.0)]) };
        again.samples[0].2 = 4;
        write(store, &[first, again]).await;
        assert_eq!(read(store).await, [(10, 1.0, 0), (20, 2.0, 5), (30, 3.0, 0), (40, 4.0, 0)]);
    })
    .await;
}

#[tokio::test]
async fn several_cars_come_in_one_order_of_time_each_by_its_own_clock() {
    on_each(async |store: &dyn Store| {
        let of = |car, samples: &[(i64, f64)]| Chunk { car, ..chunk(samples) };
        write(store, &[of("44", &[(10, 1.0), (30, 3.0)]), of("7", &[(20, 2.0), (30, 4.0)]), of("9", &[(1, 9.0)])])
            .await;
        let late = ClockRow { car: "7".into(), ..clock_row(0, 5, false) };
        store.write(&Rows { clocks: vec![late], ..Rows::default() }).await.unwrap();
        let mut reading = Reader::of_cars(store, &["7", "44", "7"]).read(&Query::default()).await.unwrap();
        let mut seen = Vec::new();
        while let Some(block) = reading.next().await.unwrap() {
            let car = |s: &ReadSample| block.series[s.series as usize].car.to_string();
            seen.extend(block.samples.iter().map(|s| (s.t_us, car(s), s.value)));
        }
        let seen: Vec<_> = seen.iter().map(|(t, car, value)| (*t, &**car, *value)).collect();
        assert_eq!(seen, [(10, "44", 1.0), (25, "7", 2.0), (30, "44", 3.0), (35, "7", 4.0)]);
        assert_eq!(reading.counts().duplicates, 0, "the same device and time, another car");
    })
    .await;
}

#[tokio::test]
async fn different_values_of_one_identity_are_all_kept_and_flagged() {
    on_each(async |store: &dyn Store| {
        let other = |writer, value| Chunk { writer, ..chunk(&[(10, value)]) };
        write(store, &[chunk(&[(10, 1.0), (20, 2.0)]), other(2, 1.5), other(3, 1.0), other(4, 7.0)]).await;
        assert_eq!(read(store).await, [(10, 1.0, 8), (10, 1.5, 8), (10, 7.0, 8), (20, 2.0, 0)]);
        let (_, counts) = read_in_blocks(store, &Query::default(), 1).await;
        assert_eq!((counts.conflicts, counts.duplicates), (3, 1));
    })
    .await;
}

#[tokio::test]
async fn not_a_number_equals_itself_and_minus_zero_is_not_zero() {
    on_each(async |store: &dyn Store| {
        let rows = [f64::NAN, f64::NAN].map(|value| chunk(&[(10, value)]));
        write(store, &[rows[0].clone(), Chunk { writer: 2, ..rows[1].clone() }]).await;
        let seen = read(store).await;
        assert_eq!(seen.len(), 1);
        assert!(seen[0].1.is_nan());
    })
    .await;
}

#[tokio::test]
async fn one_identity_in_buckets_of_different_lengths_is_one_sample() {
    on_each(async |store: &dyn Store| {
        let times: Vec<(i64, f64)> = (0..40).map(|i| (i * 50_000, i as f64)).collect();
        let long = times.chunks(10).enumerate().map(|(i, part)| Chunk { seq: i as i64, ..chunk(part) });
        let short = times.chunks(7).enumerate();
        let short = short.map(|(i, part)| Chunk { writer: 2, seq: i as i64, bucket_us: 300_000, ..chunk(part) });
        write(store, &long.chain(short).collect::<Vec<_>>()).await;
        let expected: Vec<_> = times.iter().map(|&(t, value)| (t, value, 0)).collect();
        assert_eq!(read(store).await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_later_correction_moves_samples_of_both_placements_to_one_time() {
    on_each(async |store: &dyn Store| {
        // Written under a clock that stood at 1970, and again by another writer after it was set.
        let early = chunk(&[(1_000, 1.0), (2_000, 2.0)]);
        let right = 1_777_644_180_000_000;
        let late = Chunk { writer: 2, placed_us: right, ..chunk(&[(2_000, 2.0), (3_000, 3.0)]) };
        write(store, &[Chunk { samples: vec![(1_000, 1.0, 16), (2_000, 2.0, 16)], ..early }, late]).await;
        let provisional = Rows { clocks: vec![clock_row(0, 0, true)], ..Rows::default() };
        store.write(&provisional).await.unwrap();
        let (seen, _) = read_in_blocks(store, &Query::default(), 1).await;
        assert_eq!(seen[0].5, 16, "provisional as long as there is no better: {seen:?}");

        store.write(&Rows { clocks: vec![clock_row(2_500, right, false)], ..Rows::default() }).await.unwrap();
        assert_eq!(read(store).await, [(right + 1_000, 1.0, 0), (right + 2_000, 2.0, 0), (right + 3_000, 3.0, 0)]);
        let since = Query { from_us: Some(right + 1_500), to_us: Some(right + 3_000), ..Query::default() };
        let (seen, _) = read_in_blocks(store, &since, 1).await;
        assert_eq!(seen.iter().map(|s| s.4).collect::<Vec<_>>(), [2.0], "found although placed in 1970");
    })
    .await;
}

#[tokio::test]
async fn a_row_with_times_out_of_order_is_read_in_order() {
    on_each(async |store: &dyn Store| {
        write(store, &[chunk(&[(30, 3.0), (10, 1.0), (20, 2.0), (10, 1.0)])]).await;
        assert_eq!(read(store).await, [(10, 1.0, 0), (20, 2.0, 0), (30, 3.0, 0)]);
    })
    .await;
}

#[tokio::test]
async fn a_damaged_row_is_counted_and_named_and_the_rest_is_read() {
    on_each(async |store: &dyn Store| {
        let mut rows = chunk(&[(10, 1.0)]).rows();
        rows.chunks[0].data.pop();
        store.write(&rows).await.unwrap();
        write(store, &[Chunk { seq: 1, ..chunk(&[(20, 2.0)]) }]).await;
        let (seen, counts) = read_in_blocks(store, &Query::default(), 10).await;
        assert_eq!(seen.len(), 1);
        assert_eq!((counts.rows, counts.damaged), (2, 1));
        assert!(counts.faults[0].contains("device ecu, boot 1, channel rpm, t0 10, seq 0"), "{:?}", counts.faults);
    })
    .await;
}

#[tokio::test]
async fn the_range_is_from_inclusive_to_exclusive_and_reaches_across_days() {
    on_each(async |store: &dyn Store| {
        let day = crate::row::DAY_US;
        let parts = [day - 20, day, day + 20, 5 * day].map(|t| chunk(&[(t, t as f64), (t + 10, 0.5)]));
        write(store, &parts).await;
        let range = |from_us, to_us| Query { from_us, to_us, ..Query::default() };
        let times =
            async |query: Query| read_in_blocks(store, &query, 3).await.0.iter().map(|s| s.0 - day).collect::<Vec<_>>();
        assert_eq!(times(range(Some(day - 10), Some(day + 20))).await, [-10, 0, 10]);
        assert_eq!(times(range(Some(day + 31), None)).await, [4 * day, 4 * day + 10]);
        assert_eq!(times(range(None, Some(day))).await, [-20, -10]);
    })
    .await;
}

#[tokio::test]
async fn few_channels_are_asked_for_one_by_one_and_many_are_picked_from_the_whole() {
    let store = MemoryStore::default();
    let names = ["a.x", "a.y", "b.x", "b.y", "c", "d", "e", "f"];
    write(&store, &names.map(|channel| Chunk { channel, ..chunk(&[(10, 1.0)]) })).await;
    let channels = names.map(|channel| channel_row("ecu", channel, "m")).to_vec();
    store.write(&Rows { channels, ..Rows::default() }).await.unwrap();
    let read = async |pattern: &str| {
        let query = Query { channels: ChannelFilter::new([pattern]), ..Query::default() };
        let (seen, _) = read_in_blocks(&store, &query, 10).await;
        let seen = seen.into_iter().map(|s| s.3).collect::<Vec<_>>();
        (seen, store.by_channel.swap(0, Ordering::SeqCst))
    };
    assert_eq!(read("a.*").await, (vec!["a.x".into(), "a.y".into()], 2));
    assert_eq!(read("*.x,c").await, (vec!["a.x".into(), "b.x".into(), "c".into()], 0));
    assert_eq!(read("nothing").await, (vec![], 0));
}

#[tokio::test]
async fn a_store_that_is_away_for_a_moment_is_asked_again_and_one_that_stays_away_ends_the_read() {
    let store = MemoryStore::default();
    write(&store, &[chunk(&[(10, 1.0)])]).await;
    store.failing.store(3, Ordering::SeqCst);
    assert_eq!(read(&store).await.len(), 1);
    store.failing.store(4, Ordering::SeqCst);
    let reader = Reader::new(&store, "44").with_retry_after(Duration::from_millis(1));
    let mut reading = reader.read(&Query::default()).await.unwrap();
    assert!(matches!(reading.next().await, Err(StoreError::Unavailable { .. })));
}

/// Makes `rpm` a derived channel.
async fn declare_derived(store: &dyn Store) {
    let channels = vec![ChannelRow { kind: KIND_DERIVED.into(), ..channel_row("ecu", "rpm", "1") }];
    store.write(&Rows { channels, ..Rows::default() }).await.unwrap();
}

#[tokio::test]
async fn of_different_derived_values_the_latest_is_kept_and_none_is_flagged() {
    on_each(async |store: &dyn Store| {
        declare_derived(store).await;
        // Writer 9 started first; 2 took over, computed 20 and 30 again, and 20 once more.
        let first = Chunk { writer: 9, ..chunk(&[(10, 1.0), (20, 2.0), (30, 3.0)]) };
        let again = |seq, samples: &[(i64, f64)]| Chunk { writer: 2, seq, ..chunk(samples) };
        let again = [again(0, &[(20, 1.5), (30, 3.0)]), again(1, &[(20, 2.5), (40, 4.0)])];
        write(store, &[first.clone(), again[0].clone(), again[1].clone()]).await;
        assert_eq!(read(store).await, [(10, 1.0, 0), (20, 2.5, 0), (30, 3.0, 0), (40, 4.0, 0)]);
        let (_, counts) = read_in_blocks(store, &Query::default(), 1).await;
        assert_eq!((counts.conflicts, counts.superseded, counts.duplicates), (0, 2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_name_that_was_a_facts_before_it_was_derived_keeps_both_values() {
    let store = MemoryStore::default();
    declare_derived(&store).await;
    let channels = vec![ChannelRow { since: -5, ..channel_row("ecu", "rpm", "1") }];
    store.write(&Rows { channels, ..Rows::default() }).await.unwrap();
    write(&store, &[chunk(&[(10, 1.0)]), Chunk { writer: 2, ..chunk(&[(10, 2.0)]) }]).await;
    assert_eq!(read(&store).await, [(10, 1.0, 8), (10, 2.0, 8)]);
}

/// What the reader should see, computed without any cleverness.
fn model(chunks: &[Chunk], offsets: &BTreeMap<(&str, i64), i64>, from: i64, to: i64) -> Vec<Seen> {
    let mut values: BTreeMap<Identity<'_>, BTreeMap<u64, u16>> = BTreeMap::new();
    for chunk in chunks {
        for &(d, value, quality) in &chunk.samples {
            let t = d + offsets[&(chunk.device, chunk.boot)];
            let of = values.entry((t, chunk.device, chunk.channel, chunk.boot, d)).or_default();
            *of.entry(value.to_bits()).or_default() |= quality;
        }
    }
    let within = values.into_iter().filter(|((t, ..), _)| (from..to).contains(t));
    let each = within.flat_map(|((t, device, channel, boot, _), values)| {
        let conflict = if values.len() > 1 { Quality::CONFLICT.0 } else { 0 };
        let seen = move |(bits, quality): (u64, u16)| {
            (t, device.to_owned(), boot, channel.to_owned(), f64::from_bits(bits), quality | conflict)
        };
        values.into_iter().map(seen)
    });
    each.collect()
}

#[tokio::test]
async fn of_derived_rows_that_were_computed_again_the_later_process_counts() {
    on_each(async |store| {
        declare_derived(store).await;
        let by = |writer, samples: &[(i64, f64)]| Chunk { writer, layout: Layout::Rows, ..chunk(samples) };
        write(store, &[by(1, &[(0, 1.0), (10, 2.0), (20, 3.0)]), by(2, &[(10, 2.0), (20, 3.5), (30, 4.0)])]).await;
        let (seen, counts) = read_in_blocks(store, &Query::default(), 100).await;
        let seen: Vec<(i64, f64)> = seen.into_iter().map(|(t, _, _, _, value, _)| (t, value)).collect();
        assert_eq!(seen, [(0, 1.0), (10, 2.0), (20, 3.5), (30, 4.0)]);
        assert_eq!((counts.superseded, counts.duplicates), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn rows_of_one_channel_of_two_devices_are_read_each_once() {
    on_each(async |store| {
        let of = |device, samples: &[(i64, f64)]| Chunk { device, layout: Layout::Rows, ..chunk(samples) };
        write(store, &[of("a", &[(0, 1.0), (10, -0.0), (10, f64::NAN)]), of("b", &[(5, 2.0)])]).await;
        let (seen, counts) = read_in_blocks(store, &Query::default(), 100).await;
        assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 5, 10, 10]);
        assert_eq!((counts.samples, counts.duplicates, counts.conflicts), (4, 0, 2));
    })
    .await;
}

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    let samples = prop::collection::vec((0i64..11, 0u8..3, 0u16..4), 1..8);
    let one = (
        prop::sample::select(vec!["a", "b"]),
        1i64..3,
        prop::sample::select(vec!["x", "y"]),
        0i64..40,
        prop::sample::select(vec![1_000_000i64, 700_000, 3_000_000]),
        samples,
        any::<bool>(),
        any::<bool>(),
    );
    prop::collection::vec(one, 0..24).prop_map(|made| {
        let chunk = |(seq, (device, boot, channel, start, bucket_us, samples, displaced, rows)): (
            usize,
            (_, _, _, _, _, Vec<_>, _, bool),
        )| {
            // Boot 2 of `a` was partly placed by a clock that was wrong by 5 s, early or late.
            let placed_us = match (device, boot, displaced) {
                ("a", 2, true) => {
                    if seq % 2 == 0 {
                        5_000_000
                    } else {
                        -5_000_000
                    }
                }
                ("b", 2, _) => 2_500_000,
                _ => 0,
            };
            // A row that is written again has the flags of the last time: so none.
            let layout = if rows { Layout::Rows } else { Layout::Chunks };
            let flags = |quality: u16| if rows { 0 } else { quality };
            let at = |(step, value, quality)| (10_000_000 + (start + step) * 100_000, f64::from(value), flags(quality));
            let samples = samples.into_iter().map(at).collect();
            let (car, writer, seq) = ("44", 1, seq as i64);
            Chunk { car, device, boot, channel, writer, seq, placed_us, bucket_us, layout, samples }
        };
        made.into_iter().enumerate().map(chunk).collect()
    })
}

proptest! {
    #[test]
    fn a_derived_value_is_that_of_the_process_that_started_last_and_its_last_row(
        made in prop::collection::vec((1u8..4, prop::collection::btree_map(0i64..12, 0i8..3, 1..5)), 0..12),
        block_samples in 1usize..8,
    ) {
        let made = made.into_iter().enumerate().map(|(seq, (writer, samples))| {
            let samples: Vec<_> = samples.into_iter().map(|(d, value)| (d * 400_000, f64::from(value))).collect();
            Chunk { writer, seq: seq as i64, ..chunk(&samples) }
        });
        let chunks: Vec<Chunk> = made.collect();
        let first = |writer: u8| {
            let of = chunks.iter().filter(|chunk| chunk.writer == writer);
            of.flat_map(|chunk| chunk.samples.iter().map(|s| s.0)).min()
        };
        let mut expected: BTreeMap<i64, (_, f64)> = BTreeMap::new();
        for chunk in &chunks {
            let age = (first(chunk.writer), chunk.writer, chunk.seq);
            for &(d, value, _) in &chunk.samples {
                let latest = expected.entry(d).or_insert((age, value));
                if age > latest.0 {
                    *latest = (age, value);
                }
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (seen, counts) = runtime.block_on(async {
            let store = MemoryStore::default();
            declare_derived(&store).await;
            write(&store, &chunks).await;
            read_in_blocks(&store, &Query::default(), block_samples).await
        });
        let seen: Vec<(i64, f64)> = seen.into_iter().map(|(t, _, _, _, value, _)| (t, value)).collect();
        prop_assert_eq!(seen, expected.into_iter().map(|(d, (_, value))| (d, value)).collect::<Vec<_>>());
        let written: usize = chunks.iter().map(|chunk| chunk.samples.len()).sum();
        prop_assert_eq!(written as u64, counts.samples + counts.duplicates + counts.superseded);
    }

    #[test]
    fn the_reader_sees_what_a_plain_model_sees(
        chunks in chunks(),
        block_samples in 1usize..40,
        from in 9_000_000i64..16_000_000,
        length in 0i64..8_000_000,
        whole in any::<bool>(),
    ) {
        let offsets = BTreeMap::from([(("a", 1), 0), (("a", 2), 0), (("b", 1), 0), (("b", 2), 2_500_000)]);
        let clocks = vec![
            ClockRow { device: "a".into(), boot: 2, ..clock_row(0, 0, false) },
            ClockRow { device: "a".into(), boot: 2, ..clock_row(1, 5_000_000, true) },
            ClockRow { device: "a".into(), boot: 2, ..clock_row(2, -5_000_000, true) },
            ClockRow { device: "b".into(), boot: 2, ..clock_row(0, 2_500_000, false) },
        ];
        let (from, to) = if whole { (i64::MIN, i64::MAX) } else { (from, from + length) };
        let query = Query {
            from_us: (!whole).then_some(from),
            to_us: (!whole).then_some(to),
            ..Query::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (seen, counts) = runtime.block_on(async {
            let store = MemoryStore::default();
            write(&store, &chunks).await;
            store.write(&Rows { clocks, ..Rows::default() }).await.unwrap();
            read_in_blocks(&store, &query, block_samples).await
        });
        prop_assert_eq!(counts.late, 0);
        prop_assert_eq!(seen, model(&chunks, &offsets, from, to));
    }
}

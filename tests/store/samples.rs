//! Chunks whose samples become rows, in every store.

use pitwire::codec::{self, RunTimes};
use pitwire::row::{ChunkRow, Layout, Rows, SampleRow};
use pitwire::sample::{Flags, Quality, Scaling, Values};
use pitwire::store::StoreError;

use crate::fixtures::{BUCKET, CAR, DAY, DEVICE, chunk, extent};
use crate::places::{Place, on_both};

on_both!(
    each_sample_of_a_chunk_becomes_a_row_and_comes_back_bit_for_bit,
    a_sample_that_is_sent_again_is_the_same_row_and_two_values_of_one_time_are_two,
    a_chunk_of_many_samples_is_written_whole,
    a_chunk_that_cannot_be_taken_apart_is_refused_alone,
);

/// (device time after the bucket's start in µs, value, flags)
pub(crate) type Sample = (i64, f64, u16);

/// Whose device time is UTC.
pub(crate) fn of(channel: &str, seq: i64, samples: &[Sample]) -> ChunkRow {
    let (mut times, mut flags) = (RunTimes::new(), Flags::default());
    for (already, &(d, _, quality)) in samples.iter().enumerate() {
        times.push(BUCKET + d);
        flags.push(Quality(quality), 1, already);
    }
    let values = Values::F64(samples.iter().map(|sample| sample.1).collect());
    let (d0, d1) = (BUCKET + samples[0].0, BUCKET + samples[samples.len() - 1].0);
    ChunkRow {
        d0,
        t1: d1,
        n: samples.len() as i32,
        quality: 0,
        codec: codec::CODEC,
        data: codec::encode(d0, &times, &values, Scaling::IDENTITY, &flags),
        layout: Layout::Rows,
        ..chunk(channel, d0, seq)
    }
}

fn rows(chunks: Vec<ChunkRow>) -> Rows {
    let extent = |chunk: &ChunkRow| pitwire::row::ExtentRow {
        layout: Layout::Rows.as_str().into(),
        channel: chunk.channel.clone(),
        ..extent(DAY, BUCKET)
    };
    Rows { extents: chunks.iter().map(extent).collect(), chunks, ..Rows::default() }
}

fn bare(rows: &[SampleRow]) -> Vec<(i64, u64, i32)> {
    rows.iter().map(|row| (row.t - BUCKET, row.v.to_bits(), row.quality)).collect()
}

fn expected(samples: &[Sample]) -> Vec<(i64, u64, i32)> {
    samples.iter().map(|&(d, v, quality)| (d, v.to_bits(), i32::from(quality))).collect()
}

async fn each_sample_of_a_chunk_becomes_a_row_and_comes_back_bit_for_bit(place: &Place) {
    let store = place.store().await;
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.5, 5e-324, f64::MAX, 0.1 + 0.2];
    let samples: Vec<Sample> = (0..).zip(odd).map(|(i, v)| (i * 3, v, (i as u16) << 8)).collect();
    let mut provisional = of("b", 9, &[(7, 1.5, 2)]);
    provisional.quality = i32::from(Quality::PROVISIONAL_TIME.0);
    store.write(&rows(vec![of("a", 8, &samples), provisional])).await.unwrap();
    let found = store.samples(CAR, "a", BUCKET).await.unwrap();
    assert_eq!(bare(&found), expected(&samples));
    let (row, like) = (&found[1], chunk("a", 0, 8));
    assert_eq!((&*row.device, row.boot, row.writer, row.seq), (DEVICE, like.boot, like.writer, 8));
    assert_eq!(row.d, row.t);
    let with_the_row = 2 | Quality::PROVISIONAL_TIME.0;
    assert_eq!(bare(&store.samples(CAR, "b", BUCKET).await.unwrap()), expected(&[(7, 1.5, with_the_row)]));
    assert!(store.samples(CAR, "c", BUCKET).await.unwrap().is_empty());
    assert!(store.samples(CAR, "a", BUCKET + 1).await.unwrap().is_empty());
    assert!(store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap().is_empty(), "it is not there twice");
    let layouts: Vec<_> = store.extents(CAR, DAY).await.unwrap().into_iter().map(|e| (e.layout, e.channel)).collect();
    assert_eq!(layouts, [("rows".to_owned(), "a".to_owned()), ("rows".into(), "b".into())]);
}

async fn a_sample_that_is_sent_again_is_the_same_row_and_two_values_of_one_time_are_two(place: &Place) {
    let store = place.store().await;
    let first = of("a", 0, &[(0, 1.0, 0), (10, 2.0, 0)]);
    let again = of("a", 1, &[(10, 2.0, 0), (10, -2.0, 0), (20, 3.0, 0)]);
    let mut other = of("a", 0, &[(10, 2.0, 0)]);
    other.device = "gps".into();
    for chunks in [vec![first.clone()], vec![again, other], vec![first]] {
        store.write(&rows(chunks)).await.unwrap();
    }
    let found = store.samples(CAR, "a", BUCKET).await.unwrap();
    let seen: Vec<_> = found.iter().map(|row| (row.t - BUCKET, &*row.device, row.v)).collect();
    assert_eq!(seen, [(0, "ecu", 1.0), (10, "ecu", -2.0), (10, "ecu", 2.0), (10, "gps", 2.0), (20, "ecu", 3.0)]);
}

async fn a_chunk_of_many_samples_is_written_whole(place: &Place) {
    // Several batches, and several pages of a reader.
    let samples: Vec<Sample> = (0..12_345).map(|i| (i * 10, i as f64 * 0.1, 0)).collect();
    let store = place.store().await;
    store.write(&rows(vec![of("a", 0, &samples), of("b", 1, &samples[..1])])).await.unwrap();
    assert_eq!(bare(&store.samples(CAR, "a", BUCKET).await.unwrap()), expected(&samples));
    assert_eq!(store.samples(CAR, "b", BUCKET).await.unwrap().len(), 1);
}

async fn a_chunk_that_cannot_be_taken_apart_is_refused_alone(place: &Place) {
    let store = place.store().await;
    let mut damaged = of("a", 0, &[(0, 1.0, 0)]);
    damaged.data.push(7);
    let refused = store.write(&rows(vec![damaged])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Rejected { .. }), "{refused}");
    store.write(&rows(vec![of("a", 0, &[(0, 1.0, 0)])])).await.unwrap();
    assert_eq!(store.samples(CAR, "a", BUCKET).await.unwrap().len(), 1);
}

//! A chunk taken apart into the rows that a store keeps where each sample is one, and such rows packed again.

use std::collections::BTreeMap;

use super::{CODEC, CodecError, RunTimes, decode, encode};
use crate::limits::{CHUNK_SAMPLES_MAX, CHUNK_SPAN_US};
use crate::row::{ChunkRow, Layout, SampleRow};
use crate::sample::{Flags, Quality, Scaling, Values};

/// A sample of a chunk, as it becomes a row: what of that differs from sample to sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// UTC as the chunk was placed, µs.
    pub t: i64,
    /// Device time, µs.
    pub d: i64,
    /// The physical value.
    pub v: f64,
    /// Its flags; that the time was provisional is said of each.
    pub quality: Quality,
}

/// The samples of `chunk`, in its order.
///
/// # Errors
/// As [`decode`].
pub fn samples(chunk: &ChunkRow) -> Result<Vec<Sample>, CodecError> {
    let decoded = decode(chunk.d0, &chunk.data, chunk.codec, chunk.n)?;
    let offset_us = chunk.t0.wrapping_sub(chunk.d0);
    let placed = Quality((chunk.quality as u16) & Quality::PROVISIONAL_TIME.0);
    let flags = decoded.flags.iter(decoded.times.len());
    let one = |((index, &d), quality): ((usize, &i64), Quality)| Sample {
        t: d.wrapping_add(offset_us),
        d,
        v: decoded.scaling.physical(decoded.values.raw(index)),
        quality: quality.with(placed),
    };
    Ok(decoded.times.iter().enumerate().zip(flags).map(one).collect())
}

/// Rows of the partition of `channel` of `car` in `bucket` as chunks of physical values: those of one device, boot and
/// chunk together again. Statistics, which no reader of samples needs, are left out.
#[must_use]
pub fn pack(car: &str, channel: &str, bucket: i64, rows: Vec<SampleRow>) -> Vec<ChunkRow> {
    let mut groups: BTreeMap<(String, i64, [u8; 16], i64), Vec<SampleRow>> = BTreeMap::new();
    for mut row in rows {
        let device = std::mem::take(&mut row.device);
        groups.entry((device, row.boot, row.writer, row.seq)).or_default().push(row);
    }
    let mut chunks = Vec::with_capacity(groups.len());
    for ((device, boot, writer, seq), mut rows) in groups {
        rows.sort_by_key(|row| (row.d, row.t));
        let mut rest = &rows[..];
        while let Some(first) = rest.first() {
            // One placement, as within a chunk.
            let fits = |row: &SampleRow| {
                row.d.saturating_sub(first.d) <= CHUNK_SPAN_US
                    && row.t.wrapping_sub(row.d) == first.t.wrapping_sub(first.d)
            };
            let count = rest.iter().take(CHUNK_SAMPLES_MAX).take_while(|row| fits(row)).count();
            let (these, others) = rest.split_at(count);
            rest = others;
            let key = (car.to_owned(), device.clone(), channel.to_owned());
            chunks.push(chunk_of(key, bucket, (boot, writer, seq), these));
        }
    }
    chunks
}

/// `rows`, of which there is at least one, as a chunk.
fn chunk_of(
    (car, device, channel): (String, String, String),
    bucket: i64,
    (boot, writer, seq): (i64, [u8; 16], i64),
    rows: &[SampleRow],
) -> ChunkRow {
    let (mut times, mut flags) = (RunTimes::new(), Flags::default());
    let mut quality = 0;
    for (already, row) in rows.iter().enumerate() {
        times.push(row.d);
        flags.push(Quality(row.quality as u16), 1, already);
        quality |= row.quality;
    }
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    let values = Values::F64(rows.iter().map(|row| row.v).collect());
    ChunkRow {
        car,
        device,
        bucket,
        channel,
        t0: first.t,
        writer,
        seq,
        boot,
        d0: first.d,
        t1: last.t,
        n: i32::try_from(rows.len()).unwrap_or(i32::MAX),
        v_min: None,
        v_max: None,
        v_mean: None,
        v_last: None,
        quality,
        codec: CODEC,
        data: encode(first.d, &times, &values, Scaling::IDENTITY, &flags),
        layout: Layout::Rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(t: i64, d: i64, v: f64) -> SampleRow {
        SampleRow { t, device: "ecu".into(), boot: 7, v, d, quality: 0, writer: [1; 16], seq: 3 }
    }

    /// As the rows of a store: ordered by the key.
    fn taken_apart(chunks: &[ChunkRow]) -> Vec<SampleRow> {
        let mut rows = Vec::new();
        for chunk in chunks {
            rows.extend(samples(chunk).unwrap().into_iter().map(|Sample { t, d, v, quality }| SampleRow {
                t,
                device: chunk.device.clone(),
                boot: chunk.boot,
                v,
                d,
                quality: i32::from(quality.0),
                writer: chunk.writer,
                seq: chunk.seq,
            }));
        }
        rows.sort_by(|a, b| (a.t, &a.device, a.boot).cmp(&(b.t, &b.device, b.boot)).then(a.v.total_cmp(&b.v)));
        rows
    }

    #[test]
    fn rows_come_back_from_being_packed_whatever_lies_in_a_partition() {
        let rows = vec![
            row(1_000, 10, 1.5),
            row(1_000, 10, f64::INFINITY),
            SampleRow { device: "gps".into(), boot: 1, ..row(1_000, 10, -0.0) },
            SampleRow { quality: i32::from(Quality::SPIKE.0), ..row(1_007, 17, 2.5) },
            // Another chunk, another process, another placement, and later than a chunk is long.
            SampleRow { seq: 4, ..row(1_008, 18, 1e300) },
            SampleRow { writer: [2; 16], quality: i32::from(Quality::PROVISIONAL_TIME.0), ..row(1_009, 19, 3.0) },
            row(1_010, 19, 4.0),
            row(2_000_000, 1_999_010, 5.0),
        ];
        let chunks = pack("44", "rpm", 0, rows.clone());
        assert_eq!(taken_apart(&chunks), rows);
        assert_eq!(chunks.len(), 6, "{chunks:#?}");
        assert!(chunks.iter().all(|chunk| (&*chunk.car, &*chunk.channel) == ("44", "rpm")));
        let spans = chunks.iter().map(|chunk| (chunk.t1 - chunk.t0, chunk.n));
        assert_eq!(spans.clone().map(|(_, n)| n).sum::<i32>(), 8);
        assert!(spans.map(|(span, _)| span).all(|span| span <= CHUNK_SPAN_US));
    }

    #[test]
    fn more_rows_than_a_chunk_may_hold_become_several() {
        let many = CHUNK_SAMPLES_MAX as i64 + 1;
        let rows: Vec<SampleRow> = (0..many).map(|i| row(i, i, i as f64)).collect();
        let counts: Vec<i32> = pack("44", "rpm", 0, rows).iter().map(|chunk| chunk.n).collect();
        assert_eq!(counts, [CHUNK_SAMPLES_MAX as i32, 1]);
    }

    #[test]
    fn a_chunk_that_cannot_be_read_is_an_error() {
        let mut chunk = pack("44", "rpm", 0, vec![row(0, 0, 1.0)]).remove(0);
        chunk.data.pop();
        assert!(samples(&chunk).is_err());
    }
}

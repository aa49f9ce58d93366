//! One channel's chunk while it grows.

use std::sync::Arc;

use super::bucket::bucket_of;
use crate::clock::Mapping;
use crate::codec::{self, RunTimes};
use crate::limits::{CHUNK_SAMPLES_MAX, CHUNK_SPAN_US};
use crate::row::{ChunkRow, Layout};
use crate::sample::{ChannelMeta, Column, DeviceTime, Flags, Origin, Quality, Times, Values};

/// A chunk that still takes samples, all of one bucket.
pub(super) struct OpenChunk {
    pub(super) meta: Arc<ChannelMeta>,
    pub(super) bucket: i64,
    pub(super) length_us: i64,
    pub(super) layout: Layout,
    times: RunTimes,
    values: Values,
    flags: Flags,
    d_min: i64,
    d_max: i64,
}

/// Which samples may share a chunk: time goes to a bucket by `mapping` and `length_us`.
#[derive(Clone, Copy)]
pub(super) struct Placement {
    pub(super) mapping: Mapping,
    pub(super) length_us: i64,
}

impl Placement {
    pub(super) fn bucket(self, d: i64) -> i64 {
        bucket_of(self.mapping.utc(DeviceTime(d)).0, self.length_us)
    }
}

impl OpenChunk {
    pub(super) fn new(meta: &Arc<ChannelMeta>, layout: Layout, placement: Placement, d: i64) -> Self {
        Self {
            meta: meta.clone(),
            bucket: placement.bucket(d),
            length_us: placement.length_us,
            layout,
            times: RunTimes::default(),
            values: Values::empty(meta.kind),
            flags: Flags::default(),
            d_min: i64::MAX,
            d_max: i64::MIN,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn bytes(&self) -> usize {
        // What it will be at most: runs of up to 15 bytes, or numbers of 40 bits each; values as they are.
        let times = (self.times.runs().len() * 15).min(self.values.len() * 5);
        160 + times + self.values.len() * self.values.kind().bytes()
    }

    /// Whether samples from `from` to `to` may join those that lie within `seen`.
    fn fits(&self, placement: Placement, seen: (i64, i64), from: i64, to: i64) -> bool {
        seen.1.max(to).saturating_sub(seen.0.min(from)) <= CHUNK_SPAN_US
            && self.length_us == placement.length_us
            && placement.bucket(from) == self.bucket
            && placement.bucket(to) == self.bucket
    }

    /// Takes samples of `column` from `start` on, as many as fit; returns how many.
    pub(super) fn take(&mut self, placement: Placement, column: &Column, start: usize) -> usize {
        let (len, times) = (column.len(), &column.times);
        if start >= len || !same(&column.channel, &self.meta) {
            return 0;
        }
        let room = CHUNK_SAMPLES_MAX - self.values.len();
        let (first, last) = (times.at(start), times.at(len - 1));
        let mut seen = (self.d_min, self.d_max);
        let whole = len - start <= room && in_order(times, start) && self.fits(placement, seen, first, last);
        let end = if whole {
            len
        } else {
            // Something in it ends this chunk: find where, sample by sample.
            let mut end = start;
            while end < len && end - start < room && self.fits(placement, seen, times.at(end), times.at(end)) {
                seen = (seen.0.min(times.at(end)), seen.1.max(times.at(end)));
                end += 1;
            }
            end
        };
        self.append(column, start..end);
        end - start
    }

    fn append(&mut self, column: &Column, range: std::ops::Range<usize>) {
        if range.is_empty() {
            return;
        }
        let already = self.values.len();
        match &column.times {
            Times::Regular { t0, period_ns, count } if range.len() == *count as usize => {
                self.times.push_run(t0.0, *period_ns, *count);
            }
            times => range.clone().for_each(|index| self.times.push(times.at(index))),
        }
        self.values.extend_from(&column.values, range.clone());
        if column.flags.runs().is_empty() {
            self.flags.push(Quality::GOOD, range.len(), already);
        } else {
            let skipped = column.flags.iter(range.end).skip(range.start);
            skipped.enumerate().for_each(|(index, quality)| self.flags.push(quality, 1, already + index));
        }
        let mut saw = |t: i64| (self.d_min, self.d_max) = (self.d_min.min(t), self.d_max.max(t));
        match &column.times {
            Times::Regular { .. } => {
                [range.start, range.end - 1].map(|index| saw(column.times.at(index))).into_iter().collect()
            }
            Times::Explicit(times) => times[range].iter().for_each(|&t| saw(t)),
        }
    }

    /// The samples as (device time, physical value, flags), in the order in which they came.
    pub(super) fn samples(&self) -> impl Iterator<Item = (i64, f64, Quality)> + '_ {
        let physical = |index| self.meta.scaling.physical(self.values.raw(index));
        let flags = self.flags.iter(self.len());
        self.times.iter().zip(flags).enumerate().map(move |(index, (t, quality))| (t, physical(index), quality))
    }

    /// Ends the chunk: its row.
    pub(super) fn close(mut self, origin: &Origin, mapping: Mapping, writer: [u8; 16], seq: i64) -> ChunkRow {
        if !self.times.is_sorted() {
            self.times.sort(&mut self.values, &mut self.flags);
        }
        let count = self.len();
        let (d0, d1) = (self.times.first().unwrap_or_default(), self.times.last().unwrap_or_default());
        let (mut min, mut max, mut sum, mut numbers, mut last) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0_u32, None);
        for index in 0..count {
            let value = self.meta.scaling.physical(self.values.raw(index));
            if value.is_finite() {
                (min, max, sum, numbers, last) =
                    (min.min(value), max.max(value), sum + value, numbers + 1, Some(value));
            }
        }
        let some = |value: f64| (numbers > 0 && value.is_finite()).then_some(value);
        let provisional = if mapping.provisional { Quality::PROVISIONAL_TIME } else { Quality::GOOD };
        ChunkRow {
            car: origin.car.to_string(),
            device: origin.device.to_string(),
            bucket: self.bucket,
            channel: self.meta.name.to_string(),
            t0: mapping.utc(DeviceTime(d0)).0,
            writer,
            seq,
            boot: i64::from(origin.boot),
            d0,
            t1: mapping.utc(DeviceTime(d1)).0,
            n: i32::try_from(count).unwrap_or(i32::MAX),
            v_min: some(min),
            v_max: some(max),
            v_mean: some(sum / f64::from(numbers.max(1))),
            v_last: last,
            quality: i32::from(self.flags.union().with(provisional).0),
            codec: codec::CODEC,
            data: codec::encode(d0, &self.times, &self.values, self.meta.scaling, &self.flags),
            layout: self.layout,
        }
    }
}

/// Whether two descriptions are the same, bit for bit: a scale that is no number equals itself, else a
/// chunk would never take its samples.
pub(super) fn same(a: &Arc<ChannelMeta>, b: &Arc<ChannelMeta>) -> bool {
    let bits = |meta: &ChannelMeta| (meta.scaling.scale.to_bits(), meta.scaling.offset.to_bits());
    Arc::ptr_eq(a, b)
        || ((&a.name, &a.unit, a.kind, a.rate_mhz) == (&b.name, &b.unit, b.kind, b.rate_mhz) && bits(a) == bits(b))
}

/// Explicit times need not increase if a device breaks the rule; then each is looked at.
fn in_order(times: &Times, start: usize) -> bool {
    match times {
        Times::Regular { .. } => true,
        Times::Explicit(times) => times[start..].is_sorted(),
    }
}

//! Chunk rows in any order to samples in order, each once: the pure half of the reader.
//!
//! Rows wait undecoded, by the earliest UTC that a sample of theirs can have. [`Merge::next_block`] decodes
//! them from the front, a bounded number of samples at a time, and hands out what nothing still waiting can
//! precede. Copies of a sample have the same UTC (see `mapping`), so they always meet in one block.
//!
//! In a block samples are ordered by (UTC, car, device, channel, boot, device time), and blocks follow each
//! other in time. Equal identity and value: one sample, flags or-ed. Equal identity and another value: of a
//! device's channel all are kept, each with [`Quality::CONFLICT`]; of a derived one the latest is, see `latest`.
//!
//! Deliberately absent: I/O.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::latest::{Latest, WriterId};
use super::mapping::{BootClock, ClockDigests, Clocks};
use crate::codec::{self, Decoded};
use crate::limits::{READ_BLOCK_SAMPLES, READ_FAULTS_LISTED_MAX};
use crate::row::{ChannelRow, ChunkRow};
use crate::sample::{Name, Quality};

/// A sample as a reader sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadSample {
    /// UTC µs by the best mapping known.
    pub t_us: i64,
    /// Device time, µs.
    pub d_us: i64,
    /// The physical value.
    pub value: f64,
    /// Index into [`Block::series`].
    pub series: u32,
    /// Its flags.
    pub quality: Quality,
}

/// (UTC µs from which it holds, unit), ascending, at least one.
type Units = Arc<[(i64, Name)]>;

/// One channel of one device's boot.
#[derive(Debug, Clone)]
pub struct Series {
    /// The car.
    pub car: Name,
    /// The device.
    pub device: Name,
    /// Its start.
    pub boot: i64,
    /// The channel.
    pub channel: Name,
    /// Whether it was computed.
    pub derived: bool,
    units: Units,
    clock: Arc<BootClock>,
}

impl Series {
    /// The unit at `t_us`, empty if unknown. Before the first description that one counts.
    #[must_use]
    pub fn unit(&self, t_us: i64) -> &Name {
        let after = self.units.partition_point(|&(since, _)| since <= t_us);
        &self.units[after.saturating_sub(1)].1
    }

    /// The unit that never changes, if that is so.
    #[must_use]
    pub fn only_unit(&self) -> Option<&Name> {
        match &*self.units {
            [(_, unit)] => Some(unit),
            _ => None,
        }
    }
}

/// Samples in order.
#[derive(Debug, Clone)]
pub struct Block {
    /// What [`ReadSample::series`] points into; later blocks only append to it.
    pub series: Arc<Vec<Series>>,
    /// The samples.
    pub samples: Vec<ReadSample>,
    /// No later block has a sample before this, UTC µs, but for those that are counted as late.
    pub until_us: i64,
}

/// What a reader met.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReadCounts {
    /// Rows read.
    pub rows: u64,
    /// Samples handed out.
    pub samples: u64,
    /// Copies of samples that were dropped because an equal one was kept.
    pub duplicates: u64,
    /// Samples flagged because another value exists for their identity.
    pub conflicts: u64,
    /// Derived samples that were dropped because a later value for their identity was kept.
    pub superseded: u64,
    /// Rows whose data could not be read.
    pub damaged: u64,
    /// Samples that came after their place in the order: their row was placed by a mapping that `clocks`
    /// does not hold.
    pub late: u64,
    /// The first faults in words.
    pub faults: Vec<String>,
}

impl ReadCounts {
    /// Both together: of an export that went on, and of what it went on with.
    #[must_use]
    pub fn with(&self, earlier: &Self) -> Self {
        let mut faults = earlier.faults.clone();
        faults.extend(self.faults.iter().cloned());
        faults.truncate(READ_FAULTS_LISTED_MAX);
        Self {
            rows: earlier.rows + self.rows,
            samples: earlier.samples + self.samples,
            duplicates: earlier.duplicates + self.duplicates,
            conflicts: earlier.conflicts + self.conflicts,
            superseded: earlier.superseded + self.superseded,
            damaged: earlier.damaged + self.damaged,
            late: earlier.late + self.late,
            faults,
        }
    }
}

/// (car, device, channel)
pub(super) fn key_of(car: &str, device: &str, channel: &str) -> (Name, Name, Name) {
    (car.into(), device.into(), channel.into())
}

/// A row that waits, without its names.
struct Held {
    earliest_us: i64,
    series: u32,
    writer: WriterId,
    d0: i64,
    t0: i64,
    seq: i64,
    n: i32,
    codec: i8,
    data: Vec<u8>,
}

impl Ord for Held {
    /// The heap's greatest is the earliest row.
    fn cmp(&self, other: &Self) -> Ordering {
        other.earliest_us.cmp(&self.earliest_us)
    }
}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Held {}

/// Rows in, ordered blocks out.
pub(super) struct Merge {
    /// By car.
    clocks: HashMap<Name, Clocks>,
    /// By car, device and channel.
    units: HashMap<(Name, Name, Name), Units>,
    from_us: Option<i64>,
    to_us: Option<i64>,
    series: Arc<Vec<Series>>,
    index: HashMap<String, u32>,
    /// Place of each series in the order of output; of the same length as `series` or out of date.
    ranks: Vec<u32>,
    held: BinaryHeap<Held>,
    /// Decoded, not yet final.
    open: Vec<ReadSample>,
    latest: Latest,
    handed_out_until: i64,
    block_samples: usize,
    key: String,
    pub(super) counts: ReadCounts,
}

impl Merge {
    pub(super) fn new(
        clocks: HashMap<Name, Clocks>,
        channels: &[ChannelRow],
        from_us: Option<i64>,
        to_us: Option<i64>,
    ) -> Self {
        let mut units: HashMap<(Name, Name, Name), Vec<(i64, Name)>> = HashMap::new();
        for row in channels {
            let of = units.entry(key_of(&row.car, &row.device, &row.channel)).or_default();
            of.push((row.since, row.unit.as_str().into()));
        }
        let sorted = |(key, mut of): (_, Vec<(i64, Name)>)| {
            of.sort();
            of.dedup_by(|later, earlier| later.1 == earlier.1);
            (key, of.into())
        };
        Self {
            clocks,
            units: units.into_iter().map(sorted).collect(),
            from_us,
            to_us,
            series: Arc::default(),
            index: HashMap::new(),
            ranks: Vec::new(),
            held: BinaryHeap::new(),
            open: Vec::new(),
            latest: Latest::new(channels),
            handed_out_until: i64::MIN,
            block_samples: READ_BLOCK_SAMPLES,
            key: String::new(),
            counts: ReadCounts::default(),
        }
    }

    /// Decodes at most about `samples` at a time.
    #[cfg(test)]
    pub(super) fn with_block_samples(mut self, samples: usize) -> Self {
        self.block_samples = samples;
        self
    }

    /// By which clocks samples are placed.
    pub(super) fn clock_digests(&self) -> ClockDigests {
        self.clocks.iter().flat_map(|(car, clocks)| clocks.digests(car)).collect()
    }

    /// Takes one row in.
    pub(super) fn add(&mut self, row: ChunkRow) {
        self.counts.rows += 1;
        let series = self.intern(&row);
        let d1 = row.d0.saturating_add(row.t1.saturating_sub(row.t0).max(0));
        let earliest_us = self.series[series as usize].clock.earliest(row.d0, d1);
        if self.to_us.is_some_and(|to| earliest_us >= to) {
            return;
        }
        let writer = self.latest.writer(&self.series[series as usize].car, &row, earliest_us);
        let ChunkRow { d0, t0, seq, n, codec, data, .. } = row;
        self.held.push(Held { earliest_us, series, writer, d0, t0, seq, n, codec, data });
    }

    fn intern(&mut self, row: &ChunkRow) -> u32 {
        self.key.clear();
        let wrote = write!(self.key, "{}\0{}\0{}\0{}", row.car, row.device, row.boot, row.channel);
        debug_assert!(wrote.is_ok(), "writing into a String cannot fail");
        if let Some(&index) = self.index.get(&self.key) {
            return index;
        }
        let key = key_of(&row.car, &row.device, &row.channel);
        let clock = self.clocks.entry(Arc::clone(&key.0)).or_default().boot(&key.1, row.boot, row.d0, row.t0);
        let units = self.units.get(&key).cloned().unwrap_or_else(|| Arc::new([(i64::MIN, "".into())]));
        let derived = self.latest.is_derived(&key);
        let (car, device, channel) = key;
        let index = u32::try_from(self.series.len()).expect("far fewer than 2^32 channels fit into memory");
        Arc::make_mut(&mut self.series).push(Series { car, device, boot: row.boot, channel, derived, units, clock });
        self.index.insert(self.key.clone(), index);
        index
    }

    /// The next samples in order, given that rows still to be added hold none before `horizon_us` (none
    /// at all if that is absent). `None`: add rows or raise the horizon.
    pub(super) fn next_block(&mut self, horizon_us: Option<i64>) -> Option<Block> {
        loop {
            let before_horizon = |at: i64| horizon_us.is_none_or(|horizon| at < horizon);
            let room = self.open.len().saturating_add(self.block_samples);
            let mut decoded = false;
            while self.open.len() < room && self.held.peek().is_some_and(|held| before_horizon(held.earliest_us)) {
                let Some(held) = self.held.pop() else { break };
                self.decode(&held);
                decoded = true;
            }
            let until = match (self.held.peek(), horizon_us) {
                (Some(held), Some(horizon)) => Some(held.earliest_us.min(horizon)),
                (Some(held), None) => Some(held.earliest_us),
                (None, horizon) => horizon,
            };
            let mut samples: Vec<ReadSample> =
                self.open.extract_if(.., |sample| until.is_none_or(|until| sample.t_us < until)).collect();
            self.handed_out_until = self.handed_out_until.max(until.unwrap_or(i64::MAX));
            if !samples.is_empty() {
                self.sort(&mut samples);
                self.dedup(&mut samples);
                self.counts.samples += samples.len() as u64;
                return Some(Block { series: Arc::clone(&self.series), samples, until_us: self.handed_out_until });
            }
            if !decoded {
                return None;
            }
        }
    }

    fn decode(&mut self, held: &Held) {
        match codec::decode(held.d0, &held.data, held.codec, held.n) {
            Ok(decoded) => self.open_samples(held, &decoded),
            Err(error) => {
                let Series { car, device, boot, channel, .. } = &self.series[held.series as usize];
                let fault = format!(
                    "row of car {car}, device {device}, boot {boot}, channel {channel}, t0 {}, seq {}: {error}",
                    held.t0, held.seq
                );
                self.counts.damaged += 1;
                if self.counts.faults.len() < READ_FAULTS_LISTED_MAX {
                    self.counts.faults.push(fault);
                }
            }
        }
    }

    fn open_samples(&mut self, held: &Held, decoded: &Decoded) {
        let series = held.series;
        let Series { clock, derived, .. } = &self.series[series as usize];
        let (clock, derived) = (Arc::clone(clock), *derived);
        let qualities = decoded.flags.iter(decoded.times.len());
        let mut late = 0;
        for (index, (&d_us, quality)) in decoded.times.iter().zip(qualities).enumerate() {
            let t_us = clock.utc(d_us);
            if self.from_us.is_some_and(|from| t_us < from) || self.to_us.is_some_and(|to| t_us >= to) {
                continue;
            }
            late += u64::from(t_us < self.handed_out_until);
            let value = decoded.scaling.physical(decoded.values.raw(index));
            if derived {
                self.latest.saw(series, d_us, value, held.writer, held.seq);
            }
            self.open.push(ReadSample { t_us, d_us, value, series, quality: clock.quality(quality) });
        }
        self.counts.late += late;
    }

    fn sort(&mut self, samples: &mut [ReadSample]) {
        if self.ranks.len() != self.series.len() {
            let mut order: Vec<u32> = (0u32..).take(self.series.len()).collect();
            let name = |&index: &u32| {
                let series = &self.series[index as usize];
                (&*series.car, &*series.device, &*series.channel, series.boot)
            };
            order.sort_by(|a, b| name(a).cmp(&name(b)));
            self.ranks = vec![0; order.len()];
            for (rank, &index) in (0u32..).zip(&order) {
                self.ranks[index as usize] = rank;
            }
        }
        // Stable: rows are runs that are in order already, which this sort makes use of.
        let ranks = &self.ranks;
        let key = |s: &ReadSample| (s.t_us, ranks[s.series as usize], s.d_us, s.value.to_bits());
        samples.sort_by_key(key);
    }

    /// Equal samples are neighbours here, and so are different values of one identity.
    fn dedup(&mut self, samples: &mut Vec<ReadSample>) {
        let before = samples.len();
        let (mut kept, mut superseded) = (0, 0);
        // Where the samples of the current identity start among those kept.
        let mut start = 0;
        for index in 0..samples.len() {
            let sample = samples[index];
            if kept > 0 {
                let last = &mut samples[kept - 1];
                if (last.series, last.d_us) != (sample.series, sample.d_us) {
                    start = kept;
                } else if last.value.to_bits() == sample.value.to_bits() {
                    last.quality = last.quality.with(sample.quality);
                    continue;
                } else if self.series[sample.series as usize].derived {
                    superseded += 1;
                    if self.latest.is_latest(sample.series, sample.d_us, sample.value) {
                        *last = sample;
                    }
                    continue;
                }
            }
            samples[kept] = sample;
            kept += 1;
            if kept - start > 1 {
                let conflicting = if kept - start == 2 { start..kept } else { kept - 1..kept };
                self.counts.conflicts += conflicting.len() as u64;
                samples[conflicting].iter_mut().for_each(|s| s.quality = s.quality.with(Quality::CONFLICT));
            }
        }
        samples.truncate(kept);
        for sample in samples.iter().filter(|sample| self.series[sample.series as usize].derived) {
            self.latest.forget(sample.series, sample.d_us);
        }
        self.counts.superseded += superseded;
        self.counts.duplicates += (before - kept) as u64 - superseded;
    }
}

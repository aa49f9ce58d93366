//! Which of several derived values of one identity is the latest: a process that took over may have computed
//! samples again, from less or by another rule.
//!
//! Rows have no time of writing. The later value is that of the process whose first row, among those read, is
//! later, as a process that takes over goes on in time; within a process that of the higher `seq`. Where two
//! begin at the same time, their ids decide: arbitrarily, but the same for every reader.

use std::collections::{HashMap, HashSet};

use super::merge::key_of;
use crate::row::{ChannelRow, ChunkRow, KIND_DERIVED};
use crate::sample::Name;

/// (first UTC µs of the process, its id, the row's `seq`)
type Age = (i64, [u8; 16], i64);

/// A process by its number here.
pub(super) type WriterId = u32;

#[derive(Default)]
pub(super) struct Latest {
    /// (car, device, channel) of those that were derived whenever they were described.
    derived: HashSet<(Name, Name, Name)>,
    ids: HashMap<(Name, [u8; 16]), WriterId>,
    /// By number: the process's first UTC and its id.
    writers: Vec<(i64, [u8; 16])>,
    /// By series and device time: the latest value so far, of samples that are decoded and not handed out.
    values: HashMap<(u32, i64), (Age, u64)>,
}

impl Latest {
    pub(super) fn new(channels: &[ChannelRow]) -> Self {
        let of = |kind: bool| {
            let rows = channels.iter().filter(move |row| (row.kind == KIND_DERIVED) == kind);
            rows.map(|row| key_of(&row.car, &row.device, &row.channel)).collect::<HashSet<_>>()
        };
        // A name that was ever a fact's is treated as one: both values stay.
        let raw = of(false);
        Self { derived: of(true).difference(&raw).cloned().collect(), ..Self::default() }
    }

    pub(super) fn is_derived(&self, key: &(Name, Name, Name)) -> bool {
        self.derived.contains(key)
    }

    /// The process that wrote `row` of `car`, which begins at `earliest_us` or before: for that car.
    pub(super) fn writer(&mut self, car: &Name, row: &ChunkRow, earliest_us: i64) -> WriterId {
        let next = self.writers.len();
        let id = *self.ids.entry((Name::clone(car), row.writer)).or_insert(u32::try_from(next).unwrap_or(u32::MAX));
        if next == id as usize {
            self.writers.push((earliest_us, row.writer));
        }
        let (first_us, _) = &mut self.writers[id as usize];
        *first_us = (*first_us).min(earliest_us);
        id
    }

    /// A sample of a derived series was decoded, of row `seq` of `writer`. All rows that begin before this one
    /// are known by then, so the process's first is.
    pub(super) fn saw(&mut self, series: u32, d_us: i64, value: f64, writer: WriterId, seq: i64) {
        let (first_us, id) = self.writers[writer as usize];
        let seen = ((first_us, id, seq), value.to_bits());
        let latest = self.values.entry((series, d_us)).or_insert(seen);
        if seen.0 >= latest.0 {
            *latest = seen;
        }
    }

    /// Whether `value` is the latest of its identity.
    pub(super) fn is_latest(&self, series: u32, d_us: i64, value: f64) -> bool {
        self.values.get(&(series, d_us)).is_none_or(|(_, bits)| *bits == value.to_bits())
    }

    /// The sample is handed out.
    pub(super) fn forget(&mut self, series: u32, d_us: i64) {
        self.values.remove(&(series, d_us));
    }
}

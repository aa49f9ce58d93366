//! Which partitions a read needs, in which order, and how each is asked for.
//!
//! A sample placed at UTC t lies in a bucket that starts at or before t, and no earlier than its layout's longest. A
//! better mapping may have moved it by one of its device's [`Shifts`](super::mapping::Shifts): by 56 years, where a
//! gateway had no clock yet. So a day or a partition is taken where one of them leads from it into the time asked for,
//! and nothing between is looked at.
//!
//! Bounded: 32 bytes for each partition, so 3 MB for ten devices over a week of minutes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use wildmatch::WildMatch;

use super::mapping::Clocks;
use crate::limits::{BUCKET_US_MAX, CHUNK_SPAN_US, SAMPLES_BUCKET_US_MAX};
use crate::row::{ChannelRow, DAY_US, ExtentRow, Layout};
use crate::sample::Name;

/// Which samples to read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// From this UTC on, µs; from the first sample if absent.
    pub from_us: Option<i64>,
    /// Before this UTC, µs; to the last sample if absent.
    pub to_us: Option<i64>,
    /// Only these channels.
    pub channels: ChannelFilter,
}

/// Patterns of channel names: `*` for any text, `?` for one character. One of them has to match.
#[derive(Debug, Clone, Default)]
pub struct ChannelFilter {
    /// Empty: every channel.
    patterns: Vec<WildMatch>,
}

impl ChannelFilter {
    /// From patterns, each of which may be several with commas between. None at all means every channel.
    #[must_use]
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Self {
        let mut all = Vec::new();
        for text in patterns {
            let parts = text.as_ref().split(',').map(str::trim).filter(|part| !part.is_empty());
            all.extend(parts.map(WildMatch::new));
        }
        if all.iter().any(|pattern| pattern.pattern_chars().iter().all(|&c| c == '*')) {
            all.clear();
        }
        Self { patterns: all }
    }

    /// Whether every channel matches.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `channel` matches.
    #[must_use]
    pub fn takes(&self, channel: &str) -> bool {
        self.takes_all() || self.patterns.iter().any(|pattern| pattern.matches(channel))
    }
}

/// One partition to read.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    pub(super) car: Name,
    pub(super) device: Name,
    /// Whose samples are rows; `None` where the partition holds the device's chunks.
    pub(super) channel: Option<Name>,
    pub(super) bucket: i64,
    /// No sample in it is placed before this by the best mapping, UTC µs.
    pub(super) first_us: i64,
}

/// The days whose partitions may hold samples between `from_us` and `to_us`.
pub(super) fn needs_day(day: i32, query: &Query, clocks: &Clocks) -> bool {
    let first_us = i64::from(day).saturating_mul(DAY_US);
    let last_us = first_us.saturating_add(DAY_US - 1).saturating_add(SAMPLES_BUCKET_US_MAX + CHUNK_SPAN_US);
    clocks.all_shifts().may_hold(first_us, last_us, query.from_us, query.to_us)
}

/// The partitions of `car` that are needed.
pub(super) fn partitions(car: &Name, extents: Vec<ExtentRow>, query: &Query, clocks: &Clocks) -> Vec<Partition> {
    let mut names: BTreeSet<Name> = BTreeSet::new();
    let mut name = |text: String| {
        let name = names.get(&*text).cloned().unwrap_or_else(|| text.into());
        names.insert(Arc::clone(&name));
        name
    };
    let mut needed: Vec<Partition> = Vec::with_capacity(extents.len());
    for ExtentRow { layout, device, channel, bucket, .. } in extents {
        let (channel, length_us) = match layout {
            chunks if chunks == Layout::Chunks.as_str() => (None, BUCKET_US_MAX),
            rows if rows == Layout::Rows.as_str() && query.channels.takes(&channel) => {
                (Some(name(channel)), SAMPLES_BUCKET_US_MAX)
            }
            // Not asked for, or a later version's.
            _ => continue,
        };
        let device = name(device);
        let shifts = clocks.shifts(&device);
        // A chunk's span more, as it is only the chunk's start that has to lie in the bucket.
        let last_us = bucket.saturating_add(length_us + CHUNK_SPAN_US - 1);
        if shifts.may_hold(bucket, last_us, query.from_us, query.to_us) {
            let first_us = shifts.earliest(bucket);
            needed.push(Partition { car: Arc::clone(car), device, channel, bucket, first_us });
        }
    }
    needed
}

/// Partitions of several cars in the order in which to read them, each once.
pub(super) fn in_order(mut partitions: Vec<Partition>) -> VecDeque<Partition> {
    fn name(partition: &Partition) -> (&Name, &Name, Option<&Name>) {
        (&partition.car, &partition.device, partition.channel.as_ref())
    }
    let key = |p: &Partition| (p.first_us, p.bucket);
    partitions.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b))));
    partitions.dedup_by(|a, b| (a.bucket, name(a)) == (b.bucket, name(b)));
    partitions.into()
}

/// How to ask a device's partitions for what `filter` takes: whole (`None`), or channel by channel.
///
/// Channel by channel where that is at most a quarter of what the device described: each question has its
/// cost. A device that described nothing is read whole, or its channels would be overlooked.
pub(super) fn channels_of(
    car: &str,
    device: &str,
    filter: &ChannelFilter,
    rows: &[ChannelRow],
) -> Option<Arc<[String]>> {
    if filter.takes_all() {
        return None;
    }
    let mut all: Vec<&str> =
        rows.iter().filter(|row| row.car == car && row.device == device).map(|row| row.channel.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    let taken: Vec<String> = all.iter().filter(|name| filter.takes(name)).map(|&name| name.to_owned()).collect();
    (taken.len() * 4 <= all.len() && !all.is_empty()).then(|| taken.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::day_of;

    #[test]
    fn channels_match_by_patterns_with_commas_or_repeated() {
        let filter = ChannelFilter::new(["engine.*, gps.?", "lap"]);
        let taken = |name: &str| filter.takes(name);
        assert!(taken("engine.rpm") && taken("gps.x") && taken("lap"));
        assert!(!taken("gps.xy") && !taken("speed"));
        assert!(ChannelFilter::new([""; 0]).takes_all());
        assert!(ChannelFilter::new(["a", "*"]).takes_all());
    }

    fn extent(device: &str, bucket: i64, length_us: i64) -> ExtentRow {
        ExtentRow {
            car: "44".into(),
            day: day_of(bucket),
            layout: Layout::Chunks.as_str().into(),
            device: device.into(),
            channel: String::new(),
            bucket,
            length_us,
        }
    }

    #[test]
    fn partitions_come_by_start_once_and_only_where_the_time_asked_for_may_lie() {
        const S: i64 = 1_000_000;
        let made = [("b", 60, 60), ("a", 0, 30), ("a", 60, 60), ("a", 60, 30)];
        let extents = made.map(|(device, bucket, length)| extent(device, bucket * S, length * S));
        let order = |from_us, to_us| {
            let query = Query { from_us, to_us, ..Query::default() };
            let order = in_order(partitions(&"44".into(), extents.to_vec(), &query, &Clocks::default()));
            order.iter().map(|p| format!("{}{}", p.device, p.bucket / S)).collect::<Vec<_>>()
        };
        assert_eq!(order(None, None), ["a0", "a60", "b60"]);
        assert_eq!(order(Some(61 * S - 1), None), ["a0", "a60", "b60"], "a bucket may have 60 s, a chunk 1 s");
        assert_eq!(order(Some(61 * S), None), ["a60", "b60"]);
        assert_eq!(order(None, Some(60 * S)), ["a0"]);
    }

    #[test]
    fn a_channel_of_rows_has_its_own_partitions_and_layouts_of_the_future_are_left_alone() {
        const S: i64 = 1_000_000;
        let of = |layout: &str, channel: &str| ExtentRow {
            layout: layout.into(),
            channel: channel.into(),
            ..extent("a", 0, 60)
        };
        let extents = vec![of("rows", "lap"), of("rows", "fuel"), of("chunks", ""), of("frames", "")];
        let found = |query: &Query| {
            let order = in_order(partitions(&"44".into(), extents.clone(), query, &Clocks::default()));
            order.into_iter().map(|p| p.channel.as_deref().unwrap_or("-").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found(&Query::default()), ["-", "fuel", "lap"]);
        let lap = Query { channels: ChannelFilter::new(["lap"]), ..Query::default() };
        assert_eq!(found(&lap), ["-", "lap"]);
        let from = |s: i64| Query { from_us: Some(s * S), ..Query::default() };
        assert_eq!(found(&from(61)), ["fuel", "lap"], "they may have an hour");
        assert_eq!(found(&from(3_601)), [""; 0]);
    }
}

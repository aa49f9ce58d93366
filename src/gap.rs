//! Gaps: what a reader has to know of samples that are not there, as an event of the kind [`KIND_GAP`].
//!
//! The event's `number` is the count of samples if it is known, else 0; its text is a [`Gap`] as one JSON object.
//! `docs/gaps.md` describes it for readers. A gap may say more than is missing (a late frame, a row that was stored
//! after all) and never less.
//!
//! Bounded: [`CHANNELS_MAX`] names and [`RANGES_MAX`] ranges, so a text stays below 4 KiB at usual names.
//! Deliberately absent: how gaps are found. That is `decode`'s affair by sequence, and `deliver`'s by what it drops.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kind of a gap's event.
pub const KIND_GAP: &str = "gap";
/// Channels that a gap names; the rest are counted. 96 × 32 B = 3 KiB.
pub const CHANNELS_MAX: usize = 96;
/// Ranges of sequences that a gap lists; what is nearest to each other is joined. 64 × 24 B = 1.5 KiB.
pub const RANGES_MAX: usize = 64;

/// Why samples are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The device's sequence shows frames that did not arrive.
    NeverReceived,
    /// Frames between the last that an earlier run is known to have made durable and the first that this one saw.
    Restart,
    /// A stage of the agent failed on them, or they were dropped from memory: then [`Self::Overflow`] counts their
    /// samples, and this names their sequences.
    Failed,
    /// The disk budget was used up, or memory while nothing could be written.
    Overflow,
    /// A record of the spill was damaged on disk.
    Damaged,
}

impl Reason {
    /// All, in the order of [`Self::index`].
    pub const ALL: [Self; 5] = [Self::NeverReceived, Self::Restart, Self::Failed, Self::Overflow, Self::Damaged];

    /// As the event's text says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverReceived => "never_received",
            Self::Restart => "restart",
            Self::Failed => "failed",
            Self::Overflow => "overflow",
            Self::Damaged => "damaged",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// What an event's text says of a gap. Its device and boot are the event's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: Reason,
    /// First sequence missing, if it is known by sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq_from: Option<u32>,
    /// Last sequence missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq_to: Option<u32>,
    /// The ranges of sequences, both ends inclusive, if there are several; what lies between them was received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seq_ranges: Vec<(u32, u32)>,
    /// How many frames are missing, if it is known by sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// No missing sample has an earlier device time, µs; absent if nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_from: Option<i64>,
    /// No missing sample has a later device time, µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_to: Option<i64>,
    /// How many samples are missing, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Which channels; empty, in the text `"all"`, for any of the device.
    #[serde(default, serialize_with = "write_channels", deserialize_with = "read_channels")]
    pub channels: Vec<String>,
    /// Channels that the list has no room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub channels_more: u64,
    /// Nothing is known of an earlier run: it may well have stored them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_be_stored: bool,
    /// Records of the spill, where their content is unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub records: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Channels {
    Word(String),
    Names(Vec<String>),
}

fn write_channels<S: Serializer>(names: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if names.is_empty() { serializer.serialize_str("all") } else { names.serialize(serializer) }
}

fn read_channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Channels::deserialize(deserializer)? {
        Channels::Word(_) => Vec::new(),
        Channels::Names(names) => names,
    })
}

impl Gap {
    /// A gap of which only the reason is known.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            seq_from: None,
            seq_to: None,
            seq_ranges: Vec::new(),
            frames: None,
            d_from: None,
            d_to: None,
            samples: None,
            channels: Vec::new(),
            channels_more: 0,
            may_be_stored: false,
            records: 0,
        }
    }

    /// Notes the missing sequences: ranges in order, both ends inclusive, numbered past the wrap of 32 bits.
    #[must_use]
    pub fn with_sequences(mut self, mut ranges: Vec<(u64, u64)>) -> Self {
        self.frames = Some(ranges.iter().map(|(from, to)| to - from + 1).sum());
        while ranges.len() > RANGES_MAX {
            // What lies between the two nearest is declared too.
            let nearest = (1..ranges.len()).min_by_key(|&index| ranges[index].0 - ranges[index - 1].1).unwrap_or(1);
            let (_, to) = ranges.remove(nearest);
            ranges[nearest - 1].1 = to;
        }
        self.seq_from = ranges.first().map(|range| range.0 as u32);
        self.seq_to = ranges.last().map(|range| range.1 as u32);
        if ranges.len() > 1 {
            self.seq_ranges = ranges.into_iter().map(|(from, to)| (from as u32, to as u32)).collect();
        }
        self
    }

    /// Notes the channels, of which the first [`CHANNELS_MAX`] are named.
    #[must_use]
    pub fn with_channels(mut self, channels: impl IntoIterator<Item = String>) -> Self {
        let mut channels = channels.into_iter();
        self.channels = channels.by_ref().take(CHANNELS_MAX).collect();
        self.channels_more += channels.count() as u64;
        self
    }

    /// The event's text.
    ///
    /// # Panics
    /// Never: plain data becomes JSON.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("plain data becomes JSON")
    }

    /// From an event's text; `None` if it is no gap's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether it speaks of `channel`.
    #[must_use]
    pub fn covers_channel(&self, channel: &str) -> bool {
        self.channels.is_empty() || self.channels_more > 0 || self.channels.iter().any(|name| name == channel)
    }

    /// Whether a device time from `from_us` to `to_us`, both inclusive, may lie in it.
    #[must_use]
    pub fn covers_time(&self, from_us: i64, to_us: i64) -> bool {
        self.d_from.is_none_or(|d_from| d_from <= to_us) && self.d_to.is_none_or(|d_to| from_us <= d_to)
    }

    /// Whether it says that `sequence` is missing.
    #[must_use]
    pub fn covers_sequence(&self, sequence: u32) -> bool {
        let inside = |(from, to): (u32, u32)| sequence.wrapping_sub(from) <= to.wrapping_sub(from);
        match (self.seq_from, self.seq_to) {
            (Some(from), Some(to)) if self.seq_ranges.is_empty() => inside((from, to)),
            _ => self.seq_ranges.iter().any(|&range| inside(range)),
        }
    }
}

/// Gaps declared by this run, by reason. Shared by those that declare.
#[derive(Debug, Default)]
pub struct GapCounts([(AtomicU64, AtomicU64, AtomicU64); Reason::ALL.len()]);

/// What was declared for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Declared {
    /// Why.
    pub reason: Reason,
    /// Gap events made.
    pub events: u64,
    /// Frames in them, where the sequence tells.
    pub frames: u64,
    /// Samples in them, where that is known.
    pub samples: u64,
}

impl GapCounts {
    /// Counts a gap.
    pub fn add(&self, gap: &Gap) {
        let (events, frames, samples) = &self.0[gap.reason.index()];
        events.fetch_add(1, Ordering::Relaxed);
        frames.fetch_add(gap.frames.unwrap_or(0), Ordering::Relaxed);
        samples.fetch_add(gap.samples.unwrap_or(0), Ordering::Relaxed);
    }

    /// The counts, one entry for each reason.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Declared> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let entry = |(reason, (events, frames, samples)): (Reason, &(AtomicU64, AtomicU64, AtomicU64))| Declared {
            reason,
            events: read(events),
            frames: read(frames),
            samples: read(samples),
        };
        Reason::ALL.into_iter().zip(&self.0).map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_comes_back_from_its_text_and_says_what_it_covers() {
        let gap = Gap { d_from: Some(5), d_to: Some(9), ..Gap::new(Reason::NeverReceived) };
        let gap = gap.with_sequences(vec![(7, 8), (12, 12)]);
        let text = r#"{"reason":"never_received","seq_from":7,"seq_to":12,"seq_ranges":[[7,8],[12,12]],"frames":3,"d_from":5,"d_to":9,"channels":"all"}"#;
        assert_eq!(gap.text(), text);
        assert_eq!(Gap::parse(text).as_ref(), Some(&gap));
        assert_eq!([6, 7, 8, 9, 12, 13].map(|s| gap.covers_sequence(s)), [false, true, true, false, true, false]);
        assert!(gap.covers_time(0, 5) && gap.covers_time(9, 20) && !gap.covers_time(0, 4) && !gap.covers_time(10, 20));
        assert!(gap.covers_channel("any"));
        assert!(Gap::parse("lap 3").is_none());
    }

    #[test]
    fn long_lists_are_joined_and_cut_and_never_say_less() {
        let ranges: Vec<(u64, u64)> = (0..500).map(|n| (n * 10 + n % 3, n * 10 + 4)).collect();
        let gap = Gap::new(Reason::Restart).with_sequences(ranges.clone());
        assert_eq!(gap.seq_ranges.len(), RANGES_MAX);
        assert!(ranges.iter().all(|&(from, to)| (from..=to).all(|s| gap.covers_sequence(s as u32))));
        assert_eq!(gap.frames, Some(ranges.iter().map(|(from, to)| to - from + 1).sum()));
        let gap = gap.with_channels((0..300).map(|n| format!("c{n}")));
        assert_eq!((gap.channels.len() as u64, gap.channels_more), (CHANNELS_MAX as u64, 300 - CHANNELS_MAX as u64));
        assert!(gap.covers_channel("c299"), "it is not named, but may be meant");
        assert!(gap.text().len() < 4_096, "{}", gap.text().len());
    }

    #[test]
    fn sequences_go_on_past_the_wrap_of_32_bits() {
        let wrap = 1 << 32;
        let gap = Gap::new(Reason::Restart).with_sequences(vec![(wrap - 2, wrap + 1)]);
        assert_eq!((gap.seq_from, gap.seq_to, gap.frames), (Some(u32::MAX - 1), Some(1), Some(4)));
        assert!([u32::MAX - 1, u32::MAX, 0, 1].iter().all(|&s| gap.covers_sequence(s)));
        assert!(!gap.covers_sequence(2) && !gap.covers_sequence(u32::MAX - 2));
    }

    #[test]
    fn what_is_declared_is_counted_by_reason() {
        let counts = GapCounts::default();
        counts.add(&Gap { samples: Some(7), ..Gap::new(Reason::Overflow) });
        counts.add(&Gap::new(Reason::Restart).with_sequences(vec![(1, 4)]));
        let all = counts.snapshot();
        assert_eq!(all.len(), Reason::ALL.len());
        let of = |reason| all.iter().find(|declared| declared.reason == reason).unwrap();
        assert_eq!((of(Reason::Overflow).events, of(Reason::Overflow).samples), (1, 7));
        assert_eq!((of(Reason::Restart).events, of(Reason::Restart).frames), (1, 4));
        assert!(Reason::ALL.iter().all(|reason| serde_json::to_string(reason).unwrap().contains(reason.as_str())));
    }
}

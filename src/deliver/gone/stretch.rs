//! What is gone of one device, from when to when.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use super::Whose;
use crate::gap::{CHANNELS_MAX, Gap, GapCounts, KIND_GAP, Reason};
use crate::limits::CHUNK_SPAN_US;
use crate::row::{EventRow, day_of};

#[derive(Default)]
pub(super) struct Stretch {
    pub(super) d_from: i64,
    pub(super) d_to: i64,
    /// UTC − device time.
    pub(super) offset_us: i64,
    pub(super) samples: u64,
    /// Empty: any.
    pub(super) channels: BTreeSet<String>,
    /// Channels that have no name here.
    pub(super) channels_more: u64,
    /// The event that says exactly this, if there was one.
    pub(super) said: Option<EventRow>,
    /// Samples of which an event spoke before.
    pub(super) said_samples: u64,
}

impl Stretch {
    /// Whether nothing that was stored can lie between the two, but for a pause of the device.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.offset_us == other.offset_us
            && other.d_from <= self.d_to.saturating_add(CHUNK_SPAN_US)
            && self.d_from <= other.d_to.saturating_add(CHUNK_SPAN_US)
    }

    pub(super) fn join(&mut self, other: Self) {
        (self.d_from, self.d_to) = (self.d_from.min(other.d_from), self.d_to.max(other.d_to));
        self.samples += other.samples;
        self.said_samples += other.said_samples;
        self.said = None;
        self.channels_more = self.channels_more.max(other.channels_more);
        // Names beyond what an event lists would only be counted. None at all means any.
        if self.channels.is_empty() || other.channels.is_empty() || self.channels.len() > 8 * CHANNELS_MAX {
            self.channels.clear();
            self.channels_more = 0;
        } else {
            self.channels.extend(other.channels);
        }
    }

    /// The event that says it: the one that was there, or a new one, which counts what none said before.
    pub(super) fn into_event(self, whose: &Whose, reason: Reason, counts: &GapCounts) -> EventRow {
        if let Some(said) = self.said {
            return said;
        }
        let Stretch { d_from, samples, .. } = self;
        let (from, to) = (Some(d_from), Some(self.d_to));
        let gap = Gap { d_from: from, d_to: to, samples: Some(samples), ..Gap::new(reason) };
        let gap = Gap { channels_more: self.channels_more, ..gap }.with_channels(self.channels);
        if samples > self.said_samples {
            counts.add(&Gap { samples: Some(samples - self.said_samples), ..gap.clone() });
        }
        event(whose.clone(), d_from.saturating_add(self.offset_us), d_from, &gap)
    }
}

/// The row that declares a gap.
pub(super) fn event((car, device, boot): Whose, t: i64, d: i64, gap: &Gap) -> EventRow {
    let text = gap.text();
    EventRow {
        car,
        day: day_of(t),
        t,
        device,
        boot,
        // Frames count from 0 up; the same gap is the same row.
        sequence: -1 - (xxh3_64(text.as_bytes()) >> 1) as i64,
        d,
        kind: KIND_GAP.into(),
        number: gap.samples.and_then(|samples| i64::try_from(samples).ok()).unwrap_or_default(),
        text,
    }
}

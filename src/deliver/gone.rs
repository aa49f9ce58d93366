//! What is gone without having been stored, as rows that say so.
//!
//! Samples become gap events: by car, device and boot, joined as long as they follow each other, with their channels,
//! times and count. Small rows that were gone with them (events, sessions, descriptions, clock mappings) are carried
//! over as they are; gaps that had been declared are among them.
//!
//! Bounded: [`STRETCHES_MAX`] stretches of time for each device, then the last ones are joined; [`CARRIED_MAX`] small
//! rows, then the rest is left out and said in the log. Deliberately absent: when and how the rows become durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::record::{Meta, Span};
use crate::gap::{CHANNELS_MAX, Gap, GapCounts, KIND_GAP, Reason};
use crate::limits::CHUNK_SPAN_US;
use crate::row::{EventRow, Rows, day_of};
use crate::sample::UnixMicros;
use crate::spill;

/// Stretches of one device: of a segment of 8 MiB, and of what is dropped while nothing can be written.
const STRETCHES_MAX: usize = 16;
/// Small rows carried over, about 200 B each: 0.2 MiB.
const CARRIED_MAX: usize = 1_024;

/// Car, device, boot.
type Whose = (String, String, i64);

/// What is gone, joined.
pub(super) struct Lost {
    reason: Reason,
    counts: Arc<GapCounts>,
    stretches: BTreeMap<Whose, Vec<Stretch>>,
    carried: Rows,
    /// Of records whose content is unknown: how many, and their samples.
    unknown: (u64, u64),
}

struct Stretch {
    d_from: i64,
    d_to: i64,
    /// UTC − device time.
    offset_us: i64,
    samples: u64,
    /// Empty: any.
    channels: BTreeSet<String>,
}

impl Lost {
    pub(super) fn new(reason: Reason, counts: Arc<GapCounts>) -> Self {
        Self { reason, counts, stretches: BTreeMap::new(), carried: Rows::default(), unknown: (0, 0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty() && self.carried.is_empty() && self.unknown == (0, 0)
    }

    /// A record of the spill that is gone: as much as can still be read of it.
    pub(super) fn add(&mut self, gone: &spill::Gone) {
        let rows = gone.payload.as_deref().and_then(|payload| Rows::decode(payload).ok());
        match (rows, gone.meta.as_deref().and_then(Meta::decode).and_then(|meta| meta.span)) {
            (Some(rows), _) => self.add_rows(&rows),
            (None, Some(span)) => self.add_span(span),
            (None, None) => self.add_unknown(gone.records, gone.weight),
        }
    }

    /// Rows that will not be stored.
    pub(super) fn add_rows(&mut self, rows: &Rows) {
        for chunk in &rows.chunks {
            let offset_us = chunk.t0.saturating_sub(chunk.d0);
            let stretch = Stretch {
                d_from: chunk.d0,
                d_to: chunk.t1.saturating_sub(offset_us),
                offset_us,
                samples: u64::from(chunk.n.unsigned_abs()),
                channels: BTreeSet::from([chunk.channel.clone()]),
            };
            self.join((chunk.car.clone(), chunk.device.clone(), chunk.boot), stretch);
        }
        let Rows { channels, clocks, events, sessions, .. } = rows;
        let more = channels.len() + clocks.len() + events.len() + sessions.len();
        if self.carried.len() + more > CARRIED_MAX {
            tracing::error!(rows = more, "more events and descriptions are gone than can be carried over: left out");
            return;
        }
        self.carried.channels.extend_from_slice(channels);
        self.carried.clocks.extend_from_slice(clocks);
        self.carried.events.extend_from_slice(events);
        self.carried.sessions.extend_from_slice(sessions);
    }

    fn add_span(&mut self, span: Span) {
        let Span { car, device, boot, d_from, d_to, offset_us, samples } = span;
        self.join((car, device, boot), Stretch { d_from, d_to, offset_us, samples, channels: BTreeSet::new() });
    }

    /// A place of the spill that is damaged: its record's meta may still say whose it was.
    pub(super) fn add_gap(&mut self, gap: &spill::Gap) {
        match gap.meta.as_deref().and_then(Meta::decode).and_then(|meta| meta.span) {
            Some(span) => self.add_span(span),
            None => self.add_unknown(gap.records.unwrap_or(1), gap.weight.unwrap_or(0)),
        }
    }

    /// Records of which nothing is known but their samples.
    fn add_unknown(&mut self, records: u64, samples: u64) {
        self.unknown = (self.unknown.0 + records, self.unknown.1 + samples);
    }

    fn join(&mut self, whose: Whose, new: Stretch) {
        let stretches = self.stretches.entry(whose).or_default();
        let full = stretches.len() >= STRETCHES_MAX;
        match stretches.last_mut().filter(|last| full || last.meets(&new)) {
            Some(last) => last.join(new),
            None => stretches.push(new),
        }
    }

    /// Gives out what is gone as rows, of `car` at the UTC `now` where neither is known.
    pub(super) fn take(&mut self, car: &str, now: UnixMicros) -> Option<Rows> {
        if self.is_empty() {
            return None;
        }
        let mut rows = std::mem::take(&mut self.carried);
        for ((car, device, boot), stretches) in std::mem::take(&mut self.stretches) {
            for Stretch { d_from, d_to, offset_us, samples, channels } in stretches {
                let gap =
                    Gap { d_from: Some(d_from), d_to: Some(d_to), samples: Some(samples), ..Gap::new(self.reason) };
                let gap = gap.with_channels(channels);
                self.counts.add(&gap);
                let t = d_from.saturating_add(offset_us);
                rows.events.push(event((car.clone(), device.clone(), boot), t, d_from, &gap));
            }
        }
        let (records, samples) = std::mem::take(&mut self.unknown);
        if records > 0 {
            let gap = Gap { samples: Some(samples), records, ..Gap::new(self.reason) };
            self.counts.add(&gap);
            rows.events.push(event((car.to_owned(), String::new(), 0), now.0, 0, &gap));
        }
        Some(rows)
    }
}

impl Stretch {
    /// Whether nothing that was stored can lie between the two, but for a pause of the device.
    fn meets(&self, other: &Self) -> bool {
        self.offset_us == other.offset_us
            && other.d_from <= self.d_to.saturating_add(CHUNK_SPAN_US)
            && self.d_from <= other.d_to.saturating_add(CHUNK_SPAN_US)
    }

    fn join(&mut self, other: Self) {
        (self.d_from, self.d_to) = (self.d_from.min(other.d_from), self.d_to.max(other.d_to));
        self.samples += other.samples;
        // Names beyond what an event lists would only be counted. None at all means any.
        if self.channels.is_empty() || other.channels.is_empty() || self.channels.len() > 8 * CHANNELS_MAX {
            self.channels.clear();
        } else {
            self.channels.extend(other.channels);
        }
    }
}

fn event((car, device, boot): Whose, t: i64, d: i64, gap: &Gap) -> EventRow {
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

#[cfg(test)]
mod tests {
    use super::super::record::rows_record;
    use super::*;
    use crate::ledger::Ledger;
    use crate::row::ChunkRow;
    use crate::spill::Position;

    const NOW: UnixMicros = UnixMicros(77);

    fn chunk(device: &str, channel: &str, d0: i64, n: i32) -> ChunkRow {
        let (t0, t1) = (d0 + 1_000, d0 + 1_000 + i64::from(n - 1) * 10);
        ChunkRow { device: device.into(), boot: 3, d0, t0, t1, ..super::super::tests::chunk(channel, n) }
    }

    fn gone(rows: &Rows, with_payload: bool) -> spill::Gone {
        let record = rows_record(rows, &[], &Ledger::new(), "");
        let payload = with_payload.then_some(record.payload);
        spill::Gone {
            position: Position { segment: 1, record: 0 },
            records: 1,
            meta: Some(record.meta),
            payload,
            weight: record.weight,
        }
    }

    fn rows(chunks: Vec<ChunkRow>) -> Rows {
        Rows { chunks, ..Rows::default() }
    }

    #[test]
    fn a_dropped_segment_becomes_a_gap_for_each_device_and_stretch_with_its_channels() {
        let counts = Arc::new(GapCounts::default());
        let mut lost = Lost::new(Reason::Overflow, counts.clone());
        for at in 0..5 {
            let d0 = at * 200_000;
            lost.add(&gone(&rows(vec![chunk("ecu", "rpm", d0, 20), chunk("ecu", "oil", d0 + 5, 4)]), true));
            lost.add(&gone(&rows(vec![chunk("imu", "acc", d0, 100)]), true));
        }
        lost.add(&gone(&rows(vec![chunk("ecu", "rpm", 9_000_000, 20)]), true));
        let made = lost.take("44", NOW).unwrap();
        let found: Vec<_> = made
            .events
            .iter()
            .map(|e| (e.device.as_str(), e.boot, e.t - e.d, e.number, Gap::parse(&e.text).unwrap()))
            .map(|(device, boot, offset, number, gap)| {
                assert_eq!((boot, offset, gap.samples), (3, 1_000, Some(number as u64)));
                (device, number, gap.d_from.unwrap(), gap.d_to.unwrap(), gap.channels)
            })
            .collect();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let expected = [
            ("ecu", 120, 0, 800_190, names(&["oil", "rpm"])),
            ("ecu", 20, 9_000_000, 9_000_190, names(&["rpm"])),
            ("imu", 500, 0, 800_990, names(&["acc"])),
        ];
        assert_eq!(found, expected);
        assert!(lost.is_empty() && lost.take("44", NOW).is_none());
        assert_eq!(counts.snapshot()[3].samples, 640);
    }

    #[test]
    fn a_gap_that_was_dropped_itself_is_carried_over_as_it_was() {
        let mut lost = Lost::new(Reason::Overflow, Arc::default());
        lost.add_rows(&rows(vec![chunk("ecu", "rpm", 0, 20)]));
        let first = lost.take("44", NOW).unwrap();
        lost.add(&gone(&first, true));
        assert_eq!(lost.take("44", NOW).unwrap(), first);
    }

    #[test]
    fn without_the_payload_the_meta_names_device_and_time_and_without_both_the_samples_are_counted() {
        let mut lost = Lost::new(Reason::Damaged, Arc::default());
        lost.add(&gone(&rows(vec![chunk("ecu", "rpm", 100, 20), chunk("ecu", "oil", 90, 5)]), false));
        lost.add(&spill::Gone { records: 3, meta: None, ..gone(&rows(vec![chunk("ecu", "rpm", 100, 7)]), false) });
        let mut flipped = gone(&rows(vec![chunk("ecu", "rpm", 100, 2)]), false);
        flipped.meta = flipped.meta.map(|meta| {
            let mut bytes = meta.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            bytes.into()
        });
        lost.add(&flipped);
        let made = lost.take("44", NOW).unwrap();
        let gaps: Vec<(&str, i64, Gap)> =
            made.events.iter().map(|e| (e.device.as_str(), e.t, Gap::parse(&e.text).unwrap())).collect();
        let known = Gap { d_from: Some(90), d_to: Some(290), samples: Some(25), ..Gap::new(Reason::Damaged) };
        let unknown = Gap { samples: Some(9), records: 4, ..Gap::new(Reason::Damaged) };
        assert_eq!(gaps, [("ecu", 1_090, known), ("", NOW.0, unknown)]);
    }

    #[test]
    fn many_stretches_are_joined_and_stay_bounded() {
        let mut lost = Lost::new(Reason::Overflow, Arc::default());
        (0..1_000).for_each(|n| lost.add_rows(&rows(vec![chunk("ecu", "rpm", n * 5_000_000, 2)])));
        let made = lost.take("44", NOW).unwrap();
        assert_eq!(made.events.len(), STRETCHES_MAX);
        assert_eq!(made.events.iter().map(|event| event.number).sum::<i64>(), 2_000);
        assert_eq!(Gap::parse(&made.events[STRETCHES_MAX - 1].text).unwrap().d_to, Some(999 * 5_000_000 + 10));
    }
}

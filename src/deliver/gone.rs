//! What is gone without having been stored, as rows that say so.
//!
//! Samples become gap events: by car, device and boot, joined as long as they follow each other, with their channels,
//! times and count. Small rows that were gone with them (events, sessions, descriptions, clock mappings) are carried
//! over as they are. Gaps of the same reason that had been declared are joined with what follows them: what is said of
//! dropped data stays small however much is dropped.
//!
//! Bounded: [`STRETCHES_MAX`] stretches of time for each device, then the last ones are joined, and fewer, then without
//! names of channels, where the rows have to fit a size; [`CARRIED_MAX`] small rows, then the rest is left out and said
//! in the log. Deliberately absent: when and how the rows become durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod stretch;

use self::stretch::{Stretch, event};
use super::record::{Meta, Span};
use crate::gap::{CHANNELS_MAX, Gap, GapCounts, KIND_GAP, Reason};
use crate::row::{EventRow, Rows};
use crate::sample::UnixMicros;
use crate::spill;

/// Stretches of one device: of a segment of 8 MiB, and of what is dropped while nothing can be written.
const STRETCHES_MAX: usize = 16;
/// What a gap takes in a record beside its channels' names, bytes.
const GAP_BYTES: usize = 400;
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
                ..Stretch::default()
            };
            self.join((chunk.car.clone(), chunk.device.clone(), chunk.boot), stretch);
        }
        let Rows { channels, clocks, sessions, .. } = rows;
        let mut events = Vec::new();
        for event in &rows.events {
            match self.declared_by(event) {
                Some(gap) => self.join((event.car.clone(), event.device.clone(), event.boot), gap),
                None => events.push(event.clone()),
            }
        }
        let more = channels.len() + clocks.len() + events.len() + sessions.len();
        if self.carried.len() + more > CARRIED_MAX {
            tracing::error!(rows = more, "more events and descriptions are gone than can be carried over: left out");
            return;
        }
        self.carried.channels.extend_from_slice(channels);
        self.carried.clocks.extend_from_slice(clocks);
        self.carried.events.append(&mut events);
        self.carried.sessions.extend_from_slice(sessions);
    }

    /// What an event declared for this reason, if it is known from when to when.
    fn declared_by(&self, event: &EventRow) -> Option<Stretch> {
        let gap = (event.kind == KIND_GAP).then(|| Gap::parse(&event.text)).flatten()?;
        let (d_from, d_to, samples) = (gap.d_from?, gap.d_to?, gap.samples?);
        let plain = gap.reason == self.reason && gap.frames.is_none() && gap.records == 0 && !gap.may_be_stored;
        plain.then(|| Stretch {
            d_from,
            d_to,
            offset_us: event.t.saturating_sub(event.d),
            samples,
            channels: gap.channels.into_iter().collect(),
            channels_more: gap.channels_more,
            said: Some(event.clone()),
            said_samples: samples,
        })
    }

    fn add_span(&mut self, span: Span) {
        let Span { car, device, boot, d_from, d_to, offset_us, samples } = span;
        self.join((car, device, boot), Stretch { d_from, d_to, offset_us, samples, ..Stretch::default() });
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
        // The last first: what is gone comes in order, but for what was received again.
        let met = stretches.iter().rposition(|earlier| earlier.meets(&new));
        match met.or_else(|| stretches.len().checked_sub(1).filter(|_| full)) {
            Some(at) => stretches[at].join(new),
            None => stretches.push(new),
        }
    }

    /// Joins stretches until the rows will take so many bytes at most: more is declared to be gone then than is, and
    /// nothing less.
    pub(super) fn fit(&mut self, bytes_max: u64) {
        let mut at_most = STRETCHES_MAX;
        while self.bytes() > bytes_max && at_most > 1 {
            at_most /= 4;
            for stretches in self.stretches.values_mut() {
                let rest = stretches.split_off(at_most.min(stretches.len()));
                rest.into_iter().for_each(|stretch| stretches[at_most - 1].join(stretch));
            }
        }
        if self.bytes() > bytes_max {
            let all = self.stretches.values_mut().flatten();
            all.for_each(|stretch| (stretch.channels, stretch.channels_more, stretch.said) = Default::default());
        }
    }

    /// About what the gaps take in records.
    fn bytes(&self) -> u64 {
        let names = |stretch: &Stretch| -> usize {
            stretch.channels.iter().take(CHANNELS_MAX).map(|name| name.len() + 3).sum()
        };
        self.stretches.values().flatten().map(|stretch| (GAP_BYTES + names(stretch)) as u64).sum()
    }

    /// Gives out what is gone as rows, of `car` at the UTC `now` where neither is known. The gaps stand first: where not
    /// everything has room, they are what matters.
    pub(super) fn take(&mut self, car: &str, now: UnixMicros) -> Option<Rows> {
        if self.is_empty() {
            return None;
        }
        let mut events = Vec::new();
        for (whose, stretches) in std::mem::take(&mut self.stretches) {
            events.extend(stretches.into_iter().map(|stretch| stretch.into_event(&whose, self.reason, &self.counts)));
        }
        let (records, samples) = std::mem::take(&mut self.unknown);
        if records > 0 {
            let gap = Gap { samples: Some(samples), records, ..Gap::new(self.reason) };
            self.counts.add(&gap);
            events.push(event((car.to_owned(), String::new(), 0), now.0, 0, &gap));
        }
        let mut rows = std::mem::take(&mut self.carried);
        events.append(&mut rows.events);
        Some(Rows { events, ..rows })
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
    fn gaps_that_were_dropped_are_joined_with_what_follows_them_and_counted_once() {
        let counts = Arc::new(GapCounts::default());
        let mut lost = Lost::new(Reason::Overflow, counts.clone());
        let mut words = Rows::default();
        for at in 0..1_000 {
            lost.add_rows(&rows(vec![chunk("ecu", if at % 2 == 0 { "rpm" } else { "oil" }, at * 200_000, 20)]));
            words.events.extend(lost.take("44", NOW).unwrap().events);
        }
        // Of another reason: it stays what it is.
        let other = event(("44".into(), "ecu".into(), 3), 5, 5, &Gap::new(Reason::Restart));
        words.events.push(other.clone());
        lost.add(&gone(&words, true));
        lost.add_rows(&rows(vec![chunk("ecu", "rpm", 200_000_000, 20)]));
        let joined = lost.take("44", NOW).unwrap().events;
        assert_eq!((joined.len(), &joined[1]), (2, &other));
        let gap = Gap::parse(&joined[0].text).unwrap();
        assert_eq!((gap.d_from, gap.d_to, gap.samples), (Some(0), Some(200_000_190), Some(20_020)));
        assert_eq!((gap.channels, gap.channels_more), (vec!["oil".to_owned(), "rpm".into()], 0));
        assert_eq!(counts.snapshot()[3].samples, 20_020);
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
    fn what_is_said_fits_a_size_and_says_no_less_for_it() {
        let samples = |events: &[EventRow]| events.iter().map(|event| event.number).sum::<i64>();
        for (bytes_max, expected) in [(1 << 20, 16 * 4), (30_000, 4 * 4), (8_000, 4), (2_000, 4)] {
            let mut lost = Lost::new(Reason::Overflow, Arc::default());
            for n in 0..16 * 4 * 10 {
                let (device, channel) = (format!("device{}", n % 4), format!("some.longer.name.{}", n / 4 % 10));
                lost.add_rows(&rows(vec![chunk(&device, &channel, n / 40 * 5_000_000, 2)]));
            }
            lost.fit(bytes_max);
            let made = lost.take("44", NOW).unwrap();
            assert_eq!((made.events.len(), samples(&made.events)), (expected, 1_280), "{bytes_max}");
            let bytes = rows_record(&made, &[], &Ledger::new(), "").payload.len() as u64;
            assert!(bytes <= bytes_max, "{bytes} of {bytes_max}");
            let gaps: Vec<_> = made.events.iter().map(|event| Gap::parse(&event.text).unwrap()).collect();
            assert!(gaps.iter().all(|gap| gap.covers_channel("some.longer.name.7")));
            assert!(gaps.iter().all(|gap| gap.channels.is_empty() == (bytes_max == 2_000)));
            assert_eq!(gaps.iter().map(|gap| gap.d_to.unwrap()).max(), Some(15 * 5_000_000 + 10));
        }
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

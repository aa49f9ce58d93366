//! How the spill's own news reach the ledger, and what is declared of them.
//!
//! Deliberately absent: what makes the declarations durable, which is the spill's, in the same step as the removal.

use std::sync::Arc;

use super::gone::Lost;
use super::record::{Meta, rows_record, samples_of};
use crate::clock::{Clock, Gateway};
use crate::gap::{GapCounts, Reason};
use crate::ledger::{Fate, Ledger, Policy};
use crate::row::{DAY_US, Rows};
use crate::sample::UnixMicros;
use crate::spill::{self, Gone, Observer, Position, Record};

/// Events of one record about what is gone, and other rows: below 16 KiB, which is what a segment of 64 KiB takes of
/// them.
const DECLARED_EVENTS_MAX: usize = 3;
const DECLARED_ROWS_MAX: usize = 48;

/// Keeps the ledger exact about records that come or go without delivery's doing, and declares what is gone.
pub struct SpillLedger {
    /// Where samples are counted.
    pub ledger: Arc<Ledger>,
    /// Whose data is gone where nothing else says so.
    pub car: String,
    /// When it is found where nothing else says when it was.
    pub gateway: Arc<Gateway>,
    /// Where gaps are counted.
    pub gaps: Arc<GapCounts>,
    /// What the spill takes of declarations at once, bytes: [`spill::Config::notes_bytes_max`].
    pub declared_bytes_max: u64,
}

impl SpillLedger {
    fn gone(&self, gone: &Gone, policy: Policy) {
        match gone.meta.as_deref().and_then(Meta::decode) {
            Some(meta) => self.ledger.settle_backlog(&meta.samples_in(&self.ledger), Fate::Dropped(policy)),
            None => self.ledger.settle_backlog_of_anyone(gone.weight, Fate::Dropped(policy)),
        }
    }

    /// What the store is to know of `lost`.
    fn declared(&self, mut lost: Lost) -> Vec<Record> {
        // The rest is for what waits already, and for what frames take.
        lost.fit(self.declared_bytes_max / 3);
        self.records(lost.take(&self.car, self.gateway.now_utc()))
    }

    /// As records of a size that fits the smallest segment.
    fn records(&self, rows: Option<Rows>) -> Vec<Record> {
        rows.into_iter().flat_map(parts).map(|rows| rows_record(&rows, &[], &self.ledger, "")).collect()
    }
}

/// Rows of which none is a chunk, a few at a time.
fn parts(rows: Rows) -> Vec<Rows> {
    let Rows { channels, clocks, events, sessions, .. } = rows;
    let none = Rows::default;
    // An event's text has at most some 4 KiB.
    let events = events.chunks(DECLARED_EVENTS_MAX).map(|part| Rows { events: part.to_vec(), ..none() });
    let channels = channels.chunks(DECLARED_ROWS_MAX).map(|part| Rows { channels: part.to_vec(), ..none() });
    let clocks = clocks.chunks(DECLARED_ROWS_MAX).map(|part| Rows { clocks: part.to_vec(), ..none() });
    let sessions = sessions.chunks(DECLARED_ROWS_MAX).map(|part| Rows { sessions: part.to_vec(), ..none() });
    events.chain(channels).chain(clocks).chain(sessions).collect()
}

impl Observer for SpillLedger {
    fn recovered(&self, _position: Position, meta: &[u8], weight: u64) {
        for (source, samples) in samples_of(Some(meta), weight, &self.ledger) {
            self.ledger.recover(source, samples);
        }
    }

    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        let mut lost = Lost::new(Reason::Overflow, self.gaps.clone());
        for gone in &gone {
            self.gone(gone, Policy::Overflow);
            lost.add(gone);
        }
        self.declared(lost)
    }

    fn lost(&self, gone: Gone) -> Vec<Record> {
        self.gone(&gone, Policy::Damaged);
        let mut lost = Lost::new(Reason::Damaged, self.gaps.clone());
        lost.add(&gone);
        self.declared(lost)
    }

    fn damaged(&self, gap: &spill::Gap) -> Vec<Record> {
        match gap.reason {
            // It is there, for the version that wrote it.
            spill::GapReason::Version(_)
            // Nobody was told that it is durable: a broker sends it again, and what a serial port sent is missing by its
            // sequence.
            | spill::GapReason::Torn
            // What it knew is not known; nothing is lost with it.
            | spill::GapReason::Checkpoint => return Vec::new(),
            _ => {}
        }
        let mut lost = Lost::new(Reason::Damaged, self.gaps.clone());
        lost.add_gap(gap);
        // Found again at each start: the same row for a day.
        let day_us = self.gateway.now_utc().0.div_euclid(DAY_US) * DAY_US;
        self.records(lost.take(&self.car, UnixMicros(day_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SystemClock, Trust};

    #[test]
    fn a_record_whose_meta_is_gone_with_it_leaves_the_ledger_balanced() {
        let ledger = Ledger::new();
        let books = SpillLedger {
            ledger: ledger.clone(),
            car: "44".into(),
            gateway: Gateway::new(SystemClock::shared(), Trust::System),
            gaps: Arc::default(),
            declared_bytes_max: 16 << 10,
        };
        let position = Position { segment: 1, record: 0 };
        let record = rows_record(&Rows::default(), &[(ledger.source("ecu"), 5)], &ledger, "");
        books.recovered(position, &record.meta, 5);
        books.recovered(position, &record.meta, 5);
        let declared = books.lost(Gone { position, records: 1, meta: None, payload: None, weight: 5 });
        assert_eq!((declared.len(), declared[0].weight), (1, 0), "a gap is no sample");
        books.dropped(vec![Gone { position, records: 1, meta: Some(record.meta), payload: None, weight: 5 }]);
        let now = ledger.snapshot();
        assert!(now.balanced, "{now:?}");
        let ecu = &now.sources["ecu"];
        assert_eq!((ecu.backlog, ecu.dropped[&Policy::Damaged], ecu.dropped[&Policy::Overflow]), (0, 5, 5));
    }
}

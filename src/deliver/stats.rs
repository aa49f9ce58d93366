//! What delivery shows of itself, and how the spill's own news reach the ledger.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::gone::Lost;
use super::link::LinkState;
use super::mode::Mode;
use super::record::{Meta, rows_record, samples_of};
use crate::clock::{Clock, Gateway};
use crate::gap::{GapCounts, Reason};
use crate::ledger::{Fate, Ledger, Policy};
use crate::row::{DAY_US, Rows};
use crate::sample::UnixMicros;
use crate::spill::{self, Gone, Observer, Record};

/// Latencies kept for the quantiles: the last minute at four writes a second.
const LATENCIES_MAX: usize = 256;

/// A drain of the backlog that goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drain {
    /// Since when.
    pub since: Instant,
    /// How many of its samples have met their fate since.
    pub done: u64,
    /// Samples a second by which the backlog has shrunk lately, what was spilled meanwhile included; `None` while it
    /// does not shrink, or is not known yet.
    pub shrinks_per_s: Option<f64>,
    /// How long the rest takes at that; `None` likewise.
    pub left: Option<Duration>,
}

/// Delivery at one moment.
#[derive(Debug, Clone, Default)]
pub struct DeliverSnapshot {
    /// What it does.
    pub mode: Mode,
    /// The uplink.
    pub link: LinkState,
    /// Why it is not up, and what to do.
    pub detail: String,
    /// Rows that the store acknowledged.
    pub rows_written: u64,
    /// Their samples.
    pub samples_written: u64,
    /// Writes in flight to the store.
    pub writes_in_flight: usize,
    /// Flushes that wait for the store or the spill.
    pub pending_flushes: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// Whether it takes nothing more, since neither store nor spill does.
    pub holding_back: bool,
    /// What is the matter when nothing can be written, and what to do; empty otherwise.
    pub alarm: &'static str,
    /// Why the spill does not take what it should, if so.
    pub spill_fault: Option<String>,
    /// Whether that is because it is full.
    pub spill_full: bool,
    /// Samples that went to the spill.
    pub samples_spilled: u64,
    /// Bytes written to the store: about, and before compression.
    pub bytes_written: u64,
    /// While the backlog drains: how far it is.
    pub drain: Option<Drain>,
    /// Turns of its loop: it stands still only if delivery does.
    pub turns: u64,
    /// When it turned last.
    pub turned_at: Option<Instant>,
    latencies: VecDeque<Duration>,
}

impl DeliverSnapshot {
    /// Latency of a write at `quantile` (0..1) over the last writes, in ms; `None` without any.
    #[must_use]
    pub fn latency_ms(&self, quantile: f64) -> Option<f64> {
        let mut sorted: Vec<Duration> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let index = (last as f64 * quantile.clamp(0.0, 1.0)).round() as usize;
        Some(sorted[index].as_secs_f64() * 1000.0)
    }

    /// Rows were written, with so many samples and about so many bytes.
    pub(super) fn wrote(&mut self, rows: usize, samples: u64, bytes: usize, took: Duration) {
        self.rows_written += rows as u64;
        self.samples_written += samples;
        self.bytes_written += bytes as u64;
        if self.latencies.len() >= LATENCIES_MAX {
            self.latencies.pop_front();
        }
        self.latencies.push_back(took);
    }
}

/// Shared with whoever looks on.
#[derive(Clone, Default)]
pub struct StatsHandle(Arc<Mutex<DeliverSnapshot>>, Arc<AtomicU64>);

impl StatsHandle {
    /// Delivery now.
    #[must_use]
    pub fn snapshot(&self) -> DeliverSnapshot {
        self.lock().clone()
    }

    /// How long the uplink has lagged: the age of the oldest sample that waits for the store beyond
    /// `durable_within`, or of the oldest in the spill. Zero while all goes straight to the store. Cheap: it is
    /// asked for each batch.
    #[must_use]
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.1.load(Ordering::Relaxed))
    }

    pub(super) fn set_lag(&self, lag: Duration) {
        self.1.store(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, DeliverSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
        self.records(lost.take(&self.car, self.gateway.now_utc()))
    }

    /// As records of a size that fits the smallest segment.
    fn records(&self, rows: Option<Rows>) -> Vec<Record> {
        rows.into_iter().flat_map(parts).map(|rows| rows_record(&rows, &[], &self.ledger, "")).collect()
    }
}

/// Rows without chunks, a few at a time.
fn parts(rows: Rows) -> Vec<Rows> {
    let Rows { extents, chunks, channels, clocks, events, sessions } = rows;
    let mut parts: Vec<Rows> = Vec::new();
    let one = |events| Rows { events, ..Rows::default() };
    // An event's text has at most some 4 KiB.
    parts.extend(events.chunks(DECLARED_EVENTS_MAX).map(|events| one(events.to_vec())));
    parts.extend(
        channels.chunks(DECLARED_ROWS_MAX).map(|channels| Rows { channels: channels.to_vec(), ..Rows::default() }),
    );
    parts.extend(clocks.chunks(DECLARED_ROWS_MAX).map(|clocks| Rows { clocks: clocks.to_vec(), ..Rows::default() }));
    parts.extend(
        sessions.chunks(DECLARED_ROWS_MAX).map(|sessions| Rows { sessions: sessions.to_vec(), ..Rows::default() }),
    );
    if !extents.is_empty() || !chunks.is_empty() {
        parts.push(Rows { extents, chunks, ..Rows::default() });
    }
    parts
}

impl Observer for SpillLedger {
    fn recovered(&self, _position: crate::spill::Position, meta: &[u8], weight: u64) {
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

    use crate::spill::Position;

    #[test]
    fn a_record_whose_meta_is_gone_with_it_leaves_the_ledger_balanced() {
        let ledger = Ledger::new();
        let books = SpillLedger {
            ledger: ledger.clone(),
            car: "44".into(),
            gateway: Gateway::new(SystemClock::shared(), Trust::System),
            gaps: Arc::default(),
        };
        let position = Position { segment: 1, record: 0 };
        let record = rows_record(&Rows::default(), &[(ledger.source("ecu"), 5)], &ledger, "");
        books.recovered(position, &record.meta, 5);
        books.recovered(position, &record.meta, 5);
        let declared = books.lost(Gone { position, meta: None, payload: None, weight: 5 });
        assert_eq!((declared.len(), declared[0].weight), (1, 0), "a gap is no sample");
        books.dropped(vec![Gone { position, meta: Some(record.meta), payload: None, weight: 5 }]);
        let now = ledger.snapshot();
        assert!(now.balanced, "{now:?}");
        let ecu = &now.sources["ecu"];
        assert_eq!((ecu.backlog, ecu.dropped[&Policy::Damaged], ecu.dropped[&Policy::Overflow]), (0, 5, 5));
    }

    #[test]
    fn quantiles_are_of_the_last_writes_only() {
        let mut snapshot = DeliverSnapshot::default();
        assert_eq!(snapshot.latency_ms(0.5), None);
        (0..1_000).for_each(|ms| snapshot.wrote(1, 1, 1, Duration::from_millis(ms)));
        assert_eq!(snapshot.latencies.len(), LATENCIES_MAX);
        assert_eq!((snapshot.latency_ms(0.0), snapshot.latency_ms(1.0)), (Some(744.0), Some(999.0)));
    }
}

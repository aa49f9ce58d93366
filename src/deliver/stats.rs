//! What delivery shows of itself, and how the spill's own news reach the ledger.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::LinkState;
use super::record::{Meta, samples_of};
use crate::ledger::{Fate, Ledger, Policy};
use crate::spill::{Gone, Observer, Record};

/// Latencies kept for the quantiles: the last minute at four writes a second.
const LATENCIES_MAX: usize = 256;

/// What delivery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Straight to the store.
    #[default]
    Direct,
    /// To the spill: the store does not take writes.
    Spilling,
    /// To the store, and the backlog as well.
    Draining,
}

impl Mode {
    /// As the API and the table `agents` say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spilling => "spilling",
            Self::Draining => "draining",
        }
    }
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
    /// Why the spill does not take what it should, if so.
    pub spill_fault: Option<String>,
    /// Whether that is because it is full.
    pub spill_full: bool,
    /// While the backlog drains: since when, and how many of its samples have met their fate since.
    pub drain: Option<(Instant, u64)>,
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

    pub(super) fn wrote(&mut self, rows: usize, samples: u64, took: Duration) {
        self.rows_written += rows as u64;
        self.samples_written += samples;
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

/// Keeps the ledger exact about records that come or go without delivery's doing.
pub struct SpillLedger(pub Arc<Ledger>);

impl SpillLedger {
    fn gone(&self, gone: &Gone, policy: Policy) {
        match gone.meta.as_deref().and_then(Meta::decode) {
            Some(meta) => self.0.settle_backlog(&meta.samples_in(&self.0), Fate::Dropped(policy)),
            None => self.0.settle_backlog_of_anyone(gone.weight, Fate::Dropped(policy)),
        }
    }
}

impl Observer for SpillLedger {
    fn recovered(&self, _position: crate::spill::Position, meta: &[u8], weight: u64) {
        for (source, samples) in samples_of(Some(meta), weight, &self.0) {
            self.0.recover(source, samples);
        }
    }

    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        gone.iter().for_each(|gone| self.gone(gone, Policy::Overflow));
        Vec::new()
    }

    fn lost(&self, gone: Gone) -> Vec<Record> {
        self.gone(&gone, Policy::Damaged);
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::record::rows_record;
    use crate::row::Rows;
    use crate::spill::Position;

    #[test]
    fn a_record_whose_meta_is_gone_with_it_leaves_the_ledger_balanced() {
        let ledger = Ledger::new();
        let books = SpillLedger(ledger.clone());
        let position = Position { segment: 1, record: 0 };
        let record = rows_record(&Rows::default(), &[(ledger.source("ecu"), 5)], &ledger, "");
        books.recovered(position, &record.meta, 5);
        books.recovered(position, &record.meta, 5);
        books.lost(Gone { position, meta: None, payload: None, weight: 5 });
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
        (0..1_000).for_each(|ms| snapshot.wrote(1, 1, Duration::from_millis(ms)));
        assert_eq!(snapshot.latencies.len(), LATENCIES_MAX);
        assert_eq!((snapshot.latency_ms(0.0), snapshot.latency_ms(1.0)), (Some(744.0), Some(999.0)));
    }
}

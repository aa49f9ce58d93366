//! What delivery shows of itself, and how the spill's own news reach the ledger.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::LinkState;
use super::record::samples_of;
use crate::ledger::{Fate, Ledger, Policy};
use crate::spill::{Gone, Observer};

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
    /// Why the spill cannot be written, if so.
    pub spill_fault: Option<String>,
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
pub struct StatsHandle(Arc<Mutex<DeliverSnapshot>>);

impl StatsHandle {
    /// Delivery now.
    #[must_use]
    pub fn snapshot(&self) -> DeliverSnapshot {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, DeliverSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the ledger exact about records that come or go without delivery's doing.
pub struct SpillLedger(pub Arc<Ledger>);

impl SpillLedger {
    fn gone(&self, gone: &Gone, policy: Policy) {
        let samples = samples_of(gone.meta.as_deref(), gone.weight, &self.0);
        self.0.settle_backlog(&samples, Fate::Dropped(policy));
    }
}

impl Observer for SpillLedger {
    fn recovered(&self, _position: crate::spill::Position, meta: &[u8], weight: u64) {
        for (source, samples) in samples_of(Some(meta), weight, &self.0) {
            self.0.recover(source, samples);
        }
    }

    fn dropped(&self, gone: Gone) {
        self.gone(&gone, Policy::Overflow);
    }

    fn lost(&self, gone: Gone) {
        self.gone(&gone, Policy::Damaged);
    }
}

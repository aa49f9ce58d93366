//! What delivery shows of itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::LinkState;
use super::mode::Mode;

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
    /// How many may be now.
    pub writes_in_flight_limit: usize,
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
    /// Messages that could not be decoded and are lost, since the quarantine could not be written.
    pub quarantine_lost: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_last_writes_only() {
        let mut snapshot = DeliverSnapshot::default();
        assert_eq!(snapshot.latency_ms(0.5), None);
        (0..1_000).for_each(|ms| snapshot.wrote(1, 1, 1, Duration::from_millis(ms)));
        assert_eq!(snapshot.latencies.len(), LATENCIES_MAX);
        assert_eq!((snapshot.latency_ms(0.0), snapshot.latency_ms(1.0)), (Some(744.0), Some(999.0)));
    }
}

//! What a queue shows of itself.

use serde::Serialize;

use super::Shared;
use crate::sync::lock;

/// What a queue holds at one moment; in an interval, its times and counts are those of the interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueSnapshot {
    /// Its name: the input or the stage that fills it.
    pub name: String,
    /// Items in it.
    pub items: u64,
    /// Items it may hold.
    pub items_max: u64,
    /// Bytes in it, and of the places kept for those who are about to put theirs in.
    pub bytes: u64,
    /// Bytes it may hold.
    pub bytes_max: u64,
    /// The most items it has ever held.
    pub items_peak: u64,
    /// Items that have left it.
    pub taken: u64,
    /// How long senders have waited for room, in all, in ms.
    pub blocked_ms: u64,
    /// The share of the time in which it was empty, 0 to 1.
    pub empty: f64,
    /// The share of the time in which it was full, in items or in bytes, 0 to 1.
    pub full: f64,
    /// The time that the shares are of, in ns.
    pub wall_ns: u64,
}

impl QueueSnapshot {
    /// What happened since `earlier`, a former state of the same queue.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let wall_ns = self.wall_ns.saturating_sub(earlier.wall_ns);
        let share = |now: f64, then: f64| match wall_ns {
            0 => 0.0,
            _ => ((now * self.wall_ns as f64 - then * earlier.wall_ns as f64) / wall_ns as f64).clamp(0.0, 1.0),
        };
        Self {
            taken: self.taken.saturating_sub(earlier.taken),
            blocked_ms: self.blocked_ms.saturating_sub(earlier.blocked_ms),
            empty: share(self.empty, earlier.empty),
            full: share(self.full, earlier.full),
            wall_ns,
            ..self.clone()
        }
    }
}

#[derive(Debug)]
pub(super) struct Gauge {
    peak: usize,
    pub(super) blocked_ns: u64,
    began: u64,
    empty_since: Option<u64>,
    full_since: Option<u64>,
    empty_ns: u64,
    full_ns: u64,
}

impl Gauge {
    pub(super) fn new(now: u64) -> Self {
        Self { peak: 0, blocked_ns: 0, began: now, empty_since: Some(now), full_since: None, empty_ns: 0, full_ns: 0 }
    }

    /// The queue holds `len` items now. The clock is asked only if that changes anything.
    pub(super) fn changed(&mut self, len: usize, full: bool, now: impl FnOnce() -> u64) {
        self.peak = self.peak.max(len);
        let empty = len == 0;
        if empty != self.empty_since.is_some() || full != self.full_since.is_some() {
            let now = now();
            note(empty, &mut self.empty_since, &mut self.empty_ns, now);
            note(full, &mut self.full_since, &mut self.full_ns, now);
        }
    }
}

/// Adds to `total` the time in which something held, once it holds no more.
fn note(holds: bool, since: &mut Option<u64>, total: &mut u64, now: u64) {
    match (holds, *since) {
        (true, None) => *since = Some(now),
        (false, Some(then)) => {
            *total += now.saturating_sub(then);
            *since = None;
        }
        _ => {}
    }
}

impl<T> Shared<T> {
    pub(crate) fn snapshot(&self, now: u64) -> QueueSnapshot {
        let state = lock(&self.state);
        let gauge = &state.gauge;
        let wall_ns = now.saturating_sub(gauge.began);
        let share = |total: u64, since: Option<u64>| {
            let total = total + since.map_or(0, |since| now.saturating_sub(since));
            if wall_ns == 0 { 0.0 } else { (total as f64 / wall_ns as f64).min(1.0) }
        };
        QueueSnapshot {
            name: self.name.clone(),
            items: state.line.len() as u64,
            items_max: self.bounds.items as u64,
            bytes: state.bytes as u64,
            bytes_max: self.bounds.bytes as u64,
            items_peak: gauge.peak as u64,
            taken: state.taken,
            blocked_ms: gauge.blocked_ns / 1_000_000,
            empty: share(gauge.empty_ns, gauge.empty_since),
            full: share(gauge.full_ns, gauge.full_since),
            wall_ns,
        }
    }

    /// Times count from `now` on.
    pub(crate) fn begin(&self, now: u64) {
        let gauge = &mut lock(&self.state).gauge;
        gauge.began = now;
        for since in [&mut gauge.empty_since, &mut gauge.full_since].into_iter().flatten() {
            *since = now;
        }
        (gauge.empty_ns, gauge.full_ns) = (0, 0);
    }

    /// Items waiting, and items taken so far.
    pub(crate) fn moves(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.line.len() as u64, state.taken)
    }

    pub(crate) fn blocked_for(&self, nanos: u64) {
        lock(&self.state).gauge.blocked_ns += nanos;
    }
}

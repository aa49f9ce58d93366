//! What the store does not take in time goes to the spill.

use std::time::{Duration, Instant};

use super::run::Deliver;
use super::tasks::{self, Pending, SpillFault};
use crate::chunk::Flush;
use crate::clock::Clock;
use crate::ledger::{Fate, Policy, Tally};
use crate::limits::LIVE_BYTES_MAX;
use crate::spill::Overflow;

/// Pause before a disk that failed, or is full, is tried again.
const SPILL_RETRY_AFTER: Duration = Duration::from_secs(5);

impl Deliver {
    /// Whether the spill failed a moment ago and is left alone for now.
    pub(super) fn spill_is_out(&self, now: Instant) -> bool {
        self.spill_retry_at.is_some_and(|at| now < at)
    }

    /// Spills what has reached D, and with it what would follow soon: one sync serves all. Before D only
    /// when memory is full, or when the agent stops and the store does not take writes.
    pub(super) fn spill_late(&mut self, now: Instant) {
        let at_once = self.crowded() || (self.stopping() && self.link.up().is_none());
        let late = self.pending.front().is_some_and(|first| at_once || first.due <= now);
        if self.spilling || !late || self.spill_is_out(now) {
            return;
        }
        let soon = now + self.parts.config.durable_within / 2;
        // An append has to fit the budget with room to spare.
        let bytes_max =
            usize::try_from(self.parts.spill_bytes_max / 4).map_or(LIVE_BYTES_MAX, |b| b.min(LIVE_BYTES_MAX));
        let mut flushes: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.pending.pop_front_if(|next| {
            let fits = bytes + next.bytes <= bytes_max && flushes.len() < self.spill_flushes_max;
            flushes.is_empty() || ((at_once || next.due <= soon) && fits)
        }) {
            bytes += next.bytes;
            flushes.push(next);
        }
        (self.spilling, self.spill_began_at) = (true, now);
        self.tasks.spawn(tasks::spill(self.parts.spill.clone(), self.parts.ledger.clone(), flushes));
    }

    /// Sends on its way what is to be known of what was dropped, once the store or the spill takes something. Until
    /// then it stays in memory, joined.
    pub(super) fn declare_dropped(&mut self, now: Instant) {
        // Where memory is full it would push out what it is about.
        let takes = (self.spill_took || self.link.up().is_some()) && !self.crowded();
        if self.dropped.is_empty() || self.spilling || !takes {
            return;
        }
        self.spill_took = false;
        if let Some(rows) = self.dropped.take("", self.parts.gateway.now_utc()) {
            self.accept(Flush { rows, receipts: Vec::new(), tally: Tally::default(), accepted_at: now }, now);
        }
    }

    pub(super) fn spilled(&mut self, flushes: Vec<Pending>, outcome: Result<(), SpillFault>, now: Instant) {
        self.spilling = false;
        match outcome {
            Ok(()) => {
                (self.spill_retry_at, self.spill_flushes_max) = (None, usize::MAX);
                self.spill_took = true;
                if self.parts.stats.lock().spill_fault.take().is_some() {
                    tracing::info!("the spill takes what the store does not, as it should");
                }
                let samples: u64 = flushes.iter().map(|pending| pending.flush.rows.samples()).sum();
                self.parts.stats.lock().samples_spilled += samples;
                flushes.into_iter().for_each(|flush| self.settle(flush, Fate::Backlog));
            }
            // All at once do not fit; some may, at once.
            Err(SpillFault::Full(_)) if flushes.len() > 1 => {
                self.spill_flushes_max = flushes.len() / 2;
                flushes.into_iter().for_each(|flush| self.enqueue(flush));
            }
            Err(SpillFault::Full(reason)) if self.parts.overflow == Overflow::DropNewest => {
                self.fault(&reason, true, "what does not fit is dropped and counted, as spill.overflow says");
                for flush in flushes {
                    self.dropped.add_rows(&flush.flush.rows);
                    self.settle(flush, Fate::Dropped(Policy::Overflow));
                }
                self.spill_took = false;
            }
            Err(fault) => {
                let (full, reason) = match fault {
                    SpillFault::Full(reason) => (true, reason),
                    SpillFault::Disk(reason) => (false, reason),
                };
                self.fault(&reason, full, "memory holds what it can");
                self.spill_retry_at = Some(now + SPILL_RETRY_AFTER);
                flushes.into_iter().for_each(|flush| self.enqueue(flush));
            }
        }
    }

    fn fault(&self, reason: &str, full: bool, consequence: &str) {
        let mut stats = self.parts.stats.lock();
        // Once for each time, not for each attempt.
        if stats.spill_fault.is_none() {
            tracing::error!(reason, consequence, "the spill cannot take what the store does not");
        }
        (stats.spill_fault, stats.spill_full) = (Some(reason.into()), full);
    }
}

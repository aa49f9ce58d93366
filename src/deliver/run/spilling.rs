//! The way into the spill: what goes there, and what becomes of what it does not take.

use std::time::{Duration, Instant};

use super::{Deliver, LIVE_BYTES_MAX, settle};
use crate::chunk::Flush;
use crate::deliver::tasks::{self, SpillFault};
use crate::ledger::{Fate, Policy};
use crate::limits::{PENDING_BYTES_MAX, PENDING_FLUSHES_MAX};
use crate::spill::Overflow;

/// Pause before a disk that failed is tried again.
const SPILL_RETRY_AFTER: Duration = Duration::from_secs(5);

impl Deliver {
    /// Spills what has reached D, and with it what would follow soon: one sync serves all.
    pub(super) fn spill_late(&mut self, now: Instant) {
        let crowded = self.pending.len() >= PENDING_FLUSHES_MAX || self.pending_bytes >= PENDING_BYTES_MAX;
        let late = self.pending.front().is_some_and(|flush| self.deadline(flush) <= now);
        if self.spilling || !(late || crowded) || self.spill_retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.spill_retry_at = None;
        let soon = now + self.parts.config.durable_within / 2;
        let mut flushes = Vec::new();
        let mut bytes = 0;
        while let Some(flush) = self.pending.pop_front_if(|flush| {
            let deadline = flush.accepted_at + self.parts.config.durable_within;
            bytes == 0
                || ((deadline <= soon || crowded) && bytes < LIVE_BYTES_MAX && flushes.len() < self.spill_flushes_max)
        }) {
            bytes += flush.rows.bytes();
            flushes.push(flush);
        }
        self.pending_bytes -= bytes;
        self.spilling = true;
        self.tasks.spawn(tasks::spill(self.parts.spill.clone(), self.parts.ledger.clone(), flushes));
    }

    pub(super) fn spilled(&mut self, flushes: Vec<Flush>, outcome: Result<(), SpillFault>, now: Instant) {
        self.spilling = false;
        let reason = match outcome {
            Ok(()) => {
                self.spill_flushes_max = PENDING_FLUSHES_MAX;
                self.parts.stats.lock().spill_fault = None;
                flushes.into_iter().for_each(|flush| settle(flush, Fate::Backlog));
                return;
            }
            // All at once do not fit; some may, at once.
            Err(SpillFault::Full(_)) if flushes.len() > 1 => {
                self.spill_flushes_max = flushes.len() / 2;
                return self.take_back(flushes);
            }
            Err(SpillFault::Full(reason)) if self.parts.overflow == Overflow::DropNewest => {
                self.fault(&reason);
                flushes.into_iter().for_each(|flush| settle(flush, Fate::Dropped(Policy::Overflow)));
                return;
            }
            Err(SpillFault::Full(reason) | SpillFault::Disk(reason)) => reason,
        };
        self.fault(&reason);
        self.spill_retry_at = Some(now + SPILL_RETRY_AFTER);
        self.take_back(flushes);
    }

    /// What the spill did not take waits again, in its old place.
    fn take_back(&mut self, flushes: Vec<Flush>) {
        for flush in flushes.into_iter().rev() {
            self.pending_bytes += flush.rows.bytes();
            self.pending.push_front(flush);
        }
    }

    fn fault(&self, reason: &str) {
        let mut stats = self.parts.stats.lock();
        if stats.spill_fault.is_none() {
            tracing::error!(reason, "the spill cannot take what the store does not; sources will be held back");
        }
        stats.spill_fault = Some(reason.into());
    }
}

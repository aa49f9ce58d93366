//! What the store does not take in time goes to the spill.

use std::time::{Duration, Instant};

use super::run::Deliver;
use super::tasks::{self, Pending, SpillFault};
use crate::chunk::Flush;
use crate::clock::Clock;
use crate::ledger::{Fate, Policy, Tally};
use crate::limits::LIVE_BYTES_MAX;
use crate::priority::Priority;
use crate::spill::Overflow;

/// Pause before a disk that failed, or is full, is tried again.
const SPILL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How it stands with the way of each priority into the spill.
#[derive(Default)]
pub(super) struct Ways([Way; 3]);

#[derive(Default)]
struct Way {
    retry_at: Option<Instant>,
    /// Whether it took what it was given last.
    took: Option<bool>,
    /// Flushes that one append may take: fewer once more did not fit.
    flushes_max: Option<usize>,
}

impl Ways {
    fn of(&mut self, priority: Priority) -> &mut Way {
        &mut self.0[priority as usize]
    }

    /// Whether it failed a moment ago and is left alone for now.
    pub(super) fn is_out(&self, priority: Priority, now: Instant) -> bool {
        self.0[priority as usize].retry_at.is_some_and(|at| now < at)
    }

    /// Whether one of them took what it was given last.
    pub(super) fn any_works(&self) -> bool {
        self.0.iter().any(|way| way.took == Some(true))
    }

    /// Whether one of them did not take what it was given last.
    fn any_is_faulty(&self) -> bool {
        self.0.iter().any(|way| way.took == Some(false))
    }

    /// Whether one of them did not take what it was given last, and keeps it.
    pub(super) fn any_keeps(&self) -> bool {
        self.0.iter().any(|way| way.retry_at.is_some())
    }
}

impl Deliver {
    /// When something has to go to the spill.
    pub(super) fn spill_at(&self) -> Option<Instant> {
        let first = |priority| {
            let due = self.pending.iter().find(|pending| pending.flush.priority == priority)?.due;
            Some(self.ways.0[priority as usize].retry_at.map_or(due, |at| at.max(due)))
        };
        Priority::ALL.into_iter().filter_map(first).min().filter(|_| !self.spilling)
    }

    /// Spills what has reached D, and with it what of its priority would follow soon: one sync serves all. Before D
    /// only when memory is full, or when the agent stops and the store does not take writes.
    pub(super) fn spill_late(&mut self, now: Instant) {
        let at_once = self.crowded() || (self.stopping() && self.link.up().is_none());
        let late = self.pending.iter().take_while(|first| at_once || first.due <= now);
        let goes = late.map(|first| first.flush.priority).position(|priority| !self.ways.is_out(priority, now));
        let Some(mut index) = goes.filter(|_| !self.spilling) else { return };
        let priority = self.pending[index].flush.priority;
        let flushes_max = self.ways.of(priority).flushes_max.unwrap_or(usize::MAX);
        let soon = now + self.parts.config.durable_within / 2;
        // An append has to fit the budget with room to spare.
        let bytes_max =
            usize::try_from(self.parts.spill_bytes_max / 4).map_or(LIVE_BYTES_MAX, |b| b.min(LIVE_BYTES_MAX));
        let mut flushes: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.pending.get(index).filter(|next| at_once || next.due <= soon) {
            if next.flush.priority != priority {
                index += 1;
                continue;
            }
            let fits = bytes + next.bytes <= bytes_max && flushes.len() < flushes_max;
            let Some(next) = (flushes.is_empty() || fits).then(|| self.pending.remove(index)).flatten() else { break };
            bytes += next.bytes;
            flushes.push(next);
        }
        (self.spilling, self.spill_began_at) = (true, now);
        self.tasks.spawn(tasks::spill(self.parts.spill.clone(), self.parts.ledger.clone(), priority, flushes));
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
            let (receipts, tally) = (Vec::new(), Tally::default());
            self.accept(Flush { rows, receipts, tally, accepted_at: now, priority: Priority::High }, now);
        }
    }

    pub(super) fn spilled(
        &mut self,
        priority: Priority,
        flushes: Vec<Pending>,
        outcome: Result<(), SpillFault>,
        now: Instant,
    ) {
        self.spilling = false;
        match outcome {
            Ok(()) => {
                *self.ways.of(priority) = Way { took: Some(true), ..Way::default() };
                self.spill_took = true;
                self.tell_well();
                let samples: u64 = flushes.iter().map(|pending| pending.flush.rows.samples()).sum();
                self.parts.stats.lock().samples_spilled += samples;
                flushes.into_iter().for_each(|flush| self.settle(flush, Fate::Backlog));
            }
            // All at once do not fit; some may, at once.
            Err(SpillFault::Full(_)) if flushes.len() > 1 => {
                self.ways.of(priority).flushes_max = Some(flushes.len() / 2);
                flushes.into_iter().for_each(|flush| self.enqueue(flush));
            }
            Err(SpillFault::Full(reason)) if self.parts.overflow == Overflow::DropNewest => {
                self.ways.of(priority).took = Some(false);
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
                let way = self.ways.of(priority);
                (way.took, way.retry_at) = (Some(false), Some(now + SPILL_RETRY_AFTER));
                flushes.into_iter().for_each(|flush| self.enqueue(flush));
            }
        }
    }

    /// Once all is stored nothing is the matter with the spill, though nothing was appended since.
    pub(super) fn forgive(&mut self) {
        if !self.ways.any_is_faulty() || !self.pending.is_empty() || self.has_backlog() {
            return;
        }
        if self.link.up().is_some() && !self.spilling {
            self.ways = Ways::default();
            self.tell_well();
        }
    }

    fn tell_well(&self) {
        if !self.ways.any_is_faulty() && self.parts.stats.lock().spill_fault.take().is_some() {
            tracing::info!("the spill takes what the store does not, as it should");
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

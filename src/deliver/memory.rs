//! What memory holds while nothing can be written: the store is away and the spill fails.
//!
//! ```text
//!              ┌─ a broker waits for it ─▶ kept, at most KEPT_…_MAX: beyond it delivery takes nothing more
//!  flushes ─▶ ─┤
//!              └─ nobody does ───────────▶ a ring in what is left of UNSTORED_…_MAX: the oldest gives way
//! ```
//! A serial port cannot be told to wait: held back, its kernel buffer would overflow unseen. So what came from one is
//! dropped by a named policy, `memory`, and counted; with `overflow = "drop-newest"` the newest, with `"block"`
//! nothing, and delivery holds back as soon as memory is full. What a broker would send again is never dropped.
//!
//! Both kinds come through one queue, so serial ports stall as soon as delivery takes nothing more. That is not before
//! the messages that a broker may send ahead fill [`KEPT_BYTES_MAX`]: a window that is left at its default does not.
//!
//! Receipts of what is dropped become void: a repetition that comes another way later counts as the original, and one
//! that joined just now is sent again.

use std::time::{Duration, Instant};

use super::run::Deliver;
use super::tasks::Pending;
use crate::ledger::{Fate, Policy};
use crate::limits::{KEPT_BYTES_MAX, KEPT_FLUSHES_MAX, UNSTORED_BYTES_MAX, UNSTORED_FLUSHES_MAX};
use crate::receipt::Receipt;
use crate::spill::Overflow;

/// An append to the spill that takes so long counts as failed for the while.
const SPILL_HANGS_AFTER: Duration = Duration::from_secs(5);
/// Distance of two log lines about it.
const SAY_EVERY: Duration = Duration::from_secs(5);

const WAITS: &str = "neither the store nor the spill takes data: memory holds what comes, up to its bound";
const DROPS: &str = "neither the store nor the spill takes data, and memory is full: samples that nobody can send again \
    (serial ports) are dropped and counted under dropped.memory, brokers keep theirs; free the disk where spill.dir \
    lies, or bring the store back";
const BLOCKS: &str = "neither the store nor the spill takes data, and memory is full: sources are held back, and serial \
    ports lose what their buffers cannot hold; free the disk where spill.dir lies, or bring the store back";

/// What is kept for brokers, and what was dropped.
#[derive(Default)]
pub(super) struct Memory {
    kept: usize,
    kept_bytes: usize,
    /// Samples dropped since nothing can be written.
    dropped: u64,
    told: Option<(Instant, u64)>,
}

impl Memory {
    pub(super) fn takes(&mut self, pending: &Pending) {
        if pending.kept {
            self.kept += 1;
            self.kept_bytes += pending.bytes;
        }
    }

    pub(super) fn gives(&mut self, pending: &Pending) {
        if pending.kept {
            self.kept -= 1;
            self.kept_bytes -= pending.bytes;
        }
    }

    fn full(&self) -> bool {
        self.kept >= KEPT_FLUSHES_MAX || self.kept_bytes >= KEPT_BYTES_MAX
    }
}

/// Whether a broker waits for something of it.
pub(super) fn is_owed(receipts: &[Receipt]) -> bool {
    receipts.iter().any(Receipt::is_owed)
}

impl Deliver {
    /// Whether neither the store nor the spill took what it was given last, of one priority at least. A store that
    /// answers probes has not proved that it takes writes.
    fn nothing_writable(&self, now: Instant) -> bool {
        (self.ways.any_keeps() || self.spill_hangs(now)) && self.link.window() <= 1
    }

    /// Whether an append is not answered: it holds up those of all priorities.
    fn spill_hangs(&self, now: Instant) -> bool {
        self.spilling && now.saturating_duration_since(self.spill_began_at) >= SPILL_HANGS_AFTER
    }

    /// Whether memory holds as much as it may.
    pub(super) fn crowded(&self) -> bool {
        self.unstored >= UNSTORED_FLUSHES_MAX || self.unstored_bytes >= UNSTORED_BYTES_MAX
    }

    /// The ring is over its bound: beside what is kept, so that this does not push it out by number.
    fn ring_is_full(&self) -> bool {
        self.unstored - self.memory.kept >= UNSTORED_FLUSHES_MAX || self.unstored_bytes >= UNSTORED_BYTES_MAX
    }

    /// Whether nothing more is taken.
    pub(super) fn holds_back(&self, now: Instant) -> bool {
        let drops = self.parts.overflow != Overflow::Block && self.nothing_writable(now);
        self.quarantine.full() || if drops { self.memory.full() || self.ring_is_full() } else { self.crowded() }
    }

    /// Makes room in memory, if nothing else can be done, and sees to the alarm.
    pub(super) fn relieve(&mut self, now: Instant) {
        if !self.nothing_writable(now) {
            if self.memory.told.take().is_some() {
                let samples = std::mem::take(&mut self.memory.dropped);
                tracing::info!(samples, "something can be written again; so many were dropped from memory");
            }
            self.parts.stats.lock().alarm = "";
            return;
        }
        while self.parts.overflow != Overflow::Block && self.ring_is_full() && self.drop_one() {}
        let alarm = match self.parts.overflow {
            Overflow::Block if self.crowded() => BLOCKS,
            _ if self.memory.dropped > 0 => DROPS,
            _ => WAITS,
        };
        // Of a single priority the spill's own fault tells.
        let some_work = self.ways.any_works() && !self.spill_hangs(now);
        let alarm = if some_work && self.memory.dropped == 0 { "" } else { alarm };
        self.parts.stats.lock().alarm = alarm;
        if alarm.is_empty() {
            return;
        }
        let dropped = self.memory.dropped;
        let due = |(at, before): (Instant, u64)| dropped > before && now.saturating_duration_since(at) >= SAY_EVERY;
        if self.memory.told.is_none_or(due) {
            let before = self.memory.told.map_or(0, |(_, before)| before);
            tracing::error!(dropped = dropped - before, since_it_began = dropped, "{alarm}");
            self.memory.told = Some((now, dropped));
        }
    }

    /// Drops a flush that nobody can send again, of the lowest priority there is; `false` if there is none.
    fn drop_one(&mut self) -> bool {
        // One without samples is small, and may be the word of what is gone.
        let goes = |pending: &Pending| {
            let samples = pending.flush.tally.samples() > 0;
            samples && !pending.kept && !is_owed(&pending.flush.receipts)
        };
        let lowest = self.pending.iter().filter(|pending| goes(pending)).map(|pending| pending.flush.priority).min();
        let goes = |pending: &Pending| Some(pending.flush.priority) == lowest && goes(pending);
        let found = match self.parts.overflow {
            Overflow::DropNewest => self.pending.iter().rposition(goes),
            Overflow::DropOldest | Overflow::Block => self.pending.iter().position(goes),
        };
        let Some(pending) = found.and_then(|index| self.pending.remove(index)) else { return false };
        let flush = self.release(pending);
        self.memory.dropped += flush.tally.samples();
        self.dropped.add_rows(&flush.rows);
        flush.tally.settle(Fate::Dropped(Policy::Memory));
        true
    }
}

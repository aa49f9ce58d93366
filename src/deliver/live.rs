//! Live data on its way to the store.

use std::cmp::Reverse;
use std::time::Instant;

use super::poison::Poison;
use super::quarantine::Quarantined;
use super::run::Deliver;
use super::shares::Shares;
use super::tasks::{self, Done, Miss, Pending, Took, Within};
use super::uplink::{REQUEST_WITHIN, jitter};
use crate::ledger::Fate;
use crate::limits::LIVE_BYTES_MAX;

impl Deliver {
    /// Starts writes as far as the window goes: of the highest priority that waits the oldest. What is left behind goes
    /// to the spill at D.
    pub(super) fn write_live(&mut self, now: Instant) {
        while let Some(store) = self.link.up().cloned()
            && self.has_room_for_live(now)
        {
            let nowhere_else = |pending: &Pending| self.ways.is_out(pending.flush.priority, now);
            // What is late, or would be before the store can answer, belongs to the spill, unless that is out: then
            // the store is all there is. What has just come has a quarter of D at least, and is tried in any case: the
            // store may have become faster.
            let answered_at = now + self.link.write_takes().mul_f64(1.5).min(self.parts.config.durable_within / 5);
            let waiting = self.pending.iter().enumerate();
            let in_time = waiting.filter(|(_, pending)| pending.due > answered_at || nowhere_else(pending));
            let first = in_time.min_by_key(|(_, pending)| Reverse(pending.flush.priority));
            let Some((index, nowhere_else)) = first.map(|(index, pending)| (index, nowhere_else(pending))) else {
                return;
            };
            let Some(pending) = self.pending.remove(index) else { return };
            let within = if nowhere_else { Within::Each(REQUEST_WITHIN) } else { Within::until(pending.due) };
            self.live_writes += 1;
            self.live_bytes += pending.bytes;
            let requests = store.requests(&pending.flush.rows);
            let pending = Box::new(pending);
            self.tasks.spawn(async move {
                let outcome = tasks::write(&store, &pending.flush.rows, within).await;
                Done::Live { pending, outcome, took: Took { whole: now.elapsed(), requests } }
            });
        }
        if !self.pending.is_empty() && self.live_bytes < LIVE_BYTES_MAX && self.link.window() > 1 {
            self.link.kept_back();
        }
    }

    /// How `window` writes are shared.
    pub(super) fn shares(&self, window: usize) -> Shares {
        Shares::of(window, self.parts.config.backlog_share)
    }

    /// Live and backlog together.
    pub(super) fn writes_in_flight(&self) -> usize {
        self.live_writes + self.backlog.writes
    }

    fn has_room_for_live(&self, now: Instant) -> bool {
        let (live, backlog) = (self.live_writes, self.backlog.writes);
        match self.link.window() {
            window @ (0 | 1) => live + backlog < window,
            window => {
                self.shares(window).takes_live(live, backlog, self.backlog_may_go(now))
                    && self.live_bytes < LIVE_BYTES_MAX
            }
        }
    }

    pub(super) fn live_done(&mut self, pending: Pending, outcome: Result<Vec<Poison>, Miss>, took: Took, now: Instant) {
        self.live_writes -= 1;
        self.live_bytes -= pending.bytes;
        let rows = &pending.flush.rows;
        match outcome {
            Ok(poison) => match self.suspicion.wrote(rows.len(), &poison) {
                Some(hold) => {
                    self.link.write_failed(&hold, now, jitter());
                    self.enqueue(pending);
                }
                None => {
                    self.link.wrote(took, now);
                    let samples = rows.samples() - super::poison::samples_of(&poison);
                    self.parts.stats.lock().wrote(rows.len() - poison.len(), samples, pending.bytes, took.whole);
                    self.stored(pending, poison);
                }
            },
            Err(miss) => {
                match miss {
                    Miss::Store(error) => self.link.write_failed(&error, now, jitter()),
                    // The store is slow, not gone: it answers others.
                    Miss::Unanswered(_) if self.link.answered_since(now - took.whole) => {
                        self.link.unanswered(took.whole, now)
                    }
                    Miss::Unanswered(error) => self.link.write_failed(&error, now, jitter()),
                    Miss::Late => {}
                }
                self.enqueue(pending);
            }
        }
    }

    fn stored(&mut self, pending: Pending, poison: Vec<Poison>) {
        if poison.is_empty() {
            return self.settle(pending, Fate::Stored);
        }
        tell(&poison);
        let flush = self.release(pending);
        self.quarantine.push(Quarantined::Live { poison, tally: flush.tally, receipts: flush.receipts });
    }
}

/// Logs what is refused: a line for each write that has some.
pub(super) fn tell(poison: &[Poison]) {
    if let Some(Poison { reason, .. }) = poison.first() {
        tracing::error!(rows = poison.len(), reason, "the store refuses rows for good; they go to the quarantine");
    }
}

//! The quarantine: what can be neither decoded nor stored, kept on disk with its reason.
//!
//! A disk queue of its own with a small budget; the oldest goes when it is full, counted there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::record::{message_record, rows_record};
use super::tasks::{BacklogRecord, Done, Poison};
use crate::chunk::Flush;
use crate::item::Malformed;
use crate::ledger::{Fate, Ledger};
use crate::limits::PENDING_FLUSHES_MAX;
use crate::row::Rows;
use crate::spill::{Record, Spill};

/// Pause before a disk that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Items made durable by one append.
const GROUP_MAX: usize = 64;

/// Whose fate the quarantine decides.
pub(super) enum Quarantined {
    /// Messages that could not be decoded.
    Messages(Vec<Malformed>),
    /// A flush of which some rows are poison; the others are stored.
    Live(Box<Flush>, Vec<Poison>),
    /// The same from the backlog.
    Backlog(Box<BacklogRecord>, Vec<Poison>),
}

/// What waits for the quarantine.
pub(super) struct Quarantine {
    spill: Spill,
    ledger: Arc<Ledger>,
    messages: VecDeque<Malformed>,
    rows: VecDeque<Quarantined>,
    busy: bool,
    retry_at: Option<Instant>,
}

impl Quarantine {
    pub(super) fn new(spill: Spill, ledger: Arc<Ledger>) -> Self {
        Self { spill, ledger, messages: VecDeque::new(), rows: VecDeque::new(), busy: false, retry_at: None }
    }

    pub(super) fn push_message(&mut self, malformed: Malformed) {
        self.messages.push_back(malformed);
    }

    pub(super) fn push_rows(&mut self, item: Quarantined) {
        self.rows.push_back(item);
    }

    /// Whether it takes no more until the disk does.
    pub(super) fn full(&self) -> bool {
        self.messages.len() + self.rows.len() >= PENDING_FLUSHES_MAX
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.busy && self.messages.is_empty() && self.rows.is_empty()
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.is_idle())
    }

    /// The next piece of work, if there is any and none is going on.
    pub(super) fn next(&mut self, now: Instant) -> Option<impl Future<Output = Done> + Send + use<>> {
        if self.busy || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let item = match self.rows.pop_front() {
            Some(item) => item,
            None if self.messages.is_empty() => return None,
            None => {
                let count = self.messages.len().min(GROUP_MAX);
                Quarantined::Messages(self.messages.drain(..count).collect())
            }
        };
        self.busy = true;
        let records = self.records(&item);
        let spill = self.spill.clone();
        Some(async move {
            let outcome = spill.append(records).await.map(|_| ()).map_err(|error| error.to_string());
            Done::Quarantined { item, outcome }
        })
    }

    fn records(&self, item: &Quarantined) -> Vec<Record> {
        let of_rows = |poison: &[Poison]| -> Vec<Record> {
            let record = |(chunk, reason): &Poison| {
                let rows = Rows { chunks: vec![chunk.clone()], ..Rows::default() };
                rows_record(&rows, &[], &self.ledger, reason)
            };
            poison.iter().map(record).collect()
        };
        match item {
            Quarantined::Messages(messages) => messages.iter().map(message_record).collect(),
            Quarantined::Live(_, poison) | Quarantined::Backlog(_, poison) => of_rows(poison),
        }
    }

    /// Settles what is durable now, or keeps it for another try. The backlog's record may then go.
    pub(super) fn done(
        &mut self,
        item: Quarantined,
        outcome: Result<(), String>,
        now: Instant,
    ) -> Option<crate::spill::Position> {
        self.busy = false;
        if let Err(reason) = outcome {
            tracing::error!(reason, "the quarantine cannot be written; what belongs there is held back");
            self.retry_at = Some(now + RETRY_AFTER);
            match item {
                Quarantined::Messages(messages) => messages.into_iter().rev().for_each(|m| self.messages.push_front(m)),
                rows => self.rows.push_front(rows),
            }
            return None;
        }
        self.retry_at = None;
        match item {
            Quarantined::Messages(messages) => messages.into_iter().for_each(|m| m.receipt.settle()),
            Quarantined::Live(flush, poison) => {
                let Flush { mut tally, receipts, .. } = *flush;
                tally.split(samples_of(&poison)).settle(Fate::Quarantined);
                tally.settle(Fate::Stored);
                receipts.into_iter().for_each(crate::receipt::Receipt::settle);
            }
            Quarantined::Backlog(record, poison) => {
                let mut left = samples_of(&poison);
                for &(source, samples) in &record.samples {
                    let guilty = left.min(samples);
                    left -= guilty;
                    self.ledger.settle_backlog(&[(source, guilty)], Fate::Quarantined);
                    self.ledger.settle_backlog(&[(source, samples - guilty)], Fate::Stored);
                }
                return Some(record.position);
            }
        }
        None
    }
}

fn samples_of(poison: &[Poison]) -> u64 {
    poison.iter().map(|(chunk, _)| u64::from(chunk.n.unsigned_abs())).sum()
}

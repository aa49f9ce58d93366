//! What steps are handed beside a column, and where they give out what they make or held back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StepCounts;
use crate::item::{Batch, Event};
use crate::ledger::{Fate, Ledger, Policy, SourceId, Tally};
use crate::receipt::{Custody, Receipt};
use crate::sample::{Column, Origin, UnixMicros};

/// What a step is handed beside the column.
pub(super) struct Context<'a> {
    /// Whose samples these are.
    pub(super) origin: &'a Arc<Origin>,
    /// When the agent accepted them.
    pub(super) accepted_at: Instant,
    /// The gateway's UTC then.
    pub(super) received: UnixMicros,
    /// The batch's receipt and its samples in the ledger.
    pub(super) custody: &'a mut Custody,
    /// How long the uplink has lagged.
    pub(super) lag: Duration,
    /// Where it is counted what was done and why.
    pub(super) counts: &'a StepCounts,
    pub(super) ledger: &'a Arc<Ledger>,
    /// What comes out beside the batch.
    pub(super) aside: &'a mut Aside,
}

/// What comes out of the steps beside the batch that went in.
#[derive(Default)]
pub(super) struct Aside {
    /// Batches that all steps have seen, in the order in which they go.
    pub(super) ready: Vec<Batch>,
    /// Samples that a step held back and that go before the batch that is being looked at.
    pub(super) earlier: Vec<Batch>,
    /// Computed channels; those of `derive` are still to be looked at by the steps behind it.
    pub(super) derived: Vec<Batch>,
    /// What is worth telling a person.
    pub(super) events: Vec<Event>,
}

/// Where steps give out what they held; there also when no batch is.
pub(super) struct Outlet<'a> {
    /// Whose samples these are.
    pub(super) origin: &'a Arc<Origin>,
    /// The moment that called for it, if it is known. What waited by a rule is on its way from then on, or it
    /// would be older than D when it comes to delivery.
    pub(super) now: Option<Instant>,
    pub(super) counts: &'a StepCounts,
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) aside: &'a mut Aside,
}

/// The frame that held samples came with.
pub(super) struct From {
    /// A share of its receipt.
    pub(super) receipt: Receipt,
    pub(super) accepted_at: Instant,
    pub(super) received: UnixMicros,
}

impl From {
    /// The same frame, with a further share of its receipt.
    pub(super) fn share(&self) -> Self {
        Self { receipt: self.receipt.clone(), ..*self }
    }
}

impl Outlet<'_> {
    /// Gives out a computed column. `from` is the oldest frame that is needed to compute it anew, so that a
    /// crash before it is durable brings that frame and, as brokers send in order, those behind it again.
    pub(super) fn derive(&mut self, column: Column, from: From) {
        if column.is_empty() {
            return from.receipt.settle();
        }
        let tally = self.ledger.receive(SourceId::DERIVED, column.len() as u64);
        let batch = self.batch(column, from, tally);
        self.aside.derived.push(batch);
    }

    /// Gives out samples of an earlier frame that were held back.
    pub(super) fn give(&mut self, column: Column, from: From, tally: Tally) {
        let batch = self.batch(column, from, tally);
        self.aside.earlier.push(batch);
    }

    fn batch(&self, column: Column, from: From, tally: Tally) -> Batch {
        let From { receipt, accepted_at, received } = from;
        Batch {
            origin: self.origin.clone(),
            columns: vec![column],
            accepted_at: self.now.map_or(accepted_at, |now| now.max(accepted_at)),
            received,
            custody: Custody { receipt, tally },
        }
    }
}

impl Context<'_> {
    /// Where what was held goes, called for by this batch.
    pub(super) fn outlet(&mut self) -> Outlet<'_> {
        let now = Some(self.accepted_at);
        Outlet { origin: self.origin, now, counts: self.counts, ledger: self.ledger, aside: self.aside }
    }

    /// The batch's frame, with a share of its receipt.
    pub(super) fn frame(&self) -> From {
        From { receipt: self.custody.receipt.clone(), accepted_at: self.accepted_at, received: self.received }
    }

    /// Settles `samples` of the batch as dropped by `policy`.
    pub(super) fn drop(&mut self, policy: Policy, samples: u64) {
        self.settle(Fate::Dropped(policy), samples);
    }

    /// Settles `samples` of the batch.
    pub(super) fn settle(&mut self, fate: Fate, samples: u64) {
        if samples > 0 {
            self.custody.tally.split(samples).settle(fate);
        }
    }
}

//! What is missing, as events on their way to the store.
//!
//! An event's receipt notes its frames as settled: what is declared durably need not be declared again. What cannot be
//! declared yet (nobody has said what the device's clock counts from) stays outside of what is settled, so the next
//! process does it at the latest.

use std::time::{Duration, Instant};

use super::device::{Boot, Context, Device};
use super::holes::Missing;
use crate::gap::{Gap, KIND_GAP, Reason};
use crate::item::{self, Item};
use crate::receipt::{Ending, Receipt};
use crate::sample::{ClockBase, DeviceTime, UnixMicros};

/// When and from whom events are declared.
#[derive(Clone, Copy)]
pub(super) struct Declaring {
    /// What is final now; all if absent.
    pub(super) now: Option<Instant>,
    /// When the events count as accepted.
    pub(super) accepted_at: Instant,
    /// How late a frame may come.
    pub(super) late: Duration,
}

impl Device {
    /// When something is to be declared, if frames may come so `late`.
    pub(super) fn declares_at(&self, late: Duration) -> Option<Instant> {
        self.base()?;
        self.boots.iter().filter_map(|boot| boot.holes.due(late)).min()
    }

    /// Declares what is final, of all boots.
    pub(super) fn declare(&mut self, context: &Context<'_>, when: Declaring, out: &mut Vec<Item>) {
        let Some(base) = self.base() else { return };
        for boot in &mut self.boots {
            boot.declare(context, base, when, out);
        }
    }

    /// What its clock counts from, if it or an earlier run has said so.
    pub(super) fn base(&self) -> Option<ClockBase> {
        let told = self.boots.iter().rev().find_map(|boot| boot.base);
        told.or_else(|| self.catalogues.back().map(|(_, catalogue)| catalogue.base))
    }
}

impl Boot {
    pub(super) fn declare(&mut self, context: &Context<'_>, base: ClockBase, when: Declaring, out: &mut Vec<Item>) {
        let mut missing = self.holes.take(when.now, when.late);
        missing.extend(self.book.take_failed().into_iter().map(|failed| Missing {
            reason: Reason::Failed,
            may_be_stored: false,
            ranges: vec![(failed.from, failed.to)],
            d_from: Some(self.holes.low_us(failed.high_us.0)),
            d_to: Some(failed.high_us.1),
        }));
        for mut missing in missing {
            // Another source may have brought them.
            let open = |&(from, to): &(u64, u64)| self.book.open_in(from, to);
            missing.ranges = missing.ranges.iter().flat_map(open).collect();
            if !missing.ranges.is_empty() {
                out.push(self.event(context, base, missing, when.accepted_at));
            }
        }
    }

    fn event(&mut self, context: &Context<'_>, base: ClockBase, missing: Missing, accepted_at: Instant) -> Item {
        let Missing { reason, may_be_stored, ranges, d_from, d_to } = missing;
        let high_us = d_to.unwrap_or_else(|| self.holes.high_us(0));
        let gap = Gap { may_be_stored, d_from, d_to, ..Gap::new(reason) }.with_sequences(ranges.clone());
        // Counted when it is durable: one that is lost on the way is declared again, and more with it.
        let (counts, counted) = (context.gaps.counts.clone(), gap.clone());
        let told = Receipt::unowed_with_ending(move |ending| {
            if ending == Ending::Settled {
                counts.add(&counted);
            }
        });
        let receipt = self.book.watch(ranges, high_us, false, told);
        let (source, device, boot, frames) = (&context.spec.name, context.device, self.key.2, gap.frames);
        tracing::warn!(%source, %device, boot, frames, reason = reason.as_str(), seq_from = gap.seq_from, seq_to = gap.seq_to,
            "frames are missing; a gap is stored as an event");
        Item::Event(item::Event {
            origin: self.origin(context, self.base.unwrap_or(base)),
            t: DeviceTime(d_from.unwrap_or(high_us)),
            sequence: gap.seq_from.unwrap_or_default(),
            kind: KIND_GAP,
            number: 0,
            text: gap.text(),
            accepted_at,
            received: UnixMicros(self.received_us),
            receipt,
        })
    }
}

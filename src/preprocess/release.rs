//! What steps hold back, and when it leaves: derived samples that wait for their inputs, and windows.
//!
//! It leaves with a later batch of its device, when it has waited long enough ([`Device::due`]), before the
//! rules are exchanged, when its device is forgotten, and at the end. Nothing that is held is ever dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decimate::MEAN_SUFFIX;
use super::stage::{Device, Preprocess, Setup};
use super::{Aside, Context, Outlet, Rules};
use crate::item::{Batch, Item};
use crate::sample::Origin;

impl Preprocess {
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.rules.derive.held_bytes()
    }

    /// Gives out what is due at `now`, or everything.
    pub(super) fn release(&mut self, now: Option<Instant>, out: &mut Vec<Item>) {
        let Self { rules, setup, devices, .. } = self;
        for (origin, device) in devices {
            if now.is_none_or(|now| device.due.is_some_and(|due| due <= now)) {
                device.release(origin, (rules, setup), now, out);
            }
        }
    }
}

impl Device {
    /// Gives out what is due at `now`, or everything.
    pub(super) fn release(
        &mut self,
        origin: &Arc<Origin>,
        given: (&Rules, &Setup),
        now: Option<Instant>,
        out: &mut Vec<Item>,
    ) {
        let (counts, ledger) = (&given.1.counts, &given.1.ledger);
        let (mut aside, lag) = (Aside::default(), (given.1.lag)());
        self.derive.release(now, &mut Outlet { origin, now, counts, ledger, aside: &mut aside });
        let mut derived = std::mem::take(&mut aside.derived);
        derived.iter_mut().for_each(|batch| self.look_and_thin(given, lag, batch, &mut aside));
        aside.give_out(derived, out);
        let mut aside = Aside::default();
        let mut outlet = Outlet { origin, now, counts, ledger, aside: &mut aside };
        self.lanes.iter_mut().for_each(|lane| lane.decimate.release(now, &mut outlet));
        aside.give_out(std::iter::empty(), out);
        let windows = self.lanes.iter().filter_map(|lane| lane.decimate.due());
        self.due = windows.chain(self.derive.due()).min();
    }

    /// The steps behind derive, for a batch or what was computed of it.
    pub(super) fn look_and_thin(
        &mut self,
        (rules, setup): (&Rules, &Setup),
        lag: Duration,
        batch: &mut Batch,
        aside: &mut Aside,
    ) {
        let already = aside.events.len();
        let (columns, mut context) = Context::of(batch, setup, lag, aside);
        for column in columns.iter_mut() {
            let lane = self.lanes.of_corrected(rules, &column.channel, &mut context.outlet());
            lane.anomaly.apply(column, &mut context);
        }
        let lanes = self.lanes.iter_mut().map(|lane| &mut lane.anomaly);
        self.anomaly.look(columns, lanes, &mut context, already);
        for column in columns.iter_mut() {
            let lane = self.lanes.of_corrected(rules, &column.channel, &mut context.outlet());
            lane.decimate.apply(column, &mut context);
            let due = lane.decimate.due();
            self.due = [self.due, due].into_iter().flatten().min();
        }
        columns.retain(|column| !column.is_empty());
    }

    /// The same for all channels, under new rules; no window is open.
    pub(super) fn keep_all_means_apart(&mut self, origin: &Arc<Origin>, setup: &Setup) {
        let mut aside = Aside::default();
        let (counts, ledger) = (&setup.counts, &setup.ledger);
        let mut outlet = Outlet { origin, now: None, counts, ledger, aside: &mut aside };
        let means = self.lanes.iter().map(|lane| &lane.given).filter(|meta| meta.name.ends_with(MEAN_SUFFIX));
        for meta in means.cloned().collect::<Vec<_>>() {
            self.lanes.keep_means_apart(&meta, &mut outlet);
        }
    }
}

impl Aside {
    /// What was held back, then `batches`, then what was computed of them.
    pub(super) fn give_out(self, batches: impl IntoIterator<Item = Batch>, out: &mut Vec<Item>) {
        let Self { earlier, derived, events } = self;
        out.extend(earlier.into_iter().chain(batches).chain(derived).map(Item::Batch));
        out.extend(events.into_iter().map(Item::Event));
    }
}

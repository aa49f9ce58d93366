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
use crate::receipt::Custody;
use crate::sample::{Column, Origin};

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
        let derived = std::mem::take(&mut aside.derived);
        derived.into_iter().for_each(|batch| self.look_and_thin(given, lag, batch, &mut aside));
        aside.give_out(out);
        let mut aside = Aside::default();
        let mut outlet = Outlet { origin, now, counts, ledger, aside: &mut aside };
        self.lanes.iter_mut().for_each(|lane| lane.decimate.release(now, &mut outlet));
        aside.give_out(out);
        let windows = self.lanes.iter().filter_map(|lane| lane.decimate.due());
        self.due = windows.chain(self.derive.due()).min();
    }

    /// The steps behind derive, for a batch or what was computed of it.
    pub(super) fn look_and_thin(
        &mut self,
        (rules, setup): (&Rules, &Setup),
        lag: Duration,
        mut batch: Batch,
        aside: &mut Aside,
    ) {
        let already = aside.events.len();
        let (columns, mut context) = Context::of(&mut batch, setup, lag, aside);
        for column in columns.iter_mut() {
            let lane = self.lanes.of_corrected(rules, &column.channel, &mut context.outlet());
            lane.anomaly.apply(column, &mut context);
        }
        let lanes = self.lanes.iter_mut().map(|lane| &mut lane.anomaly);
        self.anomaly.look(columns, lanes, &mut context, already);
        let mut index = 0;
        while index < batch.columns.len() {
            let before = aside.earlier.len();
            let (columns, mut context) = Context::of(&mut batch, setup, lag, aside);
            let column = &mut columns[index];
            let lane = self.lanes.of_corrected(rules, &column.channel, &mut context.outlet());
            lane.decimate.apply(column, &mut context);
            let due = lane.decimate.due();
            self.due = [self.due, due].into_iter().flatten().min();
            if aside.earlier.len() > before && repeats(&batch, index) {
                // A list in JSON: what was held back goes between the two columns of the channel.
                let between = aside.earlier.split_off(before);
                aside.put(front(&mut batch, index));
                aside.earlier = between;
                index = 0;
            }
            index += 1;
        }
        aside.put(batch);
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

/// Whether a column before the one at `index` is of the same channel.
fn repeats(batch: &Batch, index: usize) -> bool {
    batch.columns[..index].iter().any(|column| column.channel.name == batch.columns[index].channel.name)
}

/// The columns before the one at `index`, in a batch of their own.
fn front(batch: &mut Batch, index: usize) -> Batch {
    let columns: Vec<Column> = batch.columns.drain(..index).collect();
    let tally = batch.custody.tally.split(columns.iter().map(|column| column.len() as u64).sum());
    let custody = Custody { receipt: batch.custody.receipt.clone(), tally };
    Batch { origin: batch.origin.clone(), columns, custody, ..*batch }
}

impl Aside {
    /// `batch` is ready. Of a channel that comes in several batches at once, each has its own earlier samples
    /// right before it.
    fn put(&mut self, mut batch: Batch) {
        batch.columns.retain(|column| !column.is_empty());
        self.ready.append(&mut self.earlier);
        if batch.columns.is_empty() {
            // Nothing is left that could settle it: all of it is counted or held, with shares of their own.
            return batch.custody.receipt.settle();
        }
        self.ready.push(batch);
    }

    /// What is ready, what was held back, then what was computed of both.
    pub(super) fn give_out(self, out: &mut Vec<Item>) {
        let Self { ready, earlier, derived, events } = self;
        out.extend(ready.into_iter().chain(earlier).chain(derived).map(Item::Batch));
        out.extend(events.into_iter().map(Item::Event));
    }
}

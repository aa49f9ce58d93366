//! The stage: devices, their channels, and the order of the steps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::lanes::Lanes;
use super::{Aside, Config, Context, Lag, Outlet, Reason, Rules, StepCounts, StepName, anomaly, dedup, derive};
use crate::item::{Batch, Catalogue, Item};
use crate::ledger::Ledger;
use crate::limits::{DEDUP_BYTES_MAX, DEVICES_MAX};
use crate::pipeline::Stage;
use crate::sample::{ChannelMeta, Origin};

/// What the stage is given.
#[derive(Clone)]
pub struct Setup {
    /// Where samples are counted.
    pub ledger: Arc<Ledger>,
    /// Where it is counted what was done and why.
    pub counts: Arc<StepCounts>,
    /// How long the uplink has lagged.
    pub lag: Lag,
}

/// Exchanges the rules of a running stage.
#[derive(Clone, Default)]
pub struct Swap(Arc<SwapState>);

#[derive(Default)]
struct SwapState {
    next: Mutex<Option<Rules>>,
    asked: AtomicU64,
    applied: AtomicU64,
}

impl Swap {
    /// Hands in the steps of `config`, which replace the present ones before the next batch.
    ///
    /// # Errors
    /// What is wrong with it, as [`Config::faults`] says; then the present ones stay.
    pub fn put(&self, config: &Config) -> Result<(), Vec<(String, String)>> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let rules = Rules::new(config);
        *self.0.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
        self.0.asked.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// How often the rules were exchanged so far; what was handed in last counts once a batch came after it.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.0.applied.load(Ordering::Relaxed)
    }

    /// Whether nothing was handed in that has not been taken.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn take(&self) -> Option<Rules> {
        let asked = self.0.asked.load(Ordering::Acquire);
        if asked == self.0.applied.load(Ordering::Relaxed) {
            return None;
        }
        self.0.applied.store(asked, Ordering::Relaxed);
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One device and boot.
pub(super) struct Device {
    pub(super) lanes: Lanes,
    dedup: dedup::Device,
    pub(super) derive: derive::Device,
    pub(super) anomaly: anomaly::Device,
    /// When something that it holds has waited long enough; never too late.
    pub(super) due: Option<Instant>,
    /// For finding the one that was heard longest ago.
    heard: u64,
}

impl Device {
    fn new(rules: &Rules, origin: &Origin) -> Self {
        let (lanes, dedup) = (Lanes::default(), dedup::Device::default());
        Self {
            lanes,
            dedup,
            derive: rules.derive.device(origin),
            anomaly: anomaly::Device::default(),
            due: None,
            heard: 0,
        }
    }
}

/// The stage.
pub struct Preprocess {
    pub(super) rules: Rules,
    pub(super) setup: Setup,
    swap: Swap,
    pub(super) devices: HashMap<Arc<Origin>, Device>,
    turn: u64,
}

impl Preprocess {
    /// A stage with the steps of `config`, which has no faults, until `swap` brings others.
    #[must_use]
    pub fn new(config: &Config, setup: Setup, swap: Swap) -> Self {
        Self { rules: Rules::new(config), setup, swap, devices: HashMap::new(), turn: 0 }
    }

    #[cfg(test)]
    pub(super) fn channels(&self) -> usize {
        self.devices.values().map(|device| device.lanes.len()).sum()
    }

    fn exchange(&mut self, out: &mut Vec<Item>) {
        if let Some(rules) = self.swap.take() {
            rules.decimate.continues(&self.rules.decimate);
            self.release(None, out);
            for (origin, device) in &mut self.devices {
                device.derive = rules.derive.device(origin);
                device.lanes.renew(&rules);
                device.keep_all_means_apart(origin, &self.setup);
                let sent = device.lanes.iter().map(|lane| &*lane.given);
                device.derive.keep_names_apart(sent, &self.setup.counts);
            }
            self.setup.counts.keep_rules(&rules.names);
            self.rules = rules;
        }
    }

    fn device<'d>(
        devices: &'d mut HashMap<Arc<Origin>, Device>,
        (rules, setup): (&Rules, &Setup),
        origin: &Arc<Origin>,
        turn: u64,
        out: &mut Vec<Item>,
    ) -> &'d mut Device {
        if !devices.contains_key(origin) {
            if devices.len() >= DEVICES_MAX
                && let Some(oldest) =
                    devices.iter().min_by_key(|(_, device)| device.heard).map(|(origin, _)| origin.clone())
            {
                let forgotten = devices.remove(&oldest);
                forgotten.into_iter().for_each(|mut device| device.release(&oldest, (rules, setup), None, out));
            }
            devices.insert(origin.clone(), Device::new(rules, origin));
        }
        let device = devices.get_mut(origin).expect("inserted above if it was absent");
        device.heard = turn;
        device
    }

    fn batch(&mut self, mut batch: Batch, out: &mut Vec<Item>) {
        self.turn += 1;
        let Self { rules, setup, devices, turn, .. } = self;
        let device = Self::device(devices, (rules, setup), &batch.origin, *turn, out);
        let (mut aside, lag) = (Aside::default(), (setup.lag)());
        device.dedup.begin(&rules.dedup, &mut batch.custody);
        {
            let (columns, mut context) = Context::of(&mut batch, setup, lag, &mut aside);
            for column in columns.iter_mut() {
                let lane = device.lanes.of(rules, &column.channel, &mut context.outlet());
                lane.dedup.apply(column, &rules.dedup, &mut device.dedup, &mut context);
                if column.is_empty() {
                    continue;
                }
                lane.calibrate.apply(column, &mut context);
                lane.validate.apply(column, &mut context);
            }
            columns.retain(|column| !column.is_empty());
            device.derive.apply(columns, &mut context);
        }
        let derived = std::mem::take(&mut aside.derived);
        for batch in std::iter::once(batch).chain(derived) {
            device.look_and_thin((rules, setup), lag, batch, &mut aside);
        }
        device.due = [device.due, device.derive.due()].into_iter().flatten().min();
        aside.give_out(out);
        self.keep_within_memory();
    }

    /// Dedup's memory has one bound over all devices.
    fn keep_within_memory(&mut self) {
        while self.devices.values().map(|device| device.dedup.bytes()).sum::<usize>() > DEDUP_BYTES_MAX {
            let forget = |device: &mut Device| device.dedup.forget_half(device.lanes.iter_mut().map(|l| &mut l.dedup));
            let samples = self.devices.values_mut().map(forget).sum();
            let tell = || format!("more than {DEDUP_BYTES_MAX} bytes were to be remembered");
            self.setup.counts.add(StepName::Dedup, &"".into(), Reason::Forgotten, samples, tell);
        }
    }

    /// A catalogue announces what will be stored, so it shows the corrected channels, and the computed ones.
    fn catalogue(&mut self, mut catalogue: Catalogue, out: &mut Vec<Item>) {
        self.turn += 1;
        let Self { rules, setup, devices, turn, .. } = self;
        let (now, mut aside) = (Some(catalogue.accepted_at), Aside::default());
        let Catalogue { origin, channels, .. } = &mut catalogue;
        let device = Self::device(devices, (rules, setup), origin, *turn, out);
        let mut outlet = Outlet { origin, now, counts: &setup.counts, ledger: &setup.ledger, aside: &mut aside };
        let given = channels.clone();
        for meta in channels.iter_mut() {
            *meta = device.lanes.of(rules, meta, &mut outlet).calibrate.corrected.clone();
        }
        device.derive.catalogue(channels, &setup.counts);
        for index in 0..channels.len() {
            let mean = device.lanes.of_corrected(rules, &channels[index].clone(), &mut outlet).decimate.mean().cloned();
            channels.extend(mean);
        }
        let same = |meta: &Arc<ChannelMeta>, index: usize| given.get(index).is_some_and(|given| given == meta);
        let all = std::mem::take(channels).into_iter().enumerate();
        let (kept, changed): (Vec<_>, Vec<_>) = all.partition(|(index, meta)| same(meta, *index));
        catalogue.channels = kept.into_iter().map(|(_, meta)| meta).collect();
        catalogue.changed.extend(changed.into_iter().map(|(_, meta)| meta));
        aside.give_out(out);
        out.push(Item::Catalogue(catalogue));
    }
}

impl<'a> Context<'a> {
    pub(super) fn of(
        batch: &'a mut Batch,
        setup: &'a Setup,
        lag: std::time::Duration,
        aside: &'a mut Aside,
    ) -> (&'a mut Vec<crate::sample::Column>, Self) {
        let Batch { origin, columns, accepted_at, received, custody } = batch;
        let (accepted_at, received) = (*accepted_at, *received);
        let Setup { ledger, counts, .. } = setup;
        (columns, Self { origin, accepted_at, received, custody, lag, counts, ledger, aside })
    }
}

impl Stage for Preprocess {
    type In = Item;
    type Out = Item;

    fn name(&self) -> &str {
        "preprocess"
    }

    fn process(&mut self, item: Item, out: &mut Vec<Item>) {
        self.exchange(out);
        match item {
            Item::Batch(batch) => self.batch(batch, out),
            Item::Catalogue(catalogue) => self.catalogue(catalogue, out),
            Item::Event(_) | Item::Malformed(_) | Item::Flush(_) => out.push(item),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.devices.values().filter_map(|device| device.due).min()
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Vec<Item>) {
        self.release(Some(now), out);
    }

    fn finish(&mut self, out: &mut Vec<Item>) {
        self.release(None, out);
    }
}

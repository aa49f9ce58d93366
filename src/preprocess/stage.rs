//! The stage: devices, their channels, and the order of the steps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Aside, Config, Context, Lag, Rules, StepCounts, anomaly, calibrate, decimate, dedup, derive, validate};
use crate::item::{Batch, Catalogue, Item};
use crate::ledger::Ledger;
use crate::limits::{CHANNELS_PER_DEVICE_MAX, DEVICES_MAX};
use crate::pipeline::Stage;
use crate::sample::{ChannelMeta, Name, Origin};

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

    fn take(&self) -> Option<Rules> {
        let asked = self.0.asked.load(Ordering::Acquire);
        if asked == self.0.applied.load(Ordering::Relaxed) {
            return None;
        }
        self.0.applied.store(asked, Ordering::Relaxed);
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One channel of one device and boot: what applies to it, and what is remembered of it.
pub(super) struct Lane {
    given: Arc<ChannelMeta>,
    dedup: dedup::Lane,
    calibrate: calibrate::Lane,
    validate: validate::Lane,
    anomaly: anomaly::Lane,
    decimate: decimate::Lane,
}

impl Lane {
    fn new(rules: &Rules, given: &Arc<ChannelMeta>, dedup: dedup::Lane) -> Self {
        let calibrate = rules.calibrate.lane(given);
        let corrected = calibrate.corrected.clone();
        Self {
            given: given.clone(),
            dedup,
            calibrate,
            validate: rules.validate.lane(&corrected),
            anomaly: rules.anomaly.lane(&corrected),
            decimate: rules.decimate.lane(&corrected),
        }
    }
}

/// One device and boot.
struct Device {
    lanes: HashMap<Name, Lane>,
    derive: derive::Device,
    anomaly: anomaly::Device,
    /// For finding the one that was heard longest ago.
    heard: u64,
}

impl Device {
    fn new(rules: &Rules) -> Self {
        Self { lanes: HashMap::new(), derive: rules.derive.device(), anomaly: anomaly::Device::default(), heard: 0 }
    }

    fn lane(&mut self, rules: &Rules, meta: &Arc<ChannelMeta>) -> &mut Lane {
        let known = self.lanes.get(&meta.name);
        // Descriptions are shared, so the same one is nearly always the same allocation; JSON makes one each time.
        if known.is_none_or(|lane| !Arc::ptr_eq(&lane.given, meta) && lane.given != *meta) {
            if self.lanes.len() >= CHANNELS_PER_DEVICE_MAX && known.is_none() {
                // Whoever sends ever new names pays for it himself: what was remembered of them is gone.
                self.lanes.clear();
            }
            let dedup = self.lanes.remove(&meta.name).map_or_else(|| rules.dedup.lane(), |lane| lane.dedup);
            self.lanes.insert(meta.name.clone(), Lane::new(rules, meta, dedup));
        }
        self.lanes.get_mut(&meta.name).expect("inserted above if it was absent")
    }
}

/// The stage.
pub struct Preprocess {
    rules: Rules,
    setup: Setup,
    swap: Swap,
    devices: HashMap<Arc<Origin>, Device>,
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

    fn exchange(&mut self) {
        if let Some(rules) = self.swap.take() {
            for device in self.devices.values_mut() {
                device.derive = rules.derive.device();
                let lanes = std::mem::take(&mut device.lanes);
                // What was seen stays seen: dedup keeps its memory.
                let renewed = lanes.into_iter().map(|(name, lane)| (name, Lane::new(&rules, &lane.given, lane.dedup)));
                device.lanes = renewed.collect();
            }
            self.rules = rules;
        }
    }

    fn device<'d>(
        devices: &'d mut HashMap<Arc<Origin>, Device>,
        rules: &Rules,
        origin: &Arc<Origin>,
        turn: u64,
    ) -> &'d mut Device {
        if !devices.contains_key(origin) {
            if devices.len() >= DEVICES_MAX
                && let Some(oldest) =
                    devices.iter().min_by_key(|(_, device)| device.heard).map(|(origin, _)| origin.clone())
            {
                devices.remove(&oldest);
            }
            devices.insert(origin.clone(), Device::new(rules));
        }
        let device = devices.get_mut(origin).expect("inserted above if it was absent");
        device.heard = turn;
        device
    }

    fn batch(&mut self, mut batch: Batch, out: &mut Vec<Item>) {
        self.turn += 1;
        let Self { rules, setup, devices, turn, .. } = self;
        let device = Self::device(devices, rules, &batch.origin, *turn);
        let (mut aside, lag) = (Aside::default(), (setup.lag)());
        {
            let (columns, mut context) = Context::of(&mut batch, setup, lag, &mut aside);
            for column in columns.iter_mut() {
                let lane = device.lane(rules, &column.channel);
                lane.dedup.apply(column, &mut context);
                lane.calibrate.apply(column, &mut context);
                lane.validate.apply(column, &mut context);
            }
            columns.retain(|column| !column.is_empty());
            device.derive.apply(columns, &mut context);
        }
        let mut derived = std::mem::take(&mut aside.derived);
        for batch in std::iter::once(&mut batch).chain(&mut derived) {
            let events = aside.events.len();
            let (columns, mut context) = Context::of(batch, setup, lag, &mut aside);
            for column in columns.iter_mut() {
                // A corrected description is found by its name: the lane is that of the given one.
                let lane = match device.lanes.get_mut(&column.channel.name) {
                    Some(lane) => lane,
                    None => device.lane(rules, &column.channel),
                };
                lane.anomaly.apply(column, &mut context);
                lane.decimate.apply(column, &mut context);
            }
            let lanes = device.lanes.values_mut().map(|lane| &mut lane.anomaly);
            device.anomaly.look(columns, lanes, &mut context, events);
            columns.retain(|column| !column.is_empty());
        }
        out.push(Item::Batch(batch));
        out.extend(derived.into_iter().chain(aside.derived).map(Item::Batch));
        out.extend(aside.events.into_iter().map(Item::Event));
    }

    /// A catalogue announces what will be stored, so it shows the corrected channels.
    fn catalogue(&mut self, catalogue: &mut Catalogue) {
        self.turn += 1;
        let Self { rules, devices, turn, .. } = self;
        let device = Self::device(devices, rules, &catalogue.origin, *turn);
        for meta in &mut catalogue.channels {
            *meta = device.lane(rules, meta).calibrate.corrected.clone();
        }
    }
}

impl<'a> Context<'a> {
    fn of(
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
        self.exchange();
        match item {
            Item::Batch(batch) => self.batch(batch, out),
            Item::Catalogue(mut catalogue) => {
                self.catalogue(&mut catalogue);
                out.push(Item::Catalogue(catalogue));
            }
            Item::Event(_) | Item::Malformed(_) => out.push(item),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

//! The channels of one device and boot, found without hashing where they come in their usual order.

use std::collections::HashMap;
use std::sync::Arc;

use super::decimate::MEAN_SUFFIX;
use super::{Outlet, Rules, anomaly, calibrate, decimate, dedup, validate};
use crate::limits::CHANNELS_PER_DEVICE_MAX;
use crate::sample::{ChannelMeta, Name};

/// One channel of one device and boot: what applies to it, and what is remembered of it.
pub(super) struct Lane {
    pub(super) given: Arc<ChannelMeta>,
    pub(super) dedup: dedup::Lane,
    pub(super) calibrate: calibrate::Lane,
    pub(super) validate: validate::Lane,
    pub(super) anomaly: anomaly::Lane,
    pub(super) decimate: decimate::Lane,
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

/// All of them.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    by_name: HashMap<Name, usize>,
    /// Where the next one is expected, before calibration and behind it: frames name their channels in the same
    /// order each time.
    next: usize,
    next_corrected: usize,
}

impl Lanes {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    /// The lane of a channel as its device describes it.
    pub(super) fn of(&mut self, rules: &Rules, meta: &Arc<ChannelMeta>, outlet: &mut Outlet<'_>) -> &mut Lane {
        let at = match self.lanes.get(self.next) {
            // Descriptions are shared, so the same one is nearly always the same allocation; JSON makes one each time.
            Some(lane) if Arc::ptr_eq(&lane.given, meta) => self.next,
            _ => self.find(rules, meta, outlet),
        };
        self.next = self.after(at);
        &mut self.lanes[at]
    }

    /// The lane of a channel as it is after calibration, or of a computed one.
    pub(super) fn of_corrected(
        &mut self,
        rules: &Rules,
        meta: &Arc<ChannelMeta>,
        outlet: &mut Outlet<'_>,
    ) -> &mut Lane {
        let at = match self.lanes.get(self.next_corrected) {
            Some(lane) if Arc::ptr_eq(&lane.calibrate.corrected, meta) => self.next_corrected,
            // A corrected description is found by its name: the lane is that of the given one.
            _ => self.by_name.get(&meta.name).copied().unwrap_or_else(|| self.find(rules, meta, outlet)),
        };
        self.next_corrected = self.after(at);
        &mut self.lanes[at]
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.lanes.len() { at + 1 } else { 0 }
    }

    fn find(&mut self, rules: &Rules, meta: &Arc<ChannelMeta>, outlet: &mut Outlet<'_>) -> usize {
        if let Some(&at) = self.by_name.get(&meta.name) {
            let lane = &mut self.lanes[at];
            if !Arc::ptr_eq(&lane.given, meta) && lane.given != *meta {
                lane.decimate.release(None, outlet);
                let dedup = std::mem::take(&mut lane.dedup);
                *lane = Lane::new(rules, meta, dedup);
                self.keep_means_apart(meta, outlet);
            }
            return at;
        }
        if self.lanes.len() >= CHANNELS_PER_DEVICE_MAX {
            // Whoever sends ever new names pays for it himself: what was remembered of them is gone.
            self.lanes.iter_mut().for_each(|lane| lane.decimate.release(None, outlet));
            *self = Self::default();
        }
        self.lanes.push(Lane::new(rules, meta, dedup::Lane::default()));
        self.by_name.insert(meta.name.clone(), self.lanes.len() - 1);
        self.keep_means_apart(meta, outlet);
        self.lanes.len() - 1
    }

    /// Other rules apply from now on; what was seen stays seen: dedup keeps its memory.
    pub(super) fn renew(&mut self, rules: &Rules) {
        for lane in &mut self.lanes {
            let dedup = std::mem::take(&mut lane.dedup);
            *lane = Lane::new(rules, &lane.given.clone(), dedup);
        }
    }

    fn named(&mut self, name: &str) -> Option<&mut Lane> {
        self.by_name.get(name).map(|&at| &mut self.lanes[at])
    }

    /// No mean is made under a name that the device sends itself. `meta` is the new one.
    pub(super) fn keep_means_apart(&mut self, meta: &ChannelMeta, outlet: &mut Outlet<'_>) {
        if let Some(of) = meta.name.strip_suffix(MEAN_SUFFIX).filter(|_| !meta.derived)
            && let Some(lane) = self.named(of)
        {
            lane.decimate.take_mean(outlet);
        }
        let mean = format!("{}{MEAN_SUFFIX}", meta.name);
        if self.named(&mean).is_some_and(|lane| !lane.given.derived)
            && let Some(lane) = self.named(&meta.name)
        {
            lane.decimate.take_mean(outlet);
        }
    }
}

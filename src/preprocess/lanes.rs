//! The channels of one device and boot, found without hashing where they come in their usual order.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Rules, anomaly, calibrate, decimate, dedup, validate};
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

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    /// The lane of a channel as its device describes it.
    pub(super) fn of(&mut self, rules: &Rules, meta: &Arc<ChannelMeta>) -> &mut Lane {
        let at = match self.lanes.get(self.next) {
            // Descriptions are shared, so the same one is nearly always the same allocation; JSON makes one each time.
            Some(lane) if Arc::ptr_eq(&lane.given, meta) => self.next,
            _ => self.find(rules, meta),
        };
        self.next = self.after(at);
        &mut self.lanes[at]
    }

    /// The lane of a channel as it is after calibration, or of a computed one.
    pub(super) fn of_corrected(&mut self, rules: &Rules, meta: &Arc<ChannelMeta>) -> &mut Lane {
        let at = match self.lanes.get(self.next_corrected) {
            Some(lane) if Arc::ptr_eq(&lane.calibrate.corrected, meta) => self.next_corrected,
            // A corrected description is found by its name: the lane is that of the given one.
            _ => self.by_name.get(&meta.name).copied().unwrap_or_else(|| self.find(rules, meta)),
        };
        self.next_corrected = self.after(at);
        &mut self.lanes[at]
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.lanes.len() { at + 1 } else { 0 }
    }

    fn find(&mut self, rules: &Rules, meta: &Arc<ChannelMeta>) -> usize {
        if let Some(&at) = self.by_name.get(&meta.name) {
            let lane = &mut self.lanes[at];
            if !Arc::ptr_eq(&lane.given, meta) && lane.given != *meta {
                let dedup = std::mem::take(&mut lane.dedup);
                *lane = Lane::new(rules, meta, dedup);
            }
            return at;
        }
        if self.lanes.len() >= CHANNELS_PER_DEVICE_MAX {
            // Whoever sends ever new names pays for it himself: what was remembered of them is gone.
            *self = Self::default();
        }
        self.lanes.push(Lane::new(rules, meta, dedup::Lane::default()));
        self.by_name.insert(meta.name.clone(), self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    /// Other rules apply from now on; what was seen stays seen: dedup keeps its memory.
    pub(super) fn renew(&mut self, rules: &Rules) {
        for lane in &mut self.lanes {
            let dedup = std::mem::take(&mut lane.dedup);
            *lane = Lane::new(rules, &lane.given.clone(), dedup);
        }
    }
}

//! From sets of channels to the plan of a device: ids, groups, lanes.

use super::channels::{Def, Place, family};
use super::{ChannelPlan, DevicePlan, LanePlan};
use crate::device::LaneConfig;

/// A row of a Scan stays below this, so that a frame of 1 KiB holds at least three.
const ROW_BYTES_MAX: usize = 300;

/// Channels of one rate, and how they are sent.
pub(super) struct Set {
    rate_hz: f64,
    burst: bool,
    defs: Vec<Def>,
}

pub(super) fn scan(rate_hz: f64, defs: Vec<Def>) -> Set {
    Set { rate_hz, burst: false, defs }
}

pub(super) fn burst(rate_hz: f64, defs: Vec<Def>) -> Set {
    Set { rate_hz, burst: true, defs }
}

/// The named channels that no device has taken yet.
pub(super) struct Library(pub(super) Vec<Def>);

impl Library {
    pub(super) fn some(&mut self, names: &[&str]) -> Vec<Def> {
        names
            .iter()
            .map(|name| {
                let at = self.0.iter().position(|def| def.name == *name);
                self.0.swap_remove(at.expect("tiers name channels of the library, each once: the tests build them all"))
            })
            .collect()
    }

    pub(super) fn starting(&mut self, prefixes: &[&str]) -> Vec<Def> {
        self.0.extract_if(.., |def| prefixes.iter().any(|p| def.name.starts_with(p))).collect()
    }
}

/// Fills sets up.
pub(super) trait ChainFamily {
    /// Fills up with a place's families to so many channels.
    fn chain_family(self, place: Place, count: usize, adapt: fn(usize, Def) -> Def) -> Vec<Def>;
}

impl ChainFamily for Vec<Def> {
    fn chain_family(mut self, place: Place, count: usize, adapt: fn(usize, Def) -> Def) -> Vec<Def> {
        let missing = count.saturating_sub(self.len());
        self.extend((1..=missing).map(|i| adapt(i, family(place, i))));
        self
    }
}

/// Numbers the channels, and cuts each set into lanes whose rows are short enough.
pub(super) fn build(name: &'static str, sets: Vec<Set>, rate_factor: f64) -> DevicePlan {
    let mut plan = DevicePlan { name, channels: Vec::new(), lanes: Vec::new() };
    let mut group = 0;
    for set in sets {
        let rate_mhz = (set.rate_hz * 1_000.0 * rate_factor).round().clamp(1.0, 5e8) as u32;
        let period_ns = 1_000_000_000_000 / u64::from(rate_mhz);
        let mut row_bytes = usize::MAX;
        for def in set.defs {
            let bytes = def.kind.bytes();
            let full = !set.burst && row_bytes.saturating_add(bytes) > ROW_BYTES_MAX;
            if full || row_bytes == usize::MAX {
                row_bytes = 0;
                group += u8::from(!set.burst);
                let config = LaneConfig { group: if set.burst { 0 } else { group }, period_ns };
                let at = plan.channels.len();
                plan.lanes.push(LanePlan { config, channels: at..at });
            }
            row_bytes += bytes;
            plan.channels.push(ChannelPlan {
                id: plan.channels.len() as u16 + 1,
                name: def.name,
                unit: def.unit,
                kind: def.kind,
                group: if set.burst { 0 } else { group },
                scale: def.scale,
                offset: def.offset,
                rate_mhz,
                recipe: def.recipe,
            });
            if let Some(lane) = plan.lanes.last_mut() {
                lane.channels.end = plan.channels.len();
            }
        }
    }
    plan
}

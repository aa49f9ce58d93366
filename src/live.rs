//! The live board: the last values and the last 30 s of every channel, for whoever looks on.
//!
//! The chunk stage posts a column once per flush, never per sample; the monitor reads copies. Bins are by
//! source time, [`LIVE_BIN_US`] wide, with the smallest and largest value in each.
//!
//! Bounded by [`LIVE_CHANNELS_MAX`] channels × [`LIVE_BINS_MAX`] bins. Deliberately absent: history beyond
//! that, which is the store's affair, and any sender into the pipeline.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::{LIVE_BIN_US, LIVE_BINS_MAX, LIVE_CHANNELS_MAX};
use crate::sample::{ChannelMeta, Name, Quality};

/// Smallest and largest value within one bin of source time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Start of the bin, UTC µs.
    pub t_us: i64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// The board's revision when the bin last changed.
    pub revision: u64,
}

/// A channel as the board knows it.
#[derive(Debug, Clone)]
pub struct LiveChannel {
    /// The car.
    pub car: Name,
    /// The device.
    pub device: Name,
    /// What the device says of it.
    pub meta: Arc<ChannelMeta>,
    /// UTC of the latest sample, µs.
    pub t_us: i64,
    /// Its value.
    pub value: f64,
    /// Its flags.
    pub quality: Quality,
    /// When the agent posted it.
    pub posted_at: Instant,
    /// Samples seen in this run.
    pub samples: u64,
}

struct Entry {
    channel: LiveChannel,
    bins: VecDeque<Bin>,
    /// The next sample counts as the latest, whatever its time.
    anew: bool,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<String, Entry>,
    revision: u64,
    unshown: u64,
}

/// The board. Shared; its lock is held for one column or one copy.
#[derive(Default)]
pub struct LiveBoard {
    state: Mutex<State>,
}

/// The key of a channel on the board and in the API: `car/device/channel`.
#[must_use]
pub fn live_key(car: &str, device: &str, channel: &str) -> String {
    format!("{car}/{device}/{channel}")
}

impl LiveBoard {
    /// An empty board.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Posts samples of one channel as (UTC µs, physical value, flags), oldest first.
    pub fn post(
        &self,
        car: &Name,
        device: &Name,
        meta: &Arc<ChannelMeta>,
        now: Instant,
        samples: impl Iterator<Item = (i64, f64, Quality)>,
    ) {
        let key = live_key(car, device, &meta.name);
        let mut state = self.lock();
        state.revision += 1;
        let revision = state.revision;
        if !state.channels.contains_key(&key) {
            if state.channels.len() >= LIVE_CHANNELS_MAX {
                state.unshown += 1;
                return;
            }
            let channel = LiveChannel {
                car: car.clone(),
                device: device.clone(),
                meta: meta.clone(),
                t_us: i64::MIN,
                value: f64::NAN,
                quality: Quality::GOOD,
                posted_at: now,
                samples: 0,
            };
            // Whole at once: by doubling it would take two thirds more in the end, and grow for half a minute.
            let bins = VecDeque::with_capacity(LIVE_BINS_MAX);
            state.channels.insert(key.clone(), Entry { channel, bins, anew: false });
        }
        let Some(entry) = state.channels.get_mut(&key) else { return };
        entry.channel.meta = meta.clone();
        entry.channel.posted_at = now;
        // A column's samples share few bins: each is looked for once.
        let mut open: Option<Bin> = None;
        for (t_us, value, quality) in samples {
            entry.channel.samples += 1;
            if std::mem::take(&mut entry.anew) || t_us >= entry.channel.t_us {
                (entry.channel.t_us, entry.channel.value, entry.channel.quality) = (t_us, value, quality);
            }
            if !value.is_finite() {
                continue;
            }
            match &mut open {
                Some(bin) if t_us >= bin.t_us && t_us.saturating_sub(bin.t_us) < LIVE_BIN_US => {
                    (bin.min, bin.max) = (bin.min.min(value), bin.max.max(value));
                }
                _ => {
                    // A hostile time must not overflow at the end of i64.
                    let start = t_us.div_euclid(LIVE_BIN_US).saturating_mul(LIVE_BIN_US);
                    if let Some(bin) = open.replace(Bin { t_us: start, min: value, max: value, revision }) {
                        entry.add(bin);
                    }
                }
            }
        }
        if let Some(bin) = open {
            entry.add(bin);
        }
    }

    /// The samples of a device are placed anew from now on: what was shown by the mapping before would stand before
    /// or behind them, and hide what comes.
    pub fn placed_anew(&self, car: &str, device: &str) {
        let mut state = self.lock();
        let of_device = |entry: &&mut Entry| *entry.channel.car == *car && *entry.channel.device == *device;
        for entry in state.channels.values_mut().filter(of_device) {
            entry.bins.clear();
            entry.anew = true;
        }
    }

    /// Copies of all channels, by key.
    #[must_use]
    pub fn channels(&self) -> Vec<(String, LiveChannel)> {
        self.lock().channels.iter().map(|(key, entry)| (key.clone(), entry.channel.clone())).collect()
    }

    /// How many channels it follows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().channels.len()
    }

    /// Whether it follows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bins of `key` that changed after revision `after`, and the revision to ask with next time.
    #[must_use]
    pub fn bins_since(&self, key: &str, after: u64) -> (Vec<Bin>, u64) {
        let state = self.lock();
        let bins = state
            .channels
            .get(key)
            .map_or_else(Vec::new, |entry| entry.bins.iter().filter(|bin| bin.revision > after).copied().collect());
        (bins, state.revision)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn add(&mut self, new: Bin) {
        let place = self.bins.iter().rposition(|bin| bin.t_us <= new.t_us);
        if let Some(index) = place.filter(|&index| self.bins[index].t_us == new.t_us) {
            let bin = &mut self.bins[index];
            (bin.min, bin.max, bin.revision) = (bin.min.min(new.min), bin.max.max(new.max), new.revision);
            return;
        }
        let mut index = place.map_or(0, |index| index + 1);
        if self.bins.len() >= LIVE_BINS_MAX {
            if index == 0 {
                return; // older than everything shown
            }
            self.bins.pop_front();
            index -= 1;
        }
        self.bins.insert(index, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Scaling, ValueKind};

    fn meta() -> Arc<ChannelMeta> {
        let (name, unit) = ("a".into(), "V".into());
        Arc::new(ChannelMeta {
            name,
            unit,
            kind: ValueKind::F32,
            scaling: Scaling::IDENTITY,
            rate_mhz: 0,
            derived: false,
        })
    }

    fn post(board: &LiveBoard, samples: &[(i64, f64)]) {
        let samples = samples.iter().map(|&(t, v)| (t, v, Quality::GOOD));
        board.post(&"44".into(), &"ecu".into(), &meta(), Instant::now(), samples);
    }

    #[test]
    fn bins_hold_extremes_by_source_time_and_come_again_when_they_grow() {
        let board = LiveBoard::new();
        post(&board, &[(0, 1.0), (50_000, 3.0), (100_000, 2.0)]);
        let (bins, revision) = board.bins_since("44/ecu/a", 0);
        assert_eq!(
            bins.iter().map(|b| (b.t_us, b.min, b.max)).collect::<Vec<_>>(),
            [(0, 1.0, 3.0), (100_000, 2.0, 2.0)]
        );
        post(&board, &[(150_000, -1.0)]);
        let (bins, _) = board.bins_since("44/ecu/a", revision);
        assert_eq!(bins.iter().map(|b| (b.t_us, b.min, b.max)).collect::<Vec<_>>(), [(100_000, -1.0, 2.0)]);
    }

    #[test]
    fn the_ends_of_time_in_one_column_are_two_bins() {
        let board = LiveBoard::new();
        post(&board, &[(i64::MIN, 1.0), (i64::MAX, 2.0)]);
        let (bins, _) = board.bins_since("44/ecu/a", 0);
        assert_eq!(bins.iter().map(|b| (b.min, b.max)).collect::<Vec<_>>(), [(1.0, 1.0), (2.0, 2.0)]);
    }

    #[test]
    fn a_late_sample_fills_in_behind_and_does_not_become_the_last_value() {
        let board = LiveBoard::new();
        post(&board, &[(500_000, 5.0)]);
        post(&board, &[(100_000, 1.0)]);
        assert_eq!(board.channels()[0].1.value, 5.0);
        assert_eq!(board.bins_since("44/ecu/a", 0).0[0].t_us, 100_000);
    }

    #[test]
    fn a_device_that_is_placed_earlier_than_before_is_shown_at_once() {
        let board = LiveBoard::new();
        post(&board, &[(3_600_000_000, 5.0)]);
        board.placed_anew("44", "other");
        assert_eq!(board.bins_since("44/ecu/a", 0).0.len(), 1);
        board.placed_anew("44", "ecu");
        post(&board, &[(0, 1.0)]);
        let (bins, channel) = (board.bins_since("44/ecu/a", 0).0, board.channels()[0].1.clone());
        assert_eq!((bins.len(), bins[0].t_us, channel.t_us, channel.value), (1, 0, 0, 1.0));
    }

    #[test]
    fn memory_is_bounded() {
        let board = LiveBoard::new();
        for bin in 0..LIVE_BINS_MAX as i64 + 50 {
            post(&board, &[(bin * LIVE_BIN_US, 0.0)]);
        }
        assert_eq!(board.bins_since("44/ecu/a", 0).0.len(), LIVE_BINS_MAX);
    }
}

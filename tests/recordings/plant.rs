//! Faults put into sound recordings, at places drawn from a seed.

use crate::read::{Channel, Recording};

/// Where and when a fault was put.
#[derive(Debug, Clone)]
pub(crate) struct Planted {
    pub(crate) channel: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// xorshift64* (S. Vigna, *An experimental exploration of Marsaglia's xorshift generators*, 2016).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound as u64) as usize
    }
}

/// Channels that move: as many moves as a hundredth of their samples, and 200 at least.
pub(crate) fn moving(recording: &Recording) -> Recording {
    let moves = |channel: &&Channel| {
        let moves = channel.values.windows(2).filter(|pair| pair[0] != pair[1]).count();
        moves > 200.max(channel.values.len() / 100)
    };
    let channels = recording.channels.iter().filter(moves).cloned().collect();
    Recording { name: recording.name.clone(), channels }
}

fn range(channel: &Channel) -> f64 {
    let low = channel.values.iter().copied().fold(f64::INFINITY, f64::min);
    channel.values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low
}

/// The first sample at or after the share `share` of the recording.
fn after(channel: &Channel, share: f64) -> usize {
    (channel.values.len() as f64 * share) as usize
}

/// 20 single values in the second half of each channel, `size` of its range away from what they were.
pub(crate) fn spikes(recording: &mut Recording, size: f64, seeded: &mut Seeded) -> Vec<Planted> {
    let mut planted = Vec::new();
    for channel in &mut recording.channels {
        let (range, start) = (range(channel), after(channel, 0.5));
        let stretch = (channel.values.len() - start) / 20;
        for number in 0..20 {
            // Each in a stretch of its own, so that two are never side by side.
            let at = start + number * stretch + seeded.below(stretch - 4);
            channel.values[at] += if seeded.below(2) == 0 { size * range } else { -size * range };
            let t = channel.times[at];
            planted.push(Planted { channel: channel.name.clone(), from: t, to: t });
        }
    }
    planted
}

/// `count` times in each channel's last two thirds the value stays for `for_us` where it was while it moved.
pub(crate) fn freezes(recording: &mut Recording, count: usize, for_us: i64, seeded: &mut Seeded) -> Vec<Planted> {
    let mut planted = Vec::new();
    for channel in &mut recording.channels {
        let start = after(channel, 1.0 / 3.0);
        let stretch = (channel.values.len() - start) / count;
        for number in 0..count {
            let mut at = start + number * stretch + seeded.below(stretch / 4);
            while at + 1 < channel.values.len() && channel.values[at] == channel.values[at - 1] {
                at += 1;
            }
            let (from, value) = (channel.times[at], channel.values[at]);
            let mut to = from;
            for index in at..channel.values.len() {
                if channel.times[index] > from + for_us {
                    break;
                }
                (channel.values[index], to) = (value, channel.times[index]);
            }
            if to - from > for_us / 2 {
                planted.push(Planted { channel: channel.name.clone(), from, to });
            }
        }
    }
    planted
}

/// From the middle on each channel gains `size` of its range over `over_us`, evenly, and keeps it.
pub(crate) fn drifts(recording: &mut Recording, size: f64, over_us: i64) -> Vec<Planted> {
    let mut planted = Vec::new();
    for channel in &mut recording.channels {
        let (range, start) = (range(channel), after(channel, 0.5));
        let from = channel.times[start];
        for index in start..channel.values.len() {
            let share = (channel.times[index] - from) as f64 / over_us as f64;
            channel.values[index] += size * range * share.min(1.0);
        }
        let to = channel.times[channel.times.len() - 1];
        planted.push(Planted { channel: channel.name.clone(), from, to });
    }
    planted
}

/// From the middle on every other sample of each channel is missing.
pub(crate) fn halved(recording: &mut Recording) -> Vec<Planted> {
    let mut planted = Vec::new();
    for channel in &mut recording.channels {
        let start = after(channel, 0.5);
        let (from, to) = (channel.times[start], channel.times[channel.times.len() - 1]);
        let keep = |index: usize| index < start || (index - start).is_multiple_of(2);
        let kept: Vec<usize> = (0..channel.values.len()).filter(|&index| keep(index)).collect();
        channel.times = kept.iter().map(|&index| channel.times[index]).collect();
        channel.values = kept.iter().map(|&index| channel.values[index]).collect();
        planted.push(Planted { channel: channel.name.clone(), from, to });
    }
    planted
}

/// From the middle on every fourth channel sends nothing for `for_us`.
pub(crate) fn stops(recording: &mut Recording, for_us: i64) -> Vec<Planted> {
    let mut planted = Vec::new();
    for channel in recording.channels.iter_mut().step_by(4) {
        let from = channel.times[after(channel, 0.5)];
        let gone = |t: i64| from < t && t < from + for_us;
        let kept: Vec<usize> = (0..channel.values.len()).filter(|&index| !gone(channel.times[index])).collect();
        channel.times = kept.iter().map(|&index| channel.times[index]).collect();
        channel.values = kept.iter().map(|&index| channel.values[index]).collect();
        planted.push(Planted { channel: channel.name.clone(), from, to: from + for_us });
    }
    planted
}

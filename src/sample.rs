//! The words of the data: who measured what, when, and what it was.
//!
//! A [`Column`] holds one channel's times and values as the device sent them, so that a raw integer and its
//! scaling arrive bit for bit. What moves between the stages is made of columns, see `item`.
//!
//! Invariants: a column has as many times as values; its flags cover exactly its samples.
//! Deliberately absent: clocks, I/O, and any knowledge of formats or stores.

use std::sync::Arc;

mod quality;

pub use quality::{Flags, Quality};

/// A short text that many records share: the name of a car, a device, a channel.
pub type Name = Arc<str>;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub i64);

/// A device's own time in µs: UTC or since its start, as its [`ClockBase`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceTime(pub i64);

/// What a device's time counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockBase {
    /// UTC µs since 1970, disciplined.
    Utc,
    /// µs since the device started; UTC comes from a mapping.
    Boot,
}

/// Who measured: everything of a sample's identity but channel and time, and through which source it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The car's name.
    pub car: Name,
    /// The device's name, with the source's prefix.
    pub device: Name,
    /// The device's start, as it names it.
    pub boot: u32,
    /// What its time counts from.
    pub base: ClockBase,
}

/// What a device says of one of its channels.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelMeta {
    /// The channel's name, e.g. `engine.rpm`.
    pub name: Name,
    /// The unit's symbol, e.g. `rpm`; empty for none.
    pub unit: Name,
    /// How the device sends it.
    pub kind: ValueKind,
    /// How a raw value becomes a physical one.
    pub scaling: Scaling,
    /// Samples a second in millihertz; 0 if irregular or unknown.
    pub rate_mhz: u32,
    /// Whether a step computed it: derived values are told apart from what a device sent.
    pub derived: bool,
}

/// The type in which values travel and are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
}

impl ValueKind {
    /// Bytes of one value.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The name in the table `channels`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

/// `physical = raw × scale + offset`, computed in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Factor.
    pub scale: f64,
    /// Summand, in the physical unit.
    pub offset: f64,
}

impl Scaling {
    /// Raw values are physical values.
    pub const IDENTITY: Self = Self { scale: 1.0, offset: 0.0 };

    /// The physical value of `raw`.
    #[must_use]
    pub fn physical(self, raw: f64) -> f64 {
        raw * self.scale + self.offset
    }

    /// This scaling followed by `× factor + offset`.
    #[must_use]
    pub fn then(self, factor: f64, offset: f64) -> Self {
        Self { scale: self.scale * factor, offset: self.offset * factor + offset }
    }
}

/// The times of a column, strictly increasing within a channel and boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Times {
    /// `t_i = t0 + (i × period_ns) div 1000`, in µs.
    Regular {
        /// The first sample's time.
        t0: DeviceTime,
        /// Distance of two samples in ns.
        period_ns: u32,
        /// How many samples.
        count: u32,
    },
    /// One time for each sample, in µs.
    Explicit(Vec<i64>),
}

impl Times {
    /// A single time.
    #[must_use]
    pub const fn one(t: DeviceTime) -> Self {
        Self::Regular { t0: t, period_ns: 0, count: 1 }
    }

    /// How many times.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Regular { count, .. } => *count as usize,
            Self::Explicit(times) => times.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time of sample `index` in µs; the caller keeps `index` below [`Self::len`].
    #[must_use]
    pub fn at(&self, index: usize) -> i64 {
        match self {
            Self::Regular { t0, period_ns, .. } => regular_time(t0.0, *period_ns, index as u64),
            Self::Explicit(times) => times[index],
        }
    }

    /// All times in µs.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.len()).map(|index| self.at(index))
    }
}

/// `t0 + (index × period_ns) div 1000`, the wire's rule for times, in µs. It saturates instead of wrapping.
#[must_use]
pub fn regular_time(t0_us: i64, period_ns: u32, index: u64) -> i64 {
    let ahead_us = index.saturating_mul(u64::from(period_ns)) / 1000;
    t0_us.saturating_add(i64::try_from(ahead_us).unwrap_or(i64::MAX))
}

/// Raw values of a column, as the device sent them or as a step computed them.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 16-bit signed integers.
    I16(Vec<i16>),
    /// 32-bit signed integers.
    I32(Vec<i32>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
}

impl Values {
    /// An empty column of `kind`.
    #[must_use]
    pub fn empty(kind: ValueKind) -> Self {
        match kind {
            ValueKind::I16 => Self::I16(Vec::new()),
            ValueKind::I32 => Self::I32(Vec::new()),
            ValueKind::F32 => Self::F32(Vec::new()),
            ValueKind::F64 => Self::F64(Vec::new()),
        }
    }

    /// The type of the values.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::I16(_) => ValueKind::I16,
            Self::I32(_) => ValueKind::I32,
            Self::F32(_) => ValueKind::F32,
            Self::F64(_) => ValueKind::F64,
        }
    }

    /// How many values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all values out; what they were in is kept for others.
    pub fn clear(&mut self) {
        match self {
            Self::I16(v) => v.clear(),
            Self::I32(v) => v.clear(),
            Self::F32(v) => v.clear(),
            Self::F64(v) => v.clear(),
        }
    }

    /// The raw value at `index` as f64, exact for every kind; the caller keeps `index` below [`Self::len`].
    #[must_use]
    pub fn raw(&self, index: usize) -> f64 {
        match self {
            Self::I16(v) => f64::from(v[index]),
            Self::I32(v) => f64::from(v[index]),
            Self::F32(v) => f64::from(v[index]),
            Self::F64(v) => v[index],
        }
    }

    /// Appends the values of `range` of `other`.
    ///
    /// # Panics
    /// If the kinds differ: a caller closes its chunk when a channel's kind changes.
    pub fn extend_from(&mut self, other: &Self, range: std::ops::Range<usize>) {
        match (self, other) {
            (Self::I16(to), Self::I16(from)) => to.extend_from_slice(&from[range]),
            (Self::I32(to), Self::I32(from)) => to.extend_from_slice(&from[range]),
            (Self::F32(to), Self::F32(from)) => to.extend_from_slice(&from[range]),
            (Self::F64(to), Self::F64(from)) => to.extend_from_slice(&from[range]),
            (to, from) => panic!("values of kind {:?} appended to {:?}", from.kind(), to.kind()),
        }
    }

    /// The values at `indices`, in that order.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        match self {
            Self::I16(v) => Self::I16(indices.iter().map(|&i| v[i]).collect()),
            Self::I32(v) => Self::I32(indices.iter().map(|&i| v[i]).collect()),
            Self::F32(v) => Self::F32(indices.iter().map(|&i| v[i]).collect()),
            Self::F64(v) => Self::F64(indices.iter().map(|&i| v[i]).collect()),
        }
    }
}

/// One channel's samples of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Which channel, and how its values are to be read.
    pub channel: Arc<ChannelMeta>,
    /// When, in device time.
    pub times: Times,
    /// What, raw.
    pub values: Values,
    /// How good.
    pub flags: Flags,
}

impl Column {
    /// How many samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The physical value of sample `index`, which the caller keeps below [`Self::len`].
    #[must_use]
    pub fn physical(&self, index: usize) -> f64 {
        self.channel.scaling.physical(self.values.raw(index))
    }

    /// Keeps only the samples at `indices`, which increase.
    pub fn retain(&mut self, indices: &[usize]) {
        let qualities: Vec<Quality> = self.flags.iter(self.len()).collect();
        let mut flags = Flags::default();
        for (kept, &index) in indices.iter().enumerate() {
            flags.push(qualities[index], 1, kept);
        }
        self.times = Times::Explicit(indices.iter().map(|&i| self.times.at(i)).collect());
        self.values = self.values.select(indices);
        self.flags = flags;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_times_follow_the_wires_rule_for_periods_below_a_microsecond() {
        let times = Times::Regular { t0: DeviceTime(10), period_ns: 272_727, count: 4 };
        assert_eq!(times.iter().collect::<Vec<_>>(), [10, 282, 555, 828]);
    }

    #[test]
    fn regular_times_saturate() {
        assert_eq!(regular_time(i64::MAX - 1, u32::MAX, u64::MAX), i64::MAX);
    }

    #[test]
    fn a_column_thinned_keeps_times_values_and_flags_together() {
        let meta = ChannelMeta {
            name: "a".into(),
            unit: "".into(),
            kind: ValueKind::I16,
            scaling: Scaling { scale: 0.5, offset: 1.0 },
            rate_mhz: 0,
            derived: false,
        };
        let mut flags = Flags::default();
        flags.push(Quality::OUT_OF_RANGE, 1, 2);
        let mut column = Column {
            channel: Arc::new(meta),
            times: Times::Regular { t0: DeviceTime(0), period_ns: 1_000_000, count: 3 },
            values: Values::I16(vec![2, 4, 6]),
            flags,
        };
        column.retain(&[0, 2]);
        assert_eq!(column.times, Times::Explicit(vec![0, 2000]));
        assert_eq!(column.physical(1), 4.0);
        assert_eq!(column.flags.iter(2).map(|q| q.0).collect::<Vec<_>>(), [0, 1]);
    }
}

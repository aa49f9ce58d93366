//! How long a partition of the store lasts, by arithmetic. Of chunks:
//! `rows/s = channels ÷ flush_after`, `bytes/s = Σ rate × bytes of a value`; the longest of the lengths
//! below that keeps a partition under [`PARTITION_ROWS_MAX`] and [`PARTITION_BYTES_MAX`]. Of single samples: the longest
//! that keeps one under [`SAMPLES_PARTITION_ROWS_MAX`].

use std::time::Duration;

use crate::limits::{PARTITION_BYTES_MAX, PARTITION_ROWS_MAX, SAMPLES_PARTITION_ROWS_MAX};
use crate::sample::ChannelMeta;

/// Lengths in use, in seconds: each divides a minute.
const LENGTHS_S: [u64; 8] = [60, 30, 20, 15, 10, 5, 2, 1];
/// Fixed columns and headers of a row.
const ROW_BYTES: u64 = 160;

/// The length of a bucket in µs for a device with these channels.
pub fn bucket_length_us<'a>(channels: impl Iterator<Item = &'a ChannelMeta>, flush_after: Duration) -> i64 {
    // Irregular channels count as one sample per flush; their rows count anyway.
    let (mut rows_per_second, mut bytes_per_second) = (0, 0);
    let flushes_per_second = 1000_u64.div_ceil((flush_after.as_millis() as u64).max(1));
    for channel in channels {
        rows_per_second += flushes_per_second;
        let samples = u64::from(channel.rate_mhz).div_ceil(1000);
        bytes_per_second += samples * channel.kind.bytes() as u64 + flushes_per_second * ROW_BYTES;
    }
    let fits = |s: &u64| s * rows_per_second <= PARTITION_ROWS_MAX && s * bytes_per_second <= PARTITION_BYTES_MAX;
    let seconds = LENGTHS_S.into_iter().find(fits).unwrap_or(1);
    i64::try_from(seconds * 1_000_000).unwrap_or(1_000_000)
}

/// Lengths in use where each sample is a row, in seconds: each divides an hour.
const SAMPLES_LENGTHS_S: [u64; 12] = [3_600, 1_800, 1_200, 600, 300, 120, 60, 30, 10, 5, 2, 1];
/// Of a channel without a rate: up to 833 samples a second within the bound.
const IRREGULAR_LENGTH_S: u64 = 60;

/// The length of a bucket in µs of a channel whose samples are rows.
pub fn samples_bucket_length_us(channel: &ChannelMeta) -> i64 {
    let fits = |s: &u64| s * u64::from(channel.rate_mhz) <= SAMPLES_PARTITION_ROWS_MAX * 1_000;
    let seconds = match channel.rate_mhz {
        0 => IRREGULAR_LENGTH_S,
        _ => SAMPLES_LENGTHS_S.into_iter().find(fits).unwrap_or(1),
    };
    i64::try_from(seconds * 1_000_000).unwrap_or(1_000_000)
}

/// The start of the bucket of `t_us`.
#[must_use]
pub const fn bucket_of(t_us: i64, length_us: i64) -> i64 {
    t_us.div_euclid(length_us).saturating_mul(length_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Scaling, ValueKind};

    fn length_s(channels: usize, rate_hz: u32) -> i64 {
        let scaling = Scaling::IDENTITY;
        let meta = ChannelMeta {
            name: "a".into(),
            unit: "".into(),
            kind: ValueKind::I16,
            scaling,
            rate_mhz: rate_hz * 1000,
            derived: false,
        };
        let channels = std::iter::repeat_n(&meta, channels);
        bucket_length_us(channels, Duration::from_millis(200)) / 1_000_000
    }

    #[test]
    fn a_bucket_is_a_minute_unless_rows_or_bytes_forbid_it() {
        assert_eq!(length_s(40, 50), 60);
        assert_eq!(length_s(782, 100), 20); // 3,910 rows/s
        assert_eq!(length_s(300, 3_667), 30); // 2.4 MB/s
        assert_eq!(length_s(100_000, 1), 1);
    }

    #[test]
    fn a_bucket_of_rows_is_as_long_as_the_rate_allows() {
        let length_s = |rate_mhz: u32| {
            let (name, unit): (crate::sample::Name, crate::sample::Name) = ("a".into(), "".into());
            let (kind, scaling) = (ValueKind::F64, Scaling::IDENTITY);
            samples_bucket_length_us(&ChannelMeta { name, unit, kind, scaling, rate_mhz, derived: false }) / 1_000_000
        };
        assert_eq!([1, 1_000, 13_888, 13_889, 100_000, 3_667_000].map(length_s), [3_600, 3_600, 3_600, 1_800, 300, 10]);
        assert_eq!([0, u32::MAX].map(length_s), [60, 1]);
    }

    #[test]
    fn buckets_before_1970_start_before_their_samples() {
        assert_eq!(bucket_of(-1, 60), -60);
        assert_eq!(bucket_of(59, 60), 0);
    }
}

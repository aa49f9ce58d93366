//! How long a partition of the store lasts, by arithmetic.
//!
//! `rows/s = channels ÷ flush_after`, `bytes/s = Σ rate × bytes of a value`; the longest of the lengths
//! below that keeps a partition under [`PARTITION_ROWS_MAX`] and [`PARTITION_BYTES_MAX`].

use std::time::Duration;

use crate::limits::{PARTITION_BYTES_MAX, PARTITION_ROWS_MAX};
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
    fn buckets_before_1970_start_before_their_samples() {
        assert_eq!(bucket_of(-1, 60), -60);
        assert_eq!(bucket_of(59, 60), 0);
    }
}

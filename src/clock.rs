//! The gateway's clock: the only module that reads the wall clock, and the mapping from device time to UTC.
//!
//! Timers everywhere use monotonic time; UTC is asked for here only, for mapping devices that have no UTC
//! of their own and for stamping heartbeats.
//!
//! The gateway's clock is *known* once it is later than the date of the build (`clock.trust = "system"`).
//! Deliberately absent for now: asking the kernel whether it is synchronised, GPS time, and uncertainty.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::sample::{DeviceTime, UnixMicros};

/// No build of this program is older than 2026-01-01T00:00:00Z: an earlier clock is wrong.
pub const EARLIEST_PLAUSIBLE: UnixMicros = UnixMicros(1_767_225_600_000_000);

/// `[clock]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// When the gateway's clock counts as right.
    pub trust: Trust,
}

/// When the gateway's clock counts as right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Once it is later than [`EARLIEST_PLAUSIBLE`].
    #[default]
    System,
}

/// Where "now" comes from; tests pass one of their own.
pub trait Clock: Send + Sync {
    /// The gateway's UTC.
    fn now_utc(&self) -> UnixMicros;
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Whether [`Self::now_utc`] is to be trusted.
    fn known(&self) -> bool {
        self.now_utc() >= EARLIEST_PLAUSIBLE
    }
}

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// A shared system clock.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now_utc(&self) -> UnixMicros {
        let us = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        };
        UnixMicros(us)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// `utc = device time + offset` for one device and boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// µs to add to a device time.
    pub offset_us: i64,
    /// Made while the gateway's clock was not known to be right.
    pub provisional: bool,
}

impl Mapping {
    /// For devices whose time is UTC.
    pub const IDENTITY: Self = Self { offset_us: 0, provisional: false };

    /// The mapping that places `latest` of a frame at the moment of its receipt: exact but for the
    /// transport's delay, which it ignores.
    #[must_use]
    pub const fn at_receipt(latest: DeviceTime, received: UnixMicros, known: bool) -> Self {
        Self { offset_us: received.0.saturating_sub(latest.0), provisional: !known }
    }

    /// UTC of `device_time`.
    #[must_use]
    pub const fn utc(self, device_time: DeviceTime) -> UnixMicros {
        UnixMicros(device_time.0.saturating_add(self.offset_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_made_at_receipt_places_the_latest_sample_there() {
        let mapping = Mapping::at_receipt(DeviceTime(5_000), UnixMicros(1_000_000), true);
        assert_eq!(mapping.utc(DeviceTime(5_000)), UnixMicros(1_000_000));
        assert_eq!(mapping.utc(DeviceTime(4_000)), UnixMicros(999_000));
        assert!(!mapping.provisional);
    }

    #[test]
    fn a_clock_of_1970_is_not_known() {
        struct Unset;
        impl Clock for Unset {
            fn now_utc(&self) -> UnixMicros {
                UnixMicros(60_000_000)
            }
            fn now(&self) -> Instant {
                Instant::now()
            }
        }
        assert!(!Unset.known());
        assert!(SystemClock.known());
    }
}

//! The gateway's clocks: the only module that reads the wall clock, and what makes UTC of device times.
//!
//! Timers everywhere use monotonic time. UTC is taken from [`Gateway`], which reads the wall clock once, when it is
//! known to be right, and counts on from there by the gateway's own counter: a wall clock that is stepped later
//! moves nothing.
//!
//! Deliberately absent: GPS time, the uncertainty of a mapping, a device's drift.

mod gateway;
mod kernel;
#[cfg(test)]
mod scripted;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::sample::{DeviceTime, UnixMicros};

pub use gateway::{Estimate, Gateway};
pub use kernel::watch as watch_kernel;
#[cfg(test)]
pub(crate) use scripted::Scripted;

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
    /// Once the kernel says, too, that it is synchronised.
    Kernel,
}

impl Trust {
    /// What a reading of the wall clock has to be at least.
    #[must_use]
    pub const fn requires(self) -> Certainty {
        match self {
            Self::System => Certainty::Plausible,
            Self::Kernel => Certainty::Synchronised,
        }
    }
}

/// How good a reading of the wall clock is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// Earlier than this program: wrong.
    #[default]
    Unknown,
    /// Later than [`EARLIEST_PLAUSIBLE`].
    Plausible,
    /// And the kernel says that something keeps it right.
    Synchronised,
}

/// Where "now" comes from; tests pass one of their own.
pub trait Clock: Send + Sync {
    /// The wall clock's UTC, right or wrong.
    fn now_utc(&self) -> UnixMicros;
    /// Monotonic time, for timers.
    fn now(&self) -> Instant;
    /// µs since the gateway started, time asleep included: no setting of the wall clock moves it.
    fn uptime_us(&self) -> i64;
    /// Which start of the gateway that is, by number; never 0.
    fn boot(&self) -> u32;
    /// Whether something that is cheap to ask says that the wall clock is synchronised.
    fn synchronised(&self) -> bool;
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

    fn uptime_us(&self) -> i64 {
        let since = Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime));
        since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn boot(&self) -> u32 {
        static BOOT: OnceLock<u32> = OnceLock::new();
        *BOOT.get_or_init(|| {
            let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_else(|error| {
                // Each run is then a start of its own: two runs share no counter that could be compared.
                tracing::warn!(%error, "the kernel's boot id cannot be read");
                let mut random = [0; 16];
                let _ = getrandom::fill(&mut random);
                random.to_vec()
            });
            boot_number(&id)
        })
    }

    fn synchronised(&self) -> bool {
        kernel::marked()
    }
}

/// A start's number by its id; 0 is left to what has no starts.
fn boot_number(id: &[u8]) -> u32 {
    (xxh3_64(id.trim_ascii()) as u32).max(1)
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
    fn the_systems_counter_and_boot_are_the_kernels() {
        let before = SystemClock.uptime_us();
        assert!(before > 0 && SystemClock.uptime_us() >= before);
        let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!((SystemClock.boot(), SystemClock.boot()), (boot_number(&id), boot_number(&id)));
        assert_ne!(boot_number(b"a"), boot_number(b"b"));
        assert_eq!(boot_number(b"a\n"), boot_number(b"a"));
    }
}

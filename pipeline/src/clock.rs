//! Time as the engine counts it: nanoseconds since the pipeline was made.

use std::time::Duration;

use tokio::time::Instant;

/// A pipeline's clock. It follows tokio's, so that tests may pause it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Instant,
    /// Whether times are kept at all.
    pub(crate) timed: bool,
}

impl Clock {
    pub(crate) fn new(timed: bool) -> Self {
        Self { epoch: Instant::now(), timed }
    }

    /// Nanoseconds since the start.
    pub(crate) fn read(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.epoch);
        // Called for every item, so without 128 bits; 584 years fit.
        since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos()))
    }

    /// The same, but 0 where no times are kept.
    pub(crate) fn now(&self) -> u64 {
        if self.timed { self.read() } else { 0 }
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

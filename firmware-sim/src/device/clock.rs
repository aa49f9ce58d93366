//! The device's own clock: it drifts, it can be stepped, it counts from its start or from 1970.

use pitwire_wire::ClockBase;

/// A clock that is told how much true time has passed, and believes its own crystal.
#[derive(Debug, Clone)]
pub struct Clock {
    base: ClockBase,
    /// Device time at local zero, µs.
    epoch_us: i64,
    /// Counted by the crystal since the start, ns.
    local_ns: u64,
    /// How much too fast the crystal is, in 1e-9.
    drift_ppb: i64,
    /// What is left of dividing by 1e9.
    remainder: i64,
}

const BILLION: i64 = 1_000_000_000;

impl Clock {
    /// A clock that starts now. `utc_us` is the time it is set to if its base is `utc`, in µs
    /// since 1970; one of base `boot` starts at 0.
    #[must_use]
    pub fn new(base: ClockBase, utc_us: i64) -> Self {
        let epoch_us = match base {
            ClockBase::Utc => utc_us,
            ClockBase::Boot => 0,
        };
        Self { base, epoch_us, local_ns: 0, drift_ppb: 0, remainder: 0 }
    }

    /// What its times count from.
    #[must_use]
    pub fn base(&self) -> ClockBase {
        self.base
    }

    /// Sets how much too fast the crystal runs, in parts per million.
    pub fn set_drift_ppm(&mut self, ppm: f64) {
        // A cast saturates; a crystal that is off by more than its own rate cannot run at all.
        self.drift_ppb = ((ppm * 1_000.0) as i64).clamp(-BILLION / 2, BILLION / 2);
    }

    /// True time passes, in ns (at most a second at once).
    pub fn advance(&mut self, true_ns: u32) {
        let scaled = i64::from(true_ns) * self.drift_ppb + self.remainder;
        self.remainder = scaled.rem_euclid(BILLION);
        let local = i64::from(true_ns) + scaled.div_euclid(BILLION);
        self.local_ns = self.local_ns.saturating_add_signed(local);
    }

    /// Counted since the start, ns: what the device samples by.
    #[must_use]
    pub fn local_ns(&self) -> u64 {
        self.local_ns
    }

    /// Device time of a moment counted since the start, µs.
    #[must_use]
    pub fn time_us(&self, local_ns: u64) -> i64 {
        self.epoch_us.saturating_add_unsigned(local_ns / 1_000)
    }

    /// Device time now, µs.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.time_us(self.local_ns)
    }

    /// Moves device time by so many µs; what was counted since the start stays.
    pub fn step(&mut self, by_us: i64) {
        self.epoch_us = self.epoch_us.saturating_add(by_us);
    }

    /// The device starts anew: counting begins at 0, and device time too for base `boot`.
    pub fn restart(&mut self) {
        self.epoch_us = match self.base {
            ClockBase::Utc => self.now_us(),
            ClockBase::Boot => 0,
        };
        self.local_ns = 0;
        self.remainder = 0;
    }

    /// Counting begins at 0 and device time goes on, for a new boot without a restart.
    pub fn rebase(&mut self) {
        self.epoch_us = self.now_us();
        self.local_ns = 0;
        self.remainder = 0;
    }
}

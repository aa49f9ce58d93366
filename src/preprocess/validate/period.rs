//! A channel's period: as its device declares it, or as learned from the intervals between its samples.
//!
//! What is learned is the median of [`PERIOD_INTERVALS`] intervals. It is learned anew once as many in a row do not
//! fit: the channel has changed its rate then.

use super::Gap;
use crate::limits::PERIOD_INTERVALS;

/// The longest interval that fits, in periods, where a gap has a length of its own.
const FITS_PERIODS_MAX: f64 = 1.5;
/// The shortest.
const FITS_PERIODS_MIN: f64 = 0.5;

/// A channel's period.
pub(super) struct Period {
    declared_us: Option<f64>,
    learned_us: Option<f64>,
    intervals_us: [i64; PERIOD_INTERVALS],
    count: usize,
}

impl Period {
    pub(super) fn new(rate_mhz: u32) -> Self {
        let declared_us = (rate_mhz > 0).then(|| 1e9 / f64::from(rate_mhz));
        Self { declared_us, learned_us: None, intervals_us: [0; PERIOD_INTERVALS], count: 0 }
    }

    fn known_us(&self) -> Option<f64> {
        self.declared_us.or(self.learned_us)
    }

    /// How many samples are missing in an interval between two.
    pub(super) fn missing(&mut self, gap: Gap, interval_us: i64) -> u64 {
        let known_us = self.known_us();
        if !self.fits(gap, interval_us) {
            self.learn(interval_us);
        } else {
            self.count = 0;
        }
        if gap.limit_us(known_us).is_none_or(|limit_us| interval_us as f64 <= limit_us) {
            return 0;
        }
        // Casts from floats saturate.
        known_us.map_or(1, |period_us| ((interval_us as f64 / period_us).round() as u64).saturating_sub(1).max(1))
    }

    /// Whether an interval says nothing new: neither that samples are missing, nor of another period.
    pub(super) fn fits(&self, gap: Gap, interval_us: i64) -> bool {
        let Some(period_us) = self.known_us() else { return false };
        let interval_us = interval_us as f64;
        let limit_us = gap.limit_us(Some(period_us)).unwrap_or(f64::MAX);
        if self.declared_us.is_some() {
            return interval_us <= limit_us;
        }
        let late_us = match gap {
            Gap::Periods(_) => limit_us,
            Gap::After(_) => limit_us.min(period_us * FITS_PERIODS_MAX),
        };
        interval_us <= late_us && interval_us >= period_us * FITS_PERIODS_MIN
    }

    /// Intervals that fit came.
    pub(super) fn fitted(&mut self) {
        self.count = 0;
    }

    fn learn(&mut self, interval_us: i64) {
        if self.declared_us.is_some() {
            return;
        }
        self.intervals_us[self.count] = interval_us;
        self.count += 1;
        if self.count == PERIOD_INTERVALS {
            let mut sorted = self.intervals_us;
            sorted.sort_unstable();
            self.learned_us = Some(sorted[PERIOD_INTERVALS / 2] as f64);
            self.count = 0;
        }
    }
}

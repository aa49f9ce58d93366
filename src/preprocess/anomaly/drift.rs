//! Drift: a slow level has moved away from the channel's long reference.
//!
//! Means of bins of `drift_window / 300` go into two exponentially weighted means (S. W. Roberts, *Control Chart
//! Tests Based on Geometric Moving Averages*, Technometrics 1, 1959): the level over a tenth of `drift_window`, and the
//! reference over `drift_window`. How far they usually are apart is learned (a [`Sketch`]):
//! ```text
//! |level − reference| > max(drift_factor × the distance that 90 % do not exceed,
//!                           the step from bin to bin that 99 % do not exceed)
//! ```
//! is a drift, until the distance is below half of that. Distances are learned clipped at the threshold. What moves
//! as far within a bin anyway (a pedal) has no slow level that could drift: hence the second part.
//! A level that moves by `r` per second ends up `0.9 × r × drift_window` from its reference: slower than that
//! against the channel's own wandering it is not seen. A channel that wanders widely (a speed) has a wide band.
//! The reference follows, so a level that stays where it went is the usual one after some windows.

use super::sketch::Sketch;

/// Bins of one `drift_window`.
const BINS: f64 = 300.0;
/// Bins of the level.
const LEVEL_BINS: f64 = 30.0;
/// Bins before the first verdict: two windows.
const BINS_MIN: u32 = 600;
/// Steps before the first verdict: what has hardly moved has no scale.
const STEPS_MIN: u32 = 20;
/// Bins between two computations of the threshold.
const REFRESH_EVERY: u32 = 16;

/// What is known of a channel's level.
pub(super) struct Drift {
    factor: f64,
    /// µs.
    bin_us: i64,
    /// Where the present bin ends, µs.
    bin_end: i64,
    sum: f64,
    count: f64,
    bins: u32,
    level: f64,
    reference: f64,
    distances: Sketch,
    /// Mean of the last bin.
    mean: f64,
    steps: Sketch,
    threshold: f64,
    away: Option<Away>,
}

/// A level beyond what is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Away {
    pub(super) level: f64,
    pub(super) reference: f64,
    pub(super) threshold: f64,
}

impl Drift {
    pub(super) fn new(window: std::time::Duration, factor: f64) -> Self {
        Self {
            factor,
            bin_us: ((window.as_micros() as f64 / BINS) as i64).max(1),
            bin_end: i64::MIN,
            sum: 0.0,
            count: 0.0,
            bins: 0,
            level: 0.0,
            reference: 0.0,
            distances: Sketch::new(),
            mean: 0.0,
            steps: Sketch::new(),
            threshold: f64::INFINITY,
            away: None,
        }
    }

    /// Where the level is, if it is away at `t`.
    pub(super) fn see(&mut self, t: i64, value: f64) -> Option<Away> {
        if t >= self.bin_end {
            if self.count > 0.0 {
                self.close(self.sum / self.count);
            }
            let end = (t.div_euclid(self.bin_us) + 1).saturating_mul(self.bin_us);
            (self.bin_end, self.sum, self.count) = (end, 0.0, 0.0);
        }
        self.sum += value;
        self.count += 1.0;
        self.away
    }

    fn close(&mut self, mean: f64) {
        self.bins = self.bins.saturating_add(1);
        let seen = f64::from(self.bins);
        // A plain mean until there are enough for an exponentially weighted one.
        self.level += (mean - self.level) / seen.min(LEVEL_BINS);
        self.reference += (mean - self.reference) / seen.min(BINS);
        if self.bins > 1 {
            self.steps.add((mean - self.mean).abs());
        }
        self.mean = mean;
        if seen <= BINS / 2.0 {
            return;
        }
        let distance = (self.level - self.reference).abs();
        self.distances.add(distance.min(self.threshold));
        if self.bins < BINS_MIN {
            return;
        }
        if self.bins.is_multiple_of(REFRESH_EVERY) {
            self.threshold = (self.factor * self.distances.quantile(0.9)).max(self.steps.quantile(0.99));
        }
        let band = if self.away.is_some() { self.threshold / 2.0 } else { self.threshold };
        let Self { level, reference, threshold, .. } = *self;
        self.away =
            (distance > band && self.steps.total() >= STEPS_MIN).then_some(Away { level, reference, threshold });
    }
}

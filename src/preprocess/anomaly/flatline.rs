//! Flatline: a channel that usually moves stands at one value.
//!
//! Learned is how long the channel dwells on a value (a [`Sketch`] of dwells). It stands still when
//! ```text
//! dwell > max(flatline_after, flatline_factor × the dwell that 99.9 % do not exceed)
//! ```
//! and it usually moves: its median dwell fits [`MOVES_WITHIN`] times into `flatline_after`.
//!
//! A pedal rests at its end, a car at 0 km/h: standing at the lowest or highest value seen so far, or where the
//! channel has stood long before ([`RESTS`] values), is no anomaly. A sensor that breaks to a value where
//! it never was is one. A dwell that was judged is learned as long as the threshold, not longer (clipped, as in
//! `spike`): one freeze does not teach much, a habit is learned.
//!
//! It compares raw values: a converter that hangs repeats itself exactly; one whose last bit still flickers is not
//! found here.

use super::sketch::Sketch;

/// Dwells before the first verdict.
const DWELLS_MIN: u32 = 100;
/// How often the median dwell fits into `flatline_after` for a channel that usually moves.
const MOVES_WITHIN: f64 = 10.0;
/// Values at which a channel is known to rest.
const RESTS: usize = 4;
/// Dwells between two computations of the threshold.
const REFRESH_EVERY: u32 = 256;

/// What is known of how long a channel stands.
pub(super) struct Flatline {
    /// µs.
    after: f64,
    factor: f64,
    value: f64,
    /// When it came to `value`, µs; `None` before the first.
    since: Option<i64>,
    dwells: Sketch,
    /// µs.
    threshold: f64,
    until_refresh: u32,
    low: f64,
    high: f64,
    /// Whether `value` is one to rest at.
    resting: bool,
    rests: [(f64, f64); RESTS],
}

/// A dwell beyond what is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Still {
    /// When it came to its value, µs.
    pub(super) since: i64,
    /// The longest that is usual, µs.
    pub(super) threshold: f64,
}

impl Flatline {
    pub(super) fn new(after: std::time::Duration, factor: f64) -> Self {
        Self {
            after: after.as_secs_f64() * 1e6,
            factor,
            value: f64::NAN,
            since: None,
            dwells: Sketch::new(),
            threshold: f64::INFINITY,
            until_refresh: 0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            resting: false,
            rests: [(f64::NAN, 0.0); RESTS],
        }
    }

    /// Nobody knows what the channel did in a gap.
    pub(super) fn gap(&mut self) {
        self.since = None;
        self.value = f64::NAN;
    }

    /// Whether the channel stands still at `t`.
    pub(super) fn see(&mut self, t: i64, value: f64, learning: bool) -> Option<Still> {
        if value == self.value
            && let Some(since) = self.since
        {
            let stands = t.saturating_sub(since) as f64 > self.threshold && !self.resting && !learning;
            return stands.then_some(Still { since, threshold: self.threshold });
        }
        if let Some(since) = self.since {
            self.learn(t.saturating_sub(since) as f64);
        }
        self.resting = value == self.low || value == self.high || self.rests.iter().any(|(rest, _)| *rest == value);
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        (self.value, self.since) = (value, Some(t));
        None
    }

    /// The dwell that ends now, µs.
    fn learn(&mut self, dwell: f64) {
        let dwell = if self.resting { dwell } else { dwell.min(self.threshold) };
        if dwell >= self.after {
            let of_value = self.rests.iter().position(|(rest, _)| *rest == self.value);
            let shortest = (0..RESTS).min_by(|&a, &b| self.rests[a].1.total_cmp(&self.rests[b].1));
            if let Some(index) = of_value.or(shortest)
                && self.rests[index].1 < dwell
            {
                self.rests[index] = (self.value, dwell);
            }
        }
        if self.resting {
            return;
        }
        self.dwells.add(dwell);
        self.until_refresh = self.until_refresh.saturating_sub(1);
        if (self.until_refresh == 0 || dwell >= self.after) && self.dwells.total() >= DWELLS_MIN {
            self.until_refresh = REFRESH_EVERY;
            let usual = self.dwells.quantile(0.999) * self.factor;
            let moves = self.dwells.quantile(0.5) * MOVES_WITHIN <= self.after;
            self.threshold = if moves { self.after.max(usual) } else { f64::INFINITY };
        }
    }
}

//! Rate drop: fewer samples per second of device time than declared or usual.
//!
//! Samples are counted in windows of `rate_window` of device time, longer ones where a window would hold
//! fewer than [`EXPECTED_MIN`]. What is usual is the declared rate, else an exponentially weighted mean of the
//! counts, clipped at half and one and a half of itself (as in `spike`). A count below
//! `rate_factor × usual` is a drop if it also is further below than the counts usually scatter (four mean
//! deviations, and `2 × √usual` for what comes at random: the standard deviation of a Poisson distribution is the root
//! of its mean). Windows with a drop are not learned from.
//!
//! A window with a gap over half of it is not judged: the device may have paused. A channel that stops while
//! its device goes on is found by `device`.

/// Samples that a window is expected to hold.
const EXPECTED_MIN: f64 = 10.0;
/// Windows before the first verdict.
const WINDOWS_MIN: u32 = 4;
/// Windows over which the mean is taken.
const MEMORY: f64 = 16.0;

/// What is known of how often a channel comes.
pub(super) struct Rate {
    factor: f64,
    /// Length of a window, µs.
    window: i64,
    /// Samples a second; 0 if not declared.
    declared: f64,
    start: Option<i64>,
    last: i64,
    count: u32,
    torn: bool,
    windows: u32,
    usual: f64,
    scatter: f64,
    slow: Option<Slow>,
}

/// A count below what is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slow {
    /// When its window began, µs.
    pub(super) since: i64,
    /// Samples a second.
    pub(super) rate: f64,
    /// The same.
    pub(super) usual: f64,
}

impl Rate {
    pub(super) fn new(window: std::time::Duration, factor: f64, declared_mhz: u32) -> Self {
        let mut rate = Self {
            factor,
            window: i64::try_from(window.as_micros()).unwrap_or(i64::MAX).max(1),
            declared: f64::from(declared_mhz) / 1000.0,
            start: None,
            last: 0,
            count: 0,
            torn: false,
            windows: 0,
            usual: 0.0,
            scatter: 0.0,
            slow: None,
        };
        if rate.declared > 0.0 {
            let least = EXPECTED_MIN / rate.declared * 1e6;
            rate.window = rate.window.max(least as i64);
        }
        rate
    }

    /// Whether the channel comes too slowly at `t`, which is later than all before.
    pub(super) fn see(&mut self, t: i64, learning: bool) -> Option<Slow> {
        let start = *self.start.get_or_insert(t);
        if t.saturating_sub(self.last) > self.window / 2 && self.count > 0 {
            self.torn = true;
        }
        self.last = t;
        if t.saturating_sub(start) >= self.window {
            self.close(start, learning);
            // Windows follow each other without a gap while samples come.
            self.start = Some(if self.torn { t } else { start.saturating_add(self.window) });
            (self.count, self.torn) = (0, false);
        }
        self.count += 1;
        self.slow
    }

    fn close(&mut self, start: i64, learning: bool) {
        if self.torn {
            return;
        }
        let (count, seconds) = (f64::from(self.count), self.window as f64 / 1e6);
        if self.declared == 0.0 && self.windows == 0 && count < EXPECTED_MIN {
            self.window = self.window.saturating_mul(2);
            return;
        }
        let usual = if self.declared > 0.0 { self.declared * seconds } else { self.usual };
        let least = (self.factor * usual).min(usual - (4.0 * self.scatter).max(2.0 * usual.sqrt()));
        let known = !learning && (self.windows >= WINDOWS_MIN || self.declared > 0.0);
        let (rate, usual_rate) = (count / seconds, usual / seconds);
        if known && count < least {
            let since = self.slow.map_or(start, |slow| slow.since);
            self.slow = Some(Slow { since, rate, usual: usual_rate });
            return;
        }
        self.slow = None;
        self.windows = self.windows.saturating_add(1);
        let weight = 1.0 / f64::from(self.windows).min(MEMORY);
        let clipped = if self.windows == 1 { count } else { count.clamp(self.usual * 0.5, self.usual * 1.5) };
        if self.windows > 1 {
            self.scatter += ((clipped - self.usual).abs() - self.scatter) * weight;
        }
        self.usual += (clipped - self.usual) * weight;
    }
}

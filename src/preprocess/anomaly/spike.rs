//! Spikes: a value far from the level before it, on the scale of the channel's own moves.
//!
//! The level is the median of the last three values (running medians: J. W. Tukey, *Exploratory Data Analysis*,
//! 1977, ch. 7), which one bad value cannot move. The innovation is the distance to it, so a car that
//! accelerates is none. Channels of a car move in a way that no bell curve describes (a pedal rests, then jumps by half
//! of its travel), so the scale has two parts:
//! ```text
//! threshold = spike_factor × max(1.4826 × median of the moves, a quarter of the largest confirmed move)
//! ```
//! 1.4826 makes the median of absolute deviations that of a normal distribution's σ (F. R. Hampel, *The Influence
//! Curve and its Role in Robust Estimation*, JASA 69, 1974). A move is an innovation that is not 0. It is *confirmed* if
//! the next value stays nearer to it than to the level before: those are real steps, whatever their size. One
//! that comes back at once counts at most as the largest confirmed one (clipped, as in P. J. Huber, *Robust
//! Estimation of a Location Parameter*, Ann. Math. Stat. 35, 1964), so spikes do not teach that spikes are usual.
//!
//! What is beyond the threshold is held apart from level and scale. Back after at most [`SAMPLES_MAX`] it was a
//! spike. If it stays it was a step: the level moves there, and the step is learned as a confirmed move.
//!
//! A car that is warmed up standing knows nothing of driving: while the range of the accepted values grows by more than
//! a tenth, and for a sixth of `learn_for` after that, there is no verdict. On the recordings that took away
//! nearly all false ones.

use super::sketch::Sketch;

/// Samples of one spike; what lasts longer is a step.
const SAMPLES_MAX: u32 = 3;
/// Moves before the first verdict.
const MOVES_MIN: u32 = 100;
/// By what the range grows before it is learned anew how the channel moves.
const RANGE_GROWTH: f64 = 1.1;
/// For this part of `learn_for`.
const SETTLE_PARTS: u32 = 6;
/// Moves between two computations of the threshold, which takes about 160 additions.
const REFRESH_EVERY: u32 = 64;

/// What is known of a channel's moves.
pub(super) struct Spike {
    factor: f64,
    recent: [f64; 3],
    held: usize,
    moves: Sketch,
    threshold: f64,
    until_refresh: u32,
    /// The last value and the level before it, if it moved: to be confirmed.
    moved: Option<(f64, f64)>,
    out: Option<Excursion>,
    low: f64,
    high: f64,
    /// Until when it is only learned from, since its range has grown, µs.
    settles: i64,
    settle_us: i64,
}

/// Values beyond the threshold, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Excursion {
    /// The first one's time, µs.
    pub(super) since: i64,
    pub(super) samples: u32,
    /// The farthest.
    pub(super) value: f64,
    /// What was expected, give or take `threshold`.
    pub(super) level: f64,
    pub(super) threshold: f64,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seen {
    /// Within the threshold, or not judged.
    Usual,
    /// Beyond.
    Out,
    /// Within again: what came before was a spike.
    Returned(Excursion),
}

impl Spike {
    pub(super) fn new(factor: f64, learn_for: std::time::Duration) -> Self {
        Self {
            factor,
            recent: [0.0; 3],
            held: 0,
            moves: Sketch::new(),
            threshold: f64::INFINITY,
            until_refresh: 0,
            moved: None,
            out: None,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            settles: i64::MIN,
            // At most a day.
            settle_us: (learn_for / SETTLE_PARTS).as_micros() as i64,
        }
    }

    /// After a gap the last level says nothing.
    pub(super) fn gap(&mut self) {
        (self.held, self.moved, self.out) = (0, None, None);
    }

    pub(super) fn see(&mut self, t: i64, value: f64, learning: bool) -> Seen {
        if self.held < self.recent.len() {
            self.recent[self.held] = value;
            self.held += 1;
            return Seen::Usual;
        }
        let level = median(self.recent);
        let innovation = (value - level).abs();
        if !learning && innovation > self.threshold && t >= self.settles {
            return self.beyond(t, value, level, innovation);
        }
        if let Some((value_before, level_before)) = self.moved.take() {
            let amount = (value_before - level_before).abs();
            let stays = (value - value_before).abs() <= (value - level_before).abs();
            self.learn(amount, stays);
        }
        self.widen(t, value);
        if innovation > 0.0 {
            self.moved = Some((value, level));
        }
        self.recent = [self.recent[1], self.recent[2], value];
        self.out.take().map_or(Seen::Usual, Seen::Returned)
    }

    /// A range that grows by more than a tenth is another way to be driven.
    fn widen(&mut self, t: i64, value: f64) {
        let (low, high) = (self.low.min(value), self.high.max(value));
        let first = self.high < self.low;
        if first || high - low > (self.high - self.low) * RANGE_GROWTH {
            self.settles = t.saturating_add(self.settle_us);
            (self.low, self.high) = (low, high);
        }
    }

    fn beyond(&mut self, t: i64, value: f64, level: f64, innovation: f64) -> Seen {
        let threshold = self.threshold;
        let out = self.out.get_or_insert(Excursion { since: t, samples: 0, value, level, threshold });
        out.samples += 1;
        if innovation > (out.value - level).abs() {
            out.value = value;
        }
        if out.samples <= SAMPLES_MAX {
            return Seen::Out;
        }
        (self.out, self.moved, self.recent) = (None, None, [value; 3]);
        self.until_refresh = 0;
        self.learn(innovation, true);
        Seen::Usual
    }

    fn learn(&mut self, amount: f64, confirmed: bool) {
        let largest = if confirmed { f64::MAX } else { self.moves.largest() };
        // Below the upper edge, so that a clipped one goes to the bucket of the largest.
        self.moves.add(amount.min(largest.next_down()));
        self.until_refresh = self.until_refresh.saturating_sub(1);
        if self.until_refresh == 0 && self.moves.total() >= MOVES_MIN {
            self.until_refresh = REFRESH_EVERY;
            let (median, largest) = (self.moves.quantile(0.5), self.moves.largest());
            self.threshold = self.factor * (1.4826 * median).max(largest / 4.0);
        }
    }
}

/// The middle one.
fn median([a, b, c]: [f64; 3]) -> f64 {
    a.max(b).min(a.min(b).max(c))
}

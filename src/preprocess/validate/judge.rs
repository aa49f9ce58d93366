//! One sample after the other: what is wrong with it, given those before.

use super::period::Period;
use super::{Checks, Gap};
use crate::limits::VALIDATE_ASTRAY_MAX;
use crate::preprocess::Reason;
use crate::sample::Quality;

/// What is wrong with a sample, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict(u8);

impl Verdict {
    pub(super) const GOOD: Self = Self(0);
    pub(super) const OUT_OF_RANGE: Self = Self(1);
    pub(super) const NOT_FINITE: Self = Self(1 << 1);
    pub(super) const RATE: Self = Self(1 << 2);
    pub(super) const STUCK: Self = Self(1 << 3);
    pub(super) const AFTER_GAP: Self = Self(1 << 4);
    pub(super) const BACKWARDS: Self = Self(1 << 5);
    pub(super) const AHEAD: Self = Self(1 << 6);
    pub(super) const BEHIND: Self = Self(1 << 7);

    /// Each with what it is counted as and its flag.
    pub(super) const ALL: [(Self, Reason, Quality); 8] = [
        (Self::OUT_OF_RANGE, Reason::OutOfRange, Quality::OUT_OF_RANGE),
        (Self::NOT_FINITE, Reason::NotFinite, Quality::NOT_FINITE),
        (Self::RATE, Reason::RateOfChange, Quality::RATE_OF_CHANGE),
        (Self::STUCK, Reason::Stuck, Quality::STUCK),
        (Self::AFTER_GAP, Reason::AfterGap, Quality::AFTER_GAP),
        (Self::BACKWARDS, Reason::TimeBackwards, Quality::IMPLAUSIBLE_TIME),
        (Self::AHEAD, Reason::TimeAhead, Quality::IMPLAUSIBLE_TIME),
        (Self::BEHIND, Reason::TimeBehind, Quality::IMPLAUSIBLE_TIME),
    ];

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has any of `others`.
    pub(super) const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    fn add_if(&mut self, wrong: bool, what: Self) {
        if wrong {
            *self = self.with(what);
        }
    }

    pub(super) fn quality(self) -> Quality {
        let found = Self::ALL.into_iter().filter(|(verdict, ..)| self.has(*verdict));
        found.fold(Quality::GOOD, |all, (.., quality)| all.with(quality))
    }
}

/// The gateway's clock when the batch was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) received_us: i64,
}

impl Clock {
    /// What it says of a time.
    pub(super) fn verdict(self, checks: &Checks, t_us: i64) -> Verdict {
        let (ahead_us, mut verdict) = (t_us.saturating_sub(self.received_us), Verdict::GOOD);
        verdict.add_if(checks.ahead_us.is_some_and(|max| ahead_us > max), Verdict::AHEAD);
        verdict.add_if(checks.behind_us.is_some_and(|max| ahead_us < -max), Verdict::BEHIND);
        verdict
    }
}

/// A sample to be judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) t_us: i64,
    pub(super) raw: f64,
    pub(super) physical: f64,
}

/// What is known of a channel's latest samples.
pub(super) struct State {
    /// The newest time.
    pub(super) newest_us: Option<i64>,
    /// Samples in a row that were no newer.
    pub(super) astray: u32,
    /// The last sample that was plausible: time and value. What comes is compared with it, so that one spike is
    /// one bad sample; since the change that is possible grows with time, it is never a measure for ever.
    pub(super) good: Option<(i64, f64)>,
    /// The bits of the last raw value, and since when it has been the same.
    pub(super) still: Option<(u64, i64)>,
    pub(super) period: Period,
}

impl State {
    pub(super) fn new(rate_mhz: u32) -> Self {
        let period = Period::new(rate_mhz);
        Self { newest_us: None, astray: 0, good: None, still: None, period }
    }

    /// What is wrong with `sample`, and how many are missing before it.
    pub(super) fn judge(&mut self, checks: &Checks, sample: Sample, clock: Option<Clock>) -> (Verdict, u64) {
        let Sample { t_us, raw, physical } = sample;
        let mut verdict = Verdict::GOOD;
        verdict.add_if(!physical.is_finite(), Verdict::NOT_FINITE);
        verdict.add_if(physical.is_finite() && !checks.in_range(physical), Verdict::OUT_OF_RANGE);
        let time = clock.map_or(Verdict::GOOD, |clock| clock.verdict(checks, t_us));
        if time != Verdict::GOOD {
            // Nor is it a measure for the times of others.
            return (verdict.with(time), 0);
        }
        if let Some(newest_us) = self.newest_us.filter(|&newest_us| t_us <= newest_us) {
            self.astray += 1;
            if self.astray < VALIDATE_ASTRAY_MAX {
                verdict.add_if(checks.backwards && t_us < newest_us, Verdict::BACKWARDS);
                return (verdict, 0);
            }
            (self.newest_us, self.good, self.still) = (None, None, None);
        }
        self.astray = 0;
        let missing = match (checks.gap, self.newest_us) {
            (Some(gap), Some(newest_us)) => self.period.missing(gap, t_us.saturating_sub(newest_us)),
            _ => 0,
        };
        verdict.add_if(missing > 0, Verdict::AFTER_GAP);
        self.newest_us = Some(t_us);
        if let Some(stuck_us) = checks.stuck_us.filter(|_| physical.is_finite()) {
            let (bits, since_us) = self.still.unwrap_or((!raw.to_bits(), t_us));
            let since_us = if bits == raw.to_bits() { since_us } else { t_us };
            self.still = Some((raw.to_bits(), since_us));
            verdict.add_if(t_us.saturating_sub(since_us) >= stuck_us, Verdict::STUCK);
        }
        if let Some(rate_per_us) = checks.rate_per_us
            && !verdict.has(Verdict::OUT_OF_RANGE.with(Verdict::NOT_FINITE))
        {
            let fast = self.good.is_some_and(|good| !within_rate(rate_per_us, good, (t_us, physical)));
            verdict.add_if(fast, Verdict::RATE);
            if !fast {
                self.good = Some((t_us, physical));
            }
        }
        (verdict, missing)
    }
}

impl Checks {
    pub(super) fn in_range(&self, physical: f64) -> bool {
        physical >= self.min && physical <= self.max
    }
}

/// Whether a change between two samples (time, value) is possible.
pub(super) fn within_rate(rate_per_us: f64, before: (i64, f64), now: (i64, f64)) -> bool {
    (now.1 - before.1).abs() <= rate_per_us * now.0.saturating_sub(before.0) as f64
}

impl Gap {
    /// Beyond which interval samples are missing, given the channel's period.
    pub(super) fn limit_us(self, period_us: Option<f64>) -> Option<f64> {
        match self {
            Self::Periods(periods) => period_us.map(|period_us| period_us * periods),
            Self::After(after_us) => Some(after_us as f64),
        }
    }
}

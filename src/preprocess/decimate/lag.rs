//! When the uplink lags: how far it may fall behind until channels of each priority are thinned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::preprocess::{Reason, StepCounts, StepName};
use crate::priority::Priority;

/// Thinning ends when the lag is below this part of what began it, so that it does not flap.
const ENDS_BELOW: u32 = 2;

/// `[preprocess.lag]`: the age of the oldest sample not yet stored from which each priority is thinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// For priority `low`.
    #[serde(with = "humantime_serde")]
    pub low_after: Duration,
    /// For priority `normal`.
    #[serde(with = "humantime_serde")]
    pub normal_after: Duration,
    /// For priority `high`.
    #[serde(with = "humantime_serde")]
    pub high_after: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        let (low_after, normal_after) = (Duration::from_secs(10), Duration::from_secs(60));
        Self { low_after, normal_after, high_after: Duration::from_secs(300) }
    }
}

impl Thresholds {
    /// What is wrong, as (key, what would be right).
    pub(in crate::preprocess) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: &str| faults.push((key.into(), what.into()));
        if self.low_after.is_zero() {
            fault("low_after", "a lag of 0 is no lag: for thinning without one there is when = \"always\"");
        }
        if self.normal_after < self.low_after {
            fault("normal_after", "it must not be below low_after: low is thinned first");
        }
        if self.high_after < self.normal_after {
            fault("high_after", "it must not be below normal_after: high is thinned last");
        }
        faults
    }
}

/// Which priorities are thinned now. Shared by all lanes of a configuration.
pub(super) struct Gate {
    after: [Duration; 3],
    thins: [AtomicBool; 3],
}

impl Gate {
    pub(super) fn new(thresholds: &Thresholds) -> Arc<Self> {
        let Thresholds { low_after, normal_after, high_after } = *thresholds;
        Arc::new(Self { after: [low_after, normal_after, high_after], thins: Default::default() })
    }

    /// Goes on from where `before` was: a change of the rules is no change of the lag.
    pub(super) fn continues(&self, before: &Self) {
        for (now, then) in self.thins.iter().zip(&before.thins) {
            now.store(then.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Whether channels of `priority` are thinned, the lag being what it is.
    pub(super) fn thins(&self, priority: Priority, lag: Duration, counts: &StepCounts) -> bool {
        let place = priority as usize;
        let (after, thins) = (self.after[place], &self.thins[place]);
        let before = thins.load(Ordering::Relaxed);
        let now = if before { lag >= after / ENDS_BELOW && !lag.is_zero() } else { lag > after };
        if now != before {
            thins.store(now, Ordering::Relaxed);
            let reason = if now { Reason::LagBegan } else { Reason::LagEnded };
            let word = if now { "begins" } else { "ends" };
            let tell = || format!("lag {}: thinning {word}", humantime::format_duration(lag));
            counts.add(StepName::Decimate, &priority.as_str().into(), reason, 1, tell);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_begins_with_the_low_and_does_not_flap() {
        let (gate, counts) = (Gate::new(&Thresholds::default()), StepCounts::default());
        let at = |s: u64| {
            [Priority::Low, Priority::Normal, Priority::High]
                .map(|priority| gate.thins(priority, Duration::from_secs(s), &counts))
        };
        let course = [
            (0, [false; 3]),
            (10, [false; 3]),
            (11, [true, false, false]),
            (9, [true, false, false]),
            (61, [true, true, false]),
            (301, [true; 3]),
            (150, [true; 3]),
            (149, [true, true, false]),
            (29, [true, false, false]),
            (5, [true, false, false]),
            (4, [false; 3]),
            (9, [false; 3]),
        ];
        for (lag_s, thins) in course {
            assert_eq!(at(lag_s), thins, "{lag_s} s");
        }
        let deeds = counts.snapshot();
        assert!(deeds.iter().all(|deed| deed.samples == 1), "{deeds:?}");
        assert_eq!(deeds.len(), 6);
        assert!(deeds.iter().any(|deed| deed.rule == "low" && deed.last == "lag 4s: thinning ends"), "{deeds:?}");
    }

    #[test]
    fn thresholds_the_wrong_way_round_are_faults() {
        let zero = Duration::ZERO;
        let of = |low_after, normal_after, high_after| {
            Thresholds { low_after, normal_after, high_after }
                .faults()
                .into_iter()
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
        };
        let s = Duration::from_secs;
        assert_eq!(of(zero, zero, zero), ["low_after"]);
        assert_eq!(of(s(2), s(1), s(0)), ["normal_after", "high_after"]);
        assert!(Thresholds::default().faults().is_empty());
    }
}

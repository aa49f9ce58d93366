//! When the backlog will be gone, by how fast it shrinks. Pure.
//!
//! The rate is the backlog's net decline, what is spilled meanwhile included, over the last [`OVER`]: long enough to
//! be calm though records leave in groups, short enough to follow an uplink that changes. While the backlog does not
//! shrink nothing is foretold.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the rate looks.
const OVER: Duration = Duration::from_secs(10);
/// Distance of two notes: 10 s / 250 ms = 40 of them.
const NOTE_EVERY: Duration = Duration::from_millis(250);
/// What is younger says nothing: the first records leave together.
const OVER_MIN: Duration = Duration::from_secs(1);

/// Follows a backlog.
#[derive(Debug, Default)]
pub(super) struct Eta {
    /// Moments and what was left then, oldest first.
    notes: VecDeque<(Instant, u64)>,
    /// Whether it has begun to shrink: what comes before, a first write alone and on trial, is no pace.
    shrinks: bool,
}

impl Eta {
    /// Takes note of what is left. To be called often; `None` while nothing drains, which forgets all.
    pub(super) fn note(&mut self, left: Option<u64>, now: Instant) {
        let Some(left) = left else {
            *self = Self::default();
            return;
        };
        if !self.shrinks {
            self.shrinks = self.notes.pop_front().is_some_and(|(_, before)| left < before);
        }
        if self.notes.back().is_none_or(|&(at, _)| now.saturating_duration_since(at) >= NOTE_EVERY) {
            self.notes.push_back((now, left));
        }
        // One note from before stays, so that the whole of it is covered.
        while self.notes.get(1).is_some_and(|&(at, _)| now.saturating_duration_since(at) >= OVER) {
            self.notes.pop_front();
        }
    }

    /// Samples a second by which the backlog shrinks, up to `left` of them `now`; `None` if it does not, or if it is
    /// not known yet.
    pub(super) fn shrinks_per_s(&self, left: u64, now: Instant) -> Option<f64> {
        let &(since, before) = self.notes.front()?;
        let over = now.saturating_duration_since(since);
        let gone = before.checked_sub(left).filter(|&gone| gone > 0)?;
        (over >= OVER_MIN).then(|| gone as f64 / over.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows `left(t)`, with `t` in seconds, up to `seconds`; answers what is foretold then, s.
    fn foretold(seconds: f64, left: impl Fn(f64) -> u64) -> Option<f64> {
        let began = Instant::now();
        let mut eta = Eta::default();
        for turn in 0..=(seconds * 100.0) as u32 {
            let t = f64::from(turn) / 100.0;
            eta.note(Some(left(t)), began + Duration::from_secs_f64(t));
        }
        let (now, left) = (began + Duration::from_secs_f64(seconds), left(seconds));
        eta.shrinks_per_s(left, now).map(|per_s| left as f64 / per_s)
    }

    #[track_caller]
    fn near(foretold: Option<f64>, truth: f64) {
        let foretold = foretold.expect("it is known");
        assert!((foretold / truth - 1.0).abs() < 0.05, "{foretold:.1} s instead of {truth:.1} s");
    }

    #[test]
    fn a_steady_drain_is_foretold_from_its_first_seconds_on() {
        let left = |t: f64| (100_000.0 - 1_000.0 * t) as u64;
        for seconds in [2.0, 25.0, 50.0, 75.0, 99.0] {
            near(foretold(seconds, left), 100.0 - seconds);
        }
    }

    #[test]
    fn what_comes_before_the_first_record_has_left_is_no_pace() {
        let left = |t: f64| (10_000.0 - 1_000.0 * (t - 3.0).max(0.0)) as u64;
        near(foretold(5.5, left), 7.5);
    }

    #[test]
    fn records_that_leave_in_groups_do_not_shake_it() {
        let left = |t: f64| 100_000 - 400 * (t / 0.4) as u64;
        near(foretold(50.0, left), 50.0);
    }

    #[test]
    fn what_is_spilled_meanwhile_counts_against_it() {
        let left = |t: f64| (100_000.0 - 1_000.0 * t + 600.0 * t) as u64;
        near(foretold(50.0, left), 200.0);
    }

    #[test]
    fn a_change_of_pace_is_followed_within_the_time_it_looks_back() {
        let left = |t: f64| (100_000.0 - if t < 20.0 { 200.0 * t } else { 4_000.0 + 2_000.0 * (t - 20.0) }) as u64;
        near(foretold(30.5, left), 75_000.0 / 2_000.0);
    }

    #[test]
    fn nothing_is_foretold_too_early_or_while_it_stands_or_grows() {
        assert_eq!(foretold(0.5, |t| (1_000.0 - t) as u64), None, "too early");
        assert_eq!(foretold(20.0, |_| 1_000), None, "it stands");
        assert_eq!(foretold(20.0, |t| 1_000 + t as u64), None, "it grows");
        let mut eta = Eta::default();
        let began = Instant::now();
        eta.note(Some(1_000), began);
        eta.note(None, began + OVER_MIN);
        assert_eq!(eta.shrinks_per_s(10, began + OVER), None, "another drain");
    }

    #[test]
    fn memory_is_bounded_however_long_it_takes() {
        let (mut eta, began) = (Eta::default(), Instant::now());
        (0..100_000).for_each(|ms| eta.note(Some(1), began + Duration::from_millis(ms)));
        assert!(eta.notes.len() <= 42, "{}", eta.notes.len());
    }
}

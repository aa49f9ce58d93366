//! What is remembered of one input: its samples from the oldest time that is still to be computed.

use std::collections::VecDeque;

use crate::limits::DERIVE_ASTRAY_MAX;
use crate::sample::Quality;

/// A value and when it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Known {
    pub(super) t: i64,
    pub(super) value: f64,
    pub(super) quality: Quality,
}

/// Samples by strictly increasing time.
#[derive(Default)]
pub(super) struct Track {
    samples: VecDeque<Known>,
    /// Up to here nothing more will come, if the channel keeps its order.
    complete_until: Option<i64>,
    /// Samples in a row that were older than that.
    astray: u32,
}

impl Track {
    /// Takes one sample. Of two with one time the first counts.
    pub(super) fn push(&mut self, known: Known) {
        let after = match self.samples.back() {
            Some(last) if last.t >= known.t => self.samples.partition_point(|held| held.t <= known.t),
            _ => self.samples.len(),
        };
        let repeated = after.checked_sub(1).is_some_and(|before| self.samples[before].t == known.t);
        if !repeated {
            self.samples.insert(after, known);
        }
        let older = self.complete_until.is_some_and(|until| known.t < until);
        self.astray = if older { self.astray + 1 } else { 0 };
        if self.astray > DERIVE_ASTRAY_MAX {
            // So many in a row: it was the newest time that was a mistake, and what lies there with it.
            self.samples.retain(|held| held.t <= known.t);
            (self.complete_until, self.astray) = (Some(known.t), 0);
        }
        self.complete(known.t);
    }

    /// Nothing before `t` will come.
    pub(super) fn complete(&mut self, t: i64) {
        self.complete_until = self.complete_until.max(Some(t));
    }

    /// Whether the sample that counts at `t` is known for good.
    pub(super) fn complete_at(&self, t: i64) -> bool {
        self.complete_until.is_some_and(|until| until >= t)
    }

    /// The latest sample at or before `t`.
    pub(super) fn at(&self, t: i64) -> Option<Known> {
        let after = self.samples.partition_point(|held| held.t <= t);
        after.checked_sub(1).map(|index| self.samples[index])
    }

    /// Forgets what no time from `floor` on can need.
    pub(super) fn forget_before(&mut self, floor: i64) {
        while self.samples.get(1).is_some_and(|second| second.t <= floor) {
            self.samples.pop_front();
        }
    }

    /// Keeps at most the `count` newest.
    pub(super) fn keep_newest(&mut self, count: usize) {
        let surplus = self.samples.len().saturating_sub(count);
        self.samples.drain(..surplus);
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(times: &[i64]) -> Track {
        let mut track = Track::default();
        for (index, &t) in times.iter().enumerate() {
            track.push(Known { t, value: index as f64, quality: Quality::GOOD });
        }
        track
    }

    #[test]
    fn the_latest_at_or_before_a_time_counts_whatever_the_order_of_arrival() {
        let track = track(&[10, 30, 20, 20]);
        let value = |t| track.at(t).map(|known| known.value);
        assert_eq!([value(9), value(10), value(25), value(99)], [None, Some(0.0), Some(2.0), Some(1.0)]);
        assert!(track.complete_at(30) && !track.complete_at(31));
    }

    #[test]
    fn what_may_still_count_is_kept() {
        let mut track = track(&[10, 20, 30]);
        track.forget_before(25);
        assert_eq!((track.len(), track.at(25).map(|known| known.t)), (2, Some(20)));
        track.forget_before(99);
        assert_eq!((track.len(), track.at(99).map(|known| known.t)), (1, Some(30)));
    }
}

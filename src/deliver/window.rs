//! How many writes may be in flight, adapted to how long the store takes: additive increase, multiplicative decrease.
//! Pure.
//!
//! A store that has more writes than it can work on lets them wait, and a live write that comes then waits behind all of
//! them: with `n` in flight and `r` writes a second it takes `n ÷ r`, whoever asks. So the limit is what keeps live data
//! fresh while a backlog drains:
//! ```text
//!  starting   each answer while the limit is used: + 1          (doubles within a round trip)
//!  steady     each answer while the limit is used: + 1 ÷ limit  (+ 1 within a round trip)
//!  slow       an answer took more than max(D ÷ 8, 1.5 × fastest of the last 10 to 20 s), or none came in time, or the
//!             store failed: × ½, once for all writes that were in flight together; steady from then on
//!  back       after a failure: starting again, from what it was then, half of the most at most
//! ```
//! *Used*: something waited that the limit kept back. What a write *took* is for one request, since a store may make several
//! of it, one after another: the first write of a bucket makes two. *Fastest* makes a link with a long way but without a queue one that is not slow. That it cannot follow a queue of our
//! own upwards is arithmetic: where time is in proportion to what is in flight, the fastest write after a halving takes
//! half of what was slow, and 1.5 × ½ < 1.
//!
//! Invariants: the limit is from [`WRITES_IN_FLIGHT_MIN`] (one for live data, one for the backlog) to what is configured;
//! it grows only while something waits for it, so that it says what was tried and not what was not.

use std::time::{Duration, Instant};

use crate::limits::WRITES_IN_FLIGHT_MIN;

/// A write that takes more than this part of D is slow, unless the fastest takes as long.
const SLOW_PART_OF_D: u32 = 8;
/// More than this many times the fastest is slow; see the module's head for why it is below 2.
const SLOW_TIMES_FASTEST: f64 = 1.5;
/// For so long at least the fastest write is remembered, and twice as long at most.
const FASTEST_FOR: Duration = Duration::from_secs(10);

/// The limit of writes in flight.
#[derive(Debug, Clone)]
pub(super) struct Window {
    limit: f64,
    max: f64,
    slow_after: Duration,
    starting: bool,
    /// The fastest write since `fastest_since`, and that of the time before.
    fastest: [Option<Duration>; 2],
    fastest_since: Instant,
    /// When it was halved last: what began before belongs to the same congestion.
    halved_at: Instant,
    /// Whether it has kept something back since the last answer.
    used: bool,
}

impl Window {
    /// A window of at most `max` writes, for a deadline of `durable_within`.
    pub(super) fn new(max: usize, durable_within: Duration, now: Instant) -> Self {
        let max = max.max(WRITES_IN_FLIGHT_MIN.into()) as f64;
        Self {
            limit: Self::initial(max),
            max,
            slow_after: durable_within / SLOW_PART_OF_D,
            starting: true,
            fastest: [None; 2],
            fastest_since: now,
            halved_at: now,
            used: false,
        }
    }

    /// Half of the most: a link with a long way carries a car's live data from the start, as a rule.
    fn initial(max: f64) -> f64 {
        (max / 2.0).max(WRITES_IN_FLIGHT_MIN.into())
    }

    /// Writes that may be in flight.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Something waits that it keeps back.
    pub(super) fn kept_back(&mut self) {
        self.used = true;
    }

    /// The store is back, and may be another than it was.
    pub(super) fn restart(&mut self, now: Instant) {
        (self.limit, self.starting) = (Self::initial(self.max).min(self.limit), true);
        (self.fastest, self.fastest_since, self.halved_at) = ([None; 2], now, now);
    }

    /// A write was answered at `now`, of which each request took so long.
    pub(super) fn answered(&mut self, took: Duration, now: Instant) {
        let used = std::mem::take(&mut self.used);
        if now.duration_since(self.fastest_since) >= FASTEST_FOR {
            (self.fastest, self.fastest_since) = ([None, self.fastest[0]], now);
        }
        self.fastest[0] = Some(self.fastest[0].map_or(took, |fastest| fastest.min(took)));
        let fastest = self.fastest.into_iter().flatten().min().unwrap_or(took);
        if took > self.slow_after.max(fastest.mul_f64(SLOW_TIMES_FASTEST)) {
            self.unanswered(took, now);
        } else if used {
            let more = if self.starting { 1.0 } else { 1.0 / self.limit };
            self.limit = (self.limit + more).min(self.max);
        }
    }

    /// A write was given up at `now`, unanswered after so long.
    pub(super) fn unanswered(&mut self, took: Duration, now: Instant) {
        if now.checked_sub(took).is_some_and(|began| began >= self.halved_at) {
            self.failed(now);
        }
    }

    /// The store failed: with what was in flight it could not cope, as far as anybody knows.
    pub(super) fn failed(&mut self, now: Instant) {
        self.limit = (self.limit / 2.0).max(WRITES_IN_FLIGHT_MIN.into());
        (self.starting, self.halved_at) = (false, now);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const D: Duration = Duration::from_secs(1);
    const MAX: usize = 16;

    /// A store that is always asked for as much as the window lets: each write is on the way for `way`, and is worked on for
    /// `work`, one after another. Answers the limit and the last write's time at each answer, over `length`.
    fn asked(
        window: &mut Window,
        way: Duration,
        work: Duration,
        begin: Instant,
        length: Duration,
    ) -> Vec<(usize, Duration)> {
        let (mut now, mut free_at) = (begin, begin);
        let mut in_flight: VecDeque<(Instant, Instant)> = VecDeque::new();
        let mut seen = Vec::new();
        while now < begin + length {
            while in_flight.len() < window.limit() {
                free_at = free_at.max(now + way / 2) + work;
                in_flight.push_back((now, free_at + way / 2));
            }
            let Some((began, answered)) = in_flight.pop_front() else { break };
            now = now.max(answered);
            window.kept_back();
            window.answered(now - began, now);
            seen.push((window.limit(), now - began));
        }
        seen
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn steady(seen: &[(usize, Duration)]) -> &[(usize, Duration)] {
        &seen[seen.len() / 2..]
    }

    #[test]
    fn a_store_at_its_limits_keeps_few_in_flight_and_is_kept_busy() {
        let now = Instant::now();
        for work in [ms(20), ms(40), ms(60)] {
            let mut window = Window::new(MAX, D, now);
            let seen = asked(&mut window, ms(1), work, now, Duration::from_secs(120));
            let slowest = steady(&seen).iter().map(|&(_, took)| took).max().unwrap();
            assert!(slowest <= D / 8 + 2 * work, "{work:?}: {slowest:?}");
            let busy = work.mul_f64(seen.len() as f64).as_secs_f64() / 120.0;
            assert!(busy > 0.95, "{work:?}: {busy}");
        }
    }

    #[test]
    fn a_long_way_without_a_queue_is_not_slow() {
        let now = Instant::now();
        let mut window = Window::new(MAX, D, now);
        let seen = asked(&mut window, ms(600), ms(1), now, Duration::from_secs(60));
        assert!(steady(&seen).iter().all(|&(limit, _)| limit == MAX), "{seen:?}");
    }

    #[test]
    fn a_queue_of_our_own_is_never_taken_for_the_way() {
        let now = Instant::now();
        let mut window = Window::new(512, D, now);
        let seen = asked(&mut window, ms(1), ms(10), now, Duration::from_secs(1_800));
        let quarter = seen.len() / 4;
        let slowest = |seen: &[(usize, Duration)]| seen.iter().map(|&(_, took)| took).max().unwrap();
        assert!(slowest(&seen[3 * quarter..]) <= slowest(&seen[quarter..2 * quarter]) + ms(20));
        assert!(slowest(&seen[quarter..]) < D / 4, "{:?}", slowest(&seen[quarter..]));
    }

    #[test]
    fn it_grows_only_while_it_is_used() {
        let mut now = Instant::now();
        let mut window = Window::new(MAX, D, now);
        for _ in 0..1_000 {
            now += ms(10);
            window.answered(ms(5), now);
        }
        assert_eq!(window.limit(), MAX / 2);
        for _ in 0..MAX {
            now += ms(10);
            window.kept_back();
            window.answered(ms(5), now);
        }
        assert_eq!(window.limit(), MAX);
    }

    #[test]
    fn writes_that_were_in_flight_together_halve_it_once_and_never_below_two() {
        let mut now = Instant::now();
        let mut window = Window::new(MAX, D, now);
        now += ms(2_000);
        (0..8).for_each(|_| window.unanswered(ms(1_000), now));
        assert_eq!(window.limit(), MAX / 4);
        for _ in 0..10 {
            now += ms(2_000);
            window.unanswered(ms(1_000), now);
        }
        assert_eq!(window.limit(), 2);
        window.restart(now);
        assert_eq!(window.limit(), 2, "what the store could not cope with is not tried at once");
        for _ in 0..3 {
            window.kept_back();
            window.answered(ms(5), now);
        }
        assert_eq!(window.limit(), 5, "but it grows as at the start");
    }
}

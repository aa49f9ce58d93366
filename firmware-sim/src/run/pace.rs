//! Keeps simulated time to real time.

use std::time::{Duration, Instant};

use crate::options::Speed;

/// After a delay, time is made good at most so many times as fast: a burst larger than that would
/// only overflow the reader's buffers.
const CATCH_UP: f64 = 4.0;

/// Keeps simulated time to real time, by the monotonic clock.
pub(super) struct Pace {
    /// Real time of a step; `None` for as fast as possible.
    step: Option<Duration>,
    /// When the next step is due by the clock.
    due: Instant,
    /// When it is made: later, if time is being made good.
    until: Instant,
}

impl Pace {
    pub(super) fn new(speed: Speed, step: Duration) -> Self {
        let step = match speed {
            Speed::Times(times) => Some(step.div_f64(times)),
            Speed::Max => None,
        };
        Self { step, due: Instant::now(), until: Instant::now() }
    }

    /// A step was made: sets when the next is due.
    pub(super) fn advance(&mut self) {
        let Some(step) = self.step else { return };
        self.due += step;
        let now = Instant::now();
        self.until = if self.due < now { now + step.div_f64(CATCH_UP) } else { self.due };
    }

    /// What is left until the next step is due. Less than 0.5 ms is nothing: shorter sleeps cost
    /// more than they are worth, and the time is made good in the next step.
    pub(super) fn left(&self) -> Option<Duration> {
        self.step?;
        let left = self.until.saturating_duration_since(Instant::now());
        (left > Duration::from_micros(500)).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(pace: &mut Pace) {
        pace.advance();
        while let Some(left) = pace.left() {
            std::thread::sleep(left);
        }
    }

    #[test]
    fn catches_up_after_a_delay_but_not_at_once() {
        let step = Duration::from_millis(10);
        let mut pace = Pace::new(Speed::Times(1.0), step);
        let start = Instant::now();
        std::thread::sleep(Duration::from_millis(60));
        (0..10).for_each(|_| wait(&mut pace));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(72), "a burst: {took:?}");
        assert!(took < Duration::from_millis(400), "not caught up: {took:?}");
        let mut max = Pace::new(Speed::Max, step);
        let start = Instant::now();
        (0..1_000).for_each(|_| wait(&mut max));
        assert!(start.elapsed() < Duration::from_millis(50));
    }
}

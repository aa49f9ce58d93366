//! When a broker's window is full: MQTT 3.1.1 has no way to ask for a larger one.
//!
//! Such a broker sends so many messages (mosquitto: 20), then waits for acknowledgements. They come when chunks
//! close, so the window would cap the rate at window ÷ `flush_after`: 100 messages/s. So the source asks for a flush
//! when the window seems full: as many messages are outstanding as ever were at once on this connection, and none
//! came for [`QUIET`].
//!
//! "As ever were" is learnt in rounds in which nothing is asked for ([`LEARN_FOR`]), each [`RELEARN_EVERY`]: flushes
//! that are asked for early would hide how many messages can be outstanding. The number never exceeds the window, so
//! a full window is always seen; and a publisher that does not fill the window reaches the number about as often as
//! chunks close by age, so it costs no more flushes.
//!
//! Deliberately absent: clocks, the connection.

use std::time::{Duration, Instant};

/// A burst of the broker's is over after this.
const QUIET: Duration = Duration::from_millis(1);
/// Distance of two flushes that are asked for: at most 500 a second, for a broker with a window of one.
const ASK_EVERY_MIN: Duration = Duration::from_millis(2);
/// How long a round of learning takes at least: the first acknowledgements may be of messages that settle at once.
const LEARN_FOR: Duration = Duration::from_millis(50);
/// Distance of two rounds of learning: with `flush_after` at 200 ms they cost 2 % of a full window's rate.
const RELEARN_EVERY: Duration = Duration::from_secs(10);

/// What is known of the window of one connection.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The most that was ever outstanding.
    most: usize,
    learning_since: Option<Instant>,
    learnt_at: Option<Instant>,
    arrived_at: Option<Instant>,
    asked_at: Option<Instant>,
    /// Whether a flush was asked for since a message came.
    asked: bool,
}

impl Window {
    /// A message came; with it so many are outstanding.
    pub(super) fn arrived(&mut self, outstanding: usize, now: Instant) {
        self.most = self.most.max(outstanding);
        self.learning_since.get_or_insert(now);
        (self.arrived_at, self.asked) = (Some(now), false);
    }

    /// Something was acknowledged.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        let learnt = self.learning_since.is_some_and(|since| now.saturating_duration_since(since) >= LEARN_FOR);
        if learnt && self.learnt_at.is_none() {
            self.learnt_at = Some(now);
        }
    }

    /// When to [`Self::ask`], if nothing comes until then.
    pub(super) fn ask_at(&self, outstanding: usize) -> Option<Instant> {
        let full = outstanding > 0 && outstanding >= self.most && !self.asked && self.learnt_at.is_some();
        let quiet = self.arrived_at.filter(|_| full)? + QUIET;
        Some(self.asked_at.map_or(quiet, |asked| quiet.max(asked + ASK_EVERY_MIN)))
    }

    /// Its time has come: whether to ask for a flush, or to learn once more.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        if self.learnt_at.is_some_and(|at| now.saturating_duration_since(at) >= RELEARN_EVERY) {
            (self.learnt_at, self.learning_since) = (None, Some(now));
            return false;
        }
        (self.asked, self.asked_at) = (true, Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A publisher that sends a message each `every`, a broker with `window`, chunks that close each 200 ms or when
    /// asked, and acknowledgements `store` after that. Answers messages and flushes a second.
    fn drive(every: Duration, window: usize, store: Duration) -> (usize, usize) {
        let start = Instant::now();
        let (mut known, mut outstanding, mut queued) = (Window::default(), 0_usize, 0_usize);
        let (mut messages, mut flushes, seconds) = (0, 0, 60);
        let (mut next, mut oldest) = (start, None);
        let mut acks: Vec<(Instant, usize)> = Vec::new();
        let (mut now, step) = (start, Duration::from_micros(250));
        let mut gathered = 0;
        while now < start + Duration::from_secs(seconds) {
            while next <= now {
                queued += 1;
                next += every;
            }
            while queued > 0 && outstanding < window {
                (queued, outstanding, gathered, messages) = (queued - 1, outstanding + 1, gathered + 1, messages + 1);
                oldest.get_or_insert(now);
                known.arrived(outstanding, now);
            }
            let asks = known.ask_at(outstanding).is_some_and(|at| at <= now) && known.ask(now);
            if gathered > 0 && (asks || oldest.is_some_and(|oldest| now >= oldest + 200 * MS)) {
                flushes += 1;
                acks.push((now + store, std::mem::take(&mut gathered)));
                oldest = None;
            }
            let (ready, later): (Vec<_>, Vec<_>) = acks.into_iter().partition(|(at, _)| *at <= now);
            acks = later;
            for (_, count) in ready {
                outstanding -= count;
                known.acknowledged(now);
            }
            now += step;
        }
        (messages / seconds as usize, flushes / seconds as usize)
    }

    #[test]
    fn a_full_window_is_asked_for_and_not_waited_for() {
        for (window, least) in [(1, 150), (20, 3_000), (1_000, 9_000)] {
            let (messages, flushes) = drive(Duration::from_micros(100), window, 3 * MS);
            assert!(messages > least, "window {window}: {messages} messages/s in {flushes} flushes/s");
            assert!(flushes <= 500, "window {window}: {flushes} flushes/s");
        }
    }

    #[test]
    fn a_publisher_that_does_not_fill_the_window_costs_few_more_flushes() {
        for (every, window) in [(1_000, 1_000), (100, 20), (20, 20), (10, 1_000), (5, 100), (1, 1_000)] {
            let (messages, flushes) = drive(every * MS, window, 3 * MS);
            assert!(messages + 2 >= 1_000 / every as usize, "{every} ms: {messages} messages/s");
            assert!(flushes <= 10, "a message each {every} ms, window {window}: {flushes} flushes/s");
        }
    }

    #[test]
    fn what_settles_at_once_does_not_teach_a_small_window() {
        let now = Instant::now();
        let mut known = Window::default();
        known.arrived(1, now);
        known.acknowledged(now + MS);
        known.arrived(1, now + 10 * MS);
        assert_eq!(known.ask_at(1), None);
        (2..=20).for_each(|outstanding| known.arrived(outstanding, now + 20 * MS));
        known.acknowledged(now + 200 * MS);
        known.arrived(19, now + 210 * MS);
        assert_eq!(known.ask_at(19), None);
        known.arrived(20, now + 220 * MS);
        assert_eq!(known.ask_at(20), Some(now + 220 * MS + QUIET));
        assert!(known.ask(now + 221 * MS));
        assert_eq!(known.ask_at(20), None, "once, until something comes");
    }
}

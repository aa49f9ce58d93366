//! Failures over a sliding window, in bins of a second.

use std::collections::VecDeque;

use crate::failure::WINDOW;

const BIN_NS: u64 = 1_000_000_000;
const BINS: u64 = WINDOW.as_secs();

/// What a stage finished, and failed on, at the beginning of each of the last bins.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// (bin, finished until then, failed until then), oldest first.
    begins: VecDeque<(u64, u64, u64)>,
}

impl Window {
    /// The bin of a time in ns.
    pub(crate) const fn bin(now: u64) -> u64 {
        now / BIN_NS
    }

    /// The totals at `now`. To be called by the first to finish something in a bin, before it counts, and at
    /// each look.
    pub(crate) fn turn(&mut self, now: u64, finished: u64, failed: u64) {
        let bin = Self::bin(now);
        if self.begins.is_empty() {
            self.begins.push_back((0, 0, 0));
        }
        if self.begins.back().is_none_or(|&(last, ..)| last < bin) {
            self.begins.push_back((bin, finished, failed));
        }
        // One older than the window stays: what was counted when the window began.
        while self.begins.len() > 1 && self.begins[1].0 + BINS <= bin + 1 {
            self.begins.pop_front();
        }
    }

    /// (finished, failed) within the window that ends now.
    pub(crate) fn recent(&self, finished: u64, failed: u64) -> (u64, u64) {
        let (_, before, failed_before) = self.begins.front().copied().unwrap_or_default();
        (finished.saturating_sub(before), failed.saturating_sub(failed_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (mut window, second) = (Window::default(), BIN_NS);
        for now in 0..30 {
            window.turn(now * second, now * 100, now * 2);
        }
        // The last ten bins, the one that has just begun among them.
        assert_eq!(window.recent(29 * 100, 29 * 2), (900, 18));
        window.turn(100 * second, 2_900, 58);
        assert_eq!(window.recent(2_900, 58), (0, 0), "after a long silence");
        assert_eq!(window.recent(2_905, 59), (5, 1));
    }

    #[test]
    fn at_the_start_everything_counts() {
        let mut window = Window::default();
        window.turn(0, 7, 1);
        assert_eq!(window.recent(10, 4), (10, 4));
        window.turn(BIN_NS, 10, 4);
        assert_eq!(window.recent(12, 4), (12, 4));
    }
}

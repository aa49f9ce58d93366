//! Device times of one chunk as runs of equal distance.
//!
//! Invariant: [`RunTimes::iter`] gives exactly the times that were pushed, in that order; runs join only
//! where the wire's rule `t_i = t0 + (i × period_ns) div 1000` gives every time unchanged.
//! A regular burst costs one run, whatever its length: nothing is done or allocated per sample.

use crate::sample::{Flags, Values, regular_time};

/// Times `t0_us + (i × period_ns) div 1000` for `i` below `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first time, device µs.
    pub t0_us: i64,
    /// Distance of two times in ns.
    pub period_ns: u32,
    /// How many times, at least 1.
    pub count: u32,
}

impl Run {
    /// The time at `index`, µs.
    #[must_use]
    pub fn at(&self, index: u32) -> i64 {
        regular_time(self.t0_us, self.period_ns, u64::from(index))
    }

    /// The last time, µs.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// Whether each time is later than the one before.
    fn increases(&self) -> bool {
        // Below 1 µs the first two are equal; at the end of i64 the last two are (regular_time saturates).
        self.count < 2 || (self.period_ns >= 1000 && self.at(self.count - 2) < self.last())
    }

    /// This run with `next` at its end, if that leaves every time as it is.
    fn joined(&self, next: &Self) -> Option<Self> {
        let count = self.count.checked_add(next.count)?;
        let period_ns = if self.count > 1 {
            if next.count > 1 && next.period_ns != self.period_ns {
                return None;
            }
            self.period_ns
        } else if next.count > 1 {
            next.period_ns
        } else {
            u32::try_from(next.t0_us.checked_sub(self.t0_us)?.checked_mul(1000)?).ok()?
        };
        let joined = Self { t0_us: self.t0_us, period_ns, count };
        if joined.at(self.count) != next.t0_us || joined.last() == i64::MAX {
            return None;
        }
        // Counting from this run's start leaves `carry` ns behind next's start. It must never complete a µs
        // that next does not: the remainders of i × period repeat after at most 1000.
        let carry = u64::from(self.count) * u64::from(period_ns) % 1000;
        let keeps = |i: u32| u64::from(i) * u64::from(period_ns) % 1000 + carry < 1000;
        (carry == 0 || (1..next.count.min(1000)).all(keeps)).then_some(joined)
    }
}

/// The times of a column as they are collected, in runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunTimes {
    runs: Vec<Run>,
    len: usize,
    unsorted: bool,
}

impl RunTimes {
    /// No times.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: Vec::new(), len: 0, unsorted: false }
    }

    /// Appends `t_i = t0_us + (i × period_ns) div 1000` for `i` below `count`.
    pub fn push_run(&mut self, t0_us: i64, period_ns: u32, count: u32) {
        if count == 0 {
            return;
        }
        let run = Run { t0_us, period_ns, count };
        self.unsorted |= !run.increases() || self.last().is_some_and(|last| t0_us <= last);
        self.len += count as usize;
        match self.runs.last_mut() {
            Some(last) => match last.joined(&run) {
                Some(joined) => *last = joined,
                None => self.runs.push(run),
            },
            None => self.runs.push(run),
        }
    }

    /// Appends one time, device µs.
    pub fn push(&mut self, t_us: i64) {
        self.push_run(t_us, 0, 1);
    }

    /// All times in µs, in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.runs.iter().flat_map(|run| (0..run.count).map(|index| run.at(index)))
    }

    /// The runs, in order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many times.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The time pushed first, µs.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        self.runs.first().map(|run| run.t0_us)
    }

    /// The time pushed last, µs.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.runs.last().map(Run::last)
    }

    /// Whether each time is later than the one before.
    #[must_use]
    pub const fn is_sorted(&self) -> bool {
        !self.unsorted
    }

    /// Forgets all times and keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
        self.unsorted = false;
    }

    /// Sorts the times, and `values` and `flags` with them, stably. Nothing is dropped: equal times stay
    /// beside each other, and [`Self::is_sorted`] stays false for them.
    ///
    /// # Panics
    /// If `values` are not as many as the times, which is a bug of the caller.
    pub fn sort(&mut self, values: &mut Values, flags: &mut Flags) {
        assert_eq!(self.len, values.len(), "as many times as values");
        if self.is_sorted() {
            return;
        }
        let times: Vec<i64> = self.iter().collect();
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|&index| times[index]);
        let qualities: Vec<_> = flags.iter(times.len()).collect();
        let mut sorted_flags = Flags::default();
        self.clear();
        for (already, &index) in order.iter().enumerate() {
            self.push(times[index]);
            sorted_flags.push(qualities[index], 1, already);
        }
        *values = values.select(&order);
        *flags = sorted_flags;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::Quality;

    fn pushed(times: &[i64]) -> RunTimes {
        let mut collected = RunTimes::new();
        times.iter().for_each(|&t| collected.push(t));
        collected
    }

    #[test]
    fn evenly_spaced_times_become_one_run() {
        let times = pushed(&[100, 10_100, 20_100, 30_100]);
        assert_eq!(times.runs(), [Run { t0_us: 100, period_ns: 10_000_000, count: 4 }]);
        assert_eq!((times.first(), times.last(), times.len()), (Some(100), Some(30_100), 4));
        assert!(times.is_sorted());
    }

    #[test]
    fn bursts_join_only_where_no_time_changes() {
        let mut exact = RunTimes::new();
        exact.push_run(0, 272_727, 1000);
        exact.push_run(272_727, 272_727, 1000);
        assert_eq!(exact.runs().len(), 1, "1000 periods are whole µs");

        // 3 periods are 818.181 µs: the carry of 181 ns would complete a µs too early at i = 3.
        let mut carried = RunTimes::new();
        carried.push_run(0, 272_727, 3);
        carried.push_run(818, 272_727, 4);
        assert_eq!(carried.iter().collect::<Vec<_>>(), [0, 272, 545, 818, 1090, 1363, 1636]);
        let mut whole = RunTimes::new();
        whole.push_run(0, 272_727, 7);
        assert_eq!(whole.iter().collect::<Vec<_>>(), [0, 272, 545, 818, 1090, 1363, 1636]);
        assert_eq!(carried.runs().len(), 1, "here every time is the same either way");

        let mut apart = RunTimes::new();
        apart.push_run(0, 272_727, 4);
        apart.push_run(1090, 272_727, 4);
        assert_eq!(apart.runs().len(), 2, "1090.908 µs leaves a carry that shifts the next time");
        assert_eq!(apart.iter().skip(4).collect::<Vec<_>>(), [1090, 1362, 1635, 1908]);
    }

    #[test]
    fn a_single_time_takes_its_period_from_what_follows() {
        let mut times = pushed(&[0]);
        times.push_run(10_000, 10_000_000, 2);
        assert_eq!(times.runs(), [Run { t0_us: 0, period_ns: 10_000_000, count: 3 }]);
        let mut carried = pushed(&[0]);
        carried.push_run(272, 272_727, 2);
        assert_eq!(carried.iter().collect::<Vec<_>>(), [0, 272, 544], "not 545, which one run would give");
        let far = pushed(&[0, 5_000_000]);
        assert_eq!(far.runs().len(), 2, "5 s in ns are beyond u32");
    }

    #[test]
    fn a_time_at_or_before_its_predecessor_is_unsorted() {
        assert!(!pushed(&[5, 5]).is_sorted());
        assert!(!pushed(&[5, 4]).is_sorted());
        let mut times = RunTimes::new();
        times.push_run(0, 999, 2);
        assert!(!times.is_sorted());
        times.clear();
        times.push_run(i64::MAX - 1, 1_000, 3);
        assert!(!times.is_sorted());
    }

    #[test]
    fn sorting_moves_values_and_flags_with_their_times_and_drops_nothing() {
        let mut times = pushed(&[30, 10, 20, 10]);
        let mut values = Values::I16(vec![3, 1, 2, 11]);
        let mut flags = Flags::all(Quality::OUT_OF_RANGE, 1);
        flags.push(Quality::GOOD, 3, 1);
        times.sort(&mut values, &mut flags);
        assert_eq!(times.iter().collect::<Vec<_>>(), [10, 10, 20, 30]);
        assert_eq!(values, Values::I16(vec![1, 11, 2, 3]));
        assert_eq!(flags.iter(4).map(|q| q.0).collect::<Vec<_>>(), [0, 0, 0, 1]);
        assert!(!times.is_sorted(), "two times are equal");
    }

    proptest! {
        #[test]
        fn pushed_times_come_back_unchanged(
            pieces in prop::collection::vec(
                (-5_000i64..5_000, prop::sample::select(vec![0u32, 1, 999, 1000, 272_727, 272_000, u32::MAX]), 0u32..40),
                0..12,
            ),
            follow in any::<bool>(),
        ) {
            let mut times = RunTimes::new();
            let mut expected = Vec::new();
            for (start, period_ns, count) in pieces {
                // Following runs start where the last would have gone on, give or take a µs.
                let start = match times.runs().last() {
                    Some(last) if follow => last.at(last.count) + start.rem_euclid(2),
                    _ => start,
                };
                times.push_run(start, period_ns, count);
                expected.extend((0..count).map(|i| regular_time(start, period_ns, u64::from(i))));
            }
            prop_assert_eq!(times.iter().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(times.len(), expected.len());
            prop_assert_eq!(times.is_sorted(), expected.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(times.last(), expected.last().copied());
        }

        #[test]
        fn explicit_times_come_back_unchanged(expected in prop::collection::vec(-3_000i64..3_000, 0..60)) {
            prop_assert_eq!(pushed(&expected).iter().collect::<Vec<_>>(), expected);
        }
    }
}

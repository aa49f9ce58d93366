//! What each worker does, instant by instant.
//!
//! A worker is in exactly one state at any time; going into the next one adds the time since the last change
//! to the state that is left. So the times of all states sum up to the time itself, by construction. One
//! worker writes, anybody reads: the word of the present state is marked while the sums change, and a reader
//! that meets the mark, or another word after reading, reads again.

use crate::histogram::{Histogram, Recorder};
use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Waiting for an item.
    Starved,
    /// In an operation, with the pauses between its attempts.
    Busy,
    /// On its way to the pool's thread, or back.
    PoolWait,
    /// Waiting for room in the queue behind it, or in the quarantine.
    Blocked,
    /// Done, but an item before its own is not.
    Turn,
}

pub(crate) const STATES: usize = 5;
const ALL: [Doing; STATES] = [Doing::Starved, Doing::Busy, Doing::PoolWait, Doing::Blocked, Doing::Turn];

/// The word: time in ns from bit 4 on (2^60 ns are 36 years), a mark while sums change, the state.
const MARK: u64 = 8;

/// One worker's book.
#[derive(Debug)]
#[repr(align(128))] // its own cache lines: the neighbour's writes are not to slow it
pub(crate) struct WorkerMeter {
    word: AtomicU64,
    spent: [AtomicU64; STATES],
    taken: AtomicU64,
    given: AtomicU64,
    latency: Recorder,
}

/// A worker's book at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) doing: Doing,
    pub(crate) spent: [u64; STATES],
    pub(crate) taken: u64,
    pub(crate) given: u64,
}

/// Adds to what only one writes.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

impl WorkerMeter {
    pub(crate) fn new(timed: bool) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            word: zero(),
            spent: std::array::from_fn(|_| zero()),
            taken: zero(),
            given: zero(),
            latency: Recorder::new(timed),
        }
    }

    /// Begins to do something else at `now`; answers how long the former took, in ns.
    pub(crate) fn enter(&self, doing: Doing, now: u64) -> u64 {
        let word = self.word.load(Ordering::Relaxed);
        let since = word >> 4;
        let spent = now.saturating_sub(since);
        let next = (now.max(since) << 4) | doing as u64;
        if spent > 0 {
            self.word.store(word | MARK, Ordering::Relaxed);
            fence(Ordering::Release);
            bump(&self.spent[(word & 7) as usize % STATES], spent);
        }
        self.word.store(next, Ordering::Release);
        spent
    }

    /// Time counts from `now` on.
    pub(crate) fn begin(&self, now: u64) {
        self.word.store(now << 4, Ordering::Release);
    }

    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    pub(crate) fn took(&self) {
        bump(&self.taken, 1);
    }

    pub(crate) fn gave(&self, items: u64) {
        bump(&self.given, items);
    }

    /// So many operations took `nanos` in all.
    pub(crate) fn record(&self, operations: u64, nanos: u64) {
        self.latency.record(operations, nanos / operations.max(1));
    }

    pub(crate) fn add_latency_to(&self, histogram: &mut Histogram) {
        self.latency.add_to(histogram);
    }

    /// The book as of `now`: the state of now has its time up to `now` added.
    pub(crate) fn read(&self, now: u64) -> Reading {
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word & MARK == 0 {
                let mut spent = std::array::from_fn(|state| self.spent[state].load(Ordering::Relaxed));
                let (taken, given) = (self.taken.load(Ordering::Relaxed), self.given.load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.word.load(Ordering::Relaxed) == word {
                    let doing = ALL[(word & 7) as usize % STATES];
                    spent[doing as usize] += now.saturating_sub(word >> 4);
                    return Reading { doing, spent, taken, given };
                }
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_belongs_to_exactly_one_state() {
        let meter = WorkerMeter::new(true);
        for (doing, now) in [(Doing::Busy, 10), (Doing::Turn, 17), (Doing::Blocked, 20), (Doing::Starved, 26)] {
            meter.enter(doing, now);
            let reading = meter.read(now + 3);
            assert_eq!(reading.spent.iter().sum::<u64>(), now + 3, "{reading:?}");
        }
        assert_eq!(meter.read(30).spent, [14, 7, 0, 6, 3]);
    }

    #[test]
    fn a_reader_beside_the_writer_never_sees_a_time_twice() {
        let meter = WorkerMeter::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..200_000).for_each(|now| _ = meter.enter(ALL[now as usize % STATES], now)));
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let reading = meter.read(0);
                    let sum: u64 = reading.spent.iter().sum();
                    let since = meter.word.load(Ordering::Relaxed) >> 4;
                    assert!(sum <= since, "{sum} ns of {since}");
                }
            });
        });
        assert_eq!(meter.read(200_000).spent.iter().sum::<u64>(), 200_000);
    }
}

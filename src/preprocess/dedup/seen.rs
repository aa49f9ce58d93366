//! What is remembered of one channel: blocks of samples in the order in which they came.
//!
//! ```text
//!  block: first..last time, scaling   runs:   [t0 period ×3, frame 7] [t0 period ×450, frame 9]
//!                                     values: [. . .][. . . . . . . . . . . . . . . . . . . . ]
//! ```
//! Times increase within a block; a late column opens a block of its own, so blocks may overlap in time.

use std::collections::VecDeque;
use std::ops::Range;

use super::frames::Frames;
use crate::limits::{DEDUP_ASTRAY_MAX, DEDUP_BLOCK_SAMPLES};
use crate::sample::{Column, Scaling, Times, Values, regular_time};

/// A block spans no more than its share of the window, as it is forgotten as a whole.
const BLOCKS_PER_WINDOW: i64 = 4;

/// What is known of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    New,
    /// Another value came with its time.
    Conflict,
    /// It came in this frame.
    Repeat(u64),
}

impl Mark {
    pub(super) fn is_repeat(self) -> bool {
        matches!(self, Self::Repeat(_))
    }
}

/// The memory of one channel.
pub(super) struct Seen {
    blocks: VecDeque<Block>,
    newest_us: i64,
    bytes: usize,
    /// Columns in a row that were older than anything remembered.
    astray: u32,
    /// A block to be filled anew: in the long run nothing is allocated.
    spare: Option<Block>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { blocks: VecDeque::new(), newest_us: i64::MIN, bytes: 0, astray: 0, spare: None }
    }
}

impl Seen {
    /// The newest time heard of.
    pub(super) fn newest_us(&self) -> i64 {
        self.newest_us
    }

    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Remembers the samples of `range`, whose times increase.
    pub(super) fn remember(&mut self, column: &Column, range: Range<usize>, frame: u64, window_us: i64) {
        let (first_us, last_us) = (column.times.at(range.start), column.times.at(range.end - 1));
        if !self
            .blocks
            .back()
            .is_some_and(|block| block.takes(column, first_us, range.len(), window_us / BLOCKS_PER_WINDOW))
        {
            let block = Block::new(column, first_us, self.spare.take());
            self.bytes += block.bytes();
            self.blocks.push_back(block);
        }
        let block = self.blocks.back_mut().expect("one was pushed if there was none");
        let before = block.bytes();
        block.push(column, range, frame, last_us);
        self.bytes += block.bytes() - before;
        self.newest_us = self.newest_us.max(last_us);
    }

    /// Starts over when columns keep coming that are older than all that is remembered: then it was the newest
    /// time that was wrong.
    pub(super) fn start_over_if_astray(&mut self, times: &Times, range: &Range<usize>, window_us: i64) {
        let old = times.at(range.end - 1) < self.newest_us.saturating_sub(window_us);
        self.astray = if old { self.astray + 1 } else { 0 };
        if self.astray >= DEDUP_ASTRAY_MAX {
            self.forget_all();
        }
    }

    /// Forgets what lies further back than `window_us`.
    pub(super) fn forget_before(&mut self, window_us: i64) {
        let oldest_us = self.newest_us.saturating_sub(window_us);
        while self.blocks.front().is_some_and(|block| block.last_us < oldest_us) {
            self.forget_one();
        }
    }

    /// Forgets the half that came first; says how many samples that were.
    pub(super) fn forget_half(&mut self) -> u64 {
        let (half, mut samples) = (self.bytes / 2, 0);
        while self.bytes > half && !self.blocks.is_empty() {
            samples += self.forget_one();
        }
        self.spare = None;
        samples
    }

    /// Forgets everything.
    pub(super) fn forget_all(&mut self) {
        if self.newest_us != i64::MIN {
            *self = Self::default();
        }
    }

    fn forget_one(&mut self) -> u64 {
        let Some(block) = self.blocks.pop_front() else { return 0 };
        self.bytes -= block.bytes();
        let samples = block.values.len() as u64;
        self.spare = Some(block);
        samples
    }

    /// The frame in which the very same burst came, if it did: the usual repetition, found without looking at times.
    pub(super) fn burst(&self, column: &Column, frames: &Frames) -> Option<u64> {
        let Times::Regular { t0, period_ns, count } = column.times else { return None };
        let around = |block: &&Block| block.first_us <= t0.0 && t0.0 <= block.last_us;
        self.blocks.iter().rev().filter(around).find_map(|block| {
            let run = block.runs.get(block.runs.partition_point(|run| block.last_of(run) < t0.0))?;
            let RunTimes::Regular { t0_us, period_ns: period, skip: 0 } = run.times else { return None };
            let same = (t0_us, period, run.count) == (t0.0, period_ns, count)
                && block.scaling == column.channel.scaling
                && all_same_bits(&column.values, &block.values, run.at as usize);
            (same && frames.holds(run.frame)).then_some(run.frame)
        })
    }

    /// Marks the samples of `range`, whose times increase; frames that do not hold are as if never heard of.
    pub(super) fn look_up(&self, column: &Column, range: &Range<usize>, frames: &Frames, marks: &mut Vec<Mark>) {
        marks.clear();
        marks.resize(range.len(), Mark::New);
        let (first_us, last_us) = (column.times.at(range.start), column.times.at(range.end - 1));
        // What came last is what comes again, most often.
        for block in self.blocks.iter().rev().filter(|b| b.first_us <= last_us && b.last_us >= first_us) {
            let comparable = block.scaling == column.channel.scaling && block.values.kind() == column.values.kind();
            let from = block.runs.partition_point(|run| block.last_of(run) < first_us);
            for run in &block.runs[from..] {
                if block.time(run, 0) > last_us {
                    break;
                }
                if frames.holds(run.frame) {
                    let found = |place: usize, at: usize| {
                        let same = comparable && same_bits(&column.values, range.start + place, &block.values, at);
                        if same { Mark::Repeat(run.frame) } else { Mark::Conflict }
                    };
                    block.meet(run, column, range, |place, at| match (marks[place], found(place, at)) {
                        (Mark::Repeat(_), _) => {}
                        (_, mark) => marks[place] = mark,
                    });
                }
            }
            if marks.iter().all(|mark| mark.is_repeat()) {
                return;
            }
        }
    }
}

/// Samples that came one after the other, with the same scaling.
struct Block {
    first_us: i64,
    last_us: i64,
    scaling: Scaling,
    runs: Vec<Run>,
    values: Values,
    /// Times of runs that have no period.
    explicit: Vec<i64>,
}

/// Samples of one frame.
struct Run {
    times: RunTimes,
    frame: u64,
    /// Where they are in the block's values.
    at: u32,
    count: u32,
}

enum RunTimes {
    /// As in [`Times::Regular`], from sample `skip` on: a part of a burst keeps the burst's rounding.
    Regular { t0_us: i64, period_ns: u32, skip: u32 },
    /// In the block's explicit times, from here on.
    Explicit { at: u32 },
}

impl Block {
    fn new(column: &Column, first_us: i64, spare: Option<Self>) -> Self {
        let (mut runs, mut values, mut explicit) = match spare {
            Some(spare) => (spare.runs, spare.values, spare.explicit),
            None => (Vec::new(), Values::empty(column.values.kind()), Vec::new()),
        };
        runs.clear();
        explicit.clear();
        if values.kind() == column.values.kind() {
            values.clear();
        } else {
            values = Values::empty(column.values.kind());
        }
        Self { first_us, last_us: first_us, scaling: column.channel.scaling, runs, values, explicit }
    }

    fn bytes(&self) -> usize {
        let values = self.values.len() * self.values.kind().bytes();
        size_of::<Self>() + self.runs.len() * size_of::<Run>() + values + self.explicit.len() * 8
    }

    fn takes(&self, column: &Column, first_us: i64, count: usize, span_us_max: i64) -> bool {
        first_us > self.last_us
            && first_us.saturating_sub(self.first_us) <= span_us_max
            && self.values.len() + count <= DEDUP_BLOCK_SAMPLES
            && self.values.kind() == column.values.kind()
            && self.scaling == column.channel.scaling
    }

    fn push(&mut self, column: &Column, range: Range<usize>, frame: u64, last_us: i64) {
        let times = match &column.times {
            Times::Regular { t0, period_ns, .. } => {
                RunTimes::Regular { t0_us: t0.0, period_ns: *period_ns, skip: range.start as u32 }
            }
            Times::Explicit(times) => {
                let at = self.explicit.len() as u32;
                self.explicit.extend_from_slice(&times[range.clone()]);
                RunTimes::Explicit { at }
            }
        };
        self.runs.push(Run { times, frame, at: self.values.len() as u32, count: range.len() as u32 });
        self.values.extend_from(&column.values, range);
        self.last_us = last_us;
    }

    fn time(&self, run: &Run, index: u32) -> i64 {
        match run.times {
            RunTimes::Regular { t0_us, period_ns, skip } => regular_time(t0_us, period_ns, u64::from(skip + index)),
            RunTimes::Explicit { at } => self.explicit[(at + index) as usize],
        }
    }

    fn last_of(&self, run: &Run) -> i64 {
        self.time(run, run.count - 1)
    }

    /// Calls `found(place in range, place in values)` for each sample of `range` that has a time of `run`.
    fn meet(&self, run: &Run, column: &Column, range: &Range<usize>, mut found: impl FnMut(usize, usize)) {
        let start_us = column.times.at(range.start);
        let (mut index, mut place) = (first_at(run.count, |index| self.time(run, index) >= start_us), 0);
        if index < run.count {
            let from_us = self.time(run, index);
            place = first_at(range.len() as u32, |place| column.times.at(range.start + place as usize) >= from_us);
        }
        while index < run.count && (place as usize) < range.len() {
            let (mine, theirs) = (column.times.at(range.start + place as usize), self.time(run, index));
            if mine == theirs {
                found(place as usize, (run.at + index) as usize);
            }
            place += u32::from(mine <= theirs);
            index += u32::from(theirs <= mine);
        }
    }
}

/// The first of `0..count` of which `is` holds, as it does for all behind it; `count` if none.
fn first_at(count: u32, is: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if is(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

fn same_bits(a: &Values, i: usize, b: &Values, j: usize) -> bool {
    match (a, b) {
        (Values::I16(a), Values::I16(b)) => a[i] == b[j],
        (Values::I32(a), Values::I32(b)) => a[i] == b[j],
        (Values::F32(a), Values::F32(b)) => a[i].to_bits() == b[j].to_bits(),
        (Values::F64(a), Values::F64(b)) => a[i].to_bits() == b[j].to_bits(),
        _ => false,
    }
}

/// Whether `b` holds the values of `a` from `at` on.
fn all_same_bits(a: &Values, b: &Values, at: usize) -> bool {
    let range = at..at + a.len();
    match (a, b) {
        (Values::I16(a), Values::I16(b)) => *a == b[range],
        (Values::I32(a), Values::I32(b)) => *a == b[range],
        (Values::F32(a), Values::F32(b)) => a.iter().zip(&b[range]).all(|(a, b)| a.to_bits() == b.to_bits()),
        (Values::F64(a), Values::F64(b)) => a.iter().zip(&b[range]).all(|(a, b)| a.to_bits() == b.to_bits()),
        _ => false,
    }
}

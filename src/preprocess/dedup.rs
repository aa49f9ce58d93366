//! Dedup: samples that came before, by identity (car, channel, device, boot, device time).
//!
//! The same device may be heard over two ways, or send bursts that overlap. What was heard of a channel in the last
//! `window` of device time is remembered ([`seen`]), with the frame that it came in ([`frames`]):
//!
//! | before, at the same time | the sample |
//! |---|---|
//! | nothing | is new, however late it is |
//! | the same raw value and scaling | is a duplicate: settled, its frame's receipt joins the original's |
//! | the same, but the original's receipt is void | is new: the original may be lost |
//! | another value | is a conflict: kept, counted, and flagged by readers |
//!
//! Invariants: a sample that nothing is remembered of is never taken for a duplicate; a repetition is never
//! acknowledged before its original is durable, so originals without a receipt of their own are given one that can
//! be joined. A column that is newer than all before it costs its copy and nothing for each sample.
//! Deliberately absent: time by a clock. A channel that falls silent keeps what is remembered of it until memory is
//! short (`limits::DEDUP_BYTES_MAX`): then every channel forgets its older half.

mod frames;
mod seen;

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Context, Reason, StepName};
use crate::ledger::Fate;
use crate::receipt::{Custody, Receipt};
use crate::sample::{Column, Times};
use frames::Frames;
use seen::{Mark, Seen};

/// `[preprocess.dedup]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether repetitions are looked for.
    pub enabled: bool,
    /// How far back in a channel's device time a sample is remembered.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, window: Duration::from_secs(5) }
    }
}

/// Longer than any broker or gateway holds live data back.
const WINDOW_MAX: Duration = Duration::from_secs(3600);

impl Config {
    /// What is wrong, as (key within the section, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        if self.window.is_zero() || self.window > WINDOW_MAX {
            return vec![("window".into(), "window must be above 0 and at most 1h".into())];
        }
        Vec::new()
    }
}

/// What applies to all channels.
pub(super) struct Rules {
    enabled: bool,
    window_us: i64,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self { enabled: config.enabled, window_us: i64::try_from(config.window.as_micros()).unwrap_or(i64::MAX) }
    }
}

/// What the channels of a device share.
#[derive(Default)]
pub(super) struct Device {
    frames: Frames,
    /// The number of the frame that is being looked at.
    frame: u64,
    /// What its channels take in memory, about.
    bytes: usize,
}

impl Device {
    /// What is remembered of its channels, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory is short: each of its channels forgets the older half. Says how many samples that were.
    pub(super) fn forget_half<'l>(&mut self, lanes: impl Iterator<Item = &'l mut Lane>) -> u64 {
        let (mut samples, mut bytes) = (0, 0);
        for lane in lanes {
            samples += lane.seen.forget_half();
            bytes += lane.seen.bytes();
        }
        self.bytes = bytes;
        samples
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, rules: &Rules, custody: &mut Custody) {
        if rules.enabled {
            if custody.receipt.is_none() {
                // Nobody waits for it, but a repetition that came over another way has to: it is the only copy
                // that can be asked for again until this one is durable.
                std::mem::replace(&mut custody.receipt, Receipt::unowed()).settle();
            }
            self.frame = self.frames.open(&custody.receipt);
        }
    }
}

/// What is remembered of one channel; it outlives a change of the configuration.
#[derive(Default)]
pub(super) struct Lane {
    seen: Seen,
}

impl Lane {
    pub(super) fn apply(&mut self, column: &mut Column, rules: &Rules, device: &mut Device, context: &mut Context<'_>) {
        let before = self.seen.bytes();
        if !rules.enabled {
            self.seen.forget_all();
        } else if !column.is_empty() {
            if column.times.at(0) > self.seen.newest_us() && increases(&column.times) {
                self.seen.remember(column, 0..column.len(), device.frame, rules.window_us);
            } else {
                self.look_closer(column, rules, device, context);
            }
            self.seen.forget_before(rules.window_us);
        }
        device.bytes = (device.bytes + self.seen.bytes()).saturating_sub(before);
    }

    /// The same for a column that is late, in part or as a whole.
    fn look_closer(&mut self, column: &mut Column, rules: &Rules, device: &mut Device, context: &mut Context<'_>) {
        let count = column.len();
        let whole = self.seen.burst(column, &device.frames);
        if whole.is_some_and(|frame| device.frames.join(frame, &context.custody.receipt)) {
            let (name, last_us) = (&column.channel.name, column.times.at(count - 1));
            let tell = || format!("{name} at {last_us} µs came before");
            context.counts.add(StepName::Dedup, &"".into(), Reason::Duplicate, count as u64, tell);
            column.retain(&[]);
            return context.settle(Fate::Duplicate, count as u64);
        }
        let mut kept = Vec::new();
        let (mut repeat, mut conflict, mut conflicts) = (None, None, 0);
        let mut marks = Vec::new();
        for range in increasing_ranges(&column.times) {
            self.seen.start_over_if_astray(&column.times, &range, rules.window_us);
            self.marks(column, &range, &device.frames, &context.custody.receipt, &mut marks);
            let mut end = range.start;
            for marks in marks.chunk_by(|a, b| a.is_repeat() == b.is_repeat()) {
                let run = end..end + marks.len();
                end = run.end;
                if marks[0].is_repeat() {
                    repeat = Some(run.end - 1);
                    continue;
                }
                let at = marks.iter().rposition(|mark| matches!(mark, Mark::Conflict));
                conflict = at.map(|at| run.start + at).or(conflict);
                conflicts += marks.iter().filter(|mark| matches!(mark, Mark::Conflict)).count() as u64;
                self.seen.remember(column, run.clone(), device.frame, rules.window_us);
                kept.extend(run);
            }
        }
        let name = &column.channel.name;
        let case = |at: Option<usize>, what: &str| {
            at.map(|at| format!("{name} at {} µs {what}", column.times.at(at))).unwrap_or_default()
        };
        let rule = "".into();
        context.counts.add(StepName::Dedup, &rule, Reason::Conflict, conflicts, || case(conflict, "had another value"));
        let repeats = (count - kept.len()) as u64;
        context.counts.add(StepName::Dedup, &rule, Reason::Duplicate, repeats, || case(repeat, "came before"));
        if repeats > 0 {
            column.retain(&kept);
            context.settle(Fate::Duplicate, repeats);
        }
    }

    /// Marks the samples of `range`, and lets `receipt` join the receipts of the originals.
    fn marks(&self, column: &Column, range: &Range<usize>, frames: &Frames, receipt: &Receipt, marks: &mut Vec<Mark>) {
        // A frame that turns out to be void holds no more, so this ends.
        loop {
            self.seen.look_up(column, range, frames, marks);
            let mut last = None;
            let joined = marks.iter().all(|mark| match mark {
                Mark::Repeat(frame) if last != Some(*frame) => {
                    last = Some(*frame);
                    frames.join(*frame, receipt)
                }
                _ => true,
            });
            if joined {
                return;
            }
        }
    }
}

/// Whether each time is later than the one before.
pub(super) fn increases(times: &Times) -> bool {
    match times {
        Times::Regular { period_ns, count, .. } => *period_ns >= 1_000 || *count <= 1,
        Times::Explicit(times) => times.windows(2).all(|pair| pair[0] < pair[1]),
    }
}

/// The longest ranges in which each time is later than the one before.
fn increasing_ranges(times: &Times) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for index in 0..times.len() {
        match ranges.last_mut() {
            Some(range) if times.at(index - 1) < times.at(index) => range.end = index + 1,
            _ => ranges.push(index..index + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;

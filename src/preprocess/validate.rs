//! Validate: what cannot be is flagged, or dropped and counted.
//!
//! A column is first asked as a whole whether anything can be wrong with it ([`glance`]), in passes over plain
//! slices; only if so each sample is judged by itself ([`judge`]). Both say the same: a glance may be wrong only in
//! asking for a closer look. Verdicts rest on the channel's samples one after the other and never on how they are
//! cut into batches.
//!
//! Invariants: every verdict is counted with its reason; a value that is not finite, not plausible or too late is no
//! measure for those behind it. Deliberately absent: anything learnt of values, which is anomaly's.

mod glance;
mod judge;
mod period;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::counts::Rule;
use super::{Context, Reason, StepName};
use crate::clock::EARLIEST_PLAUSIBLE;
use crate::ledger::Policy;
use crate::sample::{ChannelMeta, ClockBase, Column, Flags, Values};
use judge::{Clock, State, Verdict};

/// `[[preprocess.validate]]`: what is plausible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which channels.
    pub channel: String,
    /// Smallest plausible physical value.
    #[serde(default = "lowest")]
    pub min: f64,
    /// Largest.
    #[serde(default = "highest")]
    pub max: f64,
    /// Fastest plausible change, in units a second.
    pub rate_max: Option<f64>,
    /// How long a value may stay exactly the same.
    #[serde(default, with = "humantime_serde")]
    pub stuck_after: Option<Duration>,
    /// After how many periods without a sample one is missing.
    pub gap_periods: Option<f64>,
    /// After how long without a sample one is missing, for channels without a period.
    #[serde(default, with = "humantime_serde")]
    pub gap_after: Option<Duration>,
    /// Whether a sample older than the newest one is implausible.
    #[serde(default)]
    pub time_backwards: bool,
    /// How far a device with UTC may be ahead of the gateway's clock.
    #[serde(default, with = "humantime_serde")]
    pub time_ahead_max: Option<Duration>,
    /// How far behind.
    #[serde(default, with = "humantime_serde")]
    pub time_behind_max: Option<Duration>,
    /// What happens to an implausible sample.
    #[serde(default)]
    pub action: Action,
    /// The same for one out of range or not finite.
    pub range_action: Option<Action>,
    /// The same for one that changed too fast.
    pub rate_action: Option<Action>,
    /// The same for one that is stuck.
    pub stuck_action: Option<Action>,
    /// The same for one with an implausible time.
    pub time_action: Option<Action>,
}

/// What happens to an implausible sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is stored with a quality flag.
    #[default]
    Flag,
    /// It is dropped and counted under `dropped.validate`.
    Drop,
}

const fn lowest() -> f64 {
    f64::MIN
}
const fn highest() -> f64 {
    f64::MAX
}

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.into(), what));
        if self.min.is_nan() || self.max.is_nan() || self.min > self.max {
            fault("min", format!("min {} must not be above max {}", self.min, self.max));
        }
        if self.rate_max.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            fault("rate_max", "rate_max must be a number above 0, in units a second".into());
        }
        if self.gap_periods.is_some_and(|periods| !periods.is_finite() || periods <= 1.0) {
            fault("gap_periods", "gap_periods must be a number above 1".into());
        }
        if self.gap_periods.is_some() && self.gap_after.is_some() {
            fault("gap_after", "gap_after and gap_periods are two measures of a gap: one of them".into());
        }
        let durations = [
            ("stuck_after", self.stuck_after),
            ("gap_after", self.gap_after),
            ("time_ahead_max", self.time_ahead_max),
            ("time_behind_max", self.time_behind_max),
        ];
        for (key, duration) in durations {
            if duration.is_some_and(|duration| duration.as_micros() == 0 || duration > DURATION_MAX) {
                fault(key, format!("{key} must be above 0 and at most 100 years"));
            }
        }
        faults
    }
}

/// 100 years: added to any plausible time in µs it is far from the end of an i64.
const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// The entries of the list, ready to be matched.
pub(super) struct Rules(Vec<(WildMatch, Arc<Checks>)>);

/// An entry, as it is asked for each sample. Times in µs.
struct Checks {
    rule: Rule,
    min: f64,
    max: f64,
    rate_per_us: Option<f64>,
    stuck_us: Option<i64>,
    gap: Option<Gap>,
    backwards: bool,
    ahead_us: Option<i64>,
    behind_us: Option<i64>,
    /// Verdicts for which a sample is dropped.
    drops: Verdict,
}

/// When samples are missing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gap {
    Periods(f64),
    After(i64),
}

impl Checks {
    fn new(config: &Config) -> Self {
        let us = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let mut drops = Verdict::GOOD;
        for (action, verdict) in [
            (config.range_action, Verdict::OUT_OF_RANGE.with(Verdict::NOT_FINITE)),
            (config.rate_action, Verdict::RATE),
            (config.stuck_action, Verdict::STUCK),
            (config.time_action, Verdict::BACKWARDS.with(Verdict::AHEAD).with(Verdict::BEHIND)),
        ] {
            if action.unwrap_or(config.action) == Action::Drop {
                drops = drops.with(verdict);
            }
        }
        let gap_after = config.gap_after.map(|after| Gap::After(us(after)));
        Self {
            rule: config.channel.as_str().into(),
            // Infinity is no bound, and no value that can be.
            min: config.min.max(f64::MIN),
            max: config.max.min(f64::MAX),
            rate_per_us: config.rate_max.map(|rate| rate / 1e6),
            stuck_us: config.stuck_after.map(us),
            gap: config.gap_periods.map(Gap::Periods).or(gap_after),
            backwards: config.time_backwards,
            ahead_us: config.time_ahead_max.map(us),
            behind_us: config.time_behind_max.map(us),
            drops,
        }
    }

    /// What holds without an entry: values are finite.
    fn none() -> Self {
        Self {
            rule: "".into(),
            min: f64::MIN,
            max: f64::MAX,
            rate_per_us: None,
            stuck_us: None,
            gap: None,
            backwards: false,
            ahead_us: None,
            behind_us: None,
            drops: Verdict::GOOD,
        }
    }

    /// Whether a verdict depends on the samples before.
    fn remembers(&self) -> bool {
        self.rate_per_us.is_some() || self.stuck_us.is_some() || self.gap.is_some() || self.backwards
    }
}

impl Rules {
    pub(super) fn new(config: &[Config]) -> Self {
        Self(config.iter().map(|step| (WildMatch::new(&step.channel), Arc::new(Checks::new(step)))).collect())
    }

    /// What applies to a channel.
    pub(super) fn lane(&self, meta: &Arc<ChannelMeta>) -> Lane {
        let checks = self.0.iter().find(|(pattern, ..)| pattern.matches(&meta.name)).map(|(_, checks)| checks);
        let state = State::new(meta.rate_mhz);
        Lane { asked: checks.is_some(), checks: checks.cloned().unwrap_or_else(|| Arc::new(Checks::none())), state }
    }
}

/// What applies to one channel, and what is known of its latest samples.
pub(super) struct Lane {
    asked: bool,
    checks: Arc<Checks>,
    state: State,
}

impl Lane {
    /// Flags or drops what cannot be.
    pub(super) fn apply(&mut self, column: &mut Column, context: &mut Context<'_>) {
        let whole = matches!(column.values, Values::I16(_) | Values::I32(_));
        if column.is_empty() || (!self.asked && whole) {
            return;
        }
        // A device's own time since its start says nothing beside the gateway's UTC, and a clock that is not set says
        // nothing at all: by that of 1970 all times of today would be impossible.
        let says = context.origin.base == ClockBase::Utc && context.received >= EARLIEST_PLAUSIBLE;
        let clock = says.then_some(Clock { received_us: context.received.0 });
        if !glance::is_good(&self.checks, &mut self.state, column, clock) {
            self.look_closer(column, clock, context);
        }
    }

    fn look_closer(&mut self, column: &mut Column, clock: Option<Clock>, context: &mut Context<'_>) {
        let (count, mut missing, mut any) = (column.len(), 0, Verdict::GOOD);
        let mut verdicts = Vec::with_capacity(count);
        for index in 0..count {
            let (raw, t_us) = (column.values.raw(index), column.times.at(index));
            let sample = judge::Sample { t_us, raw, physical: column.channel.scaling.physical(raw) };
            let (verdict, gone) = self.state.judge(&self.checks, sample, clock);
            (missing, any) = (missing + gone, any.with(verdict));
            verdicts.push(verdict);
        }
        if any == Verdict::GOOD {
            return;
        }
        self.count(column, &verdicts, any, missing, context);
        if any.has(self.checks.drops) {
            let kept: Vec<usize> = (0..count).filter(|&index| !verdicts[index].has(self.checks.drops)).collect();
            column.retain(&kept);
            context.drop(Policy::Validate, (count - kept.len()) as u64);
            verdicts.retain(|verdict| !verdict.has(self.checks.drops));
        }
        if verdicts.iter().any(|verdict| *verdict != Verdict::GOOD) {
            let mut flags = Flags::default();
            for (index, (before, verdict)) in column.flags.iter(verdicts.len()).zip(&verdicts).enumerate() {
                flags.push(before.with(verdict.quality()), 1, index);
            }
            column.flags = flags;
        }
    }

    fn count(&self, column: &Column, verdicts: &[Verdict], any: Verdict, missing: u64, context: &Context<'_>) {
        let rule = &self.checks.rule;
        let words = |index: usize| {
            let (name, unit, t_us) = (&column.channel.name, &column.channel.unit, column.times.at(index));
            format!("{name} {} {unit} at {t_us} µs", column.physical(index))
        };
        for (verdict, reason, _) in Verdict::ALL.into_iter().filter(|(verdict, ..)| any.has(*verdict)) {
            let samples = verdicts.iter().filter(|found| found.has(verdict)).count() as u64;
            let last = verdicts.iter().rposition(|found| found.has(verdict)).unwrap_or_default();
            context.counts.add(StepName::Validate, rule, reason, samples, || words(last));
            if reason == Reason::AfterGap {
                let tell = || format!("{missing} before {}", words(last));
                context.counts.add(StepName::Validate, rule, Reason::Missing, missing, tell);
            }
        }
    }
}

#[cfg(test)]
mod tests;

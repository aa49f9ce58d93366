//! Validate: what cannot be is flagged, or dropped and counted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::counts::Rule;
use super::{Context, Reason, StepName};
use crate::ledger::Policy;
use crate::sample::{ChannelMeta, Column, Flags, Quality, Values};

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
    /// What happens to a sample outside.
    #[serde(default)]
    pub action: Action,
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
        if self.min.is_nan() || self.max.is_nan() || self.min > self.max {
            return vec![("min".into(), format!("min {} must not be above max {}", self.min, self.max))];
        }
        Vec::new()
    }
}

/// The entries of the list, ready to be matched.
pub(super) struct Rules(Vec<(WildMatch, Rule, Config)>);

impl Rules {
    pub(super) fn new(config: &[Config]) -> Self {
        let rule = |step: &Config| (WildMatch::new(&step.channel), step.channel.as_str().into(), step.clone());
        Self(config.iter().map(rule).collect())
    }

    /// What applies to a channel.
    pub(super) fn lane(&self, meta: &Arc<ChannelMeta>) -> Lane {
        let step = self.0.iter().find(|(pattern, ..)| pattern.matches(&meta.name));
        Lane { range: step.map(|(_, rule, step)| (rule.clone(), step.min, step.max, step.action)) }
    }
}

/// What applies to one channel.
pub(super) struct Lane {
    range: Option<(Rule, f64, f64, Action)>,
}

impl Lane {
    /// Flags or drops what is not finite or out of range.
    pub(super) fn apply(&mut self, column: &mut Column, context: &mut Context<'_>) {
        let whole = matches!(column.values, Values::I16(_) | Values::I32(_));
        if self.range.is_none() && whole {
            return;
        }
        let (rule, min, max, action) = self.range.clone().unwrap_or(("".into(), f64::MIN, f64::MAX, Action::Flag));
        let verdict = |value: f64| match value {
            v if !v.is_finite() => Quality::NOT_FINITE,
            v if v < min || v > max => Quality::OUT_OF_RANGE,
            _ => Quality::GOOD,
        };
        let count = column.len();
        let bad: Vec<usize> = (0..count).filter(|&i| verdict(column.physical(i)) != Quality::GOOD).collect();
        let Some(&last) = bad.last() else { return };
        let (name, unit) = (&column.channel.name, &column.channel.unit);
        let tell = || format!("{name} {} {unit}", column.physical(last));
        context.counts.add(StepName::Validate, &rule, Reason::OutOfRange, bad.len() as u64, tell);
        if action == Action::Drop {
            let kept: Vec<usize> = (0..count).filter(|&i| verdict(column.physical(i)) == Quality::GOOD).collect();
            column.retain(&kept);
            context.drop(Policy::Validate, bad.len() as u64);
            return;
        }
        let mut flags = Flags::default();
        for (index, before) in column.flags.iter(count).enumerate() {
            flags.push(before.with(verdict(column.physical(index))), 1, index);
        }
        column.flags = flags;
    }
}

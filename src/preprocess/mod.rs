//! Steps on values, in a fixed order: calibrate, then validate.
//!
//! Steps apply by channel pattern (`*` and `?`). Calibrate composes with the device's scaling, so raw
//! integers stay as they came; validate works on physical values. Whatever is dropped is counted.
//!
//! Deliberately absent so far: dedup of samples, derive, decimate, anomaly, and changing steps at run time.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::item::{Batch, Item};
use crate::ledger::{Fate, Policy};
use crate::limits::RULES_MAX;
use crate::pipeline::Stage;
use crate::sample::{ChannelMeta, Column, Flags, Name, Quality, Scaling, Values};

/// `[preprocess]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[[preprocess.calibrate]]`: the first that matches a channel applies.
    pub calibrate: Vec<Calibrate>,
    /// `[[preprocess.validate]]`: the first that matches a channel applies.
    pub validate: Vec<Validate>,
}

/// A linear correction: `corrected = physical × scale + offset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibrate {
    /// Which channels, e.g. `brake.*`.
    pub channel: String,
    /// Factor.
    #[serde(default = "one")]
    pub scale: f64,
    /// Summand, in the corrected unit.
    #[serde(default)]
    pub offset: f64,
    /// The corrected unit; the device's own if absent.
    pub unit: Option<String>,
}

/// What is plausible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validate {
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

const fn one() -> f64 {
    1.0
}
const fn lowest() -> f64 {
    f64::MIN
}
const fn highest() -> f64 {
    f64::MAX
}

impl Config {
    /// What is wrong, as (key, what would be right).
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (index, step) in self.calibrate.iter().enumerate() {
            if !step.scale.is_finite() || !step.offset.is_finite() || step.scale == 0.0 {
                let what = "scale must be a number other than 0, and offset a number".to_owned();
                faults.push((format!("preprocess.calibrate[{index}].scale"), what));
            }
        }
        for (index, step) in self.validate.iter().enumerate() {
            if step.min.is_nan() || step.max.is_nan() || step.min > step.max {
                let what = format!("min {} must not be above max {}", step.min, step.max);
                faults.push((format!("preprocess.validate[{index}].min"), what));
            }
        }
        faults
    }
}

/// What applies to one channel, and its corrected description.
struct Rules {
    given: Arc<ChannelMeta>,
    corrected: Arc<ChannelMeta>,
    range: Option<(f64, f64, Action)>,
}

/// The stage.
pub struct Preprocess {
    calibrate: Vec<(WildMatch, Calibrate)>,
    validate: Vec<(WildMatch, Validate)>,
    rules: HashMap<Name, Rules>,
}

impl Preprocess {
    /// A stage with the steps of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let calibrate = config.calibrate.iter().map(|step| (WildMatch::new(&step.channel), step.clone()));
        let validate = config.validate.iter().map(|step| (WildMatch::new(&step.channel), step.clone()));
        Self { calibrate: calibrate.collect(), validate: validate.collect(), rules: HashMap::new() }
    }

    fn rules(&mut self, meta: &Arc<ChannelMeta>) -> &Rules {
        let known = self.rules.get(&meta.name);
        // Descriptions are shared, so the same one is nearly always the same allocation.
        if known.is_none_or(|rules| !Arc::ptr_eq(&rules.given, meta)) {
            let rules = self.find(meta);
            if self.rules.len() >= RULES_MAX {
                // Only a cache: whoever sends ever new names pays for it himself.
                self.rules.clear();
            }
            // Devices with like-named channels share an entry; each change only costs a look-up.
            self.rules.insert(meta.name.clone(), rules);
        }
        &self.rules[&meta.name]
    }

    fn find(&self, meta: &Arc<ChannelMeta>) -> Rules {
        let calibrate = self.calibrate.iter().find(|(pattern, _)| pattern.matches(&meta.name));
        let corrected = calibrate.map_or_else(
            || meta.clone(),
            |(_, step)| {
                let Scaling { scale, offset } = meta.scaling;
                let scaling = Scaling { scale: scale * step.scale, offset: offset * step.scale + step.offset };
                let unit = step.unit.as_deref().map_or_else(|| meta.unit.clone(), Into::into);
                Arc::new(ChannelMeta { scaling, unit, ..(**meta).clone() })
            },
        );
        let validate = self.validate.iter().find(|(pattern, _)| pattern.matches(&meta.name));
        let range = validate.map(|(_, step)| (step.min, step.max, step.action));
        Rules { given: meta.clone(), corrected, range }
    }

    /// Applies the steps; samples that a policy drops are settled here.
    fn batch(&mut self, batch: &mut Batch) {
        let mut dropped = 0;
        for column in &mut batch.columns {
            let rules = self.rules(&column.channel);
            let range = rules.range;
            column.channel = rules.corrected.clone();
            dropped += validate(column, range);
        }
        if dropped > 0 {
            batch.columns.retain(|column| !column.is_empty());
            batch.custody.tally.split(dropped).settle(Fate::Dropped(Policy::Validate));
        }
    }
}

/// Flags or drops what is not finite or out of range; returns how many samples were dropped.
fn validate(column: &mut Column, range: Option<(f64, f64, Action)>) -> u64 {
    let whole = matches!(column.values, Values::I16(_) | Values::I32(_));
    if range.is_none() && whole {
        return 0;
    }
    let (min, max, action) = range.unwrap_or((f64::MIN, f64::MAX, Action::Flag));
    let verdict = |value: f64| match value {
        v if !v.is_finite() => Quality::NOT_FINITE,
        v if v < min || v > max => Quality::OUT_OF_RANGE,
        _ => Quality::GOOD,
    };
    let count = column.len();
    if (0..count).all(|index| verdict(column.physical(index)) == Quality::GOOD) {
        return 0;
    }
    if action == Action::Drop {
        let kept: Vec<usize> = (0..count).filter(|&i| verdict(column.physical(i)) == Quality::GOOD).collect();
        column.retain(&kept);
        return (count - kept.len()) as u64;
    }
    let mut flags = Flags::default();
    for (index, before) in column.flags.iter(count).enumerate() {
        flags.push(before.with(verdict(column.physical(index))), 1, index);
    }
    column.flags = flags;
    0
}

impl Stage for Preprocess {
    type In = Item;
    type Out = Item;

    fn name(&self) -> &str {
        "preprocess"
    }

    fn process(&mut self, mut item: Item, out: &mut Vec<Item>) {
        match &mut item {
            Item::Batch(batch) => self.batch(batch),
            // A catalogue announces what will be stored, so it shows the corrected channels.
            Item::Catalogue(catalogue) => {
                for meta in &mut catalogue.channels {
                    *meta = self.rules(meta).corrected.clone();
                }
            }
            Item::Event(_) | Item::Malformed(_) => {}
        }
        out.push(item);
    }
}

#[cfg(test)]
mod tests;

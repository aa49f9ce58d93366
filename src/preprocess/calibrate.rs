//! Calibrate: a device's value corrected, then converted to the unit that is wanted.
//!
//! What is linear composes with the device's scaling, so raw integers stay bit for bit as they came. A polynomial
//! or a table turns the column into f64, with the conversion of units worked into its numbers.
//!
//! Invariants: what is not finite stays so; a unit that cannot be converted leaves the channel as it is, and is
//! counted with the reason. Deliberately absent: several corrections one after the other.

mod correction;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::counts::Rule;
use super::units::{self, Conversion, Unconvertible};
use super::{Context, Reason, StepName};
use crate::limits::{POLYNOMIAL_MAX, TABLE_POINTS_MAX};
use crate::sample::{ChannelMeta, Column, Flags, Quality, Scaling, ValueKind, Values};
use correction::{Curve, Table};

pub use correction::Outside;

/// `[[preprocess.calibrate]]`: at most one of linear, polynomial and table, and then a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which channels, e.g. `brake.*`.
    pub channel: String,
    /// Linear, `physical × scale + offset`: factor.
    pub scale: Option<f64>,
    /// Linear: summand, in the corrected unit.
    pub offset: Option<f64>,
    /// `c0 + c1 × physical + c2 × physical² + …`.
    pub polynomial: Option<Vec<f64>>,
    /// Points (physical, corrected), between which lines are drawn.
    pub table: Option<Vec<[f64; 2]>>,
    /// What happens outside of the table.
    #[serde(default)]
    pub outside: Outside,
    /// The unit to convert from: that of the corrected value, or the device's.
    pub from: Option<String>,
    /// The unit that the channel has from here on.
    pub unit: Option<String>,
}

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.into(), what));
        let linear = self.scale.is_some() || self.offset.is_some();
        let kinds = [("scale", linear), ("polynomial", self.polynomial.is_some()), ("table", self.table.is_some())];
        let given: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        if let [first, second, ..] = given[..] {
            fault(second, format!("{first} and {second} correct in two ways: one of them, the other in no entry"));
        }
        if self.scale.is_some_and(|scale| !scale.is_finite() || scale == 0.0) {
            fault("scale", "scale must be a number other than 0".into());
        }
        if self.offset.is_some_and(|offset| !offset.is_finite()) {
            fault("offset", "offset must be a number".into());
        }
        let wrong = |all: &Vec<f64>| all.is_empty() || all.len() > POLYNOMIAL_MAX || !all.iter().all(|c| c.is_finite());
        if self.polynomial.as_ref().is_some_and(wrong) {
            fault("polynomial", format!("polynomial must be 1 to {POLYNOMIAL_MAX} numbers, lowest power first"));
        }
        match &self.table {
            Some(points) => faults.extend(table_fault(points).map(|what| ("table".into(), what))),
            None if self.outside != Outside::default() => {
                fault("outside", "outside says what happens outside of a table, and there is none".into());
            }
            None => {}
        }
        faults.extend(self.unit_fault(!given.is_empty()));
        faults
    }

    fn unit_fault(&self, corrects: bool) -> Option<(String, String)> {
        match (&self.from, &self.unit) {
            (Some(_), None) => Some(("from".into(), "from needs a unit to convert to".into())),
            (None, Some(unit)) if !corrects && !units::is_known(unit) => {
                let what = format!("no unit is called {unit}; to rename the device's own, add scale = 1");
                Some(("unit".into(), what))
            }
            (Some(from), Some(unit)) => match units::conversion(from, unit).err()? {
                Unconvertible::From => Some(("from".into(), format!("no unit is called {from}"))),
                Unconvertible::To => Some(("unit".into(), format!("no unit is called {unit}"))),
                Unconvertible::Different => {
                    Some(("unit".into(), format!("{from} cannot become {unit}: they measure different things")))
                }
            },
            _ => None,
        }
    }
}

fn table_fault(points: &[[f64; 2]]) -> Option<String> {
    if points.len() < 2 || points.len() > TABLE_POINTS_MAX {
        return Some(format!("a table has 2 to {TABLE_POINTS_MAX} points [physical, corrected]"));
    }
    if !points.iter().flatten().all(|number| number.is_finite()) {
        return Some("every point of a table consists of two numbers".into());
    }
    let wrong = points.windows(2).find(|pair| pair[0][0] >= pair[1][0])?;
    Some(format!("the points' first numbers must increase, but {} comes before {}", wrong[0][0], wrong[1][0]))
}

/// The entries of the list, ready to be matched.
pub(super) struct Rules(Vec<(WildMatch, Rule, Config)>);

impl Rules {
    pub(super) fn new(config: &[Config]) -> Self {
        let rule = |step: &Config| (WildMatch::new(&step.channel), step.channel.as_str().into(), step.clone());
        Self(config.iter().map(rule).collect())
    }

    /// What applies to a channel, once and for all of its samples.
    pub(super) fn lane(&self, meta: &Arc<ChannelMeta>) -> Lane {
        match self.0.iter().find(|(pattern, ..)| pattern.matches(&meta.name)) {
            Some((_, rule, step)) => Lane::new(rule, step, meta),
            None => Lane { corrected: meta.clone(), rule: "".into(), what: What::Relabel },
        }
    }
}

/// What applies to one channel.
pub(super) struct Lane {
    /// The channel's description as everything behind this step sees it.
    pub(super) corrected: Arc<ChannelMeta>,
    rule: Rule,
    what: What,
}

/// What has to be done with a column.
enum What {
    /// Another description is all.
    Relabel,
    /// Each value is computed anew.
    Compute(Scaling, Curve),
    /// Nothing, for this reason.
    Leave(String),
}

impl Lane {
    fn new(rule: &Rule, step: &Config, meta: &Arc<ChannelMeta>) -> Self {
        let curve = step.curve();
        let corrects = curve.is_some() || step.scale.is_some() || step.offset.is_some();
        // A correction says itself what it results in, so without `from` its unit is the one that is wanted.
        let from = step.from.as_deref().or_else(|| (!corrects).then_some(&*meta.unit));
        let conversion = match (from, step.unit.as_deref()) {
            (Some(from), Some(unit)) => units::conversion(from, unit),
            _ => Ok(Conversion { factor: 1.0, offset: 0.0 }),
        };
        let Conversion { factor, offset } = match conversion {
            Ok(conversion) => conversion,
            Err(why) => {
                let (name, unit) = (&meta.name, step.unit.as_deref().unwrap_or_default());
                let why = match why {
                    Unconvertible::Different => format!("'{}' measures something else than '{unit}'", meta.unit),
                    _ if meta.unit.is_empty() => "its device declares no unit: say from what with `from`".into(),
                    _ => format!("its device's unit '{}' is not known: say what it is with `from`", meta.unit),
                };
                let what = What::Leave(format!("{name} stays as it is: {why}"));
                return Self { corrected: meta.clone(), rule: rule.clone(), what };
            }
        };
        let unit = step.unit.as_deref().map_or_else(|| meta.unit.clone(), Into::into);
        let (scaling, kind, what) = match curve {
            Some(curve) => {
                let what = What::Compute(meta.scaling, curve.converted(factor, offset));
                (Scaling::IDENTITY, ValueKind::F64, what)
            }
            None => {
                let linear = meta.scaling.then(step.scale.unwrap_or(1.0), step.offset.unwrap_or(0.0));
                (linear.then(factor, offset), meta.kind, What::Relabel)
            }
        };
        let corrected = Arc::new(ChannelMeta { scaling, unit, kind, ..(**meta).clone() });
        Self { corrected, rule: rule.clone(), what }
    }

    pub(super) fn apply(&mut self, column: &mut Column, context: &mut Context<'_>) {
        let count = column.len();
        match &self.what {
            What::Relabel => {}
            What::Leave(why) => {
                let tell = || why.clone();
                context.counts.add(StepName::Calibrate, &self.rule, Reason::UnitUnknown, count as u64, tell);
            }
            What::Compute(scaling, curve) => {
                let physical = physical(&column.values, *scaling);
                if let Curve::Table(table) = curve {
                    self.outside(table, &physical, column, context);
                }
                column.values = Values::F64(curve.all(physical));
            }
        }
        if !Arc::ptr_eq(&column.channel, &self.corrected) {
            column.channel = self.corrected.clone();
        }
    }

    /// Counts, and flags if that is wanted, what lies outside of the table.
    fn outside(&self, table: &Table, physical: &[f64], column: &mut Column, context: &mut Context<'_>) {
        let outside = |value: &f64| table.is_outside(*value);
        let Some(last) = physical.iter().rposition(outside) else { return };
        let samples = physical.iter().filter(|value| outside(value)).count() as u64;
        let tell = || format!("{} is {} {} before its table", column.channel.name, physical[last], column.channel.unit);
        context.counts.add(StepName::Calibrate, &self.rule, Reason::OutsideTable, samples, tell);
        if table.outside == Outside::Flag {
            let mut flags = Flags::default();
            for (index, (before, value)) in column.flags.iter(physical.len()).zip(physical).enumerate() {
                let quality = if outside(value) { Quality::OUT_OF_RANGE } else { Quality::GOOD };
                flags.push(before.with(quality), 1, index);
            }
            column.flags = flags;
        }
    }
}

impl Config {
    fn curve(&self) -> Option<Curve> {
        let polynomial = self.polynomial.clone().map(Curve::Polynomial);
        polynomial.or_else(|| Some(Curve::Table(Table { points: self.table.clone()?, outside: self.outside })))
    }
}

fn physical(values: &Values, scaling: Scaling) -> Vec<f64> {
    match values {
        Values::I16(v) => v.iter().map(|&raw| scaling.physical(raw.into())).collect(),
        Values::I32(v) => v.iter().map(|&raw| scaling.physical(raw.into())).collect(),
        Values::F32(v) => v.iter().map(|&raw| scaling.physical(raw.into())).collect(),
        Values::F64(v) => v.iter().map(|&raw| scaling.physical(raw)).collect(),
    }
}

#[cfg(test)]
mod tests;

//! Steps on samples, in a fixed order.
//!
//! ```text
//!  batch ─▶ dedup ─▶ calibrate ─▶ validate ─┬────────────▶ anomaly ─▶ decimate ─▶ batch
//!                                           └─▶ derive ─▶ anomaly ─▶ decimate ─▶ batch of derived channels
//! ```
//! The order is fixed since each step relies on those before it: what came twice must not count twice in any
//! statistic; ranges are in corrected units; only plausible values are computed with; anomalies are looked for
//! in all that was measured and computed; and what is thinned away has been looked at first.
//!
//! Steps apply by channel pattern (`*` and `?`); in each list the first entry that matches a channel applies.
//! A step is one file: its `Config` (an entry of the TOML), its `Rules` (all entries, compiled), and its `Lane`
//! (what applies to one channel of one device and boot, with its state). Adding one is a file, a field in
//! [`Config`], [`Rules`] and [`lanes`], and its place in [`stage`].
//!
//! Invariants: samples of a channel keep their order; whatever is flagged, dropped or computed is counted with
//! its rule and reason ([`StepCounts`]); a sample that is dropped is settled in the ledger here; facts stay facts:
//! what is computed goes to a channel of its own, marked as derived, on the ledger's line for these; nothing here
//! reads a clock or does I/O; the rules are exchanged between two batches, or not at all.

mod anomaly;
mod calibrate;
mod context;
mod counts;
mod decimate;
mod dedup;
mod derive;
mod lanes;
mod names;
mod release;
mod stage;
mod units;
mod validate;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::RULES_PER_STEP_MAX;

pub use anomaly::{Config as Anomaly, Detector};
pub use calibrate::{Config as Calibrate, Outside};
pub use counts::{Deed, Rule, StepCounts};
pub use decimate::{Config as Decimate, Keep, Thresholds, When};
pub use dedup::Config as Dedup;
pub use derive::Config as Derive;
pub use names::{Reason, StepName};
pub use stage::{Preprocess, Setup, Swap};
pub use validate::{Action, Config as Validate};

use context::{Aside, Context, From, Outlet};

/// `[preprocess]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[preprocess.dedup]`
    pub dedup: Dedup,
    /// `[[preprocess.calibrate]]`: the first that matches a channel applies.
    pub calibrate: Vec<Calibrate>,
    /// `[[preprocess.validate]]`: the first that matches a channel applies.
    pub validate: Vec<Validate>,
    /// `[[preprocess.derive]]`: each makes one channel.
    pub derive: Vec<Derive>,
    /// `[[preprocess.anomaly]]`: the first that matches a channel applies.
    pub anomaly: Vec<Anomaly>,
    /// `[[preprocess.decimate]]`: the first that matches a channel applies.
    pub decimate: Vec<Decimate>,
    /// `[preprocess.lag]`: when the uplink lags.
    pub lag: Thresholds,
}

impl Config {
    /// The rules as the counts call them: what has none is called nothing, and thinning begins by priority.
    fn rules(&self) -> HashSet<(StepName, Rule)> {
        let priorities = ["low", "normal", "high"].map(|priority| (StepName::Decimate, priority));
        let unnamed = StepName::ALL.map(|step| (step, ""));
        let calibrate = self.calibrate.iter().map(|entry| (StepName::Calibrate, &*entry.channel));
        let validate = self.validate.iter().map(|entry| (StepName::Validate, &*entry.channel));
        let derive = self.derive.iter().map(|entry| (StepName::Derive, &*entry.name));
        let anomaly = self.anomaly.iter().map(|entry| (StepName::Anomaly, &*entry.channel));
        let decimate = self.decimate.iter().map(|entry| (StepName::Decimate, &*entry.channel));
        let listed = calibrate.chain(validate).chain(derive).chain(anomaly).chain(decimate);
        listed.chain(unnamed).chain(priorities).map(|(step, rule)| (step, rule.into())).collect()
    }

    /// What is wrong, as (key, what would be right).
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (key, what) in self.dedup.faults() {
            faults.push((format!("preprocess.dedup.{key}"), what));
        }
        list_faults("calibrate", &self.calibrate, Calibrate::faults, &mut faults);
        list_faults("validate", &self.validate, Validate::faults, &mut faults);
        list_faults("derive", &self.derive, Derive::faults, &mut faults);
        let between = derive::faults_between(&self.derive).into_iter();
        faults.extend(between.map(|(index, key, what)| (format!("preprocess.derive[{index}].{key}"), what)));
        for (index, entry) in self.derive.iter().enumerate() {
            if decimate::may_make(&self.decimate, &entry.name) {
                let what = format!("`{}` is what decimate calls a mean: give it another name", entry.name);
                faults.push((format!("preprocess.derive[{index}].name"), what));
            }
        }
        list_faults("anomaly", &self.anomaly, Anomaly::faults, &mut faults);
        list_faults("decimate", &self.decimate, Decimate::faults, &mut faults);
        faults.extend(self.lag.faults().into_iter().map(|(key, what)| (format!("preprocess.lag.{key}"), what)));
        faults
    }
}

/// The steps that apply, in their order, as the graph of the pipeline shows them: `dedup, calibrate 2, derive 1`.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists = [
            (StepName::Calibrate, self.calibrate.len()),
            (StepName::Validate, self.validate.len()),
            (StepName::Derive, self.derive.len()),
            (StepName::Anomaly, self.anomaly.len()),
            (StepName::Decimate, self.decimate.len()),
        ];
        let dedup = self.dedup.enabled.then(|| StepName::Dedup.as_str().to_owned());
        let rules = lists.into_iter().filter(|(_, rules)| *rules > 0);
        let steps: Vec<String> =
            dedup.into_iter().chain(rules.map(|(step, rules)| format!("{} {rules}", step.as_str()))).collect();
        f.write_str(if steps.is_empty() { "no steps" } else { "" })?;
        f.write_str(&steps.join(", "))
    }
}

fn list_faults<C>(
    list: &str,
    entries: &[C],
    faults_of: impl Fn(&C) -> Vec<(String, String)>,
    faults: &mut Vec<(String, String)>,
) {
    if entries.len() > RULES_PER_STEP_MAX {
        let what = format!("{} entries, at most {RULES_PER_STEP_MAX} are possible", entries.len());
        faults.push((format!("preprocess.{list}"), what));
    }
    for (index, entry) in entries.iter().enumerate() {
        faults.extend(
            faults_of(entry).into_iter().map(|(key, what)| (format!("preprocess.{list}[{index}].{key}"), what)),
        );
    }
}

/// All rules of a configuration, compiled.
pub(crate) struct Rules {
    dedup: dedup::Rules,
    calibrate: calibrate::Rules,
    validate: validate::Rules,
    derive: derive::Rules,
    anomaly: anomaly::Rules,
    decimate: decimate::Rules,
    /// What they are called in the counts.
    names: HashSet<(StepName, Rule)>,
}

impl Rules {
    fn new(config: &Config) -> Self {
        Self {
            names: config.rules(),
            dedup: dedup::Rules::new(&config.dedup),
            calibrate: calibrate::Rules::new(&config.calibrate),
            validate: validate::Rules::new(&config.validate),
            derive: derive::Rules::new(&config.derive),
            anomaly: anomaly::Rules::new(&config.anomaly),
            decimate: decimate::Rules::new(&config.decimate, &config.lag),
        }
    }
}

/// How long the uplink has lagged: the age of the oldest sample that is not in the store though it should be.
/// Zero while all is well.
pub type Lag = Arc<dyn Fn() -> Duration + Send + Sync>;

#[cfg(test)]
mod facts_tests;
#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

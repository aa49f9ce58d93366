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
mod counts;
mod decimate;
mod dedup;
mod derive;
mod lanes;
mod stage;
mod units;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::item::{Batch, Event};
use crate::ledger::{Fate, Ledger, Policy, SourceId};
use crate::limits::RULES_PER_STEP_MAX;
use crate::receipt::{Custody, Receipt};
use crate::sample::{Column, Origin, UnixMicros};

pub use anomaly::Config as Anomaly;
pub use calibrate::{Config as Calibrate, Outside};
pub use counts::{Deed, Rule, StepCounts};
pub use decimate::Config as Decimate;
pub use dedup::Config as Dedup;
pub use derive::Config as Derive;
pub use stage::{Preprocess, Setup, Swap};
pub use validate::{Action, Config as Validate};

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
}

impl Config {
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
        list_faults("anomaly", &self.anomaly, Anomaly::faults, &mut faults);
        list_faults("decimate", &self.decimate, Decimate::faults, &mut faults);
        faults
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

/// A step, in the order in which they apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Repetitions.
    Dedup,
    /// Corrections.
    Calibrate,
    /// Plausibility.
    Validate,
    /// New channels.
    Derive,
    /// Unusual behaviour.
    Anomaly,
    /// Thinning.
    Decimate,
}

impl StepName {
    /// As the API and the metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dedup => "dedup",
            Self::Calibrate => "calibrate",
            Self::Validate => "validate",
            Self::Derive => "derive",
            Self::Anomaly => "anomaly",
            Self::Decimate => "decimate",
        }
    }
}

/// Why a step did what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Dedup: the same sample came before.
    Duplicate,
    /// Dedup: another value came before with the same time; both are kept.
    Conflict,
    /// Dedup: forgotten before the window's end, as memory was short; if these come again, they count as new.
    Forgotten,
    /// Calibrate: the device's unit cannot be converted; the channel is left as it is.
    UnitUnknown,
    /// Calibrate: outside the points of the table.
    OutsideTable,
    /// Validate: outside the declared range.
    OutOfRange,
    /// Validate: not a number, or infinite.
    NotFinite,
    /// Validate: changed faster than declared possible.
    RateOfChange,
    /// Validate: unchanged for longer than declared possible.
    Stuck,
    /// Validate: the first after samples that never came.
    AfterGap,
    /// Validate: never came; counted, as there is nothing to flag.
    Missing,
    /// Validate: older than the one before it.
    TimeBackwards,
    /// Validate: too far ahead of the gateway's clock.
    TimeAhead,
    /// Validate: too far behind the gateway's clock.
    TimeBehind,
}

impl Reason {
    /// As the API and the metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Forgotten => "forgotten",
            Self::UnitUnknown => "unit_unknown",
            Self::OutsideTable => "outside_table",
            Self::OutOfRange => "out_of_range",
            Self::NotFinite => "not_finite",
            Self::RateOfChange => "rate_of_change",
            Self::Stuck => "stuck",
            Self::AfterGap => "after_gap",
            Self::Missing => "missing",
            Self::TimeBackwards => "time_backwards",
            Self::TimeAhead => "time_ahead",
            Self::TimeBehind => "time_behind",
        }
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
}

impl Rules {
    fn new(config: &Config) -> Self {
        Self {
            dedup: dedup::Rules::new(&config.dedup),
            calibrate: calibrate::Rules::new(&config.calibrate),
            validate: validate::Rules::new(&config.validate),
            derive: derive::Rules::new(&config.derive),
            anomaly: anomaly::Rules::new(&config.anomaly),
            decimate: decimate::Rules::new(&config.decimate),
        }
    }
}

/// How long the uplink has lagged: the age of the oldest sample that is not in the store though it should be.
/// Zero while all is well.
pub type Lag = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What a step is handed beside the column.
#[expect(dead_code, reason = "for steps to come")]
struct Context<'a> {
    /// Whose samples these are.
    origin: &'a Arc<Origin>,
    /// When the agent accepted them.
    accepted_at: Instant,
    /// The gateway's UTC then.
    received: UnixMicros,
    /// The batch's receipt and its samples in the ledger.
    custody: &'a mut Custody,
    /// How long the uplink has lagged.
    lag: Duration,
    /// Where it is counted what was done and why.
    counts: &'a StepCounts,
    ledger: &'a Arc<Ledger>,
    /// What comes out beside the batch.
    aside: &'a mut Aside,
}

/// What comes out of the steps beside the batch that went in.
#[derive(Default)]
struct Aside {
    /// Computed channels; those of `derive` are still to be looked at by the steps behind it.
    derived: Vec<Batch>,
    /// What is worth telling a person.
    events: Vec<Event>,
}

impl Context<'_> {
    /// Settles `samples` of the batch as dropped by `policy`.
    fn drop(&mut self, policy: Policy, samples: u64) {
        self.settle(Fate::Dropped(policy), samples);
    }

    /// Settles `samples` of the batch.
    fn settle(&mut self, fate: Fate, samples: u64) {
        if samples > 0 {
            self.custody.tally.split(samples).settle(fate);
        }
    }

    /// Gives out a computed column of this batch's device. `receipt` is a share of the newest frame that it was
    /// computed from, so that a crash before it is durable brings that frame again.
    #[expect(dead_code, reason = "for steps to come")]
    fn derive(&mut self, column: Column, receipt: Receipt) {
        if column.is_empty() {
            return receipt.settle();
        }
        let tally = self.ledger.receive(SourceId::DERIVED, column.len() as u64);
        self.aside.derived.push(Batch {
            origin: self.origin.clone(),
            columns: vec![column],
            accepted_at: self.accepted_at,
            received: self.received,
            custody: Custody { receipt, tally },
        });
    }
}

#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;

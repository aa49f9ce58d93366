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
mod release;
mod stage;
mod units;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::item::{Batch, Event};
use crate::ledger::{Fate, Ledger, Policy, SourceId, Tally};
use crate::limits::RULES_PER_STEP_MAX;
use crate::receipt::{Custody, Receipt};
use crate::sample::{Column, Origin, UnixMicros};

pub use anomaly::{Config as Anomaly, Detector};
pub use calibrate::{Config as Calibrate, Outside};
pub use counts::{Deed, Rule, StepCounts};
pub use decimate::{Config as Decimate, Keep, Priority, Thresholds, When};
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
    /// `[preprocess.lag]`: when the uplink lags.
    pub lag: Thresholds,
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
    /// Validate, derive: not a number, or infinite.
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
    /// Derive: computed.
    Computed,
    /// Derive: computed when the wait was over, though an input could still have come.
    WaitOver,
    /// Derive: computed early, as too much was held.
    HeldTooMuch,
    /// Derive: computed from an input that has a flag.
    DoubtfulInput,
    /// Derive: not computed, an input has no sample so early.
    MissingInput,
    /// Derive: not computed, an input is too old.
    StaleInput,
    /// Derive: not computed, as the time is not after the one before.
    Late,
    /// Derive: not computed, as the device sends a channel of this name.
    NameTaken,
    /// Decimate: not an n-th.
    Every,
    /// Decimate: nothing that is kept of its window.
    Window,
    /// Decimate: within the band around the last one kept.
    Deadband,
    /// Decimate: a mean, made of a window.
    Mean,
    /// Decimate: thinning began, as the uplink lags.
    LagBegan,
    /// Decimate: thinning ended.
    LagEnded,
    /// Anomaly: far from the level before it.
    Spike,
    /// Anomaly: stands still though it usually moves.
    Flatline,
    /// Anomaly: its level has moved.
    Drift,
    /// Anomaly: comes much slower than usual.
    RateDrop,
    /// Anomaly: a channel stopped while its device goes on; counted once.
    Silence,
    /// Anomaly: an event beyond what a device may have in a minute.
    EventWithheld,
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
            Self::Computed => "computed",
            Self::WaitOver => "wait_over",
            Self::HeldTooMuch => "held_too_much",
            Self::DoubtfulInput => "doubtful_input",
            Self::MissingInput => "missing_input",
            Self::StaleInput => "stale_input",
            Self::Late => "late",
            Self::NameTaken => "name_taken",
            Self::Every => "every",
            Self::Window => "window",
            Self::Deadband => "deadband",
            Self::Mean => "mean",
            Self::LagBegan => "lag_began",
            Self::LagEnded => "lag_ended",
            Self::Spike => "spike",
            Self::Flatline => "flatline",
            Self::Drift => "drift",
            Self::RateDrop => "rate_drop",
            Self::Silence => "silence",
            Self::EventWithheld => "event_withheld",
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
            decimate: decimate::Rules::new(&config.decimate, &config.lag),
        }
    }
}

/// How long the uplink has lagged: the age of the oldest sample that is not in the store though it should be.
/// Zero while all is well.
pub type Lag = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What a step is handed beside the column.
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
    /// Batches that all steps have seen, in the order in which they go.
    ready: Vec<Batch>,
    /// Samples that a step held back and that go before the batch that is being looked at.
    earlier: Vec<Batch>,
    /// Computed channels; those of `derive` are still to be looked at by the steps behind it.
    derived: Vec<Batch>,
    /// What is worth telling a person.
    events: Vec<Event>,
}

/// Where steps give out what they held; there also when no batch is.
struct Outlet<'a> {
    /// Whose samples these are.
    origin: &'a Arc<Origin>,
    /// The moment that called for it, if it is known. What waited by a rule is on its way from then on, or it
    /// would be older than D when it comes to delivery.
    now: Option<Instant>,
    counts: &'a StepCounts,
    ledger: &'a Arc<Ledger>,
    aside: &'a mut Aside,
}

/// The frame that held samples came with.
struct From {
    /// A share of its receipt.
    receipt: Receipt,
    accepted_at: Instant,
    received: UnixMicros,
}

impl From {
    /// The same frame, with a further share of its receipt.
    fn share(&self) -> Self {
        Self { receipt: self.receipt.clone(), ..*self }
    }
}

impl Outlet<'_> {
    /// Gives out a computed column. `from` is the oldest frame that is needed to compute it anew, so that a
    /// crash before it is durable brings that frame and, as brokers send in order, those behind it again.
    fn derive(&mut self, column: Column, from: From) {
        if column.is_empty() {
            return from.receipt.settle();
        }
        let tally = self.ledger.receive(SourceId::DERIVED, column.len() as u64);
        let batch = self.batch(column, from, tally);
        self.aside.derived.push(batch);
    }

    /// Gives out samples of an earlier frame that were held back.
    fn give(&mut self, column: Column, from: From, tally: Tally) {
        let batch = self.batch(column, from, tally);
        self.aside.earlier.push(batch);
    }

    fn batch(&self, column: Column, from: From, tally: Tally) -> Batch {
        let From { receipt, accepted_at, received } = from;
        Batch {
            origin: self.origin.clone(),
            columns: vec![column],
            accepted_at: self.now.map_or(accepted_at, |now| now.max(accepted_at)),
            received,
            custody: Custody { receipt, tally },
        }
    }
}

impl Context<'_> {
    /// Where what was held goes, called for by this batch.
    fn outlet(&mut self) -> Outlet<'_> {
        let now = Some(self.accepted_at);
        Outlet { origin: self.origin, now, counts: self.counts, ledger: self.ledger, aside: self.aside }
    }

    /// The batch's frame, with a share of its receipt.
    fn frame(&self) -> From {
        From { receipt: self.custody.receipt.clone(), accepted_at: self.accepted_at, received: self.received }
    }

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
}

#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

//! Delivery: everything that leaves the pipeline becomes durable, in the store or in the spill.
//!
//! ```text
//!              ┌───────── live ─────────▶ store
//!  flushes ─▶ pending                       ▲
//!              └─ not stored by D ─▶ spill ─┘ backlog, oldest first
//! ```
//! Three modes: *direct* (nothing in the spill, the store takes writes), *spilling* (it does not),
//! *draining* (it does, and the backlog goes with a share of the writes beside live data).
//!
//! Invariants: a receipt fires only when the store has acknowledged, or spill or quarantine have synced, or
//! a named policy has dropped and counted; nothing is spilled before D unless memory runs out or the agent
//! stops; a record leaves the spill only after the store has acknowledged it, by the overflow policy or to
//! the quarantine; live data never waits for the backlog; poison blocks nothing; once told to stop it ends
//! within `drain_within`. The only module that sees store and spill.
//!
//! Read `run`, the loop, then `live`, `spilling`, `backlog` and `uplink`, what it decides by subject; `link`
//! and `decide` are pure, `tasks` is all that waits.
//!
//! Deliberately absent so far: adaptive concurrency, priorities, and a ring in memory for the case that
//! neither store nor spill can be written (then the sources are held back).

mod backlog;
mod decide;
mod gone;
mod link;
mod live;
mod poison;
mod quarantine;
pub mod record;
mod run;
mod spilling;
mod stats;
mod tasks;
mod uplink;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::store::{Store, StoreError};

pub use decide::{Decision, backoff, decide};
pub use link::LinkState;
pub use run::{Deliver, Parts};
pub use stats::{DeliverSnapshot, Mode, SpillLedger, StatsHandle};

/// Chunks that close sooner would be mostly overhead.
const FLUSH_AFTER_MIN: Duration = Duration::from_millis(10);
/// Chunks that close later show data too late to be of use.
const FLUSH_AFTER_MAX: Duration = Duration::from_secs(10);
/// Twice the shortest `flush_after`, which may be at most half of it.
const DURABLE_WITHIN_MIN: Duration = Duration::from_millis(20);

/// `[deliver]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// When a chunk closes by age.
    #[serde(with = "humantime_serde")]
    pub flush_after: Duration,
    /// D: what is not stored by then goes to the spill.
    #[serde(with = "humantime_serde")]
    pub durable_within: Duration,
    /// How long a stop may take until what is in memory is durable.
    #[serde(with = "humantime_serde")]
    pub drain_within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flush_after: Duration::from_millis(200),
            durable_within: Duration::from_secs(1),
            drain_within: Duration::from_secs(8),
        }
    }
}

impl Config {
    /// What is wrong, as (key, what would be right). With the keys in `passed_over`, such as
    /// `deliver.flush_after`, nothing is compared: they could not be read.
    #[must_use]
    pub fn faults(&self, passed_over: &[String]) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((format!("deliver.{key}"), what));
        let read = |key: &str| !passed_over.iter().any(|passed| passed.strip_prefix("deliver.") == Some(key));
        let possible = self.durable_within >= DURABLE_WITHIN_MIN;
        if !possible {
            let least = humantime::format_duration(DURABLE_WITHIN_MIN);
            fault("durable_within", format!("must be at least {least}, e.g. \"1s\""));
        }
        let comparable = possible && read("durable_within");
        if !(FLUSH_AFTER_MIN..=FLUSH_AFTER_MAX).contains(&self.flush_after) {
            let [least, most] = [FLUSH_AFTER_MIN, FLUSH_AFTER_MAX].map(humantime::format_duration);
            fault("flush_after", format!("must be from {least} to {most}"));
        } else if comparable && read("flush_after") && self.flush_after > self.durable_within / 2 {
            let half = humantime::format_duration(self.durable_within / 2);
            fault("flush_after", format!("must be at most half of durable_within, that is {half}"));
        }
        if comparable && read("drain_within") && self.drain_within < self.durable_within {
            let least = humantime::format_duration(self.durable_within);
            fault("drain_within", format!("must be at least durable_within, that is {least}"));
        }
        faults
    }
}

/// Connects to the store and checks it, once.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> + Send + Sync>;

#[cfg(test)]
mod tests;

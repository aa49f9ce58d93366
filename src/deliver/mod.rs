//! Delivery: everything that leaves the pipeline becomes durable, in the store or in the spill.
//!
//! ```text
//!              ┌───────── live ─────────▶ store
//!  flushes ─▶ pending                       ▲
//!              └─ not stored by D ─▶ spill ─┘ backlog, oldest first
//! ```
//! # Modes
//! ```text
//!                      ┌──────────┐
//!  not connected yet ─▶│ spilling │
//!                      └──────────┘
//!            a │ ▲ c         b │ ▲ c
//!              ▼ │             ▼ │
//!         ┌────────┐   d   ┌──────────┐   a  the store takes writes, no backlog
//!         │ direct │ ────▶ │ draining │   b  the store takes writes, and there is a backlog
//!         │        │ ◀──── │          │   c  the store takes writes no more
//!         └────────┘   e   └──────────┘   d  what was late has gone to the spill
//!                                         e  the last record is stored
//! ```
//! *The store takes writes* while [`link`] is up: it was connected or probed, and no write has failed since. A write
//! that nobody answered in time counts as failed only if the store answered no later one: a store that is slow and
//! well does not make it flap. *Backlog* are records of the spill that this version can write. [`mode`] decides by
//! these two facts alone, and keeps nothing: what is late (not stored by D) goes to the spill in every mode, and the
//! backlog is written whenever the store takes writes. So a mode says what is, and decides nothing.
//!
//! Live data comes first, the backlog has a share of the writes in flight ([`shares`]): `backlog_share` while live
//! data waits, three quarters alone. A live write that could not be answered by its D is not begun: it would take
//! a place for nothing.
//!
//! While neither store nor spill can be written, memory holds what it may; see `memory`.
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
//! Channels of different priorities come in flushes of their own. Of the live ones the highest priority goes first,
//! each priority has a way into the spill of its own, the backlog comes out by priority, and where something has to be
//! given up the lowest is.
//!
//! How many writes are in flight follows from how long the store takes ([`window`]).

mod backlog;
mod decide;
mod eta;
mod gone;
mod link;
mod live;
mod memory;
mod mode;
mod poison;
mod quarantine;
pub mod record;
mod run;
mod shares;
mod spill_ledger;
mod spilling;
mod stats;
mod tasks;
mod uplink;
mod window;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::limits::{
    BACKLOG_ALONE_PERCENT, BACKLOG_SHARE_PERCENT, WRITES_IN_FLIGHT, WRITES_IN_FLIGHT_MAX, WRITES_IN_FLIGHT_MIN,
};
use crate::store::{Store, StoreError};

pub use decide::{Decision, backoff, decide};
pub use link::LinkState;
pub use mode::{Mode, mode};
pub use run::{Deliver, Parts};
pub use spill_ledger::SpillLedger;
pub use stats::{DeliverSnapshot, Drain, StatsHandle};

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
    /// Most writes in flight to the store, live and backlog together.
    pub writes_in_flight: u16,
    /// Of these, what the backlog has while live data waits, in percent.
    pub backlog_share: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flush_after: Duration::from_millis(200),
            durable_within: Duration::from_secs(1),
            drain_within: Duration::from_secs(8),
            writes_in_flight: WRITES_IN_FLIGHT,
            backlog_share: BACKLOG_SHARE_PERCENT,
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
        if !(WRITES_IN_FLIGHT_MIN..=WRITES_IN_FLIGHT_MAX).contains(&self.writes_in_flight) {
            let [least, most] = [WRITES_IN_FLIGHT_MIN, WRITES_IN_FLIGHT_MAX];
            fault("writes_in_flight", format!("must be from {least} to {most}, e.g. {WRITES_IN_FLIGHT}"));
        }
        if !(1..=BACKLOG_ALONE_PERCENT).contains(&self.backlog_share) {
            let most = BACKLOG_ALONE_PERCENT;
            fault("backlog_share", format!("must be from 1 to {most} percent, e.g. {BACKLOG_SHARE_PERCENT}"));
        }
        faults
    }
}

/// Connects to the store and checks it, once.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> + Send + Sync>;

#[cfg(test)]
mod tests;

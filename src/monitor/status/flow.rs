//! The pipeline in the status.

use serde::Serialize;

use super::Latency;
use crate::pipeline::Order;

/// The stages over the last seconds.
#[derive(Debug, Clone, Serialize)]
pub struct PipelineStatus {
    /// What limits the flow.
    pub verdict: VerdictStatus,
    /// Stage by stage, in the data's order. Names are unique.
    pub stages: Vec<StageStatus>,
}

/// What limits the flow.
#[derive(Debug, Clone, Serialize)]
pub struct VerdictStatus {
    /// What kind of thing.
    pub kind: VerdictKind,
    /// Which stage, or who takes from the outlet; `null` where none is to be named.
    pub stage: Option<String>,
    /// The same in a sentence, with what raising it would gain.
    pub text: String,
}

/// What limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// Nothing.
    Idle,
    /// The stages wait for items.
    Source,
    /// A stage.
    Stage,
    /// Who takes what comes out.
    Outlet,
    /// A pool of threads.
    Pool,
}

/// A stage. Counts are since the agent's start, shares and latencies of the last seconds.
#[derive(Debug, Clone, Serialize)]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Operations at once.
    pub concurrency: usize,
    /// In which order it gives; `null` if it gives nothing.
    pub order: Option<Order>,
    /// Items taken.
    pub taken: u64,
    /// Items given.
    pub given: u64,
    /// Items that failed.
    pub failed: u64,
    /// Of these, dropped.
    pub skipped: u64,
    /// Share of its time in operations; the four sum up to 1.
    pub busy: f64,
    /// Share waiting for items.
    pub starved: f64,
    /// Share waiting for room or for its turn.
    pub blocked: f64,
    /// Share waiting for its pool.
    pub pool_wait: f64,
    /// How long operations took.
    pub latency_ms: Latency,
    /// For how long it has stood still with work to do, s.
    pub stands_still_for_s: Option<f64>,
}

//! What `GET /api/v1/status` answers: the whole agent at one moment, as plain data.
//!
//! Field names are the HTTP contract: a field may be added, none is renamed or removed within `/api/v1`.
//! Durations are in seconds or milliseconds as the name's end says, sizes in bytes, the rest are counts
//! since the agent's start. `null` stands for what is not known (yet).

use serde::Serialize;

mod account;
mod flow;
mod spill;

pub(super) use account::POLICIES;
use account::ledger;
pub use flow::{PipelineStatus, StageStatus, VerdictKind, VerdictStatus};
pub use spill::{DrainStatus, PriorityStatus, RecoveringStatus, SpillState, SpillStatus};

use super::process::ProcessStatus;
use crate::gap::Declared;
use crate::ledger::Snapshot;
use crate::preprocess::Deed;

/// The whole agent at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The agent's id.
    pub agent: String,
    /// The car of the configuration.
    pub car: String,
    /// Since the agent's start, s.
    pub uptime_s: f64,
    /// The gateway's UTC, µs since 1970.
    pub now_us: i64,
    /// What the agent is about.
    pub state: AgentState,
    /// What came in and where it went.
    #[serde(serialize_with = "ledger")]
    pub ledger: Snapshot,
    /// Source by source, in the configuration's order. Names are unique.
    pub sources: Vec<SourceStatus>,
    /// Queue by queue, in the data's order. Names are unique.
    pub queues: Vec<QueueStatus>,
    /// What the stages do with their time, and what limits.
    pub pipeline: PipelineStatus,
    /// The disk queue.
    pub spill: SpillStatus,
    /// The store.
    pub store: StoreStatus,
    /// Which way the data takes.
    pub deliver: DeliverStatus,
    /// The process.
    pub process: ProcessStatus,
    /// How many channels the live board follows.
    pub channels: usize,
    /// What the steps did and why: a line for each step, rule and reason that occurred.
    pub preprocess: Vec<Deed>,
    /// Gaps that were declared, by reason.
    pub gaps: Vec<Declared>,
    /// Which configuration holds.
    pub config: ConfigStatus,
}

/// The configuration that holds, and what became of others.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigStatus {
    /// 1 from the start; each reload that was accepted adds one.
    pub revision: u64,
    /// Since when it holds, UTC µs.
    pub since_us: i64,
    /// Reloads that were refused.
    pub refused: u64,
    /// Why the last reload was refused; empty if it was not.
    pub refusal: String,
}

/// What the agent is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// It opens its spill and connects.
    Starting,
    /// It takes data in.
    Running,
    /// It takes nothing in any more and brings home what it holds.
    Draining,
}

/// A source and its connection.
#[derive(Debug, Clone, Serialize)]
pub struct SourceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `serial`, `mqtt`, ….
    pub kind: String,
    /// Its path or URL, without user and password.
    pub target: String,
    /// Whether it is connected.
    pub state: SourceState,
    /// Why it is down, and what to do; empty if nothing is wrong.
    pub detail: String,
    /// How long it has been in this state, s.
    pub state_for_s: f64,
    /// How often it has connected.
    pub connects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Messages read (MQTT) or reads that brought something (serial).
    pub messages: u64,
    /// Frames decoded.
    pub frames: u64,
    /// Frames or messages that could not be decoded.
    pub malformed: u64,
    /// Bytes that belonged to no frame.
    pub garbage_bytes: u64,
    /// Frames waiting for their catalogue, now.
    pub held_frames: u64,
    /// Since the last byte, s; `null` before the first.
    pub quiet_for_s: Option<f64>,
    /// The devices heard through it, one entry for each of their boots.
    pub devices: Vec<DeviceStatus>,
}

/// The state of a source's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// Trying for the first time, or again right after a loss.
    Connecting,
    /// Open; MQTT: subscribed.
    Connected,
    /// The last try failed.
    Down,
}

/// What came from one boot of a device, by its sequence numbers.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceStatus {
    /// The car that it belongs to.
    pub car: String,
    /// Its name.
    pub device: String,
    /// Its start, as it names it.
    pub boot: u32,
    /// Frames that came.
    pub frames: u64,
    /// Frames that its sequence numbers show as lost on the way to the agent.
    pub frames_lost: u64,
    /// Samples that came.
    pub samples: u64,
    /// Samples that never came, up to its last Status, by its own count.
    pub samples_lost: u64,
    /// Frames that came more than once.
    pub duplicate_frames: u64,
}

/// A bounded queue of the pipeline.
#[derive(Debug, Clone, Serialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Items in it now.
    pub items: u64,
    /// Its bound.
    pub items_max: u64,
    /// Bytes in it now.
    pub bytes: u64,
    /// Its bound in bytes.
    pub bytes_max: u64,
    /// The most items that were ever in it.
    pub items_peak: u64,
    /// How long its senders have waited for room, summed, ms.
    pub blocked_ms: u64,
    /// Share of the last seconds in which it was empty.
    pub empty: f64,
    /// Share in which it was full, in items or in bytes.
    pub full: f64,
}

/// The store.
#[derive(Debug, Clone, Serialize)]
pub struct StoreStatus {
    /// `cassandra` or `sqlite`.
    pub kind: String,
    /// Where it is, without user and password.
    pub url: String,
    /// Whether it takes data.
    pub state: StoreState,
    /// What is wrong, and what to do; empty if nothing is.
    pub detail: String,
    /// Rows that it has acknowledged.
    pub rows_written: u64,
    /// Samples in them.
    pub samples_written: u64,
    /// Their bytes: about, and before compression.
    pub bytes_written: u64,
    /// Writes that wait for its answer, now.
    pub in_flight: u64,
    /// How many may, as its latency allows; 0 while it takes none.
    pub in_flight_limit: u64,
    /// How long recent writes took.
    pub latency_ms: Latency,
}

/// How long recent writes took, ms; `null` before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them took less, ms.
    pub p50: Option<f64>,
    /// 99 of 100 took less, ms.
    pub p99: Option<f64>,
}

/// Whether the store takes data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreState {
    /// Not reached yet.
    Connecting,
    /// It acknowledges in time.
    Up,
    /// Reached, but it does not acknowledge within `durable_within`.
    Stalled,
    /// Not reachable.
    Down,
    /// Reachable, but a person has to act first: schema, credentials.
    Holding,
}

impl StoreState {
    pub(super) const ALL: [Self; 5] = [Self::Connecting, Self::Up, Self::Stalled, Self::Down, Self::Holding];

    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Stalled => "stalled",
            Self::Down => "down",
            Self::Holding => "holding",
        }
    }
}

/// Which way the data takes, and the two times that rule it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct DeliverStatus {
    /// Which way.
    pub mode: DeliverMode,
    /// When what is not stored yet goes to the spill, ms.
    pub durable_within_ms: u64,
    /// When a chunk closes by age, ms.
    pub flush_after_ms: u64,
    /// What is the matter while nothing can be written, and what to do; empty otherwise.
    pub alarm: &'static str,
}

/// Which way the data takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliverMode {
    /// To the store.
    Direct,
    /// To the spill.
    Spilling,
    /// To the store, and the backlog as well.
    Draining,
}

impl DeliverMode {
    pub(super) const ALL: [Self; 3] = [Self::Direct, Self::Spilling, Self::Draining];

    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spilling => "spilling",
            Self::Draining => "draining",
        }
    }
}

//! The spill and the quarantine in the status.

use serde::Serialize;

use crate::priority::Priority;

/// The disk queue.
#[derive(Debug, Clone, Serialize)]
pub struct SpillStatus {
    /// What it is about.
    pub state: SpillState,
    /// What is wrong, and what to do; empty if nothing is.
    pub detail: String,
    /// Whether what is written to it is encrypted.
    pub encrypted: bool,
    /// Segments of spill and quarantine that are under another key than the agent's, left alone.
    pub locked_segments: u64,
    /// Samples in it, still to be stored.
    pub backlog_samples: u64,
    /// Records in it, still to be stored.
    pub backlog_records: u64,
    /// Samples that went into it since the agent's start.
    pub spilled_samples: u64,
    /// What it takes on the disk, bytes.
    pub disk_bytes: u64,
    /// Of these, finished segments that wait to be written again.
    pub reserve_bytes: u64,
    /// What it may take on the disk, bytes.
    pub disk_max_bytes: u64,
    /// Size of a segment, which is what it takes and gives up at a time, bytes.
    pub segment_bytes: u64,
    /// Written since the agent's start, bytes.
    pub written_bytes: u64,
    /// Commits: appends that were joined and made durable by one sync.
    pub commits: u64,
    /// Syncs to the disk.
    pub syncs: u64,
    /// Since its oldest record was accepted, s; `null` if it is empty.
    pub oldest_age_s: Option<f64>,
    /// The queue of each priority; empty where all channels have the same.
    pub priorities: Vec<PriorityStatus>,
    /// Records about what is gone that could not be kept, so that it is declared in the log only.
    pub undeclared_records: u64,
    /// Records in the quarantine.
    pub quarantine_records: u64,
    /// Messages of serial ports that could not be decoded and are lost, since the quarantine could not be written.
    pub quarantine_lost_messages: u64,
    /// How far a drain has come; `null` while none goes on.
    pub drain: Option<DrainStatus>,
    /// How far the scan of an earlier run's backlog has come; `null` when it is
    /// over.
    pub recovering: Option<RecoveringStatus>,
}

/// What the spill holds of one priority.
#[derive(Debug, Clone, Serialize)]
pub struct PriorityStatus {
    /// Which one.
    pub priority: Priority,
    /// Samples in it, still to be stored.
    pub backlog_samples: u64,
    /// Samples that it gave up since the agent's start, for a higher priority or as `spill.overflow` says.
    pub dropped_samples: u64,
    /// What it takes on the disk, bytes.
    pub disk_bytes: u64,
}

/// What the spill is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpillState {
    /// Empty.
    Idle,
    /// Data goes into it.
    Spilling,
    /// Its backlog goes to the store.
    Draining,
    /// Its budget or its disk is used up.
    Full,
    /// Its disk refuses to write.
    Failed,
}

impl SpillState {
    pub(in crate::monitor) const ALL: [Self; 5] =
        [Self::Idle, Self::Spilling, Self::Draining, Self::Full, Self::Failed];

    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Spilling => "spilling",
            Self::Draining => "draining",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

/// How far a drain of the spill has come, in samples.
#[derive(Debug, Clone, Serialize)]
pub struct DrainStatus {
    /// Brought home since it began.
    pub done: u64,
    /// These, and what is still there.
    pub total: u64,
    /// At which mean rate.
    pub rate_per_s: f64,
    /// By how much a second the backlog has shrunk over the last 10 s, what was spilled meanwhile included; `null`
    /// while it does not shrink, and in the first second.
    pub shrinks_per_s: Option<f64>,
    /// How long the rest takes at that, s; `null` likewise.
    pub left_s: Option<f64>,
}

/// How far the scan of what an earlier run left in the spill has come. Until it
/// is over, the backlog is what was found so far.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RecoveringStatus {
    /// Segments scanned.
    pub segments_done: u64,
    /// Of so many.
    pub segments: u64,
    /// Bytes scanned.
    pub bytes_done: u64,
    /// Of so many.
    pub bytes: u64,
}

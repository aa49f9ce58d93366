//! What the queue says about itself and to its owner.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::config::ConfigError;
use super::segment::Gap;
use super::{Position, Record};

/// A snapshot of the queue, taken under one short lock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Records that are durable here and not acked, those in flight included.
    pub backlog_records: u64,
    /// Their weight.
    pub backlog_weight: u64,
    /// Records handed out and not yet acked or nacked.
    pub in_flight_records: u64,
    /// Bytes of all segments, damaged ones kept aside included.
    pub disk_bytes: u64,
    /// The cap on them.
    pub disk_max_bytes: u64,
    /// `segment_bytes`.
    pub segment_bytes: u64,
    /// Segments in use.
    pub segments: u64,
    /// Whether what is written is sealed.
    pub encrypted: bool,
    /// Segments found at start under another key, left alone.
    pub locked_segments: u64,
    /// Bytes of recycled segments that wait; part of `disk_bytes`.
    pub reserve_bytes: u64,
    /// How far the scan of what was there at start has come; `None` when it is
    /// over. Until then `backlog_records` counts what it has found so far.
    pub recovering: Option<Recovering>,
    /// Age of the oldest record, to the second; `None` if there is none or it
    /// was recovered from an earlier process.
    pub oldest: Option<Duration>,
    /// Bytes written to the file system since start.
    pub written_bytes: u64,
    /// Commits that became durable since start.
    pub commits: u64,
    /// Syncs that succeeded since start, of files and directories.
    pub syncs: u64,
    /// Records dropped because the queue was full.
    pub dropped_records: u64,
    /// Their weight.
    pub dropped_weight: u64,
    /// Records found damaged while reading, after recovery.
    pub lost_records: u64,
    /// Records of the observer about what is gone that did not fit.
    pub lost_notes: u64,
    /// Syncs that failed. One of a segment retired it.
    pub failed_syncs: u64,
    /// Writes and creations that failed.
    pub failed_writes: u64,
    /// Reads that failed; the segment is tried again later.
    pub failed_reads: u64,
    /// The last append failed for a fault of the file system.
    pub failing: bool,
    /// The last fault of the file system, with what was being done.
    pub last_error: Option<String>,
}

/// What lies there at start, before anything is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How far the scan of earlier segments has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Recovering {
    /// Segments scanned.
    pub segments_done: u64,
    /// Of so many.
    pub segments: u64,
    /// Their bytes.
    pub bytes_done: u64,
    /// Of so many.
    pub bytes: u64,
}

/// What was found at start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Sound records.
    pub records: u64,
    /// Their weight.
    pub weight: u64,
    /// Segments looked at.
    pub segments: u64,
    /// Bytes looked at.
    pub bytes: u64,
    /// What could not be used, exactly.
    pub gaps: Vec<Gap>,
}

/// A record that left the queue without being acked, or several of one segment
/// of which nothing but their number is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Where it was; `record` is `u32::MAX` of several.
    pub position: Position,
    /// How many: 1, but where only a number is known.
    pub records: u64,
    /// The caller's meta, if it could still be read; unchecked if the payload
    /// could not: the caller has to tell whether it is sound.
    pub meta: Option<Bytes>,
    /// The content, if it could still be read. Of one dropped segment at most
    /// [`super::config::GONE_BYTES_MAX`] are kept in memory at once.
    pub payload: Option<Bytes>,
    /// The caller's weight.
    pub weight: u64,
}

/// Told about every record that comes or goes other than by append and ack, so
/// that the caller's books are exact. Called on the queue's own threads, of a
/// record's fate after it was `recovered`: be short, and do not call back into the queue.
///
/// Three of the calls answer records: what the owner wants to be known about
/// what is gone, of the weight that it says (0, as a rule). They take the way
/// of all records. At most [`super::Config::notes_bytes_max`] of them wait;
/// what is beyond that is left out, logged and counted in
/// [`Stats::lost_notes`].
pub trait Observer: Send + Sync + 'static {
    /// A record of an earlier process was found at start, in order.
    fn recovered(&self, position: Position, meta: &[u8], weight: u64) {
        let _ = (position, meta, weight);
    }
    /// A segment was dropped because the queue was full: all its records that
    /// were still to be handed out, in order. What is answered becomes durable
    /// before its file goes: with the commit for which room was made, in front of its records, or by itself.
    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        let _ = gone;
        Vec::new()
    }
    /// A record that was durable turned out to be damaged when it was read.
    /// What is answered goes with the next commit, or by itself within seconds.
    fn lost(&self, gone: Gone) -> Vec<Record> {
        let _ = gone;
        Vec::new()
    }
    /// Something was found at start that cannot be used; told again at each
    /// start until the segment is finished. What is answered goes the way of
    /// [`Observer::lost`]'s.
    fn damaged(&self, gap: &Gap) -> Vec<Record> {
        let _ = gap;
        Vec::new()
    }
}

/// Observes nothing.
impl Observer for () {}

/// Why the queue could not be opened. Content is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// A setting cannot work.
    #[error("spill settings: {0}")]
    Config(#[from] ConfigError),
    /// Another process has it.
    #[error(
        "spill directory {dir} is in use by another process: stop that one, or give this one a directory of its own"
    )]
    Locked {
        /// The directory.
        dir: String,
    },
    /// The directory cannot be used at all.
    #[error("{what} {dir}: {source}; make it, let the agent's user write it, or name another in the configuration")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The directory.
        dir: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why records were not made durable. All but [`AppendError::Closed`] give
/// every record of the append back.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A cap is met and the policy (or what is in flight) forbids making room.
    #[error("spill is full: {reason}")]
    Full {
        /// The records.
        records: Vec<Record>,
        /// Which cap, with figures.
        reason: String,
    },
    /// The file system failed twice, on two segments. Try again later.
    #[error("spill cannot write: {source}")]
    Io {
        /// The records.
        records: Vec<Record>,
        /// What the system said to the second attempt.
        source: io::Error,
    },
    /// This append can never fit. Split it, or set the record aside.
    #[error("append of {bytes} bytes is larger than the {max} bytes that fit")]
    TooLarge {
        /// The records.
        records: Vec<Record>,
        /// Bytes it would take, or the length of the longest meta.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// The queue was closed.
    #[error("spill is closed")]
    Closed {
        /// The records, unless the closing overtook them.
        records: Vec<Record>,
    },
}

impl AppendError {
    /// The records, to be kept in memory.
    #[must_use]
    pub fn into_records(self) -> Vec<Record> {
        match self {
            Self::Full { records, .. }
            | Self::Io { records, .. }
            | Self::TooLarge { records, .. }
            | Self::Closed { records } => records,
        }
    }
}

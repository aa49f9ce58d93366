//! The disk queue.
pub mod config;
#[cfg(test)]
mod faulty;
mod frame;
pub mod fs;
mod index;
mod queue;
pub mod scan;
mod stats;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;
use serde::Serialize;

pub use config::{Config, ConfigError, Overflow};
pub use fs::{Filesystem, RealFs};
pub use queue::Spill;
pub use scan::{Gap, GapReason, RecordInfo, Scan, ScannedSegment, scan};
pub use stats::{AppendError, Gone, Observer, Recovery, SpillError, Stats};

/// What the queue holds: opaque to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Small and read at start without the payload; at most
    /// [`config::META_BYTES_MAX`] bytes.
    pub meta: Bytes,
    /// The content.
    pub payload: Bytes,
    /// The caller's count of what is in it (samples), for the sums.
    pub weight: u64,
}

/// Where a record lies, in order of appending. Valid until this process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The segment.
    pub segment: u64,
    /// Its place among the records found or written there.
    pub record: u32,
}

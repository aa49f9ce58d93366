//! The disk queue: what cannot be stored now is kept until it can be.
//!
//! It knows nothing of stores, telemetry or ledgers. A record is an opaque
//! payload with a small opaque `meta`, which recovery hands to the caller
//! without the payload, and a `weight`, the caller's count of what is in it.
//! The same type serves as the backlog and, with a directory and a small budget
//! of its own, as the quarantine.
//!
//! # What holds
//! 1. An append is answered only after its records are synced, or with all of
//!    them back. Nothing in between.
//! 2. A durable record leaves only by ack, by the overflow policy (told to the
//!    [`Observer`]) or by damage (told too). After a crash it may come again:
//!    at most what was acked in segments that were not finished.
//! 3. Records come out in the order of their appends; what is nacked takes its
//!    old place.
//! 4. The content of the directory never keeps the queue from starting, and a
//!    fault of the disk never ends it.
//! 5. Disk, memory and queues are bounded; the bounds stand in [`config`].
//! 6. No call to the file system runs on the runtime's workers: one thread
//!    changes the directory, reads run on the blocking pool.
//!
//! # On the disk
//! ```text
//! spill/                    0700, locked by flock on the directory itself
//!   000000000017.seg        0600; the number only rises while anything is there
//!   000000000018.seg        the highest takes the appends
//!   damaged/                finished segments in which something was damaged,
//!     000000000009.seg      at most 1/8 of the budget, oldest removed first
//!
//! a segment:
//!   0          4096                    12288
//!   ├─ commit ─┼─ commit ──────────────┼─ commit ─ ─ ─
//!   │ R R 0000 │ R R R R R R R 0000000 │ R …             0 = zeros to the block
//!
//! a record R, starting on a multiple of 8:
//!   ├ header, 56 bytes ┼ meta ┼ payload ┼ zeros ┤
//!     magic version flags lengths offset segment run sequence weight
//!     CRC of meta and payload, CRC of the header
//! ```
//! `frame` has the header byte by byte. A record is valid only in the file and
//! at the place that its header names. *Run* is the first segment that the
//! writing process made, *sequence* counts its records: together they tell how
//! many records a gap has swallowed.
//!
//! # Writing
//! The appends that wait (up to 1 MiB) become one commit: one write on a fresh
//! block, one `fdatasync`, then all are answered. A segment that would grow
//! beyond `segment_bytes` is closed and the next created; its directory is
//! synced before its first commit counts. An append larger than a segment gets
//! one of its own.
//!
//! After a failed write or sync the segment is retired: it gets no further
//! commit, and what the failed one left is cut off if possible. The records are
//! still in memory and are written to a new segment **under the same sequence
//! numbers**; if that fails too, they go back to the caller and the numbers to
//! whatever comes next. So where two segments claim a number, the later one is
//! right, and recovery drops what a failed commit may have left.
//!
//! When a cap is met, room is made in this order: finished segments, damaged
//! ones kept aside, then by [`Overflow`] the oldest closed segment without a
//! record in flight. Lack of space that only the file system knew of
//! (`ENOSPC`, `EDQUOT`) is treated the same, one step for one append.
//!
//! What the [`Observer`] answers to news of a loss are records like all others:
//! they go in front of the next commit, those about dropped records into the
//! very commit for which room was made.
//!
//! # Reading
//! The index in memory knows where each record lies: 24 bytes a record, so
//! `records_max` = 2 Mi bounds it to 48 MiB. Several records may be in flight;
//! payloads are read when they are handed out and checked again. A record that
//! turns out damaged is told and skipped; a segment that the file system
//! refuses to read is tried again every 5 s while the others go on.
//!
//! # Deleting
//! A segment goes when it is closed and all its records are done; the one that
//! takes appends is closed once it is drained and a second old. Acks are kept
//! in memory only: a crash replays what was acked in unfinished segments, which
//! is harmless where writing twice is.
//!
//! # Recovery
//! Every byte is read and checked. Where no record starts, the next one is
//! searched for in steps of 8 bytes, so damage loses the records it touches and
//! no others. The last commit of a segment may be incomplete
//! ([`GapReason::Torn`]): power went before anybody was told. What is sound in
//! it is kept all the same: those records were accepted, only not promised.
//! Files are never changed; a new process writes to a new segment.
//!
//! # Encryption
//! With a key each record's meta and payload are sealed (`seal`); headers are
//! not, so everything above holds without the key, too. A segment whose records
//! do not open is *locked*: told, counted against the budget, and left alone
//! until a start with its key.
//!
//! # Not here
//! - Preallocated, recycled segments and priorities. The format is ready for
//!   them: a header names its segment, so stale bytes in a recycled file are
//!   foreign.
//! - A checkpoint. A whole segment that vanished between two processes is not
//!   noticed, since segments are acked and deleted in any order.
//! - An index on disk: each start reads everything.
//! - Network file systems: `flock` on a directory does not work there.

pub mod config;
#[cfg(test)]
mod faulty;
mod frame;
pub mod fs;
mod holder;
mod index;
mod notes;
mod queue;
mod recovery;
pub mod repair;
mod room;
pub mod scan;
mod seal;
mod segment;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;
use serde::Serialize;

pub use config::{Config, ConfigError, Overflow};
pub use fs::{Filesystem, RealFs};
pub use holder::in_use;
pub use queue::Spill;
pub use scan::{Scan, ScannedSegment, scan};
pub use seal::SpillKey;
pub use segment::{Gap, GapReason, RecordInfo};
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

//! The disk queue: what cannot be stored now is kept until it can be.
//!
//! It knows nothing of stores, telemetry or ledgers. A record is an opaque
//! payload with a small opaque `meta`, which recovery hands to the caller
//! without the payload, and a `weight`, the caller's count of what is in it.
//! The same type serves as the backlog and, with a directory and a small budget
//! of its own, as the quarantine. [`Queues`] are several of them, by priority,
//! under one budget.
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
//!    changes the directory, reads run on the blocking pool. Only a recycled
//!    file may be removed by the thread of another queue of the budget.
//!
//! # On the disk
//! ```text
//! spill/                    0700, locked by flock on the directory itself
//!   000000000017.seg        0600; numbers only rise and are never given twice
//!   000000000018.seg        the highest takes the appends
//!   000000000012.free       recycled: waits to be renamed and written again
//!   notes                   empty: room that is kept for what is said of a loss
//!   checkpoint              which segments there must be, and the next number
//!   damaged/                finished segments in which something was damaged,
//!     000000000009.seg      at most 1/8 of the budget, oldest removed first
//!
//! a segment, allocated in full when it is made:
//!   0          4096                    12288        16384
//!   ├─ commit ─┼─ commit ──────────────┼─ commit ───┼ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┤
//!   │ R R 0000 │ R R R R R R R 0000000 │ R … 000000 │ zeros, or what an
//!                                                     earlier segment left
//!
//! a record R, starting on a multiple of 8:
//!   ├ header, 56 bytes ┼ meta ┼ payload ┼ zeros ┤
//!     magic version flags lengths offset segment run sequence weight
//!     CRC of meta and payload, CRC of the header
//! ```
//! `frame` has the header byte by byte, `checkpoint` that file. A record is
//! valid only in the file and at the place that its header names: that tells it
//! from what an earlier segment left in a recycled file. *Run* is the first
//! segment that the writing process made, *sequence* counts its records:
//! together they tell how many records a gap has swallowed.
//!
//! # Writing
//! The appends that wait (up to 1 MiB) become one commit: one write on a fresh
//! block, one `fdatasync`, then all are answered. What does not fit into the
//! segment goes to the next: a recycled one under a new number, or a new file;
//! its name is durable before the first byte is written, and the checkpoint
//! lists it before its first append is answered. In a recycled file a commit
//! changes no metadata, so the device writes the commit's blocks and one more.
//! An append larger than a segment gets one of its own.
//!
//! After a failed write or sync the segment is retired: it gets no further
//! commit, its file is not recycled, and what the failed commit left is cut off
//! if possible. The records are still in memory and are written to another
//! segment **under the same sequence numbers**; if that fails too, they go back
//! to the caller and the numbers to whatever comes next. So where two segments
//! claim a number, the later one is right, and recovery drops what a failed
//! commit may have left.
//!
//! When a cap is met, room is made in this order: finished segments, recycled
//! ones, damaged ones kept aside, then by [`Overflow`] the oldest closed segment
//! without a record in flight. Lack of space that only the file system knew of
//! (`ENOSPC`, `EDQUOT`) is treated the same, one step for one append.
//!
//! With `drop-oldest` one recycled segment is held back as soon as anything is
//! dropped. The commit that needs room goes there, and only when it is durable,
//! together with what the [`Observer`] says of the dropped records, is the
//! dropped segment recycled in turn. A crash in between leaves both. Where there
//! is no such segment (the budget is full after a restart, an append is larger
//! than one, a queue gives way to one of higher priority) what is said goes to
//! the file `notes`, which becomes a segment for it, and is made again when the
//! dropped one is gone. Only where others filled the file system before that
//! file could be made does data go before it is durable what is said of it; where
//! a fault has cost that file, it stays until there is another.
//!
//! What the [`Observer`] answers to news of a loss are records like all others,
//! in front of the next commit.
//!
//! # Reading
//! The index in memory has sums for a closed segment, about 200 bytes, and knows
//! where each record lies (24 bytes) only in those that are being read: it scans
//! a segment again when its turn comes. 10 GiB are 1,280 segments of the default
//! size = 256 kB, and a few loaded ones of at most 3 MiB. Several records may be
//! in flight; payloads are read when they are handed out and checked again. A
//! record that turns out damaged is told and skipped; a segment that the file
//! system refuses to read is tried again every 5 s while the others go on.
//!
//! # Recycling
//! A segment goes when it is closed and all its records are done; the one that
//! takes appends is closed once it is drained and a second old. First the
//! checkpoint stops listing it, then it is renamed to `.free`, or removed if
//! `reserve_bytes` wait already. Acks are kept in memory only: a crash replays
//! what was acked in unfinished segments, which is harmless where writing twice
//! is.
//!
//! # Recovery
//! It runs on a thread of its own, oldest segment first, while appends are
//! taken; what it has scanned can be read at once, what was appended since
//! comes out behind all of it. Every byte is read and checked. Where no record
//! starts, the next one is searched for in steps of 8 bytes, so damage loses the
//! records it touches and no others. The last commit of a segment may be
//! incomplete ([`GapReason::Torn`]): power went before anybody was told. What is
//! sound in it is kept all the same: those records were accepted, only not
//! promised. Behind the last commit, bytes that show no sign of this segment
//! were left by an earlier one, or never written, and say nothing. Files are
//! never changed; a new process writes to another segment.
//!
//! A segment that the checkpoint lists and that is not there, or holds none of
//! its own records, is a gap. So is a file that is a copy of one that is there.
//! What the checkpoint does not list is used all the same.
//!
//! # Encryption
//! With a key each record's meta and payload are sealed (`seal`); headers are
//! not, so everything above holds without the key, too. A segment whose records
//! do not open is *locked*: told, counted against the budget, and left alone
//! until a start with its key.
//!
//! # Not here
//! - Whoever puts an older copy of the *newest* segment in its place is not
//!   noticed, as long as it holds one commit of its own: no later segment says
//!   how many records it had. Nor is anything missed without a checkpoint.
//! - An index on disk: each start reads everything, though nobody waits for it.
//! - Network file systems: `flock` on a directory does not work there.

mod budget;
mod checkpoint;
mod commit;
pub mod config;
#[cfg(test)]
mod faulty;
mod frame;
pub mod fs;
mod group;
mod holder;
mod index;
mod notes;
mod queue;
pub mod queues;
mod recovery;
mod recycle;
pub mod repair;
mod room;
pub mod scan;
mod seal;
mod segment;
mod settle;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use bytes::Bytes;
use serde::Serialize;

pub use config::{Config, ConfigError, Overflow};
pub use fs::{Filesystem, RealFs};
pub use holder::in_use;
pub use queue::Spill;
pub use queues::{Place, Queues};
pub use scan::{Scan, ScannedSegment, scan};
pub use seal::SpillKey;
pub use segment::{Gap, GapReason, RecordInfo};
pub use stats::{AppendError, Gone, Observer, Opened, Recovering, Recovery, SpillError, Stats};

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

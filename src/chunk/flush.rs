//! What leaves the stage: rows that are written together, with what is told when they are durable.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use super::bucket::bucket_of;
use crate::item::Malformed;
use crate::ledger::Tally;
use crate::limits::SAMPLES_FLUSH_MAX;
use crate::priority::{Priorities, Priority};
use crate::receipt::Receipt;
use crate::row::{ChunkRow, ExtentRow, Layout, Rows, day_of};
use crate::sample::Origin;

/// Rows that are written together, and what is told when they are durable.
#[derive(Debug)]
pub struct Flush {
    /// Chunks of one partition, or samples that become rows, and whatever came with them.
    pub rows: Rows,
    /// Shares in the receipts of the frames that it was made from.
    pub receipts: Vec<Receipt>,
    /// Its samples in the ledger.
    pub tally: Tally,
    /// When the oldest frame in it was accepted: D counts from here.
    pub accepted_at: Instant,
    /// That of all its channels.
    pub priority: Priority,
}

/// What leaves the pipeline.
#[derive(Debug)]
pub enum Outgoing {
    /// For the store, or the spill.
    Flush(Flush),
    /// For the quarantine.
    Malformed(Malformed),
}

impl Outgoing {
    /// Its weight in a queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Flush(flush) => flush.rows.bytes() + 64 + 32 * flush.receipts.len(),
            Self::Malformed(malformed) => 256 + malformed.payload.len(),
        }
    }
}

/// A closed chunk and the length of its bucket, µs.
pub(super) type Closed = (ChunkRow, i64);

/// What is closed of one device as rows to be written together, the highest priority first: of chunks one partition, of
/// single samples about [`SAMPLES_FLUSH_MAX`].
pub(super) fn parts(
    origin: &Origin,
    closed: impl Iterator<Item = Closed>,
    priorities: &Priorities,
) -> Vec<(Priority, Rows)> {
    // A bucket only where the partition is the whole device's.
    let mut partitions: BTreeMap<(Reverse<Priority>, Option<i64>), Vec<Closed>> = BTreeMap::new();
    for (row, length_us) in closed {
        let bucket = (row.layout == Layout::Chunks).then_some(row.bucket);
        let key = (Reverse(priorities.of(&row.channel)), bucket);
        partitions.entry(key).or_default().push((row, length_us));
    }
    let mut parts = Vec::with_capacity(partitions.len());
    for ((Reverse(priority), bucket), closed) in partitions {
        if bucket.is_some() {
            parts.push((priority, rows(origin, closed)));
            continue;
        }
        let (mut some, mut samples) = (Vec::new(), 0);
        for (row, length_us) in closed {
            samples += u64::from(row.n.unsigned_abs());
            some.push((row, length_us));
            if samples >= SAMPLES_FLUSH_MAX {
                parts.push((priority, rows(origin, std::mem::take(&mut some))));
                samples = 0;
            }
        }
        if !some.is_empty() {
            parts.push((priority, rows(origin, some)));
        }
    }
    parts
}

/// With the extents of their partitions.
fn rows(origin: &Origin, closed: Vec<Closed>) -> Rows {
    let mut lengths: BTreeMap<(Layout, String, i64), i64> = BTreeMap::new();
    let mut chunks = Vec::with_capacity(closed.len());
    for (row, length_us) in closed {
        debug_assert_eq!(bucket_of(row.bucket, length_us), row.bucket);
        let channel = if row.layout == Layout::Rows { row.channel.clone() } else { String::new() };
        let length = lengths.entry((row.layout, channel, row.bucket)).or_insert(length_us);
        *length = length_us.max(*length);
        chunks.push(row);
    }
    let extent = |((layout, channel, bucket), length_us): ((Layout, String, i64), i64)| ExtentRow {
        car: origin.car.to_string(),
        day: day_of(bucket),
        layout: layout.as_str().into(),
        device: origin.device.to_string(),
        channel,
        bucket,
        length_us,
    };
    Rows { extents: lengths.into_iter().map(extent).collect(), chunks, ..Rows::default() }
}

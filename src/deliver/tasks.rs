//! The work that delivery waits for: each piece owns what it works on and gives it back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::record::rows_record;
use crate::chunk::Flush;
use crate::ledger::{Ledger, SourceId};
use crate::row::{ChunkRow, Rows};
use crate::spill::{AppendError, Position, Record, Spill};
use crate::store::{Store, StoreError};

/// A row that the store can never take, and what the store said.
pub(super) type Poison = (ChunkRow, String);

/// A record of the backlog on its way to the store.
pub(super) struct BacklogRecord {
    pub(super) position: Position,
    pub(super) samples: Vec<(SourceId, u64)>,
    pub(super) rows: Rows,
}

/// What came of a piece of work.
pub(super) enum Done {
    Connected(Result<Arc<dyn Store>, StoreError>),
    Live { flush: Box<Flush>, bytes: usize, outcome: Result<Vec<Poison>, StoreError>, took: Duration },
    Backlog { record: Box<BacklogRecord>, outcome: Result<Vec<Poison>, StoreError>, took: Duration },
    Spilled { flushes: Vec<Flush>, outcome: Result<(), SpillFault> },
    Fetched(Vec<(Position, Record)>),
    Probed(Result<(), StoreError>),
    Quarantined { item: super::quarantine::Quarantined, outcome: Result<(), String> },
    Heartbeat,
}

/// Why flushes are not in the spill.
pub(super) enum SpillFault {
    /// A cap is met.
    Full(String),
    /// The disk fails.
    Disk(String),
}

/// Writes `rows`; of rows that the store refuses for good it finds the guilty chunks by halving.
///
/// # Errors
/// The first error that is not the rows' fault; then nothing is known of any of them.
pub(super) async fn write(store: &Arc<dyn Store>, rows: &Rows, until: Instant) -> Result<Vec<Poison>, StoreError> {
    let late = || StoreError::Unavailable { what: "write".into(), reason: "no answer in time".into() };
    tokio::time::timeout_at(until.into(), write_or_halve(store, rows)).await.unwrap_or_else(|_| Err(late()))
}

async fn write_or_halve(store: &Arc<dyn Store>, rows: &Rows) -> Result<Vec<Poison>, StoreError> {
    let reason = match store.write(rows).await {
        Ok(()) => return Ok(Vec::new()),
        Err(StoreError::Rejected { reason }) => reason,
        Err(error) => return Err(error),
    };
    let (only, rest) = match rows.chunks.split_first() {
        // What is not samples is never halved: refused, it is a fault of the schema, not of one row.
        None => return Err(StoreError::Hold { reason, remedy: "check the schema with pitwire schema apply".into() }),
        Some(split) => split,
    };
    if rest.is_empty() && rows.len() == rows.chunks.len() + rows.extents.len() {
        return Ok(vec![(only.clone(), reason)]);
    }
    // First what came beside the chunks, so that a single chunk is all that can be left.
    let beside = Rows { chunks: Vec::new(), ..rows.clone() };
    let middle = rows.chunks.len().div_ceil(2);
    let (left, right) = rows.chunks.split_at(middle);
    let mut poison = Vec::new();
    if beside.len() > beside.extents.len() {
        poison.extend(Box::pin(write_or_halve(store, &beside)).await?);
    }
    for half in [left, right].into_iter().filter(|half| !half.is_empty()) {
        let half = Rows { extents: rows.extents.clone(), chunks: half.to_vec(), ..Rows::default() };
        poison.extend(Box::pin(write_or_halve(store, &half)).await?);
    }
    Ok(poison)
}

/// Makes `flushes` durable in the spill as one unit.
pub(super) async fn spill(spill: Spill, ledger: Arc<Ledger>, flushes: Vec<Flush>) -> Done {
    let record = |flush: &Flush| rows_record(&flush.rows, flush.tally.parts(), &ledger, "");
    let records = flushes.iter().map(record).collect();
    let outcome = match spill.append(records).await {
        Ok(_) => Ok(()),
        Err(error @ (AppendError::Full { .. } | AppendError::TooLarge { .. })) => Err(SpillFault::Full(format!(
            "{error}; free space where spill.dir lies, or raise spill.disk_max; it drains when the store takes data"
        ))),
        Err(error) => Err(SpillFault::Disk(format!("{error}; check the disk where spill.dir lies"))),
    };
    Done::Spilled { flushes, outcome }
}

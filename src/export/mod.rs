//! What a store holds, read back: merged, in order, each sample once; written as files, or compared with
//! what was sent.
//!
//! [`Reader`] is the one way in; [`export()`] writes what it sees, [`audit()`] checks it against a
//! manifest. Reading and writing run side by side, a few blocks apart, so memory does not grow with the
//! length of an export (the reader's module names its bound and where that does not hold).
//!
//! Deliberately absent: uploads, and any printing: words are the command line's affair.

mod arrow;
mod audit;
mod csv;
mod gaps;
mod jsonl;
mod latest;
mod manifest;
mod mapping;
mod merge;
mod parquet;
mod pieces;
mod plan;
mod progress;
mod reader;
mod sessions;
mod shape;
mod sink;
mod target;
#[cfg(test)]
mod testing;
mod time;
mod wide;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use audit::{AuditError, AuditReport, BadSlot, Fault, audit};
pub use gaps::{DeclaredGap, GapQuery, gaps};
pub use manifest::ManifestError;
pub use merge::{Block, ReadCounts, ReadSample, Series};
pub use parquet::{PARQUET_SCHEMA_KEY, PARQUET_SCHEMA_VERSION};
pub use plan::{ChannelFilter, Query};
use progress::Shown;
pub use reader::{Reader, Reading};
pub use sessions::{Lap, Session, Wanted, sessions, time_of};
pub use sink::Format;
pub use time::{TimeError, parse_time, time_text};
pub use wide::{Rule, Wide, WideRows};

use crate::limits::EXPORT_BLOCKS_MAX;
use crate::sample::UnixMicros;
use crate::store::{Store, StoreError};
use target::Target;

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The cars.
    pub cars: Vec<String>,
    /// Patterns of channel names, see [`ChannelFilter`]; none for all.
    pub channels: Vec<String>,
    /// From this UTC on.
    pub from: Option<UnixMicros>,
    /// Before this UTC.
    pub to: Option<UnixMicros>,
    /// In which form.
    pub format: Format,
    /// As a table with a column for each channel instead of a row for each sample.
    pub wide: Option<Wide>,
    /// To which file; stdout if absent.
    pub output: Option<PathBuf>,
    /// What it is an export of, in words: an interrupted one is gone on with if its words are the same. Without them each
    /// export begins anew, and leaves nothing if it is interrupted.
    pub of: Option<String>,
    /// After so long of work what is done is kept, to a file: what a kill costs at most.
    pub checkpoint: Duration,
    /// Show on a terminal how far it is (on stderr).
    pub progress: bool,
}

/// What an export met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSummary {
    /// Rows and samples.
    pub counts: ReadCounts,
    /// Partitions read; 0: the store holds nothing of these cars in this range.
    pub partitions: usize,
}

impl ExportSummary {
    /// Whether everything that the store holds could be read.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.counts.damaged == 0
    }
}

/// Why an export could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The range holds no time.
    #[error("--from is not before --to: nothing lies between them")]
    EmptyRange,
    /// The store did not answer, or a person has to act first.
    #[error("read the store: {0}")]
    Store(#[from] StoreError),
    /// There is no wide table of what was asked for.
    #[error("{0}")]
    Wide(String),
    /// The output could not be written.
    #[error("write {target}: {source}")]
    Output {
        /// The file, or stdout.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// Asked to stop.
    #[error("interrupted; {}", kept_words(.kept.as_deref()))]
    Interrupted {
        /// What the next one goes on with.
        kept: Option<PathBuf>,
    },
    /// Two exports to one file.
    #[error("another export is writing to {part}: wait for it, or name another file", part = .part.display())]
    Busy {
        /// Its folder.
        part: PathBuf,
    },
    /// What lies there is of another export.
    #[error("{part} is what is left of another export, of {of}: run that again, or remove the folder, or name another file", part = .part.display())]
    Another {
        /// The folder.
        part: PathBuf,
        /// What it is an export of.
        of: String,
    },
}

fn kept_words(kept: Option<&Path>) -> String {
    kept.map_or_else(
        || "nothing was left behind".into(),
        |part| format!("the same command goes on with what is in {}", part.display()),
    )
}

impl ExportError {
    /// Whether whoever read the output has gone, as `head` does: no reason for words.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn name(options: &ExportOptions) -> String {
    options.output.as_ref().map_or_else(|| "stdout".into(), |path| path.display().to_string())
}

/// What the writing thread is told: blocks with what was met up to them, and to make it final.
enum Step {
    Write(Block, ReadCounts),
    Commit(ReadCounts),
}

/// Writes what the reader sees until it is told to make it final; answers what is left if it never is.
fn write_steps(mut target: Target, mut todo: mpsc::Receiver<Step>) -> io::Result<Option<PathBuf>> {
    while let Some(step) = todo.blocking_recv() {
        match step {
            Step::Write(block, counts) => target.write(block, &counts)?,
            Step::Commit(counts) => return target.commit(&counts).map(|()| None),
        }
    }
    Ok(target.kept())
}

/// Writes what `store` holds. To a file it goes on where an interrupted one of the same stopped.
///
/// # Errors
/// See [`ExportError`]. Rows that cannot be decoded are no error: they are counted in the summary.
///
/// # Cancel safety
/// Dropping it, or cancelling `stop`, leaves nothing under the final name, and beside it what the next one goes on with;
/// what went to stdout went.
pub async fn export(
    store: Arc<dyn Store>,
    options: &ExportOptions,
    stop: CancellationToken,
) -> Result<ExportSummary, ExportError> {
    if let (Some(from), Some(to)) = (options.from, options.to)
        && from >= to
    {
        return Err(ExportError::EmptyRange);
    }
    // Opened first: a folder that is not there is not found out after an hour of reading.
    let mut target = Target::open(options)?;
    if let Some(counts) = target.complete() {
        // Only the last steps are left of an earlier one.
        let committed = tokio::task::spawn_blocking(move || target.commit(&counts).map(|()| counts)).await;
        let committed = committed.unwrap_or_else(|error| Err(io::Error::other(error)));
        return match committed {
            Ok(counts) => Ok(ExportSummary { counts, partitions: 0 }),
            Err(source) => Err(ExportError::Output { target: name(options), source }),
        };
    }
    let reader = Reader::of_cars(&*store, &options.cars);
    let begin = async {
        let reading = reader.read(&target.left(options).0).await?;
        if target.placed_by(reading.clock_digests()) {
            return Ok(reading);
        }
        tracing::warn!("a device's clock was corrected since the export was interrupted: it begins anew");
        reader.read(&target.left(options).0).await
    };
    let begun = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        begun = begin => Some(begun),
    };
    let Some(begun) = begun else { return Err(ExportError::Interrupted { kept: target.kept() }) };
    let mut reading = begun?;
    target.begin(options, reading.described())?;
    let (query, earlier) = target.left(options);
    if let (true, Some(from)) = (earlier.samples > 0, query.from_us) {
        tracing::info!(samples = earlier.samples, until = time_text(from), "going on with what an earlier export left");
    }
    let (blocks, todo) = mpsc::channel(EXPORT_BLOCKS_MAX);
    let writer = tokio::task::spawn_blocking(move || write_steps(target, todo));

    let mut shown = Shown::new(options.progress);
    let read = async {
        while let Some(block) = reading.next().await? {
            if blocks.send(Step::Write(block, reading.counts().with(&earlier))).await.is_err() {
                break; // The writer ended first, with the reason.
            }
            shown.at(&reading);
        }
        Ok(ExportSummary { counts: reading.counts().with(&earlier), partitions: reading.progress().1 })
    };
    let read = tokio::select! {
        biased;
        () = stop.cancelled() => Err(None),
        read = read => read.map_err(Some),
    };
    shown.end();
    if let Ok(summary) = &read {
        // Fails only if the writer ended first, with the reason.
        let _ = blocks.send(Step::Commit(summary.counts.clone())).await;
    }
    drop(blocks);
    // Waited for in any case: only then is the disk as the next one shall find it.
    let written = writer.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    match (read, written) {
        (Err(None), written) => Err(ExportError::Interrupted { kept: written.unwrap_or_default() }),
        (Err(Some(error)), _) => Err(ExportError::Store(error)),
        (Ok(_), Err(source)) => Err(ExportError::Output { target: name(options), source }),
        (Ok(summary), Ok(_)) => Ok(summary),
    }
}

#[cfg(test)]
mod tests;

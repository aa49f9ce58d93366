//! What a store holds, read back: merged, in order, each sample once; written as files, or compared with
//! what was sent.
//!
//! [`Reader`] is the one way in; [`export()`] writes what it sees, [`audit()`] checks it against a
//! manifest. Reading and writing run side by side, a few blocks apart, so memory does not grow with the
//! length of an export (the reader's module names its bound and where that does not hold).
//!
//! Deliberately absent: Arrow, uploads, and any printing: words are the command line's affair.

mod audit;
mod csv;
mod gaps;
mod jsonl;
mod latest;
mod manifest;
mod mapping;
mod merge;
mod output;
mod parquet;
mod plan;
mod progress;
mod reader;
mod sink;
#[cfg(test)]
mod testing;
mod time;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

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
pub use sink::Format;
pub use time::{TimeError, parse_time};

use crate::limits::EXPORT_BLOCKS_MAX;
use crate::sample::UnixMicros;
use crate::store::{Store, StoreError};
use output::Output;

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
    /// To which file; stdout if absent.
    pub output: Option<PathBuf>,
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
    /// The output could not be written.
    #[error("write {target}: {source}")]
    Output {
        /// The file, or stdout.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// Asked to stop; no file was left behind.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl ExportError {
    /// Whether whoever read the output has gone, as `head` does: no reason for words.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What the writing thread is told.
enum Step {
    Write(Block),
    /// Everything was read: make it final. Without this word nothing is left behind.
    Commit,
}

/// Writes what `store` holds.
///
/// # Errors
/// See [`ExportError`]. Rows that cannot be decoded are no error: they are counted in the summary.
///
/// # Cancel safety
/// Dropping it, or cancelling `stop`, leaves no file behind; what went to stdout went.
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
    let target = options.output.as_ref().map_or_else(|| "stdout".into(), |path| path.display().to_string());
    let failed = |source: io::Error| ExportError::Output { target: target.clone(), source };
    // Opened first: a folder that is not there is not found out after an hour of reading.
    let out = Output::open(options.output.as_deref()).map_err(failed)?;
    let mut sink = sink::sink(options.format, out).map_err(failed)?;
    let (blocks, mut todo) = mpsc::channel(EXPORT_BLOCKS_MAX);
    let writer = tokio::task::spawn_blocking(move || -> io::Result<()> {
        while let Some(step) = todo.blocking_recv() {
            match step {
                Step::Write(block) => sink.write(block)?,
                Step::Commit => return sink.finish()?.commit(),
            }
        }
        Ok(())
    });

    let query = Query {
        from_us: options.from.map(|t| t.0),
        to_us: options.to.map(|t| t.0),
        channels: ChannelFilter::new(&options.channels),
    };
    let mut shown = Shown::new(options.progress);
    let read = async {
        let mut reading = Reader::of_cars(&*store, &options.cars).read(&query).await?;
        while let Some(block) = reading.next().await? {
            if blocks.send(Step::Write(block)).await.is_err() {
                break; // The writer ended first, with the reason.
            }
            shown.at(&reading);
        }
        Ok(ExportSummary { counts: reading.counts().clone(), partitions: reading.progress().1 })
    };
    let read = tokio::select! {
        biased;
        () = stop.cancelled() => Err(ExportError::Interrupted),
        read = read => read.map_err(ExportError::Store),
    };
    shown.end();
    if read.is_ok() {
        // Fails only if the writer ended first, with the reason.
        let _ = blocks.send(Step::Commit).await;
    }
    drop(blocks);
    // Waited for in any case: only then the unfinished file is gone.
    let written = writer.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    let summary = read?;
    written.map_err(failed)?;
    Ok(summary)
}

#[cfg(test)]
mod tests;

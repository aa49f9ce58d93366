//! `pitwire spill export`: the rows go into a store, for a file into one that is gone afterwards, which is then read by
//! the reader that reads all stores. So they are merged, in order and each once, like any export.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Place, Target, each, things, time, within};
use crate::cli::{Failure, Outcome, say, store_config, told_to_stop};
use crate::deliver::record::{Content, Meta};
use crate::export::{ExportOptions, Format, export};
use crate::limits::{FETCH_BYTES_MAX, FLUSH_BYTES_MAX};
use crate::priority::Priority;
use crate::row::Rows;
use crate::spill::{Record, RecordInfo, ScannedSegment};
use crate::store::{self, Store, StoreUrl};

/// Records written to an embedded store in one transaction are joined up to this size: a sync for each would take
/// hours for 2 GiB.
const JOINED_BYTES_MAX: usize = FETCH_BYTES_MAX;
const _: () = assert!(FLUSH_BYTES_MAX <= JOINED_BYTES_MAX);
/// Joined records between the disk and the store.
const WAITING_MAX: usize = 2;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// csv, jsonl or parquet.
    #[arg(long, conflicts_with = "to")]
    format: Option<Format>,
    /// To this file instead of stdout; it appears when it is complete.
    #[arg(short, long, requires = "format")]
    output: Option<PathBuf>,
    /// The car; needed if there are several.
    #[arg(long, requires = "format")]
    car: Option<String>,
    /// Which channels, with * and ?; may be repeated, or separated by commas. All if absent.
    #[arg(long, requires = "format")]
    channel: Vec<String>,
    /// Into this store instead: sqlite:///path, or cassandra://host:port/keyspace with its schema applied.
    #[arg(long)]
    to: Option<String>,
    /// Write what holds no rows (messages that could not be decoded) as files into this directory.
    #[arg(long)]
    raw: Option<PathBuf>,
}

/// What was met on the way.
#[derive(Default)]
struct Met {
    records: u64,
    samples: u64,
    cars: BTreeSet<String>,
    /// Records by the reason for which they were refused.
    reasons: BTreeMap<String, u64>,
    /// Records without rows: written as files, or passed over.
    raw: u64,
    /// Places that are damaged.
    gaps: u64,
    /// Segments sealed under another key.
    locked: u64,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { target, format, output, car, channel, to, raw } = arguments;
    if format.is_none() && to.is_none() && raw.is_none() {
        return Err(Failure::usage(
            "say what to make of it: --format csv|jsonl|parquet, --to sqlite:///path, or --raw DIR for what holds no rows",
        ));
    }
    let place = target.place()?;
    if let Some(raw) = &raw {
        fs::create_dir_all(raw).map_err(|error| Failure::failed(format!("make {}: {error}", raw.display())))?;
    }
    // Beside the output: there is room for it, as a rule, and in /tmp there may be none.
    let beside = output.as_ref().and_then(|output| output.parent()).filter(|folder| !folder.as_os_str().is_empty());
    let near = beside.map_or_else(std::env::temp_dir, Path::to_owned);
    let spool = tempfile::Builder::new().prefix(".pitwire-spill").tempdir_in(&near).map_err(|error| {
        Failure::failed(format!("make a temporary directory in {}: {error}; set TMPDIR to another", near.display()))
    })?;
    let store = match &to {
        Some(url) => {
            let store = store::connect(&store_config(url)?).await.map_err(Failure::failed)?;
            store.check().await.map_err(Failure::failed)?;
            store
        }
        None => {
            let path = spool.path().join("spool.db");
            let path = fs::canonicalize(spool.path()).map_or(path, |spool| spool.join("spool.db"));
            store::connect(&store::Config::for_url(StoreUrl::Sqlite { path })).await.map_err(Failure::failed)?
        }
    };
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        if told_to_stop().await.is_ok() {
            told.cancel();
        }
    });
    let wanted = format.is_some() || to.is_some();
    let filled = fill(place, raw.clone(), wanted, &store);
    let met = tokio::select! {
        met = filled => met?,
        () = stop.cancelled() => return Err(Failure::failed("interrupted; nothing was taken out of the spill")),
    };
    tell(&met, raw.as_deref(), to.as_deref());
    if let Some(format) = format {
        let Some(car) = one_car(car, &met.cars)? else { return damage(&met) };
        let options = ExportOptions {
            cars: vec![car],
            channels: channel,
            from: None,
            to: None,
            format,
            wide: None,
            output,
            // What lies in a spill may be another thing the next time.
            of: None,
            checkpoint: Duration::MAX,
            progress: true,
        };
        let summary = match export(store, &options, stop).await {
            Err(error) if error.is_closed_pipe() => return Ok(()),
            other => other.map_err(Failure::failed)?,
        };
        if !summary.is_complete() {
            return Err(Failure::failed(format!("{} rows are damaged and were left out", summary.counts.damaged)));
        }
    }
    damage(&met)
}

fn damage(met: &Met) -> Outcome {
    if met.locked > 0 {
        let locked = things(met.locked, "segment");
        return Err(Failure::failed(format!("{locked} left out, sealed under another key: name it with --key-file")));
    }
    match met.gaps {
        0 => Ok(()),
        gaps => Err(Failure::failed(format!(
            "{} left out; `pitwire spill verify` says what was in them",
            things(gaps, "damaged place")
        ))),
    }
}

fn one_car(car: Option<String>, cars: &BTreeSet<String>) -> Result<Option<String>, Failure> {
    match (car, cars.len()) {
        (Some(car), _) => Ok(Some(car)),
        (None, 0) => Ok(None),
        (None, 1) => Ok(cars.first().cloned()),
        (None, _) => {
            let cars: Vec<&str> = cars.iter().map(String::as_str).collect();
            Err(Failure::usage(format!("there are samples of several cars: name one with --car: {}", cars.join(", "))))
        }
    }
}

fn tell(met: &Met, raw: Option<&Path>, to: Option<&str>) {
    for (reason, records) in &met.reasons {
        say(&format!("pitwire: {}: {reason}", things(*records, "record")));
    }
    match raw {
        Some(dir) if met.raw > 0 => say(&format!("pitwire: {} in {}", things(met.raw, "raw record"), dir.display())),
        None if met.raw > 0 => {
            say(&format!("pitwire: {} without rows passed over: --raw DIR writes them", things(met.raw, "record")));
        }
        _ => {}
    }
    let into = to.map_or_else(String::new, |url| format!(" into {url}"));
    say(&format!("pitwire: {} with {}{into}", things(met.records, "record"), things(met.samples, "sample")));
}

/// Reads the directory and writes what it holds to `store`, and to `raw` what is no rows.
async fn fill(place: Place, raw: Option<PathBuf>, rows: bool, store: &Arc<dyn Store>) -> Result<Met, Failure> {
    let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
    let join = store.kind() == "sqlite";
    let reading = tokio::task::spawn_blocking(move || {
        let mut met = Met::default();
        let mut joined = Joined { rows: Rows::default(), bytes: 0, join, sender };
        each(&place, "read", |priority, segment| {
            if segment.is_locked() {
                met.locked += 1;
                return Ok(());
            }
            met.gaps += u64::from(segment.is_damaged()) * segment.gaps.len() as u64;
            for record in &segment.records {
                take((priority, &segment), record, raw.as_deref(), rows.then_some(&mut joined), &mut met)?;
            }
            Ok(())
        })?;
        joined.give();
        Ok(met)
    });
    while let Some(rows) = waiting.recv().await {
        store.write(&rows).await.map_err(|error| Failure::failed(format!("write the rows: {error}")))?;
    }
    reading.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Rows on their way to the store.
struct Joined {
    rows: Rows,
    bytes: usize,
    /// Whether one write may be of several records.
    join: bool,
    sender: mpsc::Sender<Rows>,
}

impl Joined {
    fn add(&mut self, rows: Rows) {
        if !self.join || self.bytes + rows.bytes() > JOINED_BYTES_MAX {
            self.give();
        }
        self.bytes += rows.bytes();
        self.rows.extents.extend(rows.extents);
        self.rows.chunks.extend(rows.chunks);
        self.rows.channels.extend(rows.channels);
        self.rows.clocks.extend(rows.clocks);
        self.rows.events.extend(rows.events);
        self.rows.sessions.extend(rows.sessions);
    }

    fn give(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if !rows.is_empty() {
            // It fails only after the writing has failed, with the reason.
            let _ = self.sender.blocking_send(rows);
        }
    }
}

/// One record: rows to the store, anything else to a file.
fn take(
    (priority, segment): (Priority, &ScannedSegment),
    info: &RecordInfo,
    raw: Option<&Path>,
    joined: Option<&mut Joined>,
    met: &mut Met,
) -> Outcome {
    let record = match segment.read(info) {
        Ok(record) => record,
        // Its agent was faster.
        Err(_) if !segment.path.exists() => return Ok(()),
        Err(error) => return Err(Failure::failed(format!("read segment {}: {error}", within(priority, segment.id)))),
    };
    let meta = Meta::decode(&info.meta);
    let (reason, content) = match &meta {
        Some(meta) => (meta.reason.clone(), Some(&meta.content)),
        None => ("its description cannot be read".into(), None),
    };
    if !reason.is_empty() {
        *met.reasons.entry(reason.clone()).or_default() += 1;
    }
    let rows = match content {
        Some(Content::Message { .. }) => Err(reason),
        _ => Rows::decode(&record.payload).map_err(|error| error.to_string()),
    };
    match rows {
        Ok(rows) => {
            met.records += 1;
            met.samples += rows.samples();
            met.cars.extend(rows.chunks.iter().map(|chunk| chunk.car.clone()));
            if let Some(joined) = joined {
                joined.add(rows);
            }
        }
        Err(reason) => {
            met.raw += 1;
            if let Some(dir) = raw {
                write_raw(dir, (priority, segment.id), info, meta.as_ref(), &record, &reason)?;
            }
        }
    }
    Ok(())
}

/// What stands beside a raw record.
#[derive(Serialize)]
struct Beside<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<String>,
    sources: Vec<&'a str>,
    segment: u64,
    offset: u32,
    bytes: usize,
}

fn write_raw(
    dir: &Path,
    (priority, id): (Priority, u64),
    info: &RecordInfo,
    meta: Option<&Meta>,
    record: &Record,
    reason: &str,
) -> Outcome {
    let (topic, received_us) = match meta.map(|meta| &meta.content) {
        Some(Content::Message { topic, received_us }) => (Some(topic.as_str()), Some(*received_us)),
        _ => (None, None),
    };
    let sources = meta.map(|meta| meta.samples.iter().map(|(name, _)| name.as_str()).collect()).unwrap_or_default();
    let beside = Beside {
        reason,
        topic,
        received_us,
        received: received_us.map(time),
        sources,
        segment: id,
        offset: info.offset,
        bytes: record.payload.len(),
    };
    // The same record has the same name each time.
    let name = within(priority, format!("{id:012}-{:010}", info.offset)).replace('/', "-");
    let json = serde_json::to_vec_pretty(&beside).map_err(Failure::failed)?;
    for (extension, bytes) in [("bin", &record.payload[..]), ("json", &json)] {
        let path = dir.join(format!("{name}.{extension}"));
        fs::write(&path, bytes).map_err(|error| Failure::failed(format!("write {}: {error}", path.display())))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;

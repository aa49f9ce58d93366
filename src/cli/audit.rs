//! `pitwire audit`

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::{Failure, Outcome, print, say, store_config};
use crate::export::{AuditReport, audit};
use crate::store;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What was sent: the file that firmware-sim wrote with --manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// cassandra://host:port[,host:port]/keyspace or sqlite:///path
    #[arg(long)]
    store: String,
    /// One JSON line on stdout: sent, found, missing, extra, altered, unlisted, rows, declared.
    #[arg(long)]
    json: bool,
    /// Print each second of a channel that is not as it was sent.
    #[arg(long)]
    by_slot: bool,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let path = arguments.manifest.display();
    let file = File::open(&arguments.manifest).map_err(|error| Failure::failed(format!("open {path}: {error}")))?;
    let store = store::connect_to_read(&store_config(&arguments.store)?).await.map_err(Failure::failed)?;
    let report =
        audit(BufReader::new(file), &*store).await.map_err(|error| Failure::failed(format!("{path}: {error}")))?;
    if arguments.by_slot {
        for slot in &report.bad_slots {
            print(&serde_json::to_string(slot).map_err(Failure::failed)?)?;
        }
    }
    for damage in &report.damages {
        say(&format!("pitwire: {damage}"));
    }
    if arguments.json {
        print(&serde_json::to_string(&report).map_err(Failure::failed)?)?;
    } else {
        print(&in_words(&report))?;
    }
    if report.sent == 0 {
        return Err(Failure::failed(format!("{path}: names no samples, so nothing was compared")));
    }
    if report.is_exact() { Ok(()) } else { Err(Failure::failed("the store does not hold exactly what was sent")) }
}

/// One line for a person.
pub(super) fn in_words(report: &AuditReport) -> String {
    let AuditReport { sent, found, missing, extra, altered, unlisted, rows, declared, .. } = report;
    let words = format!(
        "sent {sent}, found {found} in {rows} rows: {missing} missing, {extra} extra, {altered} altered, {unlisted} unlisted"
    );
    if *missing == 0 { words } else { format!("{words}; gap events speak of {declared} of the missing") }
}

//! `pitwire spill`: looks into the directory of a running or a dead agent, and mends that of a dead one.
//!
//! Invariants: `ls`, `verify` and `export` take no lock and change nothing. A segment that vanishes meanwhile is left
//! out; a last commit that is still being written is not called damage. Only `repair` takes the lock.

mod export;
mod ls;
mod repair;
mod verify;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytesize::ByteSize;
use clap::{Args, Subcommand};

use super::progress::Shown;
use super::{Failure, Outcome, say};
use crate::config::{Config, DEFAULT_PATH};
use crate::priority::Priority;
use crate::spill::queues::dirs_in;
use crate::spill::{self, GapReason, ScannedSegment, SpillKey};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the segments: what is in them, from when, and in which state.
    #[command(after_help = "\
Examples:
  pitwire spill ls --config pitwire.toml
  pitwire spill ls --dir /mnt/card/spill --json
  pitwire spill ls --config pitwire.toml --quarantine   what was refused, and why

States: open (a running agent appends to it), sealed (complete), damaged (see `pitwire spill verify`), locked (of a
version or with a key that this program does not have), aside (damaged, kept in damaged/), free (to be written anew).
Times are of the oldest and the newest sample in the first and the last record. Where channels have priorities, each has
a queue of its own: high/ and low/ beside the segments of normal priority.")]
    Ls(ls::Arguments),
    /// Read and check every byte; name each gap. Exit code 1 if something is damaged.
    #[command(after_help = "\
Examples:
  pitwire spill verify --config pitwire.toml
  pitwire spill verify --dir /mnt/card/spill --json | jq .gaps

An agent may run meanwhile. A commit that is not complete at the end is no damage: it is being written, or power went
before anybody was told that it is durable.")]
    Verify(verify::Arguments),
    /// Read the samples out: as a file, or into a store.
    #[command(after_help = "\
Examples:
  pitwire spill export --config pitwire.toml --format csv | head
  pitwire spill export --dir /mnt/card/spill --format parquet -o backlog.parquet
  pitwire spill export --dir /mnt/card/spill --to sqlite:///tmp/rescued.db
  pitwire spill export --config pitwire.toml --quarantine --raw refused/

The samples come merged and in order, as from `pitwire export`. Nothing leaves the spill: an agent that runs meanwhile,
or later, stores the same rows under the same keys. With --raw, what holds no rows is written as it came, with a JSON
file beside it that says why, from where and when.")]
    Export(export::Arguments),
    /// Put damaged segments aside; every sound record is kept. The agent must not run.
    #[command(after_help = "\
Examples:
  pitwire spill repair --config pitwire.toml --dry-run   say what would be done
  systemctl stop pitwire && pitwire spill repair --config /etc/pitwire/pitwire.toml

An agent needs no repair: it passes over what is damaged and puts the segment aside when the rest of it is stored. This
is for a directory that is to be copied, or read by other means, without an uplink.")]
    Repair(repair::Arguments),
}

/// Which directory is meant.
#[derive(Args)]
struct Target {
    /// The configuration that names the directory; /etc/pitwire/pitwire.toml if --dir is absent too.
    #[arg(long, conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// The directory itself.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The quarantine instead of the spill; with --dir: that directory is a quarantine's.
    #[arg(long)]
    quarantine: bool,
    /// The key under which it is sealed; the configuration's if absent.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// The directory, and what is known of it.
struct Place {
    dir: PathBuf,
    /// Its settings; with --dir the defaults.
    config: spill::Config,
    /// Its budget, if that is known.
    disk_max: Option<ByteSize>,
    quarantine: bool,
    /// The car that the configuration names.
    car: String,
    /// What opens what is sealed, if it could be read.
    key: Option<Arc<SpillKey>>,
}

impl Target {
    fn place(self) -> Result<Place, Failure> {
        let Self { config, dir, quarantine, key_file } = self;
        let (named, key) = (key_file.is_some(), None);
        let mut place = match dir {
            Some(dir) => {
                let config = spill::Config { dir: dir.clone(), key_file, ..spill::Config::default() };
                Place { dir, config, disk_max: None, quarantine, car: "unknown".into(), key }
            }
            None => {
                let path = config.unwrap_or_else(|| DEFAULT_PATH.into());
                let config = Config::load(&path)
                    .map_err(|error| Failure::usage(format!("{error}\nor name the directory itself with --dir")))?;
                let (dir, disk_max) = match quarantine {
                    true => (config.quarantine_dir(), config.quarantine.disk_max),
                    false => (config.spill.dir.clone(), config.spill.disk_max),
                };
                let car = config.car.clone();
                let key_file = key_file.or(config.spill.key_file.clone());
                let config = spill::Config { dir: dir.clone(), disk_max, key_file, ..config.spill };
                Place { dir, config, disk_max: Some(disk_max), quarantine, car, key }
            }
        };
        match place.config.key() {
            Ok(key) => place.key = key.map(Arc::new),
            Err(error) if named => return Err(Failure::usage(format!("--key-file: {}", error.expected))),
            // Much can be said without it, and a credential is the service's alone.
            Err(error) => say(&format!("pitwire: without the key ({}); name it with --key-file", error.expected)),
        }
        if place.dir.is_dir() {
            return Ok(place);
        }
        let dir = place.dir.display();
        Err(Failure::failed(format!(
            "{dir} is no directory, or not yours to read: name the agent's with --dir or --config"
        )))
    }
}

impl Place {
    /// The directories of its queues, the highest priority first.
    fn queues(&self) -> Vec<(Priority, PathBuf)> {
        match self.quarantine {
            true => vec![(Priority::Normal, self.dir.clone())],
            false => dirs_in(&self.dir),
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    match arguments.action {
        Action::Ls(arguments) => ls::run(arguments),
        Action::Verify(arguments) => verify::run(arguments),
        Action::Export(arguments) => export::run(arguments).await,
        Action::Repair(arguments) => repair::run(arguments).await,
    }
}

/// Gives each segment that is still there to `take`, queue by queue, and shows how far it is.
fn each(place: &Place, what: &'static str, mut take: impl FnMut(Priority, ScannedSegment) -> Outcome) -> Outcome {
    let mut scans = Vec::new();
    for (priority, dir) in place.queues() {
        let unreadable = |error| Failure::failed(format!("list {}: {error}", dir.display()));
        scans.push((priority, spill::scan(&dir).map_err(unreadable)?.with_key(place.key.clone())));
    }
    let mut shown = Shown::new(what, scans.iter().map(|(_, scan)| scan.remaining().1).sum());
    let mut before = 0;
    for (priority, mut scan) in scans {
        let total = scan.remaining().1;
        while let Some(segment) = scan.next() {
            shown.at(before + total - scan.remaining().1);
            // Its agent was faster: what the file held is stored, and it may be written anew under another name.
            if !segment.gaps.is_empty() && !segment.is_missing() && !segment.path.exists() {
                continue;
            }
            take(priority, segment)?;
        }
        before += total;
    }
    shown.end();
    Ok(())
}

/// A name within the queue of `priority`, as it is from the directory of the spill.
fn within(priority: Priority, name: impl Display) -> String {
    match priority {
        Priority::Normal => name.to_string(),
        other => format!("{}/{name}", other.as_str()),
    }
}

/// Why bytes could not be used, in words.
fn in_words(reason: GapReason, in_use: Option<bool>) -> String {
    match reason {
        GapReason::Torn if in_use == Some(true) => "the last commit, still being written".into(),
        GapReason::Torn => "the last commit is not complete: power went before it was promised".into(),
        GapReason::Header => "no record starts where one should".into(),
        GapReason::Body => "the content of a record does not match its checksum".into(),
        GapReason::Foreign => "bytes of another segment: files were copied or swapped".into(),
        GapReason::Version(version) => format!("version {version}, which this program does not know: use a newer one"),
        GapReason::Missing => {
            "records are missing: the segment is gone or was cut off, or an older copy was put back".into()
        }
        GapReason::Checkpoint => {
            "the checkpoint holds nothing sound: whether a whole segment is missing is not known".into()
        }
        GapReason::Unreadable => "the disk refuses to read it: look at the disk (dmesg)".into(),
        GapReason::Locked => "sealed under another key; nothing is lost: name the right spill.key_file".into(),
    }
}

/// µs since 1970 as people read it.
fn time(us: i64) -> String {
    // Up to the year 9999.
    let in_words = u64::try_from(us).ok().filter(|us| *us < 253_402_300_800_000_000);
    match in_words.and_then(|us| UNIX_EPOCH.checked_add(Duration::from_micros(us))) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{us} µs"),
    }
}

/// `1 record`, `2 records`.
fn things(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", indicatif::HumanCount(count), if count == 1 { "" } else { "s" })
}

//! `pitwire spill repair`

use std::path::Path;
use std::sync::Arc;

use bytesize::ByteSize;
use serde::Serialize;

use super::{Place, Target, things, within};
use crate::cli::progress::Shown;
use crate::cli::{Failure, Outcome, print};
use crate::clock::{Gateway, SystemClock, Trust};
use crate::deliver::SpillLedger;
use crate::ledger::Ledger;
use crate::priority::Priority;
use crate::spill::queues::dir_of;
use crate::spill::repair::{Damage, RepairError, repair};
use crate::spill::{self, Filesystem, RealFs, SpillError};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object on stdout, for each queue where channels have priorities.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    dir: String,
    dry_run: bool,
    #[serde(flatten)]
    damage: &'a Damage,
    /// Records that were written anew.
    written: u64,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { target, dry_run, json } = arguments;
    let place = target.place()?;
    let dir = place.dir.display().to_string();
    if !dry_run && spill::in_use(&place.dir) == Some(true) {
        return Err(held(&dir));
    }
    let mut all = Vec::new();
    for (priority, dir) in place.queues() {
        all.push((priority, mend(&place, &dir, dry_run).await?));
    }
    let left: u64 = all.iter().map(|(_, (damage, _))| damage.left_alone.len() as u64).sum();
    match json {
        true => {
            for (priority, (damage, written)) in &all {
                let dir = dir_of(&place.dir, *priority).display().to_string();
                print(
                    &serde_json::to_string(&Done { dir, dry_run, damage, written: *written })
                        .map_err(Failure::failed)?,
                )?;
            }
        }
        false => words(&all, dry_run)?,
    }
    match left {
        0 => Ok(()),
        left => Err(Failure::failed(format!(
            "{dir}: {} left as it is: of another version, under another key, or refused by the disk; `pitwire spill verify` says which",
            things(left, "segment")
        ))),
    }
}

fn held(dir: &str) -> Failure {
    Failure::failed(format!("an agent has {dir}: stop it first (systemctl stop pitwire), or leave it to the agent"))
}

/// Looks through one queue and, unless it is a dry run, mends it. Answers what was found, and how many records were
/// written anew.
async fn mend(place: &Place, path: &Path, dry_run: bool) -> Result<(Damage, u64), Failure> {
    let dir = path.display().to_string();
    let unreadable = |error| Failure::failed(format!("list {dir}: {error}"));
    let total = spill::scan(path).map_err(unreadable)?.remaining().1;
    let (mut shown, mut done) = (Shown::new("checked", total), 0);
    let damage = Damage::find(path, place.key.clone(), |bytes| {
        done += bytes;
        shown.at(done);
    });
    shown.end();
    let damage = damage.map_err(unreadable)?;
    if dry_run || damage.damaged.is_empty() {
        return Ok((damage, 0));
    }
    let free = RealFs.free_bytes(path).unwrap_or(u64::MAX);
    let needed = damage.bytes_needed();
    if free < needed {
        let [free, needed] = [free, needed].map(ByteSize::b);
        return Err(Failure::failed(format!("{needed} are needed in {dir} and {free} are free: make room first")));
    }
    let books = SpillLedger {
        ledger: Ledger::new(),
        car: place.car.clone(),
        gateway: Gateway::new(SystemClock::shared(), Trust::System),
        gaps: Arc::default(),
        declared_bytes_max: place.config.notes_bytes_max(),
    };
    let config = spill::Config { dir: path.to_owned(), ..place.config.clone() };
    let written = repair(config, &damage, Arc::new(books)).await.map_err(|error| match error {
        RepairError::Open(SpillError::Locked { .. }) => held(&dir),
        error => Failure::failed(format!("{dir}: {error}")),
    })?;
    Ok((damage, written))
}

fn words(all: &[(Priority, (Damage, u64))], dry_run: bool) -> Outcome {
    let did = if dry_run { "would be" } else { "was" };
    for (priority, damaged) in
        all.iter().flat_map(|(priority, (damage, _))| damage.damaged.iter().map(move |d| (*priority, d)))
    {
        print(&format!(
            "segment {} {did} put aside in {}: {}, {} ({}) {did} written anew",
            within(priority, damaged.segment),
            within(priority, "damaged/"),
            things(damaged.gaps.len() as u64, "damaged place"),
            things(damaged.records, "sound record"),
            things(damaged.weight, "sample"),
        ))?;
    }
    if all.iter().all(|(_, (damage, _))| damage.damaged.is_empty()) {
        print("nothing is damaged; nothing was changed")?;
    }
    Ok(())
}

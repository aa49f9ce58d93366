//! `pitwire spill repair`

use std::sync::Arc;

use bytesize::ByteSize;
use serde::Serialize;

use super::{Target, things};
use crate::cli::progress::Shown;
use crate::cli::{Failure, Outcome, print};
use crate::clock::{Gateway, SystemClock, Trust};
use crate::deliver::SpillLedger;
use crate::ledger::Ledger;
use crate::spill::repair::{Damage, RepairError, repair};
use crate::spill::{self, Filesystem, RealFs, SpillError};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object on stdout.
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
    let held = || {
        Failure::failed(format!("an agent has {dir}: stop it first (systemctl stop pitwire), or leave it to the agent"))
    };
    if !dry_run && spill::in_use(&place.dir) == Some(true) {
        return Err(held());
    }
    let unreadable = |error| Failure::failed(format!("list {dir}: {error}"));
    let total = spill::scan(&place.dir).map_err(unreadable)?.remaining().1;
    let (mut shown, mut done) = (Shown::new("checked", total), 0);
    let damage = Damage::find(&place.dir, place.key.clone(), |bytes| {
        done += bytes;
        shown.at(done);
    });
    shown.end();
    let damage = damage.map_err(unreadable)?;

    let mut written = 0;
    if !dry_run && !damage.damaged.is_empty() {
        let free = RealFs.free_bytes(&place.dir).unwrap_or(u64::MAX);
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
        };
        written = repair(place.config, &damage, Arc::new(books)).await.map_err(|error| match error {
            RepairError::Open(SpillError::Locked { .. }) => held(),
            error => Failure::failed(format!("{dir}: {error}")),
        })?;
    }
    match json {
        true => {
            let done = Done { dir: dir.clone(), dry_run, damage: &damage, written };
            print(&serde_json::to_string(&done).map_err(Failure::failed)?)?;
        }
        false => words(&damage, dry_run)?,
    }
    match damage.left_alone.len() as u64 {
        0 => Ok(()),
        left => Err(Failure::failed(format!(
            "{dir}: {} left as it is: of another version, under another key, or refused by the disk; `pitwire spill verify` says which",
            things(left, "segment")
        ))),
    }
}

fn words(damage: &Damage, dry_run: bool) -> Outcome {
    let did = if dry_run { "would be" } else { "was" };
    for damaged in &damage.damaged {
        print(&format!(
            "segment {} {did} put aside in damaged/: {}, {} ({}) {did} written anew",
            damaged.segment,
            things(damaged.gaps.len() as u64, "damaged place"),
            things(damaged.records, "sound record"),
            things(damaged.weight, "sample"),
        ))?;
    }
    if damage.damaged.is_empty() {
        print("nothing is damaged; nothing was changed")?;
    }
    Ok(())
}

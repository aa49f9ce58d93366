//! `pitwire spill verify`

use bytesize::ByteSize;
use serde::Serialize;

use super::{Target, each, in_words, things, within};
use crate::cli::{Failure, Outcome, print};
use crate::spill::{self, Gap, GapReason};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found {
    /// The segment, with the queue that it lies in.
    place: String,
    #[serde(flatten)]
    gap: Gap,
    /// The reason in words.
    why: String,
    /// Whether it is damage, or an end that was never promised.
    damage: bool,
}

#[derive(Serialize)]
struct Report {
    dir: String,
    in_use: Option<bool>,
    segments: u64,
    bytes: u64,
    records: u64,
    samples: u64,
    gaps: Vec<Found>,
    sound: bool,
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    let place = arguments.target.place()?;
    let in_use = spill::in_use(&place.dir);
    let dir = place.dir.display().to_string();
    let mut report =
        Report { dir, in_use, segments: 0, bytes: 0, records: 0, samples: 0, gaps: Vec::new(), sound: true };
    each(&place, "checked", |priority, segment| {
        report.segments += 1;
        report.bytes += segment.bytes;
        report.records += segment.records.len() as u64;
        report.samples += segment.records.iter().map(|record| record.weight).sum::<u64>();
        for gap in segment.gaps {
            let damage = !matches!(gap.reason, GapReason::Torn | GapReason::Locked);
            report.sound &= !damage;
            let place = within(priority, gap.segment);
            report.gaps.push(Found { place, why: in_words(gap.reason, in_use), damage, gap });
        }
        Ok(())
    })?;
    match arguments.json {
        true => print(&serde_json::to_string(&report).map_err(Failure::failed)?)?,
        false => words(&report)?,
    }
    let damaged = report.gaps.iter().filter(|gap| gap.damage).count() as u64;
    match report.sound {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "{} in {}: an agent passes over them; `pitwire spill repair` puts the segments aside",
            things(damaged, "damaged place"),
            report.dir
        ))),
    }
}

fn words(report: &Report) -> Outcome {
    for Found { place, gap, why, damage } in &report.gaps {
        let what = match gap.reason {
            GapReason::Locked => "locked",
            _ if *damage => "damaged",
            _ => "unfinished",
        };
        let lost = [gap.records.map(|records| things(records, "record")), gap.weight.map(|w| things(w, "sample"))];
        let lost: Vec<String> = lost.into_iter().flatten().collect();
        let lost = if lost.is_empty() { "how much was in it is not known".into() } else { lost.join(", ") };
        print(&format!("{what}: segment {place}, {} bytes at offset {}: {why}; {lost}", gap.bytes, gap.offset))?;
    }
    print(&format!(
        "{}, {}, {}, {}: {}",
        things(report.segments, "segment"),
        ByteSize::b(report.bytes),
        things(report.records, "sound record"),
        things(report.samples, "sample"),
        if report.sound { "sound" } else { "damaged" }
    ))
}

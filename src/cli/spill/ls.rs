//! `pitwire spill ls`

use std::collections::BTreeMap;
use std::path::Path;

use bytesize::ByteSize;
use serde::Serialize;

use super::{Target, each, things, time, within};
use crate::cli::{Failure, Outcome, print};
use crate::deliver::record::{Content, Meta};
use crate::priority::Priority;
use crate::row::Rows;
use crate::spill::{self, Filesystem, RealFs, RecordInfo, ScannedSegment};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Sealed,
    Damaged,
    Missing,
    Locked,
    Aside,
    Free,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Locked => "locked",
            Self::Aside => "aside",
            Self::Free => "free",
        }
    }
}

#[derive(Serialize)]
struct Line {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<u64>,
    state: State,
    bytes: u64,
    records: u64,
    samples: u64,
    /// UTC µs.
    oldest_us: Option<i64>,
    newest_us: Option<i64>,
}

#[derive(Serialize)]
struct Listing {
    dir: String,
    in_use: Option<bool>,
    segments: Vec<Line>,
    /// Records by the reason for which they were refused.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reasons: BTreeMap<String, u64>,
    bytes: u64,
    disk_max_bytes: Option<u64>,
    records: u64,
    samples: u64,
    oldest_us: Option<i64>,
    newest_us: Option<i64>,
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    let place = arguments.target.place()?;
    let in_use = spill::in_use(&place.dir);
    let (mut segments, mut reasons) = (Vec::new(), BTreeMap::new());
    each(&place, "read", |priority, segment| {
        if place.quarantine {
            let reason = |record: &RecordInfo| Meta::decode(&record.meta).map(|meta| meta.reason);
            for reason in segment.records.iter().map(reason) {
                *reasons.entry(reason.unwrap_or_else(|| "unknown".into())).or_default() += 1;
            }
        }
        segments.push((priority, line(priority, &segment)));
        Ok(())
    })?;
    for (priority, dir) in place.queues() {
        let last = segments.iter_mut().rfind(|(queue, _)| *queue == priority).map(|(_, line)| line);
        // The highest number takes the appends.
        if let Some(last) = last.filter(|last| last.state == State::Sealed && in_use == Some(true)) {
            last.state = State::Open;
        }
        segments.extend(others(priority, &dir).into_iter().map(|line| (priority, line)));
    }
    let segments: Vec<Line> = segments.into_iter().map(|(_, line)| line).collect();
    let sum = |of: fn(&Line) -> u64| segments.iter().map(of).sum();
    let listing = Listing {
        dir: place.dir.display().to_string(),
        in_use,
        reasons,
        bytes: sum(|line| line.bytes),
        disk_max_bytes: place.disk_max.map(|max| max.as_u64()),
        records: sum(|line| line.records),
        samples: sum(|line| line.samples),
        oldest_us: segments.iter().filter_map(|line| line.oldest_us).min(),
        newest_us: segments.iter().filter_map(|line| line.newest_us).max(),
        segments,
    };
    match arguments.json {
        true => print(&serde_json::to_string(&listing).map_err(Failure::failed)?),
        false => table(&listing),
    }
}

fn line(priority: Priority, segment: &ScannedSegment) -> Line {
    let records = &segment.records;
    let oldest = records.first().and_then(|record| times(segment, record));
    let newest = records.last().and_then(|record| times(segment, record));
    let state = match () {
        () if segment.is_missing() => State::Missing,
        () if segment.is_unusable() || segment.is_locked() => State::Locked,
        () if segment.is_damaged() => State::Damaged,
        () => State::Sealed,
    };
    Line {
        file: within(priority, spill::scan::segment_file_name(segment.id)),
        segment: Some(segment.id),
        state,
        bytes: segment.bytes,
        records: records.len() as u64,
        samples: records.iter().fold(0, |sum, record| record.weight.saturating_add(sum)),
        oldest_us: oldest.map(|(first, _)| first),
        newest_us: newest.map(|(_, last)| last),
    }
}

/// The first and the last UTC in a record, µs.
fn times(segment: &ScannedSegment, record: &RecordInfo) -> Option<(i64, i64)> {
    match Meta::decode(&record.meta).map(|meta| meta.content) {
        Some(Content::Message { received_us, .. }) => Some((received_us, received_us)),
        _ => {
            let rows = Rows::decode(&segment.read(record).ok()?.payload).ok()?;
            let chunks = rows.chunks.iter().map(|chunk| (chunk.t0, chunk.t1));
            let times = chunks.chain(rows.events.iter().map(|event| (event.t, event.t)));
            times.reduce(|(first, last), (t0, t1)| (first.min(t0), last.max(t1)))
        }
    }
}

/// What lies there besides: segments kept aside, and files that wait to be written anew.
fn others(priority: Priority, dir: &Path) -> Vec<Line> {
    let listed = |dir: &Path| RealFs.list(dir).unwrap_or_default();
    let mut found = Vec::new();
    let line = |file: String, state, bytes| Line {
        file,
        segment: None,
        state,
        bytes,
        records: 0,
        samples: 0,
        oldest_us: None,
        newest_us: None,
    };
    for file in listed(&spill::scan::damaged_dir(dir)) {
        found.push(line(within(priority, format!("damaged/{}", file.name)), State::Aside, file.bytes));
    }
    for file in listed(dir).into_iter().filter(|file| file.name.ends_with(".free")) {
        found.push(line(within(priority, file.name), State::Free, file.bytes));
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

fn table(listing: &Listing) -> Outcome {
    print(&format!(
        "{:<18} {:<8} {:>10} {:>9} {:>12}  {:<20}  newest",
        "segment", "state", "bytes", "records", "samples", "oldest"
    ))?;
    let shown = |us: Option<i64>| us.map_or_else(|| "-".into(), time);
    for line in &listing.segments {
        print(&format!(
            "{:<18} {:<8} {:>10} {:>9} {:>12}  {:<20}  {}",
            line.file.trim_end_matches(".seg"),
            line.state.as_str(),
            ByteSize::b(line.bytes).to_string(),
            line.records,
            line.samples,
            shown(line.oldest_us),
            shown(line.newest_us)
        ))?;
    }
    for (reason, records) in &listing.reasons {
        print(&format!("refused: {}: {reason}", things(*records, "record")))?;
    }
    let of = listing.disk_max_bytes.filter(|max| *max > 0).map_or_else(String::new, |max| {
        format!(" of {} ({:.1} %)", ByteSize::b(max), listing.bytes as f64 * 100.0 / max as f64)
    });
    let who = match listing.in_use {
        Some(true) => "an agent has it",
        Some(false) => "no agent has it",
        None => "whether an agent has it is not known",
    };
    let all = [
        format!("{}{of}", ByteSize::b(listing.bytes)),
        things(listing.records, "record"),
        things(listing.samples, "sample"),
        who.into(),
    ];
    print(&format!("total: {}", all.join(", ")))
}

//! What was measured, and the one table that is printed.

use std::fmt::Write as _;
use std::time::Duration;

use super::key::{Found, Key};

/// One slice of a tier, written under one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) rows: u64,
    pub(crate) samples: u64,
    pub(crate) took: Duration,
    pub(crate) client_cpu: Duration,
    pub(crate) server_cpu: Option<Duration>,
    /// Of flushing the table afterwards.
    pub(crate) flush_cpu: Option<Duration>,
}

/// Reading some channels, one after another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    /// For each channel.
    pub(crate) took: Vec<Duration>,
    pub(crate) found: Found,
    /// By the server from its files.
    pub(crate) server_bytes: Option<u64>,
}

/// A tier under one key.
pub(crate) struct Measured {
    pub(crate) key: Key,
    pub(crate) slices: Vec<Slice>,
    pub(crate) compact_cpu: Option<Duration>,
    pub(crate) disk_bytes: Option<u64>,
    /// One channel each, over all that was written.
    pub(crate) one: Reads,
    /// All channels, over a minute.
    pub(crate) all: Reads,
}

/// A tier under both keys.
pub(crate) struct Tier {
    pub(crate) name: &'static str,
    pub(crate) channels: usize,
    /// How much of an hour was written: what was read is multiplied to an hour by it.
    pub(crate) hours: f64,
    pub(crate) measured: Vec<Measured>,
}

const HEAD: [&str; 12] = [
    "tier",
    "key",
    "rows/s written (slices)",
    "client CPU s/M samples",
    "server CPU s/M samples, writing",
    "… with flush and compaction",
    "bytes/sample on disk",
    "1 channel, 1 h: ms (range)",
    "rows",
    "KiB over the wire",
    "KiB the server read",
    "all channels, 1 min: ms",
];

/// Columns as numbers, each none if it could not be measured.
type Numbers = [Option<f64>; 9];

impl Measured {
    fn sum(&self, of: impl Fn(&Slice) -> f64) -> f64 {
        self.slices.iter().map(of).sum()
    }

    fn numbers(&self, hours: f64) -> Numbers {
        let million = self.sum(|s| s.samples as f64) / 1e6;
        let all = |of: fn(&Slice) -> Option<Duration>| -> Option<f64> {
            self.slices.iter().map(|s| of(s).map(|cpu| cpu.as_secs_f64())).sum()
        };
        let (write, flush) = (all(|s| s.server_cpu), all(|s| s.flush_cpu));
        let compact = self.compact_cpu.map(|cpu| cpu.as_secs_f64());
        let whole = write.zip(flush).zip(compact).map(|((write, flush), compact)| write + flush + compact);
        let per_channel = |total: u64| total as f64 / self.one.took.len().max(1) as f64 / hours;
        [
            Some(self.sum(|s| s.rows as f64) / self.sum(|s| s.took.as_secs_f64())),
            Some(self.sum(|s| s.client_cpu.as_secs_f64()) / million),
            write.map(|s| s / million),
            whole.map(|s| s / million),
            self.disk_bytes.map(|bytes| bytes as f64 / million / 1e6),
            Some(median_ms(&self.one.took) / hours),
            Some(per_channel(self.one.found.rows)),
            Some(per_channel(self.one.found.bytes) / 1024.0),
            self.one.server_bytes.map(|bytes| per_channel(bytes) / 1024.0),
        ]
    }

    fn slice_rates(&self) -> String {
        let rates: Vec<f64> = self.slices.iter().map(|s| s.rows as f64 / s.took.as_secs_f64()).collect();
        range(&rates)
    }
}

fn median_ms(took: &[Duration]) -> f64 {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
}

fn range(values: &[f64]) -> String {
    let (min, max) = values.iter().fold((f64::MAX, 0.0_f64), |(min, max), &v| (min.min(v), max.max(v)));
    format!("{}–{}", figure(min), figure(max))
}

/// Three significant figures, thousands grouped.
fn figure(value: f64) -> String {
    if value < 100.0 {
        let digits = if value < 1.0 { 3 } else { usize::from(value < 10.0) + 1 };
        return format!("{value:.digits$}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The table, in Markdown: a line for each tier and key, and one with the second key's numbers divided by the first's.
pub(crate) fn table(tiers: &[Tier]) -> String {
    let mut text = format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for tier in tiers {
        let numbers: Vec<Numbers> = tier.measured.iter().map(|measured| measured.numbers(tier.hours)).collect();
        for (measured, numbers) in tier.measured.iter().zip(&numbers) {
            let mut cells: Vec<String> = numbers.iter().map(|n| n.map_or("–".into(), figure)).collect();
            let times: Vec<f64> = measured.one.took.iter().map(|t| t.as_secs_f64() * 1e3 / tier.hours).collect();
            let _ = write!(cells[0], " ({})", measured.slice_rates());
            let _ = write!(cells[5], " ({})", range(&times));
            cells.push(figure(median_ms(&measured.all.took)));
            let _ = writeln!(text, "| `{}` | {} | {} |", tier.name, measured.key.name(), cells.join(" | "));
        }
        if let [first, second] = &numbers[..] {
            let ratio = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
                (Some(a), Some(b)) if *a > 0.0 => format!("× {:.2}", b / a),
                _ => "–".into(),
            };
            let mut cells: Vec<String> = first.iter().zip(second).map(ratio).collect();
            let all = |at: usize| Some(median_ms(&tier.measured[at].all.took));
            cells.push(ratio((&all(0), &all(1))));
            let _ = writeln!(text, "| | *channel ÷ device* | {} |", cells.join(" | "));
        }
    }
    text
}

/// What stands under the table for each tier.
pub(crate) fn notes(tiers: &[Tier]) -> String {
    let mut text = String::new();
    for tier in tiers {
        let Some(measured) = tier.measured.first() else { continue };
        let _ = writeln!(
            text,
            "- `{}`: {} channels; {:.0} min of driving in {} slices for each key: {} rows, {} samples.{}",
            tier.name,
            tier.channels,
            tier.hours * 60.0,
            measured.slices.len(),
            figure(measured.sum(|s| s.rows as f64)),
            figure(measured.sum(|s| s.samples as f64)),
            if tier.hours < 1.0 { " Reading an hour is what was read of that, multiplied to an hour." } else { "" },
        );
    }
    text
}

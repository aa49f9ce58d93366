//! From lines of JSON, several rounds of them, to tables. Ratios and gains are taken within a round and then their median,
//! so that what else the machine did in that round stands on both sides.

use std::collections::BTreeSet;
use std::io::BufRead as _;

use anyhow::{Context as _, Result, ensure};

use crate::Line;

/// Who the others are compared with.
const OURS: &str = "pitwire";
/// Names in the order of the tables, with what each is and the loop without a pipeline that bounds its CPU stage.
const KNOWN: &[(&str, &str, &str)] = &[
    (OURS, "**Pitwire's engine**", "nothing"),
    ("pitwire-untimed", "… its times off", "nothing"),
    ("mpsc", "tokio mpsc, one task a stage, no concurrency", "nothing"),
    ("window", "tokio mpsc, a spawned task an operation, by hand", "nothing"),
    ("buffered", "futures `buffered`, spawned", "nothing"),
    ("roughage", "roughage", "nothing"),
    ("par-stream", "par-stream", "nothing"),
    ("pumps", "pumps, `backpressure(64)`", "nothing"),
    ("pumps-bare", "pumps, queues of 1", "nothing"),
    ("rayon", "rayon behind an ordered window", "nothing"),
    ("pariter", "pariter", "nothing"),
    ("nothing", "no pipeline: loops in Rust", "nothing"),
    ("asyncio", "asyncio.Queue, no concurrency", "threads"),
    ("asyncio-window", "asyncio.Queue, ordered window of tasks", "threads"),
    ("spdl", "SPDL, functions", "threads"),
    ("spdl-async", "SPDL, coroutines", "threads"),
    ("spdl-tuned", "SPDL, coroutines, tuned", "threads"),
    ("threads", "no pipeline: loops in Python", "threads"),
];

#[derive(Clone, Copy)]
pub(crate) enum Form {
    Terminal,
    Markdown,
}

/// Reads the lines from standard input and prints the tables.
pub(crate) fn print(form: Form) -> Result<()> {
    let mut lines = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("read a line")?;
        lines.push(serde_json::from_str(&line).with_context(|| format!("not a measurement: {line}"))?);
    }
    ensure!(!lines.is_empty(), "no measurements on standard input");
    let run = Run { lines };
    for (title, table) in [("Stages", run.stages()), ("CPU stage", run.cpu()), ("Bounds", run.bounds())] {
        println!("{}", table.render(title, form));
    }
    println!("{}", run.others());
    Ok(())
}

struct Run {
    lines: Vec<Line>,
}

impl Run {
    fn stages(&self) -> Table {
        let mut table = Table::new(&[
            "3 no-op stages",
            "items/s (range)",
            "÷ ours",
            "CPU µs/item",
            "batches of 64: samples/s (range)",
            "÷ ours",
            "CPU µs/batch",
        ]);
        for (peer, label) in self.peers(&["no_ops", "batches"]) {
            let mut row = vec![label];
            for case in ["no_ops", "batches"] {
                let rate = |line: &Line| if case == "batches" { line.samples_per_s } else { line.items_per_s };
                row.push(rates(&self.values(&peer, case, None, rate)));
                row.push(ratio(&self.ratios((&peer, case, None), (OURS, case, None), rate)));
                row.push(number(&self.values(&peer, case, None, |line| line.cpu_us_per_item)));
            }
            table.rows.push(row);
        }
        table
    }

    fn cpu(&self) -> Table {
        let mut table = Table::new(&[
            "1 CPU stage",
            "1 thread: items/s (range)",
            "2 threads: items/s (range)",
            "gain (range)",
            "2 threads ÷ ours",
            "2 threads ÷ loops",
            "CPU µs/item beside its work, 2 threads",
        ]);
        let rate = |line: &Line| line.items_per_s;
        for (peer, label) in self.peers(&["cpu"]) {
            let of_loops = KNOWN.iter().find(|(name, ..)| *name == peer).map_or("nothing", |(_, _, loops)| loops);
            let beside = |line: &Line| line.cpu_us_per_item - line.work_us.unwrap_or(0.0);
            table.rows.push(vec![
                label,
                rates(&self.values(&peer, "cpu", Some(1), rate)),
                rates(&self.values(&peer, "cpu", Some(2), rate)),
                ratio_with_range(&self.ratios((&peer, "cpu", Some(2)), (&peer, "cpu", Some(1)), rate)),
                ratio(&self.ratios((&peer, "cpu", Some(2)), (OURS, "cpu", Some(2)), rate)),
                ratio(&self.ratios((&peer, "cpu", Some(2)), (of_loops, "cpu", Some(2)), rate)),
                number(&self.values(&peer, "cpu", Some(2), beside)),
            ]);
        }
        table
    }

    fn bounds(&self) -> Table {
        let mut table =
            Table::new(&["1 stage in input order", "asked for", "in progress at most", "started behind a slow first"]);
        for (peer, label) in self.peers(&["probe"]) {
            let most = |value: fn(&Line) -> Option<usize>| {
                let seen = self.lines.iter().filter(|line| line.peer == peer && line.case == "probe").filter_map(value);
                seen.max().map_or_else(|| "–".into(), |most| most.to_string())
            };
            table.rows.push(vec![
                label,
                most(|line| line.asked),
                most(|line| line.in_progress_max),
                most(|line| line.started_behind_first),
            ]);
        }
        table
    }

    fn others(&self) -> String {
        let cores: Vec<f64> = self.lines.iter().filter_map(|line| line.others_cores).collect();
        let rounds = self.lines.iter().map(|line| line.round).max().unwrap_or(0);
        let Some((least, median, most)) = spread(&cores) else { return format!("{rounds} rounds") };
        format!(
            "{rounds} rounds; beside each measurement, other processes used {median:.1} cores ({least:.1}–{most:.1})"
        )
    }

    /// Those who have one of the cases, known ones first.
    fn peers(&self, cases: &[&str]) -> Vec<(String, String)> {
        let here = self.lines.iter().filter(|line| cases.contains(&line.case.as_str()));
        let mut here: BTreeSet<&str> = here.map(|line| line.peer.as_str()).collect();
        let known = KNOWN.iter().filter(|(name, ..)| here.remove(name)).map(|(name, label, _)| (*name, *label));
        let mut peers: Vec<(String, String)> = known.map(|(name, label)| (name.into(), label.into())).collect();
        peers.extend(here.iter().map(|name| ((*name).into(), (*name).into())));
        peers
    }

    fn values(&self, peer: &str, case: &str, threads: Option<usize>, value: impl Fn(&Line) -> f64) -> Vec<f64> {
        let wanted = |line: &&Line| is(line, (peer, case, threads));
        self.lines.iter().filter(wanted).map(value).collect()
    }

    /// The one divided by the other, in each round that has both.
    fn ratios(
        &self,
        one: (&str, &str, Option<usize>),
        other: (&str, &str, Option<usize>),
        value: impl Fn(&Line) -> f64,
    ) -> Vec<f64> {
        let of_round = |line: &Line| {
            let other = self.lines.iter().find(|it| it.round == line.round && is(it, other))?;
            Some(value(line) / value(other))
        };
        self.lines.iter().filter(|line| is(line, one)).filter_map(of_round).collect()
    }
}

fn is(line: &Line, (peer, case, threads): (&str, &str, Option<usize>)) -> bool {
    line.peer == peer && line.case == case && threads.is_none_or(|threads| line.threads == threads)
}

/// Least, median, most.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    Some((first, median, last))
}

fn rates(values: &[f64]) -> String {
    let Some((least, median, most)) = spread(values) else { return "–".into() };
    let (divisor, unit) = match median {
        1e6.. => (1e6, " M"),
        1e3.. => (1e3, " k"),
        _ => (1.0, ""),
    };
    let short = |value: f64| significant(value / divisor);
    format!("{}{unit} ({}–{})", short(median), short(least), short(most))
}

fn ratio(values: &[f64]) -> String {
    spread(values).map_or_else(|| "–".into(), |(_, median, _)| significant(median))
}

fn ratio_with_range(values: &[f64]) -> String {
    let Some((least, median, most)) = spread(values) else { return "–".into() };
    format!("{median:.2} ({least:.2}–{most:.2})")
}

fn number(values: &[f64]) -> String {
    spread(values).map_or_else(|| "–".into(), |(_, median, _)| significant(median))
}

/// Three digits that count, as far as there are decimals to cut.
fn significant(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.095.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    fn render(&self, title: &str, form: Form) -> String {
        match form {
            Form::Markdown => self.markdown(),
            Form::Terminal => format!("{title}\n{}", self.padded()),
        }
    }

    fn markdown(&self) -> String {
        let row = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = row(&self.rows[0]);
        text += &format!("|{}\n", "---|".repeat(self.rows[0].len()));
        self.rows[1..].iter().for_each(|cells| text += &row(cells));
        text
    }

    fn padded(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let padded = if column == 0 { format!("{cell:width$}") } else { format!("  {cell:>width$}") };
                text += &padded;
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(peer: &str, case: &str, threads: usize, round: u32, items_per_s: f64) -> Line {
        let (peer, case) = (peer.into(), case.into());
        Line { peer, case, threads, round, items_per_s, samples_per_s: items_per_s, ..Line::default() }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was half as fast in the second round.
        let lines = vec![
            line(OURS, "no_ops", 2, 1, 1_000.0),
            line("pumps", "no_ops", 2, 1, 500.0),
            line(OURS, "no_ops", 2, 2, 400.0),
            line("pumps", "no_ops", 2, 2, 200.0),
        ];
        let table = Run { lines }.stages().markdown();
        assert!(table.contains("| pumps, `backpressure(64)` | 350 (200–500) | 0.50 |"), "{table}");
    }

    #[test]
    fn a_gain_is_two_threads_by_one_and_what_is_missing_is_a_dash() {
        let lines = vec![line("rayon", "cpu", 1, 1, 10_000.0), line("rayon", "cpu", 2, 1, 19_000.0)];
        let table = Run { lines }.cpu().padded();
        assert!(table.contains("1.90 (1.90–1.90)"), "{table}");
        assert!(table.lines().nth(1).is_some_and(|row| row.contains('–')), "{table}");
    }

    #[test]
    fn a_peer_that_nobody_knows_is_shown_by_its_name() {
        let lines = vec![line("new one", "no_ops", 2, 1, 10.0), line(OURS, "no_ops", 2, 1, 20.0)];
        let table = Run { lines }.stages();
        assert_eq!(table.rows[1][0], "**Pitwire's engine**");
        assert_eq!(table.rows[2][0], "new one");
    }
}

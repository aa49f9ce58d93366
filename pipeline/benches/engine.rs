//! What the engine costs, beside a baseline measured in the same run.
//!
//! `cargo bench -p pitwire-pipeline --bench engine -- [--only NAME] [--repeat N] [--json]` prints a table, or a JSON
//! line for each case. `… -- callgrind on|off` runs one case alone, for valgrind, with statistics on or off.

// A program for a terminal.
#![allow(clippy::print_stdout)]

#[path = "engine/cases.rs"]
mod cases;
#[path = "engine/memory.rs"]
mod memory;

use std::process::ExitCode;

/// One thing measured: its value, larger is better unless it is a size.
struct Measured {
    case: &'static str,
    what: &'static str,
    /// The median over the repetitions.
    value: f64,
    unit: &'static str,
    /// Smallest and largest of the repetitions.
    range: (f64, f64),
    /// What it is compared with, and the ratio to that.
    beside: Option<(&'static str, f64)>,
    /// What is aimed at: the ratio if there is one, else the value.
    aim: Option<Aim>,
}

#[derive(Clone, Copy)]
enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Measured {
    fn meets(&self) -> Option<bool> {
        let value = self.beside.map_or(self.value, |(_, ratio)| ratio);
        self.aim.map(|aim| match aim {
            Aim::AtLeast(least) => value >= least,
            Aim::AtMost(most) => value <= most,
        })
    }

    fn row(&self) -> String {
        let beside = self.beside.map_or(String::new(), |(name, ratio)| format!("{ratio:.3} × {name}"));
        let aim = match self.aim {
            Some(Aim::AtLeast(least)) => format!("≥ {least}"),
            Some(Aim::AtMost(most)) => format!("≤ {most}"),
            None => String::new(),
        };
        let verdict = match self.meets() {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        let (low, high) = self.range;
        let value = format!("{} {}", number(self.value), self.unit);
        let range = format!("{} … {}", number(low), number(high));
        format!("{:<14} {:<34} {value:>20} {range:>22}  {beside:<26} {aim:<10} {verdict}", self.case, self.what)
    }

    fn json(&self) -> String {
        let beside =
            self.beside.map_or(String::new(), |(name, ratio)| format!(r#","beside":"{name}","ratio":{ratio:.4}"#));
        let meets = self.meets().map_or(String::new(), |meets| format!(r#","meets":{meets}"#));
        let Self { case, what, value, unit, range: (low, high), .. } = self;
        format!(
            r#"{{"case":"{case}","what":"{what}","value":{value:.4},"unit":"{unit}","low":{low:.4},"high":{high:.4}{beside}{meets}}}"#
        )
    }
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if value >= 1e3 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.3}"),
    }
}

/// The median of `values`, with the smallest and the largest.
fn median(mut values: Vec<f64>) -> (f64, (f64, f64)) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], (values[0], values[values.len() - 1]))
}

/// Measures, with so many repetitions.
type Case = fn(usize) -> Vec<Measured>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut only, mut repeat, mut json) = (None, 7, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only = arguments.next(),
            "--repeat" => repeat = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(repeat).max(1),
            "--json" => json = true,
            "callgrind" => {
                let items = cases::callgrind(arguments.next().as_deref() != Some("off"));
                println!("{items} items");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln_usage(other);
                return ExitCode::from(2);
            }
        }
    }
    let cases: [(&str, Case); 6] = [
        ("stages", cases::stages),
        ("batches", cases::batches),
        ("cpu", cases::cpu),
        ("statistics", cases::statistics),
        ("allocations", memory::allocations),
        ("idle", memory::idle),
    ];
    if !json {
        println!(
            "{} core(s), 2 threads, median of {repeat}, smallest … largest",
            std::thread::available_parallelism().map_or(0, usize::from)
        );
    }
    let mut missed = false;
    for (_, case) in cases.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        for measured in case(repeat) {
            missed |= measured.meets() == Some(false);
            println!("{}", if json { measured.json() } else { measured.row() });
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[allow(clippy::print_stderr)]
fn eprintln_usage(argument: &str) {
    eprintln!("{argument:?} is not known: [--only NAME] [--repeat N] [--json] | callgrind on|off");
}

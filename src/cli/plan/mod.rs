//! `pitwire plan`: how long an outage the disk bridges, what it costs the flash, and how long the drain takes.

mod model;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use serde::Serialize;

use super::{Failure, Outcome, print, say};
use crate::config::Config;
use crate::deliver;
use crate::spill;
use model::{Cost, Given, Outage, Plan};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pitwire plan --tier wide --uplink 20Mbit --outage 2h
  pitwire plan --rate 100k --disk 2GiB --uplink 10Mbit --bytes-per-sample 5
  pitwire plan --config pitwire.toml --status http://127.0.0.1:8710 --uplink 2Mbit   as this agent measured it
  pitwire plan --tier club --disk 256MiB --json | jq .bridged_s

What a sample takes is measured with the simulated car of a tier (docs/outages.md says how), or by a running agent.
--disk, durable_within and flush_after come from --config or --status; else they are the defaults.")]
pub(super) struct Arguments {
    /// Samples a second, e.g. 100k; the tier's if absent.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// What the spill may take on the disk, e.g. 2GiB.
    #[arg(long)]
    disk: Option<ByteSize>,
    /// What the uplink carries, in bits a second, e.g. 2Mbit.
    #[arg(long, value_parser = uplink)]
    uplink: Option<f64>,
    /// What a sample takes in the spill, in bytes.
    #[arg(long, value_parser = positive)]
    bytes_per_sample: Option<f64>,
    /// What a sample takes on the uplink, in bytes.
    #[arg(long, value_parser = positive)]
    uplink_bytes_per_sample: Option<f64>,
    /// The kind of car whose measured figures are used.
    #[arg(long, value_enum, default_value_t = Tier::Wide)]
    tier: Tier,
    /// How long an outage is to be planned for, e.g. 2h.
    #[arg(long, value_parser = humantime::parse_duration)]
    outage: Option<Duration>,
    /// The measurements of a running agent: its page, or a file with its /api/v1/status.
    #[arg(long)]
    status: Option<String>,
    /// The agent's configuration.
    #[arg(long)]
    config: Option<PathBuf>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Where bytes a sample are from if nothing else is known.
const OF_TIER: &str = "as measured with the tier";

/// The simulator's kinds of car, with what was measured (`cargo test --test system plan`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Tier {
    /// 400 samples/s from 3 devices.
    Club,
    /// 1,500 samples/s from 3 devices.
    Can,
    /// 78,200 samples/s from 4 devices.
    Wide,
    /// 1.1 million samples/s from 3 devices.
    F1,
}

impl Tier {
    /// Samples a second, and what one takes with the default `flush_after`.
    fn measured(self) -> (f64, Cost) {
        let cost =
            |spill_bytes_per_sample, uplink_bytes_per_sample| Cost { spill_bytes_per_sample, uplink_bytes_per_sample };
        match self {
            Self::Club => (400.0, cost(43.0, 57.9)),
            Self::Can => (1_500.0, cost(15.7, 21.1)),
            Self::Wide => (78_200.0, cost(7.75, 10.3)),
            Self::F1 => (1_100_100.0, cost(0.93, 1.00)),
        }
    }
}

/// What was asked, and where the figures are from.
struct Question {
    given: Given,
    rate_from: &'static str,
    bytes_from: &'static str,
}

#[derive(Serialize)]
struct Answer<'a> {
    rate_per_s: f64,
    #[serde(flatten)]
    cost: Cost,
    disk_max_bytes: f64,
    uplink_bit_per_s: Option<f64>,
    #[serde(flatten)]
    plan: &'a Plan,
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    let json = arguments.json;
    let question = question(arguments)?;
    let plan = question.given.plan();
    let measured_with = deliver::Config::default().flush_after;
    if question.bytes_from == OF_TIER && question.given.flush_after != measured_with {
        let [own, tier] = [question.given.flush_after, measured_with].map(humantime::format_duration);
        say(&format!(
            "pitwire: bytes a sample were measured with flush_after = {tier} and yours is {own}: a row holds other many \
             samples; name yours with --bytes-per-sample, or a running agent with --status"
        ));
    }
    if !json {
        return table(&question, &plan).iter().try_for_each(|line| print(line));
    }
    let Given { rate_per_s, cost, disk_max_bytes, uplink_bit_per_s, .. } = question.given;
    let answer = Answer { rate_per_s, cost, disk_max_bytes, uplink_bit_per_s, plan: &plan };
    print(&serde_json::to_string(&answer).map_err(Failure::failed)?)
}

fn question(arguments: Arguments) -> Result<Question, Failure> {
    let config = arguments.config.as_deref().map(Config::load).transpose().map_err(Failure::usage)?;
    let measured = arguments.status.as_deref().map(status::measured).transpose().map_err(Failure::failed)?;
    let given = config.as_ref().map_or(1, |config| config.priority.given().len());
    let queues = measured.map_or(given, |measured| measured.queues);
    let (spill, deliver) = config.map_or_else(
        || (spill::Config::default(), deliver::Config::default()),
        |config| (config.spill, config.deliver),
    );
    let (tier_rate, tier) = arguments.tier.measured();
    let (rate_per_s, rate_from) = match (arguments.rate, &measured) {
        (Some(rate), _) => (rate, "as you say"),
        (None, Some(measured)) => (measured.rate_per_s, "as the agent measured"),
        (None, None) => (tier_rate, "the tier's"),
    };
    if rate_per_s <= 0.0 {
        return Err(Failure::failed("nothing comes in at the moment: name the rate with --rate"));
    }
    let measured_bytes = measured.and_then(|measured| measured.spill_bytes_per_sample);
    let (spill_bytes_per_sample, bytes_from) = match (arguments.bytes_per_sample, measured_bytes) {
        (Some(bytes), _) => (bytes, "as you say"),
        (None, Some(bytes)) => (bytes, "as the agent measured"),
        (None, None) => (tier.spill_bytes_per_sample, OF_TIER),
    };
    // On the way a sample takes more than on the disk, in the same measure for a car of this kind.
    let ratio = tier.uplink_bytes_per_sample / tier.spill_bytes_per_sample;
    let measured_uplink = measured.and_then(|measured| measured.uplink_bytes_per_sample);
    let uplink_bytes = arguments.uplink_bytes_per_sample.or(measured_uplink).unwrap_or(spill_bytes_per_sample * ratio);
    let disk = arguments.disk.map(|disk| disk.as_u64() as f64);
    let given = Given {
        rate_per_s,
        cost: Cost { spill_bytes_per_sample, uplink_bytes_per_sample: uplink_bytes },
        disk_max_bytes: disk
            .or(measured.and_then(|measured| measured.disk_max_bytes))
            .unwrap_or(spill.disk_max.as_u64() as f64),
        segment_bytes: measured
            .and_then(|measured| measured.segment_bytes)
            .unwrap_or(spill.segment_bytes.as_u64() as f64),
        durable_within: measured.and_then(|measured| measured.durable_within).unwrap_or(deliver.durable_within),
        flush_after: measured.and_then(|measured| measured.flush_after).unwrap_or(deliver.flush_after),
        uplink_bit_per_s: arguments.uplink,
        outage: arguments.outage,
        queues: u32::try_from(queues).unwrap_or(1),
    };
    Ok(Question { given, rate_from, bytes_from })
}

/// The figures for people, with the arithmetic.
fn table(question: &Question, plan: &Plan) -> Vec<String> {
    let Question { given, rate_from, bytes_from } = question;
    let mut lines = vec![
        row("samples", format!("{} /s", count(given.rate_per_s)), rate_from.to_string()),
        row("in the spill", format!("{:.2} B each", given.cost.spill_bytes_per_sample), bytes_from.to_string()),
        row(
            "disk",
            format!("{}/s", bytes(plan.disk_per_s)),
            format!(
                "{} × {:.2} B + {:.2} commits/s × 2 KiB of padding",
                count(given.rate_per_s),
                given.cost.spill_bytes_per_sample,
                plan.commits_per_s
            ),
        ),
        row(
            "bridged",
            span(plan.bridged_s),
            format!(
                "({} − {} held back) ÷ {}/s",
                bytes(given.disk_max_bytes),
                bytes(f64::from(given.queues) * given.segment_bytes),
                bytes(plan.disk_per_s)
            ),
        ),
        row(
            "flash an hour",
            bytes(plan.flash_per_s * 3_600.0),
            format!(
                "disk {} + journal {} (16 KiB for each commit and segment; next to nothing where segments are recycled)",
                bytes(plan.disk_per_s * 3_600.0),
                bytes(plan.journal_per_s * 3_600.0)
            ),
        ),
        row(
            "live on the uplink",
            bits(plan.live_bit_per_s),
            format!(
                "{} × {:.2} B × 8, before compression",
                count(given.rate_per_s),
                given.cost.uplink_bytes_per_sample
            ),
        ),
    ];
    if given.queues > 1 {
        let why = "each with commits of its own; where the disk does not last, the lowest is given up first";
        lines.insert(3, row("priorities", given.queues.to_string(), why.into()));
    }
    let outages = match plan.outage {
        Some(outage) => vec![outage],
        None => {
            let hour = (plan.bridged_s > 3_600.0).then_some(3_600.0);
            hour.into_iter().chain([plan.bridged_s]).map(|seconds| given.outage(plan, seconds)).collect()
        }
    };
    outages.iter().for_each(|outage| lines.extend(outage_rows(given, plan, outage)));
    lines
}

fn outage_rows(given: &Given, plan: &Plan, outage: &Outage) -> Vec<String> {
    let what = format!("outage of {}", span(outage.seconds));
    let size = format!("{} on disk", bytes(outage.disk_bytes));
    let mut lines = vec![row(
        &what,
        size,
        format!("{} samples, {} written to flash", count(outage.samples), bytes(outage.flash_bytes)),
    )];
    if outage.samples_beyond > 0.0 {
        let beyond = format!("{} samples", count(outage.samples_beyond));
        lines.push(row("  beyond the disk", beyond, "what spill.overflow says happens to so many".into()));
    }
    let (drain, why) = match (given.uplink_bit_per_s, outage.drain_s) {
        (None, _) => return lines,
        (Some(uplink), None) => {
            let carries = format!(
                "the uplink carries {} of {} needed for live data alone",
                bits(uplink),
                bits(plan.live_bit_per_s)
            );
            ("never".into(), carries)
        }
        (Some(uplink), Some(drain_s)) => {
            let spare = bits(uplink - plan.live_bit_per_s);
            let backlog = bytes(outage.samples * given.cost.uplink_bytes_per_sample);
            (span(drain_s), format!("{backlog} ÷ ({} − live {} = {spare})", bits(uplink), bits(plan.live_bit_per_s)))
        }
    };
    lines.push(row("  drain", drain, why));
    lines
}

fn row(what: &str, value: String, why: String) -> String {
    format!("{what:<24} {value:>16}   {why}")
}

fn bytes(bytes: f64) -> String {
    ByteSize::b(bytes.round() as u64).to_string()
}

fn bits(bit_per_s: f64) -> String {
    match bit_per_s {
        rate if rate >= 1e9 => format!("{:.2} Gbit/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.2} Mbit/s", rate / 1e6),
        rate => format!("{:.1} kbit/s", rate / 1e3),
    }
}

fn count(count: f64) -> String {
    indicatif::HumanCount(count.round() as u64).to_string()
}

/// A time in two units.
fn span(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..172_800 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "must be a number above 0, e.g. 5.2".into())
}

/// `100k`, `1.1M`, `78200`.
fn rate(text: &str) -> Result<f64, String> {
    scaled(text.trim().trim_end_matches("/s")).ok_or_else(|| "must be samples a second, e.g. 100k or 78200".into())
}

/// `2Mbit`, `512kbit/s`, `1Gbit`.
fn uplink(text: &str) -> Result<f64, String> {
    let text = text.trim().trim_end_matches("/s");
    let number = text.strip_suffix("bit").and_then(scaled);
    number.ok_or_else(|| "must be bits a second with their unit, e.g. 2Mbit or 512kbit".into())
}

fn scaled(text: &str) -> Option<f64> {
    let (number, factor) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1e3),
        (at, 'M') => (&text[..at], 1e6),
        (at, 'G') => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    positive(number.trim()).ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_links_are_read_as_people_write_them() {
        let table =
            [("100k", Some(100e3)), ("1.1M", Some(1.1e6)), ("78200/s", Some(78_200.0)), ("k", None), ("-1", None)];
        for (text, expected) in table {
            assert_eq!(rate(text).ok(), expected, "{text}");
        }
        let table = [
            ("2Mbit", Some(2e6)),
            ("512 kbit/s", Some(512e3)),
            ("1Gbit", Some(1e9)),
            ("9600bit", Some(9_600.0)),
            ("2M", None),
        ];
        for (text, expected) in table {
            assert_eq!(uplink(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn spans_have_the_two_units_that_matter() {
        let table = [(5.4, "5 s"), (61.0, "1 min 1 s"), (7_260.0, "2 h 1 min"), (200_000.0, "2 d 7 h")];
        for (seconds, expected) in table {
            assert_eq!(span(seconds), expected);
        }
    }
}

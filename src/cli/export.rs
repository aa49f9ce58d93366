//! `pitwire export`

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Failure, Outcome, print, say, store_config, told_to_stop};
use crate::clock::{Clock, SystemClock};
use crate::export::{
    ChannelFilter, ExportOptions, Format, GapQuery, Rule, Wanted, Wide, WideRows, export, gaps, parse_time, sessions,
    time_of, time_text,
};
use crate::sample::UnixMicros;
use crate::store;

/// A century: as good as for ever.
const MAX_AGE_US_MAX: i64 = 36_525 * 86_400_000_000;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pitwire export --store sqlite:///tmp/p.db --car 44 --format csv --channel 'engine.*' | head
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --from -10m --format parquet -o last10.parquet
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --session race --lap 12 --format csv
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --lap 12 --format parquet --wide --every 10ms -o lap12.parquet
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --from -10m --format arrow --wide --at gps.lat | my-script
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --from -10m --gaps")]
pub(super) struct Arguments {
    /// cassandra://host:port[,host:port]/keyspace or sqlite:///path
    #[arg(long)]
    store: String,
    /// Which cars; may be repeated, or separated by commas.
    #[arg(long, required = true, value_delimiter = ',')]
    car: Vec<String>,
    /// Which channels, with * and ?; may be repeated, or separated by commas. All if absent.
    #[arg(long)]
    channel: Vec<String>,
    /// From this time on: 2026-11-21T14:03:00Z, µs since 1970, or -10m.
    #[arg(long, allow_hyphen_values = true)]
    from: Option<String>,
    /// Before this time.
    #[arg(long, allow_hyphen_values = true)]
    to: Option<String>,
    /// Of this session, by number or name, the last one of several: `pitwire sessions` lists them.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    session: Option<String>,
    /// Of this lap, of several the last.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    lap: Option<i64>,
    /// csv, jsonl, parquet or arrow (an IPC stream).
    #[arg(long, required_unless_present = "gaps")]
    format: Option<Format>,
    #[command(flatten)]
    wide: WideArguments,
    /// With -o: after so long of work what is done is kept, which is what a kill may cost.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    checkpoint: Duration,
    /// What is missing instead of what is there: each declared gap as a JSON line on stdout.
    #[arg(long, conflicts_with_all = ["format", "output"])]
    gaps: bool,
    /// To this file instead of stdout; it appears when it is complete. If it is interrupted, the same command goes on.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// A column for each channel.
#[derive(clap::Args)]
struct WideArguments {
    /// A column for each channel and a row for each time, instead of a row for each sample.
    #[arg(long, conflicts_with = "gaps")]
    wide: bool,
    /// With --wide: a row at each multiple of this since 1970 (UTC), where a channel has a sample.
    #[arg(long, default_value = "10ms", requires = "wide", value_parser = humantime::parse_duration)]
    every: Duration,
    /// With --wide: what a cell is: the last sample as of the row's time, or the mean, min or max until the next row's.
    #[arg(long, default_value = "last", requires = "wide")]
    rule: Rule,
    /// With --wide: a row at each sample of this channel, the others as of then, instead of every so long.
    #[arg(long, value_name = "CHANNEL", requires = "wide", conflicts_with_all = ["every", "rule"])]
    at: Option<String>,
    /// With --wide: a sample that is older than this is not read on; the cell is empty then.
    #[arg(long, default_value = "10s", requires = "wide", value_parser = humantime::parse_duration)]
    max_age: Duration,
}

impl WideArguments {
    fn wide(self) -> Result<Option<Wide>, Failure> {
        if !self.wide {
            return Ok(None);
        }
        let whole_us = |flag: &str, length: Duration, most_us: i64| {
            let us = i64::try_from(length.as_micros()).ok().filter(|us| (1..=most_us).contains(us));
            us.filter(|_| length.subsec_nanos().is_multiple_of(1_000)).ok_or_else(|| {
                let most = humantime::format_duration(Duration::from_micros(most_us.unsigned_abs()));
                Failure::usage(format!(
                    "{flag} {}: a whole number of µs from 1us to {most}",
                    humantime::format_duration(length)
                ))
            })
        };
        let max_age_us = whole_us("--max-age", self.max_age, MAX_AGE_US_MAX)?;
        let rows = match self.at {
            Some(channel) => WideRows::At { channel },
            None => WideRows::Every { every_us: whole_us("--every", self.every, Wide::EVERY_US_MAX)?, rule: self.rule },
        };
        Ok(Some(Wide { rows, max_age_us }))
    }
}

fn of_channels(patterns: &[String]) -> String {
    if patterns.is_empty() { String::new() } else { format!(", channels {}", patterns.join(",")) }
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { store, car, channel, from, to, session, lap, format, wide, checkpoint, gaps: only_gaps, output } =
        arguments;
    let wide = wide.wide()?;
    let store = store_config(&store)?;
    let wanted = Wanted { session, lap };
    let now = SystemClock.now_utc();
    let time = |flag: &str, text: Option<String>| -> Result<Option<UnixMicros>, Failure> {
        let parsed = text.map(|text| parse_time(&text, now)).transpose();
        parsed.map_err(|error| Failure::usage(format!("{flag}: {error}")))
    };
    let asked = [("from", &from), ("to", &to), ("session", &wanted.session)]
        .map(|(word, text)| text.as_ref().map(|text| format!(" {word} {text}")));
    let mut words: String = asked.into_iter().flatten().collect();
    words.extend(wanted.lap.map(|lap| format!(" lap {lap}")));
    let (mut from, mut to) = (time("--from", from)?, time("--to", to)?);
    if wanted != Wanted::default() {
        let [car] = &car[..] else { return Err(Failure::usage("--session and --lap are of one --car")) };
        let store = store::connect_to_read(&store).await.map_err(Failure::failed)?;
        let found = sessions(&*store, car).await.map_err(Failure::failed)?;
        let range = time_of(&found, &wanted).map_err(Failure::failed)?;
        (from, to) = (range.0.map(UnixMicros), range.1.map(UnixMicros));
        let range = [("from", range.0), ("to", range.1)];
        let range = range.into_iter().filter_map(|(word, at)| Some(format!(" {word} {}", time_text(at?))));
        say(&format!("pitwire: car {car}{}", range.collect::<String>()));
    }
    if only_gaps {
        let store = store::connect_to_read(&store).await.map_err(Failure::failed)?;
        let [car] = <[String; 1]>::try_from(car).map_err(|_| Failure::usage("--gaps tells of one --car"))?;
        let query = GapQuery { car, from, to, channels: ChannelFilter::new(&channel) };
        for gap in gaps(&*store, &query).await.map_err(Failure::failed)? {
            print(&serde_json::to_string(&gap).map_err(Failure::failed)?)?;
        }
        return Ok(());
    }
    let Some(format) = format else { return Err(Failure::usage("--format csv, jsonl, parquet or arrow, or --gaps")) };
    if format.is_binary() && output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage(format!("{format} is no text for a terminal: name a file with -o, or pipe it")));
    }
    let table = wide.as_ref().map_or_else(String::new, |wide| format!(", {wide}"));
    let of = format!("{} of car {}{}{words} as {format}{table}", store.url, car.join(","), of_channels(&channel));
    let options = ExportOptions {
        cars: car,
        channels: channel,
        from,
        to,
        format,
        wide,
        output,
        of: Some(of),
        checkpoint,
        progress: true,
    };
    let stop = CancellationToken::new();
    let store = store::connect_to_read(&store).await.map_err(Failure::failed)?;
    let told = stop.clone();
    tokio::spawn(async move {
        if told_to_stop().await.is_ok() {
            told.cancel();
        }
    });
    let summary = match export(store, &options, stop).await {
        Err(error) if error.is_closed_pipe() => return Ok(()),
        other => other.map_err(Failure::failed)?,
    };
    if summary.partitions == 0 && summary.counts.samples == 0 {
        say(&format!("pitwire: the store holds nothing of car {} in this time", options.cars.join(" or ")));
    }
    for fault in &summary.counts.faults {
        say(&format!("pitwire: {fault}"));
    }
    if summary.is_complete() {
        Ok(())
    } else {
        Err(Failure::failed(format!("{} rows are damaged and were left out", summary.counts.damaged)))
    }
}

//! `pitwire export`

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Failure, Outcome, print, say, store_config, told_to_stop};
use crate::clock::{Clock, SystemClock};
use crate::export::{
    ChannelFilter, ExportOptions, Format, GapQuery, Wanted, export, gaps, parse_time, sessions, time_of, time_text,
};
use crate::sample::UnixMicros;
use crate::store;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pitwire export --store sqlite:///tmp/p.db --car 44 --format csv --channel 'engine.*' | head
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --from -10m --format parquet -o last10.parquet
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --session race --lap 12 --format csv
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
    /// csv, jsonl or parquet.
    #[arg(long, required_unless_present = "gaps")]
    format: Option<Format>,
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

fn of_channels(patterns: &[String]) -> String {
    if patterns.is_empty() { String::new() } else { format!(", channels {}", patterns.join(",")) }
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { store, car, channel, from, to, session, lap, format, checkpoint, gaps: only_gaps, output } =
        arguments;
    let store = store_config(&store)?;
    let wanted = Wanted { session, lap };
    let now = SystemClock.now_utc();
    let time = |flag: &str, text: Option<String>| -> Result<Option<UnixMicros>, Failure> {
        let parsed = text.map(|text| parse_time(&text, now)).transpose();
        parsed.map_err(|error| Failure::usage(format!("{flag}: {error}")))
    };
    let words = [("from", &from), ("to", &to)].map(|(word, at)| at.as_ref().map(|at| format!(" {word} {at}")));
    let words = words.into_iter().flatten().collect::<String>();
    let (mut from, mut to) = (time("--from", from)?, time("--to", to)?);
    let mut words = words;
    if wanted != Wanted::default() {
        let [car] = &car[..] else { return Err(Failure::usage("--session and --lap are of one --car")) };
        let store = store::connect_to_read(&store).await.map_err(Failure::failed)?;
        let found = sessions(&*store, car).await.map_err(Failure::failed)?;
        let range = time_of(&found, &wanted).map_err(Failure::failed)?;
        (from, to) = (range.0.map(UnixMicros), range.1.map(UnixMicros));
        words = [("from", range.0), ("to", range.1)]
            .into_iter()
            .filter_map(|(word, at)| Some(format!(" {word} {}", time_text(at?))))
            .collect();
        say(&format!("pitwire: car {car}{words}"));
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
    let Some(format) = format else { return Err(Failure::usage("--format csv, jsonl or parquet, or --gaps")) };
    let of = format!("{} of car {}{}{words} as {format}", store.url, car.join(","), of_channels(&channel));
    let options = ExportOptions {
        cars: car,
        channels: channel,
        from,
        to,
        format,
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

//! The pipeline engine's task, given to its peers: see docs/benchmarks.md. `benches/peers/run` runs it.
//!
//! ```text
//! pitwire-peers list                    one line for each measurement: peer, case, threads
//! pitwire-peers measure PEER CASE N     one line of JSON; fails where the peer did not do its task
//! pitwire-peers table [--markdown]      from such lines on standard input: medians, spread, ratios
//! ```
//!
//! The cases are `no_ops`, `batches`, `cpu` and `probe`; `N` is the number of threads of the CPU stage.

mod machine;
mod peers;
mod table;
mod task;

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use machine::Clocks;
use peers::Peer;
use peers::{buffered, by_hand, nothing, par_stream, pariter, pitwire, pumps, rayon, roughage};
use task::{CONCURRENCY, Payload, Probe, RUNTIME_THREADS, Tally, work};

/// Name in the table, what is measured of it, and items of `no_ops` and `batches`: about half a second of them.
const PEERS: &[(&str, &[&str], u64)] = &[
    ("pitwire", &["no_ops", "batches", "cpu", "probe"], 1_500_000),
    ("pitwire-untimed", &["no_ops", "batches", "cpu"], 1_500_000),
    ("nothing", &["cpu"], 0),
    ("mpsc", &["no_ops", "batches", "cpu"], 2_000_000),
    ("window", &["no_ops", "batches", "cpu", "probe"], 500_000),
    ("buffered", &["no_ops", "batches", "cpu", "probe"], 1_500_000),
    ("pumps", &["no_ops", "batches", "cpu", "probe"], 400_000),
    ("pumps-bare", &["no_ops", "batches"], 400_000),
    ("par-stream", &["no_ops", "batches", "cpu", "probe"], 1_500_000),
    ("roughage", &["no_ops", "batches", "cpu", "probe"], 2_000_000),
    ("pariter", &["cpu", "probe"], 0),
    ("rayon", &["no_ops", "batches", "cpu", "probe"], 300_000),
];
/// Half a second on one thread.
const CPU_ITEMS: u64 = 10_000;
/// What is run before the clock starts, as a part of what is measured.
const WARM_UP: u64 = 10;

/// One measurement. Every program beside us prints this line, so what only some have is optional.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) peer: String,
    pub(crate) case: String,
    /// Of the CPU stage where that is the case, else of the runtime.
    pub(crate) threads: usize,
    #[serde(default)]
    pub(crate) items: u64,
    #[serde(default)]
    pub(crate) seconds: f64,
    #[serde(default)]
    pub(crate) items_per_s: f64,
    #[serde(default)]
    pub(crate) samples_per_s: f64,
    /// The process's, all threads together, for one item.
    #[serde(default)]
    pub(crate) cpu_us_per_item: f64,
    /// What the rest of the machine used meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) others_cores: Option<f64>,
    /// One operation of the CPU stage, in a loop without a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) work_us: Option<f64>,
    /// `probe`: operations asked for, and seen at most at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_progress_max: Option<usize>,
    /// `probe`: operations that started while the first one was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_behind_first: Option<usize>,
    /// That the count and the order of what came out were looked at, and right.
    #[serde(default)]
    pub(crate) checked: bool,
    /// Round of the run, added by `benches/peers/run`: ratios are taken within one.
    #[serde(default, skip_serializing)]
    pub(crate) round: u32,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => list(),
        ["measure", peer, case, threads] => {
            let threads = threads.parse().with_context(|| format!("`{threads}` is no number of threads"))?;
            println!("{}", serde_json::to_string(&measure_named(peer, case, threads)?)?);
        }
        ["table"] => table::print(table::Form::Terminal)?,
        ["table", "--markdown"] => table::print(table::Form::Markdown)?,
        _ => bail!("pitwire-peers list | measure PEER CASE THREADS | table [--markdown]"),
    }
    Ok(())
}

fn list() {
    for (peer, cases, _) in PEERS {
        for case in *cases {
            let threads: &[usize] = if *case == "cpu" { &[1, 2] } else { &[RUNTIME_THREADS] };
            threads.iter().for_each(|threads| println!("{peer} {case} {threads}"));
        }
    }
}

fn measure_named(peer: &str, case: &str, threads: usize) -> Result<Line> {
    let Some((_, cases, items)) = PEERS.iter().find(|(name, ..)| *name == peer) else {
        bail!("no peer `{peer}`: pitwire-peers list names them");
    };
    ensure!(cases.contains(&case), "`{peer}` has no case `{case}`: pitwire-peers list names them");
    let measured = match peer {
        "pitwire" => measure::<pitwire::Pitwire<true>>(case, threads, *items),
        "pitwire-untimed" => measure::<pitwire::Pitwire<false>>(case, threads, *items),
        "nothing" => measure::<nothing::Nothing>(case, threads, *items),
        "mpsc" => measure::<by_hand::Chain>(case, threads, *items),
        "window" => measure::<by_hand::Window>(case, threads, *items),
        "buffered" => measure::<buffered::Buffered>(case, threads, *items),
        "pumps" => measure::<pumps::Pumps>(case, threads, *items),
        "pumps-bare" => measure::<pumps::BarePumps>(case, threads, *items),
        "par-stream" => measure::<par_stream::ParStream>(case, threads, *items),
        "roughage" => measure::<roughage::Roughage>(case, threads, *items),
        "pariter" => measure::<pariter::Pariter>(case, threads, *items),
        "rayon" => measure::<rayon::Rayon>(case, threads, *items),
        _ => unreachable!("it is in the list"),
    };
    let line = measured.with_context(|| format!("{peer}, {case}, {threads} threads"))?;
    Ok(Line { peer: peer.into(), case: case.into(), threads, checked: true, ..line })
}

fn measure<P: Peer>(case: &str, threads: usize, items: u64) -> Result<Line> {
    match case {
        "no_ops" => stages::<P, u64>(items),
        "batches" => stages::<P, Vec<f32>>(items),
        "cpu" => cpu::<P>(threads),
        "probe" => probe::<P>(),
        _ => bail!("no case `{case}`"),
    }
}

fn stages<P: Peer, T: Payload>(items: u64) -> Result<Line> {
    let runtime = runtime(RUNTIME_THREADS)?;
    timed(&runtime, P::no_ops::<T>(items / WARM_UP))?.0.check(items / WARM_UP)?;
    let (tally, line) = timed(&runtime, P::no_ops::<T>(items))?;
    tally.check(items)?;
    Ok(line)
}

fn cpu<P: Peer>(threads: usize) -> Result<Line> {
    // The bound on tokio's blocking threads is what makes a pool of it for those who have none.
    let runtime = runtime(threads)?;
    timed(&runtime, P::cpu(CPU_ITEMS / WARM_UP, threads))?.0.check(CPU_ITEMS / WARM_UP)?;
    let started = Instant::now();
    let expected = (0..CPU_ITEMS).fold(0_u64, |sum, index| sum.wrapping_add(work(index).value));
    let work_us = started.elapsed().as_secs_f64() * 1e6 / CPU_ITEMS as f64;
    let (tally, line) = timed(&runtime, P::cpu(CPU_ITEMS, threads))?;
    tally.check(CPU_ITEMS)?;
    ensure!(tally.values() == expected, "what came out is not what the stage computes");
    Ok(Line { work_us: Some(work_us), ..line })
}

fn probe<P: Peer>() -> Result<Line> {
    let probe = Probe::new();
    let runtime = runtime(RUNTIME_THREADS)?;
    let (tally, line) = timed(&runtime, P::probed(probe.clone()))?;
    tally.check(Probe::ITEMS)?;
    Ok(Line {
        asked: Some(CONCURRENCY),
        in_progress_max: Some(probe.in_progress_max()),
        started_behind_first: Some(probe.started_behind_first()),
        ..line
    })
}

fn runtime(blocking_threads: usize) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(RUNTIME_THREADS).max_blocking_threads(blocking_threads).enable_time();
    builder.build().context("start the runtime")
}

/// Runs it on the runtime's own threads: the sink of every peer is one of their tasks.
fn timed(runtime: &Runtime, run: impl Future<Output = Tally> + Send + 'static) -> Result<(Tally, Line)> {
    let before = Clocks::now();
    let tally = runtime.block_on(async { tokio::spawn(run).await }).context("the pipeline panicked")?;
    let used = before.used();
    let seconds = used.wall.as_secs_f64();
    let items = tally.received();
    let line = Line {
        items,
        seconds,
        items_per_s: items as f64 / seconds,
        samples_per_s: tally.samples() as f64 / seconds,
        cpu_us_per_item: used.own.as_secs_f64() * 1e6 / items.max(1) as f64,
        others_cores: used.others_cores,
        ..Line::default()
    };
    Ok((tally, line))
}

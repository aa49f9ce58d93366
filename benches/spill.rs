//! The disk queue on the disk that it is run on: what a commit costs, what recycling saves, how long a start takes.
//!
//! ```text
//! make bench-spill                 on target/bench-spill; as root also on an ext4 of its own, for the device's counters
//! make bench-spill BENCH=/mnt/x    on another disk
//! ```
//! `dd oflag=dsync` runs in the same place before, between and after, so that what else the disk does meets both. Where a
//! figure has a bound it stands beside it; the exit code is 1 if one is not met.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its result is what it prints")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytesize::ByteSize;
use pitwire::spill::{Config, Overflow, RealFs, Record, Spill};

type Failure = Box<dyn std::error::Error>;

/// With its header of 56 bytes exactly 64 KiB.
const COMMIT_BYTES: usize = 64 << 10;
const COMMITS: usize = 400;
/// How often appends and `dd` take turns: the median of the ratios counts.
const ROUNDS: usize = 5;
/// Bounds that were not met.
static SHORT: AtomicU32 = AtomicU32::new(0);
/// What lies there when a start is measured.
const BACKLOG_BYTES: u64 = 1 << 30;
const SMALL_RECORDS: usize = 300_000;
/// What lies there when memory is measured.
const LARGE_BYTES: u64 = 10 << 30;
/// Set in the process whose memory is measured: the directory of its queue.
const MEASURED: &str = "PITWIRE_BENCH_MEASURED";

fn main() -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if let Some(dir) = std::env::var_os(MEASURED) {
        runtime.block_on(measured(dir.into()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let dir = wanted.map_or_else(|| PathBuf::from("target/bench-spill"), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let place = tempfile::tempdir_in(&dir)?;
    println!("{:<58} {:>13}  bound", "what", "figure");
    runtime.block_on(async {
        appends(place.path()).await?;
        starts(place.path()).await?;
        small(place.path()).await?;
        large(place.path()).await
    })?;
    if let Err(error) = device(&dir, &runtime) {
        eprintln!("SKIPPED the device's counters: {error}");
    }
    Ok(ExitCode::from(u8::from(SHORT.load(Ordering::Relaxed) > 0)))
}

fn row(what: &str, figure: impl std::fmt::Display) {
    println!("{what:<58} {figure:>13}");
}

/// A figure that has to be `met`.
fn bound(what: &str, figure: &str, bound: &str, met: bool) {
    let verdict = if met { "ok" } else { "SHORT" };
    println!("{what:<58} {figure:>13}  {bound}: {verdict}");
    SHORT.fetch_add(u32::from(!met), Ordering::Relaxed);
}

fn config(dir: PathBuf) -> Config {
    Config { dir, disk_max: ByteSize::gib(16), overflow: Overflow::Block, ..Config::default() }
}

fn open(config: &Config) -> Result<Spill, Failure> {
    Ok(Spill::open(config.clone(), Arc::new(RealFs), Arc::new(()))?.0)
}

/// Content that no layer can squeeze.
fn record(seed: u64, bytes: usize) -> Record {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut payload = Vec::with_capacity(bytes + 8);
    while payload.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.extend_from_slice(&state.to_le_bytes());
    }
    payload.truncate(bytes);
    Record { meta: Bytes::new(), payload: payload.into(), weight: 1 }
}

async fn append(spill: &Spill, count: usize) -> Result<Duration, Failure> {
    let records: Vec<Record> = (0..count as u64).map(|n| record(n, COMMIT_BYTES - 56)).collect();
    let start = Instant::now();
    for record in records {
        spill.append(vec![record]).await?;
    }
    Ok(start.elapsed())
}

async fn drain(spill: &Spill) {
    while spill.stats().backlog_records > 0 {
        for (position, _) in spill.next_batch(64, 8 << 20).await.unwrap_or_default() {
            spill.ack(position);
        }
    }
    spill.settled().await;
}

fn dd(dir: &Path) -> Result<f64, Failure> {
    let file = dir.join("dd");
    let arguments = ["if=/dev/zero", "bs=64k", "oflag=dsync", &format!("count={COMMITS}")].map(str::to_owned);
    let start = Instant::now();
    let status =
        Command::new("dd").args(arguments).arg(format!("of={}", file.display())).stderr(Stdio::null()).status();
    let took = start.elapsed();
    if !status?.success() {
        return Err("dd failed".into());
    }
    std::fs::remove_file(file)?;
    Ok(rate((COMMITS * COMMIT_BYTES) as u64, took))
}

/// MB/s.
fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

async fn appends(dir: &Path) -> Result<(), Failure> {
    let spill = open(&config(dir.join("appends")))?;
    let bytes = (COMMITS * COMMIT_BYTES) as u64;
    let mut beside = vec![dd(dir)?];
    let first = rate(bytes, append(&spill, COMMITS).await?);
    row("append, 64 KiB commits, new segments, MB/s", format!("{first:.1}"));
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        drain(&spill).await;
        let recycled = rate(bytes, append(&spill, COMMITS).await?);
        beside.push(dd(dir)?);
        let around = f64::midpoint(beside[beside.len() - 2], beside[beside.len() - 1]);
        row("append, recycled segments, MB/s (dd oflag=dsync around it)", format!("{recycled:.0} ({around:.0})"));
        ratios.push(recycled / around);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    let spread = format!("at least 0.8 (from {:.2} to {:.2})", ratios[0], ratios[ROUNDS - 1]);
    bound("  beside dd, median", &format!("{median:.2}"), &spread, median >= 0.8);
    spill.close().await;
    std::fs::remove_dir_all(dir.join("appends"))?;
    Ok(())
}

async fn fill(spill: &Spill, bytes: u64) -> Result<(), Failure> {
    let records: Vec<Record> = (0..16).map(|n| record(n, 62_000)).collect();
    let mut left = bytes;
    while left > 0 {
        spill.append(records.clone()).await?;
        left = left.saturating_sub(16 * 62_000);
    }
    Ok(())
}

async fn starts(dir: &Path) -> Result<(), Failure> {
    let config = config(dir.join("starts"));
    let spill = open(&config)?;
    fill(&spill, BACKLOG_BYTES).await?;
    let empty = resident("VmRSS:")?;
    spill.close().await;
    let start = Instant::now();
    let spill = open(&config)?;
    spill.append(vec![record(1, 1000)]).await?;
    let accepted = start.elapsed();
    let found = spill.recovered().await;
    let scanned = start.elapsed();
    let (ms, scan) = (accepted.as_secs_f64() * 1e3, rate(found.bytes, scanned));
    bound("1 GiB there: open to first append durable, ms", &format!("{ms:.1}"), "at most 1000", ms <= 1_000.0);
    bound("scan of it from the page cache, MB/s", &format!("{scan:.0}"), "at least 500", scan >= 500.0);
    row("records found", found.records);
    row("resident with it beside before, MiB", format!("{:+.1}", (resident("VmRSS:")? - empty) / 1024.0));
    spill.close().await;
    std::fs::remove_dir_all(dir.join("starts"))?;
    Ok(())
}

async fn small(dir: &Path) -> Result<(), Failure> {
    let config = config(dir.join("small"));
    let spill = open(&config)?;
    let records: Vec<Record> = (0..1000).map(|n| record(n, 300)).collect();
    spill.append(records.clone()).await?;
    let before = resident("VmRSS:")?;
    for _ in 1..SMALL_RECORDS / 1000 {
        spill.append(records.clone()).await?;
    }
    row("300,000 records of 300 B appended: resident, MiB", format!("{:+.1}", (resident("VmRSS:")? - before) / 1024.0));
    row("the same with an index of 24 B each, MiB", format!("{:.1}", SMALL_RECORDS as f64 * 24.0 / 1048576.0));
    spill.close().await;
    let before = resident("VmRSS:")?;
    let spill = open(&config)?;
    spill.recovered().await;
    row("found again at a start: resident, MiB", format!("{:+.1}", (resident("VmRSS:")? - before) / 1024.0));
    spill.close().await;
    std::fs::remove_dir_all(dir.join("small"))?;
    Ok(())
}

/// Opens a queue, has all of it scanned and some of it read, appends to it, and prints the most memory that it took, KiB.
async fn measured(dir: PathBuf) -> Result<(), Failure> {
    let spill = open(&config(dir))?;
    spill.recovered().await;
    for n in 0..100 {
        spill.append(vec![record(n, 62_000)]).await?;
        for (position, _) in spill.next_batch(32, 4 << 20).await.unwrap_or_default() {
            spill.ack(position);
        }
    }
    spill.close().await;
    println!("{}", resident("VmHWM:")?);
    Ok(())
}

async fn large(dir: &Path) -> Result<(), Failure> {
    let peak = |dir: PathBuf| -> Result<f64, Failure> {
        let output = Command::new(std::env::current_exe()?).env(MEASURED, dir).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    let empty = peak(dir.join("empty"))?;
    let config = config(dir.join("large"));
    let spill = open(&config)?;
    fill(&spill, LARGE_BYTES).await?;
    spill.close().await;
    let start = Instant::now();
    let full = peak(config.dir.clone())?;
    let more = (full - empty) / 1024.0;
    bound("10 GiB there: peak memory beside none, MiB", &format!("{more:+.1}"), "at most 32", more <= 32.0);
    row("  scanned, partly read and appended to, s", format!("{:.1}", start.elapsed().as_secs_f64()));
    std::fs::remove_dir_all(config.dir)?;
    Ok(())
}

/// A figure of this process's memory, KiB.
fn resident(which: &str) -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)).ok_or("no such figure")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// An ext4 in a file, unmounted when dropped.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn device(dir: &Path, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    let place = tempfile::tempdir_in(dir)?;
    let (image, mounted) = (place.path().join("image"), place.path().join("mount"));
    std::fs::create_dir(&mounted)?;
    std::fs::File::create(&image)?.set_len(512 << 20)?;
    let (image, path) = (image.display().to_string(), mounted.display().to_string());
    run("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image])?;
    run("mount", &["-o", "loop", &image, &path])?;
    let mount = Mount(mounted.clone());
    let source = run("findmnt", &["-no", "SOURCE", &path])?;
    let stat = format!("/sys/block/{}/stat", source.trim_start_matches("/dev/"));
    let written = || -> Result<u64, Failure> {
        // What the file system puts off is charged to what has caused it.
        run("sync", &["-f", &path])?;
        let text = std::fs::read_to_string(&stat)?;
        Ok(text.split_whitespace().nth(6).ok_or("a short stat")?.parse::<u64>()? * 512)
    };
    let payload = (COMMITS * (COMMIT_BYTES - 56)) as f64;
    let spill = runtime.block_on(async { open(&config(mounted.join("spill"))) })?;
    for what in ["new", "recycled", "recycled, once more"] {
        let (from, to) = runtime.block_on(async {
            let from = written()?;
            append(&spill, COMMITS).await?;
            let to = written()?;
            drain(&spill).await;
            // The last segment is closed when it is drained and a second old: else its rest would be used for the first
            // time in the next round.
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<_, Failure>((from, to))
        })?;
        let (each, name) = ((to - from) as f64 / payload, format!("device bytes for each payload byte, {what}"));
        match what {
            "new" => row(&name, format!("{each:.3}")),
            _ => bound(&name, &format!("{each:.3}"), "at most 1.05", each <= 1.05),
        }
        row("  for each commit of 64 KiB, bytes", (to - from) / COMMITS as u64);
    }
    runtime.block_on(spill.close());
    drop(spill);
    drop(mount);
    Ok(())
}

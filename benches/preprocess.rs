//! What the steps cost: nanoseconds a sample on one core, and allocations a batch.
//!
//! The frames are those of the simulated car: Bursts of one channel (`f1`), Scans of a group (`wide`), as many samples
//! as fit into 1 KiB. Making, counting and settling them is not timed. Each round drives the car on in device time, so
//! that nothing repeats unless it is meant to; the variants take turns within a round, so that what else the machine
//! does meets all alike. The table gives the medians.
//!
//! ```text
//! cargo bench --bench preprocess
//! cargo bench --bench preprocess -- --json     one line for each tier and variant
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its result is what it prints")]

#[path = "preprocess/frames.rs"]
mod frames;

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firmware_sim::Tier;
use pitwire::item::{Batch, Item};
use pitwire::ledger::{Fate, Ledger};
use pitwire::pipeline::Stage;
use pitwire::preprocess::{Config, Preprocess, Setup, StepCounts, Swap};
use pitwire::sample::Values;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use frames::Frames;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 11;
/// Rounds that are not counted: in them dedup's window of 5 s fills, and with it memory that is new to the process.
const WARM_UP: usize = 12;
/// Device time of a round.
const TIERS: [(Tier, Duration); 2] = [(Tier::F1, Duration::from_millis(500)), (Tier::Wide, Duration::from_secs(4))];

const NO_DEDUP: &str = "[dedup]\nenabled = false\n";
const LINEAR: &str = "[[calibrate]]\nchannel = '*'\nscale = 1.01\noffset = 0.5\n";
const TABLE: &str =
    "[[calibrate]]\nchannel = '*'\ntable = [[-1e5, -1e5], [0.0, 1.0], [10.0, 12.0], [100.0, 105.0], [1e5, 1e5]]\n";
const RANGE_RATE: &str = "[[validate]]\nchannel = '*'\nmin = -1e6\nmax = 1e6\nrate_max = 1e8\n";
const EVERYTHING: &str = "stuck_after = '1h'\ngap_periods = 1.5\ntime_backwards = true\n";
const NEVER_GOOD: &str = "[[validate]]\nchannel = '*'\nrate_max = 1e-9\n";

/// What is measured: a name, the configuration, and how often each frame comes.
struct Variant {
    name: &'static str,
    config: String,
    times: usize,
}

fn variants() -> Vec<Variant> {
    let of = |name, config: &[&str], times| Variant { name, config: config.concat(), times };
    vec![
        of("no step", &[NO_DEDUP], 1),
        of("dedup", &[], 1),
        of("dedup, all comes twice", &[], 2),
        of("calibrate: linear", &[NO_DEDUP, LINEAR], 1),
        of("calibrate: table", &[NO_DEDUP, TABLE], 1),
        of("validate: range, rate", &[NO_DEDUP, RANGE_RATE], 1),
        of("validate: everything", &[NO_DEDUP, RANGE_RATE, EVERYTHING], 1),
        of("validate: all flagged", &[NO_DEDUP, NEVER_GOOD], 1),
        of("dedup, linear, range, rate", &[LINEAR, RANGE_RATE], 1),
    ]
}

struct Measured {
    name: &'static str,
    ns: Vec<f64>,
    allocations_per_batch: f64,
}

fn main() {
    // `cargo test --benches` runs this too, without the word: it asserts nothing about speed.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("SKIPPED bench preprocess: it runs under `cargo bench` only");
        return;
    }
    let json = std::env::args().any(|argument| argument == "--json");
    for (tier, span) in TIERS {
        let frames = Frames::new(tier, span);
        let (batches, samples) = (frames.batches(), frames.samples());
        let all = measure(&frames);
        if json {
            for Measured { name, ns, allocations_per_batch } in &all {
                let line = serde_json::json!({
                    "tier": tier.as_str(), "variant": name, "ns_per_sample": median(ns), "ns_per_sample_min": least(ns),
                    "allocations_per_batch": allocations_per_batch, "batches": batches, "samples": samples,
                });
                println!("{line}");
            }
            continue;
        }
        println!("{tier}: {samples} samples in {batches} batches, median of {ROUNDS} rounds\n");
        println!("| what | ns/sample | least | allocations/batch |\n|---|---:|---:|---:|");
        for Measured { name, ns, allocations_per_batch } in &all {
            println!("| {name} | {:.2} | {:.2} | {allocations_per_batch:.2} |", median(ns), least(ns));
        }
        println!();
    }
}

fn measure(frames: &Frames) -> Vec<Measured> {
    let ledger = Ledger::new();
    let variants = variants();
    let mut stages: Vec<Preprocess> = variants.iter().map(|variant| stage(&variant.config, &ledger)).collect();
    let empty = |name| Measured { name, ns: Vec::new(), allocations_per_batch: 0.0 };
    let mut all: Vec<Measured> =
        std::iter::once("memcpy").chain(variants.iter().map(|variant| variant.name)).map(empty).collect();
    for round in 0..WARM_UP + ROUNDS {
        let copied = copy(frames.batches_of(round, &ledger));
        let mut measured = vec![(copied, 0)];
        for (stage, variant) in stages.iter_mut().zip(&variants) {
            measured.push(run(stage, frames.batches_of(round, &ledger), variant.times, || {
                frames.batches_of(round, &ledger)
            }));
        }
        if round < WARM_UP {
            continue;
        }
        let times = std::iter::once(1).chain(variants.iter().map(|variant| variant.times));
        for ((measured, all), times) in measured.into_iter().zip(&mut all).zip(times) {
            let (time, allocations) = measured;
            all.ns.push(time.as_nanos() as f64 / (frames.samples() * times) as f64);
            all.allocations_per_batch = allocations as f64 / (frames.batches() * times) as f64;
        }
    }
    assert!(ledger.snapshot().balanced, "every sample has a fate");
    all
}

fn stage(config: &str, ledger: &Arc<Ledger>) -> Preprocess {
    let config: Config = toml::from_str(config).expect("the bench's own configurations are right");
    assert_eq!(config.faults(), []);
    let counts = Arc::new(StepCounts::default());
    let setup = Setup { ledger: ledger.clone(), counts, lag: Arc::new(|| Duration::ZERO) };
    Preprocess::new(&config, setup, Swap::default())
}

/// Passes all batches through, then the same again from `more`, `times` in all.
fn run(stage: &mut Preprocess, batches: Vec<Batch>, times: usize, more: impl Fn() -> Vec<Batch>) -> (Duration, usize) {
    let mut all = vec![batches];
    all.extend((1..times).map(|_| more()));
    let mut out = Vec::with_capacity(all.iter().map(Vec::len).sum());
    let region = Region::new(ALLOCATOR);
    let start = Instant::now();
    for batch in all.iter_mut().flat_map(|batches| batches.drain(..)) {
        stage.process(Item::Batch(batch), &mut out);
    }
    let (time, allocations) = (start.elapsed(), region.change().allocations);
    for item in out {
        if let Item::Batch(batch) = item {
            batch.custody.receipt.settle();
            batch.custody.tally.settle(Fate::Stored);
        }
    }
    (time, allocations)
}

/// The least that touching every value once costs.
fn copy(batches: Vec<Batch>) -> Duration {
    let (mut i16s, mut i32s, mut f32s) = (Vec::new(), Vec::new(), Vec::new());
    let start = Instant::now();
    for column in batches.iter().flat_map(|batch| &batch.columns) {
        match &column.values {
            Values::I16(v) => i16s.clone_from(v),
            Values::I32(v) => i32s.clone_from(v),
            Values::F32(v) => f32s.clone_from(v),
            Values::F64(_) => unreachable!("no device sends these"),
        }
        black_box((&mut i16s, &mut i32s, &mut f32s));
    }
    let time = start.elapsed();
    batches.into_iter().for_each(|batch| batch.custody.tally.settle(Fate::Stored));
    time
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::MAX, f64::min)
}

//! Throughput: three stages that do nothing, the same in batches, a CPU stage, and the cost of statistics.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pitwire_pipeline::{Bounds, Builder, Error, OnSourceError, Operation, Order, Policy, from_iter};
use tokio::runtime::Runtime;

use super::{Aim, Measured, median};

pub(crate) const QUEUE: usize = 64;
pub(crate) const CONCURRENCY: usize = 4;
const ITEMS: u64 = 300_000;

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system gives two threads")
}

/// Hands the item on.
pub(crate) struct Nothing;

impl<T: Default + Send + 'static> Operation<T> for Nothing {
    type Out = T;

    async fn run(&self, item: &mut T) -> Result<T, Error> {
        Ok(std::mem::take(item))
    }
}

/// A source, three stages and an outlet; answers how long all items took.
pub(crate) async fn three_stages<T, I>(items: I, concurrency: usize, statistics: bool) -> Duration
where
    T: Default + Send + 'static,
    I: IntoIterator<Item = T>,
    I::IntoIter: Send + 'static,
{
    let mut builder = Builder::new("bench").statistics(statistics);
    let input =
        builder.input("in", Bounds::items(QUEUE)).source("source", from_iter(items), OnSourceError::FailPipeline);
    let mut chain = input.chain();
    for name in ["a", "b", "c"] {
        let stage = chain.stage(name).concurrency(concurrency).order(Order::Input).on_failure(Policy::fail());
        chain = stage.run(Nothing, Bounds::items(QUEUE));
    }
    let mut outlet = chain.outlet("main");
    let plan = builder.build().expect("the pipeline is complete");
    let began = Instant::now();
    let pipeline = plan.start();
    let taker = tokio::spawn(async move {
        while let Some(item) = outlet.recv().await {
            black_box(item);
        }
    });
    taker.await.expect("it ends with the stream");
    let took = began.elapsed();
    pipeline.join().await.result.expect("nothing fails");
    took
}

/// The same shape of bare channels: one task a stage, nothing counted.
async fn three_hops<T: Send + 'static>(items: impl Iterator<Item = T> + Send + 'static) -> Duration {
    let began = Instant::now();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(QUEUE);
    tokio::spawn(async move {
        for item in items {
            if sender.send(item).await.is_err() {
                break;
            }
        }
    });
    for _ in 0..3 {
        let (sender, next) = tokio::sync::mpsc::channel(QUEUE);
        let mut input = std::mem::replace(&mut receiver, next);
        tokio::spawn(async move {
            while let Some(item) = input.recv().await {
                if sender.send(item).await.is_err() {
                    break;
                }
            }
        });
    }
    let taker = tokio::spawn(async move {
        while let Some(item) = receiver.recv().await {
            black_box(item);
        }
    });
    taker.await.expect("it ends with the stream");
    began.elapsed()
}

fn rate(items: u64, took: Duration) -> f64 {
    items as f64 / took.as_secs_f64()
}

pub(crate) fn stages(repeat: usize) -> Vec<Measured> {
    let runtime = runtime();
    let (mut engine, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        engine.push(rate(ITEMS, runtime.block_on(three_stages(0..ITEMS, CONCURRENCY, true))));
        raw.push(rate(ITEMS, runtime.block_on(three_hops(0..ITEMS))));
    }
    let ((value, range), (raw, raw_range)) = (median(engine), median(raw));
    let case = "stages";
    let measured =
        |what, value, range, beside, aim| Measured { case, what, value, unit: "items/s", range, beside, aim };
    vec![
        measured("tokio mpsc, three hops", raw, raw_range, None, None),
        measured("engine, three stages of 4, ordered", value, range, None, Some(Aim::AtLeast(300_000.0))),
        measured("the same", value, range, Some(("mpsc", value / raw)), Some(Aim::AtLeast(0.3))),
    ]
}

const BATCH: u64 = 64;

pub(crate) fn batches(repeat: usize) -> Vec<Measured> {
    let runtime = runtime();
    let batches = || (0..ITEMS / 2).map(|first| (first..first + BATCH).collect::<Vec<u64>>());
    let (mut engine, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        engine.push(rate(ITEMS / 2 * BATCH, runtime.block_on(three_stages(batches(), CONCURRENCY, true))));
        raw.push(rate(ITEMS / 2 * BATCH, runtime.block_on(three_hops(batches()))));
    }
    let ((value, range), (raw, raw_range)) = (median(engine), median(raw));
    let (case, unit) = ("batches", "samples/s");
    vec![
        Measured {
            case,
            what: "tokio mpsc, batches of 64",
            value: raw,
            unit,
            range: raw_range,
            beside: None,
            aim: None,
        },
        Measured {
            case,
            what: "engine, batches of 64",
            value,
            unit,
            range,
            beside: None,
            aim: Some(Aim::AtLeast(10e6)),
        },
    ]
}

/// Keeps a core busy for about 200 µs.
fn work(seed: u64) -> u64 {
    (0..360_000_u64).fold(seed, |sum, n| black_box(sum.rotate_left(5) ^ n.wrapping_mul(0x9e37_79b9)))
}

/// Long enough that where the system puts the threads at first does not decide.
const OPERATIONS: u64 = 4_000;
/// Operations scheduled for each thread of a pool: what is done waits to be taken while others run.
const SCHEDULED: usize = 8;

/// The same work on bare threads, an equal share each: what the machine gives just now.
fn on_threads(threads: u64) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (0..OPERATIONS / threads).for_each(|n| _ = black_box(work(n ^ thread))));
        }
    });
    rate(OPERATIONS, began.elapsed())
}

async fn on_pool(threads: usize) -> f64 {
    let mut builder = Builder::new("cpu");
    let pool = builder.pool("cpu", threads, SCHEDULED * threads);
    let input = builder.input("in", Bounds::items(QUEUE));
    let chain = input.source("source", from_iter(0..OPERATIONS), OnSourceError::FailPipeline).chain();
    let stage = chain.stage("work").concurrency(SCHEDULED * threads).order(Order::Input).on_failure(Policy::fail());
    let mut outlet = stage.cpu(pool, |seed: &mut u64| Ok(work(*seed)), Bounds::items(QUEUE)).outlet("main");
    let pipeline = builder.build().expect("the pipeline is complete").start();
    let began = Instant::now();
    while let Some(item) = outlet.recv().await {
        black_box(item);
    }
    let took = began.elapsed();
    pipeline.join().await.result.expect("nothing fails");
    rate(OPERATIONS, took)
}

pub(crate) fn cpu(repeat: usize) -> Vec<Measured> {
    let runtime = runtime();
    let mut rates: [Vec<f64>; 4] = Default::default();
    let mut ratios: [Vec<f64>; 2] = Default::default();
    for _ in 0..repeat {
        // In turn, so that whatever else the machine does meets all.
        let now = [on_threads(1), on_threads(2), runtime.block_on(on_pool(1)), runtime.block_on(on_pool(2))];
        rates.iter_mut().zip(now).for_each(|(rates, rate)| rates.push(rate));
        ratios.iter_mut().zip([now[1] / now[0], now[3] / now[2]]).for_each(|(ratios, ratio)| ratios.push(ratio));
    }
    let [bare, engine] = ratios.map(|ratios| median(ratios).0);
    let [one_bare, two_bare, one, two] = rates.map(median);
    let (case, unit) = ("cpu", "operations/s");
    let measured = |what, (value, range), beside, aim| Measured { case, what, value, unit, range, beside, aim };
    vec![
        measured("one bare thread", one_bare, None, None),
        measured("two bare threads", two_bare, Some(("one bare thread", bare)), None),
        measured("pool of one thread", one, None, None),
        measured("pool of two threads", two, Some(("pool of one", engine)), Some(Aim::AtLeast(1.8))),
        measured(
            "its gain beside bare threads'",
            two,
            Some(("bare threads' gain", engine / bare)),
            Some(Aim::AtLeast(0.9)),
        ),
    ]
}

pub(crate) fn statistics(repeat: usize) -> Vec<Measured> {
    let runtime = runtime();
    let (mut on, mut off, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // In turn, so that whatever else the machine does meets both.
    for _ in 0..2 * repeat {
        off.push(rate(ITEMS, runtime.block_on(three_stages(0..ITEMS, CONCURRENCY, false))));
        on.push(rate(ITEMS, runtime.block_on(three_stages(0..ITEMS, CONCURRENCY, true))));
        ratios.push(on[on.len() - 1] / off[off.len() - 1]);
    }
    let ((on, on_range), (off, off_range), (ratio, _)) = (median(on), median(off), median(ratios));
    let (case, unit) = ("statistics", "items/s");
    let beside = Some(("off", ratio));
    vec![
        Measured { case, what: "off", value: off, unit, range: off_range, beside: None, aim: None },
        Measured { case, what: "on", value: on, unit, range: on_range, beside, aim: Some(Aim::AtLeast(0.95)) },
    ]
}

/// One case alone, so that instructions can be counted; answers the number of items. On one thread and with one worker
/// a stage, as how workers wake each other depends on time, and valgrind makes that fifty times as long.
pub(crate) fn callgrind(statistics: bool) -> u64 {
    let items = 100_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime is built");
    runtime.block_on(three_stages(0..items, 1, statistics));
    items
}

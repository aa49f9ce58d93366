//! One life of the queue: opened, held against the books, written to and drained at once, and ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use pitwire::spill::{Config, Overflow, Spill};
use tokio::runtime::Runtime;

use crate::books::{Books, key_of};
use crate::random::Random;
use crate::rig::{KIB, MIB, PATIENCE, Switch};

/// What happens in a life.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// Tasks that append, each one unit after another.
    pub(crate) writers: usize,
    /// Payloads are smaller than this.
    pub(crate) payload_bytes: u64,
    /// Of so many records handed out one goes back; 0 = nothing is drained.
    pub(crate) nack_one_in: u64,
    pub(crate) ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The power is cut so long after the recovery was verified.
    Cut(Duration),
    /// The power is cut so long after the queue began to open.
    CutFromOpen(Duration),
    /// Closed in order after so long.
    Close(Duration),
}

/// A queue of small segments below `dir`, so that they change all the time.
pub(crate) fn small(dir: &Path) -> Config {
    Config {
        dir: dir.to_owned(),
        disk_max: ByteSize::b(24 * MIB),
        segment_bytes: ByteSize::b(64 * KIB),
        free_min: ByteSize::b(0),
        overflow: Overflow::DropOldest,
        ..Config::default()
    }
}

/// A runtime as the agent has one.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Waits for something that is going to happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Lives once. The file system at `mounted_at` has lost its power afterwards if the plan says so.
pub(crate) fn live(mounted_at: &Path, books: &Arc<Books>, plan: &Plan, random: &mut Random) {
    // With its end nothing of this life runs any more, no read on the blocking pool either.
    runtime().block_on(live_on(mounted_at, books, plan, random));
}

async fn live_on(mounted_at: &Path, books: &Arc<Books>, plan: &Plan, random: &mut Random) {
    books.power_is_back();
    let stop = Arc::new(AtomicBool::new(false));
    let end = |after: Duration, cuts: bool| {
        let (books, stop) = (books.clone(), stop.clone());
        let switch = cuts.then(|| Switch::new(mounted_at));
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(after);
            if let Some(switch) = switch {
                switch.cut(|| books.power_goes());
            }
            stop.store(true, Ordering::SeqCst);
        })
    };
    let early = match plan.ending {
        Ending::CutFromOpen(after) => Some(end(after, true)),
        _ => None,
    };
    let (spill, recovery) = match soon("open", books.open(&plan.config)).await {
        Ok(opened) => opened,
        // The power went while it opened; the next life shows what that left.
        Err(error) if early.is_some() => {
            soon("the cut", early.unwrap()).await.unwrap();
            assert!(books.power_is_going(), "{error}");
            return;
        }
        Err(error) => panic!("it has to start, whatever lies there: {error}"),
    };
    let verified = books.verify(&spill, &recovery).await;
    assert!(verified || early.is_some());
    let ending = early.unwrap_or_else(|| match plan.ending {
        Ending::Cut(after) => end(after, true),
        Ending::Close(after) | Ending::CutFromOpen(after) => end(after, false),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..plan.writers {
        let (books, spill, stop) = (books.clone(), spill.clone(), stop.clone());
        let (random, payload_bytes) = (random.fork(), plan.payload_bytes);
        tasks.spawn(async move { write(&books, &spill, &stop, writer, payload_bytes, random).await });
    }
    // What is not verified cannot be held against the books.
    if plan.nack_one_in > 0 && verified {
        let (books, spill, stop) = (books.clone(), spill.clone(), stop.clone());
        let (random, plan) = (random.fork(), plan.clone());
        tasks.spawn(async move { drain(&books, &spill, &stop, &plan, random).await });
    }
    soon("the end", ending).await.unwrap();
    while let Some(task) = soon("the tasks end", tasks.join_next()).await {
        task.unwrap();
    }
    soon("close", spill.close()).await;
}

async fn write(books: &Books, spill: &Spill, stop: &AtomicBool, writer: usize, payload_bytes: u64, mut random: Random) {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let size = |_| usize::try_from(random.below(payload_bytes)).unwrap();
        let sizes: Vec<usize> = (0..1 + number % 4).map(size).collect();
        let outcome = books.append(spill, u32::try_from(writer).unwrap(), number, &sizes).await;
        number += sizes.len() as u64;
        if outcome.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn drain(books: &Books, spill: &Spill, stop: &AtomicBool, plan: &Plan, mut random: Random) {
    while !stop.load(Ordering::SeqCst) {
        let count = 1 + usize::try_from(random.below(16)).unwrap();
        let next = spill.next_batch(count, MIB);
        let Ok(batch) = tokio::time::timeout(Duration::from_millis(5), next).await else { continue };
        for (position, record) in batch.expect("it is open") {
            books.handed_out(position, &record);
            if random.one_in(plan.nack_one_in) {
                assert!(spill.nack(position));
            } else {
                books.ack(spill, position, key_of(&record));
            }
        }
        if random.one_in(2) {
            soon("settled", books.finish(spill, &plan.config.dir)).await;
        }
    }
}

//! The tasks that every peer is given, and what checks that it did them.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

/// Operations that a stage may have in progress.
pub(crate) const CONCURRENCY: usize = 4;
/// Operations of the CPU stage that may be scheduled, where the peer tells them from its threads.
pub(crate) const CPU_SCHEDULED: usize = 16;
/// Items that a queue between two stages holds.
pub(crate) const QUEUE_ITEMS: usize = 64;
/// Samples in a batch.
pub(crate) const BATCH_SAMPLES: usize = 64;
/// Threads of the runtime, whatever the peer brings besides.
pub(crate) const RUNTIME_THREADS: usize = 2;

/// What moves through the stages.
pub(crate) trait Payload: Default + Send + Sync + 'static {
    /// Samples that one item stands for.
    const SAMPLES: usize;

    /// The item that the source makes at `index`.
    fn make(index: u64) -> Self;

    /// The index that it was made with.
    fn index(&self) -> u64;
}

impl Payload for u64 {
    const SAMPLES: usize = 1;

    fn make(index: u64) -> Self {
        index
    }

    fn index(&self) -> u64 {
        *self
    }
}

/// A batch is on the heap, made anew by the source and dropped by the sink. Its first sample is its index, which an f32
/// holds exactly below 2^24.
impl Payload for Vec<f32> {
    const SAMPLES: usize = BATCH_SAMPLES;

    fn make(index: u64) -> Self {
        let mut samples = vec![0.5; BATCH_SAMPLES];
        samples[0] = index as f32;
        samples
    }

    fn index(&self) -> u64 {
        self[0] as u64
    }
}

/// The operation of a stage that does nothing.
pub(crate) async fn no_op<P: Payload>(item: P) -> P {
    item
}

/// Turns of the loop in [`work`]: about 50 µs on the machine of docs/benchmarks.md.
const WORK_TURNS: u32 = 30_000;

/// An item that went through the CPU stage.
pub(crate) struct Worked {
    pub(crate) index: u64,
    pub(crate) value: u64,
}

/// The operation of the CPU stage: a chain of multiplications and additions in which each waits for the one before.
pub(crate) fn work(index: u64) -> Worked {
    let mut value = black_box(index as f64);
    for _ in 0..WORK_TURNS {
        value = value * 0.999_999 + 0.5;
    }
    Worked { index, value: value.to_bits() }
}

/// What the sink saw.
#[derive(Default)]
pub(crate) struct Tally {
    received: u64,
    samples: u64,
    out_of_order: u64,
    values: u64,
}

impl Tally {
    pub(crate) fn take<P: Payload>(&mut self, item: &P) {
        self.saw(item.index());
        self.samples += P::SAMPLES as u64;
    }

    pub(crate) fn take_worked(&mut self, item: &Worked) {
        self.saw(item.index);
        self.samples += 1;
        self.values = self.values.wrapping_add(item.value);
    }

    fn saw(&mut self, index: u64) {
        self.out_of_order += u64::from(index != self.received);
        self.received += 1;
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The sum of what the CPU stage computed.
    pub(crate) fn values(&self) -> u64 {
        self.values
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// Every item came, each once, in the order of the source.
    pub(crate) fn check(&self, items: u64) -> Result<()> {
        ensure!(self.received == items, "{} of {items} items came out", self.received);
        ensure!(self.out_of_order == 0, "{} of {items} items came out of order", self.out_of_order);
        Ok(())
    }
}

/// Looks into one stage from its operation: how many are in progress at once, and how many have started while the
/// first item, which is slow, was not done.
#[derive(Default)]
pub(crate) struct Probe {
    in_progress: AtomicUsize,
    in_progress_max: AtomicUsize,
    started: AtomicUsize,
    started_behind_first: AtomicUsize,
}

impl Probe {
    const FIRST: Duration = Duration::from_millis(200);
    const OTHERS: Duration = Duration::from_millis(1);
    /// Enough that a peer without a bound cannot start them all behind the first one.
    pub(crate) const ITEMS: u64 = 2_000;

    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn begin(&self, index: u64) -> Duration {
        self.started.fetch_add(1, Ordering::SeqCst);
        let now = self.in_progress.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_progress_max.fetch_max(now, Ordering::SeqCst);
        if index == 0 { Self::FIRST } else { Self::OTHERS }
    }

    fn end(&self, index: u64) {
        if index == 0 {
            self.started_behind_first.store(self.started.load(Ordering::SeqCst) - 1, Ordering::SeqCst);
        }
        self.in_progress.fetch_sub(1, Ordering::SeqCst);
    }

    /// The operation of a stage that is looked into.
    pub(crate) async fn operation(self: Arc<Self>, item: u64) -> u64 {
        tokio::time::sleep(self.begin(item)).await;
        self.end(item);
        item
    }

    /// The same, for peers whose operations are functions.
    pub(crate) fn blocking_operation(&self, item: u64) -> u64 {
        std::thread::sleep(self.begin(item));
        self.end(item);
        item
    }

    pub(crate) fn in_progress_max(&self) -> usize {
        self.in_progress_max.load(Ordering::SeqCst)
    }

    pub(crate) fn started_behind_first(&self) -> usize {
        self.started_behind_first.load(Ordering::SeqCst)
    }
}

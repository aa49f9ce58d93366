//! Delivery against a store and a disk that do as they are told.
//!
//! The store here is a fake, on purpose: a real one cannot be told to hang, to refuse one row or to panic
//! at a given moment. What a real one does is tested in `tests/store` and, with delivery, in [`sqlite`].
//! The spill and its files are real; only its calls to the file system can be made to fail.

mod disk;
mod memory;
mod pace;
mod poison;
mod priority;
mod scripted;
mod sqlite;
mod stopping;
mod uplink;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::chunk::{Flush, Outgoing};
use crate::clock::{Gateway, SystemClock, Trust};
use crate::gap::GapCounts;
use crate::item::Malformed;
use crate::ledger::{Counts, Ledger, Policy};
use crate::pipeline::{Bounds, Sender, queue};
use crate::priority::Priority;
use crate::receipt::Receipt;
use crate::row::{AgentRow, ChunkRow, EventRow, ExtentRow, Rows};
use crate::sample::UnixMicros;
use crate::spill::{self, Overflow, Queues, Spill};

use scripted::Disk;
pub(crate) use scripted::{Script, Scripted};

/// How a bench is set up.
struct Setup {
    config: Config,
    overflow: Overflow,
    disk_max: ByteSize,
    segment_bytes: ByteSize,
    priorities: Vec<Priority>,
}

impl Default for Setup {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            config: Config {
                flush_after: ms(20),
                durable_within: ms(200),
                drain_within: ms(2_000),
                ..Config::default()
            },
            overflow: Overflow::DropOldest,
            disk_max: ByteSize::mib(64),
            segment_bytes: ByteSize::mib(1),
            priorities: vec![Priority::Normal],
        }
    }
}

/// Delivery at work, with everything around it.
struct Bench {
    store: Arc<Scripted>,
    disk: Disk,
    quarantine_disk: Disk,
    ledger: Arc<Ledger>,
    spill: Queues,
    quarantine: Spill,
    stats: StatsHandle,
    stop: CancellationToken,
    sender: Option<Sender<Outgoing>>,
    task: JoinHandle<u64>,
    fired: Arc<AtomicUsize>,
    sent: AtomicUsize,
    dir: PathBuf,
}

fn connect_to(store: &Arc<Scripted>) -> Connect {
    let store = store.clone();
    Arc::new(move || {
        store.connects.fetch_add(1, Ordering::SeqCst);
        let store = store.clone();
        Box::pin(async move {
            store.check().await?;
            Ok(store as Arc<dyn Store>)
        })
    })
}

impl Bench {
    fn start(dir: &TempDir, script: Script) -> Self {
        Self::start_with(dir, script, Setup::default())
    }

    fn start_with(dir: &TempDir, script: Script, setup: Setup) -> Self {
        let store = Scripted::new(script);
        let connect = connect_to(&store);
        Self::start_on(dir.path(), store, connect, setup)
    }

    fn start_on(dir: &Path, store: Arc<Scripted>, connect: Connect, setup: Setup) -> Self {
        let (disk, quarantine_disk) = (Disk::default(), Disk::default());
        let ledger = Ledger::new();
        let config = |name: &str, overflow| spill::Config {
            dir: dir.join(name),
            disk_max: setup.disk_max,
            segment_bytes: setup.segment_bytes,
            free_min: ByteSize::b(0),
            overflow,
            ..spill::Config::default()
        };
        let gaps: Arc<GapCounts> = Arc::default();
        let gateway = Gateway::new(SystemClock::shared(), Trust::System);
        let spill = config("spill", setup.overflow);
        let books = Arc::new(SpillLedger {
            ledger: ledger.clone(),
            car: "44".into(),
            gateway: gateway.clone(),
            gaps: gaps.clone(),
            declared_bytes_max: spill.notes_bytes_max(),
        });
        let (spill, _) = Queues::open(&spill, &setup.priorities, Arc::new(disk.clone()), books).unwrap();
        let quarantine = config("quarantine", Overflow::DropOldest);
        let (quarantine, _) = Spill::open(quarantine, Arc::new(quarantine_disk.clone()), Arc::new(())).unwrap();
        for queue in spill.each().map(|(_, queue)| queue).chain([&quarantine]) {
            while queue.stats().recovering.is_some() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let bounds = Bounds { items: 16, bytes: 8 << 20, weigh: Outgoing::bytes };
        let (sender, input) = queue("chunk", bounds);
        let (stats, stop) = (StatsHandle::default(), CancellationToken::new());
        let agent = AgentRow {
            car: "44".into(),
            agent: "a".into(),
            at_us: 0,
            version: String::new(),
            in_flight: 0,
            backlog: 0,
            stored: 0,
            mode: String::new(),
        };
        let deliver = Deliver::new(Parts {
            config: setup.config,
            gateway,
            ledger: ledger.clone(),
            spill: spill.clone(),
            spill_bytes_max: setup.disk_max.as_u64(),
            overflow: setup.overflow,
            quarantine: quarantine.clone(),
            connect,
            heartbeat: Arc::new(move || vec![agent.clone()]),
            stats: stats.clone(),
            gaps,
            stop: stop.clone(),
        });
        let task = tokio::spawn(deliver.run(input));
        Self {
            store,
            disk,
            quarantine_disk,
            ledger,
            spill,
            quarantine,
            stats,
            stop,
            sender: Some(sender),
            task,
            fired: Arc::default(),
            sent: AtomicUsize::new(0),
            dir: dir.into(),
        }
    }

    /// A flush of these channels with so many samples each, and a receipt.
    fn flush(&self, channels: &[(&str, i32)]) -> Flush {
        let sequence = self.sent.fetch_add(1, Ordering::SeqCst) as i64;
        let mut rows = rows(channels);
        rows.chunks.iter_mut().for_each(|chunk| chunk.seq = sequence);
        let fired = self.fired.clone();
        let receipt = Receipt::new(move || {
            fired.fetch_add(1, Ordering::SeqCst);
        });
        let tally = self.ledger.receive(self.ledger.source("ecu"), rows.samples());
        Flush { rows, receipts: vec![receipt], tally, accepted_at: Instant::now(), priority: Priority::default() }
    }

    async fn send(&self, channels: &[(&str, i32)]) {
        self.push(Outgoing::Flush(self.flush(channels))).await;
    }

    /// Sends a flush with a chunk of so many bytes; `false` if there is no room for a second.
    async fn try_large(&self, bytes: usize) -> bool {
        let sender = self.sender.as_ref().expect("the bench still runs");
        let Ok(room) = tokio::time::timeout(ms(1_000), sender.room(bytes)).await else { return false };
        let mut flush = self.flush(&[("a", 10)]);
        let chunk = &mut flush.rows.chunks[0];
        chunk.data = vec![7; bytes];
        // One after the other, as a device sends.
        let later_us = chunk.seq * 200_000;
        (chunk.d0, chunk.t0, chunk.t1) = (chunk.d0 + later_us, chunk.t0 + later_us, chunk.t1 + later_us);
        room.expect("delivery has ended").put(Outgoing::Flush(flush));
        true
    }

    async fn push(&self, item: Outgoing) {
        let sender = self.sender.as_ref().expect("the bench still runs");
        assert!(sender.send(item).await.is_ok(), "delivery has ended");
    }

    fn malformed(&self, bytes: usize) -> Outgoing {
        self.sent.fetch_add(1, Ordering::SeqCst);
        let fired = self.fired.clone();
        Outgoing::Malformed(Malformed {
            source: "car".into(),
            topic: "pitwire/44/x".into(),
            reason: "no frame".into(),
            payload: vec![1; bytes].into(),
            accepted_at: Instant::now(),
            received: UnixMicros(0),
            receipt: Receipt::new(move || {
                fired.fetch_add(1, Ordering::SeqCst);
            }),
        })
    }

    fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }

    /// The ledger, which balances at any moment and for each source.
    #[track_caller]
    fn counts(&self) -> Counts {
        let now = self.ledger.snapshot();
        assert!(now.balanced, "{now:?}");
        now.total
    }

    /// Waits until `holds`, with the ledger balanced all the while; answers how long it took.
    #[track_caller]
    fn until<'a>(&'a self, what: &'a str, holds: impl Fn(&Self) -> bool + 'a) -> impl Future<Output = Duration> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            while !holds(self) {
                let counts = self.counts();
                let stats = self.stats.snapshot();
                assert!(began.elapsed() < Duration::from_secs(15), "{caller}: not {what}: {counts:?} {stats:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.counts();
            began.elapsed()
        }
    }

    /// Ends the pipeline and waits for delivery; answers what was left, the ledger, and how long it took.
    async fn end(mut self) -> (u64, Counts, Duration) {
        let began = Instant::now();
        self.sender = None;
        let left = tokio::time::timeout(Duration::from_secs(20), &mut self.task).await;
        let left = left.expect("delivery does not end").expect("delivery failed");
        (left, self.counts(), began.elapsed())
    }
}

/// A chunk of one channel with so many samples.
pub(crate) fn chunk(channel: &str, samples: i32) -> ChunkRow {
    ChunkRow {
        car: "44".into(),
        device: "ecu".into(),
        bucket: 60_000_000,
        channel: channel.into(),
        t0: 61_000_000,
        writer: [7; 16],
        seq: 0,
        boot: 1,
        d0: 61_000_000,
        t1: 61_100_000,
        n: samples,
        v_min: None,
        v_max: None,
        v_mean: None,
        v_last: None,
        quality: 0,
        codec: 0,
        data: vec![1, 2, 3],
        layout: crate::row::Layout::Chunks,
    }
}

/// Rows of one partition: its extent, and a chunk for each channel.
pub(crate) fn rows(channels: &[(&str, i32)]) -> Rows {
    let extent = ExtentRow {
        car: "44".into(),
        day: 0,
        layout: crate::row::Layout::Chunks.as_str().into(),
        device: "ecu".into(),
        channel: String::new(),
        bucket: 60_000_000,
        length_us: 60_000_000,
    };
    let chunks = channels.iter().map(|&(channel, samples)| chunk(channel, samples)).collect();
    Rows { extents: vec![extent], chunks, ..Rows::default() }
}

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// CPU time of this thread, which is the whole runtime in these tests.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's CPU time");
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("its first figure is nanoseconds"))
}

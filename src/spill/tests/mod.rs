//! What the queue promises, one sentence a test. Each file is about one kind
//! of trouble; this one is about none, and holds what they share.

mod damage;
mod disk;
mod faults;
mod model;
mod model_queues;
mod notes;
mod queues;
mod recycled;
mod seal;
mod start;
mod teller;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;

use super::faulty::FaultyFs;
use super::fs::Filesystem;
use super::stats::{Gone, Observer};
use super::*;
use teller::{Teller, look, told_by};

/// Remembers what it was told.
#[derive(Default)]
struct Books {
    recovered: Mutex<Vec<(Position, Bytes, u64)>>,
    dropped: Mutex<Vec<Gone>>,
    lost: Mutex<Vec<Gone>>,
    damaged: Mutex<Vec<Gap>>,
    /// What it answers to news of a loss.
    notes: Mutex<Vec<Record>>,
}

impl Books {
    fn answer(&self) -> Vec<Record> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }
}

impl Observer for Books {
    fn recovered(&self, position: Position, meta: &[u8], weight: u64) {
        let meta = Bytes::copy_from_slice(meta);
        self.recovered.lock().unwrap().push((position, meta, weight));
    }
    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        self.dropped.lock().unwrap().extend(gone);
        self.answer()
    }
    fn lost(&self, gone: Gone) -> Vec<Record> {
        self.lost.lock().unwrap().push(gone);
        self.answer()
    }
    fn damaged(&self, gap: &Gap) -> Vec<Record> {
        self.damaged.lock().unwrap().push(Gap { meta: None, ..gap.clone() });
        self.answer()
    }
}

fn config(overflow: Overflow) -> Config {
    Config {
        dir: PathBuf::from("/spill"),
        disk_max: ByteSize::kib(256),
        segment_bytes: ByteSize::kib(64),
        free_min: ByteSize::b(0),
        overflow,
        ..Config::default()
    }
}

/// A record that can be told from all others.
fn record(number: u64, payload_bytes: usize) -> Record {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(payload_bytes.max(8), number as u8);
    Record { meta: Bytes::from(format!("m{number}")), payload: Bytes::from(payload), weight: number % 100 + 1 }
}

fn number(record: &Record) -> u64 {
    u64::from_le_bytes(*record.payload.first_chunk().unwrap())
}

fn open(config: &Config, fs: &(impl Filesystem + Clone)) -> (Spill, Recovery, Arc<Books>) {
    let books = Arc::new(Books::default());
    let patience = std::time::Instant::now() + Duration::from_secs(10);
    let spill = loop {
        match Spill::open(config.clone(), Arc::new(fs.clone()), books.clone()) {
            Ok((spill, _)) => break spill,
            // Another test's child has the lock until it has started.
            Err(SpillError::Locked { .. }) if patience > std::time::Instant::now() => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error}"),
        }
    };
    let recovery = recovered(&spill);
    (spill, recovery, books)
}

/// Waits for the end of the recovery, and for what it asked to be tidied.
fn recovered(spill: &Spill) -> Recovery {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let recovery = soon(spill.recovered()).await;
                spill.settled().await;
                recovery
            })
        });
        waiting.join().unwrap()
    })
}

/// What the segments take, without the checkpoint.
fn used(fs: &FaultyFs) -> u64 {
    let segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg" || end == "free");
    let segments = fs.files().into_iter().filter(|(path, _)| segment(path));
    segments.map(|(_, content)| content.len() as u64).sum()
}

/// Everything that is ready, handed out.
async fn take_all(spill: &Spill) -> Vec<(Position, Record)> {
    let mut all = Vec::new();
    loop {
        let stats = spill.stats();
        if stats.backlog_records == stats.in_flight_records {
            return all;
        }
        all.extend(spill.next_batch(100, u64::MAX).await.unwrap());
    }
}

fn numbers(records: &[(Position, Record)]) -> Vec<u64> {
    records.iter().map(|(_, record)| number(record)).collect()
}

/// Fails loudly instead of hanging.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
}

#[tokio::test]
async fn records_come_out_whole_and_oldest_first_and_leave_when_acked() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, recovery, _) = open(&config(Overflow::Block), &fs);
    assert_eq!(recovery, Recovery::default());
    let sent: Vec<_> = (0..10).map(|n| record(n, 100 * n as usize)).collect();
    spill.append(sent[..4].to_vec()).await.unwrap();
    spill.append(sent[4..].to_vec()).await.unwrap();
    let mut got = Vec::new();
    for _ in 0..10 {
        let (position, record) = soon(spill.next()).await.unwrap();
        got.push(record);
        assert!(spill.ack(position));
        assert!(!spill.ack(position), "an ack counts once");
    }
    assert_eq!(got, sent);
    let stats = spill.stats();
    assert_eq!((stats.backlog_records, stats.backlog_weight), (0, 0));
    spill.close().await;
    let names: Vec<_> = fs.files().into_iter().map(|(path, _)| path).collect();
    let left = [scan::free_file_name(1), "checkpoint".into()].map(|name| PathBuf::from("/spill").join(name));
    assert_eq!(names, left, "one file to be written again");
}

#[tokio::test]
async fn a_nacked_record_is_handed_out_again_before_younger_ones() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    spill.append((0..4).map(|n| record(n, 10)).collect()).await.unwrap();
    let (first, _) = soon(spill.next()).await.unwrap();
    let (second, _) = soon(spill.next()).await.unwrap();
    assert!(spill.nack(second));
    assert!(spill.nack(first));
    assert!(!spill.nack(first), "it is not in flight any more");
    assert_eq!(numbers(&take_all(&spill).await), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_reader_waits_for_the_next_append_and_ends_with_the_queue() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    let reader = spill.clone();
    let reading = tokio::spawn(async move { (reader.next().await, reader.next().await) });
    tokio::task::yield_now().await;
    spill.append(vec![record(7, 10)]).await.unwrap();
    while spill.stats().in_flight_records == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    spill.close().await;
    let (first, second) = soon(reading).await.unwrap();
    assert_eq!(number(&first.unwrap().1), 7);
    assert!(second.is_none());
    let refused = spill.append(vec![record(8, 10)]).await.unwrap_err();
    assert!(matches!(&refused, AppendError::Closed { .. }));
    assert_eq!(refused.into_records(), [record(8, 10)]);
}

#[tokio::test]
async fn a_reader_that_gives_up_halfway_loses_nothing() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    spill.append((0..50).map(|n| record(n, 10)).collect()).await.unwrap();
    for _ in 0..50 {
        let mut next = Box::pin(spill.next());
        // Polled once: as a rule the read is under way when it is dropped.
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(next.as_mut().poll(context)));
        if let std::task::Poll::Ready(got) = polled.await {
            spill.nack(got.unwrap().0);
        }
    }
    while spill.stats().in_flight_records > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let all = soon(take_all(&spill)).await;
    assert_eq!(numbers(&all), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn appends_that_wait_together_share_one_sync() {
    let fs = FaultyFs::new(1 << 30);
    let mut config = config(Overflow::Block);
    config.segment_bytes = ByteSize::mib(1);
    config.disk_max = ByteSize::mib(8);
    let (spill, ..) = open(&config, &fs);
    spill.append(vec![record(0, 10)]).await.unwrap();
    let before = spill.stats().syncs;
    let gate = fs.hold();
    let tasks: Vec<_> = (1..=20)
        .map(|n| {
            let spill = spill.clone();
            tokio::spawn(async move { spill.append(vec![record(n, 10)]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(gate);
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().len(), 1);
    }
    let syncs = spill.stats().syncs - before;
    assert!(syncs <= 2, "one under way, one for all that waited: {syncs}");
    assert_eq!(numbers(&take_all(&spill).await), (0..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_append_is_answered_after_the_sync_of_file_and_directory() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    fs.calls();
    spill.append(vec![record(0, 10)]).await.unwrap();
    let commit = ["create 000000000001.seg", "allocate 65536", "sync_dir", "write 4096", "sync"];
    let checkpoint =
        ["open checkpoint", "create checkpoint.new", "write 8192", "sync", "rename checkpoint.new", "sync_dir"];
    assert_eq!(fs.calls(), [&commit[..], &checkpoint[..]].concat(), "the name first, then what is in it");
    spill.append(vec![record(1, 5000)]).await.unwrap();
    assert_eq!(fs.calls(), ["write 8192", "sync"], "a fresh block, nothing written twice");
    let stats = spill.stats();
    assert_eq!((stats.written_bytes, fs.written()), (4096 + 8192 + 8192, 4096 + 8192 + 8192));
    assert_eq!(stats.syncs, 5);
}

fn segment(id: u64) -> String {
    scan::segment_file_name(id)
}

#[tokio::test]
async fn a_restart_finds_the_backlog_with_its_metas_and_weights() {
    let fs = FaultyFs::new(1 << 30);
    let config = config(Overflow::Block);
    let (spill, ..) = open(&config, &fs);
    for n in 0..30 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    let weight = spill.stats().backlog_weight;
    let locked = Spill::open(config.clone(), Arc::new(fs.clone()), Arc::new(()));
    let message = locked.unwrap_err().to_string();
    assert!(message.contains("/spill is in use by another process"), "{message}");
    spill.close().await;
    let (spill, recovery, books) = open(&config, &fs);
    assert_eq!((recovery.records, recovery.weight), (30, weight));
    assert_eq!((recovery.segments, recovery.gaps), (4, vec![]));
    let told: Vec<_> = books.recovered.lock().unwrap().iter().map(|(_, meta, w)| (meta.clone(), *w)).collect();
    let expected: Vec<_> = (0..30).map(|n| record(n, 0)).map(|r| (r.meta, r.weight)).collect();
    assert_eq!(told, expected);
    assert!(spill.stats().oldest.is_none(), "its age is not known");
    assert_eq!(numbers(&take_all(&spill).await), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_segment_is_recycled_when_all_of_it_is_acked_and_not_before() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    for n in 0..30 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    assert_eq!(spill.stats().segments, 4);
    let all = take_all(&spill).await;
    for (position, _) in all.iter().skip(1).filter(|(p, _)| p.segment == 1) {
        spill.ack(*position);
    }
    spill.settled().await;
    assert_eq!(spill.stats().segments, 4);
    spill.ack(all[0].0);
    spill.settled().await;
    assert_eq!(spill.stats().segments, 3);
    assert!(fs.files().iter().all(|(path, _)| !path.ends_with(segment(1))));
    fs.calls();
    spill.append((30..34).map(|n| record(n, 5000)).collect()).await.unwrap();
    let calls = fs.calls();
    let taken = ["rename 000000000001.free", "sync_dir", "open 000000000005.seg", "write 20480", "sync"];
    assert_eq!(calls[..5], taken, "the name is durable before anything is written");
    assert!(calls.iter().all(|call| !call.starts_with("set_len") && !call.starts_with("allocate")), "{calls:?}");
}

#[tokio::test]
async fn a_drained_queue_gives_its_disk_back_by_itself() {
    let fs = FaultyFs::new(1 << 30);
    let config = Config { reserve_bytes: ByteSize::b(0), ..config(Overflow::Block) };
    let (spill, ..) = open(&config, &fs);
    spill.append((0..30).map(|n| record(n, 5000)).collect()).await.unwrap();
    for (position, _) in take_all(&spill).await {
        spill.ack(position);
    }
    soon(async {
        while spill.stats().segments > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let stats = spill.stats();
    assert_eq!((stats.disk_bytes, stats.reserve_bytes, used(&fs)), (0, 0, 0), "a large one is not kept");
    spill.append(vec![record(30, 10)]).await.unwrap();
    let (position, _) = soon(spill.next()).await.unwrap();
    spill.ack(position);
    spill.close().await;
    assert_eq!((spill.stats().reserve_bytes, used(&fs)), (64 << 10, 64 << 10), "but one of the common size");
}

#[test]
fn settings_are_read_checked_and_have_defaults() {
    #[derive(serde::Deserialize)]
    struct File {
        spill: Config,
    }
    let parse = |text: &str| toml::from_str::<File>(text).map(|file| file.spill);
    assert_eq!(parse("[spill]").unwrap(), Config::default());
    let set = parse("[spill]\ndisk_max = \"64MiB\"\noverflow = \"drop-newest\"").unwrap();
    assert_eq!((set.disk_max, set.overflow), (ByteSize::mib(64), Overflow::DropNewest));
    let error = parse("[spill]\nsize = 1").err().unwrap().to_string();
    assert!(error.contains("unknown field `size`"), "{error}");
    Config::default().validate().unwrap();
    let faults = [
        (Config { disk_max: ByteSize::mib(8), ..Config::default() }, "disk_max"),
        (Config { segment_bytes: ByteSize::b(70_000), ..Config::default() }, "segment_bytes"),
        (Config { dir: PathBuf::new(), ..Config::default() }, "dir"),
    ];
    for (config, key) in faults {
        assert_eq!(config.validate().unwrap_err().key, key);
    }
}

#[test]
fn a_segments_name_says_its_number_and_nothing_else_is_taken_for_one() {
    for id in [0, 1, 17, 999_999_999_999] {
        assert_eq!(scan::parse_segment_file_name(&segment(id)), Some(id));
    }
    for name in ["1.seg", "000000000001.seg.bak", "+00000000001.seg", "1000000000000.seg", "lock"] {
        assert_eq!(scan::parse_segment_file_name(name), None, "{name}");
    }
}

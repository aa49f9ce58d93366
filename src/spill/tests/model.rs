//! Random operations, faults and power cuts against a plain list.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    /// Appends of so many records each, waiting together.
    Append(Vec<(u8, u16)>),
    Take(u8),
    Ack(u8),
    AckMany(u8),
    Nack(u8),
    FailSyncs(u8),
    FailWrites(u8),
    Room(u32),
    /// Close and open again.
    Reopen,
    /// The power goes after so many calls, at the latest after these appends
    /// and acks; then open again.
    Cut(u8, Vec<(u8, u16)>, u8, u64),
}

fn appends() -> impl Strategy<Value = Vec<(u8, u16)>> {
    prop::collection::vec((1..8u8, prop_oneof![0..600u16, 0..20_000u16]), 1..4)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => appends().prop_map(Action::Append),
        4 => (1..20u8).prop_map(Action::Take),
        3 => any::<u8>().prop_map(Action::Ack),
        2 => any::<u8>().prop_map(Action::AckMany),
        2 => any::<u8>().prop_map(Action::Nack),
        1 => (1..3u8).prop_map(Action::FailSyncs),
        1 => (1..3u8).prop_map(Action::FailWrites),
        1 => (0..400_000u32).prop_map(Action::Room),
        1 => Just(Action::Reopen),
        2 => (0..30u8, appends(), any::<u8>(), any::<u64>())
            .prop_map(|(calls, appends, acks, seed)| Action::Cut(calls, appends, acks, seed)),
    ]
}

struct Model {
    config: Config,
    fs: FaultyFs,
    spill: Spill,
    books: Arc<Books>,
    next: u64,
    /// Live records in order: where, which, and whether in flight.
    live: Vec<(Position, Record, bool)>,
    operations: u64,
    /// The cap, or what the last cut brought back of what was deleted.
    disk_max: u64,
}

/// xorshift64*: good enough to tear sectors.
pub(super) fn random(mut seed: u64) -> impl FnMut(usize) -> usize {
    seed |= 1;
    move |below| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}

impl Model {
    fn new(overflow: Overflow, key_file: Option<PathBuf>) -> Self {
        let (config, fs) = (Config { key_file, ..config(overflow) }, FaultyFs::new(1 << 20));
        let (spill, _, books) = open(&config, &fs);
        let (next, live, operations) = (0, Vec::new(), 0);
        let disk_max = config.disk_max.as_u64();
        Self { config, fs, spill, books, next, live, operations, disk_max }
    }

    async fn append(&mut self, appends: &[(u8, u16)]) {
        let mut tasks = Vec::new();
        for &(count, bytes) in appends {
            let make = |n| record(n, usize::from(bytes));
            let records: Vec<_> = (self.next..self.next + u64::from(count)).map(make).collect();
            self.next += u64::from(count);
            let (spill, sent) = (self.spill.clone(), records.clone());
            tasks.push((records, tokio::spawn(async move { spill.append(sent).await })));
        }
        for (records, task) in tasks {
            match soon(task).await.unwrap() {
                Ok(positions) => {
                    assert_eq!(positions.len(), records.len());
                    for (position, record) in positions.into_iter().zip(records) {
                        assert!(self.live.last().is_none_or(|(last, ..)| *last < position));
                        self.live.push((position, record, false));
                    }
                }
                Err(error) => assert_eq!(error.into_records(), records, "all come back"),
            }
        }
        self.forget_dropped();
    }

    fn forget_dropped(&mut self) {
        for gone in self.books.dropped.lock().unwrap().drain(..) {
            let at = self.live.iter().position(|(p, ..)| *p == gone.position).unwrap();
            let (_, record, in_flight) = self.live.remove(at);
            assert!(!in_flight, "what is in flight is not dropped");
            assert_eq!((gone.meta, gone.weight), (Some(record.meta), record.weight));
        }
    }

    fn in_flight(&self) -> Vec<Position> {
        self.live.iter().filter(|(.., out)| *out).map(|(p, ..)| *p).collect()
    }

    async fn take(&mut self, count: usize) {
        for _ in 0..count {
            let Some(expected) = self.live.iter_mut().find(|(.., out)| !out) else {
                return;
            };
            let (position, record) = soon(self.spill.next()).await.unwrap();
            assert_eq!((position, &record), (expected.0, &expected.1), "the oldest, whole");
            expected.2 = true;
        }
    }

    fn ack(&mut self, which: u8, count: usize) {
        for _ in 0..count {
            let out = self.in_flight();
            if out.is_empty() {
                return;
            }
            let position = out[usize::from(which) % out.len()];
            assert!(self.spill.ack(position));
            self.live.retain(|(p, ..)| *p != position);
        }
    }

    fn nack(&mut self, which: u8) {
        let out = self.in_flight();
        if !out.is_empty() {
            let position = out[usize::from(which) % out.len()];
            assert!(self.spill.nack(position));
            self.live.iter_mut().find(|(p, ..)| *p == position).unwrap().2 = false;
        }
    }

    async fn open_again(&mut self) {
        let recovery;
        (self.spill, recovery, self.books) = open(&self.config, &self.fs);
        for gap in &recovery.gaps {
            assert_eq!(gap.reason, GapReason::Torn, "{gap:?}");
        }
        assert_eq!(recovery.gaps, *self.books.damaged.lock().unwrap(), "each is told");
        let found = soon(take_all(&self.spill)).await;
        assert_eq!(found.len() as u64, recovery.records);
        let all = numbers(&found);
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "none twice: {all:?}");
        let mut rest = all.iter();
        for (_, live, _) in &self.live {
            let wanted = number(live);
            assert!(rest.any(|n| *n == wanted), "{wanted} is lost or out of order: {all:?}");
        }
        for (_, found) in &found {
            assert!(number(found) < self.next, "invented");
            let bytes = found.payload.len();
            assert_eq!(*found, record(number(found), bytes));
        }
        self.disk_max = self.config.disk_max.as_u64().max(self.spill.stats().disk_bytes);
        let told = self.books.recovered.lock().unwrap().len();
        assert_eq!(told, found.len());
        self.live = found.into_iter().map(|(p, r)| (p, r, false)).collect();
        for (position, ..) in &self.live {
            assert!(self.spill.nack(*position));
        }
    }

    async fn step(&mut self, action: &Action) {
        self.operations += 1;
        match action {
            Action::Append(appends) => self.append(appends).await,
            Action::Take(count) => self.take(usize::from(*count)).await,
            Action::Ack(which) => self.ack(*which, 1),
            Action::AckMany(which) => self.ack(*which, 30),
            Action::Nack(which) => self.nack(*which),
            Action::FailSyncs(count) => self.fs.fail_syncs(u32::from(*count)),
            Action::FailWrites(count) => self.fs.fail_writes(u32::from(*count)),
            Action::Room(bytes) => self.fs.set_capacity(*bytes as usize),
            Action::Reopen => {
                self.spill.close().await;
                self.open_again().await;
            }
            Action::Cut(calls, appends, acks, seed) => {
                self.take(5).await;
                self.fs.cut_after(u32::from(*calls));
                self.ack(*acks, 3);
                self.append(appends).await;
                self.ack(*acks, 2);
                // Every other time without a word: as the power goes.
                if seed % 2 == 0 {
                    self.spill.close().await;
                }
                self.fs = self.fs.crash(random(*seed));
                self.open_again().await;
            }
        }
        self.check().await;
    }

    async fn check(&mut self) {
        self.spill.settled().await;
        let stats = self.spill.stats();
        let weight = self.live.iter().map(|(_, r, _)| r.weight).sum::<u64>();
        assert_eq!((stats.backlog_records, stats.backlog_weight), (self.live.len() as u64, weight));
        assert_eq!(stats.in_flight_records, self.in_flight().len() as u64);
        assert!(stats.disk_bytes <= self.disk_max, "{stats:?}");
        assert!(used(&self.fs) <= self.disk_max, "{stats:?}");
        assert_eq!(stats.lost_records, 0);
    }
}

fn run(overflow: Overflow, key_file: Option<PathBuf>, actions: &[Action]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut model = Model::new(overflow, key_file);
        for action in actions {
            model.step(action).await;
        }
        model.spill.close().await;
    });
}

/// Tries so many cases of a test, which answers how many operations it made, and prints the figure when all have passed.
/// `file` is the test's, for what has failed before.
pub(super) fn check<S: Strategy>(file: &'static str, cases: u32, of: S, test: impl Fn(S::Value) -> usize) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let config =
        ProptestConfig { max_shrink_iters: 1_000, source_file: Some(file), ..ProptestConfig::with_cases(cases) };
    let (mut runner, operations) = (TestRunner::new(config), AtomicUsize::new(0));
    let passed = runner.run(&of, |case| {
        operations.fetch_add(test(case), Ordering::Relaxed);
        Ok(())
    });
    if let Err(error) = passed {
        panic!("{error}");
    }
    let line = format!("battery | {name} | {} operations in {cases} cases: 0 violations\n", operations.into_inner());
    // Past the harness's capture.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// `PITWIRE_MODEL_OPS` for a longer run: so many operations, 30 a case.
pub(super) fn cases() -> u32 {
    let wanted = std::env::var("PITWIRE_MODEL_OPS").ok();
    wanted.and_then(|text| text.parse::<u32>().ok()).map_or(64, |operations| operations.div_ceil(30))
}

fn check_one(cases: u32, key_file: Option<PathBuf>) {
    let actions = prop::collection::vec(action(), 1..60);
    check(file!(), cases, (any::<bool>(), actions), |(drop_oldest, actions)| {
        let overflow = if drop_oldest { Overflow::DropOldest } else { Overflow::Block };
        run(overflow, key_file.clone(), &actions);
        actions.len()
    });
}

#[test]
fn no_durable_record_is_lost_none_invented_and_order_kept() {
    check_one(cases(), None);
}

#[test]
fn the_same_holds_for_sealed_records() {
    let key = seal::KeyFile::new(1);
    // It differs in the bytes only: a quarter of the cases.
    check_one(cases().div_ceil(4), Some(key.path()));
}

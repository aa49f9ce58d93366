//! Random operations, faults and power cuts on queues of three priorities under one budget, against plain lists. What is
//! owed is what an append promised, or what a restart found: it is there until it is acked, or there is a word of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::model::{cases, check, random};
use super::*;
use crate::priority::Priority::{self, High, Low, Normal};

const SEGMENT: u64 = 64 << 10;
/// Room for the two segments that each is sure of, and for three to fight over.
const SEGMENTS: u64 = 9;

/// Records of one size for a queue.
type Batch = (Priority, u8, u16);

#[derive(Debug, Clone)]
enum Action {
    /// Appends that are under way at once.
    Append(Vec<Batch>),
    Take(u8),
    Ack(u8, u8),
    Nack(u8),
    FailSyncs(u8),
    FailWrites(u8),
    Room(u32),
    /// So many bytes more are said to be free than are.
    Boast(u32),
    /// Close and open again.
    Reopen,
    /// The power goes after so many calls, at the latest after these appends; then open again.
    Cut(u8, Vec<Batch>, u64),
}

fn appends() -> impl Strategy<Value = Vec<Batch>> {
    let priority = prop_oneof![2 => Just(High), 2 => Just(Normal), 3 => Just(Low)];
    prop::collection::vec((priority, 1..5u8, prop_oneof![0..600u16, 0..30_000u16]), 1..5)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => appends().prop_map(Action::Append),
        3 => (1..20u8).prop_map(Action::Take),
        3 => (any::<u8>(), prop_oneof![Just(1), Just(30)]).prop_map(|(which, count)| Action::Ack(which, count)),
        2 => any::<u8>().prop_map(Action::Nack),
        1 => (1..3u8).prop_map(Action::FailSyncs),
        1 => (1..3u8).prop_map(Action::FailWrites),
        1 => (400_000..1_000_000u32).prop_map(Action::Room),
        1 => prop_oneof![Just(0), 0..200_000u32].prop_map(Action::Boast),
        1 => Just(Action::Reopen),
        2 => (0..60u8, appends(), any::<u64>()).prop_map(|(calls, appends, seed)| Action::Cut(calls, appends, seed)),
    ]
}

struct Model {
    config: Config,
    fs: FaultyFs,
    queues: Queues,
    teller: Arc<Teller>,
    next: u64,
    /// What waits, by priority and in order.
    waiting: BTreeMap<Priority, VecDeque<Record>>,
    in_flight: Vec<(Place, Record)>,
    /// Numbers that are there, or that a note names which is there.
    owed: BTreeSet<u64>,
    /// Those of them that were dropped, or whose note was, when there was no place for a word.
    excused: BTreeSet<u64>,
    /// The budget, or what the last cut brought back of what was deleted.
    disk_max: u64,
}

impl Model {
    fn new(overflow: Overflow) -> Self {
        let config = Config { disk_max: ByteSize::b(SEGMENTS * SEGMENT), ..config(overflow) };
        let fs = FaultyFs::new(1 << 20);
        let (queues, teller) = open(&config, &fs);
        let (waiting, in_flight, disk_max) = (BTreeMap::new(), Vec::new(), SEGMENTS * SEGMENT);
        let (owed, excused) = Default::default();
        Self { config, fs, queues, teller, next: 0, waiting, in_flight, owed, excused, disk_max }
    }

    async fn append(&mut self, appends: &[Batch]) {
        let mut tasks = Vec::new();
        for &(priority, count, bytes) in appends {
            let records: Vec<_> =
                (self.next..self.next + u64::from(count)).map(|n| record(n, usize::from(bytes))).collect();
            self.next += u64::from(count);
            let (queues, sent) = (self.queues.clone(), records.clone());
            let append = tokio::spawn(async move { queues.append(priority, sent).await });
            // Appends to one queue come in the order in which they are polled first.
            tokio::task::yield_now().await;
            tasks.push((priority, records, append));
        }
        for (priority, records, append) in tasks {
            match soon(append).await.unwrap() {
                Ok(()) => {
                    self.owed.extend(records.iter().map(number));
                    self.waiting.entry(priority).or_default().extend(records);
                }
                Err(error) => assert_eq!(error.into_records(), records, "all come back"),
            }
        }
        self.forget_dropped();
    }

    fn forget_dropped(&mut self) {
        self.excused.extend(self.teller.without_place.lock().unwrap().drain(..));
        for gone in self.teller.dropped.lock().unwrap().drain(..) {
            let mut queues = self.waiting.iter_mut();
            let found = queues.find_map(|(priority, queue)| {
                Some((*priority, queue.iter().position(|record| number(record) == gone)?))
            });
            let (priority, at) = found.unwrap_or_else(|| panic!("{gone} was dropped and did not wait"));
            self.waiting.get_mut(&priority).unwrap().remove(at);
        }
    }

    /// Takes records until `count` came, or nothing waits. Notes are acked at once.
    async fn take(&mut self, count: usize) {
        let mut taken = 0;
        while taken < count && !self.all_out() {
            for (place, record) in soon(self.queues.next_batch(1, u64::MAX)).await.unwrap() {
                if let Some(named) = told_by(&record) {
                    self.owed.retain(|n| !named.contains(n));
                    assert!(self.queues.ack(place));
                    continue;
                }
                let (highest, first) = self.first().unwrap();
                assert_eq!((place.priority, &record), (highest, first), "the highest priority's oldest, whole");
                self.waiting.get_mut(&highest).unwrap().pop_front();
                self.in_flight.push((place, record));
                taken += 1;
            }
        }
    }

    fn all_out(&self) -> bool {
        let stats = self.queues.stats();
        stats.backlog_records == stats.in_flight_records
    }

    /// The oldest that waits of the highest priority.
    fn first(&self) -> Option<(Priority, &Record)> {
        self.waiting.iter().rev().find_map(|(priority, queue)| Some((*priority, queue.front()?)))
    }

    fn ack(&mut self, which: u8, count: u8) {
        for _ in 0..count.min(u8::try_from(self.in_flight.len()).unwrap_or(u8::MAX)) {
            let (place, record) = self.in_flight.remove(usize::from(which) % self.in_flight.len());
            assert!(self.queues.ack(place));
            self.owed.remove(&number(&record));
        }
    }

    fn nack(&mut self, which: u8) {
        if self.in_flight.is_empty() {
            return;
        }
        let (place, record) = self.in_flight.remove(usize::from(which) % self.in_flight.len());
        assert!(self.queues.nack(place));
        let queue = self.waiting.entry(place.priority).or_default();
        let at = queue.iter().position(|younger| number(younger) > number(&record)).unwrap_or(queue.len());
        queue.insert(at, record);
    }

    async fn open_again(&mut self) {
        // Also what went since the last look.
        self.excused.extend(self.teller.without_place.lock().unwrap().drain(..));
        (self.queues, self.teller) = open(&self.config, &self.fs);
        let (mut told, mut found) = (BTreeSet::new(), BTreeMap::<Priority, VecDeque<Record>>::new());
        let mut places = Vec::new();
        while !self.all_out() {
            for (place, record) in soon(self.queues.next_batch(100, u64::MAX)).await.unwrap() {
                places.push(place);
                match told_by(&record) {
                    Some(named) => told.extend(named),
                    None => found.entry(place.priority).or_default().push_back(record),
                }
            }
        }
        places.into_iter().for_each(|place| assert!(self.queues.nack(place)));
        let mut there = BTreeSet::new();
        for queue in found.values() {
            let numbers: Vec<_> = queue.iter().map(number).collect();
            assert!(numbers.is_sorted(), "out of order: {numbers:?}");
            assert!(numbers.iter().all(|n| *n < self.next && there.insert(*n)), "invented or twice: {numbers:?}");
            assert!(queue.iter().all(|r| *r == record(number(r), r.payload.len())), "altered");
        }
        let known: BTreeSet<_> = there.union(&told).copied().collect();
        let silent: Vec<_> = self.owed.difference(&known).filter(|n| !self.excused.contains(n)).collect();
        assert!(silent.is_empty(), "neither there nor told: {silent:?}");
        self.owed = known;
        self.excused.clear();
        self.waiting = found;
        self.in_flight.clear();
        self.disk_max = (SEGMENTS * SEGMENT).max(used(&self.fs));
    }

    async fn step(&mut self, action: &Action) {
        match action {
            Action::Append(appends) => self.append(appends).await,
            Action::Take(count) => self.take(usize::from(*count)).await,
            Action::Ack(which, count) => self.ack(*which, *count),
            Action::Nack(which) => self.nack(*which),
            Action::FailSyncs(count) => self.fs.fail_syncs(u32::from(*count)),
            Action::FailWrites(count) => self.fs.fail_writes(u32::from(*count)),
            Action::Room(bytes) => self.fs.set_capacity(*bytes as usize),
            Action::Boast(bytes) => self.fs.boast(u64::from(*bytes)),
            Action::Reopen => {
                self.queues.close().await;
                self.open_again().await;
            }
            Action::Cut(calls, appends, seed) => {
                self.fs.cut_after(u32::from(*calls));
                self.append(appends).await;
                // Every other time without a word: as the power goes.
                if seed % 2 == 0 {
                    self.queues.close().await;
                }
                self.fs = self.fs.crash(random(*seed));
                self.open_again().await;
            }
        }
        self.queues.settled().await;
        self.forget_dropped();
        let stats = self.queues.stats();
        let out = self.in_flight.iter().map(|(_, record)| record);
        let weight: u64 = self.waiting.values().flatten().chain(out).map(|record| record.weight).sum();
        assert_eq!(stats.backlog_weight, weight);
        assert_eq!(stats.in_flight_records, self.in_flight.len() as u64);
        let files = self.fs.files();
        let notes = files
            .iter()
            .filter(|(path, _)| path.ends_with(scan::NOTES_FILE))
            .map(|(_, bytes)| bytes.len())
            .sum::<usize>();
        let taken = used(&self.fs) + notes as u64;
        let notes_max = 2 * 3 * self.config.notes_bytes_max();
        assert!(taken <= self.disk_max + notes_max, "{taken} of {} + {notes_max}: {stats:?}", self.disk_max);
        assert_eq!((stats.lost_records, stats.lost_notes), (0, 0));
    }
}

fn open(config: &Config, fs: &FaultyFs) -> (Queues, Arc<Teller>) {
    let teller = Arc::new(Teller { fs: Some(fs.clone()), ..Teller::default() });
    let (queues, _) = Queues::open(config, &Priority::ALL, Arc::new(fs.clone()), teller.clone()).unwrap();
    queues.each().for_each(|(_, queue)| drop(recovered(queue)));
    (queues, teller)
}

#[test]
fn of_queues_under_one_budget_no_record_is_lost_in_silence_and_order_kept() {
    let overflow = prop_oneof![Just(Overflow::DropOldest), Just(Overflow::DropNewest), Just(Overflow::Block)];
    let actions = prop::collection::vec(action(), 1..60);
    // Three threads and a thousand small files a case: a quarter of the cases of a single queue.
    check(file!(), cases().div_ceil(4), (overflow, actions), |(overflow, actions)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new(overflow);
            for action in &actions {
                model.step(action).await;
            }
            model.queues.close().await;
        });
        actions.len()
    });
}

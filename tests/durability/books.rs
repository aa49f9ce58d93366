//! The oracle: which records were offered, what the queue answered, and what may and must come back.
//!
//! A record says who wrote it and which of the writer's it is, and its content follows from that: one that comes back
//! is the one that was offered, bit for bit, or the test fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pitwire::spill::scan::segment_file_name;
use pitwire::spill::{
    AppendError, Config, Gap, GapReason, Gone, Observer, Opened, Position, RealFs, Record, Recovery, Spill, SpillError,
};

use crate::life::soon;
use crate::random::Random;

/// Which record it is: of the writer's life, the writer, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) life: u32,
    pub(crate) writer: u32,
    pub(crate) number: u64,
}

impl Key {
    const BYTES: usize = 16;

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.life.to_le_bytes().to_vec();
        bytes.extend(self.writer.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let number = u64::from_le_bytes(bytes.get(8..Self::BYTES)?.try_into().ok()?);
        (bytes.len() == Self::BYTES).then_some(Self { life: word(0)?, writer: word(4)?, number })
    }

    /// The record of this key, with a payload of so many bytes.
    pub(crate) fn record(self, payload_bytes: usize) -> Record {
        let mut random = Random::new((u64::from(self.life) << 40) ^ (u64::from(self.writer) << 32) ^ self.number);
        // A pattern repeated: millions of these are made and compared without optimization.
        let pattern: Vec<u8> = (0..12).flat_map(|_| random.next().to_le_bytes()).collect();
        let mut payload = pattern.repeat(payload_bytes.div_ceil(pattern.len()));
        payload.truncate(payload_bytes);
        Record { meta: self.to_bytes().into(), payload: payload.into(), weight: self.weight() }
    }

    fn weight(self) -> u64 {
        self.number % 7 + 1
    }
}

/// The key of a record that came back, which has to be as it was made.
#[track_caller]
pub(crate) fn key_of(record: &Record) -> Key {
    let key = Key::from_bytes(&record.meta).unwrap_or_else(|| panic!("not made here: {:?}", record.meta));
    assert!(*record == key.record(record.payload.len()), "{key:?} came back altered");
    key
}

/// What is known of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// No answer yet, or none before the power went.
    Offered,
    /// Given back.
    Refused,
    /// Promised: must come back.
    Durable(Position),
    /// Stored elsewhere; may come again after a crash.
    Acked(Position),
    /// Acked, and its segment's end made durable: must not come again.
    Finished,
    /// Told to have been dropped.
    Dropped,
}

/// Sums over all lives.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) durable: u64,
    pub(crate) refused: u64,
    pub(crate) acked: u64,
    pub(crate) dropped: u64,
    /// Found by a recovery.
    pub(crate) recovered: u64,
    /// Those that were acked before.
    pub(crate) again: u64,
    /// Segments that were finished.
    pub(crate) finished: u64,
    /// Commits that power had cut.
    pub(crate) torn: u64,
}

#[derive(Default)]
struct State {
    fates: BTreeMap<Key, Fate>,
    life: u32,
    sums: Sums,
    lost: Vec<Gone>,
}

/// The books of one queue through all its lives.
#[derive(Default)]
pub(crate) struct Books {
    state: Mutex<State>,
    power_is_going: AtomicBool,
}

impl Observer for Books {
    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        let mut state = self.state();
        state.sums.dropped += gone.len() as u64;
        for gone in gone {
            let key = gone.meta.as_deref().and_then(Key::from_bytes).expect("what is dropped can be read");
            assert_eq!(gone.weight, key.weight());
            // Told by the writer's thread before the answer is booked, perhaps.
            if let Some(Fate::Durable(position)) = state.fates.insert(key, Fate::Dropped) {
                assert_eq!(position, gone.position);
            }
        }
        Vec::new()
    }

    fn lost(&self, gone: Gone) -> Vec<Record> {
        self.state().lost.push(gone);
        Vec::new()
    }
}

impl Books {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed while it held them has said so.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn sums(&self) -> Sums {
        self.state().sums
    }

    /// Records that are in the queue, as the books have it.
    pub(crate) fn left(&self) -> usize {
        self.state().fates.values().filter(|fate| matches!(fate, Fate::Durable(_))).count()
    }

    /// Opens the queue for another life and waits until everything was looked at.
    pub(crate) async fn open(self: &Arc<Self>, config: &Config) -> Result<(Spill, Recovery), SpillError> {
        self.state().life += 1;
        open(config, self.clone()).await
    }

    /// To be said at the start of a life.
    pub(crate) fn power_is_back(&self) {
        self.power_is_going.store(false, Ordering::SeqCst);
    }

    /// To be said before the power is cut: what happens from now on may be undone.
    pub(crate) fn power_goes(&self) {
        self.power_is_going.store(true, Ordering::SeqCst);
    }

    pub(crate) fn power_is_going(&self) -> bool {
        self.power_is_going.load(Ordering::SeqCst)
    }

    /// Appends `count` records of `writer`, from `number` on, as one unit; whether they were taken.
    pub(crate) async fn append(&self, spill: &Spill, writer: u32, number: u64, sizes: &[usize]) -> Result<(), String> {
        let life = self.state().life;
        let keys: Vec<Key> = (number..).zip(sizes).map(|(number, _)| Key { life, writer, number }).collect();
        let records: Vec<Record> = keys.iter().zip(sizes).map(|(key, &bytes)| key.record(bytes)).collect();
        self.state().fates.extend(keys.iter().map(|&key| (key, Fate::Offered)));
        let outcome = spill.append(records.clone()).await;
        let mut state = self.state();
        match outcome {
            Ok(positions) => {
                assert_eq!(positions.len(), keys.len());
                assert!(positions.is_sorted(), "{positions:?}");
                // In the dark no answer counts: a sync that the cut meets in the middle says yes to nothing, since
                // the kernel takes the aborted transaction for a finished one.
                if self.power_is_going() {
                    return Ok(());
                }
                for (&key, &position) in keys.iter().zip(&positions) {
                    match state.fates.get_mut(&key) {
                        Some(fate @ Fate::Offered) => *fate = Fate::Durable(position),
                        // Between the sync and this line.
                        Some(Fate::Dropped) => {}
                        other => panic!("{key:?} was answered for, and had been {other:?}"),
                    }
                }
                state.sums.durable += keys.len() as u64;
                Ok(())
            }
            Err(error) => {
                let words = error.to_string();
                let closed = matches!(error, AppendError::Closed { .. });
                let back = error.into_records();
                assert!(closed || back == records, "not all came back: {words}");
                state.fates.extend(keys.iter().map(|&key| (key, Fate::Refused)));
                state.sums.refused += keys.len() as u64;
                Err(words)
            }
        }
    }

    /// A record was handed out.
    pub(crate) fn handed_out(&self, position: Position, record: &Record) {
        let key = key_of(record);
        let state = self.state();
        match state.fates.get(&key) {
            // Its answer may be under way.
            Some(Fate::Offered) => {}
            Some(Fate::Durable(at)) => assert_eq!(*at, position, "{key:?}"),
            other => panic!("{key:?} at {position:?} was handed out and is {other:?}"),
        }
    }

    /// Says that a record is stored elsewhere, to the books and to the queue.
    pub(crate) fn ack(&self, spill: &Spill, position: Position, key: Key) {
        let mut state = self.state();
        // Before its answer is booked nobody can say what it is.
        if state.fates.get(&key) != Some(&Fate::Durable(position)) {
            drop(state);
            spill.nack(position);
            return;
        }
        state.fates.insert(key, Fate::Acked(position));
        state.sums.acked += 1;
        drop(state);
        assert!(spill.ack(position), "{key:?} was in flight");
    }

    /// Books what must not come again: what is acked and whose segment is gone, for good.
    pub(crate) async fn finish(&self, spill: &Spill, dir: &Path) {
        let acked: BTreeSet<u64> = {
            let state = self.state();
            let segment = |fate: &Fate| if let Fate::Acked(position) = fate { Some(position.segment) } else { None };
            state.fates.values().filter_map(segment).collect()
        };
        let gone = |id: &u64| !dir.join(segment_file_name(*id)).exists();
        let gone: BTreeSet<u64> = acked.into_iter().filter(gone).collect();
        // What made it vanish is over with this, the sync of the directory included.
        spill.settled().await;
        let mut state = self.state();
        // Asked last: if the power still stays, all of the above is durable.
        if self.power_is_going() {
            return;
        }
        for fate in state.fates.values_mut() {
            if let Fate::Acked(position) = fate
                && gone.contains(&position.segment)
            {
                *fate = Fate::Finished;
            }
        }
        state.sums.finished += gone.len() as u64;
    }

    /// Takes everything that a recovery found, holds it against the books, and gives it back to the queue.
    /// `false` if the power goes meanwhile: nothing is known then.
    pub(crate) async fn verify(&self, spill: &Spill, recovery: &Recovery) -> bool {
        if self.power_is_going() {
            return false;
        }
        let verified = self.verify_on_a_lying_disk(spill, recovery).await;
        let torn = |gap: &&Gap| gap.reason == GapReason::Torn;
        let gaps: Vec<&Gap> = recovery.gaps.iter().filter(|gap| !torn(gap)).collect();
        assert!(gaps.is_empty(), "a power cut tears the last commit and does nothing else: {gaps:?}");
        verified
    }

    /// The same where what was refused may have left gaps of any kind.
    pub(crate) async fn verify_on_a_lying_disk(&self, spill: &Spill, recovery: &Recovery) -> bool {
        let Some(found) = self.take_all(spill, recovery.records).await else { return false };
        let mut state = self.state();
        assert_eq!(state.lost, [], "damaged on the way");
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "out of order");
        let mut last: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        let mut seen: BTreeMap<Key, Position> = BTreeMap::new();
        for (position, record) in &found {
            let key = key_of(record);
            let before = last.insert((key.life, key.writer), key.number);
            assert!(before.is_none_or(|before| before < key.number), "{key:?} comes after {before:?}");
            match state.fates.get(&key) {
                None | Some(Fate::Finished) => panic!("stale: {key:?} at {position:?} is {:?}", state.fates.get(&key)),
                Some(Fate::Acked(_)) => state.sums.again += 1,
                Some(_) => {}
            }
            seen.insert(key, *position);
        }
        let is_lost = |(key, fate): (&Key, &Fate)| matches!(fate, Fate::Durable(_)) && !seen.contains_key(key);
        let lost: Vec<Key> = state.fates.iter().filter(|&(k, f)| is_lost((k, f))).map(|(key, _)| *key).collect();
        assert!(lost.is_empty(), "{} durable records are lost: {lost:?}; {recovery:?}", lost.len());
        state.sums.recovered += found.len() as u64;
        state.sums.torn += recovery.gaps.len() as u64;
        // What is not there now can never come again.
        state.fates = seen.into_iter().map(|(key, position)| (key, Fate::Durable(position))).collect();
        drop(state);
        for (position, _) in found {
            assert!(spill.nack(position));
        }
        true
    }

    async fn take_all(&self, spill: &Spill, records: u64) -> Option<Vec<(Position, Record)>> {
        let mut found = Vec::new();
        while (found.len() + self.state().lost.len()) < usize::try_from(records).unwrap() {
            tokio::select! {
                batch = soon("the backlog", spill.next_batch(4096, 8 << 20)) => found.extend(batch.expect("it is open")),
                () = self.dark() => return None,
            }
        }
        (!self.power_is_going()).then_some(found)
    }

    /// Waits until the power goes: in the dark a read waits for long.
    async fn dark(&self) {
        while !self.power_is_going() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Opens a queue and waits until everything was looked at.
pub(crate) async fn open(config: &Config, observer: Arc<dyn Observer>) -> Result<(Spill, Recovery), SpillError> {
    let config = config.clone();
    let opening = move || open_unlocked(&config, &observer);
    let (spill, _) = tokio::task::spawn_blocking(opening).await.unwrap()?;
    let recovery = soon("the recovery", spill.recovered()).await;
    Ok((spill, recovery))
}

/// Opens a queue that nobody observes, and waits for nothing.
pub(crate) fn open_at_once(config: &Config) -> Spill {
    let observer: Arc<dyn Observer> = Arc::new(());
    open_unlocked(config, &observer).unwrap().0
}

/// The child of another test has every lock of this process from its fork until its program starts: a moment.
fn open_unlocked(config: &Config, observer: &Arc<dyn Observer>) -> Result<(Spill, Opened), SpillError> {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        match Spill::open(config.clone(), Arc::new(RealFs), observer.clone()) {
            Err(SpillError::Locked { .. }) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

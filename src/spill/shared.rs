//! What the handles, the readers and the writer's thread share, and the reading.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::budget::{Budget, Taking};
use super::config::Config;
use super::frame::framed_bytes;
use super::fs::{Filesystem, SegmentFile};
use super::index::{Entry, Index, Ticket};
use super::notes::Notes;
use super::recovery::{Recoverer, entry_of};
use super::scan::{load, segment_file_name};
use super::seal::SpillKey;
use super::segment::{GapReason, Read, read_record};
use super::stats::{Gone, Observer, Recovering, Recovery};
use super::{Position, Record};

/// An unreadable segment is tried again this often.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Segments kept open for reading: one that is being drained, one that ends,
/// and two for records that came back.
const OPEN_FILES_MAX: usize = 4;

/// What changes, under one lock that is never held across a call to the file
/// system.
#[derive(Default)]
pub(super) struct State {
    pub(super) index: Index,
    /// Segments kept aside.
    pub(super) damaged_bytes: u64,
    /// Segments that could not be read at start, are of a later version, or
    /// under another key: left alone.
    pub(super) unusable_bytes: u64,
    /// Those under another key.
    pub(super) locked_segments: u64,
    /// Recycled segments, ready to be taken.
    pub(super) free: Vec<Free>,
    /// Recycled segments that are being removed.
    pub(super) leaving_bytes: u64,
    /// Segments that left the queue and whose files are still there.
    pub(super) dead: Vec<Dead>,
    /// Listed and not there; not listed any more once what is said of them is durable.
    pub(super) told_absent: Vec<u64>,
    /// Segments that the next checkpoint lists.
    pub(super) listed: BTreeSet<u64>,
    pub(super) checkpoint_bytes: u64,
    /// It says what is not true any more.
    pub(super) checkpoint_due: bool,
    pub(super) recovering: Option<Recovering>,
    /// When the scan of earlier segments is over.
    pub(super) recovery: Option<Recovery>,
    /// What the observer wants to be known about what is gone, not yet written.
    pub(super) notes: Notes,
    /// The file that is kept for them is there. It comes on top of `disk_max`.
    pub(super) has_notes_file: bool,
    pub(super) counts: Counts,
    pub(super) taking: Taking,
    pub(super) closed: bool,
}

impl State {
    pub(super) fn disk_bytes(&self) -> u64 {
        let dead = self.dead.iter().map(|dead| dead.bytes).sum::<u64>();
        self.index.bytes() + self.damaged_bytes + self.unusable_bytes + self.reserve_bytes() + self.leaving_bytes + dead
    }

    /// The files that may go.
    pub(super) fn due(&self) -> impl Iterator<Item = &Dead> {
        self.dead.iter().filter(|dead| self.notes.are_durable(dead.word))
    }

    pub(super) fn has_due(&self) -> bool {
        self.due().next().is_some()
    }

    /// Whether there are files that wait for what is said of them to be durable.
    pub(super) fn has_untold(&self) -> bool {
        self.due().count() < self.dead.len()
    }

    pub(super) fn reserve_bytes(&self) -> u64 {
        self.free.iter().map(|free| free.bytes).sum()
    }
}

/// A recycled segment: its file may be written again under a new number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free {
    pub(super) id: u64,
    pub(super) bytes: u64,
}

/// A segment whose records are done with, but not its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dead {
    pub(super) id: u64,
    pub(super) bytes: u64,
    pub(super) retired: bool,
    /// The last that was said of its records: when all up to this are durable, its file may go.
    pub(super) word: u64,
    /// It never held a commit, so no checkpoint lists it.
    pub(super) unused: bool,
    /// There was no place for a word when it was dropped, so its file may go without one.
    pub(super) placeless: bool,
}

impl Dead {
    /// A file that never held a commit.
    pub(super) const fn unused(id: u64, bytes: u64) -> Self {
        Self { id, bytes, retired: true, word: 0, unused: true, placeless: true }
    }
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) written_bytes: u64,
    pub(super) commits: u64,
    pub(super) syncs: u64,
    pub(super) failed_syncs: u64,
    pub(super) failed_writes: u64,
    pub(super) failing: bool,
    pub(super) failed_reads: u64,
    pub(super) dropped_records: u64,
    pub(super) dropped_segments: u64,
    pub(super) dropped_weight: u64,
    pub(super) lost_records: u64,
    pub(super) lost_notes: u64,
    pub(super) last_error: Option<String>,
}

/// The queue's part in a budget.
pub(super) struct Share {
    pub(super) budget: Arc<Budget>,
    /// 0 is the highest.
    pub(super) rank: usize,
}

/// What handles, readers and the writer's thread share.
pub(super) struct Shared {
    pub(super) config: Config,
    /// What is written is sealed under this.
    pub(super) key: Option<Arc<SpillKey>>,
    pub(super) fs: Arc<dyn Filesystem>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) share: Share,
    pub(super) readable: Notify,
    pub(super) recovered: Notify,
    pub(super) recoverer: Mutex<Option<Recoverer>>,
    pub(super) tidy_asked: AtomicBool,
    state: Mutex<State>,
    open_files: Mutex<Vec<(u64, Arc<dyn SegmentFile>)>>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can stop halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        config: Config,
        key: Option<Arc<SpillKey>>,
        fs: Arc<dyn Filesystem>,
        observer: Arc<dyn Observer>,
        share: Share,
        (state, recoverer): (State, Recoverer),
        lock: Box<dyn Send + Sync>,
    ) -> Self {
        Self {
            config,
            key,
            fs,
            observer,
            share,
            readable: Notify::new(),
            recovered: Notify::new(),
            recoverer: Mutex::new(Some(recoverer)),
            tidy_asked: AtomicBool::new(false),
            state: Mutex::new(state),
            open_files: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Bytes that a record takes within a commit.
    pub(super) fn framed_bytes(&self, record: &Record) -> u64 {
        framed_bytes(record, self.key.is_some())
    }

    pub(super) fn fault(&self, what: &str, error: &io::Error) {
        self.state().counts.last_error = Some(format!("{what}: {error}"));
    }

    /// Lets go of the directory.
    pub(super) fn unlock(&self) {
        locked(&self.open_files).clear();
        locked(&self.lock).take();
    }

    pub(super) fn count_dropped(&self, records: u64, weight: u64) {
        let counts = &mut self.state().counts;
        counts.dropped_segments += 1;
        counts.dropped_records += records;
        counts.dropped_weight = counts.dropped_weight.saturating_add(weight);
    }

    /// A segment is none of the queue's any more.
    pub(super) fn forget(&self, id: u64) {
        {
            let mut state = self.state();
            state.index.remove(id);
            state.listed.remove(&id);
        }
        locked(&self.open_files).retain(|(open, _)| *open != id);
    }

    /// The records of a segment that is not loaded; everything is read and
    /// checked again. Empty if its file is gone.
    pub(super) fn entries_of(&self, id: u64, end: u64) -> io::Result<Vec<Entry>> {
        let Some(segment) = load(self.fs.as_ref(), &self.config.dir, id, 0, self.key.clone()) else {
            return Ok(Vec::new());
        };
        if segment.gaps.iter().any(|gap| gap.reason == GapReason::Unreadable) {
            return Err(io::Error::other("the segment cannot be read"));
        }
        Ok(segment.records.iter().filter(|record| u64::from(record.offset) < end).map(entry_of).collect())
    }

    /// Loads a segment that is to be read now. Blocking.
    pub(super) fn load(&self, id: u64) {
        let Some(end) = self.state().index.to_load(id) else {
            return;
        };
        match self.entries_of(id, end) {
            Ok(entries) => {
                let (records, weight) = {
                    let mut state = self.state();
                    let lost = state.index.load(id, entries);
                    state.counts.lost_records += lost.0;
                    lost
                };
                if records > 0 {
                    tracing::error!(segment = id, records, weight, "records were damaged on disk");
                    let position = Position { segment: id, record: u32::MAX };
                    self.note(self.observer.lost(Gone { position, records, meta: None, payload: None, weight }));
                }
            }
            Err(error) => self.cannot_read(id, &error),
        }
    }

    pub(super) fn cannot_read(&self, id: u64, error: &io::Error) {
        self.fault("read a segment", error);
        let mut state = self.state();
        state.counts.failed_reads += 1;
        state.index.postpone(id, Instant::now() + READ_AGAIN_AFTER);
    }

    fn open(&self, id: u64) -> io::Result<Arc<dyn SegmentFile>> {
        if let Some((_, file)) = locked(&self.open_files).iter().find(|(open, _)| *open == id) {
            return Ok(file.clone());
        }
        let file = self.fs.open(&self.config.dir.join(segment_file_name(id)))?;
        let mut files = locked(&self.open_files);
        if files.len() >= OPEN_FILES_MAX {
            files.remove(0);
        }
        files.push((id, file.clone()));
        Ok(file)
    }

    fn read(&self, ticket: &Ticket) -> io::Result<Read> {
        let entry = &ticket.entry;
        let segment = ticket.position.segment;
        let file = match self.open(segment) {
            // Removed by hand: it will not come back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Damaged(None)),
            other => other?,
        };
        let meta_bytes = usize::from(entry.meta_bytes);
        read_record(file.as_ref(), segment, entry.offset, meta_bytes, entry.payload_bytes, self.key.as_deref())
    }

    /// Reads what was handed out. What is damaged leaves the queue, what the
    /// file system refuses goes back for later.
    fn read_all(&self, lease: &mut Lease, tickets: Vec<Ticket>) -> Vec<(Position, Record)> {
        let mut records = Vec::with_capacity(tickets.len());
        let mut refused = None;
        for ticket in tickets {
            let position = ticket.position;
            if refused == Some(position.segment) {
                continue;
            }
            match self.read(&ticket) {
                Ok(Read::Sound(record)) => {
                    lease.read.push(position);
                    records.push((position, record));
                }
                Ok(Read::Damaged(meta)) => {
                    {
                        let mut state = self.state();
                        state.index.lose(position);
                        state.counts.lost_records += 1;
                    }
                    tracing::error!(
                        segment = position.segment,
                        offset = ticket.entry.offset,
                        "a record was damaged on disk"
                    );
                    let gone = Gone { position, records: 1, meta, payload: None, weight: ticket.entry.weight };
                    self.note(self.observer.lost(gone));
                }
                Err(error) => {
                    refused = Some(position.segment);
                    self.cannot_read(position.segment, &error);
                }
            }
        }
        records
    }
}

/// Records handed out but not delivered yet: they go back if nobody takes them.
pub(super) struct Lease {
    shared: Arc<Shared>,
    taken: Vec<Position>,
    read: Vec<Position>,
}

impl Lease {
    pub(super) fn new(shared: Arc<Shared>, tickets: &[Ticket]) -> Self {
        let taken = tickets.iter().map(|ticket| ticket.position).collect();
        let read = Vec::new();
        Self { shared, taken, read }
    }

    /// Reads what was handed out, blocking.
    pub(super) fn read(&mut self, tickets: Vec<Ticket>) -> Vec<(Position, Record)> {
        let shared = self.shared.clone();
        shared.read_all(self, tickets)
    }

    /// The records that were read now belong to the caller.
    pub(super) fn hand_over(mut self) {
        let read = std::mem::take(&mut self.read);
        // Both lie in order.
        self.taken.retain(|position| read.binary_search(position).is_err());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut back = false;
        for position in self.taken.drain(..) {
            // A lost one is not in flight any more: no effect.
            back |= self.shared.state().index.nack(position);
        }
        if back {
            self.shared.readable.notify_waiters();
        }
    }
}

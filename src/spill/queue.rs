//! The handle: what callers await.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use tokio::sync::{Semaphore, oneshot};

use super::budget::Budget;
use super::config::{BLOCK_BYTES, Config, META_BYTES_MAX, SEGMENT_RECORDS_MAX, WAITING_BYTES_MAX};
use super::frame::align_up;
use super::fs::Filesystem;
use super::recovery::{Listed, list};
use super::shared::{Lease, Share, Shared};
use super::stats::{AppendError, Observer, Opened, Recovery, SpillError, Stats};
use super::writer::{Append, Command, Writer};
use super::{Position, Record};

/// Unit of the semaphore that bounds the bytes waiting.
const PERMIT_BYTES: u64 = 1024;

/// What the handles of a queue hold.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Sender<Command>,
    waiting: Arc<Semaphore>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to be told of what is scanned.
        self.shared.state().closed = true;
    }
}

/// What can be handed out now.
pub(super) enum Batch {
    Records(Vec<(Position, Record)>),
    /// Nothing, or before `retry_at` nothing.
    Nothing {
        retry_at: Option<Instant>,
    },
    Closed,
}

/// A disk queue; see the head of the module. Clones are handles of the same one.
///
/// The directory stays locked until [`Spill::close`] or shortly after the last
/// handle was dropped.
#[derive(Clone)]
pub struct Spill(Arc<Handle>);

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("dir", &self.0.shared.config.dir).finish_non_exhaustive()
    }
}

impl Spill {
    /// Opens the queue in `config.dir`. Blocking, but quick whatever lies
    /// there: appends are taken from now on, and what an earlier process left
    /// is scanned meanwhile; see [`Spill::recovered`].
    ///
    /// # Errors
    /// If a setting is wrong, the key cannot be read, another process has the directory, or it cannot
    /// be created, opened or listed. What the files contain is never a reason:
    /// that is reported in [`Recovery::gaps`].
    pub fn open(
        config: Config,
        fs: Arc<dyn Filesystem>,
        observer: Arc<dyn Observer>,
    ) -> Result<(Self, Opened), SpillError> {
        let budget = Arc::new(Budget::new(&config, 1));
        Self::open_within(&budget, 0, config, fs, observer)
    }

    /// [`Self::open`], as the queue of `rank` of those that share `budget`.
    pub(super) fn open_within(
        budget: &Arc<Budget>,
        rank: usize,
        config: Config,
        fs: Arc<dyn Filesystem>,
        observer: Arc<dyn Observer>,
    ) -> Result<(Self, Opened), SpillError> {
        config.validate()?;
        let key = config.key()?.map(Arc::new);
        let dir = config.dir.clone();
        let fault = |what| {
            let dir = dir.display().to_string();
            move |source| SpillError::Io { what, dir, source }
        };
        fs.create_dir(&dir).map_err(fault("create the spill directory"))?;
        let lock = fs.lock(&dir).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => SpillError::Locked { dir: dir.display().to_string() },
            _ => fault("lock the spill directory")(source),
        })?;
        let listed = list(&fs, &dir, &config, key.clone()).map_err(fault("list the spill directory"))?;
        let Listed { state, recoverer, checkpoint, next_id, opened, leftovers } = listed;
        let share = Share { budget: budget.clone(), rank };
        let shared = Arc::new(Shared::new(config, key, fs, observer, share, (state, recoverer), lock));
        if checkpoint.damaged {
            shared.report_checkpoint();
        }
        let (commands, orders) = mpsc::channel();
        // 16 MiB / 1 KiB: far below what the semaphore can count.
        let permits = usize::try_from(WAITING_BYTES_MAX / PERMIT_BYTES).unwrap_or(usize::MAX);
        let waiting = Arc::new(Semaphore::new(permits));
        let handle = Arc::new(Handle { shared: shared.clone(), commands: commands.clone(), waiting });
        budget.join(rank, Arc::downgrade(&handle));
        let recovery = std::thread::Builder::new()
            .name("spill-recovery".into())
            .spawn({
                let shared = shared.clone();
                move || recover(&shared, &commands)
            })
            .map_err(fault("start the recovery of"))?;
        let writer = Writer::new(shared.clone(), next_id, &checkpoint, leftovers, recovery);
        std::thread::Builder::new()
            .name("spill".into())
            .spawn(move || writer.serve(&orders))
            .map_err(fault("start the writer of"))?;
        Ok((Self(handle), opened))
    }

    /// Waits until everything that an earlier process left is scanned, or the
    /// queue is closed, and answers what was found until then.
    ///
    /// # Cancel safety
    /// Cancel safe: it only waits.
    pub async fn recovered(&self) -> Recovery {
        loop {
            let notified = self.0.shared.recovered.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(found) = self.0.shared.state().recovery.clone() {
                return found;
            }
            notified.await;
        }
    }

    /// Makes records durable as one unit, in order, behind everything appended
    /// before. Resolves only after they are synced; appends that wait together
    /// share one sync. Waits itself when more than [`WAITING_BYTES_MAX`] wait.
    ///
    /// # Errors
    /// [`AppendError`], with the records: none of them is in the queue then.
    ///
    /// # Cancel safety
    /// Not cancel safe. Dropped before the writer has taken them, the records
    /// are gone; dropped later, they are appended all the same and nobody
    /// learns of it. Await it to its end, in a task of its own if need be.
    pub async fn append(&self, records: Vec<Record>) -> Result<Vec<Position>, AppendError> {
        let handle = &self.0;
        let config = &handle.shared.config;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let meta_bytes = records.iter().map(|r| r.meta.len()).max().unwrap_or(0);
        let framed = records.iter().map(|record| handle.shared.framed_bytes(record));
        let bytes = align_up(framed.sum(), BLOCK_BYTES);
        let bounds = [
            (meta_bytes as u64, META_BYTES_MAX as u64),
            (bytes, config.append_bytes_max()),
            (records.len() as u64, SEGMENT_RECORDS_MAX as u64),
        ];
        if let Some(&(bytes, max)) = bounds.iter().find(|(is, max)| is > max) {
            return Err(AppendError::TooLarge { records, bytes, max });
        }
        let permits = bytes.min(WAITING_BYTES_MAX) / PERMIT_BYTES;
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let waiting = handle.waiting.clone();
        // The semaphore is never closed.
        let Ok(permit) = waiting.acquire_many_owned(permits).await else {
            return Err(AppendError::Closed { records });
        };
        if handle.shared.state().closed {
            return Err(AppendError::Closed { records });
        }
        let (answer, answered) = oneshot::channel();
        let append = Append { records, bytes, answer, permit };
        if let Err(mpsc::SendError(Command::Append(append))) = handle.commands.send(Command::Append(append)) {
            let records = append.records;
            return Err(AppendError::Closed { records });
        }
        answered.await.unwrap_or(Err(AppendError::Closed { records: Vec::new() }))
    }

    /// The oldest record that is not in flight, waiting for one if there is
    /// none; it is in flight from then on. `None` once the queue is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: a record that was not delivered goes back to its place.
    pub async fn next(&self) -> Option<(Position, Record)> {
        self.next_batch(1, u64::MAX).await?.pop()
    }

    /// Like [`Spill::next`], for up to `records_max` records of together
    /// `bytes_max` bytes (but at least one), read in one go. Needs a tokio
    /// runtime with its timer.
    ///
    /// # Cancel safety
    /// Cancel safe: records that were not delivered go back to their places.
    pub async fn next_batch(&self, records_max: usize, bytes_max: u64) -> Option<Vec<(Position, Record)>> {
        loop {
            let notified = self.0.shared.readable.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            match self.try_batch(records_max, bytes_max).await {
                Batch::Closed => return None,
                Batch::Records(records) => return Some(records),
                Batch::Nothing { retry_at: Some(at) } => {
                    let _ = tokio::time::timeout_at(at.into(), notified).await;
                }
                Batch::Nothing { retry_at: None } => notified.await,
            }
        }
    }

    /// [`Self::next_batch`], without waiting for records.
    pub(super) async fn try_batch(&self, records_max: usize, bytes_max: u64) -> Batch {
        let shared = &self.0.shared;
        loop {
            let (taken, retry_at) = {
                let mut state = shared.state();
                if state.closed {
                    return Batch::Closed;
                }
                let now = Instant::now();
                let taken = state.index.take(records_max.max(1), bytes_max, now);
                (taken, state.index.retry_at())
            };
            let tickets = taken.tickets;
            if let Some(id) = taken.load {
                let shared = shared.clone();
                // If the runtime is shutting down, there is nobody to read for.
                if tokio::task::spawn_blocking(move || shared.load(id)).await.is_err() {
                    return Batch::Closed;
                }
                self.ask_tidy_if_lost(id);
                continue;
            }
            if tickets.is_empty() {
                return Batch::Nothing { retry_at };
            }
            let mut lease = Lease::new(shared.clone(), &tickets);
            let reading = tokio::task::spawn_blocking(move || {
                let records = lease.read(tickets);
                (lease, records)
            });
            let Ok((lease, records)) = reading.await else {
                // The runtime is shutting down; the lease has given all back.
                return Batch::Closed;
            };
            lease.hand_over();
            // A record was lost: something may be finished, or said of it.
            let noted = !shared.state().notes.is_empty();
            self.ask_tidy(records.is_empty() || noted);
            if !records.is_empty() {
                return Batch::Records(records);
            }
        }
    }

    /// The record is stored elsewhere; its segment is deleted once this is said
    /// of all in it. `false` if it was not in flight.
    pub fn ack(&self, position: Position) -> bool {
        let (acked, finished) = {
            let mut state = self.0.shared.state();
            let acked = state.index.ack(position);
            (acked, acked && state.index.is_finished(position.segment))
        };
        self.ask_tidy(finished);
        acked
    }

    /// The record goes back to its place and is handed out again, oldest
    /// first. `false` if it was not in flight.
    pub fn nack(&self, position: Position) -> bool {
        let back = self.0.shared.state().index.nack(position);
        if back {
            self.0.shared.readable.notify_waiters();
        }
        back
    }

    /// A snapshot; cheap.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.0.shared;
        let state = shared.state();
        let (index, counts) = (&state.index, &state.counts);
        Stats {
            backlog_records: index.records(),
            backlog_weight: index.weight(),
            in_flight_records: index.in_flight(),
            disk_bytes: state.disk_bytes(),
            disk_max_bytes: shared.config.disk_max.as_u64(),
            segment_bytes: shared.config.segment_bytes.as_u64(),
            segments: index.segments() as u64,
            encrypted: shared.key.is_some(),
            locked_segments: state.locked_segments,
            reserve_bytes: state.reserve_bytes(),
            recovering: state.recovering,
            oldest: index.oldest().map(|at| at.elapsed()),
            written_bytes: counts.written_bytes,
            commits: counts.commits,
            syncs: counts.syncs,
            dropped_records: counts.dropped_records,
            dropped_weight: counts.dropped_weight,
            lost_records: counts.lost_records,
            lost_notes: counts.lost_notes,
            failed_syncs: counts.failed_syncs,
            failed_writes: counts.failed_writes,
            failed_reads: counts.failed_reads,
            failing: counts.failing,
            last_error: counts.last_error.clone(),
        }
    }

    /// Waits until everything asked for before is done: appends answered,
    /// finished segments removed.
    ///
    /// # Cancel safety
    /// Cancel safe: it only waits.
    pub async fn settled(&self) {
        let (answer, answered) = oneshot::channel();
        if self.0.commands.send(Command::Barrier(answer)).is_ok() {
            let _ = answered.await;
        }
    }

    /// Finishes the appends that wait, removes what is finished and releases
    /// the directory. Appends after this answer `Closed`, reads `None`.
    ///
    /// # Cancel safety
    /// Cancel safe: the closing goes on.
    pub async fn close(&self) {
        self.0.shared.state().closed = true;
        self.0.shared.readable.notify_waiters();
        let (answer, answered) = oneshot::channel();
        if self.0.commands.send(Command::Close(answer)).is_ok() {
            let _ = answered.await;
        }
    }

    #[cfg(test)]
    pub(super) fn loaded_entries(&self) -> usize {
        self.0.shared.state().index.loaded_entries()
    }

    fn ask_tidy_if_lost(&self, id: u64) {
        let needed = {
            let state = self.0.shared.state();
            state.index.is_finished(id) || !state.notes.is_empty()
        };
        self.ask_tidy(needed);
    }

    fn ask_tidy(&self, needed: bool) {
        if needed {
            ask_tidy(&self.0.shared, &self.0.commands);
        }
    }
}

fn ask_tidy(shared: &Shared, commands: &mpsc::Sender<Command>) {
    if !shared.tidy_asked.swap(true, Ordering::AcqRel) {
        let _ = commands.send(Command::Tidy);
    }
}

/// Scans what an earlier process left, until it is done or the queue closed.
fn recover(shared: &Shared, commands: &mpsc::Sender<Command>) {
    while !shared.state().closed && shared.recover_step() {
        let needed = {
            let state = shared.state();
            state.checkpoint_due || !state.notes.is_empty() || state.index.has_finished()
        };
        if needed {
            ask_tidy(shared, commands);
        }
    }
    shared.abandon_recovery();
    ask_tidy(shared, commands);
}

//! The one thread that changes the directory: it joins the appends that wait
//! into a commit, writes it, syncs once, and answers them all; it removes
//! finished segments and makes room.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::budget::{Taking, Wish};
use super::checkpoint::{self, Book};
use super::config::{BLOCK_BYTES, GROUP_BYTES_MAX, SEGMENT_RECORDS_MAX};
use super::frame::{self, ALIGN_BYTES, Header, align_up};
use super::fs::SegmentFile;
use super::group::refuse_all;
use super::index::Entry;
use super::scan::segment_file_name;
use super::shared::{Dead, Shared};
use super::stats::AppendError;
use super::{Position, Record};

/// A drained segment that takes appends is removed after this long without
/// one, so that short gaps of the uplink do not make a file each.
const IDLE_CLOSE: Duration = Duration::from_secs(1);
/// A removal that failed is tried again this often.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// An append that waits for the writer.
pub(super) struct Append {
    pub(super) records: Vec<Record>,
    pub(super) bytes: u64,
    pub(super) answer: oneshot::Sender<Result<Vec<Position>, AppendError>>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// What the thread is asked to do.
pub(super) enum Command {
    Append(Append),
    /// A segment may be finished.
    Tidy,
    /// Give up a segment for another queue.
    GiveRoom(Wish),
    /// Answer when everything before it is done.
    Barrier(oneshot::Sender<()>),
    /// Tidy up and end.
    Close(oneshot::Sender<()>),
}

pub(super) struct Active {
    pub(super) id: u64,
    pub(super) file: Arc<dyn SegmentFile>,
    /// Durable bytes; the next commit starts here.
    pub(super) bytes: u64,
    /// Length of the file.
    pub(super) length: u64,
    /// No commit ends behind this.
    pub(super) capacity: u64,
    pub(super) records: usize,
    /// It was the file that is kept for notes: too small to be recycled, and cut to what it holds in the end.
    pub(super) of_notes: bool,
}

impl Active {
    pub(super) fn fits(&self, bytes: u64, records: usize) -> bool {
        self.bytes + bytes <= self.capacity && self.records + records <= SEGMENT_RECORDS_MAX
    }
}

/// Why a commit did not succeed.
pub(super) enum Fault {
    Full(String),
    Io(io::Error),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) active: Option<Active>,
    pub(super) next_id: u64,
    pub(super) book: Book,
    /// Files that nobody needs, from an earlier process.
    pub(super) leftovers: Vec<String>,
    recovery: Option<JoinHandle<()>>,
    run: Option<u64>,
    sequence: u64,
    buf: Vec<u8>,
    pub(super) last_append: Instant,
    /// A queue below was asked for room and has not answered yet: nothing of this one's own is given up for that.
    pub(super) below_is_busy: bool,
    /// Only segments with a lower number are dropped for the commit that is under way.
    pub(super) drop_below: u64,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        next_id: u64,
        checkpoint: &checkpoint::Found,
        leftovers: Vec<String>,
        recovery: JoinHandle<()>,
    ) -> Self {
        let (book, recovery) = (Book::new(checkpoint), Some(recovery));
        let (active, run, sequence, buf, last_append) = (None, None, 0, Vec::new(), Instant::now());
        let (below_is_busy, drop_below) = (false, next_id);
        Self {
            shared,
            active,
            next_id,
            book,
            leftovers,
            recovery,
            run,
            sequence,
            buf,
            last_append,
            below_is_busy,
            drop_below,
        }
    }

    /// Serves until the queue is closed or its last handle dropped.
    pub(super) fn serve(mut self, commands: &Receiver<Command>) {
        self.remove_leftovers();
        if self.shared.state().index.bytes() > 0 {
            let _ = self.prepare_notes_file();
        }
        let mut held = None;
        loop {
            let command = match held.take() {
                Some(command) => command,
                None => match self.wait(commands) {
                    Ok(command) => command,
                    Err(RecvTimeoutError::Timeout) => {
                        self.idle();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                },
            };
            match command {
                Command::Append(first) => {
                    let group;
                    (group, held) = self.gather(first, commands);
                    self.answer_group(group);
                    if self.shared.state().index.has_finished() {
                        // It was drained and took appends until now.
                        self.tidy();
                    }
                }
                Command::Tidy => {
                    self.shared.tidy_asked.store(false, std::sync::atomic::Ordering::Release);
                    // What is said of a loss first: then the evidence may go.
                    self.write_notes();
                    self.tidy();
                }
                // Nobody waits for an old one, and room that nobody waits for costs data.
                Command::GiveRoom(wish) if Instant::now() >= wish.until => {}
                Command::GiveRoom(Wish { answer, .. }) => {
                    let given = self.give_room();
                    if let Some(answer) = answer {
                        let _ = answer.send(given);
                    }
                }
                Command::Barrier(answer) => {
                    let _ = answer.send(());
                }
                Command::Close(answer) => {
                    self.finish();
                    let _ = answer.send(());
                    refuse_all(commands);
                    return;
                }
            }
        }
        self.finish();
    }

    fn wait(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        let (unfinished, notes) = {
            let state = self.shared.state();
            (state.has_due() || state.index.has_finished() || state.checkpoint_due, !state.notes.is_empty())
        };
        if unfinished {
            commands.recv_timeout(RETRY_EVERY)
        } else if self.active.is_some() || notes {
            commands.recv_timeout(IDLE_CLOSE)
        } else {
            commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    fn idle(&mut self) {
        if self.last_append.elapsed() >= IDLE_CLOSE {
            self.close_if_drained();
        }
        // What is said of a loss first: then the evidence may go.
        self.write_notes();
        self.tidy();
    }

    fn finish(&mut self) {
        // It ends after the segment that it scans, at the latest.
        self.shared.state().closed = true;
        if let Some(recovery) = self.recovery.take() {
            let _ = recovery.join();
        }
        self.write_notes();
        self.close_if_drained();
        self.tidy();
        // Whoever waits for the end may unmount then.
        (self.active, self.book) = (None, Book::default());
        self.shared.unlock();
    }

    fn close_if_drained(&mut self) {
        if let Some(active) = &self.active
            && self.shared.state().index.is_drained(active.id)
        {
            self.close_active();
        }
    }

    pub(super) fn close_active(&mut self) {
        if let Some(active) = self.active.take() {
            let cut = active.of_notes && active.file.set_len(active.bytes).is_ok();
            let mut state = self.shared.state();
            if cut {
                state.index.set_bytes(active.id, active.bytes);
            }
            state.index.close(active.id, active.bytes);
        }
    }

    /// Writes and syncs one commit; on any failure the segment is retired.
    /// Answers where the records of the group lie.
    pub(super) fn write(&mut self, notes: &[Record], group: &[Append], bytes: u64) -> io::Result<Vec<Position>> {
        let count = notes.len() + group.iter().map(|append| append.records.len()).sum::<usize>();
        if self.active.as_ref().is_some_and(|active| !active.fits(bytes, count)) {
            self.close_active();
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.acquire(bytes)?,
        };
        let (id, file, start) = (active.id, active.file.clone(), active.bytes);
        let run = *self.run.get_or_insert(id);
        let encoded = self.encode(notes, group, id, run, start);
        let written = encoded.and_then(|entries| self.write_and_sync(file.as_ref(), start).map(|()| entries));
        let entries = written.inspect_err(|_| self.retire(id, file.as_ref(), start))?;
        let written_records = entries.len();
        self.sequence += entries.len() as u64;
        active.bytes = start + self.buf.len() as u64;
        active.records += entries.len();
        let mut state = self.shared.state();
        state.counts.commits += 1;
        if start == 0 {
            state.index.open_segment(id);
            state.index.add_bytes(id, active.length);
            state.listed.insert(id);
            state.taking = Taking::default();
        }
        if active.bytes > active.length {
            state.index.add_bytes(id, active.bytes - active.length);
            active.length = active.bytes;
            state.taking = Taking::default();
        }
        let first = state.index.segment_entries(id);
        state.index.extend(id, entries, Some(Instant::now()));
        // A dropped segment waits to be recycled: that writes a checkpoint, too.
        let checkpoint = start == 0 && state.dead.is_empty();
        drop(state);
        self.active = Some(active);
        if checkpoint {
            self.checkpoint(false);
        }
        let place = |record| Position { segment: id, record: u32::try_from(first + record).unwrap_or(u32::MAX) };
        Ok((notes.len()..written_records).map(place).collect())
    }

    fn write_and_sync(&self, file: &dyn SegmentFile, start: u64) -> io::Result<()> {
        file.write_all_at(&self.buf, start).inspect_err(|_| self.count_failed_write())?;
        self.shared.state().counts.written_bytes += self.buf.len() as u64;
        self.sync(|| file.sync_data())
    }

    pub(super) fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let result = sync();
        let counts = &mut self.shared.state().counts;
        match &result {
            Ok(()) => counts.syncs += 1,
            Err(_) => counts.failed_syncs += 1,
        }
        result
    }

    pub(super) fn count_failed_write(&self) {
        self.shared.state().counts.failed_writes += 1;
    }

    /// Puts the group into the buffer as it will lie at `start` of a segment.
    fn encode(&mut self, notes: &[Record], group: &[Append], id: u64, run: u64, start: u64) -> io::Result<Vec<Entry>> {
        // A rare large append does not keep its buffer.
        if self.buf.capacity() as u64 > 4 * GROUP_BYTES_MAX {
            self.buf = Vec::new();
        }
        self.buf.clear();
        let count = notes.len() + group.iter().map(|append| append.records.len()).sum::<usize>();
        let mut entries = Vec::with_capacity(count);
        let cipher = self.shared.key.as_ref().map(|key| key.cipher(id, run));
        for record in notes.iter().chain(group.iter().flat_map(|append| &append.records)) {
            // `append` has checked the lengths, and a segment is below 4 GiB.
            let header = Header {
                sealed: cipher.is_some(),
                first: entries.is_empty(),
                last: entries.len() + 1 == count,
                meta_bytes: u16::try_from(record.meta.len()).unwrap_or(u16::MAX),
                payload_bytes: u32::try_from(record.payload.len()).unwrap_or(u32::MAX),
                offset: u32::try_from(start + self.buf.len() as u64).unwrap_or(u32::MAX),
                segment: id,
                run,
                sequence: self.sequence + entries.len() as u64,
                weight: record.weight,
                body_crc: 0,
            };
            frame::put(&mut self.buf, &header, record, cipher.as_ref())?;
            pad(&mut self.buf, ALIGN_BYTES);
            entries.push(Entry::new(header.offset, header.meta_bytes, header.payload_bytes, record.weight));
        }
        pad(&mut self.buf, BLOCK_BYTES);
        Ok(entries)
    }

    /// The segment gets no further commit. What it held before stays; what the
    /// failed commit left is cut off if that can be done, and is told from
    /// durable records by the numbers in the next segment if not.
    pub(super) fn retire(&mut self, id: u64, file: &dyn SegmentFile, durable: u64) {
        tracing::warn!(segment = id, durable, "segment retired after a fault");
        self.active = None;
        if durable > 0 {
            let cut = file.set_len(durable);
            let left = if cut.is_ok() { Ok(durable) } else { file.bytes() };
            let left = left.unwrap_or(durable + self.buf.len() as u64);
            let mut state = self.shared.state();
            state.index.set_bytes(id, left);
            state.index.mark_retired(id);
            state.index.close(id, durable);
        } else if let Err(error) = self.shared.fs.remove(&self.path(id)) {
            self.shared.fault("remove a retired segment", &error);
            let bytes = file.bytes().unwrap_or(self.buf.len() as u64);
            self.shared.state().dead.push(Dead::unused(id, bytes));
        }
    }

    pub(super) fn path(&self, id: u64) -> PathBuf {
        self.shared.config.dir.join(segment_file_name(id))
    }
}

fn pad(buf: &mut Vec<u8>, unit: u64) {
    let bytes = align_up(buf.len() as u64, unit);
    buf.resize(usize::try_from(bytes).unwrap_or(buf.len()), 0);
}

/// Whether it is a lack of room, which freeing some may cure.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

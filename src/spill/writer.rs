//! The one thread that changes the directory: it joins the appends that wait
//! into a commit, writes it, syncs once, and answers them all; it removes
//! finished segments and makes room.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::config::{BLOCK_BYTES, GROUP_BYTES_MAX};
use super::frame::{self, ALIGN_BYTES, Header, align_up};
use super::fs::SegmentFile;
use super::index::Entry;
use super::scan::segment_file_name;
use super::shared::Shared;
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
    /// Answer when everything before it is done.
    Barrier(oneshot::Sender<()>),
    /// Tidy up and end.
    Close(oneshot::Sender<()>),
}

struct Active {
    id: u64,
    file: Arc<dyn SegmentFile>,
    /// Durable bytes; the next commit starts here.
    bytes: u64,
}

/// Why a commit did not succeed.
pub(super) enum Fault {
    Full(String),
    Io(io::Error),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    active: Option<Active>,
    next_id: u64,
    run: Option<u64>,
    sequence: u64,
    buf: Vec<u8>,
    last_append: Instant,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, next_id: u64) -> Self {
        Self { shared, active: None, next_id, run: None, sequence: 0, buf: Vec::new(), last_append: Instant::now() }
    }

    /// Serves until the queue is closed or its last handle dropped.
    pub(super) fn serve(mut self, commands: &Receiver<Command>) {
        // Recovery may have found segments with nothing sound in them.
        self.tidy();
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
                }
                Command::Tidy => {
                    self.shared.tidy_asked.store(false, std::sync::atomic::Ordering::Release);
                    self.tidy();
                    self.write_notes();
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

    /// The appends that wait, as long as they fit into one commit, and the
    /// command that ended the row.
    fn gather(&self, first: Append, commands: &Receiver<Command>) -> (Vec<Append>, Option<Command>) {
        let config = &self.shared.config;
        let bytes_max = GROUP_BYTES_MAX.min(config.segment_bytes.as_u64());
        let (mut bytes, mut records) = (first.bytes, first.records.len());
        let mut group = vec![first];
        loop {
            match commands.try_recv() {
                Ok(Command::Append(next))
                    if bytes + next.bytes <= bytes_max
                        && records + next.records.len() <= config.records_max as usize =>
                {
                    bytes += next.bytes;
                    records += next.records.len();
                    group.push(next);
                }
                Ok(other) => return (group, Some(other)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return (group, None),
            }
        }
    }

    fn wait(&self, commands: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        let (unfinished, notes) = {
            let state = self.shared.state();
            (!state.index.finished().is_empty(), !state.notes.is_empty())
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
        self.tidy();
        self.write_notes();
    }

    fn finish(&mut self) {
        self.write_notes();
        self.close_if_drained();
        self.tidy();
        self.shared.unlock();
    }

    fn close_if_drained(&mut self) {
        if let Some(active) = &self.active
            && self.shared.state().index.is_drained(active.id)
        {
            self.close_active();
        }
    }

    fn close_active(&mut self) {
        if let Some(active) = self.active.take() {
            self.shared.state().index.close(active.id);
        }
    }

    fn answer_group(&mut self, group: Vec<Append>) {
        self.last_append = Instant::now();
        let result = self.commit(&group);
        {
            let mut state = self.shared.state();
            state.counts.failing = matches!(result, Err(Fault::Io(_)));
        }
        match result {
            Ok(positions) => {
                let mut positions = positions.into_iter();
                for append in group {
                    let own = positions.by_ref().take(append.records.len()).collect();
                    let _ = append.answer.send(Ok(own));
                    drop(append.permit);
                }
                self.shared.readable.notify_waiters();
            }
            Err(fault) => {
                for append in group {
                    let records = append.records;
                    let error = match &fault {
                        Fault::Full(reason) => AppendError::Full { records, reason: reason.clone() },
                        Fault::Io(source) => AppendError::Io { records, source: copy_of(source) },
                    };
                    let _ = append.answer.send(Err(error));
                    drop(append.permit);
                }
            }
        }
    }

    /// Writes one commit; if that fails, once more to a new segment.
    pub(super) fn write_twice(&mut self, notes: &[Record], group: &[Append]) -> Result<Vec<Position>, Fault> {
        let records = notes.iter().chain(group.iter().flat_map(|append| &append.records));
        let bytes = align_up(records.map(|record| self.shared.framed_bytes(record)).sum(), BLOCK_BYTES);
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let error = match self.write(notes, group, bytes) {
            Ok(positions) => return Ok(positions),
            Err(error) => error,
        };
        // The records are still here; the segment is not trusted any more.
        self.shared.fault("append", &error);
        if is_full(&error) && !self.make_some_room() {
            return Err(Fault::Full(error.to_string()));
        }
        self.write(notes, group, bytes).map_err(|error| {
            self.shared.fault("append to a new segment", &error);
            if is_full(&error) { Fault::Full(error.to_string()) } else { Fault::Io(error) }
        })
    }

    /// Writes and syncs one commit; on any failure the segment is retired.
    /// Answers where the records of the group lie.
    fn write(&mut self, notes: &[Record], group: &[Append], bytes: u64) -> io::Result<Vec<Position>> {
        let segment_max = self.shared.config.segment_bytes.as_u64();
        if self.active.as_ref().is_some_and(|a| a.bytes + bytes > segment_max) {
            self.close_active();
        }
        let (id, file, start) = match &self.active {
            Some(active) => (active.id, active.file.clone(), active.bytes),
            None => {
                let (id, file) = self.create()?;
                (id, file, 0)
            }
        };
        let run = *self.run.get_or_insert(id);
        let encoded = self.encode(notes, group, id, run, start);
        let written = encoded.and_then(|entries| self.write_and_sync(file.as_ref(), start).map(|()| entries));
        let entries = written.inspect_err(|_| self.retire(id, file.as_ref(), start))?;
        let written_records = entries.len();
        self.sequence += entries.len() as u64;
        let end = start + self.buf.len() as u64;
        let mut state = self.shared.state();
        if start == 0 {
            state.index.open_segment(id);
        }
        state.index.add_bytes(id, end - start);
        let first = state.index.segment_entries(id);
        state.index.extend(id, entries, Some(Instant::now()));
        drop(state);
        self.active = Some(Active { id, file, bytes: end });
        let place = |record| Position { segment: id, record: u32::try_from(first + record).unwrap_or(u32::MAX) };
        Ok((notes.len()..written_records).map(place).collect())
    }

    fn create(&mut self) -> io::Result<(u64, Arc<dyn SegmentFile>)> {
        let id = self.next_id;
        self.next_id += 1;
        let path = self.path(id);
        let file = self.shared.fs.create(&path).inspect_err(|_| self.count_failed_write())?;
        Ok((id, file))
    }

    fn write_and_sync(&self, file: &dyn SegmentFile, start: u64) -> io::Result<()> {
        file.write_all_at(&self.buf, start).inspect_err(|_| self.count_failed_write())?;
        self.shared.state().counts.written_bytes += self.buf.len() as u64;
        self.sync(|| file.sync_data())?;
        if start == 0 {
            self.sync(|| self.shared.fs.sync_dir(&self.shared.config.dir))?;
        }
        Ok(())
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

    fn count_failed_write(&self) {
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
    fn retire(&mut self, id: u64, file: &dyn SegmentFile, durable: u64) {
        tracing::warn!(segment = id, durable, "segment retired after a fault");
        self.close_active();
        if durable > 0 {
            let cut = file.set_len(durable);
            let left = if cut.is_ok() { Ok(durable) } else { file.bytes() };
            let left = left.unwrap_or(durable + self.buf.len() as u64);
            self.shared.state().index.set_bytes(id, left);
        } else if let Err(error) = self.shared.fs.remove(&self.path(id)) {
            self.shared.fault("remove a retired segment", &error);
            let mut state = self.shared.state();
            state.index.open_segment(id);
            state.index.add_bytes(id, file.bytes().unwrap_or(self.buf.len() as u64));
            state.index.close(id);
        }
    }

    pub(super) fn path(&self, id: u64) -> PathBuf {
        self.shared.config.dir.join(segment_file_name(id))
    }
}

/// Gives back what came after the closing.
fn refuse_all(commands: &Receiver<Command>) {
    while let Ok(command) = commands.try_recv() {
        if let Command::Append(append) = command {
            let records = append.records;
            let _ = append.answer.send(Err(AppendError::Closed { records }));
        }
    }
}

fn pad(buf: &mut Vec<u8>, unit: u64) {
    let bytes = align_up(buf.len() as u64, unit);
    buf.resize(usize::try_from(bytes).unwrap_or(buf.len()), 0);
}

/// Whether it is a lack of room, which freeing some may cure.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

//! What the observer wants to be known about what is gone, on its way into the
//! queue: it waits, bounded, for the next commit and goes in front of it, or to
//! the file that is kept for it.
//!
//! A word leaves only when it is durable, and in order: a count tells which are.
//! A dropped segment's file may go when the word of it is among them.

use std::io;
use std::sync::Arc;

use super::Record;
use super::config::{BLOCK_BYTES, META_BYTES_MAX};
use super::frame::align_up;
use super::fs::SegmentFile;
use super::scan::NOTES_FILE;
use super::shared::Shared;
use super::writer::{Active, Fault, Writer, is_full};

/// What waits, and how many went before it.
#[derive(Default)]
pub(super) struct Notes {
    waiting: Vec<Record>,
    durable: u64,
}

impl Notes {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all that was ever said is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of the last one that was said.
    pub(super) fn said(&self) -> u64 {
        self.durable + self.waiting.len() as u64
    }

    /// Whether all up to this number are durable.
    pub(super) fn are_durable(&self, number: u64) -> bool {
        number <= self.durable
    }

    /// The first of those that wait; they go on waiting.
    pub(super) fn first(&self, count: usize) -> Vec<Record> {
        self.waiting.iter().take(count).cloned().collect()
    }

    /// So many of the first are durable now.
    pub(super) fn leave(&mut self, count: usize) {
        self.waiting.drain(..count);
        self.durable += count as u64;
    }
}

impl Shared {
    /// Keeps what the observer answered until the next commit.
    pub(super) fn note(&self, records: Vec<Record>) {
        let max = self.config.notes_bytes_max();
        let mut state = self.state();
        let mut bytes = state.notes.waiting.iter().map(|record| self.framed_bytes(record)).sum::<u64>();
        for record in records {
            let more = self.framed_bytes(&record);
            if record.meta.len() > META_BYTES_MAX || bytes + more > max {
                state.counts.lost_notes += 1;
                tracing::error!(bytes = more, max, "a record about what is gone does not fit and is left out");
                continue;
            }
            bytes += more;
            state.notes.waiting.push(record);
        }
    }
}

impl Writer {
    /// Writes what waits to be known about what is gone, by itself.
    pub(super) fn write_notes(&mut self) {
        if let Err(fault) = self.try_notes() {
            let error = match fault {
                Fault::Full(reason) => io::Error::other(reason),
                Fault::Io(error) => error,
            };
            self.shared.fault("write what is known about lost records", &error);
        }
    }

    /// The same, and says why not.
    pub(super) fn try_notes(&mut self) -> Result<(), Fault> {
        if self.shared.state().notes.is_empty() {
            return Ok(());
        }
        match self.commit(&[]) {
            Err(Fault::Full(_)) if self.write_to_notes_file() => Ok(()),
            other => other.map(drop),
        }
    }

    /// What the notes that wait will take in a commit, before it is filled up.
    pub(super) fn notes_bytes(&self) -> u64 {
        self.shared.state().notes.waiting.iter().map(|record| self.shared.framed_bytes(record)).sum()
    }

    /// Makes what waits durable in the file that is kept for it. `false` if there is none, or it fails.
    pub(super) fn write_to_notes_file(&mut self) -> bool {
        let capacity = self.shared.config.notes_file_bytes();
        let notes = {
            let mut state = self.shared.state();
            if state.notes.is_empty() || !std::mem::take(&mut state.has_notes_file) {
                return false;
            }
            // All: together they are no more than the file takes.
            state.notes.waiting.clone()
        };
        let bytes = align_up(notes.iter().map(|record| self.shared.framed_bytes(record)).sum(), BLOCK_BYTES);
        let file = self.reuse(NOTES_FILE, capacity, |state| state.has_notes_file = true);
        let written = file.and_then(|active| {
            self.close_active();
            self.active = Some(Active { of_notes: true, ..active });
            self.write(&notes, &[], bytes)
        });
        match written {
            Ok(_) => {
                self.shared.state().notes.leave(notes.len());
                self.bury();
            }
            Err(ref error) => self.shared.fault("write to the file for notes", error),
        }
        written.is_ok()
    }

    /// Makes the file that is kept for notes: there is a place for what is said of data before that goes, also where
    /// nothing else can be had. A recycled segment is given up for it. Answers whether it is there: where others have
    /// filled the file system it may not be, until they leave room.
    ///
    /// # Errors
    /// If the file system refuses it for another reason: nothing is to be dropped then, since nothing could be said.
    pub(super) fn prepare_notes_file(&self) -> io::Result<bool> {
        let shared = self.shared.clone();
        let config = &shared.config;
        let bytes = config.notes_file_bytes();
        let _turn = shared.share.budget.turn();
        if bytes == 0 || shared.state().has_notes_file {
            return Ok(bytes > 0);
        }
        let needed = config.free_min.as_u64().saturating_add(bytes);
        loop {
            let free = shared.fs.free_bytes(&config.dir).unwrap_or(u64::MAX);
            let made = if free < needed { Err(io::ErrorKind::StorageFull.into()) } else { self.make_notes_file(bytes) };
            match made {
                Ok(()) => break,
                Err(error) if is_full(&error) => {
                    let spare = shared.state().free.last().map_or(0, |free| free.bytes);
                    if free.saturating_add(spare) < needed || !shared.remove_spare() {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    shared.fault("make the file for notes", &error);
                    return Err(error);
                }
            }
        }
        shared.state().has_notes_file = true;
        Ok(true)
    }

    fn make_notes_file(&self, bytes: u64) -> io::Result<()> {
        let (fs, path) = (&self.shared.fs, self.shared.config.dir.join(NOTES_FILE));
        let made = fs.create(&path).or_else(|error| {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            // Of another size, or an attempt that failed, and could not be removed then.
            fs.remove(&path)?;
            fs.create(&path)
        });
        let file = made.inspect_err(|_| self.count_failed_write())?;
        take_room(&file, bytes).inspect_err(|_| {
            self.count_failed_write();
            drop(fs.remove(&path));
        })
    }
}

fn take_room(file: &Arc<dyn SegmentFile>, bytes: u64) -> io::Result<()> {
    match file.allocate(bytes) {
        // At most 1 MiB, once.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            file.write_all_at(&vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)], 0)
        }
        other => other,
    }
}

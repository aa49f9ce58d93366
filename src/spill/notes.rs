//! What the observer wants to be known about what is gone, on its way into the
//! queue: it waits, bounded, for the next commit and goes in front of it.

use std::io;

use super::budget::Taking;
use super::config::{BLOCK_BYTES, GROUP_BYTES_MAX, META_BYTES_MAX};
use super::frame::align_up;
use super::scan::NOTES_FILE;
use super::shared::Shared;
use super::writer::{Active, Append, Fault, Writer};
use super::{Position, Record};

impl Shared {
    /// Keeps what the observer answered until the next commit.
    pub(super) fn note(&self, records: Vec<Record>) {
        let max = self.config.notes_bytes_max();
        let mut state = self.state();
        let mut bytes = state.notes.iter().map(|record| self.framed_bytes(record)).sum::<u64>();
        for record in records {
            let more = self.framed_bytes(&record);
            if record.meta.len() > META_BYTES_MAX || bytes + more > max {
                state.counts.lost_notes += 1;
                tracing::error!(bytes = more, max, "a record about what is gone does not fit and is left out");
                continue;
            }
            bytes += more;
            state.notes.push(record);
        }
    }
}

impl Writer {
    /// Makes a group durable as one commit, or leaves nothing of it behind. What
    /// is to be known about lost records goes in front of it: making room for
    /// the group may be what adds to them.
    pub(super) fn commit(&mut self, group: &[Append]) -> Result<Vec<Position>, Fault> {
        let committed = self.try_commit(group);
        self.shared.state().taking = Taking::default();
        committed
    }

    fn try_commit(&mut self, group: &[Append]) -> Result<Vec<Position>, Fault> {
        let own =
            group.iter().flat_map(|append| &append.records).map(|record| self.shared.framed_bytes(record)).sum::<u64>();
        let count = group.iter().map(|append| append.records.len()).sum::<usize>();
        if count > 0 {
            self.drop_below = self.next_id;
        }
        let join_max = GROUP_BYTES_MAX.min(self.shared.config.segment_bytes.as_u64());
        let (notes, joined) = loop {
            let (waiting, notes) = (self.notes_bytes(), self.shared.state().notes.len());
            let joined = waiting + own <= join_max;
            let bytes = if joined {
                align_up(waiting + own, BLOCK_BYTES)
            } else {
                align_up(waiting, BLOCK_BYTES) + align_up(own, BLOCK_BYTES)
            };
            if notes + count == 0 {
                return Ok(Vec::new());
            }
            // What is said of a loss costs no data by itself.
            self.make_room(bytes, notes + count, count > 0)?;
            let mut state = self.shared.state();
            // Each turn drops a segment or sees a record lost.
            if state.notes.len() == notes {
                break (std::mem::take(&mut state.notes), joined);
            }
        };
        let alone = if joined { &[] } else { &notes[..] };
        let together = if joined { &notes[..] } else { &[] };
        if let Err(fault) = self.write_twice(alone, &[]) {
            self.keep_notes(notes);
            return Err(fault);
        }
        let written = self.write_twice(together, group);
        if joined && written.is_err() {
            self.keep_notes(notes);
            return written;
        }
        // What is said of dropped segments is durable now.
        self.bury();
        written
    }

    /// What could not be written waits for the next commit, in its old place.
    fn keep_notes(&self, mut notes: Vec<Record>) {
        let mut state = self.shared.state();
        notes.append(&mut state.notes);
        state.notes = notes;
    }

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
        self.shared.state().notes.iter().map(|record| self.shared.framed_bytes(record)).sum()
    }

    /// Makes what waits durable in the file that is kept for it. `false` if there is none, or it fails.
    pub(super) fn write_to_notes_file(&mut self) -> bool {
        let bytes = align_up(self.notes_bytes(), BLOCK_BYTES);
        let notes = {
            let mut state = self.shared.state();
            if bytes == 0 || !std::mem::take(&mut state.has_notes_file) {
                return false;
            }
            std::mem::take(&mut state.notes)
        };
        let capacity = self.shared.config.notes_file_bytes();
        let file = self.reuse(NOTES_FILE, capacity, |state| state.has_notes_file = true);
        let written = file.and_then(|active| {
            self.close_active();
            self.active = Some(Active { of_notes: true, ..active });
            self.write(&notes, &[], bytes)
        });
        match written {
            Ok(_) => self.bury(),
            Err(ref error) => {
                self.shared.fault("write to the file for notes", error);
                self.keep_notes(notes);
            }
        }
        written.is_ok()
    }

    /// Makes the file that is kept for notes: there is a place for what is said of data before that goes, also where
    /// nothing else can be had. Answers whether it is there: where others have filled the file system it may not be, until
    /// they leave room.
    pub(super) fn prepare_notes_file(&self) -> bool {
        let shared = self.shared.clone();
        let config = &shared.config;
        let bytes = config.notes_file_bytes();
        let _turn = shared.share.budget.turn();
        if bytes == 0 || shared.state().has_notes_file {
            return bytes > 0;
        }
        let free = shared.fs.free_bytes(&config.dir).unwrap_or(u64::MAX);
        if free < config.free_min.as_u64().saturating_add(bytes) {
            return false;
        }
        let path = config.dir.join(NOTES_FILE);
        let made = shared
            .fs
            .create(&path)
            .and_then(|file| file.allocate(bytes).inspect_err(|_| drop(shared.fs.remove(&path))));
        if let Err(error) = &made {
            shared.fault("make the file for notes", error);
        }
        shared.state().has_notes_file = made.is_ok();
        made.is_ok()
    }
}

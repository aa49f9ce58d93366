//! One commit: what is to be known about lost records, and a group of appends.

use std::io;

use super::budget::Taking;
use super::config::{BLOCK_BYTES, GROUP_BYTES_MAX};
use super::frame::align_up;
use super::writer::{Append, Fault, Writer, is_full};
use super::{Position, Record};

/// What goes into a commit, once there is room for it.
struct Plan {
    /// So many of the notes that wait.
    notes: usize,
    /// They and the group are one commit; else the notes are one of their own before it.
    joined: bool,
}

impl Writer {
    /// Makes a group durable as one commit, or leaves nothing of it behind. What
    /// is to be known about lost records goes in front of it: making room for
    /// the group may be what adds to them.
    pub(super) fn commit(&mut self, group: &[Append]) -> Result<Vec<Position>, Fault> {
        let committed = self.try_commit(group);
        self.shared.state().taking = Taking::default();
        // What is said of dropped segments may be durable now, also if the group is not.
        self.bury();
        committed
    }

    /// Writes it; if that fails, once more to a new segment.
    fn try_commit(&mut self, group: &[Append]) -> Result<Vec<Position>, Fault> {
        let records = || group.iter().flat_map(|append| &append.records);
        let (own, count) = (self.framed(records()), records().count());
        if count > 0 {
            self.drop_below = self.next_id;
        }
        let Some(plan) = self.plan(own, count)? else {
            return Ok(Vec::new());
        };
        let error = match self.write_planned(&plan, group, own) {
            Ok(positions) => return Ok(positions),
            Err(error) => error,
        };
        // The records are still here; the segment is not trusted any more, and has what was promised to it.
        self.shared.state().taking = Taking::default();
        self.shared.fault("append", &error);
        let bytes = align_up(self.notes_bytes() + own, BLOCK_BYTES);
        if is_full(&error) && !self.has_spare(bytes) && !self.make_some_room(count > 0) {
            return Err(Fault::Full(error.to_string()));
        }
        let Some(plan) = self.plan(own, count)? else {
            return Ok(Vec::new());
        };
        self.write_planned(&plan, group, own).map_err(|error| {
            self.shared.fault("append to a new segment", &error);
            if is_full(&error) { Fault::Full(error.to_string()) } else { Fault::Io(error) }
        })
    }

    /// Sees to it that there is room for the notes and for `count` records that take `own` bytes. `None` if there are neither.
    fn plan(&mut self, own: u64, count: usize) -> Result<Option<Plan>, Fault> {
        let join_max = GROUP_BYTES_MAX.min(self.shared.config.segment_bytes.as_u64());
        loop {
            let (waiting, notes) = (self.notes_bytes(), self.shared.state().notes.len());
            if notes + count == 0 {
                return Ok(None);
            }
            let joined = waiting + own <= join_max;
            let bytes = if joined {
                align_up(waiting + own, BLOCK_BYTES)
            } else {
                align_up(waiting, BLOCK_BYTES) + align_up(own, BLOCK_BYTES)
            };
            // What is said of a loss costs no data by itself.
            self.make_room(bytes, notes + count, count > 0)?;
            // Each turn drops a segment or sees a record lost.
            if self.shared.state().notes.len() == notes {
                return Ok(Some(Plan { notes, joined }));
            }
        }
    }

    /// The notes leave as soon as they are durable: a second attempt goes on behind them.
    fn write_planned(&mut self, plan: &Plan, group: &[Append], own: u64) -> io::Result<Vec<Position>> {
        let mut notes = self.shared.state().notes.first(plan.notes);
        if !plan.joined && !notes.is_empty() {
            self.write(&notes, &[], align_up(self.framed(&notes), BLOCK_BYTES))?;
            self.shared.state().notes.leave(notes.len());
            notes.clear();
        }
        let positions = self.write(&notes, group, align_up(self.framed(&notes) + own, BLOCK_BYTES))?;
        self.shared.state().notes.leave(notes.len());
        Ok(positions)
    }

    fn framed<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> u64 {
        records.into_iter().map(|record| self.shared.framed_bytes(record)).sum()
    }
}

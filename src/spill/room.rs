//! Seeing to it that a commit has a place within every cap, by policy at the
//! cost of the oldest data.
//!
//! With `drop-oldest`, one recycled segment is held in reserve as soon as
//! anything is dropped: the commit for which room is needed goes there, together
//! with what is said of the dropped records, and only when that is durable does
//! the dropped segment become the new reserve. Where there is none, what is said
//! goes to the file that is kept for it. So whatever happens in between, its
//! records are there or it is known that they are not.

use std::io;
use std::time::Instant;

use bytes::Bytes;

use super::budget::{Given, Taking};
use super::config::{GONE_BYTES_MAX, Overflow};
use super::index::{Doomed, Entry, MayGo, Oldest};
use super::segment::{Read, read_record};
use super::shared::{Dead, Share};
use super::stats::Gone;
use super::writer::{Fault, Writer};
use super::{Position, Record};

/// Why a commit does not fit.
struct Lack {
    reason: String,
    /// Not even an empty queue would help.
    hopeless: bool,
}

impl Writer {
    /// Sees to it that a commit fits within every cap, or says why not;
    /// `may_drop`: at the cost of data if the policy says so.
    pub(super) fn make_room(&mut self, bytes: u64, records: usize, may_drop: bool) -> Result<(), Fault> {
        if !self.shared.share.budget.is_complete() {
            return Err(Fault::Io(io::Error::other("not all queues are open yet")));
        }
        // Each step may close the file.
        while let Some(growth) = self.growth(bytes, records) {
            if growth == 0 || self.may_grow(growth) {
                return Ok(());
            }
            self.make_room_or_say_why(growth, may_drop)?;
        }
        let shared = self.shared.clone();
        let own = may_drop && shared.config.overflow == Overflow::DropOldest;
        let mut dropped = false;
        loop {
            if self.shared.state().index.has_finished() {
                self.tidy();
            }
            let turn = shared.share.budget.turn();
            let obtainable = self.obtainable(bytes);
            // With the last one the oldest is dropped, and makes the next.
            let last = obtainable == 1 && own && !dropped && self.shared.state().dead.is_empty();
            if obtainable > 0 && !last {
                self.take(bytes);
                return Ok(());
            }
            let wanted = if last { 0 } else { self.shared.config.segment_bytes.as_u64().max(bytes) };
            self.shared.state().taking.wanted = wanted;
            drop(turn);
            if !last {
                dropped |= self.make_room_or_say_why(bytes, may_drop)?;
            } else if self.take_from_below() || self.below_is_busy {
                // The last one does until the other has answered.
                dropped = true;
            } else {
                let turn = shared.share.budget.turn();
                if self.obtainable(bytes) > 0 {
                    self.take(bytes);
                    drop(turn);
                    self.doom_oldest(MayGo::Below(self.drop_below));
                    return Ok(());
                }
            }
        }
    }

    /// By how much the file that takes appends grows with a commit of that size; `None` if it takes no such.
    fn growth(&self, bytes: u64, records: usize) -> Option<u64> {
        let active = self.active.as_ref().filter(|active| active.fits(bytes, records))?;
        Some((active.bytes + bytes).saturating_sub(active.length))
    }

    /// What can be had for a commit of that size is this queue's from now on.
    fn take(&self, bytes: u64) {
        let spare = self.has_spare(bytes);
        let size = self.shared.config.segment_bytes.as_u64().max(bytes);
        let making = if spare { 0 } else { size.min(self.allowed_bytes()) };
        self.shared.state().taking = Taking { making, wanted: 0, spare };
    }

    /// Takes so many bytes for a file that grows, if they are allowed.
    fn may_grow(&self, bytes: u64) -> bool {
        let _turn = self.shared.share.budget.turn();
        let allowed = self.allowed_bytes() >= bytes;
        self.shared.state().taking = match allowed {
            true => Taking { making: bytes, ..Taking::default() },
            false => Taking { wanted: bytes, ..Taking::default() },
        };
        allowed
    }

    /// Segments for a commit of that size that can be had, up to two.
    fn obtainable(&self, bytes: u64) -> u64 {
        let size = self.shared.config.segment_bytes.as_u64().max(bytes);
        let Share { budget, rank } = &self.shared.share;
        let used = self.shared.state().disk_bytes();
        if budget.is_over(*rank, used) {
            // Spares go before anything is taken.
            return 0;
        }
        let spare = self.shared.state().free.iter().filter(|free| free.bytes >= bytes).count() as u64;
        if spare >= 2 {
            return 2;
        }
        let allowed = self.allowed_bytes();
        // The last may be a small one.
        let made = (allowed / size).max(u64::from(allowed >= bytes));
        (spare + made).min(2)
    }

    /// One step. Answers whether records were dropped.
    fn make_room_or_say_why(&mut self, bytes: u64, may_drop: bool) -> Result<bool, Fault> {
        let lack = self.lack(bytes);
        let before = self.shared.state().counts.dropped_segments;
        // Some may have been acknowledged meanwhile.
        if lack.hopeless || !(self.make_some_room(may_drop) || self.tidy() > 0) {
            let reason = lack.reason;
            if !lack.hopeless && may_drop && (self.below_is_busy || self.asks_the_rich(bytes)) {
                return Err(Fault::Io(io::Error::other(format!("{reason}; another priority is asked to give way"))));
            }
            return Err(if !lack.hopeless && self.is_stuck() {
                let last = self.shared.state().counts.last_error.clone().unwrap_or_default();
                Fault::Io(io::Error::other(format!("{reason}, and nothing can be removed: {last}")))
            } else {
                Fault::Full(reason)
            });
        }
        Ok(self.shared.state().counts.dropped_segments > before)
    }

    /// One step: finished segments, recycled ones, evidence, what other queues
    /// do not need, then data: that of lower priority, and by policy the oldest.
    pub(super) fn make_some_room(&mut self, may_drop: bool) -> bool {
        let drops = may_drop && self.shared.config.overflow == Overflow::DropOldest;
        let Share { budget, rank } = &self.shared.clone().share;
        self.tidy() > 0
            || self.shared.remove_spare()
            || self.remove_oldest_damaged()
            || budget.remove_spare_of_others(*rank)
            || (may_drop && self.take_from_below())
            // Of a directory that cannot be changed nothing is given up: no room would come of it.
            || (drops && !self.below_is_busy && !self.is_stuck() && self.checkpoint(true) && self.drop_oldest())
    }

    /// Gives up the oldest, and says so before: in the file that is kept for that, since there is no other place.
    fn drop_oldest(&mut self) -> bool {
        let Ok(can_tell) = self.prepare_notes_file() else {
            return false;
        };
        // Those of which nothing could be written yet go first.
        if !self.shared.state().has_untold() && !self.doom_some(self.drop_below) {
            return false;
        }
        if !can_tell {
            // Others filled the file system before that file could be made: there is no other way.
            return self.bury_untold();
        }
        if !self.shared.state().notes.is_empty() {
            return self.write_to_notes_file();
        }
        // There was nothing to say.
        self.bury();
        true
    }

    /// The oldest with data, and what is said of older ones before that: joined to the new, since alone it would go round
    /// for ever.
    fn doom_some(&mut self, below: u64) -> bool {
        let bytes_max = self.shared.config.notes_bytes_max() / 2;
        loop {
            let said = self.notes_bytes();
            if !self.doom_oldest(MayGo::Notes { below, bytes_max: bytes_max.saturating_sub(said) }) {
                return self.doom_oldest(MayGo::Below(below));
            }
            if self.notes_bytes() == said {
                // Of that nothing is said, so it was no note: it is the oldest with data.
                return true;
            }
        }
    }

    /// Has a queue of lower priority give up data, if the policy lets any go.
    fn take_from_below(&mut self) -> bool {
        let shared = self.shared.clone();
        let Share { budget, rank } = &shared.share;
        if shared.config.overflow == Overflow::Block {
            return false;
        }
        let given = budget.take_from_below(*rank);
        self.below_is_busy = matches!(given, Given::Busy);
        matches!(given, Given::Room)
    }

    /// Whether this queue is sure of room that others hold; they are asked for it then, and it is there later.
    fn asks_the_rich(&self, bytes: u64) -> bool {
        let Share { budget, rank } = &self.shared.share;
        let used = self.shared.state().disk_bytes();
        let may_ask = self.shared.config.overflow != Overflow::Block && budget.is_sure_of(used, bytes);
        may_ask && budget.ask_the_rich(*rank)
    }

    /// Gives up a segment for another queue: what is said of its records first, its file then.
    pub(super) fn give_room(&mut self) -> Given {
        if self.tidy() > 0 || self.remove_oldest_damaged() {
            self.shared.remove_spare();
            return Given::Room;
        }
        if self.is_stuck() {
            return Given::Nothing;
        }
        let Ok(can_tell) = self.prepare_notes_file() else {
            return Given::Nothing;
        };
        // Those of which nothing could be written yet go first.
        let untold = self.shared.state().has_untold();
        let notes_bytes_max = self.shared.config.notes_file_bytes();
        if !untold && (!self.checkpoint(true) || !self.doom_oldest(MayGo::Data { notes_bytes_max })) {
            return Given::Nothing;
        }
        match self.try_notes() {
            Ok(()) => self.bury(),
            // Others filled the file system before the file for notes could be made: there is no other way.
            Err(Fault::Full(_)) if !can_tell => {
                if !self.bury_untold() {
                    return Given::Nothing;
                }
                self.write_notes();
            }
            Err(_) => return Given::Nothing,
        }
        self.shared.remove_spare();
        Given::Room
    }

    fn lack(&self, bytes: u64) -> Lack {
        let config = &self.shared.config;
        let (used, unusable) = {
            let state = self.shared.state();
            (state.disk_bytes(), state.unusable_bytes)
        };
        let (disk_max, Share { budget, rank }) = (config.disk_max.as_u64(), &self.shared.share);
        let others = budget.held_by_others(*rank);
        if used + others + bytes > disk_max {
            let mut reason = format!("{used} of {disk_max} bytes are used, {bytes} more are needed");
            if others > 0 {
                reason += &format!("; {others} are for other priorities");
            }
            if unusable > 0 {
                reason += &format!("; {unusable} are in segments under another key, of a later version or unreadable");
            }
            return Lack { reason, hopeless: false };
        }
        let free = self.shared.fs.free_bytes(&config.dir).unwrap_or(u64::MAX);
        let needed = config.free_min.as_u64().saturating_add(bytes);
        let free_min = config.free_min;
        let reason = format!("{free} bytes are free, {bytes} are needed and {free_min} are left to others");
        // Others have filled the disk: giving up everything would not help.
        let ours = used.saturating_add(budget.held_below(*rank));
        Lack { reason, hopeless: free.saturating_add(ours) < needed }
    }

    /// Takes the oldest closed segment without a record in flight (with
    /// `drop-newest`, where it gives way to a higher priority, the newest) out of
    /// the queue and reports what was in it. Its file goes when what is said of
    /// its records is durable.
    fn doom_oldest(&mut self, may_go: MayGo) -> bool {
        let mut all_scanned = false;
        let (doomed, gone) = loop {
            let newest = self.shared.config.overflow == Overflow::DropNewest;
            let oldest = self.shared.state().index.start_drop(newest, may_go, Instant::now());
            match oldest {
                Oldest::None => return false,
                // What is in it has to be known exactly.
                Oldest::Unscanned if all_scanned => return false,
                Oldest::Unscanned => all_scanned = !self.shared.recover_step(),
                Oldest::Doomed(doomed) => match self.gone(&doomed) {
                    Ok(gone) => break (doomed, gone),
                    Err(error) => {
                        // Another one may be readable; this one may be later.
                        self.shared.cannot_read(doomed.id, &error);
                        self.shared.state().index.abandon_drop(doomed.id);
                    }
                },
            }
        };
        let Doomed { id, bytes, retired, records, weight, .. } = doomed;
        tracing::warn!(segment = id, records, weight, "dropped a segment: spill is full");
        self.shared.count_dropped(records, weight);
        // Counted twice for a moment: others may not take what it has.
        {
            let mut state = self.shared.state();
            let placeless = !state.has_notes_file;
            state.dead.push(Dead { id, bytes, retired, word: u64::MAX, unused: false, placeless });
        }
        self.shared.forget(id);
        if records > 0 {
            self.shared.note(self.shared.observer.dropped(gone));
        }
        let mut state = self.shared.state();
        let word = state.notes.said();
        state.dead.iter_mut().filter(|dead| dead.id == id).for_each(|dead| dead.word = word);
        true
    }

    /// What is lost with a segment. One that the file system has refused to read
    /// for a while is given up without its content.
    ///
    /// # Errors
    /// If it refuses for the first time.
    fn gone(&self, doomed: &Doomed) -> io::Result<Vec<Gone>> {
        let id = doomed.id;
        let ready: Vec<(Position, Entry)> = match &doomed.ready {
            Some(ready) => ready.clone(),
            None => {
                let entries = self.shared.entries_of(id, doomed.end);
                let entries = if doomed.refused { entries.unwrap_or_default() } else { entries? };
                (0..).zip(entries).map(|(record, entry)| (Position { segment: id, record }, entry)).collect()
            }
        };
        let file = match self.shared.fs.open(&self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && !doomed.refused => return Err(error),
            opened => opened.ok(),
        };
        let (mut kept, key) = (0, self.shared.key.as_deref());
        let mut gone: Vec<Gone> = Vec::with_capacity(ready.len());
        for (position, entry) in ready {
            let (meta_bytes, payload_bytes) = (usize::from(entry.meta_bytes), entry.payload_bytes);
            let read = file.as_ref().map_or(Ok(Read::Damaged(None)), |file| {
                read_record(file.as_ref(), id, entry.offset, meta_bytes, payload_bytes, key)
            });
            let read = if doomed.refused { read.unwrap_or(Read::Damaged(None)) } else { read? };
            let weight = entry.weight;
            let Record { meta, payload, .. } = match read {
                Read::Sound(record) => record,
                Read::Damaged(meta) => {
                    gone.push(Gone { position, records: 1, meta, payload: None, weight });
                    continue;
                }
            };
            kept += payload.len() as u64;
            gone.push(if kept > GONE_BYTES_MAX {
                // A copy: a slice would hold the payload.
                Gone { position, records: 1, meta: Some(Bytes::copy_from_slice(&meta)), payload: None, weight }
            } else {
                Gone { position, records: 1, meta: Some(meta), payload: Some(payload), weight }
            });
        }
        // Damaged since they were counted: their sum is still known.
        let told = gone.iter().fold(0u64, |sum, gone| sum.saturating_add(gone.weight));
        if (gone.len() as u64) < doomed.records {
            let position = Position { segment: id, record: u32::MAX };
            let weight = doomed.weight.saturating_sub(told);
            let records = doomed.records - gone.len() as u64;
            gone.push(Gone { position, records, meta: None, payload: None, weight });
        }
        Ok(gone)
    }
}

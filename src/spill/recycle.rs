//! Where a commit goes, and what becomes of files that are done with: a file is
//! taken from the reserve or made, and goes back to the reserve or away. Runs
//! on the writer's thread, like everything that changes the directory.

use std::io;
use std::path::Path;

use super::budget::Taking;
use super::config::BLOCK_BYTES;
use super::frame::{HEADER_BYTES, is_sealed};
use super::fs::Filesystem;
use super::scan::{DAMAGED_DIR, free_file_name, parse_segment_file_name, segment_file_name};
use super::shared::{Dead, Free, Share, Shared, State};
use super::writer::{Active, Writer};

/// Whether the file was written under a key from its start on. Under a key no
/// other is written again: what lay in it before would stay readable behind
/// the new end for long.
pub(super) fn begins_sealed(fs: &dyn Filesystem, path: &Path) -> bool {
    let mut head = [0; HEADER_BYTES];
    let read = fs.open(path).and_then(|file| file.read_at(&mut head, 0));
    read.is_ok_and(|bytes| bytes == HEADER_BYTES) && is_sealed(&head)
}

impl Shared {
    /// Gives a recycled file back to the file system.
    pub(super) fn remove_spare(&self) -> bool {
        let free = {
            let mut state = self.state();
            let free = state.free.pop();
            // Counted until it is gone.
            state.leaving_bytes += free.map_or(0, |free| free.bytes);
            free
        };
        let Some(free) = free else {
            return false;
        };
        let removed = self.fs.remove(&self.config.dir.join(free_file_name(free.id)));
        let failed = removed.err().filter(|error| error.kind() != io::ErrorKind::NotFound);
        if let Some(error) = &failed {
            self.fault("remove a recycled segment", error);
        }
        let mut state = self.state();
        state.leaving_bytes -= free.bytes;
        if failed.is_some() {
            state.free.push(free);
        }
        failed.is_none()
    }
}

impl Writer {
    /// A file for a commit of so many bytes, under a number of its own that is
    /// durable. Never beyond a cap: `StorageFull` then.
    pub(super) fn acquire(&mut self, bytes: u64) -> io::Result<Active> {
        let free = {
            let mut state = self.shared.state();
            let at = state.free.iter().position(|free| free.bytes >= bytes);
            let free = at.map(|at| state.free.remove(at));
            if let Some(free) = free {
                state.taking = Taking { making: free.bytes, ..Taking::default() };
            }
            free
        };
        match free {
            Some(free) => self.reuse(&free_file_name(free.id), free.bytes, |state| state.free.push(free)),
            None => self.create(bytes),
        }
    }

    /// A file that waits under `name` gets a number. `stays` is told if it is still there under its name.
    pub(super) fn reuse(&mut self, name: &str, bytes: u64, stays: impl FnOnce(&mut State)) -> io::Result<Active> {
        let id = self.next_id;
        self.next_id += 1;
        let dir = &self.shared.config.dir;
        let path = self.path(id);
        if let Err(error) = self.shared.fs.rename(&dir.join(name), &path) {
            self.count_failed_write();
            if error.kind() != io::ErrorKind::NotFound {
                stays(&mut self.shared.state());
            }
            return Err(error);
        }
        let named = self.sync(|| self.shared.fs.sync_dir(dir));
        match named.and_then(|()| self.shared.fs.open_to_write(&path)) {
            Ok(file) => Ok(Active { id, file, bytes: 0, length: bytes, capacity: bytes, records: 0, of_notes: false }),
            Err(error) => {
                // Under which name it would come back is not known.
                self.shared.state().dead.push(Dead::unused(id, bytes));
                Err(error)
            }
        }
    }

    fn create(&mut self, bytes: u64) -> io::Result<Active> {
        // With the first segment: a queue that was never needed leaves nothing. One sync serves both names.
        let _ = self.prepare_notes_file();
        let shared = self.shared.clone();
        // Until the file has its length: the free space of the file system is taken by that.
        let turn = shared.share.budget.turn();
        let wanted = self.shared.config.segment_bytes.as_u64().max(bytes);
        let promised = shared.state().taking.making;
        let capacity = wanted.min(self.allowed_bytes().max(promised));
        if capacity < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        shared.state().taking.making = capacity;
        let id = self.next_id;
        self.next_id += 1;
        let file = self.shared.fs.create(&self.path(id)).inspect_err(|_| self.count_failed_write())?;
        // Without it the file grows; a lack of room shows when it is written.
        let allocated = file.allocate(capacity).is_ok();
        let length = if allocated { capacity } else { 0 };
        drop(turn);
        if let Err(error) = self.sync(|| self.shared.fs.sync_dir(&self.shared.config.dir)) {
            self.shared.state().dead.push(Dead::unused(id, length));
            return Err(error);
        }
        Ok(Active { id, file, bytes: 0, length, capacity, records: 0, of_notes: false })
    }

    /// Bytes by which the directory may grow, in blocks.
    pub(super) fn allowed_bytes(&self) -> u64 {
        let config = &self.shared.config;
        let Share { budget, rank } = &self.shared.share;
        let used = self.shared.state().disk_bytes();
        // A file system that cannot tell is tried.
        let free = self.shared.fs.free_bytes(&config.dir).unwrap_or(u64::MAX);
        budget.allowed(*rank, used).min(free.saturating_sub(config.free_min.as_u64())) & !(BLOCK_BYTES - 1)
    }

    /// Whether a recycled file waits that would do.
    pub(super) fn has_spare(&self, bytes: u64) -> bool {
        self.shared.state().free.iter().any(|free| free.bytes >= bytes)
    }

    /// The files of dropped segments of which all that is said is durable go.
    pub(super) fn bury(&mut self) {
        if self.shared.state().has_due() {
            self.tidy();
        }
    }

    /// The same for those that were dropped when there was no place for what is said, which waits in memory. Where there
    /// was one and a fault has cost it, they stay until there is another. Answers whether any could go.
    pub(super) fn bury_untold(&mut self) -> bool {
        let placeless = {
            let mut state = self.shared.state();
            let placeless = state.dead.iter_mut().filter(|dead| dead.placeless);
            placeless.map(|dead| dead.word = 0).count() > 0
        };
        self.bury();
        placeless
    }

    /// Recycles or removes finished segments, or puts them aside if they are
    /// damaged, after a checkpoint that does not list them. Answers how many
    /// went.
    pub(super) fn tidy(&mut self) -> usize {
        let mut gone = self.remove_unused();
        let (finished, dead) = {
            let mut state = self.shared.state();
            let noted = state.notes.is_empty();
            let mut finished = state.index.finished();
            // Evidence stays until what is said of it is durable.
            finished.retain(|segment| noted || !segment.damaged);
            for segment in &finished {
                state.listed.remove(&segment.id);
            }
            if noted {
                let absent = std::mem::take(&mut state.told_absent);
                for id in absent {
                    state.listed.remove(&id);
                }
            }
            let dead: Vec<Dead> = state.due().copied().collect();
            // What is said of what was missing has to be durable before.
            if finished.is_empty() && dead.is_empty() && !(state.checkpoint_due && state.notes.is_empty()) {
                return gone;
            }
            (finished, dead)
        };
        if !self.checkpoint(true) {
            return gone;
        }
        for segment in &finished {
            let (id, bytes, retired) = (segment.id, segment.bytes, segment.retired);
            let aside = segment.damaged && self.keep_aside(id, bytes).is_ok();
            let dead = Dead { id, bytes, retired, word: 0, unused: false, placeless: true };
            match if aside { Ok(()) } else { self.discard(&dead) } {
                Ok(()) => {
                    self.shared.forget(id);
                    gone += 1;
                }
                Err(error) => self.shared.fault("remove a finished segment", &error),
            }
        }
        for dead in &dead {
            match self.discard(dead) {
                Ok(()) => {
                    self.shared.state().dead.retain(|other| other.id != dead.id);
                    gone += 1;
                }
                Err(error) => self.shared.fault("remove a dropped segment", &error),
            }
        }
        {
            let mut state = self.shared.state();
            state.checkpoint_due &= !state.notes.is_empty();
        }
        if gone > 0 {
            self.sync_deletions();
            // Before anybody else has the room.
            let _ = self.prepare_notes_file();
        }
        gone
    }

    /// Removes files that were to become segments and never held a commit: no
    /// checkpoint knows them, so none has to be written first, which a disk
    /// whose syncs fail would refuse for ever.
    fn remove_unused(&self) -> usize {
        let unused: Vec<Dead> = self.shared.state().dead.iter().filter(|dead| dead.unused).copied().collect();
        let mut gone = 0;
        for dead in unused {
            match self.discard(&dead) {
                Ok(()) => {
                    self.shared.state().dead.retain(|other| other.id != dead.id);
                    gone += 1;
                }
                Err(error) => self.shared.fault("remove a segment that was never used", &error),
            }
        }
        gone
    }

    /// Whether something is to leave the directory and does not.
    pub(super) fn is_stuck(&self) -> bool {
        let state = self.shared.state();
        state.has_due() || (state.notes.is_empty() && state.index.has_finished())
    }

    /// Removes what an earlier process left and nobody needs.
    pub(super) fn remove_leftovers(&mut self) {
        for name in std::mem::take(&mut self.leftovers) {
            if let Err(error) = self.shared.fs.remove(&self.shared.config.dir.join(name)) {
                self.shared.fault("remove a file of an earlier run", &error);
            }
        }
    }

    fn sync_deletions(&self) {
        let dir = &self.shared.config.dir;
        if let Err(error) = self.sync(|| self.shared.fs.sync_dir(dir)) {
            self.shared.fault("sync the directory after deleting", &error);
        }
    }

    /// Recycles a segment's file, or removes it.
    fn discard(&self, dead: &Dead) -> io::Result<()> {
        let config = &self.shared.config;
        let path = self.path(dead.id);
        let (reserve, used) = {
            let state = self.shared.state();
            (state.reserve_bytes(), state.disk_bytes())
        };
        let Share { budget, rank } = &self.shared.share;
        let fits = reserve + dead.bytes <= config.reserve_bytes_max() && !budget.is_over(*rank, used);
        let sealed = self.shared.key.is_none() || begins_sealed(self.shared.fs.as_ref(), &path);
        if dead.bytes == config.segment_bytes.as_u64() && !dead.retired && fits && sealed {
            match self.shared.fs.rename(&path, &config.dir.join(free_file_name(dead.id))) {
                Ok(()) => {
                    self.shared.state().free.push(Free { id: dead.id, bytes: dead.bytes });
                    return Ok(());
                }
                // Removed by hand.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => self.shared.fault("recycle a segment", &error),
            }
        }
        match self.shared.fs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn keep_aside(&self, id: u64, bytes: u64) -> io::Result<()> {
        let max = self.shared.config.damaged_bytes_max();
        if bytes > max {
            tracing::warn!(segment = id, bytes, max, "damaged segment too large to keep");
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        while self.shared.state().damaged_bytes + bytes > max {
            if !self.remove_oldest_damaged() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let aside = self.shared.config.dir.join(DAMAGED_DIR);
        self.shared.fs.create_dir(&aside)?;
        let to = aside.join(segment_file_name(id));
        self.shared.fs.rename(&self.path(id), &to)?;
        self.shared.state().damaged_bytes += bytes;
        tracing::warn!(segment = id, kept = %to.display(), "damaged segment put aside");
        // Its records are done: a cut that undoes this costs a replay only.
        self.sync(|| self.shared.fs.sync_dir(&aside))
            .unwrap_or_else(|error| self.shared.fault("sync the damaged directory", &error));
        Ok(())
    }

    /// Evidence goes before data.
    pub(super) fn remove_oldest_damaged(&self) -> bool {
        let aside = self.shared.config.dir.join(DAMAGED_DIR);
        let Ok(files) = self.shared.fs.list(&aside) else {
            return false;
        };
        let oldest = files.iter().min_by_key(|file| parse_segment_file_name(&file.name));
        let Some(file) = oldest else {
            return false;
        };
        let removed = self.shared.fs.remove(&aside.join(&file.name)).is_ok();
        if removed {
            let mut state = self.shared.state();
            state.damaged_bytes = state.damaged_bytes.saturating_sub(file.bytes);
        }
        removed
    }
}

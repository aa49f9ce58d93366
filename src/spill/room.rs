//! Removing: what is finished, what is damaged, and by policy what is oldest.
//! Runs on the writer's thread, like everything that changes the directory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Record;
use super::config::{GONE_BYTES_MAX, Overflow};
use super::fs::SegmentFile;
use super::index::Doomed;
use super::scan::{DAMAGED_DIR, parse_segment_file_name, segment_file_name};
use super::segment::read_record;
use super::stats::Gone;
use super::writer::{Fault, Writer};

/// Why a commit does not fit.
struct Lack {
    reason: String,
    /// Not even an empty queue would help.
    hopeless: bool,
}

impl Writer {
    /// Removes finished segments, or puts them aside if they are damaged.
    /// Answers how many went.
    pub(super) fn tidy(&mut self) -> usize {
        let finished = self.shared.state().index.finished();
        let mut gone = 0;
        for (id, bytes, damaged) in finished {
            match self.discard(id, bytes, damaged) {
                Ok(()) => {
                    self.shared.forget(id);
                    gone += 1;
                }
                Err(error) => self.shared.fault("remove a finished segment", &error),
            }
        }
        if gone > 0 {
            self.sync_deletions();
        }
        gone
    }

    fn sync_deletions(&self) {
        let dir = &self.shared.config.dir;
        if let Err(error) = self.sync(|| self.shared.fs.sync_dir(dir)) {
            self.shared.fault("sync the directory after deleting", &error);
        }
    }

    /// Takes a segment's file out of the queue.
    fn discard(&self, id: u64, bytes: u64, damaged: bool) -> io::Result<()> {
        let path = self.path(id);
        if damaged && self.keep_aside(id, bytes).is_ok() {
            return Ok(());
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
    fn remove_oldest_damaged(&self) -> bool {
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

    /// Sees to it that a commit fits within every cap, or says why not.
    pub(super) fn make_room(&mut self, bytes: u64, records: usize) -> Result<(), Fault> {
        while let Some(lack) = self.lacking(bytes, records) {
            if lack.hopeless || !self.make_some_room() {
                return Err(Fault::Full(lack.reason));
            }
        }
        Ok(())
    }

    /// One step: finished segments, then evidence, then by policy the oldest data.
    pub(super) fn make_some_room(&mut self) -> bool {
        self.tidy() > 0
            || self.remove_oldest_damaged()
            || (self.shared.config.overflow == Overflow::DropOldest && self.drop_oldest())
    }

    fn lacking(&self, bytes: u64, records: usize) -> Option<Lack> {
        let config = &self.shared.config;
        let (used, held, unusable) = {
            let state = self.shared.state();
            (state.disk_bytes(), state.index.entries(), state.unusable_bytes)
        };
        let lack = |reason, hopeless| Some(Lack { reason, hopeless });
        let disk_max = config.disk_max.as_u64();
        if used + bytes > disk_max {
            let mut reason = format!("{used} of {disk_max} bytes are used, {bytes} more are needed");
            if unusable > 0 {
                reason += &format!("; {unusable} are in segments under another key, of a later version or unreadable");
            }
            return lack(reason, false);
        }
        if held + records > config.records_max as usize {
            let max = config.records_max;
            let reason = format!("{held} of {max} records are held, {records} more are needed");
            return lack(reason, false);
        }
        // A file system that cannot tell is tried.
        let free = self.shared.fs.free_bytes(&config.dir).unwrap_or(u64::MAX);
        let needed = config.free_min.as_u64().saturating_add(bytes);
        if free >= needed {
            return None;
        }
        let free_min = config.free_min;
        let reason = format!("{free} bytes are free, {bytes} are needed and {free_min} are left to others");
        // Others have filled the disk: giving up everything would not help.
        lack(reason, free.saturating_add(used) < needed)
    }

    /// Removes the oldest closed segment without a record in flight and reports
    /// what was in it.
    fn drop_oldest(&mut self) -> bool {
        let Some(Doomed { id, records }) = self.shared.state().index.start_drop() else {
            return false;
        };
        let file = self.shared.fs.open(&self.path(id)).ok();
        let mut kept = 0;
        let gone: Vec<Gone> = records
            .into_iter()
            .map(|(position, entry)| {
                let read = |file: &Arc<dyn SegmentFile>| {
                    let (meta, payload) = (usize::from(entry.meta_bytes), entry.payload_bytes);
                    let key = self.shared.key.as_deref();
                    read_record(file.as_ref(), id, entry.offset, meta, payload, key).ok()?
                };
                let weight = entry.weight;
                let Some(Record { meta, payload, .. }) = file.as_ref().and_then(read) else {
                    return Gone { position, meta: None, payload: None, weight };
                };
                kept += payload.len() as u64;
                if kept > GONE_BYTES_MAX {
                    // A copy: a slice would hold the payload.
                    let meta = Some(Bytes::copy_from_slice(&meta));
                    return Gone { position, meta, payload: None, weight };
                }
                Gone { position, meta: Some(meta), payload: Some(payload), weight }
            })
            .collect();
        drop(file);
        // Room is wanted, so a damaged one is not kept aside here.
        if let Err(error) = self.discard(id, 0, false) {
            self.shared.fault("remove the oldest segment", &error);
            self.shared.state().index.abandon_drop(id);
            return false;
        }
        let weight = gone.iter().fold(0u64, |sum, gone| sum.saturating_add(gone.weight));
        tracing::warn!(segment = id, records = gone.len(), weight, "dropped the oldest segment: spill is full");
        self.shared.count_dropped(gone.len() as u64, weight);
        self.shared.forget(id);
        self.shared.note(self.shared.observer.dropped(gone));
        self.sync_deletions();
        true
    }
}

//! What an earlier process left: read everything, keep what is sound, report
//! what is not. Changes nothing on the disk.
//!
//! It runs on a thread of its own while appends are taken already, one segment
//! after the other, oldest first. Whoever needs the oldest segment before its
//! turn makes the next steps itself.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Position;
use super::checkpoint::{self, CHECKPOINT_FILE, NEW_FILE};
use super::config::Config;
use super::fs::Filesystem;
use super::index::Entry;
use super::recycle::begins_sealed;
use super::scan::{DAMAGED_DIR, NOTES_FILE, Scan, ScannedSegment, Step, parse_free_file_name, parse_segment_file_name};
use super::seal::SpillKey;
use super::segment::{Gap, GapReason, RecordInfo};
use super::shared::{Free, Shared, State, locked};
use super::stats::{Opened, Recovering, Recovery};

/// The scan under way.
pub(super) struct Recoverer {
    scan: Scan,
    found: Recovery,
}

/// What a listing of the directory says.
pub(super) struct Listed {
    pub(super) state: State,
    pub(super) recoverer: Recoverer,
    pub(super) checkpoint: checkpoint::Found,
    pub(super) next_id: u64,
    pub(super) opened: Opened,
    /// Recycled files of another length than segments have now, and a
    /// checkpoint that was never finished: to be removed.
    pub(super) leftovers: Vec<String>,
}

/// Lists the directory and reads the checkpoint: quick, whatever lies there.
pub(super) fn list(
    fs: &Arc<dyn Filesystem>,
    dir: &Path,
    config: &Config,
    key: Option<Arc<SpillKey>>,
) -> io::Result<Listed> {
    let segment_bytes = config.segment_bytes.as_u64();
    let (mut state, mut segments, mut leftovers, mut last_id) = (State::default(), Vec::new(), Vec::new(), 0);
    // Absent, as a rule.
    for file in fs.list(&dir.join(DAMAGED_DIR)).unwrap_or_default() {
        state.damaged_bytes += file.bytes;
        last_id = last_id.max(parse_segment_file_name(&file.name).unwrap_or(0));
    }
    for file in fs.list(dir)? {
        if let Some(id) = parse_segment_file_name(&file.name) {
            last_id = last_id.max(id);
            segments.push((id, file.bytes));
            state.index.add_unscanned(id, file.bytes);
        } else if let Some(id) = parse_free_file_name(&file.name) {
            last_id = last_id.max(id);
            let sealed = key.is_none() || begins_sealed(fs.as_ref(), &dir.join(&file.name));
            if file.bytes == segment_bytes && sealed {
                state.free.push(Free { id, bytes: file.bytes });
            } else {
                leftovers.push(file.name);
            }
        } else if file.name == CHECKPOINT_FILE {
            state.checkpoint_bytes = file.bytes;
        } else if file.name == NOTES_FILE && file.bytes > 0 && file.bytes == config.notes_file_bytes() {
            state.has_notes_file = true;
        } else if file.name == NEW_FILE || file.name == NOTES_FILE {
            leftovers.push(file.name);
        }
    }
    let checkpoint = checkpoint::read(fs.as_ref(), dir);
    let listed: Option<BTreeSet<u64>> = checkpoint.checkpoint.as_ref().map(|known| known.listed.clone());
    state.listed = listed.clone().unwrap_or_default();
    let known_next = checkpoint.checkpoint.as_ref().map_or(0, |known| known.next_id);
    // What is not one of ours at all gives no number.
    let next_id = (last_id + 1).max(known_next.min(999_999_999_999));
    let opened = Opened { segments: segments.len() as u64, bytes: segments.iter().map(|(_, bytes)| bytes).sum() };
    let (segments_max, bytes_max) = (opened.segments, opened.bytes);
    state.recovering = Some(Recovering { segments: segments_max, bytes: bytes_max, ..Recovering::default() });
    let scan = Scan::of(fs.clone(), dir, segments, listed).with_key(key);
    Ok(Listed {
        state,
        recoverer: Recoverer { scan, found: Recovery::default() },
        checkpoint,
        next_id,
        opened,
        leftovers,
    })
}

impl Shared {
    /// Scans the next segment; `false` when there is none left.
    pub(super) fn recover_step(&self) -> bool {
        let mut recoverer = locked(&self.recoverer);
        let Some(under_way) = recoverer.as_mut() else {
            return false;
        };
        match under_way.scan.step() {
            Some(Step::Segment(segment)) => self.take_in(*segment, &mut under_way.found),
            Some(Step::Vanished(id)) => self.forget(id),
            None => {
                if let Some(done) = recoverer.take() {
                    self.end_recovery(done.found);
                }
                return false;
            }
        }
        true
    }

    /// The queue ends before everything was scanned.
    pub(super) fn abandon_recovery(&self) {
        if let Some(under_way) = locked(&self.recoverer).take() {
            self.end_recovery(under_way.found);
        }
    }

    fn end_recovery(&self, mut found: Recovery) {
        let mut state = self.state();
        found.gaps.shrink_to_fit();
        state.recovering = None;
        state.recovery = Some(found);
        drop(state);
        self.recovered.notify_waiters();
        self.readable.notify_waiters();
    }

    /// The checkpoint holds nothing sound.
    pub(super) fn report_checkpoint(&self) {
        let bytes = self.state().checkpoint_bytes;
        let reason = GapReason::Checkpoint;
        let gap = Gap { segment: 0, offset: 0, bytes, reason, records: None, weight: None, meta: None };
        self.note(self.observer.damaged(&gap));
        if let Some(under_way) = locked(&self.recoverer).as_mut() {
            under_way.found.gaps.push(gap);
        }
        self.state().checkpoint_due = true;
    }

    fn take_in(&self, mut segment: ScannedSegment, found: &mut Recovery) {
        let id = segment.id;
        let is_locked = segment.is_locked();
        if is_locked {
            // What is damaged in it is told when it can be used.
            segment.gaps.retain(|gap| gap.reason == GapReason::Locked);
        } else {
            for gap in &segment.gaps {
                self.note(self.observer.damaged(gap));
            }
        }
        // Told; up to 1 MiB a segment.
        segment.gaps.iter_mut().for_each(|gap| gap.meta = None);
        if segment.absent {
            let mut state = self.state();
            // It is told once, that is until what is said of it is durable.
            state.told_absent.push(id);
            state.checkpoint_due = true;
            found.gaps.extend(segment.gaps);
            return;
        }
        found.segments += 1;
        found.bytes += segment.bytes;
        if is_locked {
            segment.records.clear();
        }
        // Told before anybody can be handed one of them.
        for (record, info) in (0..).zip(&segment.records) {
            let position = Position { segment: id, record };
            self.observer.recovered(position, &info.meta, info.weight);
            found.weight = found.weight.saturating_add(info.weight);
        }
        found.records += segment.records.len() as u64;
        // Nothing can be done with these, so they are not ours to delete: a later start may have the key, or the version.
        let unusable = is_locked || segment.is_unusable();
        let mut state = self.state();
        if let Some(recovering) = &mut state.recovering {
            recovering.segments_done += 1;
            recovering.bytes_done += segment.bytes;
        }
        if unusable {
            state.index.remove(id);
            state.unusable_bytes += segment.bytes;
            state.locked_segments += u64::from(is_locked);
        } else {
            if segment.is_used() {
                state.listed.insert(id);
            }
            let entries = segment.records.iter().map(entry_of).collect();
            state.index.scanned(id, entries, segment.end, segment.is_damaged());
        }
        drop(state);
        found.gaps.extend(segment.gaps);
        self.readable.notify_waiters();
    }
}

/// A record of a scan as the index holds it.
pub(super) fn entry_of(record: &RecordInfo) -> Entry {
    let meta_bytes = u16::try_from(record.meta.len()).unwrap_or(u16::MAX);
    Entry::new(record.offset, meta_bytes, record.payload_bytes, record.weight)
}

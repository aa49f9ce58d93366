//! What is done at start, before the first append: read everything, keep what
//! is sound, report what is not. Changes nothing on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::fs::Filesystem;
use super::index::Entry;
use super::scan::{DAMAGED_DIR, Scan, parse_segment_file_name};
use super::seal::SpillKey;
use super::segment::{GapReason, RecordInfo};
use super::shared::State;
use super::stats::{Observer, Recovery};
use super::{Position, Record};

/// Fills the index from the directory; answers what was found and the first
/// number that no segment has, and what the observer says of the gaps.
pub(super) fn recover(
    fs: &Arc<dyn Filesystem>,
    dir: &Path,
    state: &mut State,
    observer: &dyn Observer,
    key: Option<Arc<SpillKey>>,
) -> io::Result<(Recovery, u64, Vec<Record>)> {
    let mut recovery = Recovery::default();
    let (mut last_id, mut notes) = (0, Vec::new());
    // Absent, as a rule.
    for file in fs.list(&dir.join(DAMAGED_DIR)).unwrap_or_default() {
        state.damaged_bytes += file.bytes;
        last_id = last_id.max(parse_segment_file_name(&file.name).unwrap_or(0));
    }
    for segment in Scan::new(fs.clone(), dir)?.with_key(key) {
        let id = segment.id;
        last_id = last_id.max(id);
        recovery.segments += 1;
        recovery.bytes += segment.bytes;
        if segment.is_locked() {
            // Not ours to delete: a later start may have its key.
            state.unusable_bytes += segment.bytes;
            state.locked_segments += 1;
            // What is damaged in it is told when it can be used.
            recovery.gaps.extend(segment.gaps.into_iter().filter(|gap| gap.reason == GapReason::Locked));
            continue;
        }
        for gap in &segment.gaps {
            notes.extend(observer.damaged(gap));
        }
        // Nothing can be done with these, so they are not ours to delete.
        if segment.is_unusable() {
            state.unusable_bytes += segment.bytes;
            recovery.gaps.extend(segment.gaps);
            continue;
        }
        state.index.open_segment(id);
        state.index.add_bytes(id, segment.bytes);
        let entry = |record: &RecordInfo| {
            let meta_bytes = u16::try_from(record.meta.len()).unwrap_or(u16::MAX);
            Entry::new(record.offset, meta_bytes, record.payload_bytes, record.weight)
        };
        state.index.extend(id, segment.records.iter().map(entry).collect(), None);
        state.index.close(id);
        if segment.is_damaged() {
            state.index.mark_damaged(id);
        }
        for (record, info) in (0..).zip(&segment.records) {
            let position = Position { segment: id, record };
            observer.recovered(position, &info.meta, info.weight);
        }
        recovery.gaps.extend(segment.gaps);
    }
    recovery.records = state.index.records();
    recovery.weight = state.index.weight();
    Ok((recovery, last_id + 1, notes))
}

//! Segments whose records are not in the index: not scanned yet, or not read now.

use super::super::config::LOADED_MAX;
use super::{Entry, Index, Segment, narrow};

impl Index {
    /// Entries in memory.
    #[cfg(test)]
    pub(in crate::spill) fn loaded_entries(&self) -> usize {
        self.segments.values().filter_map(|s| s.entries.as_ref()).map(Vec::len).sum()
    }

    /// A segment of an earlier process.
    pub(in crate::spill) fn add_unscanned(&mut self, id: u64, bytes: u64) {
        self.segments.insert(id, Segment { closed: true, bytes, ..Segment::default() });
        self.bytes += bytes;
    }

    /// What was found in a segment of an earlier process.
    pub(in crate::spill) fn scanned(&mut self, id: u64, entries: Vec<Entry>, end: u64, damaged: bool) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.scanned = true;
            segment.entries = Some(Vec::new());
            segment.damaged = damaged;
            segment.end = end;
            self.extend(id, entries, None);
            self.unload_spare();
        }
    }

    /// Keeps the entries of the oldest few untouched segments only.
    pub(super) fn unload_spare(&mut self) {
        let mut kept = 0;
        for segment in self.segments.values_mut().filter(|s| s.is_pristine()) {
            if segment.retry_at.is_none() && kept < LOADED_MAX {
                kept += 1;
                continue;
            }
            segment.entries = None;
            segment.cursor = 0;
            segment.stamps.truncate(1);
            segment.stamps.shrink_to_fit();
        }
    }

    /// Where the records of a segment end that is to be loaded.
    pub(in crate::spill) fn to_load(&self, id: u64) -> Option<u64> {
        let segment = self.segments.get(&id)?;
        let wanted = segment.scanned && segment.entries.is_none() && !segment.dropping;
        wanted.then_some(segment.end)
    }

    /// The entries of a segment that was not loaded. Answers how many records
    /// of which weight are not there any more.
    pub(in crate::spill) fn load(&mut self, id: u64, entries: Vec<Entry>) -> (u64, u64) {
        if self.to_load(id).is_none() {
            return (0, 0);
        }
        let Some(segment) = self.segments.get_mut(&id) else {
            return (0, 0);
        };
        let weight = entries.iter().map(|e| u128::from(e.weight)).sum::<u128>();
        let lost = (segment.ready.saturating_sub(entries.len()), segment.weight.saturating_sub(weight));
        self.records = self.records - segment.ready as u64 + entries.len() as u64;
        self.weight = self.weight - segment.weight + weight;
        (segment.ready, segment.weight) = (entries.len(), weight);
        segment.damaged |= lost.0 > 0;
        segment.entries = Some(entries);
        segment.retry_at = None;
        self.unload_spare();
        (lost.0 as u64, narrow(lost.1))
    }
}

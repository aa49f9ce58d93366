//! What is in the queue, in memory: which record lies where and how far it has
//! come. Pure, apart from the instants that are passed in.
//!
//! A record is *ready*, *in flight* (handed out) or *done* (acked or lost). A
//! segment is *finished* when it is closed and everything in it is done.
//!
//! A segment of an earlier process is *unscanned* at first. The entries of a
//! closed segment are kept only while it is being read: before that, sums are
//! enough. It is *loaded* again when the reading comes to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Position;
use super::config::INDEX_BYTES_PER_RECORD;

mod leaving;
mod loading;

pub(super) use leaving::{Doomed, MayGo, Oldest};

/// Resolution of the ages: one stamp a second at most.
const STAMP_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Ready,
    InFlight,
    Done,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) weight: u64,
    pub(super) offset: u32,
    pub(super) payload_bytes: u32,
    pub(super) meta_bytes: u16,
    progress: Progress,
}

const _: () = assert!(size_of::<Entry>() == INDEX_BYTES_PER_RECORD);

impl Entry {
    pub(super) fn new(offset: u32, meta_bytes: u16, payload_bytes: u32, weight: u64) -> Self {
        Self { weight, offset, payload_bytes, meta_bytes, progress: Progress::Ready }
    }

    fn body_bytes(&self) -> u64 {
        u64::from(self.meta_bytes) + u64::from(self.payload_bytes)
    }
}

#[derive(Debug, Default)]
struct Segment {
    /// Length of the file.
    bytes: u64,
    /// No record of the queue starts here or later.
    end: u64,
    scanned: bool,
    /// `None` while it is not loaded; then all its records are ready.
    entries: Option<Vec<Entry>>,
    ready: usize,
    in_flight: usize,
    /// Of what is ready or in flight.
    weight: u128,
    /// No ready entry lies before this one.
    cursor: usize,
    /// All entries before this one are done.
    done: usize,
    closed: bool,
    damaged: bool,
    /// A sync of it failed: its file is not used again.
    retired: bool,
    /// Being dropped: nothing is handed out any more.
    dropping: bool,
    /// Unreadable for now.
    retry_at: Option<Instant>,
    /// First entry of each second of appending.
    stamps: Vec<(usize, Instant)>,
}

impl Segment {
    fn live(&self) -> usize {
        self.ready + self.in_flight
    }

    /// When the oldest live record was appended.
    fn oldest(&self) -> Option<Instant> {
        let after = self.stamps.partition_point(|&(index, _)| index <= self.done);
        Some(self.stamps.get(after.checked_sub(1)?)?.1)
    }

    fn is_finished(&self) -> bool {
        self.closed && self.scanned && self.live() == 0
    }

    /// Whether all that waits in it is what was said of losses, of so many bytes at most.
    fn holds_notes_only(&self, bytes_max: u64) -> bool {
        self.scanned && self.weight == 0 && self.ready > 0 && self.end <= bytes_max
    }

    /// Loaded without need.
    fn is_pristine(&self) -> bool {
        let untouched = self.entries.as_ref().is_some_and(|entries| entries.len() == self.ready);
        self.closed && untouched && self.ready > 0
    }
}

/// A record that was handed out and has to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) position: Position,
    pub(super) entry: Entry,
}

/// What is to be read next.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) tickets: Vec<Ticket>,
    /// Nothing could be handed out before this segment is loaded.
    pub(super) load: Option<u64>,
}

/// All segments.
#[derive(Debug, Default)]
pub(super) struct Index {
    segments: BTreeMap<u64, Segment>,
    records: u64,
    /// Wider than any sum of the caller's numbers.
    weight: u128,
    in_flight: u64,
    bytes: u64,
}

fn narrow(weight: u128) -> u64 {
    u64::try_from(weight).unwrap_or(u64::MAX)
}

/// Bounded by the segment's bytes / 56 < 2^32.
fn place(segment: u64, index: usize) -> Position {
    Position { segment, record: u32::try_from(index).unwrap_or(u32::MAX) }
}

impl Index {
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn weight(&self) -> u64 {
        narrow(self.weight)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.segments.values().find(|s| s.live() > 0)?.oldest()
    }

    /// A new segment that will take appends.
    pub(super) fn open_segment(&mut self, id: u64) {
        let segment = Segment { scanned: true, entries: Some(Vec::new()), end: u64::MAX, ..Segment::default() };
        self.segments.insert(id, segment);
    }

    pub(super) fn add_bytes(&mut self, id: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// Sets the length of a segment's file after it was cut.
    pub(super) fn set_bytes(&mut self, id: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            self.bytes = self.bytes - segment.bytes + bytes;
            segment.bytes = bytes;
        }
    }

    /// Records that became durable in a segment.
    pub(super) fn extend(&mut self, id: u64, entries: Vec<Entry>, now: Option<Instant>) {
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        let list = segment.entries.get_or_insert_default();
        if let Some(now) = now
            && segment.stamps.last().is_none_or(|(_, last)| now.duration_since(*last) >= STAMP_EVERY)
        {
            segment.stamps.push((list.len(), now));
        }
        let weight = entries.iter().map(|e| u128::from(e.weight)).sum::<u128>();
        self.records += entries.len() as u64;
        self.weight += weight;
        segment.weight += weight;
        segment.ready += entries.len();
        list.extend(entries);
    }

    pub(super) fn segment_entries(&self, id: u64) -> usize {
        self.segments.get(&id).and_then(|s| s.entries.as_ref()).map_or(0, Vec::len)
    }

    /// No more appends; what was promised ends at `end`.
    pub(super) fn close(&mut self, id: u64, end: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.closed = true;
            segment.end = end;
            if let Some(entries) = &mut segment.entries {
                entries.shrink_to_fit();
            }
        }
        self.unload_spare();
    }

    /// Its file is not used again.
    pub(super) fn mark_retired(&mut self, id: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.retired = true;
        }
    }

    pub(super) fn mark_damaged(&mut self, id: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.damaged = true;
        }
    }

    /// Hands out the oldest ready records; at least one if there is any.
    pub(super) fn take(&mut self, records_max: usize, bytes_max: u64, now: Instant) -> Taken {
        let (mut taken, mut bytes) = (Taken::default(), 0);
        for (&id, segment) in &mut self.segments {
            if !segment.scanned {
                // What comes behind it has to wait.
                break;
            }
            let unreadable = segment.retry_at.is_some_and(|at| at > now);
            if segment.ready == 0 || segment.dropping || unreadable {
                continue;
            }
            let Some(entries) = &mut segment.entries else {
                taken.load = taken.tickets.is_empty().then_some(id);
                break;
            };
            while let Some(entry) = entries.get_mut(segment.cursor) {
                if entry.progress == Progress::Ready {
                    bytes += entry.body_bytes();
                    let full = taken.tickets.len() >= records_max || bytes > bytes_max;
                    if full && !taken.tickets.is_empty() {
                        return taken;
                    }
                    entry.progress = Progress::InFlight;
                    segment.ready -= 1;
                    segment.in_flight += 1;
                    self.in_flight += 1;
                    taken.tickets.push(Ticket { position: place(id, segment.cursor), entry: *entry });
                }
                segment.cursor += 1;
            }
        }
        taken
    }

    /// When the first unreadable segment with ready records may be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let waiting = self.segments.values().filter(|s| s.ready > 0 && !s.dropping);
        waiting.filter_map(|s| s.retry_at).min()
    }

    /// Nothing of this segment is handed out before `at`.
    pub(super) fn postpone(&mut self, id: u64, at: Instant) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.retry_at = Some(at);
        }
    }

    fn settle(&mut self, position: Position, to: Progress) -> Option<u64> {
        let segment = self.segments.get_mut(&position.segment)?;
        let index = position.record as usize;
        let entries = segment.entries.as_mut()?;
        let entry = entries.get_mut(index)?;
        if entry.progress != Progress::InFlight {
            return None;
        }
        entry.progress = to;
        let weight = entry.weight;
        segment.in_flight -= 1;
        self.in_flight -= 1;
        if to == Progress::Ready {
            segment.ready += 1;
            segment.cursor = segment.cursor.min(index);
        } else {
            let rest = entries.get(segment.done..).unwrap_or_default();
            segment.done += rest.iter().take_while(|e| e.progress == Progress::Done).count();
            segment.weight -= u128::from(weight);
            self.records -= 1;
            self.weight -= u128::from(weight);
        }
        Some(weight)
    }

    /// A record in flight is done; `false` if it was not in flight.
    pub(super) fn ack(&mut self, position: Position) -> bool {
        self.settle(position, Progress::Done).is_some()
    }

    /// A record in flight goes back to its place.
    pub(super) fn nack(&mut self, position: Position) -> bool {
        self.settle(position, Progress::Ready).is_some()
    }

    /// A record in flight turned out to be damaged.
    pub(super) fn lose(&mut self, position: Position) -> bool {
        self.mark_damaged(position.segment);
        self.settle(position, Progress::Done).is_some()
    }

    pub(super) fn is_finished(&self, id: u64) -> bool {
        self.segments.get(&id).is_some_and(Segment::is_finished)
    }

    pub(super) fn is_drained(&self, id: u64) -> bool {
        self.segments.get(&id).is_some_and(|s| s.live() == 0)
    }

    /// Forgets a segment.
    pub(super) fn remove(&mut self, id: u64) {
        let Some(segment) = self.segments.remove(&id) else {
            return;
        };
        self.bytes -= segment.bytes;
        self.in_flight -= segment.in_flight as u64;
        self.records -= segment.live() as u64;
        self.weight -= segment.weight;
    }
}

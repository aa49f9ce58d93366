//! Segments that leave the queue: finished, or dropped to make room.

use std::time::Instant;

use super::{Entry, Index, Position, Progress, Segment, narrow, place};

/// A segment that is about to be dropped.
pub(in crate::spill) struct Doomed {
    pub(in crate::spill) id: u64,
    pub(in crate::spill) bytes: u64,
    pub(in crate::spill) retired: bool,
    /// The file system refused to read it before.
    pub(in crate::spill) refused: bool,
    pub(in crate::spill) end: u64,
    pub(in crate::spill) records: u64,
    pub(in crate::spill) weight: u64,
    /// Its ready records, if it is loaded.
    pub(in crate::spill) ready: Option<Vec<(Position, Entry)>>,
}

/// What may be dropped. What is said of dropped data takes a segment, too: without a limit it would be given up for what
/// is said of it, for ever.
#[derive(Debug, Clone, Copy)]
pub(in crate::spill) enum MayGo {
    /// Segments with a lower number: those that were there before.
    Below(u64),
    /// Those that hold more than notes: samples, or more bytes than notes ever take.
    Data { notes_bytes_max: u64 },
    /// The oldest, if it has a lower number and holds notes only, of so many bytes at most.
    Notes { below: u64, bytes_max: u64 },
}

/// What there is to drop.
pub(in crate::spill) enum Oldest {
    None,
    /// It has to be scanned first.
    Unscanned,
    Doomed(Doomed),
}

/// A segment all of whose records are done.
pub(in crate::spill) struct Finished {
    pub(in crate::spill) id: u64,
    pub(in crate::spill) bytes: u64,
    pub(in crate::spill) damaged: bool,
    pub(in crate::spill) retired: bool,
}

impl Index {
    pub(in crate::spill) fn has_finished(&self) -> bool {
        self.segments.values().any(|s| s.is_finished() && !s.dropping)
    }

    /// Each segment all of whose records are done.
    pub(in crate::spill) fn finished(&self) -> Vec<Finished> {
        let finished = self.segments.iter().filter(|(_, s)| s.is_finished() && !s.dropping);
        let of = |(&id, s): (&u64, &Segment)| Finished { id, bytes: s.bytes, damaged: s.damaged, retired: s.retired };
        finished.map(of).collect()
    }

    /// Reserves the oldest (or the newest) closed segment that `may_go`, without
    /// a record in flight, and says which of its records are still ready.
    pub(in crate::spill) fn start_drop(&mut self, newest: bool, may_go: MayGo, now: Instant) -> Oldest {
        let mut closed = self.segments.iter_mut().filter(|(id, s)| {
            let unreadable = s.retry_at.is_some_and(|at| at > now);
            let may_go = match may_go {
                MayGo::Below(below) | MayGo::Notes { below, .. } => **id < below,
                MayGo::Data { notes_bytes_max } => !s.scanned || s.weight > 0 || s.end > notes_bytes_max,
            };
            s.closed && s.in_flight == 0 && !s.dropping && !unreadable && may_go
        });
        // What is scanned already: the newest of an earlier process would be known only after all before it.
        let chosen = match may_go {
            MayGo::Notes { bytes_max, .. } => closed.next().filter(|(_, s)| s.holds_notes_only(bytes_max)),
            _ if newest => closed.rfind(|(_, s)| s.scanned),
            _ => closed.next(),
        };
        let Some((&id, segment)) = chosen else {
            return Oldest::None;
        };
        if !segment.scanned {
            return Oldest::Unscanned;
        }
        segment.dropping = true;
        let of = |entries: &Vec<Entry>| {
            let ready = entries.iter().enumerate().filter(|(_, e)| e.progress == Progress::Ready);
            ready.map(|(index, entry)| (place(id, index), *entry)).collect()
        };
        Oldest::Doomed(Doomed {
            id,
            bytes: segment.bytes,
            retired: segment.retired,
            refused: segment.retry_at.is_some(),
            end: segment.end,
            records: segment.ready as u64,
            weight: narrow(segment.weight),
            ready: segment.entries.as_ref().map(of),
        })
    }

    /// It could not be read: it stays, and others go before it.
    pub(in crate::spill) fn abandon_drop(&mut self, id: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.dropping = false;
        }
    }
}

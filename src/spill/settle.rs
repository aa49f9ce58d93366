//! What a segment says of the end of the one before it. Pure.

use super::frame::Header;
use super::scan::ScannedSegment;
use super::segment::{Gap, GapReason};

/// Settles the end of a segment by the first record of the one that follows.
///
/// A commit whose sync failed was written once more in the next segment under
/// the same numbers, or its numbers were given to other records because the
/// first ones went back to the caller: either way the later segment counts.
pub(super) fn settle(segment: &mut ScannedSegment, following: u64, header: &Header) {
    let (run, sequence) = (header.run, header.sequence);
    let Some((_, next)) = segment.found.next.filter(|(own, _)| *own == run) else {
        return;
    };
    segment.records.retain(|record| record.run != run || record.sequence < sequence);
    segment.end = segment.records.last().map_or(0, |last| u64::from(last.offset) + 1);
    if header.offset > 0 {
        // Its start is damaged: what it began with is not known.
        return;
    }
    let tail = segment.found.next_at_tail.or(segment.found.first);
    if tail.is_some_and(|(own, tail)| own == run && sequence <= tail) {
        // The whole last commit was withdrawn, torn or not.
        segment.gaps.retain(|gap| gap.reason != GapReason::Torn);
        return;
    }
    if following != segment.id + 1 {
        // What lay between was acked and deleted, or is missing: nobody knows.
        return;
    }
    // The writer went on after it, so it was durable once: this is damage.
    for gap in segment.gaps.iter_mut().filter(|gap| gap.reason == GapReason::Torn) {
        gap.reason = match gap.weight {
            Some(_) => GapReason::Body,
            None => GapReason::Header,
        };
    }
    if next < sequence {
        let lost = sequence - next;
        let bytes = segment.bytes;
        match segment.gaps.iter_mut().rfind(|gap| gap.records.is_none()) {
            Some(gap) => gap.records = Some(lost),
            None => segment.gaps.push(Gap {
                segment: segment.id,
                offset: bytes,
                bytes: 0,
                reason: GapReason::Missing,
                records: Some(lost),
                weight: None,
                meta: None,
            }),
        }
    }
}

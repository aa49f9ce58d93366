//! The missing frames of one device and boot, until they come late or are declared.
//!
//! A hole opens where the sequence jumps, shrinks when a late frame comes, and is final when it is old enough. Before
//! the first frame lies what an earlier run did not settle. Times are bounds: no lost sample is older than the newest
//! time seen before the hole less what frames lag behind it, none newer than the frame after it, plus the same.
//!
//! Bounded: beyond [`SETTLED_RANGES_MAX`] holes all are final at once, beyond twice as many the oldest are joined. Deliberately absent: receipts and events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::gap::Reason;
use crate::limits::{GAP_EVERY, SETTLED_RANGES_MAX};
use crate::settled::{PLACE_MIN, Range, without};

/// The holes.
pub(super) struct Holes {
    /// What was settled when the first frame came.
    known: Vec<Range>,
    /// By first place.
    open: BTreeMap<u64, Hole>,
    highest: Option<u64>,
    /// The newest device time seen.
    high_us: Option<i64>,
    /// How far a frame's first sample was behind the newest time before it, at most.
    lag_us: i64,
    /// The same behind the newest time after it: its own length is in it.
    reach_us: i64,
    told_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Hole {
    to: u64,
    reason: Reason,
    may_be_stored: bool,
    since: Instant,
    /// The newest time seen before it, if known.
    high_us: Option<i64>,
    /// The last time of the frame after it.
    next_us: i64,
}

/// Frames that are final, of one reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) reason: Reason,
    pub(super) may_be_stored: bool,
    /// Places, both ends inclusive, in order.
    pub(super) ranges: Vec<(u64, u64)>,
    /// Bounds of their device times, if known, µs.
    pub(super) d_from: Option<i64>,
    pub(super) d_to: Option<i64>,
}

impl Holes {
    pub(super) fn new(known: Vec<Range>) -> Self {
        Self { known, open: BTreeMap::new(), highest: None, high_us: None, lag_us: 0, reach_us: 0, told_at: None }
    }

    /// The newest device time seen, or `else_us`.
    pub(super) fn high_us(&self, else_us: i64) -> i64 {
        self.high_us.map_or(else_us, |high| high.max(else_us))
    }

    /// No sample of a frame after which `high_us` was the newest time is older than this.
    pub(super) fn low_us(&self, high_us: i64) -> i64 {
        high_us.saturating_sub(self.reach_us)
    }

    /// Takes note of a frame whose samples lie between the device times `span`. Returns whether holes opened.
    pub(super) fn see(&mut self, place: u64, span: (i64, i64), now: Instant) -> bool {
        self.close(place);
        let before = self.open.len();
        match self.highest {
            None => {
                let first = self.known.first().map_or(PLACE_MIN, |range| range.from.min(PLACE_MIN));
                self.open_between(first, place, span.1, now);
            }
            Some(highest) => self.open_between(highest + 1, place, span.1, now),
        }
        if self.highest.is_none_or(|highest| place > highest) {
            let behind = self.high_us.map_or(0, |high| high.saturating_sub(span.0));
            self.lag_us = self.lag_us.max(behind);
            let high = self.high_us(span.1);
            self.reach_us = self.reach_us.max(high.saturating_sub(span.0));
            self.high_us = Some(high);
            self.highest = Some(place);
        }
        self.open.len() > before
    }

    /// Opens what of `from..to` is not known to be settled.
    fn open_between(&mut self, from: u64, to: u64, next_us: i64, now: Instant) {
        if from >= to {
            return;
        }
        let (known_from, known_to) = match (self.known.first(), self.known.last()) {
            (Some(first), Some(last)) => (first.from, last.to),
            _ => (u64::MAX, 0),
        };
        for (from, to) in without(&self.known, from, to - 1) {
            let earlier = self.highest.is_none() || from <= known_to;
            let before = self.known.iter().rev().find(|range| range.to < from);
            let high_us = if earlier { before.map(|range| range.high_us) } else { self.high_us };
            let reason = if earlier { Reason::Restart } else { Reason::NeverReceived };
            let may_be_stored = earlier && from < known_from;
            self.open.insert(from, Hole { to, reason, may_be_stored, since: now, high_us, next_us });
        }
        // Nobody takes them while the device has not described itself. What lies between was settled, and whoever
        // declares looks at that.
        while self.open.len() > 2 * SETTLED_RANGES_MAX {
            let Some((from, first)) = self.open.pop_first() else { break };
            let Some((_, second)) = self.open.pop_first() else { break };
            self.open.insert(from, Hole { to: second.to, next_us: second.next_us, ..first });
        }
    }

    /// A frame came late: it is missing no more.
    fn close(&mut self, place: u64) {
        let Some((&from, &hole)) = self.open.range(..=place).next_back().filter(|(_, hole)| hole.to >= place) else {
            return;
        };
        self.open.remove(&from);
        if from < place {
            self.open.insert(from, Hole { to: place - 1, ..hole });
        }
        if place < hole.to {
            self.open.insert(place + 1, hole);
        }
    }

    fn pressed(&self) -> bool {
        self.open.len() > SETTLED_RANGES_MAX
    }

    /// When a hole is final, if frames may come so `late`.
    pub(super) fn due(&self, late: Duration) -> Option<Instant> {
        let oldest = self.open.values().map(|hole| hole.since).min()?;
        if self.pressed() {
            return Some(oldest);
        }
        Some(self.told_at.map_or(oldest + late, |told| (oldest + late).max(told + GAP_EVERY)))
    }

    /// Takes out what is final at `now`; all if there are too many, or for ever if `now` is absent.
    pub(super) fn take(&mut self, now: Option<Instant>, late: Duration) -> Vec<Missing> {
        if now.is_some_and(|now| self.due(late).is_none_or(|due| due > now)) {
            return Vec::new();
        }
        let all = self.pressed();
        let is_final = |hole: &Hole| all || now.is_none_or(|now| hole.since + late <= now);
        let taken: Vec<(u64, Hole)> =
            self.open.iter().filter(|(_, hole)| is_final(hole)).map(|(&from, &hole)| (from, hole)).collect();
        let mut found: Vec<Missing> = Vec::new();
        for (from, hole) in taken {
            self.open.remove(&from);
            let d_from = hole.high_us.map(|high| high.saturating_sub(self.lag_us));
            let latest = hole.next_us.saturating_add(self.lag_us);
            let d_to = Some(self.high_us.map_or(latest, |high| latest.min(high.max(hole.next_us))));
            let same = |m: &&mut Missing| m.reason == hole.reason && m.may_be_stored == hole.may_be_stored;
            match found.iter_mut().find(same) {
                Some(missing) => {
                    missing.ranges.push((from, hole.to));
                    // An unknown bound stays unknown.
                    missing.d_from = missing.d_from.zip(d_from).map(|(a, b)| a.min(b));
                    missing.d_to = missing.d_to.max(d_to);
                }
                None => {
                    let (reason, may_be_stored) = (hole.reason, hole.may_be_stored);
                    found.push(Missing { reason, may_be_stored, ranges: vec![(from, hole.to)], d_from, d_to });
                }
            }
        }
        if let (Some(now), false) = (now, found.is_empty()) {
            self.told_at = Some(now);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(2);

    /// Frames of 10 ms, whose samples begin 5 ms before the end of the one before.
    fn span(sequence: u64) -> (i64, i64) {
        let t = sequence as i64 * 10_000;
        (t - 5_000, t + 10_000)
    }

    /// Reason, whether it may be stored, and the sequences.
    type Found = (Reason, bool, Vec<(u64, u64)>);

    struct Line {
        holes: Holes,
        began: Instant,
    }

    impl Line {
        fn new(known: &[(u64, u64)]) -> Self {
            let range =
                |&(from, to): &(u64, u64)| Range { from: PLACE_MIN + from, to: PLACE_MIN + to, high_us: span(to).1 };
            Self { holes: Holes::new(known.iter().map(range).collect()), began: Instant::now() }
        }

        fn see(&mut self, sequences: impl IntoIterator<Item = u64>) -> &mut Self {
            for sequence in sequences {
                self.holes.see(PLACE_MIN + sequence, span(sequence), self.began);
            }
            self
        }

        fn missing(&mut self) -> Vec<Found> {
            let missing = self.holes.take(Some(self.began + LATE), LATE).into_iter();
            missing
                .map(|m| {
                    let ranges = m.ranges.iter().map(|(from, to)| (from - PLACE_MIN, to - PLACE_MIN)).collect();
                    (m.reason, m.may_be_stored, ranges)
                })
                .collect()
        }
    }

    #[test]
    fn late_frames_close_holes_and_what_is_left_is_exact() {
        let mut line = Line::new(&[]);
        line.see([0, 1, 5, 3, 9, 10]);
        assert!(line.holes.take(Some(line.began), LATE).is_empty(), "they may still come");
        line.see([8]);
        assert_eq!(line.missing(), [(Reason::NeverReceived, false, vec![(2, 2), (4, 4), (6, 7)])]);
        assert!(line.missing().is_empty() && line.holes.due(LATE).is_none());
    }

    #[test]
    fn a_line_in_order_has_no_holes_even_across_the_wrap_and_repetitions() {
        let mut line = Line::new(&[]);
        let wrap = u64::from(u32::MAX);
        line.see([0, 1, 2, 1, 0, 3]);
        assert!(line.missing().is_empty());
        let mut line = Line::new(&[(0, wrap - 3)]);
        line.see(wrap - 2..wrap + 3);
        assert!(line.missing().is_empty());
        line.see([wrap + 5]);
        assert_eq!(line.missing(), [(Reason::NeverReceived, false, vec![(wrap + 3, wrap + 4)])]);
    }

    #[test]
    fn after_a_restart_what_no_run_settled_is_missing() {
        let restart = |known: &[(u64, u64)], seen: &[u64]| {
            let mut line = Line::new(known);
            line.see(seen.iter().copied()).missing()
        };
        assert_eq!(restart(&[(0, 9)], &[10]), []);
        assert_eq!(restart(&[(0, 9)], &[15]), [(Reason::Restart, false, vec![(10, 14)])]);
        assert_eq!(restart(&[(0, 9), (12, 13)], &[15]), [(Reason::Restart, false, vec![(10, 11), (14, 14)])]);
        // A broker begins again with what was not acknowledged.
        assert_eq!(restart(&[(0, 9), (12, 13)], &[5, 6, 7, 8, 9, 10, 11, 12, 13, 14]), []);
        assert_eq!(restart(&[(0, 9), (12, 13)], &[10, 11, 14]), []);
        assert_eq!(restart(&[(0, 9), (12, 13)], &[10, 14]), [(Reason::Restart, false, vec![(11, 11)])]);
        // Nobody knows what was before.
        assert_eq!(restart(&[], &[0]), []);
        assert_eq!(restart(&[], &[7]), [(Reason::Restart, true, vec![(0, 6)])]);
        let both = [(Reason::Restart, true, vec![(0, 3)]), (Reason::Restart, false, vec![(6, 6)])];
        assert_eq!(restart(&[(4, 5)], &[7]), both);
    }

    #[test]
    fn times_bound_what_is_missing() {
        let mut line = Line::new(&[(0, 9)]);
        line.see([20, 21, 22, 30, 31]);
        let missing = line.holes.take(Some(line.began + LATE), LATE);
        let times: Vec<_> = missing.iter().map(|m| (m.reason, m.d_from, m.d_to)).collect();
        // The samples of 10..=19 and of 23..=29 lie within: a frame begins 5 ms before the end of the one before.
        let expected =
            [(Reason::Restart, Some(95_000), Some(215_000)), (Reason::NeverReceived, Some(225_000), Some(315_000))];
        assert_eq!(times, expected);
        let mut unknown = Line::new(&[]);
        unknown.see([5]);
        let missing = unknown.holes.take(Some(unknown.began + LATE), LATE);
        assert_eq!((missing[0].d_from, missing[0].d_to), (None, Some(60_000)));
    }

    #[test]
    fn many_holes_are_told_at_once_and_few_at_most_once_a_second() {
        let mut line = Line::new(&[]);
        line.see((0..=SETTLED_RANGES_MAX as u64 * 2 + 2).step_by(2));
        assert!(line.holes.due(LATE).unwrap() <= line.began);
        let taken = line.holes.take(Some(line.began), LATE);
        assert_eq!((taken.len(), taken[0].ranges.len()), (1, SETTLED_RANGES_MAX + 1));
        line.see([10_000]);
        assert_eq!(line.holes.due(LATE), Some(line.began + LATE));
        line.holes.told_at = Some(line.began + LATE);
        assert_eq!(line.holes.due(LATE), Some(line.began + LATE + GAP_EVERY));
        assert_eq!(line.holes.take(None, LATE).len(), 1, "the end waits for nothing");
    }
}

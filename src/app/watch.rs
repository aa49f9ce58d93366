//! What the watchdog asks: does the pipeline move, or has it a reason not to?
//!
//! A stage is stuck if items wait for it, it takes none for [`STUCK_AFTER`], and nothing waits behind it:
//! a stage that cannot give away what it has made has a queue behind it that is not empty, and then the one
//! behind is asked the same. The last queue is delivery's, which says itself when it holds back. So hours of
//! silence are no reason for a restart, nor is a store and a disk that are both away: a restart would only
//! lose what memory still holds.

use std::time::{Duration, Instant};

/// How long nothing may move: a stage takes milliseconds for an item, and a disk that hangs is waited for
/// in tasks of their own.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// For each queue the items that had left it, and when that changed last, or there was nothing to take.
    moved: Vec<(u64, Instant)>,
}

impl Watch {
    /// Looks at the queues, each as (items waiting, items taken so far), in the order of the way.
    pub(super) fn look(&mut self, queues: &[(u64, u64)], holds_back: bool, now: Instant) -> bool {
        self.moved.resize(queues.len(), (u64::MAX, now));
        let mut alive = true;
        for (index, &(waiting, taken)) in queues.iter().enumerate() {
            let blocked = queues.get(index + 1).map_or(holds_back, |&(behind, _)| behind > 0);
            let (seen, at) = &mut self.moved[index];
            if waiting == 0 || blocked || *seen != taken {
                (*seen, *at) = (taken, now);
            }
            alive &= now.duration_since(*at) < STUCK_AFTER;
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second for a minute at what `queues` says of that second.
    fn alive_for_a_minute(queues: impl Fn(u64) -> [(u64, u64); 3], holds_back: bool) -> bool {
        let (mut watch, start) = (Watch::default(), Instant::now());
        (0..60).all(|second| watch.look(&queues(second), holds_back, start + Duration::from_secs(second)))
    }

    #[test]
    fn silence_and_work_are_alive() {
        assert!(alive_for_a_minute(|_| [(0, 7), (0, 7), (0, 7)], false));
        assert!(alive_for_a_minute(|s| [(1024, s), (1024, s), (256, s)], false), "full queues that move");
        assert!(alive_for_a_minute(|s| [(3, s / 9), (0, s / 9), (0, s / 9)], false), "slow, but it moves");
    }

    #[test]
    fn back_pressure_from_the_end_is_alive_and_the_same_without_a_reason_is_not() {
        let full = |_| [(1024, 5), (1024, 5), (256, 5)];
        assert!(alive_for_a_minute(full, true));
        assert!(!alive_for_a_minute(full, false), "delivery takes nothing and does not say why");
    }

    #[test]
    fn a_stage_that_takes_nothing_with_nothing_behind_it_is_stuck() {
        assert!(!alive_for_a_minute(|_| [(1, 5), (0, 5), (0, 5)], false));
        assert!(!alive_for_a_minute(|_| [(1024, 5), (1024, 5), (0, 5)], true), "the last stage, not delivery");
        assert!(!alive_for_a_minute(|s| [(1024, 5), (0, 5 + s), (0, 5)], false), "the first stage");
    }

    #[test]
    fn what_was_stuck_and_moves_again_is_alive() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(watch.look(&[(1, 5)], false, start));
        assert!(!watch.look(&[(1, 5)], false, start + STUCK_AFTER));
        assert!(watch.look(&[(1, 6)], false, start + 2 * STUCK_AFTER));
    }
}

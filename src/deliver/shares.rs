//! How the writes in flight are shared between live data and the backlog. Pure.
//!
//! Invariants: live data and the backlog both always have a place, live data also where `all` was more when the backlog's
//! writes began; what the backlog leaves free alone is there for live data that comes; together they never are more than
//! `all`, but for backlog writes that began before and one of live data.

use crate::limits::BACKLOG_ALONE_PERCENT;

/// The shares of the writes in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Live and backlog together.
    pub(super) all: usize,
    /// What the backlog has while live data waits.
    pub(super) backlog: usize,
    /// What the backlog may take while none does.
    pub(super) backlog_alone: usize,
}

impl Shares {
    /// Of so many writes, two at least, of which the backlog has so many percent.
    pub(super) fn of(all: usize, backlog_percent: u8) -> Self {
        let all = all.max(2);
        let share = |percent: u8| (all * usize::from(percent.min(BACKLOG_ALONE_PERCENT)) / 100).max(1);
        Self { all, backlog: share(backlog_percent), backlog_alone: share(BACKLOG_ALONE_PERCENT) }
    }

    /// Whether a live write may begin beside `live` and `backlog` ones. `owed`: the backlog has a claim.
    pub(super) fn takes_live(&self, live: usize, backlog: usize, owed: bool) -> bool {
        let kept = if owed { self.backlog } else { 0 };
        live == 0 || live + backlog.max(kept) < self.all
    }

    /// Whether a write of the backlog may begin beside `backlog` ones. `alone`: no live data is about.
    pub(super) fn takes_backlog(&self, backlog: usize, alone: bool) -> bool {
        backlog < if alone { self.backlog_alone } else { self.backlog }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_from_the_configuration_and_leave_a_place_for_each() {
        // (all, backlog_share) → (backlog, backlog_alone)
        let table = [
            ((16, 25), (4, 12)),
            ((16, 75), (12, 12)),
            ((16, 1), (1, 12)),
            ((2, 25), (1, 1)),
            ((3, 75), (2, 2)),
            ((512, 10), (51, 384)),
        ];
        for ((all, percent), (backlog, backlog_alone)) in table {
            let window = Shares::of(all, percent);
            assert_eq!(window, Shares { all, backlog, backlog_alone });
            assert!(window.backlog_alone < window.all, "live data finds room at once: {window:?}");
        }
    }

    #[test]
    fn live_data_leaves_the_backlog_its_share_and_takes_the_rest() {
        let window = Shares::of(16, 25);
        let live = |backlog, owed| (0..).take_while(|&live| window.takes_live(live, backlog, owed)).count();
        assert_eq!((live(0, false), live(0, true), live(4, true), live(12, true), live(16, true)), (16, 12, 12, 4, 1));
        let backlog = |alone| (0..).take_while(|&backlog| window.takes_backlog(backlog, alone)).count();
        assert_eq!((backlog(true), backlog(false)), (12, 4));
    }
}

//! Does the pipeline move, or has it a reason not to? If neither, who stands still?
//!
//! A stage stands still if items wait for it and it takes none, or if one operation goes on and on. One that waits for
//! room does not: the one behind it is asked the same. Whoever takes from an outlet may say that it holds back
//! for a reason. So hours of silence are fine, and so is back-pressure that somebody answers for.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::meter::Doing;
use crate::observer::Observer;

/// What a stage, or whoever takes from an outlet, has done so far.
#[derive(Debug, Clone)]
pub(crate) struct Moves {
    pub(crate) name: String,
    /// Items that wait for it.
    pub(crate) waiting: u64,
    /// Items taken from its queue.
    pub(crate) taken: u64,
    /// Items that wait behind it.
    pub(crate) behind: Option<u64>,
    /// For each worker what it does, and a number that changes with each attempt.
    pub(crate) workers: Vec<(Doing, u64)>,
    pub(crate) is_outlet: bool,
}

/// Who stands still, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Still {
    /// The stage, or whoever takes from an outlet.
    pub name: String,
    /// How.
    pub why: StillWhy,
    /// For how long it has been seen so.
    pub since: Duration,
}

/// How something stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StillWhy {
    /// So many items wait, and it takes none.
    TakesNothing(u64),
    /// One operation does not end.
    Operation,
    /// It waits for room in its quarantine, from which nobody takes.
    Quarantine,
    /// So many items wait at the outlet, and they are not taken.
    Outlet(u64),
}

impl fmt::Display for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (&self.name, self.since.as_secs_f64());
        match self.why {
            StillWhy::TakesNothing(waiting) => {
                write!(f, "stage {name:?} stands still: {waiting} items wait, and it has taken none for {seconds:.0} s")
            }
            StillWhy::Operation => write!(f, "stage {name:?} stands still: one operation takes {seconds:.0} s by now"),
            StillWhy::Quarantine => {
                write!(f, "stage {name:?} stands still: nobody has taken from its quarantine for {seconds:.0} s")
            }
            StillWhy::Outlet(waiting) => {
                write!(
                    f,
                    "{name:?} stands still: {waiting} items wait at the outlet, none was taken for {seconds:.0} s"
                )
            }
        }
    }
}

/// Since when something has been as it is.
#[derive(Debug, Clone, Copy)]
struct Since<T> {
    what: T,
    at: Instant,
}

impl<T: PartialEq> Since<T> {
    /// Takes in what is now; answers for how long it has been so. `excused` counts as a change.
    fn look(&mut self, what: T, excused: bool, now: Instant) -> Duration {
        if excused || self.what != what {
            *self = Self { what, at: now };
        }
        now.saturating_duration_since(self.at)
    }
}

/// Looks at a pipeline again and again, and says who stands still.
pub struct Watchdog {
    observer: Observer,
    seen: Looks,
}

impl Watchdog {
    /// One that speaks once something has stood still for `after`. That should be more than an operation takes, and more
    /// than the longest pause between attempts.
    #[must_use]
    pub const fn new(observer: Observer, after: Duration) -> Self {
        Self { observer, seen: Looks { after, seen: Vec::new() } }
    }

    /// Looks, at `now`; to be called several times within the time it allows. `holds_back` says that whoever takes from
    /// the outlets has a reason not to.
    #[must_use]
    pub fn look(&mut self, holds_back: bool, now: Instant) -> Option<Still> {
        self.seen.look(&self.observer.moves(), holds_back, now)
    }
}

/// What was seen so far.
#[derive(Debug)]
struct Looks {
    after: Duration,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    taken: Since<u64>,
    workers: Vec<Since<(Doing, u64)>>,
}

impl Looks {
    fn look(&mut self, moves: &[Moves], holds_back: bool, now: Instant) -> Option<Still> {
        if self.seen.len() != moves.len() {
            let fresh = |moves: &Moves| Seen {
                taken: Since { what: u64::MAX, at: now },
                workers: vec![Since { what: (Doing::Starved, 0), at: now }; moves.workers.len()],
            };
            self.seen = moves.iter().map(fresh).collect();
        }
        let mut still = None;
        // All are looked at, so that each one's time goes on; whoever stands last on the way is named.
        for (moves, seen) in moves.iter().zip(&mut self.seen) {
            let found = seen.look(moves, holds_back, now).filter(|(_, since)| *since >= self.after);
            still = found.map(|(why, since)| Still { name: moves.name.clone(), why, since }).or(still);
        }
        still
    }
}

impl Seen {
    fn look(&mut self, moves: &Moves, holds_back: bool, now: Instant) -> Option<(StillWhy, Duration)> {
        let mut longest: Option<(StillWhy, Duration)> = None;
        for (&worker, seen) in moves.workers.iter().zip(&mut self.workers) {
            let why = match worker.0 {
                Doing::Busy | Doing::PoolWait => Some(StillWhy::Operation),
                // Nothing is behind it that could hold it back, so what does is its quarantine.
                Doing::Blocked if moves.behind.unwrap_or(0) == 0 => Some(StillWhy::Quarantine),
                Doing::Blocked | Doing::Turn | Doing::Starved => None,
            };
            let since = seen.look(worker, why.is_none(), now);
            longest = why.map(|why| (why, since)).into_iter().chain(longest).max_by_key(|(_, since)| *since);
        }
        let idle = moves.workers.iter().all(|(doing, _)| *doing == Doing::Starved);
        let excused = moves.waiting == 0 || if moves.is_outlet { holds_back } else { !idle };
        let since = self.taken.look(moves.taken, excused, now);
        let why = if moves.is_outlet { StillWhy::Outlet(moves.waiting) } else { StillWhy::TakesNothing(moves.waiting) };
        longest.into_iter().chain((!excused).then_some((why, since))).max_by_key(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    fn stage(name: &str, waiting: u64, taken: u64, behind: u64, doing: Doing) -> Moves {
        let workers = vec![(Doing::Starved, 1), (doing, taken)];
        let workers = if doing == Doing::Starved { vec![(Doing::Starved, 1); 2] } else { workers };
        Moves { name: name.into(), waiting, taken, behind: Some(behind), workers, is_outlet: false }
    }

    fn outlet(waiting: u64, taken: u64) -> Moves {
        Moves { name: "taker".into(), waiting, taken, behind: None, workers: Vec::new(), is_outlet: true }
    }

    /// Looks once a second for a minute; the first that is named.
    fn minute(moves: impl Fn(u64) -> Vec<Moves>, holds_back: bool) -> Option<(String, StillWhy)> {
        let (mut looks, start) = (Looks { after: AFTER, seen: Vec::new() }, Instant::now());
        let mut look = |second| looks.look(&moves(second), holds_back, start + Duration::from_secs(second));
        (0..60).find_map(&mut look).map(|still| (still.name, still.why))
    }

    #[test]
    fn silence_and_work_are_fine() {
        let silence = |_| vec![stage("a", 0, 7, 0, Doing::Starved), outlet(0, 7)];
        assert_eq!(minute(silence, false), None);
        assert_eq!(minute(|s| vec![stage("a", 64, s, 64, Doing::Busy), outlet(64, s)], false), None, "full, and moves");
        assert_eq!(
            minute(|s| vec![stage("a", 3, s / 9, 0, Doing::Busy), outlet(0, s)], false),
            None,
            "slow, and moves"
        );
    }

    #[test]
    fn whoever_holds_back_for_a_reason_is_fine_and_without_one_is_named() {
        let full = |_| vec![stage("a", 64, 5, 64, Doing::Blocked), stage("b", 64, 5, 9, Doing::Blocked), outlet(9, 5)];
        assert_eq!(minute(full, true), None);
        assert_eq!(minute(full, false), Some(("taker".into(), StillWhy::Outlet(9))));
    }

    #[test]
    fn the_stage_that_holds_up_those_before_it_is_named_not_they() {
        let hangs = |_| vec![stage("a", 64, 5, 64, Doing::Blocked), stage("b", 64, 5, 0, Doing::Busy), outlet(0, 5)];
        assert_eq!(minute(hangs, false), Some(("b".into(), StillWhy::Operation)));
        let sleeps = |_| vec![stage("a", 64, 5, 64, Doing::Blocked), stage("b", 64, 5, 0, Doing::Starved)];
        assert_eq!(minute(sleeps, false), Some(("b".into(), StillWhy::TakesNothing(64))));
    }

    #[test]
    fn a_quarantine_from_which_nobody_takes_is_named() {
        let full = |_| vec![stage("a", 64, 5, 0, Doing::Blocked), outlet(0, 5)];
        assert_eq!(minute(full, false), Some(("a".into(), StillWhy::Quarantine)));
    }

    #[test]
    fn what_stood_still_and_moves_again_is_fine() {
        let (mut looks, start) = (Looks { after: AFTER, seen: Vec::new() }, Instant::now());
        let mut look = |taken, seconds| {
            looks.look(&[stage("a", 1, taken, 0, Doing::Starved)], false, start + Duration::from_secs(seconds))
        };
        assert_eq!(look(5, 0), None);
        assert!(look(5, 10).unwrap().to_string().contains("stage \"a\" stands still: 1 items wait"));
        assert_eq!(look(6, 20), None);
    }
}

//! One budget for the queues of a spill. What one does not use the others may; a queue that needs room has those of
//! lower rank give up what they hold.
//!
//! Invariants: all together stay within `max`; each is sure of [`SURE_SEGMENTS`] segments, one that takes appends and
//! one in reserve, whatever the others hold. A queue waits for those of lower rank only, so none waits for itself.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use super::config::{Config, SURE_SEGMENTS};
use super::queue::Handle;
use super::shared::locked;
use super::writer::Command;

/// How long another queue may take to give up a segment: it reads it first, and syncs what is said of it.
const GIVE_WITHIN: Duration = Duration::from_secs(5);

/// The budget.
pub(super) struct Budget {
    max: u64,
    sure: u64,
    /// How many queues share it. Before all of them are known none gets anything.
    queues: usize,
    members: Mutex<Vec<Member>>,
    /// Held from the look at what is left until it is taken.
    turn: Mutex<()>,
}

struct Member {
    /// 0 is the highest.
    rank: usize,
    handle: Weak<Handle>,
}

/// What a queue is about to take, beside what its directory holds. Of its own thread.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taking {
    /// Bytes of a file that is being made or grows: no index counts them yet.
    pub(super) making: u64,
    /// Bytes for which room is being made.
    pub(super) wanted: u64,
    /// It is about to write to a recycled segment that waits.
    pub(super) spare: bool,
}

/// What another queue has, while it is looked at.
struct Other {
    rank: usize,
    /// Its files, and that which is being made.
    held: u64,
    wanted: u64,
    handle: Option<Arc<Handle>>,
}

impl Budget {
    /// A budget for so many queues with these settings.
    pub(super) fn new(config: &Config, queues: usize) -> Self {
        let max = config.disk_max.as_u64();
        // Less where a queue that nobody wants any more is opened to be drained.
        let sure = (SURE_SEGMENTS * config.segment_bytes.as_u64()).min(max / queues.max(1) as u64);
        Self { max, sure, queues, members: Mutex::default(), turn: Mutex::default() }
    }

    pub(super) fn join(&self, rank: usize, handle: Weak<Handle>) {
        locked(&self.members).push(Member { rank, handle });
    }

    /// Nobody else takes anything as long as this is held.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        locked(&self.turn)
    }

    /// Bytes that the queue of `rank`, which has `used`, may have beyond that. Room that is made for a higher one is
    /// not for it, unless it is sure of it.
    pub(super) fn allowed(&self, rank: usize, used: u64) -> u64 {
        if locked(&self.members).len() < self.queues {
            return 0;
        }
        let others = self.others(rank);
        let held: u64 = others.iter().map(|other| other.held.max(self.sure)).sum();
        let wanted: u64 = others.iter().filter(|other| other.rank < rank).map(|other| other.wanted).sum();
        let left = self.max.saturating_sub(held).saturating_sub(used);
        left.saturating_sub(wanted).max(left.min(self.sure.saturating_sub(used)))
    }

    /// What the queue of `rank` has to leave to the others, bytes.
    pub(super) fn held_by_others(&self, rank: usize) -> u64 {
        self.others(rank).iter().map(|other| other.held.max(self.sure)).sum()
    }

    /// What queues of lower rank could give up for that of `rank`, bytes.
    pub(super) fn held_below(&self, rank: usize) -> u64 {
        let below = self.others(rank).into_iter().filter(|other| other.rank > rank);
        below.map(|other| other.held.saturating_sub(self.sure)).sum()
    }

    fn others(&self, rank: usize) -> Vec<Other> {
        let look = |member: &Member| {
            let handle = member.handle.upgrade();
            let (held, wanted) = handle.as_ref().map_or((0, 0), |handle| {
                let state = handle.shared.state();
                (state.disk_bytes() + state.taking.making, state.taking.wanted)
            });
            Other { rank: member.rank, held, wanted, handle }
        };
        locked(&self.members).iter().filter(|member| member.rank != rank).map(look).collect()
    }

    /// Removes a recycled segment of another queue that has more than it is sure of.
    pub(super) fn remove_spare_of_others(&self, rank: usize) -> bool {
        let rich = self.others(rank).into_iter().filter(|other| other.held > self.sure);
        rich.filter_map(|other| other.handle).any(|handle| {
            let needed = handle.shared.state().taking.spare;
            !needed && handle.shared.remove_spare()
        })
    }

    /// Has a queue of lower rank than `rank` give up a segment, the lowest first; `false` if none can.
    pub(super) fn take_from_below(&self, rank: usize) -> bool {
        let mut below = self.others(rank);
        below.retain(|other| other.rank > rank && other.held > self.sure);
        below.sort_by_key(|other| std::cmp::Reverse(other.rank));
        below.into_iter().filter_map(|other| other.handle).any(|handle| {
            let (answer, answered) = mpsc::sync_channel(1);
            let asked = handle.commands.send(Command::GiveRoom(answer)).is_ok();
            asked && answered.recv_timeout(GIVE_WITHIN).unwrap_or(false)
        })
    }
}

//! One budget for the queues of a spill. What one does not use the others may; a queue that needs room has those of
//! lower rank give up what they hold.
//!
//! Invariants: all together stay within `max`; each is sure of [`SURE_SEGMENTS`] segments, one that takes appends and
//! one in reserve, whatever the others hold. A queue waits for those of lower rank only, so none waits for itself.

use std::cmp::Reverse;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

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
        if !self.is_complete() {
            return 0;
        }
        let others = self.others(rank);
        let wanted: u64 = others.iter().filter(|other| other.rank < rank).map(|other| other.wanted).sum();
        let left = self.max.saturating_sub(self.owed(&others)).saturating_sub(used);
        left.saturating_sub(wanted).max(left.min(self.sure.saturating_sub(used)))
    }

    /// What the queue of `rank` has to leave to the others, bytes.
    pub(super) fn held_by_others(&self, rank: usize) -> u64 {
        self.owed(&self.others(rank))
    }

    /// What they have, each with what it is sure of, bytes.
    fn owed(&self, others: &[Other]) -> u64 {
        others.iter().map(|other| other.held.max(self.sure)).sum()
    }

    /// Queues other than that of `rank` that have more than they are sure of.
    fn rich(&self, rank: usize) -> impl Iterator<Item = Arc<Handle>> {
        let rich = self.others(rank).into_iter().filter(|other| other.held > self.sure);
        rich.filter_map(|other| other.handle)
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

    /// Whether all queues are known: before, nothing can be said of what is left.
    pub(super) fn is_complete(&self) -> bool {
        locked(&self.members).len() >= self.queues
    }

    /// Whether all together hold more than they may, with what each is sure of: the budget was lowered, or queues were
    /// added. Then files go instead of being kept to be written again.
    pub(super) fn is_over(&self, rank: usize, used: u64) -> bool {
        self.is_complete() && self.held_by_others(rank).saturating_add(used) > self.max
    }

    /// Whether the queue of `rank`, which has `used`, is sure of so many bytes more.
    pub(super) fn is_sure_of(&self, used: u64, bytes: u64) -> bool {
        used.saturating_add(bytes) <= self.sure
    }

    /// Removes a recycled segment of another queue that has more than it is sure of.
    pub(super) fn remove_spare_of_others(&self, rank: usize) -> bool {
        self.rich(rank).any(|handle| {
            let needed = handle.shared.state().taking.spare;
            !needed && handle.shared.remove_spare()
        })
    }

    /// Has a queue of lower rank than `rank` give up a segment, the lowest first.
    pub(super) fn take_from_below(&self, rank: usize) -> Given {
        let mut below = self.others(rank);
        below.retain(|other| other.rank > rank && other.held > self.sure);
        below.sort_by_key(|other| Reverse(other.rank));
        for handle in below.into_iter().filter_map(|other| other.handle) {
            let (answer, answered) = mpsc::sync_channel(1);
            let wish = Wish { until: Instant::now() + GIVE_WITHIN, answer: Some(answer) };
            if handle.commands.send(Command::GiveRoom(wish)).is_err() {
                continue;
            }
            match answered.recv_timeout(GIVE_WITHIN) {
                Ok(Given::Nothing) | Err(RecvTimeoutError::Disconnected) => {}
                Ok(given) => return given,
                Err(RecvTimeoutError::Timeout) => return Given::Busy,
            }
        }
        Given::Nothing
    }

    /// Wishes, of each queue that has more than it is sure of, that it gives up a segment; waits for nothing. Answers
    /// whether there is one.
    pub(super) fn ask_the_rich(&self, rank: usize) -> bool {
        let wish = || Wish { until: Instant::now() + GIVE_WITHIN, answer: None };
        let asked = self.rich(rank).filter(|handle| handle.commands.send(Command::GiveRoom(wish())).is_ok());
        asked.count() > 0
    }
}

/// The wish that a queue gives up a segment.
pub(super) struct Wish {
    /// Nobody waits for it any more after this.
    pub(super) until: Instant,
    /// Absent where nobody waits at all.
    pub(super) answer: Option<SyncSender<Given>>,
}

/// What came of it.
pub(super) enum Given {
    /// Something went.
    Room,
    Nothing,
    /// Nobody knows yet.
    Busy,
}

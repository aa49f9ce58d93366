//! Several queues by priority, under one budget: what matters less gives way first and comes out last.
//!
//! Each priority has a queue of its own with all that holds for one, in a directory of its own: `normal` in that of the
//! configuration, the others in `high/` and `low/` there. They share the budget ([`super::budget`]); where it or the
//! file system is full, data of lower priority goes first, oldest first (with `drop-newest` newest first), and only
//! among data of one priority does [`super::Overflow`] decide. With `block` nothing goes.
//!
//! Deliberately absent: an order between priorities other than that the higher comes out first.

use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{join_all, select_all};

use super::budget::Budget;
use super::checkpoint;
use super::config::Config;
use super::fs::Filesystem;
use super::queue::{Batch, Spill};
use super::scan::{NOTES_FILE, damaged_dir, parse_free_file_name, parse_segment_file_name};
use super::stats::{AppendError, Observer, Opened, Recovering, SpillError, Stats};
use super::{Position, Record};
use crate::priority::Priority;

/// Where a record lies: in which queue, and where there. Valid until this process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The queue.
    pub priority: Priority,
    /// The place in it.
    pub position: Position,
}

/// The directory of a priority's queue in the spill's directory `dir`.
#[must_use]
pub fn dir_of(dir: &Path, priority: Priority) -> PathBuf {
    match priority {
        Priority::Normal => dir.to_owned(),
        other => dir.join(other.as_str()),
    }
}

/// The directories of the queues that lie in the spill's directory `dir`, the highest priority first. That of `normal`
/// is always among them.
#[must_use]
pub fn dirs_in(dir: &Path) -> Vec<(Priority, PathBuf)> {
    let all = Priority::ALL.into_iter().map(|priority| (priority, dir_of(dir, priority)));
    all.filter(|(priority, dir)| *priority == Priority::Normal || dir.is_dir()).collect()
}

/// The queues; see the head of the module. Clones are handles of the same ones.
#[derive(Debug, Clone)]
pub struct Queues {
    queues: Arc<[(Priority, Spill)]>,
    /// The priorities that channels have: what goes to another goes to `normal`, whatever lies in its queue.
    given: Arc<[Priority]>,
}

impl Queues {
    /// Opens the queues of the priorities that are `given`, and those in which an earlier process has left something;
    /// `normal` always. Answers what lies in each, in the order of [`Self::each`]. Blocking, like [`Spill::open`].
    ///
    /// # Errors
    /// As [`Spill::open`], for any of them.
    pub fn open(
        config: &Config,
        given: &[Priority],
        fs: Arc<dyn Filesystem>,
        observer: Arc<dyn Observer>,
    ) -> Result<(Self, Vec<Opened>), SpillError> {
        let mut wanted = Priority::ALL.to_vec();
        wanted.retain(|priority| match priority {
            Priority::Normal => true,
            other => given.contains(other) || holds_something(fs.as_ref(), &dir_of(&config.dir, *other)),
        });
        let budget = Arc::new(Budget::new(config, wanted.len()));
        let mut opened = Vec::with_capacity(wanted.len());
        // The directories of the others lie in that of `normal`, which is made and locked first.
        let normal_first = wanted.iter().enumerate().filter(|(_, priority)| **priority == Priority::Normal);
        let then_others = wanted.iter().enumerate().filter(|(_, priority)| **priority != Priority::Normal);
        for (rank, &priority) in normal_first.chain(then_others) {
            let config = Config { dir: dir_of(&config.dir, priority), ..config.clone() };
            let (spill, found) = Spill::open_within(&budget, rank, config, fs.clone(), observer.clone())?;
            opened.push(((priority, spill), found));
        }
        // Nobody else has them, since the queue of `normal` is locked.
        let unwanted = Priority::ALL.into_iter().filter(|priority| !wanted.contains(priority));
        unwanted.for_each(|priority| remove_recycled(fs.as_ref(), &dir_of(&config.dir, priority)));
        opened.sort_by_key(|((priority, _), _)| Reverse(*priority));
        let (queues, found): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        Ok((Self { queues: queues.into(), given: given.into() }, found))
    }

    /// The queues, the highest priority first.
    pub fn each(&self) -> impl Iterator<Item = (Priority, &Spill)> {
        self.queues.iter().map(|(priority, spill)| (*priority, spill))
    }

    /// The queue of a priority: that of `normal` where it has none of its own.
    fn of(&self, priority: Priority) -> &Spill {
        let named = |wanted: Priority| self.queues.iter().find(|(own, _)| *own == wanted);
        let queue = named(priority).or_else(|| named(Priority::Normal));
        &queue.expect("the queue of normal is always opened").1
    }

    /// [`Spill::append`] to the queue of `priority`; to that of `normal` if no channel has it any more.
    ///
    /// # Errors
    /// As [`Spill::append`].
    ///
    /// # Cancel safety
    /// Not cancel safe, as [`Spill::append`].
    pub async fn append(&self, priority: Priority, records: Vec<Record>) -> Result<(), AppendError> {
        let priority = if self.given.contains(&priority) { priority } else { Priority::Normal };
        self.of(priority).append(records).await.map(drop)
    }

    /// [`Spill::next_batch`] of the highest priority that has something to hand out. One whose records cannot be read
    /// at the moment does not hold up the others.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`Spill::next_batch`].
    pub async fn next_batch(&self, records_max: usize, bytes_max: u64) -> Option<Vec<(Place, Record)>> {
        let placed = |priority: Priority, records: Vec<(Position, Record)>| {
            records.into_iter().map(|(position, record)| (Place { priority, position }, record)).collect()
        };
        for (priority, spill) in self.each() {
            match spill.try_batch(records_max, bytes_max).await {
                Batch::Closed => return None,
                Batch::Records(records) => return Some(placed(priority, records)),
                Batch::Nothing { .. } => {}
            }
        }
        let waiting = self.each().map(|(priority, spill)| {
            Box::pin(async move { Some(placed(priority, spill.next_batch(records_max, bytes_max).await?)) })
        });
        select_all(waiting).await.0
    }

    /// [`Spill::ack`]
    pub fn ack(&self, place: Place) -> bool {
        self.of(place.priority).ack(place.position)
    }

    /// [`Spill::nack`]
    pub fn nack(&self, place: Place) -> bool {
        self.of(place.priority).nack(place.position)
    }

    /// The sums over all; cheap.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.each().map(|(_, spill)| spill.stats()).reduce(sum).unwrap_or_default()
    }

    /// [`Spill::settled`] of all.
    ///
    /// # Cancel safety
    /// Cancel safe: it only waits.
    pub async fn settled(&self) {
        join_all(self.each().map(|(_, spill)| spill.settled())).await;
    }

    /// [`Spill::close`] of all.
    ///
    /// # Cancel safety
    /// Cancel safe: the closing goes on.
    pub async fn close(&self) {
        join_all(self.each().map(|(_, spill)| spill.close())).await;
    }
}

/// Whether an earlier process has left data in the directory of a queue, evidence, or the word that there was some. What
/// cannot be looked at may hold something.
fn holds_something(fs: &dyn Filesystem, dir: &Path) -> bool {
    let is_there = |dir: &Path, counts: fn(&str) -> bool| match fs.list(dir) {
        Ok(files) => files.iter().any(|file| counts(&file.name)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    let listed = checkpoint::read(fs, dir).checkpoint.is_some_and(|checkpoint| !checkpoint.listed.is_empty());
    listed || is_there(dir, |name| parse_segment_file_name(name).is_some()) || is_there(&damaged_dir(dir), |_| true)
}

/// Removes the recycled files of a queue that is not opened: no budget counts them.
fn remove_recycled(fs: &dyn Filesystem, dir: &Path) {
    let files = fs.list(dir).unwrap_or_default();
    let waits = |name: &str| parse_free_file_name(name).is_some() || name == NOTES_FILE;
    for file in files.iter().filter(|file| waits(&file.name)) {
        if let Err(error) = fs.remove(&dir.join(&file.name)) {
            tracing::warn!(%error, file = %dir.join(&file.name).display(), "a recycled segment that nobody needs stays");
        }
    }
}

fn sum(a: Stats, b: Stats) -> Stats {
    let recovering = match (a.recovering, b.recovering) {
        (Some(a), Some(b)) => Some(Recovering {
            segments_done: a.segments_done + b.segments_done,
            segments: a.segments + b.segments,
            bytes_done: a.bytes_done + b.bytes_done,
            bytes: a.bytes + b.bytes,
        }),
        (a, b) => a.or(b),
    };
    Stats {
        backlog_records: a.backlog_records + b.backlog_records,
        backlog_weight: a.backlog_weight.saturating_add(b.backlog_weight),
        in_flight_records: a.in_flight_records + b.in_flight_records,
        disk_bytes: a.disk_bytes + b.disk_bytes,
        // They share it.
        disk_max_bytes: a.disk_max_bytes,
        segment_bytes: a.segment_bytes,
        segments: a.segments + b.segments,
        encrypted: a.encrypted,
        locked_segments: a.locked_segments + b.locked_segments,
        reserve_bytes: a.reserve_bytes + b.reserve_bytes,
        recovering,
        oldest: a.oldest.max(b.oldest),
        written_bytes: a.written_bytes + b.written_bytes,
        commits: a.commits + b.commits,
        syncs: a.syncs + b.syncs,
        dropped_records: a.dropped_records + b.dropped_records,
        dropped_weight: a.dropped_weight.saturating_add(b.dropped_weight),
        lost_records: a.lost_records + b.lost_records,
        lost_notes: a.lost_notes + b.lost_notes,
        failed_syncs: a.failed_syncs + b.failed_syncs,
        failed_writes: a.failed_writes + b.failed_writes,
        failed_reads: a.failed_reads + b.failed_reads,
        failing: a.failing || b.failing,
        last_error: a.last_error.or(b.last_error),
    }
}

//! What can go wrong, and what a stage does about it: decided here, done by the worker.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::queue::{Bounds, Receiver, Sender, queue};
use crate::sync::Arc;

/// Why an operation or a source failed. Every error converts into it by `?`, and so does a text.
pub type Error = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a pipeline failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum PipelineError {
    /// A stage whose policy is to fail the pipeline failed on an item.
    Stage {
        /// Its name.
        stage: String,
        /// The attempt that was the last, from 1.
        attempt: u32,
        /// Whether it was a panic.
        panicked: bool,
        /// What went wrong.
        error: Error,
    },
    /// A stage failed on more items than its limit allows.
    TooMany {
        /// Its name.
        stage: String,
        /// Items that failed within the window.
        failed: u64,
        /// Items that it finished within the window, failed ones with them.
        of: u64,
        /// The limit.
        limit: Limit,
    },
    /// A source that is to fail the pipeline failed.
    Source {
        /// Its name.
        source: String,
        /// What went wrong.
        error: Error,
    },
    /// A task of the engine ended as it never should: a mistake of ours.
    Task {
        /// The stage or source.
        name: String,
    },
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { stage, attempt, panicked, error } => {
                let what = if *panicked { "panicked" } else { "failed" };
                write!(f, "stage {stage:?} {what} at attempt {attempt}: {error}")
            }
            Self::TooMany { stage, failed, of, limit } => write!(
                f,
                "stage {stage:?} failed on {failed} of {of} items in the last {} s, more than {} % are not allowed",
                WINDOW.as_secs(),
                limit.percent
            ),
            Self::Source { source, error } => write!(f, "source {source:?} failed: {error}"),
            Self::Task { name } => write!(f, "the task of {name:?} died: please report this"),
        }
    }
}

impl std::error::Error for PipelineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stage { error, .. } | Self::Source { error, .. } => Some(&**error),
            Self::TooMany { .. } | Self::Task { .. } => None,
        }
    }
}

/// Over how long failures are counted for [`Limit`] and in snapshots.
pub const WINDOW: Duration = Duration::from_secs(10);

/// How an attempt failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) panicked: bool,
}

impl Failure {
    pub(crate) fn of(error: Error) -> Self {
        Self { error, panicked: false }
    }

    pub(crate) fn of_panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self { error: text.unwrap_or_else(|| "a panic without a text".into()).into(), panicked: true }
    }
}

/// An item on which a stage failed, and why.
#[derive(Debug)]
pub struct Quarantined<T> {
    /// The stage.
    pub stage: String,
    /// The item, as the last attempt left it.
    pub item: T,
    /// What the last attempt said.
    pub error: Error,
    /// Attempts made.
    pub attempts: u32,
}

/// A bounded queue of what stages failed on; somebody has to take from it, or those stages wait.
/// When its receiver is gone, the items are counted as skipped.
#[must_use]
pub fn quarantine<T>(name: &str, items_max: usize) -> (Quarantine<T>, Receiver<Quarantined<T>>) {
    let (sender, receiver) = queue(name, Bounds::items(items_max));
    (Quarantine { sender }, receiver)
}

/// The way into a quarantine.
pub struct Quarantine<T> {
    pub(crate) sender: Sender<Quarantined<T>>,
}

impl<T> Clone for Quarantine<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

/// When failures become too many: over the last [`WINDOW`], more than `percent` of the items a stage finished,
/// and at least `at_least`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limit {
    /// The share in percent that may fail.
    pub percent: f64,
    /// Failures below this number are never too many.
    pub at_least: u64,
}

impl Limit {
    /// Whether `failed` of `of` are too many.
    #[must_use]
    pub fn is_exceeded(&self, failed: u64, of: u64) -> bool {
        failed >= self.at_least.max(1) && failed as f64 * 100.0 > self.percent * of as f64
    }
}

/// Pauses between attempts: each is twice the one before, and a share between a half and all of that is waited.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Backoff {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
    /// Makes the shares; the same seed makes the same ones.
    pub seed: u64,
}

impl Backoff {
    /// The pause after `attempt` (from 1) on the item `number`.
    #[must_use]
    pub fn pause(&self, number: u64, attempt: u32) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        let share = splitmix(self.seed ^ number.rotate_left(32) ^ u64::from(attempt)) >> 11;
        doubled.min(self.max).mul_f64(0.5 + share as f64 / (1_u64 << 54) as f64)
    }
}

/// A hash of good spread (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

type TakeOver<T> = Arc<dyn Fn(Quarantined<T>) + Send + Sync>;

pub(crate) enum Last<T> {
    Fail,
    Skip,
    Quarantine(Quarantine<T>),
    Call(TakeOver<T>),
}

/// What a stage does about an item on which it failed. There is no default: each stage names its own.
///
/// A panic is such a failure too, but it is not tried again: the item may be half done.
pub struct Policy<T> {
    pub(crate) retry: Option<Backoff>,
    pub(crate) last: Last<T>,
    pub(crate) limit: Option<Limit>,
}

impl<T> Policy<T> {
    const fn new(last: Last<T>) -> Self {
        Self { retry: None, last, limit: None }
    }

    /// The pipeline fails: sources stop, this stage and those before it take nothing more, those behind it
    /// finish what they have, and everything else is handed back.
    #[must_use]
    pub const fn fail() -> Self {
        Self::new(Last::Fail)
    }

    /// The item is dropped and counted.
    #[must_use]
    pub const fn skip() -> Self {
        Self::new(Last::Skip)
    }

    /// The item goes into a quarantine, with its error.
    #[must_use]
    pub const fn quarantine(quarantine: Quarantine<T>) -> Self {
        Self::new(Last::Quarantine(quarantine))
    }

    /// The item is given to `take`, with its error. It is called by the stage's worker, so it must not block;
    /// if it panics, the item counts as skipped.
    #[must_use]
    pub fn quarantine_with(take: impl Fn(Quarantined<T>) + Send + Sync + 'static) -> Self {
        Self::new(Last::Call(Arc::new(take)))
    }

    /// Before that, the operation is tried again.
    #[must_use]
    pub const fn after_retries(mut self, backoff: Backoff) -> Self {
        self.retry = Some(backoff);
        self
    }

    /// Whatever is done about single items, the pipeline fails when they become too many.
    #[must_use]
    pub const fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// What to do about a failure of the item `number` at `attempt` (from 1).
    pub(crate) fn decide(&self, panicked: bool, number: u64, attempt: u32) -> Decision {
        match self.retry {
            Some(backoff) if !panicked && attempt < backoff.attempts => Decision::Retry(backoff.pause(number, attempt)),
            _ => match self.last {
                Last::Fail => Decision::Fail,
                Last::Skip => Decision::Skip,
                Last::Quarantine(_) | Last::Call(_) => Decision::Quarantine,
            },
        }
    }
}

/// As the graph shows it.
impl<T> fmt::Display for Policy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(backoff) = self.retry {
            write!(f, "try {} times, then ", backoff.attempts)?;
        }
        match self.last {
            Last::Fail => write!(f, "fail the pipeline")?,
            Last::Skip => write!(f, "skip and count")?,
            Last::Quarantine(_) | Last::Call(_) => write!(f, "quarantine")?,
        }
        match self.limit {
            Some(limit) => write!(f, "; fail it over {} % in {} s", limit.percent, WINDOW.as_secs()),
            None => Ok(()),
        }
    }
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Retry(Duration),
    Fail,
    Skip,
    Quarantine,
}

/// What a source's error means for the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSourceError {
    /// The pipeline fails.
    FailPipeline,
    /// This source ends, the others go on.
    EndSource,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { attempts: 3, first: Duration::from_millis(100), max: Duration::from_millis(300), seed: 7 };

    #[test]
    fn decisions_are_a_table() {
        let decide = |policy: Policy<u8>, panicked, attempt| policy.decide(panicked, 0, attempt);
        let pause = |attempt| Decision::Retry(BACKOFF.pause(0, attempt));
        assert_eq!(decide(Policy::fail(), false, 1), Decision::Fail);
        assert_eq!(decide(Policy::skip(), true, 1), Decision::Skip);
        assert_eq!(decide(Policy::quarantine_with(|_| {}), false, 1), Decision::Quarantine);
        assert_eq!(decide(Policy::skip().after_retries(BACKOFF), false, 1), pause(1));
        assert_eq!(decide(Policy::skip().after_retries(BACKOFF), false, 2), pause(2));
        assert_eq!(decide(Policy::skip().after_retries(BACKOFF), false, 3), Decision::Skip);
        assert_eq!(decide(Policy::fail().after_retries(BACKOFF), true, 1), Decision::Fail, "a panic is not repeated");
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_spread_between_a_half_and_all() {
        for number in 0..100 {
            for (attempt, full_ms) in [(1, 100), (2, 200), (3, 300), (40, 300)] {
                let pause = BACKOFF.pause(number, attempt);
                let full = Duration::from_millis(full_ms);
                assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            }
        }
        assert_eq!(BACKOFF.pause(1, 1), BACKOFF.pause(1, 1));
        assert_ne!(BACKOFF.pause(1, 1), BACKOFF.pause(2, 1));
    }

    #[test]
    fn a_limit_is_exceeded_by_share_and_by_number() {
        let limit = Limit { percent: 10.0, at_least: 3 };
        assert!(!limit.is_exceeded(2, 2), "too few to say");
        assert!(!limit.is_exceeded(3, 30), "not more than 10 %");
        assert!(limit.is_exceeded(4, 30));
    }
}

//! The work that delivery waits for: each piece owns what it works on and gives it back, also when what
//! it calls panics, so that nothing in flight is ever forgotten.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::poison::{Poison, write_or_halve};
use super::quarantine::Quarantined;
use super::record::rows_record;
use super::uplink::Expired;
use crate::chunk::Flush;
use crate::ledger::{Ledger, SourceId};
use crate::priority::Priority;
use crate::row::Rows;
use crate::spill::{AppendError, Place, Queues, Record};
use crate::store::{Store, StoreError};

/// A flush that is neither stored nor spilled.
pub(super) struct Pending {
    pub(super) flush: Flush,
    /// What it takes in memory.
    pub(super) bytes: usize,
    /// When it goes to the spill.
    pub(super) due: Instant,
    /// Whether a broker waited for something of it when it came.
    pub(super) kept: bool,
}

/// A record of the backlog on its way to the store.
pub(super) struct BacklogRecord {
    pub(super) place: Place,
    pub(super) samples: Vec<(SourceId, u64)>,
    pub(super) rows: Rows,
}

/// How long a write took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// All of it.
    pub(super) whole: Duration,
    /// Requests that the store made of it, one after another; at least 1.
    pub(super) requests: u32,
}

impl Took {
    /// One of its requests.
    pub(super) fn each(self) -> Duration {
        self.whole / self.requests.max(1)
    }
}

/// What came of a piece of work.
pub(super) enum Done {
    Connected(Result<Arc<dyn Store>, StoreError>),
    Probed(Result<(), StoreError>),
    Live { pending: Box<Pending>, outcome: Result<Vec<Poison>, Miss>, took: Took },
    Backlog { record: Box<BacklogRecord>, bytes: usize, outcome: Result<Vec<Poison>, Miss>, took: Took },
    Spilled { priority: Priority, flushes: Vec<Pending>, outcome: Result<(), SpillFault> },
    Fetched(Vec<(Place, Record)>),
    Quarantined { item: Quarantined, outcome: Result<(), String> },
    Heartbeat,
    Expired(Result<Expired, StoreError>),
}

/// Why rows are not known to be stored.
#[derive(Debug)]
pub(super) enum Miss {
    /// The store failed.
    Store(StoreError),
    /// The store did not answer by D.
    Unanswered(StoreError),
    /// The store answers and refuses rows, but time ran out while the guilty ones were being found.
    Late,
}

/// Why flushes are not in the spill.
pub(super) enum SpillFault {
    /// A cap is met.
    Full(String),
    /// The disk fails.
    Disk(String),
}

/// How long a write may take.
#[derive(Clone, Copy)]
pub(super) enum Within {
    /// Until this moment in all: live data, that has somewhere else to go then.
    Until { at: Instant, answered: bool },
    /// So long for each request: the backlog, that has to get through.
    Each(Duration),
}

impl Within {
    pub(super) const fn until(at: Instant) -> Self {
        Self::Until { at, answered: false }
    }

    /// The same, once the store has answered a part of it.
    pub(super) const fn after_an_answer(self) -> Self {
        match self {
            Self::Until { at, .. } => Self::Until { at, answered: true },
            each @ Self::Each(_) => each,
        }
    }

    pub(super) async fn write(self, store: &Arc<dyn Store>, rows: &Rows) -> Result<(), Miss> {
        let (at, answered) = match self {
            Self::Until { at, answered } => (at, answered),
            Self::Each(each) => (Instant::now() + each, false),
        };
        match before(at, "write", store.write(rows)).await {
            Err(_) if answered && Instant::now() >= at => Err(Miss::Late),
            // A refusal is an answer, however late.
            Err(error @ StoreError::Unavailable { .. })
                if matches!(self, Self::Until { .. }) && Instant::now() >= at =>
            {
                Err(Miss::Unanswered(error))
            }
            outcome => outcome.map_err(Miss::Store),
        }
    }
}

/// Writes `rows` and gives back those that the store refuses for good.
pub(super) async fn write(store: &Arc<dyn Store>, rows: &Rows, within: Within) -> Result<Vec<Poison>, Miss> {
    let mut poison = Vec::new();
    write_or_halve(store, rows, within, &mut poison).await?;
    Ok(poison)
}

/// `work`, at most until `at`. A panic in it is an error like others: it ends the work, not delivery.
pub(super) async fn before<T>(
    at: Instant,
    what: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let failed = |reason: &str| StoreError::Unavailable { what: what.into(), reason: reason.into() };
    match tokio::time::timeout_at(at.into(), caught(work)).await {
        Err(_) => Err(failed("no answer in time")),
        Ok(None) => Err(failed("the store's driver panicked: please report this")),
        Ok(Some(outcome)) => outcome,
    }
}

/// What `work` gives, or `None` if it panics.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Makes `flushes`, all of one priority, durable in the spill as one unit.
pub(super) async fn spill(spill: Queues, ledger: Arc<Ledger>, priority: Priority, flushes: Vec<Pending>) -> Done {
    let append = async {
        let record = |Pending { flush, .. }: &Pending| rows_record(&flush.rows, flush.tally.parts(), &ledger, "");
        spill.append(priority, flushes.iter().map(record).collect()).await
    };
    let outcome = match caught(append).await {
        Some(Ok(())) => Ok(()),
        Some(Err(error @ (AppendError::Full { .. } | AppendError::TooLarge { .. }))) => Err(SpillFault::Full(format!(
            "{error}; free space where spill.dir lies, or raise spill.disk_max; it drains when the store takes data"
        ))),
        Some(Err(error)) => Err(SpillFault::Disk(format!("{error}; check the disk where spill.dir lies"))),
        None => Err(SpillFault::Disk("appending panicked: please report this".into())),
    };
    Done::Spilled { priority, flushes, outcome }
}

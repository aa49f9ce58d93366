//! Sources that are pulled: each in a task of its own, so that one that stalls holds up nobody.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::task::coop::consume_budget;

use crate::clock::Clock;
use crate::control::Control;
use crate::failure::{Error, Failure, OnSourceError, PipelineError};
use crate::meter::{Doing, WorkerMeter};
use crate::queue::{RoomWait, Sender};
use crate::stage::{StageMeter, add};
use crate::sync::Arc;
use crate::worker::RUN_MAX;

/// Where items come from.
pub trait Source: Send + 'static {
    /// What it gives.
    type Item: Send + 'static;

    /// The next item; `None` at its end.
    ///
    /// # Errors
    /// Whatever went wrong; the source is not asked again, and what follows was said when it was added.
    ///
    /// # Cancel safety
    /// When the pipeline stops, a call that waits is dropped: an item must not be half taken then.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Item>, Error>> + Send;

    /// How many items it will give in all, if it knows.
    fn total(&self) -> Option<u64> {
        None
    }
}

/// A source of what an iterator gives.
///
/// The iterator is called by a task of the runtime, so it must not block.
pub struct FromIter<I> {
    items: I,
    total: Option<u64>,
}

/// Makes a source of an iterator.
pub fn from_iter<I: IntoIterator>(items: I) -> FromIter<I::IntoIter> {
    let items = items.into_iter();
    let total = match items.size_hint() {
        (least, Some(most)) if least == most => Some(most as u64),
        _ => None,
    };
    FromIter { items, total }
}

impl<I> Source for FromIter<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Item = I::Item;

    async fn next(&mut self) -> Result<Option<I::Item>, Error> {
        Ok(self.items.next())
    }

    fn total(&self) -> Option<u64> {
        self.total
    }
}

/// What a source's task shares with the pipeline.
pub(crate) struct SourceSeat {
    pub(crate) stage: Arc<StageMeter>,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<Control>,
    pub(crate) on_error: OnSourceError,
}

impl SourceSeat {
    fn meter(&self) -> &WorkerMeter {
        &self.stage.workers[0]
    }

    /// Looks at the clock: so many items have come since the last time.
    fn lap(&self, items: u64) -> u64 {
        let now = self.clock.now();
        let spent = self.meter().enter(Doing::Busy, now);
        if self.clock.timed {
            self.meter().record(items, spent);
        }
        now
    }
}

/// An item on its way in; kept as unsent if the task is dropped.
struct Made<'s, T> {
    item: Option<T>,
    sender: &'s Sender<T>,
}

impl<T> Drop for Made<'_, T> {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.sender.shared.keep_unsent(0, item);
        }
    }
}

/// Pulls until the source ends or the pipeline stops.
pub(crate) async fn pull<S: Source>(mut source: S, sender: Sender<S::Item>, seat: SourceSeat) {
    seat.meter().enter(Doing::Busy, seat.clock.now());
    let (mut now, mut run) = (seat.clock.now(), 0);
    while !seat.control.is_stopping() {
        let mut waited = false;
        let next = {
            let mut future = pin!(source.next());
            poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(Poll::Ready(next)) => Poll::Ready(Some(next.map_err(Failure::of))),
                // What is there already was accepted: only a wait is broken off.
                Ok(Poll::Pending) if seat.control.is_stopping_or_tell(cx.waker()) => Poll::Ready(None),
                Ok(Poll::Pending) => {
                    waited = true;
                    Poll::Pending
                }
                Err(payload) => Poll::Ready(Some(Err(Failure::of_panic(&*payload)))),
            })
            .await
        };
        let item = match next {
            None | Some(Ok(None)) => break,
            Some(Ok(Some(item))) => item,
            Some(Err(failure)) => {
                add(&seat.stage.failed);
                if failure.panicked {
                    add(&seat.stage.panicked);
                }
                let source = seat.stage.name.clone();
                match seat.on_error {
                    OnSourceError::FailPipeline => {
                        seat.control.fail(PipelineError::Source { source, error: failure.error });
                    }
                    OnSourceError::EndSource => {
                        tracing::warn!(source, error = failure.error, "a source failed and ends")
                    }
                }
                break;
            }
        };
        seat.meter().took();
        run += 1;
        // Items that are there at once are timed in runs, as brisk operations are.
        if waited || run == RUN_MAX {
            now = seat.lap(run);
            run = 0;
        }
        if !give(item, &sender, &seat, now, &mut run).await {
            break;
        }
        consume_budget().await;
    }
    seat.meter().enter(Doing::Starved, seat.clock.now());
}

/// Puts an item in; false if the queue takes nothing any more.
async fn give<T>(item: T, sender: &Sender<T>, seat: &SourceSeat, now: u64, run: &mut u64) -> bool {
    if let Err(item) = sender.shared.try_put(item, Some(now)) {
        let bytes = sender.weigh(&item);
        let mut made = Made { item: Some(item), sender };
        let now = if *run > 0 { seat.lap(std::mem::take(run)) } else { now };
        seat.meter().enter(Doing::Blocked, now);
        let mut wait = RoomWait::new(&sender.shared, bytes);
        let room = poll_fn(|cx| Pin::new(&mut wait).poll(cx)).await;
        let after = seat.clock.now();
        seat.meter().enter(Doing::Busy, after);
        let Some(item) = made.item.take_if(|_| room) else { return false };
        sender.shared.put_kept(item, bytes, Some(after));
        sender.shared.blocked_for(after.saturating_sub(now));
    }
    seat.meter().gave(1);
    true
}

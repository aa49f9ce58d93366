//! One worker of a stage: it takes, operates, gives, and says at each moment which of these it does.
//!
//! A stage of concurrency N is N such tasks, for as long as the pipeline runs: so no more than N operations
//! are ever in progress, and no task is made for an item. What a worker holds lies in guards: when its task is
//! aborted, they hand the item back.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::task::coop::consume_budget;

use crate::clock::Clock;
use crate::control::Control;
use crate::failure::{Decision, Failure, Last, PipelineError, Policy, Quarantined};
use crate::give::Output;
use crate::meter::{Doing, WorkerMeter};
use crate::operation::Operation;
use crate::queue::{RoomWait, Shared, Taken, Taker};
use crate::stage::{StageMeter, add};
use crate::sync::Arc;
use crate::turn::Turn;
use crate::window::Window;

/// An operation that took no longer, without waiting, will do so again: no other worker has to be woken for
/// the next item, as this one is back sooner.
const BRISK_NS: u64 = 20_000;
/// So many brisk operations in a row are timed as one, as asking the clock costs more than they do: each counts with
/// their mean. The times of the states stay exact, for the worker is busy all the while.
pub(crate) const RUN_MAX: u64 = 8;

/// A worker's place: its end of the queue and its book.
pub(crate) struct Seat<In> {
    pub(crate) taker: Taker<In>,
    pub(crate) stage: Arc<StageMeter>,
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    /// The last look at the clock.
    pub(crate) now: u64,
    alone: bool,
    brisk: bool,
    pub(crate) pended: bool,
    /// Brisk operations since the last look at the clock.
    run: u64,
    bin: u64,
}

impl<In> Seat<In> {
    pub(crate) fn new(input: &Arc<Shared<In>>, stage: &Arc<StageMeter>, index: usize, clock: Clock) -> Self {
        Self {
            taker: Taker::new(input),
            stage: stage.clone(),
            index,
            clock,
            now: 0,
            alone: stage.workers.len() == 1,
            brisk: false,
            pended: false,
            run: 0,
            bin: 0,
        }
    }

    pub(crate) fn meter(&self) -> &WorkerMeter {
        &self.stage.workers[self.index]
    }

    /// Does something else from now on; answers how long the former took, in ns.
    pub(crate) fn enter(&mut self, doing: Doing) -> u64 {
        if self.clock.timed {
            self.now = self.clock.read();
            // Before anything of the new bin is counted.
            if Window::bin(self.now) != self.bin {
                self.bin = Window::bin(self.now);
                self.stage.turn_window(self.now);
            }
            self.meter().enter(doing, self.now)
        } else {
            self.meter().enter(doing, 0)
        }
    }

    /// Polls what may have to be waited for. The wait is spent in `doing`; afterwards the worker is busy again.
    pub(crate) async fn wait<T>(
        &mut self,
        doing: Doing,
        mut poll: impl FnMut(&mut Self, &mut std::task::Context<'_>) -> Poll<T>,
    ) -> T {
        let mut waited = false;
        let ready = poll_fn(|cx| {
            if waited && (self.clock.timed || !self.alone) {
                self.now = self.clock.read();
            }
            let polled = poll(self, cx);
            if polled.is_pending() && !waited {
                waited = true;
                if doing != Doing::Starved {
                    self.taker.waits();
                }
                let spent = self.enter(doing);
                if self.run > 0 {
                    self.record_run(spent);
                }
            }
            polled
        })
        .await;
        if waited {
            self.enter(Doing::Busy);
        }
        ready
    }

    async fn take(&mut self, turn: Option<&Turn>) -> Option<Held<In>> {
        let soon = self.brisk && !self.alone;
        // Only at the first look: whoever is woken is woken to take.
        let mut after = turn.filter(|_| soon);
        let taken = self.wait(Doing::Starved, |seat, cx| {
            let now = Some(seat.now);
            seat.taker.poll_take(soon, after.take(), now, cx)
        });
        let taken = taken.await;
        let Some(taken) = taken else {
            self.enter(Doing::Starved);
            return None;
        };
        self.meter().took();
        self.pended = false;
        Some(Held::new(taken, &self.taker.shared))
    }

    /// The operation is over.
    fn operated(&mut self, records: bool) {
        self.run += 1;
        if records && self.brisk && !self.pended && self.run < RUN_MAX {
            return;
        }
        if !self.clock.timed {
            // Only to know whether they are brisk.
            let now = if self.alone { 0 } else { self.clock.read() };
            self.brisk = !self.pended && now.saturating_sub(self.now) < BRISK_NS * self.run;
            (self.now, self.run) = (now, 0);
            return;
        }
        let spent = self.enter(Doing::Busy);
        if records {
            self.record_run(spent);
        }
        self.run = 0;
    }

    fn record_run(&mut self, spent: u64) {
        if self.clock.timed {
            self.meter().record(self.run, spent);
        }
        self.brisk = !self.pended && spent < BRISK_NS * self.run;
        self.run = 0;
    }
}

/// An item in an operation; handed back if the worker is dropped.
pub(crate) struct Held<In> {
    pub(crate) item: Option<In>,
    pub(crate) number: u64,
    key: Option<u64>,
    home: Arc<Shared<In>>,
}

impl<In> Held<In> {
    fn new(taken: Taken<In>, home: &Arc<Shared<In>>) -> Self {
        Self { item: Some(taken.item), number: taken.number, key: taken.key, home: home.clone() }
    }
}

impl<In> Drop for Held<In> {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.home.hand_back(self.number, item);
        }
    }
}

/// How a stage operates: by itself, or on a pool.
pub(crate) trait Exec<In>: Send + 'static {
    /// What it makes.
    type Out: Send + 'static;
    /// Whether it keeps the latency by itself.
    const RECORDS: bool;

    /// One attempt. The item is in `held` again when it returns.
    fn exec(
        &mut self,
        held: &mut Held<In>,
        seat: &mut Seat<In>,
    ) -> impl Future<Output = Result<Self::Out, Failure>> + Send;
}

/// An asynchronous operation, in the worker's task.
pub(crate) struct ByItself<Op>(pub(crate) Arc<Op>);

impl<In: Send + 'static, Op: Operation<In>> Exec<In> for ByItself<Op> {
    type Out = Op::Out;
    const RECORDS: bool = false;

    async fn exec(&mut self, held: &mut Held<In>, seat: &mut Seat<In>) -> Result<Op::Out, Failure> {
        let item = held.item.as_mut().expect("it is taken out only once the operation is over");
        // Within the future, so that a panic before its first await is caught as well.
        let mut future = pin!(async { self.0.run(item).await });
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(outcome)) => Poll::Ready(outcome.map_err(Failure::of)),
            Ok(Poll::Pending) => {
                seat.pended = true;
                seat.taker.delays();
                Poll::Pending
            }
            Err(payload) => Poll::Ready(Err(Failure::of_panic(&*payload))),
        })
        .await
    }
}

/// What all workers of a stage share beside their book.
pub(crate) struct Rules<In> {
    pub(crate) policy: Policy<In>,
    pub(crate) control: Arc<Control>,
}

/// Works until end-of-stream, until nobody takes the results, or until the pipeline fails here.
pub(crate) async fn work<In, E>(mut seat: Seat<In>, mut exec: E, output: Output<E::Out>, rules: Arc<Rules<In>>)
where
    In: Send + 'static,
    E: Exec<In>,
{
    // Until it waits for an item it is at work: so a first item that is there already is no wait.
    seat.enter(Doing::Busy);
    while let Some(mut held) = seat.take(output.turn.as_deref()).await {
        let (number, mut attempt) = (held.number, 1);
        let goes_on = loop {
            let failure = match exec.exec(&mut held, &mut seat).await {
                Ok(value) => {
                    seat.operated(!E::RECORDS);
                    held.item = None;
                    break output.give(value, number, &mut seat).await;
                }
                Err(failure) => failure,
            };
            if failure.panicked {
                add(&seat.stage.panicked);
            }
            match rules.policy.decide(failure.panicked, number, attempt) {
                Decision::Retry(pause) => {
                    add(&seat.stage.retried);
                    seat.enter(Doing::Busy);
                    attempt += 1;
                    seat.pended = true;
                    seat.taker.delays();
                    tokio::time::sleep(pause).await;
                }
                decision => {
                    seat.operated(!E::RECORDS);
                    break rules.give_up(decision, failure, attempt, &mut held, &mut seat, &output).await;
                }
            }
        };
        if !goes_on {
            // Whoever waits for the turn after this one would wait for ever.
            output.break_off();
            return;
        }
        let key = held.key;
        drop(held);
        seat.taker.frees(key);
        consume_budget().await;
    }
}

impl<In: Send + 'static> Rules<In> {
    /// Does what was decided about an item that failed for good; false if the worker is to end.
    async fn give_up<Out>(
        &self,
        decision: Decision,
        failure: Failure,
        attempts: u32,
        held: &mut Held<In>,
        seat: &mut Seat<In>,
        output: &Output<Out>,
    ) -> bool {
        let stage = seat.stage.clone();
        add(&stage.failed);
        let Failure { error, panicked } = failure;
        match decision {
            Decision::Fail | Decision::Retry(_) => {
                let stage = stage.name.clone();
                self.fail(PipelineError::Stage { stage, attempt: attempts, panicked, error }, seat);
                return false;
            }
            Decision::Skip => {
                add(&stage.skipped);
                tracing::debug!(stage = stage.name, error, panicked, attempts, "an item is skipped");
                held.item = None;
            }
            Decision::Quarantine => {
                if let Some(item) = held.item.take() {
                    self.quarantine(Quarantined { stage: stage.name.clone(), item, error, attempts }, held, seat).await;
                }
            }
        }
        if let Some((limit, failed, of)) = stage.over(self.policy.limit, seat.now) {
            let stage = stage.name.clone();
            self.fail(PipelineError::TooMany { stage, failed, of, limit }, seat);
            return false;
        }
        output.pass(held.number, seat).await
    }

    fn fail(&self, error: PipelineError, seat: &Seat<In>) {
        self.control.fail(error);
        seat.taker.shared.close();
    }

    async fn quarantine(&self, failed: Quarantined<In>, held: &mut Held<In>, seat: &mut Seat<In>) {
        let counter = match &self.policy.last {
            Last::Quarantine(quarantine) => {
                // The item stays the worker's until there is room, so that an abort hands it back.
                let Quarantined { stage, item, error, attempts } = failed;
                held.item = Some(item);
                let mut wait = RoomWait::new(&quarantine.sender.shared, size_of::<Quarantined<In>>());
                let room = seat.wait(Doing::Blocked, |_, cx| Pin::new(&mut wait).poll(cx)).await;
                match held.item.take() {
                    Some(item) if room => {
                        let failed = Quarantined { stage, item, error, attempts };
                        quarantine.sender.shared.put_kept(failed, size_of::<Quarantined<In>>(), Some(seat.now));
                        &seat.stage.quarantined
                    }
                    _ => &seat.stage.skipped,
                }
            }
            Last::Call(take) => match catch_unwind(AssertUnwindSafe(|| take(failed))) {
                Ok(()) => &seat.stage.quarantined,
                Err(_) => &seat.stage.skipped,
            },
            Last::Fail | Last::Skip => &seat.stage.skipped,
        };
        add(counter);
    }
}

//! CPU work on threads of its own: a pool, and the slots through which workers reach it.
//!
//! Each worker of a CPU stage has one slot, used again for every item, so an operation allocates nothing. The
//! pool's line is bounded by the number of slots, which the builder holds to what the pool `holds`.
//! Invariant: an item is in the slot, with the thread that operates on it, or back with the worker. When the
//! worker is gone, the thread hands the item back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::failure::{Error, Failure};
use crate::meter::Doing;
use crate::queue::Shared;
use crate::stage::StageMeter;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::worker::{Exec, Held, Seat};

/// What a CPU stage does with an item.
pub(crate) type CpuFn<In, Out> = Arc<dyn Fn(&mut In) -> Result<Out, Error> + Send + Sync>;

/// Something to be done by a pool's thread.
pub(crate) trait Job: Send + Sync {
    fn run(&self);
}

/// A pool's threads and their line of jobs.
pub(crate) struct Crew {
    line: Mutex<Jobs>,
    wake: Condvar,
    /// Operations whose worker is gone, and that still run.
    abandoned: AtomicUsize,
    ended: Notify,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Arc<dyn Job>>,
    idle: usize,
    stop: bool,
}

impl Crew {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            line: Mutex::default(),
            wake: Condvar::new(),
            abandoned: AtomicUsize::new(0),
            ended: Notify::new(),
        })
    }

    pub(crate) fn submit(&self, job: Arc<dyn Job>) {
        let mut jobs = lock(&self.line);
        jobs.waiting.push_back(job);
        let somebody_sleeps = jobs.idle > 0;
        drop(jobs);
        if somebody_sleeps {
            self.wake.notify_one();
        }
    }

    /// Does jobs until the pool stops and none is left.
    pub(crate) fn work(&self) {
        let mut jobs = lock(&self.line);
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                drop(jobs);
                job.run();
                drop(job);
                jobs = lock(&self.line);
            } else if jobs.stop {
                return;
            } else {
                jobs.idle += 1;
                jobs = self.wake.wait(jobs).unwrap_or_else(std::sync::PoisonError::into_inner);
                jobs.idle -= 1;
            }
        }
    }

    pub(crate) fn stop(&self) {
        lock(&self.line).stop = true;
        self.wake.notify_all();
    }

    /// Waits until operations without a worker have ended, at most `within`; answers how many have not.
    pub(crate) async fn settle(&self, within: Duration) -> usize {
        let all = async {
            while self.abandoned.load(Ordering::SeqCst) > 0 {
                self.ended.notified().await;
            }
        };
        let _ = tokio::time::timeout(within, all).await;
        self.abandoned.load(Ordering::SeqCst)
    }
}

/// A worker's way to the pool.
pub(crate) struct Slot<In, Out> {
    state: Mutex<State<In, Out>>,
    run: CpuFn<In, Out>,
    crew: Arc<Crew>,
    stage: Arc<StageMeter>,
    index: usize,
    clock: Clock,
    home: Arc<Shared<In>>,
}

struct State<In, Out> {
    phase: Phase<In, Out>,
    number: u64,
    waker: Option<Waker>,
    /// The worker is gone.
    abandoned: bool,
}

enum Phase<In, Out> {
    Empty,
    Waiting(In),
    Running,
    Done(In, Result<Out, Failure>),
}

impl<In, Out> Slot<In, Out> {
    pub(crate) fn new(run: CpuFn<In, Out>, crew: &Arc<Crew>, seat: &Seat<In>) -> Arc<Self> {
        let state = State { phase: Phase::Empty, number: 0, waker: None, abandoned: false };
        Arc::new(Self {
            state: Mutex::new(state),
            run,
            crew: crew.clone(),
            stage: seat.stage.clone(),
            index: seat.index,
            clock: seat.clock,
            home: seat.taker.shared.clone(),
        })
    }

    /// Puts an item in; the slot is then to be submitted.
    pub(crate) fn fill(&self, number: u64, item: In) {
        let mut state = lock(&self.state);
        state.number = number;
        state.phase = Phase::Waiting(item);
    }

    pub(crate) fn poll_done(&self, waker: &Waker) -> Poll<(In, Result<Out, Failure>)> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut state.phase, Phase::Empty) {
            Phase::Done(item, outcome) => Poll::Ready((item, outcome)),
            other => {
                state.phase = other;
                match &mut state.waker {
                    Some(known) => known.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                Poll::Pending
            }
        }
    }

    /// The worker goes: what has not begun is handed back, what runs will be by its thread.
    pub(crate) fn abandon(&self) {
        let mut state = lock(&self.state);
        state.abandoned = true;
        match std::mem::replace(&mut state.phase, Phase::Empty) {
            Phase::Waiting(item) | Phase::Done(item, _) => self.home.hand_back(state.number, item),
            Phase::Running => {
                self.crew.abandoned.fetch_add(1, Ordering::SeqCst);
                state.phase = Phase::Running;
            }
            Phase::Empty => {}
        }
    }
}

impl<In: Send, Out: Send> Job for Slot<In, Out> {
    fn run(&self) {
        let mut item = {
            let mut state = lock(&self.state);
            match std::mem::replace(&mut state.phase, Phase::Running) {
                Phase::Waiting(item) => item,
                other => {
                    state.phase = other;
                    return;
                }
            }
        };
        let meter = &self.stage.workers[self.index];
        meter.enter(Doing::Busy, self.clock.now());
        let outcome = match catch_unwind(AssertUnwindSafe(|| (self.run)(&mut item))) {
            Ok(outcome) => outcome.map_err(Failure::of),
            Err(payload) => Err(Failure::of_panic(&*payload)),
        };
        let spent = meter.enter(Doing::PoolWait, self.clock.now());
        if self.clock.timed {
            meter.record(1, spent);
        }
        let mut state = lock(&self.state);
        if state.abandoned {
            state.phase = Phase::Empty;
            self.home.hand_back(state.number, item);
            drop(state);
            self.crew.abandoned.fetch_sub(1, Ordering::SeqCst);
            self.crew.ended.notify_one();
            return;
        }
        state.phase = Phase::Done(item, outcome);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// An operation on a pool.
pub(crate) struct OnPool<In: Send + 'static, Out: Send + 'static> {
    pub(crate) slot: Arc<Slot<In, Out>>,
    pub(crate) crew: Arc<Crew>,
    /// Stops the pool when the last worker is gone.
    pub(crate) _lease: Arc<Lease>,
}

/// Held by whoever may still need the pool.
pub(crate) struct Lease(pub(crate) Arc<Crew>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<In: Send + 'static, Out: Send + 'static> Exec<In> for OnPool<In, Out> {
    type Out = Out;
    const RECORDS: bool = true;

    async fn exec(&mut self, held: &mut Held<In>, seat: &mut Seat<In>) -> Result<Out, Failure> {
        seat.enter(Doing::PoolWait);
        seat.pended = true;
        seat.taker.delays();
        let item = held.item.take().expect("it is back here after every attempt");
        self.slot.fill(held.number, item);
        self.crew.submit(self.slot.clone());
        let (item, outcome) = poll_fn(|cx| self.slot.poll_done(cx.waker())).await;
        held.item = Some(item);
        outcome
    }
}

impl<In: Send + 'static, Out: Send + 'static> Drop for OnPool<In, Out> {
    fn drop(&mut self) {
        self.slot.abandon();
    }
}

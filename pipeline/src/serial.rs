//! The worker of a stage with a state of its own, and the one that aggregates.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use crate::meter::Doing;
use crate::operation::Stage;
use crate::queue::{RoomWait, Sender, Shared};
use crate::stage::{StageMeter, add};
use crate::sync::Arc;
use crate::worker::Seat;

/// How long a stage that panicked when its deadline came is not woken for it again.
const MUTED_FOR: Duration = Duration::from_secs(1);
/// Items that waited already when a deadline passed and may still join what it ends: without them a
/// stage that lags would end each gathering after one item, and lag the more.
const JOINING_MAX: u32 = 256;

enum Call<T> {
    Item(T),
    Deadline,
    Finish,
}

/// Waits for the next item, at most until `deadline`.
async fn next<T>(seat: &mut Seat<T>, deadline: Option<Instant>) -> Call<(u64, T)> {
    let mut timer = pin!(deadline.map(tokio::time::sleep_until));
    seat.wait(Doing::Starved, |seat, cx| {
        if let Poll::Ready(taken) = seat.taker.poll_take(false, None, Some(seat.now), cx) {
            return Poll::Ready(taken.map_or(Call::Finish, |taken| Call::Item((taken.number, taken.item))));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| Call::Deadline),
            None => Poll::Pending,
        }
    })
    .await
}

/// Items made and not given yet; kept as unsent if the worker is dropped.
struct Made<T> {
    items: VecDeque<T>,
    home: Arc<Shared<T>>,
}

impl<T> Drop for Made<T> {
    fn drop(&mut self) {
        // All of one worker, so the order in which they come here is theirs.
        self.items.drain(..).for_each(|item| self.home.keep_unsent(0, item));
    }
}

impl<T> Made<T> {
    fn new(sender: &Sender<T>) -> Self {
        Self { items: VecDeque::new(), home: sender.shared.clone() }
    }

    /// Gives all away; false if nobody takes them any more.
    async fn give<In>(&mut self, sender: &Sender<T>, seat: &mut Seat<In>) -> bool {
        while let Some(item) = self.items.pop_front() {
            if let Err(item) = sender.shared.try_put(item, Some(seat.now)) {
                let bytes = sender.weigh(&item);
                self.items.push_front(item);
                let began = seat.now;
                let mut wait = RoomWait::new(&sender.shared, bytes);
                if !seat.wait(Doing::Blocked, |_, cx| Pin::new(&mut wait).poll(cx)).await {
                    return false;
                }
                let Some(item) = self.items.pop_front() else { return true };
                sender.shared.put_kept(item, bytes, Some(seat.now));
                sender.shared.blocked_for(seat.now.saturating_sub(began));
            }
            seat.meter().gave(1);
        }
        true
    }
}

/// The stage itself. When its worker is dropped before the end, it is finished, and what it gives is kept.
struct Finishing<S: Stage> {
    stage: S,
    home: Arc<Shared<S::Out>>,
    finished: bool,
}

impl<S: Stage> Drop for Finishing<S> {
    fn drop(&mut self) {
        if !self.finished {
            let mut out = Vec::new();
            // A panic here must not become an abort of the process.
            let _ = catch_unwind(AssertUnwindSafe(|| self.stage.finish(&mut out)));
            out.into_iter().for_each(|item| self.home.keep_unsent(u64::MAX, item));
        }
    }
}

/// Runs a stage until end-of-stream, or until nobody takes what it gives.
pub(crate) async fn run<S: Stage>(stage: S, mut seat: Seat<S::In>, output: Sender<S::Out>) {
    let mut guard = Finishing { stage, home: output.shared.clone(), finished: false };
    let mut made = Made::new(&output);
    let mut out = Vec::new();
    let mut joining = 0;
    let mut muted: Option<Instant> = None;
    seat.enter(Doing::Busy);
    loop {
        let stage = &guard.stage;
        let deadline = match catch_unwind(AssertUnwindSafe(|| stage.deadline())) {
            // One that panicked when it was woken is woken again after a while: it would be due at once, for ever.
            Ok(deadline) => deadline.map(Instant::from_std).map(|at| muted.map_or(at, |muted| at.max(muted))),
            Err(_) => {
                panicked(&seat.stage);
                None
            }
        };
        let call = if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            // A deadline that has passed goes before all but a few: a flood of input must not hold back
            // what is old.
            let waiting = if joining < JOINING_MAX { seat.taker.try_take(Some(seat.now)) } else { None };
            joining = if waiting.is_some() { joining + 1 } else { 0 };
            waiting.map_or(Call::Deadline, |taken| Call::Item((taken.number, taken.item)))
        } else {
            joining = 0;
            next(&mut seat, deadline).await
        };
        guard.finished = matches!(call, Call::Finish);
        let (is_item, is_deadline) = (matches!(call, Call::Item(_)), matches!(call, Call::Deadline));
        if is_item {
            seat.meter().took();
        }
        let stage = &mut guard.stage;
        let outcome = catch_unwind(AssertUnwindSafe(|| match call {
            Call::Item((_, item)) => stage.process(item, &mut out),
            Call::Deadline => stage.on_deadline(Instant::now().into_std(), &mut out),
            Call::Finish => stage.finish(&mut out),
        }));
        let spent = seat.enter(Doing::Busy);
        if is_item && seat.clock.timed {
            seat.meter().record(1, spent);
        }
        if outcome.is_err() {
            panicked(&seat.stage);
        }
        if is_deadline {
            muted = outcome.is_err().then(|| Instant::now() + MUTED_FOR);
        }
        made.items.extend(out.drain(..));
        if !made.give(&output, &mut seat).await {
            return;
        }
        if guard.finished {
            seat.enter(Doing::Starved);
            return;
        }
        consume_budget().await;
    }
}

/// A stage panicked: a failure of what it was called for, and never an end of stream.
fn panicked(stage: &StageMeter) {
    [&stage.failed, &stage.panicked, &stage.skipped].into_iter().for_each(add);
    tracing::error!(stage = stage.name, "a stage panicked on one item and goes on: please report this");
}

/// A bound in bytes, and how an item is weighed.
type BytesMax<T> = (usize, fn(&T) -> usize);

/// When a batch is complete: whichever bound comes first.
pub struct Aggregate<T> {
    pub(crate) items: Option<usize>,
    pub(crate) bytes: Option<BytesMax<T>>,
    pub(crate) age: Option<Duration>,
}

impl<T> Default for Aggregate<T> {
    fn default() -> Self {
        Self { items: None, bytes: None, age: None }
    }
}

impl<T> Aggregate<T> {
    /// No bound yet; one at least is needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most so many items.
    #[must_use]
    pub const fn items(mut self, items_max: usize) -> Self {
        self.items = Some(items_max);
        self
    }

    /// At most so many bytes, as `weigh` says; an item that is larger makes a batch of its own.
    #[must_use]
    pub const fn bytes(mut self, bytes_max: usize, weigh: fn(&T) -> usize) -> Self {
        self.bytes = Some((bytes_max, weigh));
        self
    }

    /// At most so long after its first item was taken, whether or not anything comes.
    #[must_use]
    pub const fn age(mut self, age_max: Duration) -> Self {
        self.age = Some(age_max);
        self
    }

    fn weigh(&self, item: &T) -> usize {
        self.bytes.map_or(0, |(_, weigh)| weigh(item))
    }

    fn is_full(&self, items: usize, bytes: usize) -> bool {
        self.items.is_some_and(|max| items >= max) || self.bytes.is_some_and(|(max, _)| bytes >= max)
    }

    fn overflows(&self, bytes: usize) -> bool {
        self.bytes.is_some_and(|(max, _)| bytes > max)
    }
}

/// As the graph shows it.
impl<T> std::fmt::Display for Aggregate<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let items = self.items.map(|items| format!("{items} items"));
        let bytes = self.bytes.map(|(bytes, _)| format!("{bytes} bytes"));
        let age = self.age.map(|age| format!("{age:?}"));
        write!(f, "{}", [items, bytes, age].into_iter().flatten().collect::<Vec<_>>().join(" or "))
    }
}

/// A batch being gathered; its items are handed back if the worker is dropped.
struct Gathered<T> {
    items: Vec<T>,
    first: u64,
    bytes: usize,
    since: Option<Instant>,
    home: Arc<Shared<T>>,
}

impl<T> Drop for Gathered<T> {
    fn drop(&mut self) {
        let numbers = self.first..;
        numbers.zip(self.items.drain(..)).for_each(|(number, item)| self.home.hand_back(number, item));
    }
}

impl<T> Gathered<T> {
    fn add(&mut self, number: u64, item: T, bytes: usize) {
        if self.items.is_empty() {
            (self.first, self.since) = (number, Some(Instant::now()));
        }
        self.items.push(item);
        self.bytes += bytes;
    }

    /// The batch; the next begins with room for as many.
    fn take(&mut self) -> Vec<T> {
        (self.bytes, self.since) = (0, None);
        let next = Vec::with_capacity(self.items.len());
        std::mem::replace(&mut self.items, next)
    }
}

/// Gathers until end-of-stream, or until nobody takes the batches.
pub(crate) async fn aggregate<T: Send + 'static>(rule: Aggregate<T>, mut seat: Seat<T>, output: Sender<Vec<T>>) {
    let mut made = Made::new(&output);
    let mut gathered = Gathered { items: Vec::new(), first: 0, bytes: 0, since: None, home: seat.taker.shared.clone() };
    seat.enter(Doing::Busy);
    loop {
        // An age beyond the end of time is none.
        let deadline = rule.age.and_then(|age| gathered.since?.checked_add(age));
        // A flood of input must not hold back what is old.
        let call = if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Call::Deadline
        } else {
            next(&mut seat, deadline).await
        };
        let last = matches!(call, Call::Finish);
        match call {
            Call::Item((number, item)) => {
                seat.meter().took();
                let bytes = rule.weigh(&item);
                if !gathered.items.is_empty() && rule.overflows(gathered.bytes.saturating_add(bytes)) {
                    made.items.push_back(gathered.take());
                }
                gathered.add(number, item, bytes);
                if rule.is_full(gathered.items.len(), gathered.bytes) {
                    made.items.push_back(gathered.take());
                }
            }
            Call::Deadline | Call::Finish if !gathered.items.is_empty() => made.items.push_back(gathered.take()),
            Call::Deadline | Call::Finish => {}
        }
        if !made.items.is_empty() {
            let spent = seat.enter(Doing::Busy);
            if seat.clock.timed {
                seat.meter().record(1, spent);
            }
            if !made.give(&output, &mut seat).await {
                return;
            }
        }
        if last {
            seat.enter(Doing::Starved);
            return;
        }
        consume_budget().await;
    }
}

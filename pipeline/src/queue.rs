//! A queue bounded in items and in bytes, for any number of senders and takers.
//!
//! Senders that wait for room are served in the order in which they came; a place that becomes free is kept
//! for the first of them, so nobody overtakes. A taker is woken only if no other is about to look: one that
//! is already awake takes the next item itself, and wakes another if more wait. Wakeups are what costs.
//!
//! Invariants: items in it plus places kept never exceed the bound; nor do bytes, save that an item larger
//! than the bound passes when it is alone. An item that was taken and not finished comes back by
//! [`Shared::hand_back`], one that was made and found no room by [`Shared::keep_unsent`]: nothing is lost.
//! Deliberately absent: any knowledge of the runtime; it works with wakers alone.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::clock::Clock;
use crate::line::{Entry, KeyOf, Line};
use crate::sync::{Arc, Mutex, lock};

mod ends;
mod gauge;

pub use ends::{Receiver, Room, SendError, Sender, queue};
pub(crate) use ends::{RoomWait, Taker};
use gauge::Gauge;
pub use gauge::QueueSnapshot;

/// How much a queue may hold, and how an item is weighed.
pub struct Bounds<T> {
    /// Items at most.
    pub items: usize,
    /// Bytes at most.
    pub bytes: usize,
    /// The weight of an item in bytes.
    pub weigh: fn(&T) -> usize,
}

impl<T> Bounds<T> {
    /// Bounds for items of a fixed size: their bytes are those of the type itself, times `items`.
    #[must_use]
    pub fn items(items: usize) -> Self {
        let size = size_of::<T>();
        Self { items, bytes: items.saturating_mul(size.max(1)), weigh: |_| size_of::<T>() }
    }
}

impl<T> Clone for Bounds<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Bounds<T> {}

/// An item that was taken.
pub(crate) struct Taken<T> {
    pub(crate) item: T,
    /// Its number in the order of taking.
    pub(crate) number: u64,
    pub(crate) key: Option<u64>,
}

/// The queue itself.
pub(crate) struct Shared<T> {
    pub(crate) name: String,
    pub(crate) bounds: Bounds<T>,
    pub(crate) clock: Clock,
    state: Mutex<State<T>>,
}

struct State<T> {
    line: Line<T>,
    /// Places that are kept for somebody, and their bytes.
    kept: usize,
    /// Bytes in the line and kept.
    bytes: usize,
    senders: usize,
    takers: usize,
    /// Nothing is taken any more.
    closed: bool,
    /// Who waits for room.
    waiting: VecDeque<Waiting>,
    /// Whose turn has come: a place is kept for each.
    granted: Vec<u64>,
    /// Takers that sleep.
    asleep: VecDeque<(usize, Waker)>,
    /// Takers that were woken and have not looked yet.
    searching: usize,
    /// Takers that will look very soon, as their operation is short.
    coming: usize,
    next_ticket: u64,
    taken: u64,
    /// Taken and not finished, by number.
    returned: Vec<(u64, T)>,
    /// Made and not sent, by number.
    unsent: Vec<(u64, T)>,
    gauge: Gauge,
}

struct Waiting {
    ticket: u64,
    bytes: usize,
    waker: Waker,
}

/// Whom to wake once the lock is given back.
#[derive(Default)]
struct Wakes {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakes {
    fn add(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.more.push(waker);
        }
    }

    fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
    }
}

impl<T> State<T> {
    fn fits(&self, bounds: &Bounds<T>, bytes: usize) -> bool {
        let places = self.line.len() + self.kept;
        places == 0 || (places < bounds.items && self.bytes.saturating_add(bytes) <= bounds.bytes)
    }

    fn is_full(&self, bounds: &Bounds<T>) -> bool {
        !self.waiting.is_empty() || self.line.len() + self.kept >= bounds.items || self.bytes >= bounds.bytes
    }

    /// Keeps places for those who wait, as far as there is room.
    fn grant(&mut self, bounds: &Bounds<T>, wakes: &mut Wakes) {
        while let Some(first) = self.waiting.front()
            && self.fits(bounds, first.bytes)
            && let Some(first) = self.waiting.pop_front()
        {
            self.kept += 1;
            self.bytes = self.bytes.saturating_add(first.bytes);
            self.granted.push(first.ticket);
            wakes.add(first.waker);
        }
    }

    /// Wakes a taker if something waits that nobody is about to take.
    fn rouse(&mut self, wakes: &mut Wakes) {
        if self.searching == 0
            && self.coming == 0
            && self.line.is_ready()
            && let Some((_, waker)) = self.asleep.pop_front()
        {
            self.searching += 1;
            wakes.add(waker);
        }
    }

    fn rouse_all(&mut self, wakes: &mut Wakes) {
        self.searching += self.asleep.len();
        self.asleep.drain(..).for_each(|(_, waker)| wakes.add(waker));
    }

    fn close(&mut self, wakes: &mut Wakes) {
        self.closed = true;
        self.waiting.drain(..).for_each(|waiting| wakes.add(waiting.waker));
        self.rouse_all(wakes);
    }
}

impl<T> Shared<T> {
    pub(crate) fn new(name: &str, bounds: Bounds<T>, clock: Clock) -> Arc<Self> {
        let state = State {
            line: Line::new(),
            kept: 0,
            bytes: 0,
            senders: 0,
            takers: 0,
            closed: false,
            waiting: VecDeque::new(),
            granted: Vec::new(),
            asleep: VecDeque::new(),
            searching: 0,
            coming: 0,
            next_ticket: 0,
            taken: 0,
            returned: Vec::new(),
            unsent: Vec::new(),
            gauge: Gauge::new(clock.now()),
        };
        Arc::new(Self { name: name.into(), bounds, clock, state: Mutex::new(state) })
    }

    pub(crate) fn key_by(&self, key_of: KeyOf<T>) {
        lock(&self.state).line.key_by(key_of);
    }

    /// Puts `item` in if there is room and nobody waits before it. `now` is the caller's look at the clock, if it
    /// has just had one.
    pub(crate) fn try_put(&self, item: T, now: Option<u64>) -> Result<(), T> {
        let bytes = (self.bounds.weigh)(&item);
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        if state.closed || !state.waiting.is_empty() || !state.fits(&self.bounds, bytes) {
            return Err(item);
        }
        state.bytes = state.bytes.saturating_add(bytes);
        self.push(&mut state, Entry { item, bytes }, now, &mut wakes);
        drop(state);
        wakes.wake();
        Ok(())
    }

    fn push(&self, state: &mut State<T>, entry: Entry<T>, now: Option<u64>, wakes: &mut Wakes) {
        state.line.push(entry);
        let full = state.is_full(&self.bounds);
        state.gauge.changed(state.line.len(), full, || now.unwrap_or_else(|| self.clock.now()));
        state.rouse(wakes);
    }

    /// Waits for a place for `bytes`. True once one is kept, false if the queue is closed.
    fn poll_room(&self, ticket: &mut Option<u64>, bytes: usize, cx: &Context<'_>) -> Poll<bool> {
        let mut state = lock(&self.state);
        if let Some(mine) = *ticket {
            if let Some(index) = state.granted.iter().position(|granted| *granted == mine) {
                state.granted.swap_remove(index);
                *ticket = None;
                return Poll::Ready(true);
            }
            if state.closed {
                *ticket = None;
                return Poll::Ready(false);
            }
            if let Some(waiting) = state.waiting.iter_mut().find(|waiting| waiting.ticket == mine) {
                waiting.waker.clone_from(cx.waker());
            }
            return Poll::Pending;
        }
        if state.closed {
            return Poll::Ready(false);
        }
        if state.waiting.is_empty() && state.fits(&self.bounds, bytes) {
            state.kept += 1;
            state.bytes = state.bytes.saturating_add(bytes);
            return Poll::Ready(true);
        }
        let mine = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Waiting { ticket: mine, bytes, waker: cx.waker().clone() });
        *ticket = Some(mine);
        Poll::Pending
    }

    /// Whoever waited has gone: its place in the line, or the one kept for it, is free for the next.
    fn cancel_room(&self, ticket: u64, bytes: usize) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        if let Some(index) = state.granted.iter().position(|granted| *granted == ticket) {
            state.granted.swap_remove(index);
            self.unkeep(&mut state, bytes);
        }
        state.waiting.retain(|waiting| waiting.ticket != ticket);
        state.grant(&self.bounds, &mut wakes);
        drop(state);
        wakes.wake();
    }

    fn unkeep(&self, state: &mut State<T>, bytes: usize) {
        state.kept -= 1;
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Gives a kept place back.
    fn give_room_back(&self, bytes: usize) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        self.unkeep(&mut state, bytes);
        state.grant(&self.bounds, &mut wakes);
        drop(state);
        wakes.wake();
    }

    /// Puts an item into a kept place.
    pub(crate) fn put_kept(&self, item: T, bytes: usize, now: Option<u64>) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        state.kept -= 1;
        self.push(&mut state, Entry { item, bytes }, now, &mut wakes);
        drop(state);
        wakes.wake();
    }

    fn pop(&self, state: &mut State<T>, now: Option<u64>, wakes: &mut Wakes) -> Option<Taken<T>> {
        let (entry, key) = state.line.pop()?;
        state.bytes = state.bytes.saturating_sub(entry.bytes);
        state.grant(&self.bounds, wakes);
        let full = state.is_full(&self.bounds);
        state.gauge.changed(state.line.len(), full, || now.unwrap_or_else(|| self.clock.now()));
        let number = state.taken;
        state.taken += 1;
        if state.senders == 0 && state.line.len() == 0 {
            state.rouse_all(wakes);
        }
        Some(Taken { item: entry.item, number, key })
    }

    /// Nothing is taken any more: senders get their items back, what is in it stays to be handed back.
    pub(crate) fn close(&self) {
        let mut wakes = Wakes::default();
        lock(&self.state).close(&mut wakes);
        wakes.wake();
    }

    /// An item that was taken, and on which the operation did not end.
    pub(crate) fn hand_back(&self, number: u64, item: T) {
        lock(&self.state).returned.push((number, item));
    }

    /// An item that was made for this queue and found no room before the end.
    pub(crate) fn keep_unsent(&self, number: u64, item: T) {
        lock(&self.state).unsent.push((number, item));
    }

    /// Everything that passed what fills this queue and got no further, oldest first.
    pub(crate) fn take_left(&self) -> Vec<T> {
        let mut state = lock(&self.state);
        let mut returned = std::mem::take(&mut state.returned);
        returned.sort_by_key(|(number, _)| *number);
        let mut left: Vec<T> = returned.into_iter().map(|(_, item)| item).collect();
        left.extend(state.line.drain());
        let mut unsent = std::mem::take(&mut state.unsent);
        unsent.sort_by_key(|(number, _)| *number);
        left.extend(unsent.into_iter().map(|(_, item)| item));
        left
    }
}

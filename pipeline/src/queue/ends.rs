//! The two ends of a queue: what senders and takers hold.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Bounds, Shared, Taken, Wakes};
use crate::clock::Clock;
use crate::sync::{Arc, lock};
use crate::turn::Turn;

/// A queue called `name`, outside of any pipeline.
#[must_use]
pub fn queue<T>(name: &str, bounds: Bounds<T>) -> (Sender<T>, Receiver<T>) {
    let shared = Shared::new(name, bounds, Clock::new(true));
    (Sender::new(&shared), Receiver::new(&shared))
}

/// The way into a queue. Clones share it, and are served in turn.
pub struct Sender<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    pub(crate) fn new(shared: &Arc<Shared<T>>) -> Self {
        lock(&shared.state).senders += 1;
        Self { shared: shared.clone() }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self::new(&self.shared)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.shared.state);
        state.senders -= 1;
        if state.senders == 0 && state.line.len() == 0 {
            state.rouse_all(&mut wakes);
        }
        drop(state);
        wakes.wake();
    }
}

/// The queue takes nothing any more; the item comes back.
#[derive(Debug)]
pub struct SendError<T>(pub T);

impl<T> Sender<T> {
    /// Waits for room, then puts `item` in.
    ///
    /// # Errors
    /// Gives the item back if the queue takes nothing any more.
    ///
    /// # Cancel safety
    /// If dropped before it returns, the item is dropped with it: callers that may be cancelled use
    /// [`Self::room`] first.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        let item = match self.shared.try_put(item, None) {
            Ok(()) => return Ok(()),
            Err(item) => item,
        };
        match self.room(self.weigh(&item)).await {
            Some(room) => {
                room.put(item);
                Ok(())
            }
            None => Err(SendError(item)),
        }
    }

    /// Waits for room for one item of `bytes`; `None` if the queue takes nothing any more. Cancel safe.
    pub async fn room(&self, bytes: usize) -> Option<Room<'_, T>> {
        let mut wait = RoomWait::new(&self.shared, bytes);
        let mut began = None;
        let kept = poll_fn(|cx| {
            let poll = Pin::new(&mut wait).poll(cx);
            if poll.is_pending() && began.is_none() {
                began = Some(self.shared.clock.now());
            }
            poll
        })
        .await;
        if let Some(began) = began {
            self.shared.blocked_for(self.shared.clock.now().saturating_sub(began));
        }
        kept.then(|| Room { shared: &self.shared, bytes, full: false })
    }

    /// The weight of `item` in bytes.
    #[must_use]
    pub fn weigh(&self, item: &T) -> usize {
        (self.shared.bounds.weigh)(item)
    }
}

/// A wait for room; true once a place is kept, false if the queue is closed. Whoever got true puts an item
/// in by [`Shared::put_kept`], or gives the place back.
pub(crate) struct RoomWait<'s, T> {
    shared: &'s Shared<T>,
    bytes: usize,
    ticket: Option<u64>,
}

impl<'s, T> RoomWait<'s, T> {
    pub(crate) fn new(shared: &'s Shared<T>, bytes: usize) -> Self {
        Self { shared, bytes, ticket: None }
    }
}

impl<T> Future for RoomWait<'_, T> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        this.shared.poll_room(&mut this.ticket, this.bytes, cx)
    }
}

impl<T> Drop for RoomWait<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.cancel_room(ticket, self.bytes);
        }
    }
}

/// Room for one item, kept until it is put in.
#[must_use = "a place that is kept and not used holds back others"]
pub struct Room<'s, T> {
    shared: &'s Shared<T>,
    bytes: usize,
    full: bool,
}

impl<T> Room<'_, T> {
    /// Puts `item` in.
    pub fn put(mut self, item: T) {
        self.full = true;
        self.shared.put_kept(item, self.bytes, None);
    }
}

impl<T> Drop for Room<'_, T> {
    fn drop(&mut self) {
        if !self.full {
            self.shared.give_room_back(self.bytes);
        }
    }
}

/// One taker of a queue; the queue closes with its last.
pub(crate) struct Taker<T> {
    pub(crate) shared: Arc<Shared<T>>,
    id: usize,
    /// Waits, or was woken and has not looked yet.
    sleeps: bool,
    /// Counted among those who come back very soon.
    comes: bool,
    /// The key of the item it had, in progress until it looks again.
    frees: Option<u64>,
}

impl<T> Taker<T> {
    pub(crate) fn new(shared: &Arc<Shared<T>>) -> Self {
        let mut state = lock(&shared.state);
        let id = state.takers;
        state.takers += 1;
        drop(state);
        Self { shared: shared.clone(), id, sleeps: false, comes: false, frees: None }
    }

    /// The next item; `None` once every sender is gone and the queue is empty, or it was closed.
    /// `soon` promises another look very soon, or [`Self::delays`]. With `after` it takes nothing if others
    /// wait for their turn: they come as well, and the last of them goes on alone, which saves a wakeup for
    /// each item.
    pub(crate) fn poll_take(
        &mut self,
        soon: bool,
        after: Option<&Turn>,
        now: Option<u64>,
        cx: &Context<'_>,
    ) -> Poll<Option<Taken<T>>> {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.shared.state);
        if std::mem::take(&mut self.comes) {
            state.coming -= 1;
        }
        if let Some(key) = self.frees.take() {
            state.line.free(key);
        }
        let place = if self.sleeps { state.asleep.iter().position(|(id, _)| *id == self.id) } else { None };
        if std::mem::take(&mut self.sleeps) && place.is_none() {
            state.searching -= 1;
        }
        // Asked under the lock: whoever waits then will look here later, or be gone and wake us.
        let defers = after.is_some_and(Turn::is_waited_for);
        let taken = if state.closed || defers { None } else { self.shared.pop(&mut state, now, &mut wakes) };
        let poll = match taken {
            Some(taken) => {
                if let Some(place) = place {
                    state.asleep.remove(place);
                }
                self.comes = soon;
                state.coming += usize::from(soon);
                state.rouse(&mut wakes);
                Poll::Ready(Some(taken))
            }
            None if state.closed || (state.senders == 0 && state.line.len() == 0) => {
                if let Some(place) = place {
                    state.asleep.remove(place);
                }
                Poll::Ready(None)
            }
            None => {
                match place {
                    Some(place) => state.asleep[place].1.clone_from(cx.waker()),
                    None => state.asleep.push_back((self.id, cx.waker().clone())),
                }
                self.sleeps = true;
                Poll::Pending
            }
        };
        drop(state);
        wakes.wake();
        poll
    }

    /// The next item, if one waits already.
    pub(crate) fn try_take(&mut self, now: Option<u64>) -> Option<Taken<T>> {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.shared.state);
        let taken = if state.closed { None } else { self.shared.pop(&mut state, now, &mut wakes) };
        drop(state);
        wakes.wake();
        taken
    }

    /// The operation on an item of `key` is over: the next of that key may be taken from the next look on.
    pub(crate) fn frees(&mut self, key: Option<u64>) {
        self.frees = key;
    }

    /// What was promised as `soon` takes longer: another is to look.
    pub(crate) fn delays(&mut self) {
        if self.comes {
            self.waits();
        }
    }

    /// It waits: if there is work, another is to look.
    pub(crate) fn waits(&mut self) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.shared.state);
        state.coming -= usize::from(std::mem::take(&mut self.comes));
        state.rouse(&mut wakes);
        drop(state);
        wakes.wake();
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.shared.state);
        state.coming -= usize::from(self.comes);
        if let Some(key) = self.frees.take() {
            state.line.free(key);
        }
        if self.sleeps {
            match state.asleep.iter().position(|(id, _)| *id == self.id) {
                Some(place) => _ = state.asleep.remove(place),
                None => state.searching -= 1,
            }
        }
        state.takers -= 1;
        if state.takers == 0 {
            state.close(&mut wakes);
        } else {
            state.rouse(&mut wakes);
        }
        drop(state);
        wakes.wake();
    }
}

/// The way out of a queue, for one who takes.
pub struct Receiver<T> {
    taker: Taker<T>,
}

impl<T> Receiver<T> {
    pub(crate) fn new(shared: &Arc<Shared<T>>) -> Self {
        Self { taker: Taker::new(shared) }
    }

    /// The next item; `None` once every sender is gone and the queue is empty. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        let taken = poll_fn(|cx| self.taker.poll_take(false, None, None, cx)).await?;
        Some(taken.item)
    }

    /// The next item, if one waits already.
    pub fn try_recv(&mut self) -> Option<T> {
        self.taker.try_take(None).map(|taken| taken.item)
    }
}

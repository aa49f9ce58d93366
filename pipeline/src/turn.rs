//! Turns: who finishes early waits until those before it have given.
//!
//! A worker that waits keeps its slot, so at most as many numbers are in progress as there are workers, and
//! they follow each other: number modulo workers is a place of its own for each.

use std::task::{Context, Poll, Waker};

use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// The order in which the results of one stage are given.
///
/// In most cases nobody waits, and then a turn costs two atomics. A waiter registers first and looks at the
/// number after; whoever ends a turn moves the number first and looks for waiters after: in one total order
/// of these steps (hence `SeqCst`), one of them sees the other.
pub(crate) struct Turn {
    next: AtomicU64,
    waiting: AtomicUsize,
    broken: AtomicBool,
    wakers: Mutex<Vec<Option<Waker>>>,
}

impl Turn {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            next: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            wakers: Mutex::new(vec![None; workers]),
        }
    }

    /// Waits for the turn of `number`; false if it never comes, as an item before it failed the pipeline.
    pub(crate) fn poll(&self, number: u64, registered: &mut bool, cx: &Context<'_>) -> Poll<bool> {
        if let Some(come) = self.come(number) {
            if std::mem::take(registered) {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            return Poll::Ready(come);
        }
        if !std::mem::replace(registered, true) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        {
            let mut wakers = lock(&self.wakers);
            let place = (number % wakers.len() as u64) as usize;
            wakers[place] = Some(cx.waker().clone());
        }
        match self.come(number) {
            Some(come) => {
                *registered = false;
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                Poll::Ready(come)
            }
            None => Poll::Pending,
        }
    }

    fn come(&self, number: u64) -> Option<bool> {
        if self.broken.load(Ordering::SeqCst) {
            return Some(false);
        }
        (self.next.load(Ordering::SeqCst) == number).then_some(true)
    }

    /// Whether anybody waits, or was told that its turn has come and has not looked yet.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Whether it is the turn of `number` already.
    pub(crate) fn is_at(&self, number: u64) -> bool {
        self.come(number) == Some(true)
    }

    /// The turn of `number` is over.
    pub(crate) fn end(&self, number: u64) {
        self.next.store(number + 1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let mut wakers = lock(&self.wakers);
            let place = ((number + 1) % wakers.len() as u64) as usize;
            let waker = wakers[place].take();
            drop(wakers);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// No further turn comes.
    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::SeqCst);
        let wakers: Vec<Waker> = lock(&self.wakers).iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

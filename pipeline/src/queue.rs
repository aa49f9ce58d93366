//! A queue bounded in items and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::add;

/// How much a queue may hold, and how an item is weighed.
pub struct Bounds<T> {
    /// Items at most.
    pub items: usize,
    /// Bytes at most.
    pub bytes: usize,
    /// The weight of an item in bytes.
    pub weigh: fn(&T) -> usize,
}

/// What a queue holds at one moment.
#[derive(Debug, Clone)]
pub struct QueueSnapshot {
    /// Its name: the stage that fills it.
    pub name: String,
    /// Items in it.
    pub items: u64,
    /// Items it may hold.
    pub items_max: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Bytes it may hold.
    pub bytes_max: u64,
    /// The most items it has held.
    pub items_peak: u64,
    /// How long senders have waited for room, in all, in ms.
    pub blocked_ms: u64,
}

#[derive(Debug)]
pub(crate) struct QueueStats {
    name: String,
    items_max: u64,
    bytes_max: u64,
    pub(crate) items: AtomicU64,
    bytes: AtomicU64,
    items_peak: AtomicU64,
    blocked_us: AtomicU64,
    pub(crate) taken: AtomicU64,
}

impl QueueStats {
    pub(crate) fn snapshot(&self) -> QueueSnapshot {
        QueueSnapshot {
            name: self.name.clone(),
            items: self.items.load(Ordering::Relaxed),
            items_max: self.items_max,
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_max: self.bytes_max,
            items_peak: self.items_peak.load(Ordering::Relaxed),
            blocked_ms: self.blocked_us.load(Ordering::Relaxed) / 1000,
        }
    }
}

struct Envelope<T> {
    item: T,
    bytes: u64,
    _room: OwnedSemaphorePermit,
}

/// The way into a queue; clones share it and are served in the order in which they ask.
pub struct Sender<T> {
    items: mpsc::Sender<Envelope<T>>,
    bytes: Arc<Semaphore>,
    weigh: fn(&T) -> usize,
    stats: Arc<QueueStats>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), bytes: self.bytes.clone(), weigh: self.weigh, stats: self.stats.clone() }
    }
}

/// The receiver is gone; the item comes back.
#[derive(Debug)]
pub struct SendError<T>(pub T);

/// The way out of a queue.
pub struct Receiver<T> {
    items: mpsc::Receiver<Envelope<T>>,
    stats: Arc<QueueStats>,
}

/// A queue called `name`.
#[must_use]
pub fn queue<T>(name: &str, bounds: Bounds<T>) -> (Sender<T>, Receiver<T>) {
    let stats = Arc::new(QueueStats {
        name: name.to_owned(),
        items_max: bounds.items as u64,
        bytes_max: bounds.bytes as u64,
        items: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        items_peak: AtomicU64::new(0),
        blocked_us: AtomicU64::new(0),
        taken: AtomicU64::new(0),
    });
    let (items, receiver) = mpsc::channel(bounds.items);
    let bytes = Arc::new(Semaphore::new(bounds.bytes));
    (Sender { items, bytes, weigh: bounds.weigh, stats: stats.clone() }, Receiver { items: receiver, stats })
}

impl<T> Sender<T> {
    /// Waits for room, then puts `item` in.
    ///
    /// # Errors
    /// Gives the item back if the receiver is gone.
    ///
    /// # Cancel safety
    /// If dropped before it returns, the item is dropped with it: callers that may be cancelled use
    /// [`Self::room`] first.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        let bytes = (self.weigh)(&item);
        match self.room(bytes).await {
            Some(room) => {
                room.put(item);
                Ok(())
            }
            None => Err(SendError(item)),
        }
    }

    /// Waits for room for one item of `bytes`; `None` if the receiver is gone. Cancel safe.
    pub async fn room(&self, bytes: usize) -> Option<Room<'_, T>> {
        // An item above the bound passes when the queue is empty: refusing it would lose it.
        let weight = u32::try_from(bytes.min(self.stats.bytes_max as usize)).unwrap_or(u32::MAX);
        let waits = self.items.capacity() == 0 || self.bytes.available_permits() < weight as usize;
        let began = waits.then(Instant::now);
        let place = self.items.reserve().await.ok();
        let room = match place {
            Some(_) => self.bytes.clone().acquire_many_owned(weight).await.ok(),
            None => None,
        };
        if let Some(began) = began {
            add(&self.stats.blocked_us, u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        Some(Room { place: place?, room: room?, bytes: bytes as u64, stats: &self.stats })
    }

    /// The weight of `item` in bytes.
    #[must_use]
    pub fn weigh(&self, item: &T) -> usize {
        (self.weigh)(item)
    }
}

/// Room for one item, kept until it is put in.
pub struct Room<'s, T> {
    place: mpsc::Permit<'s, Envelope<T>>,
    room: OwnedSemaphorePermit,
    bytes: u64,
    stats: &'s QueueStats,
}

impl<T> Room<'_, T> {
    /// Puts `item` in.
    pub fn put(self, item: T) {
        let items = self.stats.items.fetch_add(1, Ordering::Relaxed) + 1;
        self.stats.items_peak.fetch_max(items, Ordering::Relaxed);
        add(&self.stats.bytes, self.bytes);
        self.place.send(Envelope { item, bytes: self.bytes, _room: self.room });
    }
}

impl<T> Receiver<T> {
    /// The next item; `None` once every sender is gone and the queue is empty. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        let envelope = self.items.recv().await?;
        Some(self.open(envelope))
    }

    /// The next item, if one waits already.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        let envelope = self.items.try_recv().ok()?;
        Some(self.open(envelope))
    }

    fn open(&self, envelope: Envelope<T>) -> T {
        self.stats.items.fetch_sub(1, Ordering::Relaxed);
        self.stats.bytes.fetch_sub(envelope.bytes, Ordering::Relaxed);
        add(&self.stats.taken, 1);
        envelope.item
    }

    pub(crate) fn stats(&self) -> Arc<QueueStats> {
        self.stats.clone()
    }
}

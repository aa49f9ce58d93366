//! The merging reader: what a store holds of a car or several, in order, each sample once.
//!
//! Days → extents → partitions by their start → rows → [`Merge`]. A reader sees what was there when it
//! started; rows that arrive meanwhile may or may not be among it.
//!
//! Memory: undecoded rows of the partitions that overlap in time (at most one for each device and bucket
//! length, each aimed at 100 MB or less; a whole car at 1.1 M samples/s has about 2.2 MB/s) and
//! [`READ_AHEAD_MAX`] of those that follow; decoded, [`READ_BLOCK_SAMPLES`] and those that share the span of
//! a row with them. **It does not hold** for a device whose mapping was corrected: its rows wait, undecoded,
//! for as long as the correction moved them (all of it, if its clock was wrong by years).
//!
//! Samples that are rows of their own are packed as they come, so that all that follows knows chunks alone.
//!
//! Deliberately absent: writing anything down.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::mapping::{ClockDigests, Clocks};
use super::merge::{Block, Merge, ReadCounts};
use super::plan::{Partition, Query, channels_of, in_order, needs_day, partitions};
use crate::codec;
use crate::limits::{READ_AHEAD_BYTES_MAX, READ_AHEAD_MAX, READ_ATTEMPTS_MAX};
use crate::row::{ChannelRow, ChunkRow};
use crate::sample::Name;
use crate::store::{Store, StoreError};

/// Wait before the second attempt; each further one waits four times as long.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Reads one car, or several as one.
pub struct Reader<'a> {
    store: &'a dyn Store,
    cars: Vec<Name>,
    retry_after: Duration,
}

impl<'a> Reader<'a> {
    /// A reader of `car` in `store`.
    pub fn new(store: &'a dyn Store, car: &str) -> Self {
        Self::of_cars(store, &[car])
    }

    /// A reader of several cars, whose samples come in one order of time.
    pub fn of_cars<T: AsRef<str>>(store: &'a dyn Store, cars: &[T]) -> Self {
        let mut cars: Vec<Name> = cars.iter().map(|car| car.as_ref().into()).collect();
        cars.sort_unstable();
        cars.dedup();
        Self { store, cars, retry_after: RETRY_AFTER }
    }

    /// Waits `wait` before it asks a store again that was not reachable, then four times as long each time.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
    }

    /// Lists what is needed for `query` and starts to read it.
    ///
    /// # Errors
    /// As the store says, after a few attempts where it is not reachable.
    pub async fn read(&self, query: &Query) -> Result<Reading<'a>, StoreError> {
        let listed = stream::iter(&self.cars).map(|car| self.list(car, query)).buffered(READ_AHEAD_MAX);
        let listed: Vec<Listed> = listed.try_collect().await?;
        let (mut clocks, mut channels, mut waiting) = (HashMap::new(), Vec::new(), Vec::new());
        for (car, of) in self.cars.iter().zip(listed) {
            clocks.insert(Arc::clone(car), of.clocks);
            channels.extend(of.channels);
            waiting.extend(of.partitions);
        }
        let waiting = in_order(waiting);
        Ok(Reading {
            store: self.store,
            retry_after: self.retry_after,
            partitions: waiting.len(),
            done: 0,
            waiting,
            ahead: VecDeque::new(),
            bytes_last: 0,
            ways: HashMap::new(),
            merge: Merge::new(clocks, &channels, query.from_us, query.to_us),
            channels,
            query: query.clone(),
        })
    }

    async fn list(&self, car: &Name, query: &Query) -> Result<Listed, StoreError> {
        let (store, wait) = (self.store, self.retry_after);
        let days = patiently(wait, || store.days(car)).await?;
        let early = Clocks::new(&patiently(wait, || store.clocks(car)).await?);
        let mut extents = Vec::new();
        for day in days.into_iter().filter(|&day| needs_day(day, query, &early)) {
            extents.extend(patiently(wait, || store.extents(car, day)).await?);
        }
        // Asked for after the extents: what they list is then described, but for rows still to come.
        let clocks = Clocks::new(&patiently(wait, || store.clocks(car)).await?);
        let channels = patiently(wait, || store.channels(car)).await?;
        Ok(Listed { partitions: partitions(car, extents, query, &clocks), clocks, channels })
    }
}

/// What is known of a car before its chunks are read.
struct Listed {
    clocks: Clocks,
    channels: Vec<ChannelRow>,
    partitions: Vec<Partition>,
}

type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Vec<ChunkRow>, StoreError>> + Send + 'a>>;

/// A partition that was asked for.
struct Ahead<'a> {
    first_us: i64,
    fetching: Fetching<'a>,
    fetched: Option<Result<Vec<ChunkRow>, StoreError>>,
}

impl Ahead<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.fetched.is_none()
            && let Poll::Ready(fetched) = self.fetching.as_mut().poll(cx)
        {
            self.fetched = Some(fetched);
        }
    }
}

/// A read under way.
pub struct Reading<'a> {
    store: &'a dyn Store,
    retry_after: Duration,
    partitions: usize,
    done: usize,
    waiting: VecDeque<Partition>,
    ahead: VecDeque<Ahead<'a>>,
    /// Size of the partition read last: what the next ones are judged by.
    bytes_last: usize,
    /// How the partitions of each car's device are asked for.
    ways: HashMap<(Name, Name), Option<Arc<[String]>>>,
    merge: Merge,
    channels: Vec<ChannelRow>,
    query: Query,
}

impl Reading<'_> {
    /// The next samples in order, or `None` after the last.
    ///
    /// # Errors
    /// As the store says. Rows that cannot be decoded are counted instead, see [`Self::counts`].
    ///
    /// # Cancel safety
    /// May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Block>, StoreError> {
        loop {
            self.ask_ahead();
            let horizon_us = self.ahead.front().map(|ahead| ahead.first_us);
            if let Some(block) = self.merge.next_block(horizon_us) {
                return Ok(Some(block));
            }
            if self.ahead.is_empty() {
                return Ok(None);
            }
            let rows = self.fetched().await?;
            self.bytes_last = rows.iter().map(|row| row.data.len() + size_of::<ChunkRow>()).sum();
            self.done += 1;
            for row in rows.into_iter().filter(|row| self.query.channels.takes(&row.channel)) {
                self.merge.add(row);
            }
        }
    }

    /// Every channel that was described.
    pub(super) fn described(&self) -> &[ChannelRow] {
        &self.channels
    }

    /// By which clocks samples are placed.
    pub(super) fn clock_digests(&self) -> ClockDigests {
        self.merge.clock_digests()
    }

    /// Partitions read, and how many there are.
    #[must_use]
    pub const fn progress(&self) -> (usize, usize) {
        (self.done, self.partitions)
    }

    /// What was met so far.
    #[must_use]
    pub const fn counts(&self) -> &ReadCounts {
        &self.merge.counts
    }

    /// Decodes at most about `samples` at a time.
    #[cfg(test)]
    pub(super) fn with_block_samples(mut self, samples: usize) -> Self {
        self.merge = self.merge.with_block_samples(samples);
        self
    }

    /// Asks for the next partitions, and gives those asked for a push.
    fn ask_ahead(&mut self) {
        let at_once = READ_AHEAD_BYTES_MAX.checked_div(self.bytes_last).unwrap_or(READ_AHEAD_MAX);
        while self.ahead.len() < at_once.clamp(1, READ_AHEAD_MAX) {
            let Some(Partition { car, device, channel, bucket, first_us }) = self.waiting.pop_front() else { break };
            let wait = self.retry_after;
            let fetching: Fetching<'_> = match channel {
                Some(channel) => Box::pin(fetch_samples(self.store, car, device, channel, bucket, wait)),
                None => {
                    let way = self.ways.entry((Arc::clone(&car), Arc::clone(&device)));
                    let (filter, described) = (&self.query.channels, &self.channels);
                    let way = way.or_insert_with(|| channels_of(&car, &device, filter, described)).clone();
                    Box::pin(fetch(self.store, car, device, bucket, way, wait))
                }
            };
            self.ahead.push_back(Ahead { first_us, fetching, fetched: None });
        }
        // Whoever waits in `fetched` polls all of them again, with a waker that counts.
        let mut push = Context::from_waker(Waker::noop());
        self.ahead.iter_mut().for_each(|ahead| ahead.poll(&mut push));
    }

    /// The rows of the first partition asked for.
    async fn fetched(&mut self) -> Result<Vec<ChunkRow>, StoreError> {
        poll_fn(|cx| {
            self.ahead.iter_mut().for_each(|ahead| ahead.poll(cx));
            match self.ahead.front().is_some_and(|ahead| ahead.fetched.is_some()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        let fetched = self.ahead.pop_front().and_then(|ahead| ahead.fetched);
        fetched.unwrap_or_else(|| Ok(Vec::new()))
    }
}

async fn fetch(
    store: &dyn Store,
    car: Name,
    device: Name,
    bucket: i64,
    channels: Option<Arc<[String]>>,
    wait: Duration,
) -> Result<Vec<ChunkRow>, StoreError> {
    let Some(channels) = channels else {
        return patiently(wait, || store.chunks(&car, &device, bucket, None)).await;
    };
    let mut rows = Vec::new();
    for channel in channels.iter() {
        rows.extend(patiently(wait, || store.chunks(&car, &device, bucket, Some(channel))).await?);
    }
    Ok(rows)
}

/// A device's samples of a channel: the partition holds those of all devices that have one of that name.
async fn fetch_samples(
    store: &dyn Store,
    car: Name,
    device: Name,
    channel: Name,
    bucket: i64,
    wait: Duration,
) -> Result<Vec<ChunkRow>, StoreError> {
    let mut rows = patiently(wait, || store.samples(&car, &channel, bucket)).await?;
    rows.retain(|row| *row.device == *device);
    Ok(codec::pack(&car, &channel, bucket, rows))
}

/// Asks again, a few times, while the store is not reachable.
pub(super) async fn patiently<T, F>(mut wait: Duration, ask: impl Fn() -> F + Send) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>> + Send,
{
    for _ in 1..READ_ATTEMPTS_MAX {
        match ask().await {
            Err(StoreError::Unavailable { what, reason }) => {
                tracing::warn!(what, reason, ?wait, "the store does not answer, asking again");
            }
            other => return other,
        }
        tokio::time::sleep(wait).await;
        wait *= 4;
    }
    ask().await
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

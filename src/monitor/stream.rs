//! The live stream: server-sent events, made when the client's socket has room for them.
//!
//! - `points` every 100 ms: bins of the asked channels that are new or have grown; at first the last 30 s.
//! - `values` every 500 ms: the last value of every channel.
//! - `status` every second: the whole agent.
//!
//! Nothing is queued for a client. The server asks for the next event when it has handed the last one to
//! the socket, apart from the HTTP library's write buffer of at most 400 KiB; a client that cannot follow
//! gets fewer events, each of them of its own moment, and bins missed in between come with the next.
//! The stream itself keeps the connection alive: there is an event every 100 ms.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::View;
use crate::live::{LiveBoard, LiveChannel};

const POINTS_EVERY: Duration = Duration::from_millis(100);
const VALUES_EVERY: Duration = Duration::from_millis(500);
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// A channel as `GET /api/v1/channels` shows it.
#[derive(Debug, Serialize)]
pub(super) struct ChannelView {
    key: String,
    car: String,
    device: String,
    channel: String,
    unit: String,
    /// Whether a step computed it.
    derived: bool,
    /// Samples a second; `null` if irregular or unknown.
    rate_hz: Option<f64>,
    /// UTC of the last sample, µs.
    t_us: i64,
    /// `null` if it is not a number.
    value: f64,
    /// Flags, 0 is good.
    quality: u16,
    /// Since the agent last received a sample of it, s.
    age_s: f64,
    samples: u64,
}

/// Every channel of the board that has a sample, by key.
pub(super) fn channels(board: &LiveBoard) -> Vec<ChannelView> {
    let view = |(key, channel): (String, LiveChannel)| ChannelView {
        key,
        car: channel.car.to_string(),
        device: channel.device.to_string(),
        channel: channel.meta.name.to_string(),
        unit: channel.meta.unit.to_string(),
        derived: channel.meta.derived,
        rate_hz: (channel.meta.rate_mhz > 0).then(|| f64::from(channel.meta.rate_mhz) / 1000.0),
        t_us: channel.t_us,
        value: channel.value,
        quality: channel.quality.0,
        age_s: age_s(&channel),
        samples: channel.samples,
    };
    board.channels().into_iter().filter(|(_, channel)| channel.samples > 0).map(view).collect()
}

fn age_s(channel: &LiveChannel) -> f64 {
    (channel.posted_at.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

#[derive(Serialize)]
struct Points<'a> {
    now_us: i64,
    series: BTreeMap<&'a str, Vec<(i64, f64, f64)>>,
}

#[derive(Serialize)]
struct LastValues {
    now_us: i64,
    values: BTreeMap<String, (i64, f64, u16, f64)>,
}

/// When an event is due, at most once a period.
struct Due {
    at: Instant,
    every: Duration,
}

impl Due {
    /// Whether it is due at `now`; if so, the next one is a period later. Missed ones are not made up for.
    fn take(&mut self, now: Instant) -> bool {
        let due = self.at <= now;
        if due {
            self.at = (self.at + self.every).max(now + self.every / 2);
        }
        due
    }
}

/// One client's stream. Holds a place among the live clients until it is dropped.
pub(super) struct LiveStream {
    view: View,
    /// The asked channels, each with the board's revision up to which the client has its bins.
    series: Vec<(String, u64)>,
    points: Due,
    values: Due,
    status: Due,
    wake: Pin<Box<Sleep>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl LiveStream {
    pub(super) fn new(view: View, keys: &[&str], shutdown: CancellationToken, place: OwnedSemaphorePermit) -> Self {
        let at = Instant::now();
        Self {
            view,
            series: keys.iter().map(|&key| (key.to_owned(), 0)).collect(),
            points: Due { at, every: POINTS_EVERY },
            values: Due { at, every: VALUES_EVERY },
            status: Due { at, every: STATUS_EVERY },
            wake: Box::pin(sleep(Duration::ZERO)),
            ended: Box::pin(shutdown.cancelled_owned()),
            _place: place,
        }
    }

    fn due_events(&mut self, now: Instant) -> Vec<u8> {
        let mut events = Vec::new();
        let now_us = self.view.clock.now_utc().0;
        if self.points.take(now) {
            event(&mut events, "points", &self.new_points(now_us));
        }
        if self.values.take(now) {
            event(&mut events, "values", &last_values(&self.view.live, now_us));
        }
        if self.status.take(now) {
            event(&mut events, "status", &(self.view.status)());
        }
        events
    }

    fn new_points(&mut self, now_us: i64) -> Points<'_> {
        let mut series = BTreeMap::new();
        for (key, revision) in &mut self.series {
            let (bins, next) = self.view.live.bins_since(key, *revision);
            *revision = next;
            if !bins.is_empty() {
                series.insert(key.as_str(), bins.iter().map(|bin| (bin.t_us, bin.min, bin.max)).collect());
            }
        }
        Points { now_us, series }
    }
}

fn last_values(board: &LiveBoard, now_us: i64) -> LastValues {
    let channels = board.channels().into_iter().filter(|(_, channel)| channel.samples > 0);
    let values = channels.map(|(key, channel)| {
        let age_s = age_s(&channel);
        (key, (channel.t_us, channel.value, channel.quality.0, age_s))
    });
    LastValues { now_us, values: values.collect() }
}

/// Appends an event. JSON on one line is data on one line.
fn event(to: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    let start = to.len();
    let written = write!(to, "event: {name}\ndata: ").map_err(serde_json::Error::io);
    if let Err(error) = written.and_then(|()| serde_json::to_writer(&mut *to, data)) {
        to.truncate(start); // half an event would spoil the next
        tracing::error!(%error, event = name, "a live event cannot be written as JSON: please report this");
        return;
    }
    to.extend_from_slice(b"\n\n");
}

impl Stream for LiveStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        while self.wake.as_mut().poll(cx).is_ready() {
            let events = self.due_events(Instant::now());
            let next = self.points.at.min(self.values.at).min(self.status.at);
            self.wake.as_mut().reset(next);
            if !events.is_empty() {
                return Poll::Ready(Some(Ok(events.into())));
            }
        }
        Poll::Pending
    }
}

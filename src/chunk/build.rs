//! The stage that gathers samples into chunks, and chunks into flushes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::{bucket_length_us, samples_bucket_length_us};
use super::clocks::{Clocks, Correction, KnownClock, RememberClock};
use super::flush::{Flush, Outgoing, parts};
use super::open::{OpenChunk, Placement, same};
use crate::clock::{Gateway, Mapping};
use crate::item::{Batch, Catalogue, Event, Item};
use crate::layout::Layouts;
use crate::ledger::{SourceId, Tally};
use crate::limits::{DEVICES_MAX, FLUSH_BYTES_MAX};
use crate::live::LiveBoard;
use crate::pipeline::Stage;
use crate::priority::{Priorities, Priority};
use crate::receipt::Receipt;
use crate::row::{ChannelRow, ChunkRow, EventRow, KIND_DERIVED, KIND_RAW, Layout, Rows, SessionRow, day_of};
use crate::sample::{ChannelMeta, Column, DeviceTime, Name, Origin, UnixMicros};

/// What the stage is given.
pub struct Setup {
    /// Age at which a device's chunks close.
    pub flush_after: Duration,
    /// 128 random bits of this process.
    pub writer: [u8; 16],
    /// Where the last values are shown.
    pub live: Arc<LiveBoard>,
    /// Mappings of earlier runs, so that a restart places a boot's samples as before.
    pub clocks: Vec<KnownClock>,
    /// Told of new mappings.
    pub remember: RememberClock,
    /// What the mappings are made by.
    pub gateway: Arc<Gateway>,
    /// Channels of different priorities go in flushes of their own.
    pub priorities: Priorities,
    /// Channels of different layouts too.
    pub layouts: Layouts,
}

/// The stage.
pub struct Chunk {
    flush_after: Duration,
    writer: [u8; 16],
    live: Arc<LiveBoard>,
    clocks: Clocks,
    priorities: Priorities,
    layouts: Arc<Layouts>,
    seq: i64,
    devices: HashMap<Arc<Origin>, Device>,
    /// Bucket lengths by car and device, known once the catalogue is.
    lengths: HashMap<(Name, Name), i64>,
    /// By car, device and channel, the description that the store knows.
    announced: HashMap<(Name, Name, Name), Arc<ChannelMeta>>,
}

struct Device {
    mapping: Mapping,
    length_us: i64,
    open: BTreeMap<Name, OpenChunk>,
    closed: Vec<(ChunkRow, i64)>,
    closed_bytes: usize,
    open_bytes: usize,
    receipts: Vec<Receipt>,
    tally: Tally,
    extra: Rows,
    extra_bytes: usize,
    oldest: Option<Instant>,
    /// Until when late data is gathered.
    waits_until: Option<Instant>,
    latest: Instant,
}

impl Chunk {
    /// A stage that has seen nothing yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { flush_after, writer, live, clocks, remember, gateway, priorities, layouts } = setup;
        Self {
            flush_after,
            writer,
            live,
            clocks: Clocks::new(clocks, remember, gateway, writer),
            priorities,
            layouts: Arc::new(layouts),
            seq: 0,
            devices: HashMap::new(),
            lengths: HashMap::new(),
            announced: HashMap::new(),
        }
    }

    /// The device's place, opened if it is new; `latest` and `received` place a boot without a mapping.
    fn device(
        &mut self,
        origin: &Arc<Origin>,
        latest: DeviceTime,
        received: UnixMicros,
        accepted_at: Instant,
    ) -> &mut Device {
        if !self.devices.contains_key(origin) {
            let (mapping, rows) = self.clocks.place(origin, latest, received, accepted_at);
            let key = (origin.car.clone(), origin.device.clone());
            let length_us = self.lengths.get(&key).copied().unwrap_or(60_000_000);
            let mut device = Device::new(mapping, length_us, accepted_at);
            device.extra.clocks = rows;
            if self.devices.len() >= DEVICES_MAX {
                self.devices.retain(|_, device| device.oldest.is_some());
            }
            self.devices.insert(origin.clone(), device);
        }
        let device = self.devices.get_mut(origin).expect("inserted above if it was absent");
        device.since(accepted_at);
        device
    }

    /// Writes the mappings that have become better, and places what follows by them.
    fn correct(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        for Correction { origin, mapping, rows, receipt } in self.clocks.look(now) {
            // What is gathered was placed by the mapping before, and closes by it.
            self.flush(&origin, out);
            if let Some(device) = self.devices.get_mut(&origin) {
                device.mapping = mapping;
                self.live.placed_anew(&origin.car, &origin.device);
            }
            let rows = Rows { clocks: rows, ..Rows::default() };
            let (receipts, tally) = (vec![receipt], Tally::default());
            let priority = Priority::High;
            out.push(Outgoing::Flush(Flush { rows, receipts, tally, accepted_at: now, priority }));
        }
    }

    fn batch(&mut self, batch: Batch, out: &mut Vec<Outgoing>) {
        let Batch { origin, columns, accepted_at, received, custody } = batch;
        let last_time = |c: &Column| c.len().checked_sub(1).map(|last| c.times.at(last));
        let latest = columns.iter().filter_map(last_time).max();
        let latest = DeviceTime(latest.unwrap_or_default());
        let mapping = self.device(&origin, latest, received, accepted_at).mapping;
        let news: Vec<ChannelRow> = columns.iter().filter_map(|c| self.announce(&origin, c, mapping)).collect();
        let (mut seq, writer) = (self.seq, self.writer);
        let (live, layouts) = (self.live.clone(), Arc::clone(&self.layouts));
        let device = self.device(&origin, latest, received, accepted_at);
        device.extra.channels.extend(news);
        for column in &columns {
            device.column(&origin, column, &live, &layouts, &mut || {
                seq += 1;
                (writer, seq - 1)
            });
        }
        device.keep(custody.receipt);
        device.tally.merge(custody.tally);
        let full = device.full();
        self.seq = seq;
        if full {
            self.flush(&origin, out);
        }
    }

    /// A row for a channel whose description is new to this process, or another one than before. It holds from the
    /// first sample that it describes: a row that is there already, with what it said, is never written over.
    fn announce(&mut self, origin: &Origin, column: &Column, mapping: Mapping) -> Option<ChannelRow> {
        let meta = &column.channel;
        let key = (origin.car.clone(), origin.device.clone(), meta.name.clone());
        if column.is_empty() || self.announced.get(&key).is_some_and(|known| same(known, meta)) {
            return None;
        }
        self.announced.insert(key, meta.clone());
        Some(channel_row(origin, meta, mapping.utc(DeviceTime(column.times.at(0))).0))
    }

    fn event(&mut self, event: Event, out: &mut Vec<Outgoing>) {
        let Event { origin, t, sequence, kind, number, text, accepted_at, received, receipt } = event;
        let device = self.device(&origin, t, received, accepted_at);
        let utc = device.mapping.utc(t).0;
        device.extra_bytes += 256 + text.len();
        if kind == "session" {
            let (car, name) = (origin.car.to_string(), text.clone());
            device.extra.sessions.push(SessionRow { car, start: utc, number, name });
        }
        device.extra.events.push(EventRow {
            car: origin.car.to_string(),
            day: day_of(utc),
            t: utc,
            device: origin.device.to_string(),
            boot: i64::from(origin.boot),
            sequence: i64::from(sequence),
            d: t.0,
            kind: kind.into(),
            number,
            text,
        });
        device.keep(receipt);
        if device.full() {
            self.flush(&origin, out);
        }
    }

    fn catalogue(&mut self, catalogue: Catalogue) {
        let Catalogue { origin, channels, changed, t, received, accepted_at, .. } = catalogue;
        let all = channels.iter().chain(&changed).map(|meta| &**meta);
        let length_us = bucket_length_us(all, self.flush_after);
        self.lengths.insert((origin.car.clone(), origin.device.clone()), length_us);
        // What the steps changed, and what is described otherwise than before, is announced with its first sample:
        // that is when it holds.
        let mut rows = Vec::new();
        for meta in channels {
            let key = (origin.car.clone(), origin.device.clone(), meta.name.clone());
            if let Entry::Vacant(place) = self.announced.entry(key) {
                rows.push(channel_row(&origin, &meta, received.0));
                place.insert(meta);
            }
        }
        let device = self.device(&origin, t, received, accepted_at);
        device.length_us = length_us;
        device.extra.channels.extend(rows);
    }

    /// Closes everything of a device: one flush for each priority and partition, and of single samples as many as they need.
    fn flush(&mut self, origin: &Arc<Origin>, out: &mut Vec<Outgoing>) {
        let Some(device) = self.devices.get_mut(origin) else { return };
        let Some(accepted_at) = device.oldest.take() else { return };
        device.waits_until = None;
        for (_, chunk) in std::mem::take(&mut device.open) {
            let (seq, length_us) = (self.seq, chunk.length_us);
            self.seq += 1;
            post(&self.live, origin, device, &chunk);
            device.closed.push((chunk.close(origin, device.mapping, self.writer, seq), length_us));
        }
        (device.open_bytes, device.closed_bytes, device.extra_bytes) = (0, 0, 0);
        let mut extra = std::mem::take(&mut device.extra);
        let mut receipts = std::mem::take(&mut device.receipts);
        let mut tally = std::mem::take(&mut device.tally);
        let parts = parts(origin, device.closed.drain(..), &self.priorities);
        if parts.is_empty() && extra.is_empty() && tally.samples() == 0 {
            // Everything was dropped on the way, by a policy that has counted it.
            return receipts.into_iter().for_each(Receipt::settle);
        }
        let mut left = parts.len().max(1);
        let beside = parts.is_empty().then(|| (Priority::default(), Rows::default()));
        for (priority, mut rows) in parts.into_iter().chain(beside) {
            left -= 1;
            // What came beside the chunks goes with the first, and its receipts with every flush.
            let Rows { channels, clocks, events, sessions, .. } = std::mem::take(&mut extra);
            (rows.channels, rows.clocks, rows.events, rows.sessions) = (channels, clocks, events, sessions);
            let receipts = if left == 0 { std::mem::take(&mut receipts) } else { receipts.clone() };
            let tally = if left == 0 { std::mem::take(&mut tally) } else { tally.split(rows.samples()) };
            out.push(Outgoing::Flush(Flush { rows, receipts, tally, accepted_at, priority }));
        }
    }

    fn flush_due(&mut self, due: impl Fn(&Device) -> bool, out: &mut Vec<Outgoing>) {
        let due: Vec<Arc<Origin>> =
            self.devices.iter().filter(|(_, device)| due(device)).map(|(origin, _)| origin.clone()).collect();
        due.iter().for_each(|origin| self.flush(origin, out));
    }
}

impl Device {
    fn new(mapping: Mapping, length_us: i64, latest: Instant) -> Self {
        Self {
            mapping,
            length_us,
            open: BTreeMap::new(),
            closed: Vec::new(),
            closed_bytes: 0,
            open_bytes: 0,
            receipts: Vec::new(),
            tally: Tally::default(),
            extra: Rows::default(),
            extra_bytes: 0,
            oldest: None,
            waits_until: None,
            latest,
        }
    }

    fn since(&mut self, accepted_at: Instant) {
        self.latest = self.latest.max(accepted_at);
        self.oldest = Some(self.oldest.map_or(accepted_at, |oldest| oldest.min(accepted_at)));
    }

    fn full(&self) -> bool {
        self.closed_bytes + self.open_bytes + self.extra_bytes >= FLUSH_BYTES_MAX
    }

    /// When it is to be flushed.
    fn due(&self, flush_after: Duration) -> Option<Instant> {
        self.waits_until.or_else(|| Some(self.oldest? + flush_after))
    }

    /// A deadline missed by far means that the input lags and more of the same age is queued behind: it is
    /// gathered for as long again, or each batch would become a flush of its own and the lag grow.
    fn wait_if_late(&mut self, now: Instant, flush_after: Duration) {
        if let (None, Some(oldest)) = (self.waits_until, self.oldest)
            && oldest + flush_after + flush_after / 2 < now
        {
            self.waits_until = Some(now + flush_after);
        }
    }

    /// Whether `source` may wait for what is gathered here. Events have no place in the ledger, so nobody knows whose
    /// they are.
    fn is_awaited_by(&self, source: SourceId) -> bool {
        let parts = self.tally.parts();
        self.oldest.is_some() && (parts.is_empty() || parts.iter().any(|(from, _)| *from == source))
    }

    /// Keeps a share until the flush; one is enough for each frame.
    fn keep(&mut self, receipt: Receipt) {
        if receipt.is_none() || self.receipts.last().is_some_and(|last| last.same_frame(&receipt)) {
            receipt.settle();
        } else {
            self.receipts.push(receipt);
        }
    }

    fn column(
        &mut self,
        origin: &Arc<Origin>,
        column: &Column,
        live: &LiveBoard,
        layouts: &Layouts,
        next_key: &mut dyn FnMut() -> ([u8; 16], i64),
    ) {
        let name = &column.channel.name;
        let layout = self.open.get(name).map_or_else(|| layouts.of(name), |chunk| chunk.layout);
        let length_us = match layout {
            Layout::Chunks => self.length_us,
            Layout::Rows => samples_bucket_length_us(&column.channel),
        };
        let placement = Placement { mapping: self.mapping, length_us };
        let mut start = 0;
        while start < column.len() {
            if !self.open.contains_key(name) {
                let chunk = OpenChunk::new(&column.channel, layout, placement, column.times.at(start));
                self.open_bytes += chunk.bytes();
                self.open.insert(name.clone(), chunk);
            }
            let Some(chunk) = self.open.get_mut(name) else { break };
            let before = chunk.bytes();
            let taken = chunk.take(placement, column, start);
            // Runs of times may join: then it shrinks.
            self.open_bytes = (self.open_bytes + chunk.bytes()).saturating_sub(before);
            start += taken;
            if start < column.len()
                && let Some(chunk) = self.open.remove(name)
            {
                self.open_bytes = self.open_bytes.saturating_sub(chunk.bytes());
                // A fresh chunk always takes its first sample, so an empty one is never closed.
                let (writer, seq) = next_key();
                post(live, origin, self, &chunk);
                let length_us = chunk.length_us;
                let row = chunk.close(origin, self.mapping, writer, seq);
                self.closed_bytes += row.bytes();
                self.closed.push((row, length_us));
            }
        }
    }
}

/// Shows a chunk's samples on the live board, by UTC.
fn post(live: &LiveBoard, origin: &Origin, device: &Device, chunk: &OpenChunk) {
    let mapping = device.mapping;
    let samples = chunk.samples().map(|(d, value, quality)| (mapping.utc(DeviceTime(d)).0, value, quality));
    live.post(&origin.car, &origin.device, &chunk.meta, device.latest, samples);
}

fn channel_row(origin: &Origin, meta: &ChannelMeta, since: i64) -> ChannelRow {
    ChannelRow {
        car: origin.car.to_string(),
        device: origin.device.to_string(),
        channel: meta.name.to_string(),
        since,
        unit: meta.unit.to_string(),
        kind: if meta.derived { KIND_DERIVED } else { KIND_RAW }.into(),
        value_kind: meta.kind.as_str().into(),
        scale: meta.scaling.scale,
        offset: meta.scaling.offset,
        rate_mhz: i64::from(meta.rate_mhz),
    }
}

impl Stage for Chunk {
    type In = Item;
    type Out = Outgoing;

    fn name(&self) -> &str {
        "chunk"
    }

    fn process(&mut self, item: Item, out: &mut Vec<Outgoing>) {
        match item {
            Item::Batch(batch) => self.batch(batch, out),
            Item::Event(event) => self.event(event, out),
            Item::Catalogue(catalogue) => self.catalogue(catalogue),
            Item::Malformed(malformed) => out.push(Outgoing::Malformed(malformed)),
            Item::Flush(source) => self.flush_due(|device| device.is_awaited_by(source), out),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let due = self.devices.values().filter_map(|device| device.due(self.flush_after));
        due.chain(self.clocks.look_at()).min()
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        let flush_after = self.flush_after;
        for device in self.devices.values_mut() {
            device.wait_if_late(now, flush_after);
        }
        self.flush_due(|device| device.due(flush_after).is_some_and(|due| due <= now), out);
        self.correct(now, out);
    }

    fn finish(&mut self, out: &mut Vec<Outgoing>) {
        self.flush_due(|device| device.oldest.is_some(), out);
    }
}

//! `{"ts": ms, "values": {"channel": number, …}}`, or an array of such objects.
//!
//! The device is the source's name, the boot 0, the base UTC; a topic `pitwire/CAR/…` names the car. `ts` is
//! the epoch in ms (a fraction keeps its µs). Without it the time of receipt is taken and flagged, by the gateway's
//! own counter: the boot is the gateway's then, the base its start, so that no setting of the wall clock repeats or
//! reorders such samples. Each is a µs later than the last one at least, so that no two share a time. Numbers become
//! f64 columns, booleans 0 and 1; text and integers beyond 2^53 become events, since an f64 would not hold them; null
//! is absent.
//! A message whose content came before, times included, is a repetition.
//!
//! What comes at once leaves as one batch: its columns grow over all messages, whose receipts are joined.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Arrival, Format, SourceSpec, malformed};
use crate::clock::{Clock, Gateway};
use crate::gauges::{DeviceGauges, DeviceKey};
use crate::item::{Batch, Body, Event, Item, RawMessage};
use crate::ledger::Fate;
use crate::limits::{
    CHANNELS_PER_DEVICE_MAX, CONTENT_WINDOW, DEVICES_MAX, JSON_CHANNEL_BYTES_MAX, JSON_TEXT_BYTES_MAX,
};
use crate::receipt::{Custody, ReceiptWatch};
use crate::sample::{ChannelMeta, ClockBase, DeviceTime, Name, Origin, Quality, Scaling, ValueKind};
use gathered::Gathered;
use parse::Message;

mod gathered;
mod parse;

pub(super) struct Json {
    spec: SourceSpec,
    gateway: Arc<Gateway>,
    cars: HashMap<Name, Car>,
    /// The topic of the last message, and its car: the next one's as a rule.
    last: Option<(Bytes, Name)>,
    channels: Channels,
    seen: HashMap<u128, ReceiptWatch, BuildHasherDefault<Already>>,
    order: VecDeque<u128>,
    /// The latest time of receipt that a sample was given, µs by the gateway's counter.
    stamped_us: i64,
    /// Used again for each message.
    message: Message,
    content: Vec<u8>,
}

/// Of keys that are hashes already.
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

/// The source's channels by name and by number.
#[derive(Default)]
struct Channels {
    numbers: HashMap<Name, u32>,
    metas: Vec<Arc<ChannelMeta>>,
}

impl Channels {
    fn find(&mut self, name: &str) -> Result<u32, String> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if self.metas.len() >= CHANNELS_PER_DEVICE_MAX {
            return Err(format!("more than {CHANNELS_PER_DEVICE_MAX} different channels on one source"));
        }
        check_name(name)?;
        let (name, unit): (Name, Name) = (name.into(), "".into());
        let (kind, scaling) = (ValueKind::F64, Scaling::IDENTITY);
        let number = self.metas.len() as u32;
        let meta = ChannelMeta { name: name.clone(), unit, kind, scaling, rate_mhz: 0, derived: false };
        self.metas.push(Arc::new(meta));
        self.numbers.insert(name, number);
        Ok(number)
    }

    /// Forgets those that came after the first `count`: a message that is none must not use up what a source may have.
    fn keep(&mut self, count: usize) {
        for meta in self.metas.drain(count..) {
            self.numbers.remove(&meta.name);
        }
    }
}

/// One car that this source brings samples of: those with a time, and those without.
struct Car {
    timed: Series,
    untimed: Series,
}

struct Series {
    origin: Arc<Origin>,
    key: DeviceKey,
    gauges: DeviceGauges,
    gathered: Gathered,
}

impl Series {
    fn new(car: &Name, device: &Name, boot: u32, base: ClockBase) -> Self {
        Self {
            origin: Arc::new(Origin { car: car.clone(), device: device.clone(), boot, base }),
            key: (car.to_string(), device.to_string(), boot),
            gauges: DeviceGauges::default(),
            gathered: Gathered::default(),
        }
    }

    fn event(&self, t_us: i64, text: String, arrival: &Arrival) -> Item {
        // By content, so that the same event after a restart is the same row.
        let sequence = xxh3_64(text.as_bytes()) as u32;
        let (origin, receipt) = (self.origin.clone(), arrival.receipt.clone());
        let Arrival { accepted_at, received, .. } = *arrival;
        let (t, kind, number) = (DeviceTime(t_us), "text", 0);
        Item::Event(Event { origin, t, sequence, kind, number, text, accepted_at, received, receipt })
    }

    /// Gives out what was gathered, counted in the ledger only now: nobody has seen it before.
    fn give(&mut self, spec: &SourceSpec, metas: &[Arc<ChannelMeta>], out: &mut Vec<Item>) {
        let Some(batch) = self.gathered.take(metas) else { return };
        let tally = spec.ledger.receive(spec.id, batch.samples);
        self.gauges.samples += batch.samples;
        let (origin, columns, custody) =
            (self.origin.clone(), batch.columns, Custody { receipt: batch.receipt, tally });
        let (accepted_at, received) = (batch.accepted_at, batch.received);
        out.push(Item::Batch(Batch { origin, columns, accepted_at, received, custody }));
    }
}

impl Json {
    pub(super) fn new(spec: SourceSpec, gateway: Arc<Gateway>) -> Self {
        Self {
            spec,
            gateway,
            cars: HashMap::new(),
            last: None,
            channels: Channels::default(),
            seen: HashMap::default(),
            order: VecDeque::new(),
            stamped_us: i64::MIN,
            message: Message::default(),
            content: Vec::new(),
        }
    }

    /// The car that a message is of, followed from its first message on.
    fn car(&mut self, topic: &Bytes) -> Result<Name, String> {
        if let Some((_, car)) = self.last.as_ref().filter(|(last, _)| last == topic) {
            return Ok(car.clone());
        }
        let name = self.spec.car_of(topic)?;
        if !self.cars.contains_key(&name) {
            if self.cars.len() >= DEVICES_MAX {
                return Err(format!("more than {DEVICES_MAX} cars on one source"));
            }
            let device: Name = format!("{}{}", self.spec.device_prefix, self.spec.name).into();
            let timed = Series::new(&name, &device, 0, ClockBase::Utc);
            let untimed = Series::new(&name, &device, self.gateway.boot(), ClockBase::Boot);
            self.cars.insert(name.clone(), Car { timed, untimed });
        }
        // Copied: it would keep what came with it.
        self.last = Some((Bytes::copy_from_slice(topic), name.clone()));
        Ok(name)
    }

    /// What `self.message` says, to be gathered or, as a repetition, to be counted.
    fn message(&mut self, car: &Name, repeated: bool, arrival: &Arrival, out: &mut Vec<Item>) {
        let Some(Car { timed, untimed }) = self.cars.get_mut(car) else { return };
        let (mut number, mut text) = (0, 0);
        let mut frames = [false; 2];
        let mut texts = std::mem::take(&mut self.message.texts).into_iter();
        for record in &self.message.records {
            let (series, t_us, quality) = match record.t_us {
                Some(t_us) => (&mut *timed, t_us, Quality::GOOD),
                None => {
                    let received_us = self.gateway.uptime_at_us(arrival.accepted_at);
                    self.stamped_us = received_us.max(self.stamped_us.saturating_add(1));
                    (&mut *untimed, self.stamped_us, Quality::RECEIVE_TIME)
                }
            };
            frames[usize::from(record.t_us.is_none())] = true;
            let numbers = &self.message.numbers[number..record.numbers];
            number = record.numbers;
            let said = texts.by_ref().take(record.texts - text);
            text = record.texts;
            if repeated {
                said.for_each(drop);
                self.spec.ledger.receive(self.spec.id, numbers.len() as u64).settle(Fate::Duplicate);
                continue;
            }
            out.extend(said.map(|text| series.event(t_us, text, arrival)));
            if numbers.is_empty() {
                continue;
            }
            if !series.gathered.joins(arrival) {
                series.give(&self.spec, &self.channels.metas, out);
                series.gathered.begin(arrival);
            }
            series.gathered.add(DeviceTime(t_us), quality, numbers);
        }
        for (series, _) in [(timed, frames[0]), (untimed, frames[1])].into_iter().filter(|(_, came)| *came) {
            match repeated {
                true => series.gauges.duplicate_frames += 1,
                false => series.gauges.frames += 1,
            }
            series.gathered.touched = true;
        }
    }

    /// Whether the content came before; if so, a share of the receipt has joined the original's.
    fn repeated(&mut self, topic: &[u8], payload: &[u8], arrival: &Arrival) -> bool {
        self.content.clear();
        self.content.extend_from_slice(topic);
        self.content.push(0);
        self.content.extend_from_slice(payload);
        let hash = xxh3_128(&self.content);
        match self.seen.get(&hash).map(|original| original.join(arrival.receipt.clone())) {
            Some(Ok(())) => return true,
            Some(Err(share)) => share.settle(),
            None => {
                self.order.push_back(hash);
                if self.order.len() > CONTENT_WINDOW {
                    self.order.pop_front().map(|oldest| self.seen.remove(&oldest));
                }
            }
        }
        self.seen.insert(hash, arrival.receipt.watch());
        false
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > JSON_CHANNEL_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "a channel's name is empty, over {JSON_CHANNEL_BYTES_MAX} bytes, or has control characters"
        ));
    }
    Ok(())
}

/// What an event says of a value that is no number.
fn text(name: &str, words: &str) -> Result<String, String> {
    check_name(name)?;
    if words.len() > JSON_TEXT_BYTES_MAX {
        return Err(format!(
            "the text of {name} has {} bytes, at most {JSON_TEXT_BYTES_MAX} are possible",
            words.len()
        ));
    }
    Ok(format!("{name}={words}"))
}

impl Format for Json {
    fn decode(&mut self, message: RawMessage, out: &mut Vec<Item>) {
        let RawMessage { body, accepted_at, received, receipt } = message;
        let arrival = Arrival { accepted_at, received, comes_again: !receipt.is_none(), receipt };
        let (topic, payload) = match body {
            Body::Message { topic, payload } => (topic, payload),
            Body::Opened | Body::Flush => return arrival.receipt.settle(),
            // `check` refuses this format on a byte stream; should it happen, nothing vanishes.
            Body::Stream(bytes) => (Bytes::new(), bytes),
        };
        let known = self.channels.metas.len();
        let channels = &mut self.channels;
        let taken = self.message.take(&payload, &mut |name| channels.find(name));
        let car = match taken.and_then(|()| self.car(&topic)) {
            Ok(car) => car,
            Err(reason) => {
                self.channels.keep(known);
                return out.push(malformed(&self.spec, arrival, &topic, payload, reason));
            }
        };
        self.spec.gauges.frames.fetch_add(1, Ordering::Relaxed);
        // Without a time of its own a message cannot be told from one that says the same again.
        let timed = self.message.records.iter().all(|record| record.t_us.is_some());
        let repeated = timed && self.repeated(&topic, &payload, &arrival);
        self.message(&car, repeated, &arrival, out);
        arrival.receipt.settle();
    }

    fn end_of_batch(&mut self, out: &mut Vec<Item>) {
        for series in self.cars.values_mut().flat_map(|car| [&mut car.timed, &mut car.untimed]) {
            series.give(&self.spec, &self.channels.metas, out);
            if std::mem::take(&mut series.gathered.touched) {
                self.spec.gauges.set_device(&series.key, &series.gauges);
            }
        }
    }
}

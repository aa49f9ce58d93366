//! `{"ts": ms, "values": {"channel": number, …}}`, or an array of such objects.
//!
//! The device is the source's name, the boot 0, the base UTC. `ts` is the epoch in ms (a fraction keeps
//! its µs); without it the time of receipt is taken and flagged. Numbers become f64 columns, booleans 0
//! and 1; text and integers beyond 2^53 become events, since an f64 would not hold them; null is absent.
//! A message whose content came before, times included, is a repetition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::{Arrival, Format, SourceSpec, malformed};
use crate::gauges::DeviceGauges;
use crate::item::{Batch, Body, Event, Item, RawMessage};
use crate::ledger::Fate;
use crate::limits::{CHANNELS_PER_DEVICE_MAX, CONTENT_WINDOW};
use crate::receipt::{Custody, ReceiptWatch};
use crate::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Name, Origin, Quality, Scaling, Times, ValueKind, Values,
};

/// Integers up to here are exact in f64.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// 2^63 µs in ms, rounded down: later times do not fit.
const MS_MAX: f64 = 9.2e15;

pub(super) struct Json {
    spec: SourceSpec,
    origin: Arc<Origin>,
    metas: HashMap<Name, Arc<ChannelMeta>>,
    seen: HashMap<u128, ReceiptWatch>,
    order: VecDeque<u128>,
    gauges: DeviceGauges,
    events: u32,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    One(Record),
    Many(Vec<Record>),
}

#[derive(Deserialize)]
struct Record {
    ts: Option<f64>,
    values: Map<String, Value>,
}

/// A message, understood: numbers by time, and what numbers cannot hold.
#[derive(Default)]
struct Parsed {
    columns: Vec<Column>,
    events: Vec<(i64, String)>,
    timed: bool,
}

impl Json {
    pub(super) fn new(spec: SourceSpec) -> Self {
        let device: Name = format!("{}{}", spec.device_prefix, spec.name).into();
        let origin = Arc::new(Origin { car: spec.car.clone(), device, boot: 0, base: ClockBase::Utc });
        Self {
            spec,
            origin,
            metas: HashMap::new(),
            seen: HashMap::new(),
            order: VecDeque::new(),
            gauges: DeviceGauges::default(),
            events: 0,
        }
    }

    fn parse(&mut self, payload: &[u8], arrival: &Arrival) -> Result<Parsed, String> {
        let message: Message = serde_json::from_slice(payload).map_err(|_| {
            // The derive's own message for untagged data names no cause.
            let cause = serde_json::from_slice::<Value>(payload).err();
            cause.map_or_else(
                || r#"expected {"ts": ms, "values": {"channel": number}} or an array of them"#.into(),
                |error| format!("not json: {error}"),
            )
        })?;
        let records = match message {
            Message::One(record) => vec![record],
            Message::Many(records) => records,
        };
        let mut parsed = Parsed { timed: true, ..Parsed::default() };
        for record in records {
            self.record(record, arrival, &mut parsed)?;
        }
        Ok(parsed)
    }

    fn record(&mut self, record: Record, arrival: &Arrival, parsed: &mut Parsed) -> Result<(), String> {
        let (t_us, quality) = match record.ts {
            Some(ms) if ms.is_finite() && ms.abs() < MS_MAX => ((ms * 1000.0).round() as i64, Quality::GOOD),
            Some(ms) => return Err(format!("ts {ms} is not a time in ms since 1970")),
            None => (arrival.received.0, Quality::RECEIVE_TIME),
        };
        parsed.timed &= record.ts.is_some();
        for (name, value) in record.values {
            let number = match value {
                Value::Null => continue,
                Value::Bool(on) => f64::from(u8::from(on)),
                Value::Number(number) => {
                    let exact = number.as_i64().is_none_or(|n| n.unsigned_abs() <= EXACT_INTEGER_MAX)
                        && number.as_u64().is_none_or(|n| n <= EXACT_INTEGER_MAX);
                    match number.as_f64().filter(|_| exact) {
                        Some(number) => number,
                        None => {
                            parsed.events.push((t_us, format!("{name}={number}")));
                            continue;
                        }
                    }
                }
                Value::String(text) => {
                    parsed.events.push((t_us, format!("{name}={text}")));
                    continue;
                }
                Value::Array(_) | Value::Object(_) => {
                    return Err(format!("value of {name} is neither a number nor a text"));
                }
            };
            let channel = self.meta(&name)?;
            parsed.columns.push(Column {
                channel,
                times: Times::one(DeviceTime(t_us)),
                values: Values::F64(vec![number]),
                flags: Flags::all(quality, 1),
            });
        }
        Ok(())
    }

    fn meta(&mut self, name: &str) -> Result<Arc<ChannelMeta>, String> {
        if let Some(meta) = self.metas.get(name) {
            return Ok(meta.clone());
        }
        if self.metas.len() >= CHANNELS_PER_DEVICE_MAX {
            return Err(format!("more than {CHANNELS_PER_DEVICE_MAX} different channels on one source"));
        }
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            return Err("a channel's name is empty, over 255 bytes, or has control characters".into());
        }
        let name: Name = name.into();
        let (kind, scaling) = (ValueKind::F64, Scaling::IDENTITY);
        let meta = Arc::new(ChannelMeta { name: name.clone(), unit: "".into(), kind, scaling, rate_mhz: 0 });
        self.metas.insert(name, meta.clone());
        Ok(meta)
    }

    /// Whether the content came before; if so, a share of the receipt has joined the original's.
    fn repeated(&mut self, topic: &[u8], payload: &[u8], arrival: &Arrival) -> bool {
        let mut content = topic.to_vec();
        content.push(0);
        content.extend_from_slice(payload);
        let hash = xxh3_128(&content);
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

impl Format for Json {
    fn decode(&mut self, message: RawMessage, out: &mut Vec<Item>) {
        let RawMessage { body, accepted_at, received, receipt, .. } = message;
        let arrival = Arrival { accepted_at, received, receipt };
        let (topic, payload) = match body {
            Body::Message { topic, payload } => (topic, payload),
            Body::Opened => return arrival.receipt.settle(),
            // `check` refuses this format on a byte stream; should it happen, nothing vanishes.
            Body::Stream(bytes) => (Bytes::new(), bytes),
        };
        let parsed = match self.parse(&payload, &arrival) {
            Ok(parsed) => parsed,
            Err(reason) => return out.push(malformed(&self.spec, arrival, &topic, payload, reason)),
        };
        self.spec.gauges.frames.fetch_add(1, Ordering::Relaxed);
        let samples = parsed.columns.len() as u64;
        // Without a time of its own a message cannot be told from one that says the same again.
        if parsed.timed && self.repeated(&topic, &payload, &arrival) {
            self.gauges.duplicate_frames += 1;
            self.spec.ledger.receive(self.spec.id, samples).settle(Fate::Duplicate);
            return arrival.receipt.settle();
        }
        self.gauges.frames += 1;
        self.gauges.samples += samples;
        for (t_us, text) in parsed.events {
            self.events = self.events.wrapping_add(1);
            out.push(Item::Event(Event {
                origin: self.origin.clone(),
                t: DeviceTime(t_us),
                sequence: self.events,
                kind: "text",
                number: 0,
                text,
                accepted_at,
                received,
                receipt: arrival.receipt.clone(),
            }));
        }
        if samples > 0 {
            let tally = self.spec.ledger.receive(self.spec.id, samples);
            let custody = Custody { receipt: arrival.receipt.clone(), tally };
            let (origin, columns) = (self.origin.clone(), parsed.columns);
            out.push(Item::Batch(Batch { origin, columns, accepted_at, received, custody }));
        }
        arrival.receipt.settle();
        let key = (self.origin.car.to_string(), self.origin.device.to_string(), 0);
        self.spec.gauges.set_device(&key, &self.gauges);
    }
}

//! `{"ts": ms, "values": {"channel": number, …}}`, or an array of such objects.
//!
//! The device is the source's name, the boot 0, the base UTC; a topic `pitwire/CAR/…` names the car. `ts` is
//! the epoch in ms (a fraction keeps its µs). Without it the time of receipt is taken and flagged, by the gateway's
//! own counter: the boot is the gateway's then, the base its start, so that no setting of the wall clock repeats or
//! reorders such samples. Each is a µs later than the last one at least, so that no two share a time. Numbers become
//! f64 columns, booleans 0 and 1; text and integers beyond 2^53 become events, since an f64 would not hold them; null
//! is absent.
//! A message whose content came before, times included, is a repetition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
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
use crate::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Name, Origin, Quality, Scaling, Times, ValueKind, Values,
};

/// Integers up to here are exact in f64.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// 2^63 µs in ms, rounded down: later times do not fit.
const MS_MAX: f64 = 9.2e15;

pub(super) struct Json {
    spec: SourceSpec,
    gateway: Arc<Gateway>,
    cars: HashMap<Name, Car>,
    metas: HashMap<Name, Arc<ChannelMeta>>,
    seen: HashMap<u128, ReceiptWatch>,
    order: VecDeque<u128>,
    /// The latest time of receipt that a sample was given, µs by the gateway's counter.
    stamped_us: i64,
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

/// A message, understood: its records with a time, and those without.
#[derive(Default)]
struct Parsed {
    timed: Found,
    untimed: Found,
}

/// Numbers by time, and what numbers cannot hold.
#[derive(Default)]
struct Found {
    records: usize,
    columns: Vec<Column>,
    events: Vec<(i64, String)>,
}

impl Series {
    fn give(&mut self, spec: &SourceSpec, found: Found, repeated: bool, arrival: &Arrival, out: &mut Vec<Item>) {
        let Arrival { accepted_at, received, .. } = *arrival;
        let samples = found.columns.len() as u64;
        let tally = spec.ledger.receive(spec.id, samples);
        if repeated {
            self.gauges.duplicate_frames += 1;
            tally.settle(Fate::Duplicate);
        } else {
            self.gauges.frames += 1;
            self.gauges.samples += samples;
            let events = found.events.into_iter().map(|(t_us, text)| {
                // By content, so that the same event after a restart is the same row.
                let sequence = xxh3_64(text.as_bytes()) as u32;
                let (origin, receipt) = (self.origin.clone(), arrival.receipt.clone());
                let (t, kind, number) = (DeviceTime(t_us), "text", 0);
                Item::Event(Event { origin, t, sequence, kind, number, text, accepted_at, received, receipt })
            });
            out.extend(events);
            if samples > 0 {
                let custody = Custody { receipt: arrival.receipt.clone(), tally };
                let (origin, columns) = (self.origin.clone(), found.columns);
                out.push(Item::Batch(Batch { origin, columns, accepted_at, received, custody }));
            }
        }
        spec.gauges.set_device(&self.key, &self.gauges);
    }
}

impl Json {
    pub(super) fn new(spec: SourceSpec, gateway: Arc<Gateway>) -> Self {
        Self {
            spec,
            gateway,
            cars: HashMap::new(),
            metas: HashMap::new(),
            seen: HashMap::new(),
            order: VecDeque::new(),
            stamped_us: i64::MIN,
        }
    }

    /// The car that a message is of, followed from its first message on.
    fn car(&mut self, topic: &[u8]) -> Result<Name, String> {
        let name = self.spec.car_of(topic)?;
        if !self.cars.contains_key(&name) {
            if self.cars.len() >= DEVICES_MAX {
                return Err(format!("more than {DEVICES_MAX} cars on one source"));
            }
            let device: Name = format!("{}{}", self.spec.device_prefix, self.spec.name).into();
            let series = |boot, base| Series {
                origin: Arc::new(Origin { car: name.clone(), device: device.clone(), boot, base }),
                key: (name.to_string(), device.to_string(), boot),
                gauges: DeviceGauges::default(),
            };
            let timed = series(0, ClockBase::Utc);
            let untimed = series(self.gateway.boot(), ClockBase::Boot);
            self.cars.insert(name.clone(), Car { timed, untimed });
        }
        Ok(name)
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
        let mut parsed = Parsed::default();
        for record in records {
            self.record(record, arrival, &mut parsed)?;
        }
        Ok(parsed)
    }

    fn record(&mut self, record: Record, arrival: &Arrival, parsed: &mut Parsed) -> Result<(), String> {
        let (t_us, quality) = match record.ts {
            Some(ms) if ms.is_finite() && ms.abs() < MS_MAX => ((ms * 1000.0).round() as i64, Quality::GOOD),
            Some(ms) => return Err(format!("ts {ms} is not a time in ms since 1970")),
            None => {
                let received_us = self.gateway.uptime_at_us(arrival.accepted_at);
                self.stamped_us = received_us.max(self.stamped_us.saturating_add(1));
                (self.stamped_us, Quality::RECEIVE_TIME)
            }
        };
        let found = if record.ts.is_some() { &mut parsed.timed } else { &mut parsed.untimed };
        found.records += 1;
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
                            found.events.push((t_us, text(&name, &number.to_string())?));
                            continue;
                        }
                    }
                }
                Value::String(words) => {
                    found.events.push((t_us, text(&name, &words)?));
                    continue;
                }
                Value::Array(_) | Value::Object(_) => {
                    return Err(format!("value of {name} is neither a number nor a text"));
                }
            };
            let channel = self.meta(&name)?;
            found.columns.push(Column {
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
        check_name(name)?;
        let name: Name = name.into();
        let (kind, scaling) = (ValueKind::F64, Scaling::IDENTITY);
        let meta =
            Arc::new(ChannelMeta { name: name.clone(), unit: "".into(), kind, scaling, rate_mhz: 0, derived: false });
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
        let RawMessage { body, accepted_at, received, receipt, .. } = message;
        let arrival = Arrival { accepted_at, received, comes_again: !receipt.is_none(), receipt };
        let (topic, payload) = match body {
            Body::Message { topic, payload } => (topic, payload),
            Body::Opened | Body::Flush => return arrival.receipt.settle(),
            // `check` refuses this format on a byte stream; should it happen, nothing vanishes.
            Body::Stream(bytes) => (Bytes::new(), bytes),
        };
        let understood = self.car(&topic).and_then(|car| Ok((car, self.parse(&payload, &arrival)?)));
        let (car, parsed) = match understood {
            Ok(understood) => understood,
            Err(reason) => return out.push(malformed(&self.spec, arrival, &topic, payload, reason)),
        };
        self.spec.gauges.frames.fetch_add(1, Ordering::Relaxed);
        // Without a time of its own a message cannot be told from one that says the same again.
        let repeated = parsed.untimed.records == 0 && self.repeated(&topic, &payload, &arrival);
        let Some(Car { timed, untimed }) = self.cars.get_mut(&car) else { return arrival.receipt.settle() };
        for (series, found) in [(timed, parsed.timed), (untimed, parsed.untimed)] {
            if found.records > 0 {
                series.give(&self.spec, found, repeated, &arrival, out);
            }
        }
        arrival.receipt.settle();
    }
}

//! Pitwire's own frames, from a byte stream or one to a message.
//!
//! A frame is checked, its sequence noted, and its samples turned into columns by the catalogue that it
//! names. Frames of an unknown revision are held, raw and bounded, until the Describe comes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pitwire_wire::{self as wire, Deframer, Header, Payload, Piece};

use super::catalogue::{Catalogue, CatalogueRecord, Parts, value_kind};
use super::track::{Seen, Track};
use super::{Arrival, Format, Remember, SourceSpec, malformed};
use crate::gauges::{DeviceGauges, DeviceKey};
use crate::item::{self, Batch, Body, Item, RawMessage};
use crate::limits::{DEVICES_MAX, HELD_BYTES_MAX, HELD_FRAMES_MAX};
use crate::receipt::Custody;
use crate::sample::{ChannelMeta, ClockBase, Column, DeviceTime, Flags, Name, Origin, Times, Values};

/// Boots of one device followed at once: redelivered frames of the last boot mix with the new one's.
const BOOTS_MAX: usize = 4;
/// Catalogues kept per device.
const REVISIONS_MAX: usize = 4;

pub(super) struct Wire {
    spec: SourceSpec,
    remember: Remember,
    /// Taken out while a frame is looked at, since it lends its buffer.
    deframer: Option<Box<Deframer>>,
    devices: HashMap<(Name, Name), Device>,
    known: HashMap<(String, String), Vec<CatalogueRecord>>,
}

#[derive(Default)]
struct Device {
    boots: VecDeque<Boot>,
    catalogues: VecDeque<(u32, Arc<Catalogue>)>,
    parts: Option<(u32, Parts)>,
    held: VecDeque<Held>,
    held_bytes: usize,
}

struct Boot {
    key: DeviceKey,
    track: Track,
    origin: Option<Arc<Origin>>,
    announced: Option<u32>,
}

struct Held {
    frame: Bytes,
    arrival: Arrival,
}

impl Wire {
    pub(super) fn new(spec: SourceSpec, known: &[CatalogueRecord], remember: Remember) -> Self {
        let mut by_device: HashMap<_, Vec<_>> = HashMap::new();
        for record in known {
            by_device.entry((record.car.clone(), record.device.clone())).or_default().push(record.clone());
        }
        Self { spec, remember, deframer: Some(Box::default()), devices: HashMap::new(), known: by_device }
    }

    /// The car that a topic `…/CAR/DEVICE` names, unless the source's own holds.
    fn car(&self, topic: &[u8]) -> Name {
        let named = std::str::from_utf8(topic).ok().and_then(|topic| topic.strip_prefix("pitwire/")?.split('/').next());
        match named {
            Some(car) if !self.spec.car_is_fixed && !car.is_empty() && *car != *self.spec.car => car.into(),
            _ => self.spec.car.clone(),
        }
    }

    fn stream(&mut self, mut bytes: &[u8], arrival: &Arrival, out: &mut Vec<Item>) {
        let mut deframer = self.deframer.take().unwrap_or_default();
        loop {
            let (taken, piece) = deframer.push(bytes);
            bytes = &bytes[taken..];
            match piece {
                None => break,
                Some(Piece::Frame(frame)) => {
                    let car = self.spec.car.clone();
                    if let Err(reason) = self.frame(&car, frame, None, arrival, out) {
                        out.push(malformed(&self.spec, arrival.clone(), b"", Bytes::copy_from_slice(frame), reason));
                    }
                }
                Some(Piece::Garbage { bytes, reason }) => {
                    self.spec.gauges.garbage_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    self.spec.gauges.malformed.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(source = %self.spec.name, bytes, %reason, "bytes on the line that are no frame");
                }
            }
        }
        self.deframer = Some(deframer);
    }

    /// Decodes one frame; `whole` are its bytes if they can be kept without copying.
    fn frame(
        &mut self,
        car: &Name,
        frame: &[u8],
        whole: Option<&Bytes>,
        arrival: &Arrival,
        out: &mut Vec<Item>,
    ) -> Result<(), String> {
        let (header, payload) = wire::decode(frame).map_err(|error| error.to_string())?;
        self.spec.gauges.frames.fetch_add(1, Ordering::Relaxed);
        let device_name: Name = format!("{}{}", self.spec.device_prefix, header.device).into();
        if !self.devices.contains_key(&(car.clone(), device_name.clone())) {
            if self.devices.len() >= DEVICES_MAX {
                return Err(format!("more than {DEVICES_MAX} devices on one source"));
            }
            let device = Device::from_known(self.known.remove(&(car.to_string(), device_name.to_string())));
            self.devices.insert((car.clone(), device_name.clone()), device);
        }
        let Some(device) = self.devices.get_mut(&(car.clone(), device_name.clone())) else { return Ok(()) };
        let context = Context { spec: &self.spec, remember: &self.remember, car, device: &device_name };

        let boot = device.boot(&context, &header);
        if device.boots[boot].track.see(header.sequence, &arrival.receipt) == Seen::Repeat {
            let samples = device.samples_of(&header, &payload);
            context.spec.ledger.receive(context.spec.id, samples).settle(crate::ledger::Fate::Duplicate);
        } else {
            match payload {
                Payload::Describe(describe) => device.describe(&context, &header, &describe, arrival, out)?,
                Payload::Status(status) => {
                    device.boots[boot].track.status(status.samples_before, status.samples_dropped);
                }
                _ if device.catalogue(header.catalogue).is_none() => {
                    let frame = whole.cloned().unwrap_or_else(|| Bytes::copy_from_slice(frame));
                    device.hold(&context, frame, arrival, out);
                }
                payload => device.data(&context, boot, &header, &payload, arrival, out)?,
            }
        }
        device.show(&context, boot);
        Ok(())
    }
}

impl Format for Wire {
    fn decode(&mut self, message: RawMessage, out: &mut Vec<Item>) {
        let RawMessage { body, accepted_at, received, receipt, .. } = message;
        let arrival = Arrival { accepted_at, received, receipt };
        match body {
            Body::Opened => {
                let cut = self.deframer.as_mut().map_or(0, |deframer| deframer.reset());
                self.spec.gauges.garbage_bytes.fetch_add(cut as u64, Ordering::Relaxed);
                arrival.receipt.settle();
            }
            Body::Stream(bytes) => {
                self.stream(&bytes, &arrival, out);
                arrival.receipt.settle();
            }
            Body::Message { topic, payload } => {
                let car = self.car(&topic);
                if let Err(reason) = self.frame(&car, &payload, Some(&payload), &arrival, out) {
                    out.push(malformed(&self.spec, arrival, &topic, payload, reason));
                } else {
                    arrival.receipt.settle();
                }
            }
        }
    }

    /// Held frames of a source that cannot send again go to the quarantine; the others are left
    /// unacknowledged, and come again.
    fn finish(&mut self, out: &mut Vec<Item>) {
        for device in self.devices.values_mut() {
            for held in device.held.drain(..) {
                if held.arrival.receipt.is_none() {
                    let reason = "the agent stopped before the frame's catalogue came".to_owned();
                    out.push(malformed(&self.spec, held.arrival, b"", held.frame, reason));
                }
            }
        }
    }
}

/// What the steps on one frame share.
struct Context<'a> {
    spec: &'a SourceSpec,
    remember: &'a Remember,
    car: &'a Name,
    device: &'a Name,
}

impl Device {
    fn from_known(records: Option<Vec<CatalogueRecord>>) -> Self {
        let records = records.unwrap_or_default();
        let known = records.iter().filter_map(|r| Some((r.revision, Arc::new(Catalogue::from_record(r)?))));
        Self { catalogues: known.take(REVISIONS_MAX).collect(), ..Self::default() }
    }

    fn catalogue(&self, revision: u32) -> Option<&Arc<Catalogue>> {
        self.catalogues.iter().find(|(known, _)| *known == revision).map(|(_, catalogue)| catalogue)
    }

    /// The index of the frame's boot, opened if it is new.
    fn boot(&mut self, context: &Context<'_>, header: &Header) -> usize {
        if let Some(index) = self.boots.iter().position(|boot| boot.key.2 == header.boot) {
            return index;
        }
        if self.boots.len() >= BOOTS_MAX {
            self.boots.pop_front();
        }
        let key = (context.car.to_string(), context.device.to_string(), header.boot);
        self.boots.push_back(Boot { key, track: Track::new(header.sequence), origin: None, announced: None });
        self.boots.len() - 1
    }

    fn describe(
        &mut self,
        context: &Context<'_>,
        header: &Header,
        describe: &wire::Describe<'_>,
        arrival: &Arrival,
        out: &mut Vec<Item>,
    ) -> Result<(), String> {
        let revision = header.catalogue;
        if self.catalogue(revision).is_some() {
            return Ok(());
        }
        if self.parts.as_ref().is_none_or(|(known, _)| *known != revision) {
            self.parts = Some((revision, Parts::new(describe)));
        }
        let Some((_, parts)) = &mut self.parts else { return Ok(()) };
        match parts.add(describe, arrival.received.0) {
            Err(reason) => {
                self.parts = None;
                return Err(reason);
            }
            Ok(None) => {}
            Ok(Some(catalogue)) => {
                self.parts = None;
                (context.remember)(&catalogue.record(context.car, context.device, revision));
                if self.catalogues.len() >= REVISIONS_MAX {
                    self.catalogues.pop_front();
                }
                self.catalogues.push_back((revision, Arc::new(catalogue)));
                self.release(context, revision, out);
            }
        }
        Ok(())
    }

    /// Keeps a frame until its catalogue comes; the oldest goes to the quarantine if there are too many.
    fn hold(&mut self, context: &Context<'_>, frame: Bytes, arrival: &Arrival, out: &mut Vec<Item>) {
        self.held_bytes += frame.len();
        self.held.push_back(Held { frame, arrival: arrival.clone() });
        context.spec.gauges.held_frames.fetch_add(1, Ordering::Relaxed);
        while self.held.len() > HELD_FRAMES_MAX || self.held_bytes > HELD_BYTES_MAX {
            let Some(oldest) = self.held.pop_front() else { break };
            self.held_bytes -= oldest.frame.len();
            context.spec.gauges.held_frames.fetch_sub(1, Ordering::Relaxed);
            let reason = format!("device {} sent no describe for the frame's catalogue", context.device);
            out.push(malformed(context.spec, oldest.arrival, b"", oldest.frame, reason));
        }
    }

    /// Decodes the held frames of a revision that is now known.
    fn release(&mut self, context: &Context<'_>, revision: u32, out: &mut Vec<Item>) {
        for held in std::mem::take(&mut self.held) {
            // Held frames were checked when they came.
            let Ok((header, payload)) = wire::decode(&held.frame) else { continue };
            if header.catalogue != revision {
                self.held.push_back(held);
                continue;
            }
            self.held_bytes -= held.frame.len();
            context.spec.gauges.held_frames.fetch_sub(1, Ordering::Relaxed);
            let boot = self.boot(context, &header);
            let arrival = held.arrival;
            if let Err(reason) = self.data(context, boot, &header, &payload, &arrival, out) {
                out.push(malformed(context.spec, arrival, b"", held.frame.clone(), reason));
            } else {
                arrival.receipt.settle();
            }
        }
    }

    /// How many samples a frame holds, as far as that can be told.
    fn samples_of(&self, header: &Header, payload: &Payload<'_>) -> u64 {
        match payload {
            Payload::Burst(burst) => burst.values.len() as u64,
            Payload::Scan(scan) => {
                let channels = self.catalogue(header.catalogue).and_then(|c| Some(c.group(scan.group)?.count()));
                channels.unwrap_or(0) as u64 * u64::from(scan.count)
            }
            _ => 0,
        }
    }

    /// Turns a Burst, a Scan or an Event into an item.
    fn data(
        &mut self,
        context: &Context<'_>,
        boot: usize,
        header: &Header,
        payload: &Payload<'_>,
        arrival: &Arrival,
        out: &mut Vec<Item>,
    ) -> Result<(), String> {
        let Some(catalogue) = self.catalogue(header.catalogue).cloned() else {
            return Err("its catalogue is not known".into());
        };
        let boot = &mut self.boots[boot];
        let origin = boot.origin(context, catalogue.base);
        if boot.announced != Some(header.catalogue) {
            boot.announced = Some(header.catalogue);
            out.push(Item::Catalogue(item::Catalogue {
                origin: origin.clone(),
                revision: header.catalogue,
                channels: catalogue.metas(),
                t: DeviceTime(header.t0_us),
                received: crate::sample::UnixMicros(catalogue.since_us),
                accepted_at: arrival.accepted_at,
            }));
        }
        let columns = match payload {
            Payload::Burst(burst) => vec![burst_column(&catalogue, header, burst)?],
            Payload::Scan(scan) => scan_columns(&catalogue, header, scan)?,
            Payload::Event(event) => {
                out.push(Item::Event(item::Event {
                    origin,
                    t: DeviceTime(header.t0_us),
                    sequence: header.sequence,
                    kind: event_kind(event.kind),
                    number: event.number,
                    text: event.text.to_owned(),
                    accepted_at: arrival.accepted_at,
                    received: arrival.received,
                    receipt: arrival.receipt.clone(),
                }));
                return Ok(());
            }
            Payload::Describe(_) | Payload::Status(_) => return Ok(()),
        };
        let samples: u64 = columns.iter().map(|column| column.len() as u64).sum();
        boot.track.samples += samples;
        let tally = context.spec.ledger.receive(context.spec.id, samples);
        let custody = Custody { receipt: arrival.receipt.clone(), tally };
        let (accepted_at, received) = (arrival.accepted_at, arrival.received);
        out.push(Item::Batch(Batch { origin, columns, accepted_at, received, custody }));
        Ok(())
    }

    fn show(&self, context: &Context<'_>, boot: usize) {
        let Boot { key, track, .. } = &self.boots[boot];
        let gauges = DeviceGauges {
            frames: track.frames(),
            frames_lost: track.frames_lost(),
            samples: track.samples,
            samples_lost: track.samples_lost,
            duplicate_frames: track.repeats,
            dropped_by_device: track.dropped_by_device,
        };
        context.spec.gauges.set_device(key, &gauges);
    }
}

impl Boot {
    fn origin(&mut self, context: &Context<'_>, base: ClockBase) -> Arc<Origin> {
        match &self.origin {
            Some(origin) if origin.base == base => origin.clone(),
            _ => {
                let (car, device) = (context.car.clone(), context.device.clone());
                let origin = Arc::new(Origin { car, device, boot: self.key.2, base });
                self.origin = Some(origin.clone());
                origin
            }
        }
    }
}

const fn event_kind(kind: wire::EventKind) -> &'static str {
    match kind {
        wire::EventKind::Lap => "lap",
        wire::EventKind::Session => "session",
        wire::EventKind::Marker => "marker",
        wire::EventKind::Text => "text",
    }
}

fn burst_column(catalogue: &Catalogue, header: &Header, burst: &wire::Burst<'_>) -> Result<Column, String> {
    let meta = catalogue.channel(burst.channel).ok_or_else(|| format!("channel {} is not declared", burst.channel))?;
    column(meta, times(header.t0_us, burst.period_ns, burst.values.len()), &burst.values)
}

fn scan_columns(catalogue: &Catalogue, header: &Header, scan: &wire::Scan<'_>) -> Result<Vec<Column>, String> {
    let undeclared = || format!("group {} is not declared", scan.group);
    let width: usize = catalogue.group(scan.group).ok_or_else(undeclared)?.map(|meta| meta.kind.bytes()).sum();
    if width * usize::from(scan.count) != scan.data.len() {
        let (bytes, count) = (scan.data.len(), scan.count);
        return Err(format!("{bytes} bytes for {count} rows of group {}, whose row has {width}", scan.group));
    }
    let mut offset = 0;
    let mut columns = Vec::new();
    for meta in catalogue.group(scan.group).ok_or_else(undeclared)? {
        let kind = match meta.kind {
            crate::sample::ValueKind::I16 => wire::ValueKind::I16,
            crate::sample::ValueKind::I32 => wire::ValueKind::I32,
            _ => wire::ValueKind::F32,
        };
        let values = scan.column(offset, kind).ok_or("a row is cut short")?;
        columns.push(column(meta, times(header.t0_us, scan.period_ns, usize::from(scan.count)), &values)?);
        offset += meta.kind.bytes();
    }
    Ok(columns)
}

fn times(t0_us: i64, period_ns: u32, count: usize) -> Times {
    Times::Regular { t0: DeviceTime(t0_us), period_ns, count: u32::try_from(count).unwrap_or(u32::MAX) }
}

fn column(meta: &Arc<ChannelMeta>, times: Times, values: &wire::Values<'_>) -> Result<Column, String> {
    if value_kind(values.kind()) != meta.kind {
        return Err(format!("channel {} is declared as {}", meta.name, meta.kind.as_str()));
    }
    let copied = match values.kind() {
        wire::ValueKind::I16 => values.i16s().map(|v| Values::I16(v.collect())),
        wire::ValueKind::I32 => values.i32s().map(|v| Values::I32(v.collect())),
        wire::ValueKind::F32 => values.f32s().map(|v| Values::F32(v.collect())),
    };
    let values = copied.ok_or("values of another kind")?;
    Ok(Column { channel: meta.clone(), times, values, flags: Flags::default() })
}

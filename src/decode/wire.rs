//! Pitwire's own frames, from a byte stream or one to a message.
//!
//! A frame is checked, its sequence noted, and its samples turned into columns by the catalogue that it
//! names. Frames of an unknown revision are held, raw and bounded, until the Describe comes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pitwire_wire::{self as wire, Deframer, Header, Payload, Piece};

use super::catalogue::{Catalogue, CatalogueRecord, Parts, clock_base};
use super::held::{Held, HeldBytes, HeldFrames};
use super::track::{Seen, Track};
use super::{Arrival, Format, Remember, SourceSpec, columns, malformed, quarantined};
use crate::gauges::{DeviceGauges, DeviceKey};
use crate::item::{self, Batch, Body, Item, RawMessage};
use crate::ledger::Fate;
use crate::limits::DEVICES_MAX;
use crate::receipt::Custody;
use crate::sample::{ClockBase, DeviceTime, Name, Origin, UnixMicros};

/// Boots of one device followed at once: redelivered frames of the last boot mix with the new one's.
const BOOTS_MAX: usize = 4;
/// Catalogues kept per device.
const REVISIONS_MAX: usize = 4;

pub(super) struct Wire {
    spec: SourceSpec,
    remember: Remember,
    holding: Holding,
    /// Taken out while a frame is looked at, since it lends its buffer.
    deframer: Option<Box<Deframer>>,
    devices: HashMap<(Name, Name), Device>,
    known: HashMap<(String, String), Vec<CatalogueRecord>>,
}

/// How frames of an unknown revision are held.
pub(super) struct Holding {
    /// Age at which a copy goes to the quarantine.
    pub(super) copy_after: Duration,
    /// What all sources hold.
    pub(super) bytes: HeldBytes,
}

struct Device {
    boots: VecDeque<Boot>,
    catalogues: VecDeque<(u32, Arc<Catalogue>)>,
    parts: Option<(u32, Parts)>,
    held: HeldFrames,
}

struct Boot {
    key: DeviceKey,
    track: Track,
    /// As a Describe of this boot states it; until one comes the catalogue's holds.
    base: Option<ClockBase>,
    origin: Option<Arc<Origin>>,
    announced: Option<u32>,
}

impl Wire {
    pub(super) fn new(spec: SourceSpec, known: &[CatalogueRecord], remember: Remember, holding: Holding) -> Self {
        let mut by_device: HashMap<_, Vec<_>> = HashMap::new();
        for record in known {
            by_device.entry((record.car.clone(), record.device.clone())).or_default().push(record.clone());
        }
        Self { spec, remember, holding, deframer: Some(Box::default()), devices: HashMap::new(), known: by_device }
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
                    if let Err(reason) = self.frame(&car, frame, &Bytes::new(), arrival, out) {
                        out.push(malformed(&self.spec, arrival.clone(), b"", Bytes::copy_from_slice(frame), reason));
                    }
                }
                Some(Piece::Garbage { bytes, reason }) => {
                    self.spec.gauges.garbage_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    if let Some(since_last_line) = self.spec.gauges.complain(arrival.accepted_at) {
                        let source = &self.spec.name;
                        tracing::warn!(%source, bytes, %reason, since_last_line, "bytes on the line that are no frame; \
                            they are counted and passed over: check baud, cable and format if this goes on");
                    }
                }
            }
        }
        self.deframer = Some(deframer);
    }

    /// Decodes one frame.
    ///
    /// # Errors
    /// Why it cannot be decoded: nothing was made of it then, and its receipt is the caller's to pass on.
    fn frame(
        &mut self,
        car: &Name,
        frame: &[u8],
        topic: &Bytes,
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
            let known = self.known.remove(&(car.to_string(), device_name.to_string()));
            let device = Device::from_known(known.unwrap_or_default(), HeldFrames::new(self.holding.bytes.clone()));
            self.devices.insert((car.clone(), device_name.clone()), device);
        }
        let Some(device) = self.devices.get_mut(&(car.clone(), device_name.clone())) else { return Ok(()) };
        let context = Context { spec: &self.spec, remember: &self.remember, car, device: &device_name };

        let boot = device.boot(&context, &header);
        let seen = device.boots[boot].track.see(header.sequence, &arrival.receipt);
        match payload {
            // Also a repetition: what it says may have been forgotten since, and it makes no sample.
            Payload::Describe(describe) => {
                device.boots[boot].base = Some(clock_base(&describe));
                device.describe(&context, &header, &describe, arrival, out)?;
            }
            payload if seen == Seen::Repeat => {
                let samples = device.samples_of(&header, &payload);
                context.spec.ledger.receive(context.spec.id, samples).settle(Fate::Duplicate);
            }
            Payload::Status(status) => {
                device.boots[boot].track.status(status.samples_before, status.samples_dropped);
            }
            _ if device.catalogue(header.catalogue).is_none() => {
                let held = Held {
                    revision: header.catalogue,
                    // A copy: the message's own bytes may hold on to a whole buffer of the connection.
                    frame: Bytes::copy_from_slice(frame),
                    topic: topic.clone(),
                    arrival: arrival.clone(),
                    copied: false,
                };
                device.hold(&context, held, out);
            }
            payload => device.data(&context, boot, &header, &payload, arrival, out)?,
        }
        device.show(&context, header.boot);
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
            // Seen to by the stage.
            Body::Flush => arrival.receipt.settle(),
            Body::Stream(bytes) => {
                self.stream(&bytes, &arrival, out);
                arrival.receipt.settle();
            }
            Body::Message { topic, payload } => {
                let made = match self.spec.car_of(&topic) {
                    Ok(car) => self.frame(&car, &payload, &topic, &arrival, out),
                    Err(reason) => Err(reason),
                };
                match made {
                    Ok(()) => arrival.receipt.settle(),
                    Err(reason) => out.push(malformed(&self.spec, arrival, &topic, payload, reason)),
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.devices.values().filter_map(|device| device.held.copy_at(self.holding.copy_after)).min()
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Vec<Item>) {
        for ((_, device), state) in &mut self.devices {
            for (topic, frame, arrival) in state.held.due(now, self.holding.copy_after) {
                let reason = format!("a copy: device {device} has sent no describe for it yet");
                out.push(quarantined(&self.spec, arrival, &topic, frame, reason));
            }
        }
    }

    /// Held frames of a source that cannot send again go to the quarantine; the others are left
    /// unacknowledged, and come again.
    fn finish(&mut self, out: &mut Vec<Item>) {
        for device in self.devices.values_mut() {
            for held in device.held.take_all() {
                self.spec.gauges.held_frames.fetch_sub(1, Ordering::Relaxed);
                if !held.copied && held.arrival.receipt.is_none() {
                    let reason = "the agent stopped before the frame's catalogue came".to_owned();
                    out.push(malformed(&self.spec, held.arrival, &held.topic, held.frame, reason));
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
    fn from_known(records: Vec<CatalogueRecord>, held: HeldFrames) -> Self {
        // The newest are the last.
        let newest = records.iter().skip(records.len().saturating_sub(REVISIONS_MAX));
        let known = newest.filter_map(|r| Some((r.revision, Arc::new(Catalogue::from_record(r)?))));
        Self { boots: VecDeque::new(), catalogues: known.collect(), parts: None, held }
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
        let track = Track::new(header.sequence);
        self.boots.push_back(Boot { key, track, base: None, origin: None, announced: None });
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
        let base = clock_base(describe);
        if let Some((_, known)) = self.catalogues.iter_mut().find(|(known, _)| *known == revision) {
            // The revision covers the channels only.
            if known.base != base {
                *known = Arc::new(known.with_base(base));
                (context.remember)(&known.record(context.car, context.device, revision));
            }
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

    /// Keeps a frame until its catalogue comes; the oldest go to the quarantine if there are too many.
    fn hold(&mut self, context: &Context<'_>, held: Held, out: &mut Vec<Item>) {
        context.spec.gauges.held_frames.fetch_add(1, Ordering::Relaxed);
        for oldest in self.held.push(held) {
            context.spec.gauges.held_frames.fetch_sub(1, Ordering::Relaxed);
            if oldest.copied {
                context.spec.gauges.malformed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let reason = format!("device {} sent no describe for the frame's catalogue", context.device);
            out.push(malformed(context.spec, oldest.arrival, &oldest.topic, oldest.frame, reason));
        }
    }

    /// Decodes the held frames of a revision that is now known.
    fn release(&mut self, context: &Context<'_>, revision: u32, out: &mut Vec<Item>) {
        for Held { frame, topic, arrival, .. } in self.held.take(revision) {
            context.spec.gauges.held_frames.fetch_sub(1, Ordering::Relaxed);
            let decoded = wire::decode(&frame).map_err(|error| error.to_string());
            let made = decoded.and_then(|(header, payload)| {
                let known = self.boots.iter().any(|boot| boot.key.2 == header.boot);
                let boot = self.boot(context, &header);
                if !known {
                    // Its boot has been forgotten since it came.
                    self.boots[boot].track.see(header.sequence, &arrival.receipt);
                }
                self.data(context, boot, &header, &payload, &arrival, out)?;
                self.show(context, header.boot);
                Ok(())
            });
            match made {
                Ok(()) => arrival.receipt.settle(),
                Err(reason) => out.push(malformed(context.spec, arrival, &topic, frame.clone(), reason)),
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
        let origin = boot.origin(context, boot.base.unwrap_or(catalogue.base));
        if boot.announced != Some(header.catalogue) {
            boot.announced = Some(header.catalogue);
            out.push(Item::Catalogue(item::Catalogue {
                origin: origin.clone(),
                revision: header.catalogue,
                channels: catalogue.metas(),
                changed: Vec::new(),
                t: DeviceTime(header.t0_us),
                received: UnixMicros(catalogue.since_us),
                accepted_at: arrival.accepted_at,
            }));
        }
        let columns = match payload {
            Payload::Burst(burst) => vec![columns::burst(&catalogue, header.t0_us, burst)?],
            Payload::Scan(scan) => columns::scan(&catalogue, header.t0_us, scan)?,
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

    fn show(&self, context: &Context<'_>, boot: u32) {
        let Some(Boot { key, track, .. }) = self.boots.iter().find(|known| known.key.2 == boot) else { return };
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

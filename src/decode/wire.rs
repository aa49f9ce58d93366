//! Pitwire's own frames, from a byte stream or one to a message.
//!
//! A frame is checked, its sequence noted, and its samples turned into columns by the catalogue that it
//! names. Frames of an unknown revision are held, raw and bounded, until the Describe comes.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pitwire_wire::{self as wire, Deframer, Payload, Piece};

use super::catalogue::{CatalogueRecord, clock_base};
use super::declare::Declaring;
use super::device::{Context, Device, span_us};
use super::held::{Held, HeldBytes, HeldFrames};
use super::track::Seen;
use super::{Arrival, Format, Gaps, Remember, SourceSpec, malformed, quarantined};
use crate::item::{Body, Item, RawMessage};
use crate::ledger::Fate;
use crate::limits::{DEVICES_MAX, GAP_EVERY, LATE_FROM_A_BROKER, LATE_ON_A_LINE};
use crate::sample::Name;

pub(super) struct Wire {
    spec: SourceSpec,
    remember: Remember,
    holding: Holding,
    /// Taken out while a frame is looked at, since it lends its buffer.
    deframer: Option<Box<Deframer>>,
    devices: HashMap<(Name, Name), Device>,
    known: HashMap<(String, String), Vec<CatalogueRecord>>,
    gaps: Gaps,
    /// How late a frame may come.
    late: Duration,
    /// [`Book::failures`](crate::settled::Book::failures) when it was looked at last.
    failures: u64,
    /// When something is to be declared missing; never too late.
    declare_at: Option<Instant>,
    /// When the last frame came.
    heard_at: Option<Instant>,
}

/// How frames of an unknown revision are held.
pub(super) struct Holding {
    /// Age at which a copy goes to the quarantine.
    pub(super) copy_after: Duration,
    /// What all sources hold.
    pub(super) bytes: HeldBytes,
}

impl Wire {
    pub(super) fn new(
        spec: SourceSpec,
        known: &[CatalogueRecord],
        remember: Remember,
        holding: Holding,
        gaps: Gaps,
    ) -> Self {
        let mut by_device: HashMap<_, Vec<_>> = HashMap::new();
        for record in known {
            by_device.entry((record.car.clone(), record.device.clone())).or_default().push(record.clone());
        }
        Self {
            spec,
            remember,
            holding,
            deframer: Some(Box::default()),
            devices: HashMap::new(),
            known: by_device,
            gaps,
            late: LATE_ON_A_LINE,
            failures: 0,
            declare_at: None,
            heard_at: None,
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
                    self.frame(&car, frame, &Bytes::new(), arrival.clone(), out);
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

    /// Decodes one frame, or passes it on as malformed; its receipt goes with it.
    fn frame(&mut self, car: &Name, frame: &[u8], topic: &Bytes, mut arrival: Arrival, out: &mut Vec<Item>) {
        match self.decode_frame(car, frame, topic, &mut arrival, out) {
            Ok(()) => arrival.receipt.settle(),
            Err(reason) => out.push(malformed(&self.spec, arrival, topic, Bytes::copy_from_slice(frame), reason)),
        }
    }

    /// Decodes one frame, whose receipt becomes one that also notes its sequence as settled.
    ///
    /// # Errors
    /// Why it cannot be decoded: nothing was made of it then, and its receipt is the caller's to pass on.
    fn decode_frame(
        &mut self,
        car: &Name,
        frame: &[u8],
        topic: &Bytes,
        arrival: &mut Arrival,
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
        let context =
            Context { spec: &self.spec, remember: &self.remember, gaps: &self.gaps, car, device: &device_name };

        let boot = device.boot(&context, &header, arrival.accepted_at, out);
        let (seen, opened) = device.boots[boot].see(header.sequence, span_us(&header, &payload), arrival);
        if arrival.comes_again {
            self.late = LATE_FROM_A_BROKER;
        }
        self.heard_at = Some(arrival.accepted_at);
        let describes = matches!(payload, Payload::Describe(_));
        let failures = self.gaps.book.failures();
        // A moment later: while frames fail in a row, one event tells of many.
        let failed = (failures != self.failures).then(|| arrival.accepted_at + GAP_EVERY);
        self.failures = failures;
        let due = if opened { device.declares_at(self.late) } else { None };
        self.declare_at = [self.declare_at, due, failed].into_iter().flatten().min();
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
        if describes {
            // What could not be declared before can be now.
            self.declare_at = [self.declare_at, device.declares_at(self.late)].into_iter().flatten().min();
        }
        Ok(())
    }

    /// Declares what is final, and finds out when the next is.
    fn declare(&mut self, when: Declaring, out: &mut Vec<Item>) {
        for ((car, device), state) in &mut self.devices {
            let context = Context { spec: &self.spec, remember: &self.remember, gaps: &self.gaps, car, device };
            state.declare(&context, when, out);
        }
        self.declare_at = self.devices.values().filter_map(|device| device.declares_at(self.late)).min();
    }
}

impl Format for Wire {
    fn decode(&mut self, message: RawMessage, out: &mut Vec<Item>) {
        let RawMessage { body, accepted_at, received, receipt } = message;
        let comes_again = !receipt.is_none();
        let arrival = Arrival { accepted_at, received, receipt, comes_again };
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
            Body::Message { topic, payload } => match self.spec.car_of(&topic) {
                Ok(car) => self.frame(&car, &payload, &topic, arrival, out),
                Err(reason) => out.push(malformed(&self.spec, arrival, &topic, payload, reason)),
            },
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let copies = self.devices.values().filter_map(|device| device.held.copy_at(self.holding.copy_after));
        copies.chain(self.declare_at).min()
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Vec<Item>) {
        for ((_, device), state) in &mut self.devices {
            for (topic, frame, arrival) in state.held.due(now, self.holding.copy_after) {
                let reason = format!("a copy: device {device} has sent no describe for it yet");
                out.push(quarantined(&self.spec, arrival, &topic, frame, reason));
            }
        }
        if self.declare_at.is_some_and(|at| at <= now) {
            self.declare(Declaring { now: Some(now), accepted_at: now, late: self.late }, out);
        }
    }

    /// Held frames of a source that cannot send again go to the quarantine; the others are left
    /// unacknowledged, and come again. So may what is missing of the latter.
    fn finish(&mut self, out: &mut Vec<Item>) {
        if let Some(accepted_at) = self.heard_at.filter(|_| self.late == LATE_ON_A_LINE) {
            self.declare(Declaring { now: None, accepted_at, late: self.late }, out);
        }
        for device in self.devices.values_mut() {
            for held in device.held.take_all() {
                self.spec.gauges.held_frames.fetch_sub(1, Ordering::Relaxed);
                if !held.copied && !held.arrival.comes_again {
                    let reason = "the agent stopped before the frame's catalogue came".to_owned();
                    out.push(malformed(&self.spec, held.arrival, &held.topic, held.frame, reason));
                }
            }
        }
    }
}

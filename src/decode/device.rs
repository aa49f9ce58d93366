//! One device that speaks the wire: its boots, its catalogues, and what its frames become.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pitwire_wire::{self as wire, Header, Payload};

use super::catalogue::{Catalogue, CatalogueRecord, Parts, clock_base};
use super::declare::Declaring;
use super::held::{Held, HeldFrames};
use super::holes::Holes;
use super::track::{Seen, Track};
use super::{Arrival, Gaps, Remember, SourceSpec, columns, malformed};
use crate::gauges::{DeviceGauges, DeviceKey};
use crate::item::{self, Batch, Item};
use crate::receipt::Custody;
use crate::sample::{ClockBase, DeviceTime, Name, Origin, UnixMicros};
use crate::settled::{self, PLACE_MIN, place_near};

/// Boots of one device followed at once: redelivered frames of the last boot mix with the new one's.
const BOOTS_MAX: usize = 4;
/// Catalogues kept per device.
const REVISIONS_MAX: usize = 4;

pub(super) struct Device {
    pub(super) boots: VecDeque<Boot>,
    pub(super) catalogues: VecDeque<(u32, Arc<Catalogue>)>,
    parts: Option<(u32, Parts)>,
    pub(super) held: HeldFrames,
}

pub(super) struct Boot {
    pub(super) key: DeviceKey,
    pub(super) track: Track,
    pub(super) holes: Holes,
    pub(super) book: Arc<settled::Boot>,
    /// When its last frame came.
    pub(super) received_us: i64,
    /// As a Describe of this boot states it; until one comes the catalogue's holds.
    pub(super) base: Option<ClockBase>,
    origin: Option<Arc<Origin>>,
    announced: Option<u32>,
}

/// What the steps on one frame share.
pub(super) struct Context<'a> {
    pub(super) spec: &'a SourceSpec,
    pub(super) remember: &'a Remember,
    pub(super) gaps: &'a Gaps,
    pub(super) car: &'a Name,
    pub(super) device: &'a Name,
}

/// First and last device time of what a frame holds, µs.
pub(super) fn span_us(header: &Header, payload: &Payload<'_>) -> (i64, i64) {
    let t0 = header.t0_us;
    let last = match payload {
        Payload::Burst(burst) => burst.time_us(t0, burst.values.len().saturating_sub(1)),
        Payload::Scan(scan) => scan.time_us(t0, usize::from(scan.count.saturating_sub(1))),
        Payload::Event(_) | Payload::Describe(_) | Payload::Status(_) => t0,
    };
    (t0, last)
}

impl Device {
    pub(super) fn from_known(records: Vec<CatalogueRecord>, held: HeldFrames) -> Self {
        // The newest are the last.
        let newest = records.iter().skip(records.len().saturating_sub(REVISIONS_MAX));
        let known = newest.filter_map(|r| Some((r.revision, Arc::new(Catalogue::from_record(r)?))));
        Self { boots: VecDeque::new(), catalogues: known.collect(), parts: None, held }
    }

    pub(super) fn catalogue(&self, revision: u32) -> Option<&Arc<Catalogue>> {
        self.catalogues.iter().find(|(known, _)| *known == revision).map(|(_, catalogue)| catalogue)
    }

    /// The index of the frame's boot, opened if it is new.
    pub(super) fn boot(&mut self, context: &Context<'_>, header: &Header, now: Instant, out: &mut Vec<Item>) -> usize {
        if let Some(index) = self.boots.iter().position(|boot| boot.key.2 == header.boot) {
            return index;
        }
        if self.boots.len() >= BOOTS_MAX
            && let (Some(base), Some(mut oldest)) = (self.base(), self.boots.pop_front())
        {
            oldest.declare(context, base, Declaring { now: None, accepted_at: now, late: Duration::ZERO }, out);
        }
        let key = (context.car.to_string(), context.device.to_string(), header.boot);
        let book = context.gaps.book.boot(&key);
        let known = book.ranges();
        let first = place_near(known.last().map_or(PLACE_MIN, |last| last.to), header.sequence);
        self.boots.push_back(Boot {
            key,
            // Where nothing is known, a sequence beyond half of its 32 bits is one that is far, not one before 0.
            track: Track::new(if known.is_empty() { PLACE_MIN + u64::from(header.sequence) } else { first }),
            holes: Holes::new(known),
            book,
            received_us: 0,
            base: None,
            origin: None,
            announced: None,
        });
        self.boots.len() - 1
    }

    pub(super) fn describe(
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
    pub(super) fn hold(&mut self, context: &Context<'_>, held: Held, out: &mut Vec<Item>) {
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
                let boot = self.boot(context, &header, arrival.accepted_at, out);
                if !known {
                    // Its boot has been forgotten since it came.
                    let place = self.boots[boot].track.place(header.sequence);
                    self.boots[boot].track.see(place, &arrival.receipt);
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
    pub(super) fn samples_of(&self, header: &Header, payload: &Payload<'_>) -> u64 {
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
    pub(super) fn data(
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

    pub(super) fn show(&self, context: &Context<'_>, boot: u32) {
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
    /// Takes note of a frame, and lets its receipt note it as settled. Whether it is new, and whether others are
    /// missing since.
    pub(super) fn see(&mut self, sequence: u32, span_us: (i64, i64), arrival: &mut Arrival) -> (Seen, bool) {
        let place = self.track.place(sequence);
        let source = std::mem::take(&mut arrival.receipt);
        let high_us = self.holes.high_us(span_us.1);
        arrival.receipt = self.book.watch([(place, place)], high_us, arrival.comes_again, source);
        self.received_us = arrival.received.0;
        let opened = self.holes.see(place, span_us, arrival.accepted_at);
        (self.track.see(place, &arrival.receipt), opened)
    }

    pub(super) fn origin(&mut self, context: &Context<'_>, base: ClockBase) -> Arc<Origin> {
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

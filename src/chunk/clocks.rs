//! How devices without UTC are placed: one mapping for each (device, boot), made with its first frame.
//!
//! A mapping that was made while the gateway's clock was not known is provisional. The pairing of the two counters, the
//! device's and the gateway's, is kept with it; so once the gateway knows what UTC its own counter stands for, the
//! mapping is corrected from the pairing alone, also where the device has sent nothing since, or another process made
//! it. A correction is a row of its own, written at once and again in the next run until it is durable.
//!
//! Invariants: a mapping is replaced only by one of a higher [`Certainty`], so at most twice; steps of the wall clock
//! move none. The row of a mapping is never written over another (see [`ClockRow::from_start`]).
//! Deliberately absent: drift, and a pairing better than that of the first frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::{Certainty, Clock, Estimate, Gateway, Mapping};
use crate::limits::CLOCKS_MAX;
use crate::receipt::{Ending, Receipt};
use crate::row::ClockRow;
use crate::sample::{ClockBase, DeviceTime, Origin, UnixMicros};

/// How soon after the clock is known provisional mappings are corrected.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon mappings by a plausible clock are bettered by a synchronised one.
const BETTER_EVERY: Duration = Duration::from_secs(10);
/// A better estimate that differs by less is within the transport's delay, which is ignored as well: no row for it.
const BETTER_BY_US: i64 = 100_000;

/// A clock mapping as the state directory keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownClock {
    /// The car.
    pub car: String,
    /// The device.
    pub device: String,
    /// Its start.
    pub boot: u32,
    /// How its time maps to UTC.
    pub mapping: Mapping,
    /// How good the gateway's clock was for that.
    #[serde(default)]
    pub certainty: Certainty,
    /// The `from_us` of its row.
    #[serde(default = "from_start")]
    pub from_us: i64,
    /// What it has replaced: `from_us` and mapping, oldest first.
    #[serde(default)]
    pub replaced: Vec<(i64, Mapping)>,
    /// How the device's counter stands to the gateway's.
    #[serde(default)]
    pub pairing: Option<Pairing>,
    /// It corrects another, and its row is not known to be durable.
    #[serde(default)]
    pub unwritten: bool,
}

const fn from_start() -> i64 {
    ClockRow::from_start(0, 0)
}

/// A device's counter and the gateway's at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// The start of the gateway in which it was taken.
    pub gateway_boot: u32,
    /// The gateway's counter less the device's, µs.
    pub ahead_us: i64,
}

/// Called with each clock mapping that is new or has changed, so that it outlives the process.
pub type RememberClock = Arc<dyn Fn(&KnownClock) + Send + Sync>;

/// A mapping that has become better.
pub(super) struct Correction {
    pub(super) origin: Arc<Origin>,
    pub(super) mapping: Mapping,
    /// Its row, and those of what it replaces.
    pub(super) rows: Vec<ClockRow>,
    /// To be settled when they are durable.
    pub(super) receipt: Receipt,
}

/// All mappings, old ones forgotten first.
pub(super) struct Clocks {
    known: Vec<KnownClock>,
    remember: RememberClock,
    gateway: Arc<Gateway>,
    /// Tells this process's rows from those of others.
    by: u32,
    look_at: Option<Instant>,
    /// Corrections on their way, each with whether it is durable.
    written: Vec<(KnownClock, Arc<AtomicBool>)>,
}

impl Clocks {
    pub(super) fn new(
        known: Vec<KnownClock>,
        remember: RememberClock,
        gateway: Arc<Gateway>,
        writer: [u8; 16],
    ) -> Self {
        let [a, b, c, d, ..] = writer;
        let by = u32::from_le_bytes([a, b, c, d]);
        let look_at = known.iter().any(|clock| clock.unwritten || wants(clock, &gateway)).then(|| gateway.now());
        Self { known, remember, gateway, by, look_at, written: Vec::new() }
    }

    /// The mapping of a device and boot, and its rows; without one it is made so that `latest` was now, at
    /// `accepted_at`.
    pub(super) fn place(
        &mut self,
        origin: &Origin,
        latest: DeviceTime,
        received: UnixMicros,
        accepted_at: Instant,
    ) -> (Mapping, Vec<ClockRow>) {
        if origin.base == ClockBase::Utc {
            return (Mapping::IDENTITY, Vec::new());
        }
        let ahead_us = self.gateway.uptime_at_us(accepted_at).saturating_sub(latest.0);
        let pairing = Pairing { gateway_boot: self.gateway.boot(), ahead_us };
        let known = self.known.iter_mut().rev().find(|known| is_of(known, origin));
        let clock = match known {
            Some(clock) => {
                // The gateway has started since: its counter stands otherwise to the device's.
                let other = clock.pairing.is_none_or(|before| before.gateway_boot != pairing.gateway_boot);
                if other && clock.certainty < Certainty::Synchronised {
                    clock.pairing = Some(pairing);
                    (self.remember)(clock);
                }
                clock.clone()
            }
            None => {
                let clock = self.new_clock(origin, latest, received, pairing);
                (self.remember)(&clock);
                if self.known.len() >= CLOCKS_MAX {
                    self.known.remove(0);
                }
                self.known.push(clock.clone());
                clock
            }
        };
        if self.look_at.is_none() && wants(&clock, &self.gateway) {
            self.look_at = Some(self.gateway.now() + LOOK_EVERY);
        }
        (clock.mapping, rows(&clock))
    }

    fn new_clock(&self, origin: &Origin, latest: DeviceTime, received: UnixMicros, pairing: Pairing) -> KnownClock {
        let (mapping, certainty) = match self.gateway.estimate() {
            Some(estimate) => (mapping_by(estimate, pairing), estimate.certainty),
            None => (Mapping::at_receipt(latest, received, false), Certainty::Unknown),
        };
        KnownClock {
            car: origin.car.to_string(),
            device: origin.device.to_string(),
            boot: origin.boot,
            mapping,
            certainty,
            from_us: ClockRow::from_start(rank(certainty), self.by),
            replaced: Vec::new(),
            pairing: Some(pairing),
            unwritten: false,
        }
    }

    /// When [`Self::look`] is to be called.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Corrects what can be, and gives out again what an earlier run has not made durable.
    pub(super) fn look(&mut self, now: Instant) -> Vec<Correction> {
        if self.look_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.note_written();
        let estimate = self.gateway.estimate();
        let mut corrections = Vec::new();
        for clock in &mut self.known {
            let better = estimate.and_then(|estimate| better(clock, estimate, &self.gateway));
            if let Some((mapping, certainty)) = better {
                let moved_us = mapping.offset_us.saturating_sub(clock.mapping.offset_us);
                let moves = clock.mapping.provisional || moved_us.saturating_abs() >= BETTER_BY_US;
                clock.certainty = certainty;
                if moves {
                    clock.replaced.push((clock.from_us, clock.mapping));
                    (clock.mapping, clock.from_us) = (mapping, ClockRow::from_start(rank(certainty), self.by));
                    clock.unwritten = true;
                    tracing::info!(
                        car = clock.car,
                        device = clock.device,
                        boot = clock.boot,
                        moved_us,
                        ?certainty,
                        "a device's clock is placed anew; readers place what was stored as well"
                    );
                }
                (self.remember)(clock);
            }
            let under_way =
                self.written.iter().any(|(other, _)| is_same(other, clock) && other.mapping == clock.mapping);
            if clock.unwritten && !under_way {
                let written = Arc::new(AtomicBool::new(false));
                self.written.push((clock.clone(), written.clone()));
                let receipt = Receipt::with_ending(move |ending| {
                    written.store(ending != Ending::Void, Ordering::Release);
                });
                let origin = Arc::new(Origin {
                    car: clock.car.as_str().into(),
                    device: clock.device.as_str().into(),
                    boot: clock.boot,
                    base: ClockBase::Boot,
                });
                corrections.push(Correction { origin, mapping: clock.mapping, rows: rows(clock), receipt });
            }
        }
        let soon = !self.written.is_empty() || self.known.iter().any(|clock| clock.mapping.provisional);
        let every = if soon { LOOK_EVERY } else { BETTER_EVERY };
        let again = !self.written.is_empty() || self.known.iter().any(|clock| wants(clock, &self.gateway));
        self.look_at = again.then(|| now + every);
        corrections
    }

    /// Remembers which corrections have become durable.
    fn note_written(&mut self) {
        let Self { known, written, remember, .. } = self;
        for (clock, _) in written.extract_if(.., |(_, written)| written.load(Ordering::Acquire)) {
            let same = |other: &&mut KnownClock| is_same(other, &clock) && other.mapping == clock.mapping;
            if let Some(clock) = known.iter_mut().find(same) {
                clock.unwritten = false;
                remember(clock);
            }
        }
    }
}

/// Whether a better estimate of the gateway's clock would make `clock` better.
fn wants(clock: &KnownClock, gateway: &Gateway) -> bool {
    clock.certainty < Certainty::Synchronised && clock.pairing.is_some_and(|p| p.gateway_boot == gateway.boot())
}

fn better(clock: &KnownClock, estimate: Estimate, gateway: &Gateway) -> Option<(Mapping, Certainty)> {
    let pairing = clock.pairing.filter(|_| wants(clock, gateway) && estimate.certainty > clock.certainty)?;
    Some((mapping_by(estimate, pairing), estimate.certainty))
}

fn mapping_by(estimate: Estimate, pairing: Pairing) -> Mapping {
    Mapping { offset_us: pairing.ahead_us.saturating_add(estimate.offset_us), provisional: false }
}

/// Whether a mapping is one of `origin`.
fn is_of(clock: &KnownClock, origin: &Origin) -> bool {
    clock.car == *origin.car && clock.device == *origin.device && clock.boot == origin.boot
}

fn is_same(a: &KnownClock, b: &KnownClock) -> bool {
    (a.boot, &a.device, &a.car) == (b.boot, &b.device, &b.car)
}

const fn rank(certainty: Certainty) -> u8 {
    certainty as u8
}

fn rows(clock: &KnownClock) -> Vec<ClockRow> {
    let row = |(from_us, mapping): (i64, Mapping)| ClockRow {
        car: clock.car.clone(),
        device: clock.device.clone(),
        boot: i64::from(clock.boot),
        from_us,
        offset_us: mapping.offset_us,
        provisional: mapping.provisional,
    };
    clock.replaced.iter().copied().chain([(clock.from_us, clock.mapping)]).map(row).collect()
}

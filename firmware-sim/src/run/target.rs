//! What a wire keeps for each of its devices: name, faults, what was lost while unplugged.

use std::time::Instant;

use super::inject::{Injector, Known, Touched};
use crate::link::READER_PATIENCE;
use crate::manifest::{FaultLine, Manifest};

/// One device's end of the port.
pub(super) struct Target {
    pub(super) car: String,
    pub(super) device: String,
    pub(super) injector: Injector,
    /// Frames lost while unplugged: boot, first and last sequence, samples.
    missing: Option<(u32, u32, u32, u64)>,
}

impl Target {
    pub(super) fn new(car: &str, device: &str, injector: Injector) -> Self {
        Self { car: car.to_owned(), device: device.to_owned(), injector, missing: None }
    }

    pub(super) fn topic(&self) -> String {
        format!("pitwire/{}/{}", self.car, self.device)
    }
}

impl Target {
    /// A frame is lost while unplugged; returns its samples.
    pub(super) fn miss(&mut self, known: &Known, manifest: Option<&Manifest>) -> u64 {
        let (boot, sequence) = (known.header.boot, known.header.sequence);
        if self.missing.is_some_and(|(b, ..)| b != boot) {
            self.account_missing(manifest);
        }
        let (_, _, to, samples) = self.missing.get_or_insert((boot, sequence, sequence, 0));
        *to = sequence.max(*to);
        *samples += known.samples;
        known.samples
    }

    pub(super) fn account_missing(&mut self, manifest: Option<&Manifest>) {
        if let Some((boot, seq_from, seq_to, samples)) = self.missing.take() {
            let touched = Touched { fault: "unplug", boot, seq_from, seq_to, samples, lost: true };
            self.fault(manifest, &touched);
        }
    }

    pub(super) fn fault(&self, manifest: Option<&Manifest>, touched: &Touched) {
        let Some(manifest) = manifest else { return };
        manifest.fault(&FaultLine {
            fault: touched.fault,
            car: &self.car,
            device: &self.device,
            boot: touched.boot,
            seq_from: touched.seq_from,
            seq_to: touched.seq_to,
            samples: touched.samples,
        });
    }
}

/// Patience with a reader: renewed whenever something moves.
pub(super) struct Patience {
    unread: u64,
    since: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { unread: u64::MAX, since: Instant::now() }
    }

    /// Whether there is any left.
    pub(super) fn has(&mut self, unread: u64) -> bool {
        if unread != self.unread || unread == 0 {
            *self = Self { unread, since: Instant::now() };
        }
        self.since.elapsed() < READER_PATIENCE
    }
}

//! Faults in the making: what becomes of a device's frames on their way into the line.

use std::time::Duration;

use pitwire_wire::{FRAME_BYTES_DEFAULT, Header, Payload, decode};

use crate::car::Noise;
use crate::fault::{Fault, FaultKind, When};

/// A frame, and what is needed to account for it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) header: Header,
    pub(super) samples: u64,
}

/// What a fault touched.
#[derive(Debug, Clone)]
pub(super) struct Touched {
    pub(super) fault: &'static str,
    pub(super) boot: u32,
    pub(super) seq_from: u32,
    pub(super) seq_to: u32,
    pub(super) samples: u64,
    /// Whether the samples cannot arrive.
    pub(super) lost: bool,
}

/// How a frame looks on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// COBS and a delimiter.
    Line,
    /// As it is.
    Message,
}

struct Rule {
    kind: FaultKind,
    when: When,
    frames: u64,
    fired: bool,
}

/// The faults of one device's frames.
pub(super) struct Injector {
    rules: Vec<Rule>,
    chance: Noise,
    form: Form,
    /// Channels of each group, to count a Scan's samples.
    group_channels: [u16; 256],
    /// A frame that changes places with the next.
    held: Option<(Vec<u8>, Known)>,
}

impl Injector {
    pub(super) fn new(
        faults: Vec<Fault>,
        seed: u64,
        purpose: &str,
        form: Form,
        groups: impl Iterator<Item = u8>,
    ) -> Self {
        let mut group_channels = [0_u16; 256];
        for group in groups {
            group_channels[usize::from(group)] += 1;
        }
        let rule = |fault: Fault| Rule { kind: fault.kind, when: fault.when, frames: 0, fired: false };
        Self {
            rules: faults.into_iter().map(rule).collect(),
            chance: Noise::new(seed, purpose),
            form,
            group_channels,
            held: None,
        }
    }

    /// Whether frames pass untouched.
    pub(super) fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// What a frame is, from its bytes.
    pub(super) fn know(&self, frame: &[u8]) -> Option<Known> {
        let (header, payload) = decode(frame).ok()?;
        let samples = match &payload {
            Payload::Burst(burst) => burst.values.len() as u64,
            Payload::Scan(scan) => u64::from(scan.count) * u64::from(self.group_channels[usize::from(scan.group)]),
            Payload::Describe(_) | Payload::Event(_) | Payload::Status(_) => 0,
        };
        Some(Known { header, samples })
    }

    /// Lets a frame through. `encoded` is its form on the line; what goes out is appended to
    /// `packets`, what a fault touched to `touched`.
    pub(super) fn pass(
        &mut self,
        frame: &[u8],
        encoded: &[u8],
        elapsed: Duration,
        packets: &mut Vec<Vec<u8>>,
        touched: &mut Vec<Touched>,
    ) {
        let Some(known) = self.know(frame) else {
            packets.push(encoded.to_vec());
            return;
        };
        if let Some((first, first_known)) = self.held.take() {
            packets.push(encoded.to_vec());
            packets.push(first);
            let same_boot = first_known.header.boot == known.header.boot;
            let to = if same_boot { &known } else { &first_known };
            let samples = first_known.samples + if same_boot { known.samples } else { 0 };
            touched.push(Touched {
                fault: "swap",
                boot: first_known.header.boot,
                seq_from: first_known.header.sequence,
                seq_to: to.header.sequence,
                samples,
                lost: false,
            });
            return;
        }
        let Some(kind) = self.next_fault(elapsed) else {
            packets.push(encoded.to_vec());
            return;
        };
        if kind == FaultKind::Swap {
            self.held = Some((encoded.to_vec(), known));
            return;
        }
        let mut touch = Touched {
            fault: kind.as_str(),
            boot: known.header.boot,
            seq_from: known.header.sequence,
            seq_to: known.header.sequence,
            samples: known.samples,
            lost: true,
        };
        let mut bytes = encoded.to_vec();
        // The delimiter stays, or a fault in one frame would be one in two.
        let body = bytes.len() - usize::from(self.form == Form::Line);
        match kind {
            FaultKind::Flip => {
                let at = self.chance.below(body as u64) as usize;
                bytes[at] ^= 1 << self.chance.below(8);
                packets.push(bytes);
            }
            FaultKind::DropBytes(n) => {
                let n = (n as usize).min(body - 1);
                let at = self.chance.below((body - n + 1) as u64) as usize;
                bytes.drain(at..at + n);
                packets.push(bytes);
            }
            FaultKind::Cut => {
                bytes.truncate(1 + self.chance.below(body as u64 - 1) as usize);
                packets.push(bytes);
            }
            FaultKind::Duplicate => {
                touch.lost = false;
                packets.push(bytes.clone());
                packets.push(bytes);
            }
            FaultKind::Insert(size) | FaultKind::Garbage(size) => {
                touch.lost = false;
                touch.samples = 0;
                self.noise_packets(size, packets);
                packets.push(bytes);
            }
            // These happen to the device and its cable, not to frames.
            FaultKind::Swap | FaultKind::Unplug(_) | FaultKind::Reboot | FaultKind::Step(_) | FaultKind::Drift(_) => {
                packets.push(bytes);
                return;
            }
        }
        touched.push(touch);
    }

    /// The frame that waits for its neighbour, if there is no neighbour any more.
    pub(super) fn release(&mut self) -> Option<(Vec<u8>, Known)> {
        self.held.take()
    }

    /// The fault that hits this frame: one at most, and one that is due waits for the next frame.
    fn next_fault(&mut self, elapsed: Duration) -> Option<FaultKind> {
        let mut hit = None;
        for rule in &mut self.rules {
            rule.frames += 1;
            let due = match rule.when {
                When::Every(n) => rule.frames >= n,
                When::At(at) => !rule.fired && elapsed >= at,
            };
            if due && hit.is_none() {
                rule.frames = 0;
                rule.fired = true;
                hit = Some(rule.kind);
            }
        }
        hit
    }

    /// Random bytes: one piece on a line, messages of a frame's size otherwise.
    fn noise_packets(&mut self, size: u64, packets: &mut Vec<Vec<u8>>) {
        let piece_max = match self.form {
            Form::Line => size,
            Form::Message => FRAME_BYTES_DEFAULT as u64,
        };
        let mut left = size;
        while left > 0 {
            let piece = left.min(piece_max);
            let mut bytes = Vec::with_capacity(piece as usize + 8);
            while (bytes.len() as u64) < piece {
                bytes.extend_from_slice(&self.chance.next_u64().to_le_bytes());
            }
            bytes.truncate(piece as usize);
            packets.push(bytes);
            left -= piece;
        }
    }
}

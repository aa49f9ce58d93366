//! The manifest: what was sent, for an audit of what arrived.
//!
//! One JSON line per car, device, boot, channel and slot (a second of device time), written when
//! the slot is complete, and one for each fault:
//!
//! ```text
//! {"car":"44","device":"ecu","boot":7,"channel":"engine.rpm","slot":1767225600,"samples":100,
//!  "t_first_us":1767225600000000,"t_last_us":1767225600990000,"digest":274877906944}
//! {"fault":"flip","car":"44","device":"ecu","boot":7,"seq_from":812,"seq_to":812,"samples":25}
//! ```
//! `digest` is the wrapping sum over the samples of xxh3-64 of (device time in µs as i64
//! little-endian, physical value as f64 little-endian).
//!
//! Everything that was generated counts as sent: frames dropped by a full buffer and frames hit by
//! a fault too, repeated ones once. The `samples` of a fault are those in the frames it touched:
//! lost by `flip`, `drop-bytes`, `cut` and `unplug`, repeated by `duplicate`, reordered by `swap`.
//!
//! An `unplug` names the frames made while the line was out; bytes that its reader had not read when
//! it went are gone as well, as they are with a real cable.
//!
//! Memory is bounded by one slot per channel.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pitwire_wire::{ChannelEntry, Header, Payload, Values};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// A slot is this long.
const SLOT_US: i64 = 1_000_000;
/// What is complete is on disk after this.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// One line for samples.
#[derive(Debug, Serialize)]
struct SlotLine<'a> {
    car: &'a str,
    device: &'a str,
    boot: u32,
    channel: &'a str,
    slot: i64,
    samples: u64,
    t_first_us: i64,
    t_last_us: i64,
    digest: u64,
}

/// One line for a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultLine<'a> {
    /// Its kind.
    pub fault: &'a str,
    /// The car.
    pub car: &'a str,
    /// The device.
    pub device: &'a str,
    /// The device's boot.
    pub boot: u32,
    /// First frame that it touched.
    pub seq_from: u32,
    /// Last frame that it touched.
    pub seq_to: u32,
    /// Samples in the frames that it touched.
    pub samples: u64,
}

/// The file, shared by all devices.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    file: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    out: BufWriter<File>,
    flushed_at: Instant,
    /// The first failure: told at the end, for a manifest with holes is worse than none.
    failure: Option<std::io::Error>,
}

impl Manifest {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::failed(format!("create manifest {}", path.display()), e))?;
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(Writer {
                out: BufWriter::with_capacity(1 << 16, file),
                flushed_at: Instant::now(),
                failure: None,
            }),
        })
    }

    /// Adds a fault.
    pub fn fault(&self, line: &FaultLine<'_>) {
        self.line(line);
    }

    fn line(&self, line: &impl Serialize) {
        let mut writer = self.lock();
        if writer.failure.is_some() {
            return;
        }
        let mut write = || {
            serde_json::to_writer(&mut writer.out, line)?;
            writer.out.write_all(b"\n")?;
            if writer.flushed_at.elapsed() >= FLUSH_EVERY {
                writer.flushed_at = Instant::now();
                writer.out.flush()?;
            }
            Ok(())
        };
        if let Err(e) = write() {
            writer.failure = Some(e);
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`Error::Failed`] if this or any line before could not be written.
    pub fn finish(&self) -> Result<()> {
        let mut writer = self.lock();
        let flushed = writer.out.flush();
        match writer.failure.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(e) => Err(Error::failed(format!("write manifest {}", self.path.display()), e)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One channel's slot that is being filled.
#[derive(Debug, Clone, Copy)]
struct Slot {
    boot: u32,
    slot: i64,
    samples: u64,
    t_first_us: i64,
    t_last_us: i64,
    digest: u64,
}

/// What one device has sent.
#[derive(Debug)]
pub struct Tally<'a> {
    manifest: Option<&'a Manifest>,
    car: &'a str,
    device: &'a str,
    channels: &'a [ChannelEntry<'a>],
    slots: Vec<Option<Slot>>,
}

impl<'a> Tally<'a> {
    /// An empty one. `channels` is the device's catalogue, in ascending id.
    #[must_use]
    pub fn new(
        manifest: Option<&'a Manifest>,
        car: &'a str,
        device: &'a str,
        channels: &'a [ChannelEntry<'a>],
    ) -> Self {
        Self { manifest, car, device, channels, slots: vec![None; channels.len()] }
    }

    /// Counts a frame that was made.
    pub fn frame(&mut self, header: &Header, payload: &Payload<'_>) {
        if self.manifest.is_none() {
            return;
        }
        match payload {
            Payload::Burst(burst) => {
                if let Ok(at) = self.channels.binary_search_by_key(&burst.channel, |c| c.id) {
                    self.column(at, header, &burst.values, |i| burst.time_us(header.t0_us, i));
                }
            }
            Payload::Scan(scan) => {
                let mut offset = 0;
                for at in 0..self.channels.len() {
                    let channel = &self.channels[at];
                    if channel.group != scan.group {
                        continue;
                    }
                    if let Some(values) = scan.column(offset, channel.kind) {
                        self.column(at, header, &values, |i| scan.time_us(header.t0_us, i));
                    }
                    offset += channel.kind.bytes();
                }
            }
            Payload::Describe(_) | Payload::Event(_) | Payload::Status(_) => {}
        }
    }

    fn column(&mut self, at: usize, header: &Header, values: &Values<'_>, time_us: impl Fn(usize) -> i64) {
        let (scale, offset) = (self.channels[at].scale, self.channels[at].offset);
        for (i, value) in values.iter().enumerate() {
            let t_us = time_us(i);
            let physical = value.as_f64() * scale + offset;
            let slot = t_us.div_euclid(SLOT_US);
            let same = matches!(&self.slots[at], Some(s) if s.slot == slot && s.boot == header.boot);
            if !same {
                self.close(at);
            }
            let entry = self.slots[at].get_or_insert(Slot {
                boot: header.boot,
                slot,
                samples: 0,
                t_first_us: t_us,
                t_last_us: t_us,
                digest: 0,
            });
            entry.samples += 1;
            entry.t_last_us = t_us;
            entry.digest = entry.digest.wrapping_add(digest(t_us, physical));
        }
    }

    /// Writes a channel's slot.
    fn close(&mut self, at: usize) {
        let (Some(slot), Some(manifest)) = (self.slots[at].take(), self.manifest) else { return };
        manifest.line(&SlotLine {
            car: self.car,
            device: self.device,
            boot: slot.boot,
            channel: self.channels[at].name,
            slot: slot.slot,
            samples: slot.samples,
            t_first_us: slot.t_first_us,
            t_last_us: slot.t_last_us,
            digest: slot.digest,
        });
    }

    /// Writes what is left: the device sends no more, or not in this boot.
    pub fn finish(&mut self) {
        for at in 0..self.slots.len() {
            self.close(at);
        }
    }
}

/// The digest of one sample.
#[must_use]
pub fn digest(t_us: i64, physical: f64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&t_us.to_le_bytes());
    bytes[8..].copy_from_slice(&physical.to_le_bytes());
    xxh3_64(&bytes)
}

//! What sources and decoders show of themselves: counts and states that the monitor copies.
//!
//! Writers are the one source task and the one decode stage; readers copy. Deliberately absent: samples,
//! which the ledger counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::limits::{DEVICES_MAX, MALFORMED_LINE_EVERY};

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceState {
    /// Trying for the first time.
    #[default]
    Connecting,
    /// Open, or subscribed.
    Connected,
    /// Lost or refused; it tries again.
    Down,
}

/// State, reason and since when.
#[derive(Debug, Clone)]
pub struct SourceCondition {
    /// What it is doing.
    pub state: SourceState,
    /// Why it is down, and what to do.
    pub detail: String,
    /// Since when.
    pub since: Instant,
}

/// Counts of one device and boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceGauges {
    /// Different frames that arrived.
    pub frames: u64,
    /// Frames that its sequence says are missing.
    pub frames_lost: u64,
    /// Different samples that arrived.
    pub samples: u64,
    /// Samples missing up to its last Status, by the device's own count.
    pub samples_lost: u64,
    /// Frames that came more than once.
    pub duplicate_frames: u64,
    /// Samples that the device says it dropped itself.
    pub dropped_by_device: u64,
}

/// Car, device, boot.
pub type DeviceKey = (String, String, u32);

/// One source's counts.
#[derive(Debug)]
pub struct SourceGauges {
    /// The source's name.
    pub name: String,
    /// `serial` or `mqtt`.
    pub kind: &'static str,
    /// The path or URL, without secrets.
    pub target: String,
    /// Times that it connected.
    pub connects: AtomicU64,
    /// Bytes received.
    pub bytes: AtomicU64,
    /// Messages received (MQTT), or reads (serial).
    pub messages: AtomicU64,
    /// Frames with a good checksum, or JSON messages.
    pub frames: AtomicU64,
    /// Messages or frames that could not be decoded.
    pub malformed: AtomicU64,
    /// Bytes between frames that belong to none.
    pub garbage_bytes: AtomicU64,
    /// Messages that nobody wants acknowledged and that there was no room for.
    pub refused: AtomicU64,
    /// Frames held until their catalogue arrives.
    pub held_frames: AtomicU64,
    complained: Mutex<(Option<Instant>, u64)>,
    was_connected: AtomicBool,
    condition: Mutex<SourceCondition>,
    last_data: Mutex<Option<Instant>>,
    devices: Mutex<BTreeMap<DeviceKey, DeviceGauges>>,
}

impl SourceGauges {
    /// Gauges of a source that has not connected yet.
    #[must_use]
    pub fn new(name: &str, kind: &'static str, target: &str, now: Instant) -> Arc<Self> {
        let condition = SourceCondition { state: SourceState::Connecting, detail: String::new(), since: now };
        Arc::new(Self {
            name: name.into(),
            kind,
            target: target.into(),
            connects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            garbage_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            held_frames: AtomicU64::new(0),
            complained: Mutex::default(),
            was_connected: AtomicBool::new(false),
            condition: Mutex::new(condition),
            last_data: Mutex::new(None),
            devices: Mutex::default(),
        })
    }

    /// Records a change of state; returns whether state or detail are new, that is, worth a log line.
    pub fn set(&self, state: SourceState, detail: &str, now: Instant) -> bool {
        if state == SourceState::Connected {
            self.was_connected.store(true, Ordering::Relaxed);
            self.connects.fetch_add(1, Ordering::Relaxed);
        }
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = condition.state != state || condition.detail != detail;
        if condition.state != state {
            condition.since = now;
        }
        condition.state = state;
        condition.detail = detail.into();
        changed
    }

    /// What it is doing now.
    #[must_use]
    pub fn condition(&self) -> SourceCondition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has connected at least once.
    #[must_use]
    pub fn was_connected(&self) -> bool {
        self.was_connected.load(Ordering::Relaxed)
    }

    /// Counts something that could not be decoded. Gives the count since the last line about it if another
    /// line is due: a line on a noisy port must not flood the log.
    pub fn complain(&self, now: Instant) -> Option<u64> {
        self.malformed.fetch_add(1, Ordering::Relaxed);
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        complained.1 += 1;
        if complained.0.is_some_and(|last| now.saturating_duration_since(last) < MALFORMED_LINE_EVERY) {
            return None;
        }
        complained.0 = Some(now);
        Some(std::mem::take(&mut complained.1))
    }

    /// Counts received bytes.
    pub fn received(&self, bytes: usize, now: Instant) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
        *self.last_data.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When data came last.
    #[must_use]
    pub fn last_data(&self) -> Option<Instant> {
        *self.last_data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the counts of one device and boot; beyond [`DEVICES_MAX`] devices the oldest boots go.
    pub fn set_device(&self, key: &DeviceKey, gauges: &DeviceGauges) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        match devices.get_mut(key) {
            Some(known) => known.clone_from(gauges),
            None => {
                if devices.len() >= DEVICES_MAX {
                    devices.pop_first();
                }
                devices.insert(key.clone(), gauges.clone());
            }
        }
    }

    /// The counts of all devices.
    #[must_use]
    pub fn devices(&self) -> BTreeMap<DeviceKey, DeviceGauges> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

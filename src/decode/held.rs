//! Frames whose catalogue is not known yet, kept raw until the Describe comes.
//!
//! Bounded per device and over all sources. At half of D a copy goes to the quarantine: the frame is
//! durable then, its receipt settles, and it never keeps a broker from sending what comes after it, the
//! Describe above all. The frame itself stays here and is decoded when its catalogue comes.
//!
//! Invariant: those with a copy are the oldest of the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Arrival;
use crate::limits::{HELD_BYTES_ALL_MAX, HELD_BYTES_MAX, HELD_FRAMES_MAX};

/// One frame.
pub(super) struct Held {
    pub(super) revision: u32,
    pub(super) frame: Bytes,
    /// Where it was published, if anywhere.
    pub(super) topic: Bytes,
    pub(super) arrival: Arrival,
    /// Whether a copy is in the quarantine, or on the way there.
    pub(super) copied: bool,
}

/// Bytes held by all devices of all sources.
#[derive(Clone, Default)]
pub(super) struct HeldBytes(Arc<AtomicUsize>);

/// What one device's frames wait in.
pub(super) struct HeldFrames {
    frames: VecDeque<Held>,
    /// So many of the oldest have a copy.
    copied: usize,
    bytes: usize,
    all: HeldBytes,
}

impl HeldFrames {
    pub(super) fn new(all: HeldBytes) -> Self {
        Self { frames: VecDeque::new(), copied: 0, bytes: 0, all }
    }

    /// Puts a frame in and gives out the oldest ones that there is no room for.
    pub(super) fn push(&mut self, held: Held) -> Vec<Held> {
        self.count(held.frame.len());
        self.frames.push_back(held);
        let mut surplus = Vec::new();
        while self.frames.len() > HELD_FRAMES_MAX
            || self.bytes > HELD_BYTES_MAX
            || self.all.0.load(Ordering::Relaxed) > HELD_BYTES_ALL_MAX
        {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.copied = self.copied.saturating_sub(1);
            self.discount(oldest.frame.len());
            surplus.push(oldest);
        }
        surplus
    }

    /// Takes out the frames of `revision`, in order of arrival.
    pub(super) fn take(&mut self, revision: u32) -> Vec<Held> {
        let (taken, left): (Vec<Held>, Vec<Held>) = self.frames.drain(..).partition(|held| held.revision == revision);
        self.copied = left.iter().take_while(|held| held.copied).count();
        self.frames = left.into();
        taken.iter().for_each(|held| self.discount(held.frame.len()));
        taken
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<Held> {
        self.copied = 0;
        self.discount(self.bytes);
        self.frames.drain(..).collect()
    }

    /// When the next copy is due, if frames are copied `after` they came.
    pub(super) fn copy_at(&self, after: Duration) -> Option<Instant> {
        self.frames.get(self.copied).map(|held| held.arrival.accepted_at + after)
    }

    /// Frames to be copied, `after` they came; their receipts are taken out, for the copy.
    pub(super) fn due(&mut self, now: Instant, after: Duration) -> Vec<(Bytes, Bytes, Arrival)> {
        let mut due = Vec::new();
        while let Some(held) = self.frames.get_mut(self.copied) {
            if held.arrival.accepted_at + after > now {
                break;
            }
            held.copied = true;
            self.copied += 1;
            due.push((held.topic.clone(), held.frame.clone(), held.arrival.clone()));
            // The copy has a share of its own now.
            std::mem::take(&mut held.arrival.receipt).settle();
        }
        due
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn discount(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

//! Sequence numbers of one device and boot: what is missing, what is repeated.
//!
//! The last [`SEQUENCE_WINDOW`] sequences are remembered as bits; an older frame counts as new, since
//! readers merge repetitions anyway. Deliberately absent: what is missing as ranges, see `holes`.

use std::collections::BTreeMap;

use crate::limits::SEQUENCE_WINDOW;
use crate::receipt::{Receipt, ReceiptWatch};
use crate::settled::{PLACE_MIN, place_near};

const WORDS: usize = SEQUENCE_WINDOW as usize / 64;

/// What a frame's sequence says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// To be decoded.
    New,
    /// Came before; a share of its receipt has joined the original's.
    Repeat,
}

/// Counts from a device's Status, as a base to count from.
#[derive(Debug, Clone, Copy)]
struct Base {
    samples_before: u64,
    received_before: u64,
}

/// The sequence of one device and boot.
pub(super) struct Track {
    first: u64,
    highest: u64,
    unique: u64,
    bits: Box<[u64; WORDS]>,
    open: BTreeMap<u64, ReceiptWatch>,
    base: Option<Base>,
    /// Different samples decoded.
    pub(super) samples: u64,
    /// Samples missing up to the last Status.
    pub(super) samples_lost: u64,
    /// Frames that came again.
    pub(super) repeats: u64,
    /// Samples that the device dropped itself.
    pub(super) dropped_by_device: u64,
}

impl Track {
    /// A track that begins with the frame at `first`, which [`Self::see`] is then called with.
    pub(super) fn new(first: u64) -> Self {
        // From its first frame on a device has sent nothing that could be missing.
        let base = (first == PLACE_MIN).then_some(Base { samples_before: 0, received_before: 0 });
        Self {
            first,
            highest: first,
            unique: 0,
            bits: Box::new([0; WORDS]),
            open: BTreeMap::new(),
            base,
            samples: 0,
            samples_lost: 0,
            repeats: 0,
            dropped_by_device: 0,
        }
    }

    /// Frames that arrived, each counted once.
    pub(super) fn frames(&self) -> u64 {
        self.unique
    }

    /// Frames missing between the first and the last that arrived.
    pub(super) fn frames_lost(&self) -> u64 {
        (self.highest - self.first + 1).saturating_sub(self.unique)
    }

    /// The place of `sequence`.
    pub(super) fn place(&self, sequence: u32) -> u64 {
        place_near(self.highest, sequence)
    }

    /// Takes note of the frame at `place`.
    pub(super) fn see(&mut self, place: u64, receipt: &Receipt) -> Seen {
        if place + u64::from(SEQUENCE_WINDOW) <= self.highest {
            return Seen::New;
        }
        self.advance(place);
        let (word, bit) = ((place as usize / 64) % WORDS, 1 << (place % 64));
        if self.bits[word] & bit == 0 {
            self.bits[word] |= bit;
            self.unique += 1;
            self.first = self.first.min(place);
            self.watch(place, receipt);
            return Seen::New;
        }
        if let Some(original) = self.open.get(&place)
            && let Err(share) = original.join(receipt.clone())
        {
            share.settle();
            self.watch(place, receipt);
            return Seen::New;
        }
        self.repeats += 1;
        Seen::Repeat
    }

    /// Takes note of the device's own count: `samples_before` in all frames before this one.
    pub(super) fn status(&mut self, samples_before: u64, dropped_by_device: u64) {
        let base = *self.base.get_or_insert(Base { samples_before, received_before: self.samples });
        let sent = samples_before.saturating_sub(base.samples_before);
        self.samples_lost = sent.saturating_sub(self.samples - base.received_before);
        self.dropped_by_device = dropped_by_device;
    }

    fn advance(&mut self, place: u64) {
        if place <= self.highest {
            return;
        }
        if place - self.highest >= u64::from(SEQUENCE_WINDOW) {
            self.bits.fill(0);
        } else {
            for gone in self.highest + 1..=place {
                self.bits[(gone as usize / 64) % WORDS] &= !(1 << (gone % 64));
            }
        }
        self.highest = place;
        let oldest = place.saturating_sub(u64::from(SEQUENCE_WINDOW) - 1);
        while self.open.first_key_value().is_some_and(|(&at, watch)| at < oldest || !watch.unsettled()) {
            self.open.pop_first();
        }
    }

    fn watch(&mut self, place: u64, receipt: &Receipt) {
        if !receipt.is_none() {
            self.open.insert(place, receipt.watch());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn see(track: &mut Track, sequence: u32) -> bool {
        let place = track.place(sequence);
        track.see(place, &Receipt::none()) == Seen::New
    }

    #[test]
    fn missing_and_repeated_frames_are_exact_even_out_of_order_and_across_the_wrap() {
        let start = u32::MAX - 2;
        let mut track = Track::new(PLACE_MIN + u64::from(start));
        for ahead in [0, 1, 3, 2, 3, 7, 0] {
            see(&mut track, start.wrapping_add(ahead));
        }
        assert_eq!((track.frames(), track.frames_lost(), track.repeats), (5, 3, 2));
    }

    #[test]
    fn a_frame_from_before_the_first_is_not_a_loss() {
        let mut track = Track::new(PLACE_MIN + 5);
        assert!(see(&mut track, 5) && see(&mut track, 4));
        assert_eq!((track.frames(), track.frames_lost()), (2, 0));
    }

    #[test]
    fn a_jump_beyond_the_window_forgets_and_still_counts() {
        let mut track = Track::new(PLACE_MIN);
        see(&mut track, 0);
        see(&mut track, 1_000_000);
        assert!(see(&mut track, 999_999));
        assert!(!see(&mut track, 1_000_000));
        assert_eq!(track.frames_lost(), 999_998);
        assert!(see(&mut track, 0), "older than the window: new, for readers to merge");
    }

    #[test]
    fn a_repetition_waits_for_its_original() {
        let fired = Arc::new(AtomicU32::new(0));
        let receipt = || {
            let fired = fired.clone();
            Receipt::new(move || {
                fired.fetch_add(1, Ordering::SeqCst);
            })
        };
        let mut track = Track::new(PLACE_MIN);
        let (original, repeat) = (receipt(), receipt());
        assert_eq!(track.see(PLACE_MIN, &original), Seen::New);
        assert_eq!(track.see(PLACE_MIN, &repeat), Seen::Repeat);
        repeat.settle();
        assert_eq!(fired.load(Ordering::SeqCst), 0);
        original.settle();
        assert_eq!(fired.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_frame_whose_original_was_given_up_is_new_again() {
        let mut track = Track::new(PLACE_MIN);
        let original = Receipt::new(|| ());
        assert_eq!(track.see(PLACE_MIN, &original), Seen::New);
        drop(original);
        let again = Receipt::new(|| ());
        assert_eq!(track.see(PLACE_MIN, &again), Seen::New);
        again.settle();
        assert_eq!((track.frames(), track.repeats), (1, 0));
    }

    #[test]
    fn lost_samples_come_from_the_devices_own_count() {
        let mut track = Track::new(PLACE_MIN);
        see(&mut track, 0);
        track.samples += 100;
        track.status(150, 3);
        assert_eq!((track.samples_lost, track.dropped_by_device), (50, 3));
        let mut late = Track::new(PLACE_MIN + 900);
        late.samples += 10;
        late.status(5_000, 0);
        late.samples += 20;
        late.status(5_025, 0);
        assert_eq!(late.samples_lost, 5);
    }
}

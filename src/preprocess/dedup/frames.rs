//! The frames of a device whose samples are remembered, by number.
//!
//! A frame is watched until it is settled. One that is not settled when it has to be forgotten counts as void from
//! then on, and so do all before it: their samples are new if they come again, which readers merge.

use std::collections::VecDeque;

use crate::limits::DEDUP_FRAMES_MAX;
use crate::receipt::{Receipt, ReceiptWatch};

/// The frames of a device.
#[derive(Default)]
pub(super) struct Frames {
    /// From [`Self::first`] on.
    watches: VecDeque<ReceiptWatch>,
    first: u64,
    /// Frames before this one are not vouched for.
    void_before: u64,
}

impl Frames {
    /// The number of the frame that `receipt` belongs to.
    pub(super) fn open(&mut self, receipt: &Receipt) -> u64 {
        while let Some(watch) = self.watches.front()
            && !watch.unsettled()
        {
            self.watches.pop_front();
            self.first += 1;
        }
        if self.watches.len() >= DEDUP_FRAMES_MAX {
            self.watches.pop_front();
            self.first += 1;
            self.void_before = self.first;
        }
        self.watches.push_back(receipt.watch());
        self.first + self.watches.len() as u64 - 1
    }

    /// Its watch; `None` if it is no longer watched, which says that it is settled.
    fn watch(&self, number: u64) -> Option<&ReceiptWatch> {
        number.checked_sub(self.first).and_then(|place| self.watches.get(place as usize))
    }

    /// Whether a repetition of a sample of frame `number` is one.
    pub(super) fn holds(&self, number: u64) -> bool {
        number >= self.void_before && !self.watch(number).is_some_and(ReceiptWatch::is_void)
    }

    /// Lets a share of `receipt` settle when frame `number` does; whether that frame can still do so.
    pub(super) fn join(&self, number: u64, receipt: &Receipt) -> bool {
        if !self.holds(number) {
            return false;
        }
        // A receipt that waited for itself would never fire.
        let Some(watch) = self.watch(number).filter(|watch| !watch.is_of(receipt)) else { return true };
        // It may have become void just now.
        watch.join(receipt.clone()).map_err(Receipt::settle).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_frame_is_no_longer_watched_and_still_holds() {
        let mut frames = Frames::default();
        let first = Receipt::new(|| {});
        let number = frames.open(&first);
        first.settle();
        let second = Receipt::new(|| {});
        assert_eq!(frames.open(&second), number + 1);
        assert_eq!(frames.watches.len(), 1);
        assert!(frames.holds(number) && frames.join(number, &second));
        second.settle();
    }

    #[test]
    fn a_frame_forgotten_before_it_is_settled_holds_no_more() {
        let mut frames = Frames::default();
        let receipts: Vec<Receipt> = (0..=DEDUP_FRAMES_MAX).map(|_| Receipt::new(|| {})).collect();
        let numbers: Vec<u64> = receipts.iter().map(|receipt| frames.open(receipt)).collect();
        assert!(!frames.holds(numbers[0]) && frames.holds(numbers[1]));
        receipts.into_iter().for_each(Receipt::settle);
    }
}

//! Messages that came and are not in the pipeline yet, and how many of them are handed on together.

use std::collections::VecDeque;

use crate::item::RawMessage;
use crate::limits::{RAW_BATCH_BYTES_MAX, RAW_BATCH_MESSAGES_MAX};

/// In order of arrival. The first of them are the next batch: as many as may be.
#[derive(Default)]
pub(super) struct Waiting {
    messages: VecDeque<RawMessage>,
    /// How many are the next batch, and their weight.
    batch: usize,
    batch_bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn push(&mut self, message: RawMessage) {
        let bytes = message.bytes();
        if self.batch == self.messages.len() && self.has_room(bytes) {
            (self.batch, self.batch_bytes) = (self.batch + 1, self.batch_bytes + bytes);
        }
        self.messages.push_back(message);
    }

    /// The weight of the next batch; none if nothing waits.
    pub(super) fn weight(&self) -> Option<usize> {
        (self.batch > 0).then_some(self.batch_bytes)
    }

    /// Whether nothing would join the next batch any more.
    pub(super) fn is_full(&self) -> bool {
        self.batch < self.messages.len() || self.batch == RAW_BATCH_MESSAGES_MAX
    }

    /// The next batch.
    pub(super) fn take(&mut self) -> Vec<RawMessage> {
        let batch = self.messages.drain(..self.batch).collect();
        (self.batch, self.batch_bytes) = (0, 0);
        while let Some(next) = self.messages.get(self.batch) {
            let bytes = next.bytes();
            if !self.has_room(bytes) {
                break;
            }
            (self.batch, self.batch_bytes) = (self.batch + 1, self.batch_bytes + bytes);
        }
        batch
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// One always has.
    fn has_room(&self, bytes: usize) -> bool {
        self.batch == 0 || (self.batch < RAW_BATCH_MESSAGES_MAX && self.batch_bytes + bytes <= RAW_BATCH_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;
    use crate::item::Body;
    use crate::receipt::Receipt;
    use crate::sample::UnixMicros;

    fn message(bytes: usize) -> RawMessage {
        let body = Body::Message { topic: Bytes::new(), payload: vec![0; bytes].into() };
        RawMessage { body, accepted_at: Instant::now(), received: UnixMicros(0), receipt: Receipt::none() }
    }

    #[test]
    fn what_waits_is_handed_on_in_batches_within_both_bounds_and_none_is_lost() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.weight(), None);
        let half = RAW_BATCH_BYTES_MAX / 2 - 128;
        let huge = 2 * RAW_BATCH_BYTES_MAX;
        for bytes in [half, half, 1, huge, 1, 2] {
            waiting.push(message(bytes));
        }
        (0..RAW_BATCH_MESSAGES_MAX).for_each(|_| waiting.push(message(0)));
        assert_eq!((waiting.weight(), waiting.is_full()), (Some(RAW_BATCH_BYTES_MAX), true));
        let mut lengths = Vec::new();
        while let Some(weight) = waiting.weight() {
            let batch = waiting.take();
            assert_eq!(batch.iter().map(RawMessage::bytes).sum::<usize>(), weight);
            lengths.push(batch.len());
        }
        assert_eq!(lengths, [2, 1, 1, RAW_BATCH_MESSAGES_MAX, 2]);
        assert!(waiting.is_empty() && !waiting.is_full());
    }

    #[test]
    fn a_batch_grows_until_it_is_full() {
        let mut waiting = Waiting::default();
        for n in 0..RAW_BATCH_MESSAGES_MAX {
            assert_eq!((waiting.is_full(), waiting.len()), (false, n));
            waiting.push(message(0));
        }
        assert!(waiting.is_full());
        assert_eq!(waiting.take().len(), RAW_BATCH_MESSAGES_MAX);
    }
}

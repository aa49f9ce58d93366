//! The quarantine: what can be neither decoded nor stored, kept on disk with its reason.
//!
//! A disk queue of its own with a small budget; the oldest goes when it is full, counted there. What waits for it is
//! bounded in items and bytes. While it cannot be written, messages beyond that are let go: a broker's is not
//! acknowledged, and asked for once more when the disk works again; what a serial port sent is lost, counted and said.
//! Only where so many samples wait that the store refuses does delivery take nothing more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::poison::{Poison, samples_of};
use super::record::{message_record, raw_record, rows_record};
use super::tasks::{Done, caught};
use crate::item::Malformed;
use crate::ledger::{Fate, Ledger, SourceId, Tally};
use crate::limits::{
    QUARANTINE_APPEND_BYTES_MAX, QUARANTINE_LET_GO_MAX, QUARANTINE_WAITING_BYTES_MAX, QUARANTINE_WAITING_MAX,
};
use crate::receipt::Receipt;
use crate::spill::{Place, Record, Spill};

/// Pause before a disk that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Messages made durable by one append.
const GROUP_MAX: usize = 64;

/// Whose fate the quarantine decides.
pub(super) enum Quarantined {
    /// Messages that could not be decoded.
    Messages(Vec<Malformed>),
    /// Poison of a live flush; its other rows are stored.
    Live { poison: Vec<Poison>, tally: Tally, receipts: Vec<Receipt> },
    /// The same from the backlog.
    Backlog { poison: Vec<Poison>, place: Place, samples: Vec<(SourceId, u64)> },
    /// A record of the backlog that is sound and holds no rows.
    Unreadable { record: Record, reason: String, place: Place, samples: Vec<(SourceId, u64)> },
}

impl Quarantined {
    fn bytes(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.iter().map(|message| message.payload.len()).sum(),
            Self::Live { poison, .. } | Self::Backlog { poison, .. } => poison.iter().map(|p| p.rows.bytes()).sum(),
            Self::Unreadable { record, .. } => record.payload.len(),
        }
    }
}

/// What waits for the quarantine.
pub(super) struct Quarantine {
    spill: Spill,
    ledger: Arc<Ledger>,
    messages: VecDeque<Malformed>,
    message_bytes: usize,
    /// Of messages that were let go: dropped, and so asked for again, once the disk works. The last ones: those of
    /// connections that are over need no asking.
    come_again: VecDeque<Receipt>,
    others: VecDeque<Quarantined>,
    other_bytes: usize,
    lost: u64,
    busy: bool,
    retry_at: Option<Instant>,
}

impl Quarantine {
    pub(super) fn new(spill: Spill, ledger: Arc<Ledger>) -> Self {
        Self {
            spill,
            ledger,
            messages: VecDeque::new(),
            message_bytes: 0,
            come_again: VecDeque::new(),
            others: VecDeque::new(),
            other_bytes: 0,
            lost: 0,
            busy: false,
            retry_at: None,
        }
    }

    pub(super) fn push_message(&mut self, malformed: Malformed) {
        if !self.messages_are_full() || self.retry_at.is_none() {
            self.message_bytes += malformed.payload.len();
            self.messages.push_back(malformed);
        } else if malformed.receipt.is_owed() {
            if self.come_again.is_empty() {
                tracing::warn!("messages that cannot be quarantined are left with their broker, unacknowledged");
            }
            if self.come_again.len() >= QUARANTINE_LET_GO_MAX {
                drop(self.come_again.pop_front());
            }
            self.come_again.push_back(malformed.receipt);
        } else {
            self.lost += 1;
            if self.lost.is_power_of_two() {
                let (lost, source, reason) = (self.lost, &malformed.source, &malformed.reason);
                tracing::error!(lost, %source, reason, "a message that cannot be decoded is lost: the quarantine is full");
            }
            malformed.receipt.settle();
        }
    }

    pub(super) fn push(&mut self, item: Quarantined) {
        self.other_bytes += item.bytes();
        self.others.push_back(item);
    }

    fn messages_are_full(&self) -> bool {
        self.messages.len() >= QUARANTINE_WAITING_MAX || self.message_bytes >= QUARANTINE_WAITING_BYTES_MAX
    }

    /// Whether it takes no more: until the disk has caught up with the messages, or takes refused samples again.
    pub(super) fn full(&self) -> bool {
        let others = self.others.len() >= QUARANTINE_WAITING_MAX || self.other_bytes >= QUARANTINE_WAITING_BYTES_MAX;
        others || (self.messages_are_full() && self.retry_at.is_none())
    }

    /// Messages that were lost since nothing could be written.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.busy && self.messages.is_empty() && self.others.is_empty()
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.busy && !self.is_idle())
    }

    /// The next piece of work, if there is any and none is going on.
    pub(super) fn next(&mut self, now: Instant) -> Option<impl Future<Output = Done> + Send + use<>> {
        if self.busy || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let item = self.others.pop_front().or_else(|| self.next_messages())?;
        self.busy = true;
        *self.bytes_of(&item) -= item.bytes();
        let records = self.records(&item);
        let spill = self.spill.clone();
        Some(async move {
            let append = async {
                for part in parts(records) {
                    spill.append(part).await.map_err(|error| error.to_string())?;
                }
                Ok(())
            };
            let outcome = caught(append).await.unwrap_or_else(|| Err("appending panicked: please report this".into()));
            Done::Quarantined { item, outcome }
        })
    }

    fn bytes_of(&mut self, item: &Quarantined) -> &mut usize {
        match item {
            Quarantined::Messages(_) => &mut self.message_bytes,
            _ => &mut self.other_bytes,
        }
    }

    fn next_messages(&mut self) -> Option<Quarantined> {
        let count = self.messages.len().min(GROUP_MAX);
        (count > 0).then(|| Quarantined::Messages(self.messages.drain(..count).collect()))
    }

    fn records(&self, item: &Quarantined) -> Vec<Record> {
        let of_rows = |Poison { rows, reason }: &Poison| rows_record(rows, &[], &self.ledger, reason);
        match item {
            Quarantined::Messages(messages) => messages.iter().map(message_record).collect(),
            Quarantined::Live { poison, .. } | Quarantined::Backlog { poison, .. } => {
                poison.iter().map(of_rows).collect()
            }
            Quarantined::Unreadable { record, reason, .. } => vec![raw_record(record, reason)],
        }
    }

    /// Settles what is durable now, or keeps it for another try. The backlog's record may then go.
    pub(super) fn done(&mut self, item: Quarantined, outcome: Result<(), String>, now: Instant) -> Option<Place> {
        self.busy = false;
        if let Err(reason) = outcome {
            if self.retry_at.is_none() {
                tracing::error!(reason, "the quarantine cannot be written; what belongs there waits");
            }
            self.retry_at = Some(now + RETRY_AFTER);
            *self.bytes_of(&item) += item.bytes();
            match item {
                Quarantined::Messages(messages) => messages.into_iter().rev().for_each(|m| self.messages.push_front(m)),
                other => self.others.push_front(other),
            }
            return None;
        }
        self.retry_at = None;
        self.come_again.clear();
        match item {
            Quarantined::Messages(messages) => messages.into_iter().for_each(|m| m.receipt.settle()),
            Quarantined::Live { poison, mut tally, receipts } => {
                tally.split(samples_of(&poison)).settle(Fate::Quarantined);
                tally.settle(Fate::Stored);
                receipts.into_iter().for_each(Receipt::settle);
            }
            Quarantined::Backlog { poison, place, samples } => {
                let mut left = samples_of(&poison);
                for (source, samples) in samples {
                    let guilty = left.min(samples);
                    left -= guilty;
                    self.ledger.settle_backlog(&[(source, guilty)], Fate::Quarantined);
                    self.ledger.settle_backlog(&[(source, samples - guilty)], Fate::Stored);
                }
                return Some(place);
            }
            Quarantined::Unreadable { place, samples, .. } => {
                self.ledger.settle_backlog(&samples, Fate::Quarantined);
                return Some(place);
            }
        }
        None
    }
}

/// Appends of a size that fits any quarantine, in order.
fn parts(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut parts: Vec<Vec<Record>> = Vec::new();
    let mut bytes = usize::MAX;
    for record in records {
        let more = record.payload.len() + record.meta.len();
        match parts.last_mut().filter(|_| bytes.saturating_add(more) <= QUARANTINE_APPEND_BYTES_MAX) {
            Some(part) => {
                bytes += more;
                part.push(record);
            }
            None => {
                bytes = more;
                parts.push(vec![record]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_are_cut_to_a_size_that_fits_and_keep_their_order() {
        let record = |bytes: usize| Record { payload: vec![0; bytes].into(), ..Record::default() };
        let third = QUARANTINE_APPEND_BYTES_MAX / 3;
        let cut = |sizes: &[usize]| -> Vec<Vec<usize>> {
            let parts = parts(sizes.iter().map(|&bytes| record(bytes)).collect());
            parts.iter().map(|part| part.iter().map(|record| record.payload.len()).collect()).collect()
        };
        assert_eq!(cut(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(cut(&[third, third, third, third]), [vec![third; 3], vec![third]]);
        assert_eq!(cut(&[4 * third, 1]), [vec![4 * third], vec![1]]);
    }
}

//! An observer whose words are records, as those of delivery are: what it says outlives the process only if the queue
//! makes it durable.

use super::*;

/// Answers news of a loss with a note that names the records; those that a lost note named are named again.
#[derive(Default)]
pub(super) struct Teller {
    /// Numbers of the records that were dropped.
    pub(super) dropped: Mutex<Vec<u64>>,
    /// Numbers in notes that were dropped.
    pub(super) named_again: Mutex<Vec<u64>>,
}

/// A note's own number.
const TOLD: u64 = u64::MAX;

/// The numbers in a note of [`Teller`]; `None` if it is not one.
pub(super) fn told_by(record: &Record) -> Option<Vec<u64>> {
    let (numbers, _) = record.payload.as_chunks::<8>();
    let numbers = numbers.iter().map(|n| u64::from_le_bytes(*n));
    (number(record) == TOLD).then(|| numbers.skip(1).collect())
}

impl Observer for Teller {
    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        let mut named = Vec::new();
        for payload in gone.into_iter().map(|gone| gone.payload.unwrap()) {
            let record = Record { meta: Bytes::new(), payload, weight: 0 };
            match told_by(&record) {
                Some(earlier) => {
                    self.named_again.lock().unwrap().extend(&earlier);
                    named.extend(earlier);
                }
                None => {
                    named.push(number(&record));
                    self.dropped.lock().unwrap().push(number(&record));
                }
            }
        }
        let payload: Vec<u8> = std::iter::once(TOLD).chain(named).flat_map(u64::to_le_bytes).collect();
        vec![Record { meta: Bytes::new(), payload: payload.into(), weight: 0 }]
    }
}

//! An observer whose words are records, as those of delivery are: what it says outlives the process only if the queue
//! makes it durable.

use super::*;

/// Answers news of a loss with a note that names the records; those that a lost note named are named again.
#[derive(Default)]
pub(super) struct Teller {
    /// Numbers of the records that were dropped.
    pub(super) dropped: Mutex<Vec<u64>>,
    /// Numbers of which there was no place for a word when they were dropped, or the note that named them.
    pub(super) without_place: Mutex<Vec<u64>>,
    /// Where the queues lie, if that matters.
    pub(super) fs: Option<FaultyFs>,
}

impl Teller {
    /// Whether each queue with data has the file for notes, so that one that drops has it.
    fn has_place(&self) -> bool {
        let names = self.fs.as_ref().map_or_else(Vec::new, FaultyFs::names);
        let segments = names.iter().filter(|path| scan::parse_segment_file_name(&name_of(path)).is_some());
        segments.map(|path| path.with_file_name(scan::NOTES_FILE)).all(|notes| names.contains(&notes))
    }
}

fn name_of(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
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
            named.extend(told_by(&record).unwrap_or_else(|| {
                self.dropped.lock().unwrap().push(number(&record));
                vec![number(&record)]
            }));
        }
        if !self.has_place() {
            self.without_place.lock().unwrap().extend(&named);
        }
        let payload: Vec<u8> = std::iter::once(TOLD).chain(named).flat_map(u64::to_le_bytes).collect();
        vec![Record { meta: Bytes::new(), payload: payload.into(), weight: 0 }]
    }
}

/// What is there, and what is told.
pub(super) async fn look(queues: &Queues) -> (Vec<u64>, Vec<u64>) {
    let (mut there, mut told) = (Vec::new(), Vec::new());
    while queues.stats().backlog_records > queues.stats().in_flight_records {
        for (_, record) in soon(queues.next_batch(100, u64::MAX)).await.unwrap() {
            match told_by(&record) {
                Some(numbers) => told.extend(numbers),
                None => there.push(number(&record)),
            }
        }
    }
    (there, told)
}

//! The place that is kept for what is said of dropped data.

use super::*;
use crate::priority::Priority::{self, Low, Normal};

const SEGMENT: usize = 64 << 10;
/// Two fill a segment.
const HALF: usize = SEGMENT / 2 - 400;

fn open_both(config: &Config, fs: &FaultyFs) -> (Queues, Arc<Teller>) {
    let teller = Arc::new(Teller::default());
    let (queues, _) = Queues::open(config, &[Normal, Low], Arc::new(fs.clone()), teller.clone()).unwrap();
    queues.each().for_each(|(_, queue)| drop(recovered(queue)));
    (queues, teller)
}

async fn fill(queues: &Queues, priority: Priority, numbers: std::ops::Range<u64>) {
    for n in numbers {
        queues.append(priority, vec![record(n, HALF)]).await.unwrap();
    }
}

/// What is there, and what is told.
async fn look(queues: &Queues) -> (Vec<u64>, Vec<u64>) {
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

/// A full budget after a restart: neither the queue that gives way nor the one that asks has a segment for the word.
#[tokio::test]
async fn the_word_of_what_gave_way_is_durable_at_once_though_no_queue_has_a_segment_for_it() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let fs = FaultyFs::new(1 << 30);
        let config = Config { disk_max: ByteSize::b(6 << 16), ..config(overflow) };
        let (queues, before) = open_both(&config, &fs);
        fill(&queues, Low, 0..8).await;
        fill(&queues, Normal, 100..104).await;
        queues.close().await;
        drop(queues);
        let (queues, teller) = open_both(&config, &fs);
        fill(&queues, Normal, 104..106).await;
        queues.settled().await;
        let mut dropped = teller.dropped.lock().unwrap().clone();
        assert!(!dropped.is_empty() && dropped.iter().all(|n| *n < 8), "{dropped:?}");
        dropped.extend(before.dropped.lock().unwrap().iter());
        dropped.sort_unstable();
        // The power goes: nothing waits in memory.
        drop(queues);
        let (queues, _) = open_both(&config, &fs.crash(|_| 0));
        let (there, mut told) = look(&queues).await;
        told.sort_unstable();
        assert!((0..8).chain(100..106).all(|n| there.contains(&n) != told.contains(&n)), "{there:?} {told:?}");
        assert_eq!(told, dropped, "{overflow:?}");
    }
}

#[tokio::test]
async fn dropping_goes_on_for_long_without_a_segment_to_spare_and_within_the_bounds() {
    let fs = FaultyFs::new(1 << 30);
    let config = Config { disk_max: ByteSize::b(8 << 16), ..config(Overflow::DropOldest) };
    let (queues, teller) = open_both(&config, &fs);
    let mut promised = Vec::new();
    for n in 0..300 {
        // Larger than a segment, so that no recycled one does.
        let priority = if n % 3 == 0 { Normal } else { Low };
        match queues.append(priority, vec![record(n, SEGMENT + 100)]).await {
            Ok(()) => promised.push(n),
            // What it is sure of is less than two of these, and the first still takes appends.
            Err(error) => assert!(priority == Low && matches!(error, AppendError::Full { .. }), "{error}"),
        }
        let notes = 2 * 2 * config.notes_bytes_max();
        assert!(used(&fs) <= config.disk_max.as_u64() + notes, "{}", used(&fs));
    }
    queues.close().await;
    drop(queues);
    let dropped = teller.dropped.lock().unwrap().len();
    let (queues, _) = open_both(&config, &fs);
    let (there, told) = look(&queues).await;
    assert!(promised.iter().all(|n| there.contains(n) || told.contains(n)));
    assert_eq!((there.len() + dropped, queues.stats().lost_notes), (promised.len(), 0));
    assert!(dropped > 100, "{dropped}");
}

#[tokio::test]
async fn a_queue_alone_on_a_full_file_system_is_full_and_waits_for_no_other() {
    let fs = FaultyFs::new(3 * SEGMENT);
    let (spill, ..) = open(&Config { disk_max: ByteSize::mib(100), ..config(Overflow::DropNewest) }, &fs);
    let refused = loop {
        if let Err(error) = spill.append(vec![record(1, HALF)]).await {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
}

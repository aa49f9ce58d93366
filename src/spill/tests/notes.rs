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

/// The power goes at each call in turn while data is dropped on a file system that has less room than it says: a commit
/// fails then that carries the word of what was dropped for it, and more is dropped.
#[tokio::test]
async fn a_power_cut_at_any_call_on_a_file_system_that_boasts_leaves_each_record_or_the_word_of_it() {
    let (mut cuts, mut dropped) = (0, 0);
    let config = Config { disk_max: ByteSize::b(5 << 16), ..config(Overflow::DropOldest) };
    let open_one = |fs: &FaultyFs| {
        let (queues, _) = Queues::open(&config, &[Normal], Arc::new(fs.clone()), Arc::new(Teller::default())).unwrap();
        queues.each().for_each(|(_, queue)| drop(recovered(queue)));
        queues
    };
    // Beside the segments lie the checkpoint and the file for notes.
    for capacity in [4 * SEGMENT + (24 << 10), 4 * SEGMENT + (60 << 10), 5 * SEGMENT + (4 << 10)] {
        for cut in 0.. {
            let fs = FaultyFs::new(capacity);
            let queues = open_one(&fs);
            fill(&queues, Normal, 0..6).await;
            queues.settled().await;
            fs.boast(1 << 20);
            fs.cut_after(cut);
            let mut promised: Vec<u64> = (0..6).collect();
            for n in 6..14 {
                if queues.append(Normal, vec![record(n, HALF)]).await.is_ok() {
                    promised.push(n);
                }
            }
            let whole = promised.last() == Some(&13);
            queues.close().await;
            drop(queues);
            let queues = open_one(&fs.crash(|_| 0));
            let (there, told) = look(&queues).await;
            for n in promised {
                let known = there.contains(&n) || told.contains(&n);
                assert!(known, "{capacity}, cut at {cut}: {n} is neither in {there:?} nor in {told:?}");
            }
            (cuts, dropped) = (cuts + 1, dropped + usize::from(!told.is_empty()));
            if whole {
                break;
            }
            assert!(cut < 1_000, "it never becomes whole");
        }
    }
    println!("{cuts} cuts, something had been dropped at {dropped} of them");
    assert!(cuts > 100 && dropped > 20, "{cuts} {dropped}");
}

/// Of data of which the observer says nothing no more goes than has to.
#[tokio::test]
async fn small_segments_of_which_nothing_is_said_go_one_by_one() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, _) = Spill::open(config(Overflow::DropOldest), Arc::new(fs.clone()), Arc::new(())).unwrap();
    recovered(&spill);
    let append = async |bytes| {
        fs.fail_syncs(1);
        spill.append(vec![Record { weight: 0, ..record(1, bytes) }]).await.unwrap();
        spill.stats().dropped_records
    };
    // A failed sync closes the segment before, with one record in one block.
    let mut dropped = 0;
    while dropped == 0 {
        dropped = append(100).await;
    }
    assert_eq!(dropped, 1, "{:?}", spill.stats());
}

/// What lies under the name of the file for notes and is of no use gives way to it.
#[tokio::test]
async fn a_file_for_notes_that_is_not_whole_is_made_anew() {
    let (fs, config) = (FaultyFs::new(1 << 30), config(Overflow::DropOldest));
    let (spill, ..) = open(&config, &fs);
    let path = config.dir.join(scan::NOTES_FILE);
    fs.put(&path, vec![0; 100]);
    spill.append(vec![record(0, 10)]).await.unwrap();
    let files = fs.files();
    let (_, content) = files.iter().find(|(at, _)| *at == path).unwrap();
    assert_eq!((content.len() as u64, spill.stats().last_error), (config.notes_file_bytes(), None));
}

/// A queue of events has data to give, though they weigh nothing.
#[tokio::test]
async fn a_queue_gives_up_a_segment_of_events_for_samples() {
    let fs = FaultyFs::new(1 << 30);
    let config = Config { disk_max: ByteSize::b(6 << 16), ..config(Overflow::DropOldest) };
    let (queues, _) = open_both(&config, &fs);
    for n in 0..8 {
        queues.append(Low, vec![Record { weight: 0, ..record(n, HALF) }]).await.unwrap();
    }
    fill(&queues, Normal, 100..105).await;
    let (there, told) = look(&queues).await;
    assert!((100..105).all(|n| there.contains(&n)), "{there:?} {told:?}");
    assert!(
        told.iter().all(|n| *n < 8) && (0..8).all(|n| there.contains(&n) != told.contains(&n)),
        "{there:?} {told:?}"
    );
}

/// The file that was kept for a word fails when it is written, and others have filled the file system.
#[tokio::test]
async fn dropped_data_stays_until_there_is_a_place_for_the_word_again_that_a_fault_has_cost() {
    let fs = FaultyFs::new(1 << 30);
    let config = Config { disk_max: ByteSize::b(4 << 16), ..config(Overflow::DropOldest) };
    let (queues, _) = open_both(&config, &fs);
    fill(&queues, Normal, 0..8).await;
    queues.close().await;
    drop(queues);
    let (queues, teller) = open_both(&config, &fs);
    queues.settled().await;
    fs.set_capacity(0);
    // The checkpoint that goes before, and the word.
    fs.fail_writes(2);
    let append = || queues.append(Normal, vec![record(8, HALF)]);
    assert!(append().await.is_err());
    let dropped = teller.dropped.lock().unwrap().clone();
    assert!(!dropped.is_empty());
    assert!(append().await.is_err(), "as long as there is no room");
    assert_eq!(*teller.dropped.lock().unwrap(), dropped, "one is enough");

    // The power goes: what was dropped is found again.
    let fs = fs.crash(|_| 0);
    drop(queues);
    let all_but_8 = |(there, told): (Vec<u64>, Vec<u64>)| (0..8).all(|n| there.contains(&n) != told.contains(&n));
    let (queues, _) = open_both(&config, &fs);
    let (there, told) = look(&queues).await;
    assert!(dropped.iter().all(|n| there.contains(n)), "{dropped:?} of {there:?}");
    assert!(all_but_8((there, told)));
    drop(queues);

    // Room is left: it goes, and there is a word of it.
    fs.set_capacity(1 << 30);
    let (queues, _) = open_both(&config, &fs.crash(|_| 0));
    fill(&queues, Normal, 8..9).await;
    let (there, told) = look(&queues).await;
    assert!(dropped.iter().all(|n| told.contains(n)) && there.contains(&8), "{there:?} {told:?}");
    assert!(all_but_8((there, told)));
}

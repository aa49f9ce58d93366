//! Several queues under one budget: what matters less gives way, and all together stay within it.

use super::*;
use crate::priority::Priority::{self, High, Low, Normal};

const SEGMENT: u64 = 64 << 10;

/// A budget of so many segments.
fn config_of(segments: u64, overflow: Overflow) -> Config {
    Config { disk_max: ByteSize::b(segments * SEGMENT), ..config(overflow) }
}

fn open_queues(config: &Config, given: &[Priority], fs: &FaultyFs) -> (Queues, Arc<Books>) {
    let books = Arc::new(Books::default());
    let (queues, _) = Queues::open(config, given, Arc::new(fs.clone()), books.clone()).unwrap();
    queues.each().for_each(|(_, queue)| drop(recovered(queue)));
    (queues, books)
}

/// Fills so many segments with records of half a segment each, numbered from `first` on; answers how many.
async fn fill(queues: &Queues, priority: Priority, first: u64, segments: u64) -> u64 {
    for n in 0..2 * segments {
        let half = usize::try_from(SEGMENT / 2).unwrap() - 200;
        queues.append(priority, vec![record(first + n, half)]).await.unwrap();
    }
    2 * segments
}

async fn drain(queues: &Queues) -> Vec<(Priority, u64)> {
    let mut all = Vec::new();
    while queues.stats().backlog_records > queues.stats().in_flight_records {
        for (place, record) in soon(queues.next_batch(1, u64::MAX)).await.unwrap() {
            all.push((place.priority, number(&record)));
            assert!(queues.ack(place));
        }
    }
    all
}

fn dropped(books: &Books) -> Vec<u64> {
    let dropped = books.dropped.lock().unwrap();
    dropped.iter().map(|gone| u64::from_le_bytes(*gone.payload.as_ref().unwrap().first_chunk().unwrap())).collect()
}

fn held(queues: &Queues, wanted: Priority) -> Stats {
    queues.each().find(|(priority, _)| *priority == wanted).unwrap().1.stats()
}

#[tokio::test]
async fn what_matters_less_gives_way_oldest_first_and_comes_out_last() {
    let fs = FaultyFs::new(1 << 30);
    let (queues, books) = open_queues(&config_of(16, Overflow::DropOldest), &Priority::ALL, &fs);
    fill(&queues, Low, 0, 5).await;
    fill(&queues, Normal, 100, 5).await;
    assert_eq!(dropped(&books), [0u64; 0], "there is room");
    fill(&queues, High, 200, 6).await;
    let gone = dropped(&books);
    assert!((2..=6).contains(&gone.len()), "{gone:?}");
    assert_eq!(gone, (0..gone.len() as u64).collect::<Vec<_>>(), "the oldest of the lowest");
    assert!(used(&fs) <= 16 * SEGMENT, "{}", used(&fs));
    let left = drain(&queues).await;
    let first_low = gone.len() as u64;
    let expected = (200..212).map(|n| (High, n)).chain((100..110).map(|n| (Normal, n)));
    assert_eq!(left, expected.chain((first_low..10).map(|n| (Low, n))).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_highest_may_have_all_but_what_the_others_are_sure_of_and_then_drops_its_own() {
    let fs = FaultyFs::new(1 << 30);
    let (queues, books) = open_queues(&config_of(12, Overflow::DropOldest), &Priority::ALL, &fs);
    fill(&queues, Low, 0, 8).await;
    fill(&queues, High, 200, 20).await;
    let (high, low) = (held(&queues, High), held(&queues, Low));
    assert!(low.backlog_records > 0 && low.disk_bytes <= 2 * SEGMENT, "{low:?}");
    assert!(high.dropped_records > 0 && high.disk_bytes >= 7 * SEGMENT, "{high:?}");
    assert!(used(&fs) <= 12 * SEGMENT);
    // The lowest goes on with what it is sure of.
    fill(&queues, Low, 50, 4).await;
    fill(&queues, Normal, 100, 4).await;
    assert!(used(&fs) <= 12 * SEGMENT);
    let mut all: Vec<u64> = drain(&queues).await.into_iter().map(|(_, n)| n).collect();
    all.extend(dropped(&books));
    all.sort_unstable();
    let sent: Vec<u64> = (0..16).chain(50..58).chain(100..108).chain(200..240).collect();
    assert_eq!(all, sent, "each is there or was told");
}

#[tokio::test]
async fn with_drop_newest_the_newest_of_the_lowest_goes_and_with_block_nothing() {
    let fs = FaultyFs::new(1 << 30);
    let (queues, books) = open_queues(&config_of(8, Overflow::DropNewest), &[High, Normal, Low], &fs);
    fill(&queues, Low, 0, 4).await;
    fill(&queues, High, 200, 4).await;
    let gone = dropped(&books);
    assert!(!gone.is_empty() && gone.iter().all(|n| (2..8).contains(n)), "{gone:?}");
    assert!(drain(&queues).await.contains(&(Low, 0)), "what was there first stays");

    let fs = FaultyFs::new(1 << 30);
    let (queues, books) = open_queues(&config_of(8, Overflow::Block), &Priority::ALL, &fs);
    fill(&queues, Low, 0, 4).await;
    fill(&queues, High, 200, 2).await;
    let refused = queues.append(High, vec![record(300, 60_000)]).await.unwrap_err();
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!(refused.to_string().contains("are for other priorities"), "{refused}");
    assert_eq!(dropped(&books).len(), 0);
    assert_eq!(drain(&queues).await.len(), 12);
}

#[tokio::test]
async fn what_is_said_of_what_gave_way_is_durable_before_its_file_goes() {
    let fs = FaultyFs::new(1 << 30);
    let (queues, books) = open_queues(&config_of(8, Overflow::DropOldest), &[High, Normal], &fs);
    fill(&queues, Normal, 0, 6).await;
    books.notes.lock().unwrap().push(Record { weight: 0, ..record(999, 100) });
    fill(&queues, High, 200, 3).await;
    assert!(!dropped(&books).is_empty());
    let left = drain(&queues).await;
    assert!(left.contains(&(Normal, 999)), "{left:?}");
}

#[tokio::test]
async fn a_full_file_system_is_met_by_the_lowest_as_well() {
    let fs = FaultyFs::new(10 << 16);
    let (queues, books) = open_queues(&config_of(100, Overflow::DropOldest), &[High, Low], &fs);
    fill(&queues, Low, 0, 6).await;
    fill(&queues, High, 200, 6).await;
    let gone = dropped(&books);
    assert!(!gone.is_empty() && gone.iter().all(|n| *n < 12), "{gone:?}");
    let left = drain(&queues).await;
    assert_eq!(left.iter().filter(|(priority, _)| *priority == High).count(), 12);
    assert_eq!(left.len() + gone.len(), 24);
}

#[tokio::test]
async fn what_a_priority_left_is_drained_though_no_channel_has_it_any_more() {
    let fs = FaultyFs::new(1 << 30);
    let config = config_of(16, Overflow::DropOldest);
    let (queues, _) = open_queues(&config, &Priority::ALL, &fs);
    fill(&queues, Low, 0, 1).await;
    fill(&queues, High, 200, 1).await;
    queues.close().await;
    drop(queues);
    let (queues, books) = open_queues(&config, &[Normal], &fs);
    assert_eq!(books.recovered.lock().unwrap().len(), 4);
    queues.append(High, vec![record(50, 10)]).await.unwrap();
    let drained = [(High, 200), (High, 201), (Normal, 50), (Low, 0), (Low, 1)];
    assert_eq!(drain(&queues).await, drained, "and takes nothing more");
    queues.close().await;
    drop(queues);
    let (queues, _) = open_queues(&config, &[Normal], &fs);
    assert_eq!(queues.each().count(), 1);
    let recycled = |dir: &str| fs.files().iter().filter(|(path, _)| path.starts_with(dir)).count();
    assert_eq!((recycled("/spill/high"), recycled("/spill/low")), (1, 1), "of each the checkpoint only");
    queues.append(High, vec![record(7, 10)]).await.unwrap();
    assert_eq!(drain(&queues).await, [(Normal, 7)], "where it has no queue of its own");
}

#[tokio::test]
async fn a_queue_that_cannot_be_read_now_does_not_hold_up_the_others() {
    let fs = FaultyFs::new(1 << 30);
    let (queues, _) = open_queues(&config_of(16, Overflow::DropOldest), &[High, Low], &fs);
    fill(&queues, High, 200, 1).await;
    fill(&queues, Low, 0, 1).await;
    fs.fail_reads(1);
    let (place, _) = soon(queues.next_batch(1, u64::MAX)).await.unwrap().pop().unwrap();
    assert_eq!(place.priority, Low);
    queues.nack(place);
}

/// Three writers and a reader at once, much more than fits: whatever the order in which they come, the budget holds at
/// each moment, and each record comes out once or was told as dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_all_priorities_at_once_stay_within_the_budget_and_lose_nothing_in_silence() {
    let fs = FaultyFs::new(1 << 30);
    let (queues, books) = open_queues(&config_of(10, Overflow::DropOldest), &Priority::ALL, &fs);
    let writers = [(Low, 0), (Normal, 10_000), (High, 20_000)].map(|(priority, first)| {
        let (queues, fs) = (queues.clone(), fs.clone());
        tokio::spawn(async move {
            for n in 0..300 {
                queues
                    .append(priority, vec![record(first + n, 5_000 + 37 * n as usize)])
                    .await
                    .map_err(|error| error.to_string())
                    .unwrap();
                assert!(used(&fs) <= 10 * SEGMENT, "{} bytes", used(&fs));
            }
        })
    });
    let reader = tokio::spawn({
        let queues = queues.clone();
        async move {
            let mut read = Vec::new();
            for turn in 0..200 {
                // Given up where the writers were faster: cancelling loses nothing either.
                let waiting = tokio::time::timeout(Duration::from_millis(50), queues.next_batch(3, u64::MAX));
                for (place, record) in waiting.await.ok().flatten().unwrap_or_default() {
                    if turn % 3 == 0 {
                        assert!(queues.nack(place));
                    } else {
                        read.push((place.priority, number(&record)));
                        assert!(queues.ack(place));
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            read
        }
    });
    for writer in writers {
        soon(writer).await.unwrap();
    }
    let mut read = soon(reader).await.unwrap();
    read.extend(drain(&queues).await);
    for (priority, first) in [(Low, 0), (Normal, 10_000), (High, 20_000)] {
        let own: Vec<u64> = read.iter().filter(|(own, _)| *own == priority).map(|(_, n)| *n).collect();
        assert!(own.iter().all(|n| (first..first + 300).contains(n)));
    }
    let gone = dropped(&books);
    let mut all: Vec<u64> = read.iter().map(|(_, n)| *n).chain(gone.iter().copied()).collect();
    all.sort_unstable();
    let sent: Vec<u64> = [0, 10_000, 20_000].into_iter().flat_map(|first| first..first + 300).collect();
    assert_eq!(all, sent);
    let of = |first: u64| gone.iter().filter(|n| (first..first + 300).contains(*n)).count();
    println!("dropped: low {}, normal {}, high {}", of(0), of(10_000), of(20_000));
    assert!(of(0) > 0);
}

/// The power goes at each call to the file system in turn, while a queue gives way: each record that was promised is
/// there afterwards, or it is known that it is not.
#[tokio::test]
async fn a_power_cut_at_any_call_while_a_queue_gives_way_leaves_each_record_or_the_word_of_it() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        for restarts in [false, true] {
            cut_while_a_queue_gives_way(&config_of(8, overflow), restarts).await;
        }
    }
}

/// `restarts`: another process finds the queue full that is to give way, with no segment of its own to write to.
async fn cut_while_a_queue_gives_way(config: &Config, restarts: bool) {
    let half = usize::try_from(SEGMENT / 2).unwrap() - 400;
    let open = |fs: &FaultyFs| {
        let (queues, _) =
            Queues::open(config, &[High, Normal], Arc::new(fs.clone()), Arc::new(Teller::default())).unwrap();
        queues.each().for_each(|(_, queue)| drop(recovered(queue)));
        queues
    };
    let (mut gave_way, mut cuts) = (0, 0);
    for cut in 0.. {
        let fs = FaultyFs::new(1 << 30);
        let queues = open(&fs);
        for n in 0..8 {
            queues.append(Normal, vec![record(n, half)]).await.unwrap();
        }
        queues.settled().await;
        let mut promised: Vec<u64> = (0..8).collect();
        let queues = if restarts {
            promised.extend(8..12);
            for n in 8..12 {
                queues.append(Normal, vec![record(n, half)]).await.unwrap();
            }
            queues.close().await;
            drop(queues);
            open(&fs)
        } else {
            queues
        };
        fs.cut_after(cut);
        for n in 100..110 {
            if queues.append(High, vec![record(n, half)]).await.is_err() {
                break;
            }
            promised.push(n);
        }
        let whole = promised.last() == Some(&109);
        queues.close().await;
        drop(queues);
        let queues = open(&fs.crash(|_| 0));
        let (there, told) = look(&queues).await;
        for n in promised {
            assert!(
                there.contains(&n) || told.contains(&n),
                "cut at {cut}: {n} is neither in {there:?} nor in {told:?}"
            );
        }
        gave_way += usize::from(!told.is_empty());
        cuts += 1;
        if whole {
            break;
        }
    }
    println!("{:?}, restarts {restarts}: {cuts} cuts, something had given way at {gave_way} of them", config.overflow);
    assert!(cuts > 10 && gave_way > 3);
}

#[tokio::test]
async fn a_queue_that_is_new_gets_what_it_is_sure_of_from_those_that_had_all() {
    for given in [&[Low, Normal][..], &[High, Normal]] {
        let fs = FaultyFs::new(1 << 30);
        let config = config_of(12, Overflow::DropOldest);
        let (queues, _) = open_queues(&config, &[Normal], &fs);
        fill(&queues, Normal, 0, 16).await;
        queues.close().await;
        drop(queues);
        let (queues, books) = open_queues(&config, given, &fs);
        let new = given[0];
        let mut refused = 0;
        for n in 100..108 {
            let half = usize::try_from(SEGMENT / 2).unwrap() - 200;
            while let Err(error) = queues.append(new, vec![record(n, half)]).await {
                assert!(matches!(error, AppendError::Io { .. }), "it is to be tried again: {error}");
                refused += 1;
                assert!(refused < 50, "{:?}: {error}", held(&queues, new));
                queues.settled().await;
            }
        }
        assert!(used(&fs) <= 12 * SEGMENT, "{new:?}: {}", used(&fs));
        let stats = held(&queues, new);
        assert!(stats.backlog_records >= 2, "{stats:?}");
        let mut all: Vec<u64> = drain(&queues).await.into_iter().map(|(_, n)| n).collect();
        all.extend(dropped(&books));
        assert!((100..108).all(|n| all.contains(&n)), "{new:?}: {all:?}");
    }
}

#[tokio::test]
async fn a_budget_that_was_lowered_holds_as_soon_as_something_is_appended() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, _, _) = open(&config_of(12, Overflow::DropOldest), &fs);
    let half = usize::try_from(SEGMENT / 2).unwrap() - 200;
    for n in 0..22 {
        spill.append(vec![record(n, half)]).await.unwrap();
    }
    spill.close().await;
    drop(spill);
    let (spill, _, books) = open(&config_of(4, Overflow::DropOldest), &fs);
    assert!(used(&fs) > 8 * SEGMENT);
    spill.append(vec![record(22, half)]).await.unwrap();
    spill.settled().await;
    assert!(used(&fs) <= 4 * SEGMENT, "{}", used(&fs));
    let there = numbers(&take_all(&spill).await);
    let mut all = [there, dropped(&books)].concat();
    all.sort_unstable();
    assert_eq!(all, (0..23).collect::<Vec<_>>());
}

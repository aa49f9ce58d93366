//! Calls that fail: nobody is told that something is durable when it is not,
//! the records come back, and the queue works again when the disk does.

use super::*;

#[tokio::test]
async fn a_failed_sync_retires_the_segment_and_the_records_go_to_a_new_one() {
    let fs = FaultyFs::new(1 << 30);
    let config = config(Overflow::Block);
    let (spill, ..) = open(&config, &fs);
    spill.append(vec![record(0, 10)]).await.unwrap();
    fs.fail_syncs(1);
    fs.calls();
    let positions = spill.append(vec![record(1, 10)]).await.unwrap();
    assert_eq!(positions, [Position { segment: 2, record: 0 }]);
    let calls = fs.calls();
    let syncs = calls.iter().filter(|call| *call == "sync").count();
    assert_eq!(syncs, 3, "one that failed, of the new segment and of the checkpoint: {calls:?}");
    spill.append(vec![record(2, 10)]).await.unwrap();
    let stats = spill.stats();
    assert_eq!((stats.failed_syncs, stats.failing), (1, false));
    // What the sync dropped must not be missed after a cut.
    let fs = fs.crash(|_| 0);
    let (spill, recovery, _) = open(&config, &fs);
    assert_eq!(numbers(&take_all(&spill).await), [0, 1, 2]);
    assert_eq!(recovery.gaps, []);
}

#[tokio::test]
async fn records_come_back_when_nothing_can_be_written_and_go_in_when_it_can() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    spill.append(vec![record(0, 10)]).await.unwrap();
    for fail in [FaultyFs::fail_syncs, FaultyFs::fail_writes] {
        fail(&fs, u32::MAX);
        let error = spill.append(vec![record(1, 10), record(2, 10)]).await.unwrap_err();
        fail(&fs, 0);
        assert!(matches!(error, AppendError::Io { .. }), "{error}");
        let stats = spill.stats();
        assert!(stats.failing && stats.last_error.is_some(), "{stats:?}");
        assert_eq!(stats.backlog_records, 1, "none of them is in");
        let records = error.into_records();
        assert_eq!(records, [record(1, 10), record(2, 10)]);
        spill.append(records).await.unwrap();
        assert!(!spill.stats().failing);
        let all = take_all(&spill).await;
        assert_eq!(numbers(&all), [0, 1, 2]);
        all.iter().for_each(|(position, record)| {
            if number(record) == 0 {
                spill.nack(*position);
            } else {
                spill.ack(*position);
            }
        });
    }
}

#[tokio::test]
async fn a_failed_sync_of_the_directory_is_no_durable_claim_either() {
    let fs = FaultyFs::new(1 << 30);
    let config = config(Overflow::Block);
    let (spill, ..) = open(&config, &fs);
    let gate = fs.hold();
    let appending = tokio::spawn({
        let spill = spill.clone();
        async move { spill.append(vec![record(0, 10)]).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    // The writer waits in front of the file's sync; let that one pass.
    fs.skip_then_fail_sync(1);
    drop(gate);
    soon(appending).await.unwrap().unwrap();
    assert_eq!(spill.stats().failed_syncs, 1);
    let fs = fs.crash(|_| 0);
    let (spill, ..) = open(&config, &fs);
    assert_eq!(numbers(&take_all(&spill).await), [0]);
}

#[tokio::test]
async fn drop_oldest_removes_whole_segments_that_are_not_in_flight_and_tells_each_record() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, _, books) = open(&config(Overflow::DropOldest), &fs);
    for n in 0..24 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    let (held, _) = soon(spill.next()).await.unwrap();
    for n in 24..32 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    assert_eq!(spill.stats().disk_bytes, 256 << 10);
    spill.append(vec![record(32, 5000)]).await.unwrap();
    let dropped = std::mem::take(&mut *books.dropped.lock().unwrap());
    let metas: Vec<_> = dropped.iter().map(|gone| gone.meta.clone().unwrap()).collect();
    assert_eq!(metas, (8..24).map(|n| record(n, 0).meta).collect::<Vec<_>>(), "segment 1 is in flight");
    let stats = spill.stats();
    assert_eq!((stats.dropped_records, stats.backlog_records), (16, 17));
    assert_eq!(stats.dropped_weight, (8..24).map(|n| record(n, 0).weight).sum::<u64>());
    assert!(stats.disk_bytes <= stats.disk_max_bytes);
    spill.nack(held);
    let left = numbers(&take_all(&spill).await);
    assert_eq!(left, (0..8).chain(24..33).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_said_of_dropped_records_is_durable_with_the_commit_that_needed_their_room() {
    let fs = FaultyFs::new(1 << 30);
    let config = config(Overflow::DropOldest);
    let (spill, _, books) = open(&config, &fs);
    for n in 0..24 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    let note = |n: u64| Record { weight: 0, ..record(n, 40) };
    *books.notes.lock().unwrap() = vec![note(100), note(101)];
    fs.calls();
    let positions = spill.append(vec![record(24, 5000)]).await.unwrap();
    let calls = fs.calls();
    let at = |what: &str| calls.iter().position(|call| call.starts_with(what)).unwrap();
    let commit = calls.iter().position(|call| *call == "write 8192").unwrap();
    assert_eq!(calls[commit + 1], "sync");
    assert!(commit < at("write 4096") && at("write 4096") < at("rename 000000000001.seg"), "{calls:?}");
    assert_eq!(positions, [Position { segment: 4, record: 2 }], "behind what is said");
    let gone = std::mem::take(&mut *books.dropped.lock().unwrap());
    let payloads: Vec<_> = gone.iter().map(|gone| gone.payload.clone().unwrap()).collect();
    assert_eq!(payloads, (0..8).map(|n| record(n, 5000).payload).collect::<Vec<_>>());
    // Too much to go with an append of a whole segment: first, and by itself.
    *books.notes.lock().unwrap() = vec![note(102)];
    spill.append(vec![record(25, 60_000)]).await.unwrap();
    assert_eq!(books.dropped.lock().unwrap().len(), 8);
    let fs = fs.crash(|_| 0);
    let (spill, ..) = open(&config, &fs);
    let expected: Vec<_> = (16..24).chain([100, 101, 24, 102, 25]).collect();
    assert_eq!(numbers(&take_all(&spill).await), expected);
    assert_eq!(spill.stats().lost_notes, 0);
}

#[tokio::test]
async fn what_is_said_of_lost_and_damaged_records_is_written_soon_and_survives_faults() {
    let fs = FaultyFs::new(1 << 30);
    let config = config(Overflow::Block);
    let (spill, _, books) = open(&config, &fs);
    spill.append((0..3).map(|n| record(n, 5000)).collect()).await.unwrap();
    let (path, mut content) = fs.files().remove(0);
    content[7000] ^= 1;
    fs.put(&path, content);
    *books.notes.lock().unwrap() = vec![record(100, 40), record(101, 1 << 20)];
    fs.fail_syncs(2);
    assert_eq!(numbers(&soon(take_all(&spill)).await), [0, 2]);
    spill.settled().await;
    let stats = spill.stats();
    assert_eq!((stats.lost_notes, stats.failed_syncs), (1, 2), "one would never fit, one failed twice: {stats:?}");
    spill.append(vec![record(3, 10)]).await.unwrap();
    assert_eq!(numbers(&take_all(&spill).await), [100, 3]);
    spill.close().await;
    let books = Arc::new(Books::default());
    *books.notes.lock().unwrap() = vec![record(102, 40)];
    let (spill, _) = Spill::open(config.clone(), Arc::new(fs.clone()), books.clone()).unwrap();
    recovered(&spill);
    assert_eq!(books.damaged.lock().unwrap().len(), 1);
    soon(async {
        while spill.stats().backlog_records < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(numbers(&take_all(&spill).await), [0, 2, 100, 3, 102], "without an append");
}

#[tokio::test]
async fn drop_newest_and_block_give_the_records_back_until_there_is_room() {
    for overflow in [Overflow::DropNewest, Overflow::Block] {
        let fs = FaultyFs::new(1 << 30);
        let (spill, _, books) = open(&config(overflow), &fs);
        for n in 0..32 {
            spill.append(vec![record(n, 5000)]).await.unwrap();
        }
        let error = spill.append(vec![record(32, 5000)]).await.unwrap_err();
        assert!(matches!(error, AppendError::Full { .. }), "{error}");
        assert!(error.to_string().contains("262144 of 262144 bytes are used"), "{error}");
        assert!(books.dropped.lock().unwrap().is_empty());
        for (position, _) in spill.next_batch(8, u64::MAX).await.unwrap() {
            spill.ack(position);
        }
        spill.append(error.into_records()).await.unwrap();
        assert_eq!(spill.stats().backlog_records, 25);
    }
}

#[tokio::test]
async fn the_floor_of_free_space_holds_too_and_what_is_left_above_it_is_used() {
    let fs = FaultyFs::new(200_000);
    let mut config = config(Overflow::Block);
    config.free_min = ByteSize::b(92_000);
    let (spill, ..) = open(&config, &fs);
    // 64 KiB, the checkpoint's 8 KiB, and what is left in blocks: 32 KiB.
    for n in 0..24 {
        spill.append(vec![record(n, 10)]).await.unwrap();
    }
    assert_eq!((spill.stats().segments, spill.stats().disk_bytes), (2, 96 << 10));
    let error = spill.append(vec![record(24, 10)]).await.unwrap_err();
    assert!(error.to_string().contains("89.8 KiB are left to others"), "{error}");
    fs.set_capacity(1 << 20);
    spill.append(vec![record(24, 10)]).await.unwrap();
    assert_eq!(numbers(&take_all(&spill).await), (0..25).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_can_never_fit_is_refused_at_once_and_drops_nothing() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::DropOldest), &fs);
    spill.append(vec![record(0, 10)]).await.unwrap();
    let long = Record { meta: Bytes::from(vec![0; 4097]), ..record(1, 10) };
    for record in [record(1, 256 << 10), long] {
        let error = spill.append(vec![record.clone()]).await.unwrap_err();
        assert!(matches!(error, AppendError::TooLarge { .. }), "{error}");
        assert_eq!(error.into_records(), [record]);
    }
    // Larger than a segment but within the budget: a segment of its own.
    spill.append(vec![record(1, 100_000)]).await.unwrap();
    assert_eq!(numbers(&take_all(&spill).await), [0, 1]);
}

#[test]
fn an_unreadable_segment_is_tried_again_later_and_the_others_go_on() {
    use super::index::{Entry, Index};
    use std::time::Instant;
    let (mut index, now) = (Index::default(), Instant::now());
    for id in 1..=2 {
        index.open_segment(id);
        index.extend(id, vec![Entry::new(0, 0, 10, u64::MAX)], Some(now));
    }
    assert_eq!(index.weight(), u64::MAX, "sums never overflow");
    let taken = index.take(1, 100, now).tickets;
    index.postpone(1, now + Duration::from_secs(5));
    index.nack(taken[0].position);
    assert_eq!(index.take(9, 100, now).tickets.len(), 1, "the second segment");
    assert!(index.take(9, 100, now).tickets.is_empty());
    assert_eq!(index.retry_at(), Some(now + Duration::from_secs(5)));
    let again = index.take(9, 100, now + Duration::from_secs(5)).tickets;
    assert_eq!(again[0].position, taken[0].position);
}

#[tokio::test]
async fn a_read_that_fails_loses_nothing() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, _, books) = open(&config(Overflow::Block), &fs);
    spill.append(vec![record(0, 10)]).await.unwrap();
    fs.fail_reads(1);
    let (_, got) = soon(spill.next()).await.unwrap();
    assert_eq!(got, record(0, 10));
    let stats = spill.stats();
    assert_eq!((stats.failed_reads, stats.lost_records), (1, 0));
    assert!(books.lost.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_dropped_for_a_floor_that_dropping_cannot_reach() {
    let fs = FaultyFs::new(1 << 20);
    let mut config = config(Overflow::DropOldest);
    config.free_min = ByteSize::kib(700);
    let (spill, _, books) = open(&config, &fs);
    for n in 0..20 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    fs.put(&PathBuf::from("/other/file"), vec![0; 600 << 10]);
    for n in 20..24 {
        spill.append(vec![record(n, 5000)]).await.expect("its room was taken before");
    }
    let error = spill.append(vec![record(24, 5000)]).await.unwrap_err();
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    assert_eq!(books.dropped.lock().unwrap().len(), 0);
    assert_eq!(spill.stats().backlog_records, 24);
}

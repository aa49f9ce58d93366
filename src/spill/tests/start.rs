//! What an earlier process left: it is scanned while appends are taken, and a
//! segment that vanished or was exchanged is noticed.

use std::path::Path;
use std::sync::Condvar;

use super::*;

/// Its `recovered` waits until it is let go.
#[derive(Default)]
struct Slow {
    books: Books,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Slow {
    fn let_go(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Observer for Slow {
    fn recovered(&self, position: Position, meta: &[u8], weight: u64) {
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        self.books.recovered(position, meta, weight);
    }
    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        self.books.dropped(gone)
    }
}

/// A directory with so many records, eight a segment.
async fn left_by_another(records: u64, overflow: Overflow) -> (FaultyFs, Config) {
    let (fs, config) = (FaultyFs::new(1 << 30), config(overflow));
    let (spill, ..) = open(&config, &fs);
    for n in 0..records {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    spill.close().await;
    (fs, config)
}

#[tokio::test]
async fn appends_are_taken_before_anything_is_scanned_and_come_out_behind_it() {
    let (fs, config) = left_by_another(16, Overflow::Block).await;
    let slow = Arc::new(Slow::default());
    let (spill, opened) = Spill::open(config.clone(), Arc::new(fs.clone()), slow.clone()).unwrap();
    assert_eq!((opened.segments, opened.bytes), (2, 128 << 10));
    soon(spill.append(vec![record(16, 10)])).await.unwrap();
    let stats = spill.stats();
    let scan = stats.recovering.unwrap();
    assert_eq!((scan.segments_done, scan.segments, scan.bytes), (0, 2, 128 << 10));
    assert_eq!((stats.backlog_records, stats.disk_bytes), (1, 192 << 10), "its bytes count from the start");
    let early = tokio::time::timeout(Duration::from_millis(50), spill.next()).await;
    assert!(early.is_err(), "what is older comes first");
    slow.let_go();
    let (_, first) = soon(spill.next()).await.unwrap();
    assert_eq!(number(&first), 0);
    let found = soon(spill.recovered()).await;
    assert_eq!((found.records, found.segments), (16, 2));
    assert_eq!(spill.stats().recovering, None);
    assert_eq!(numbers(&take_all(&spill).await), (1..17).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_dropped_before_its_turn_is_scanned_first_and_told_exactly() {
    let (fs, config) = left_by_another(24, Overflow::DropOldest).await;
    let slow = Arc::new(Slow::default());
    let (spill, _) = Spill::open(config.clone(), Arc::new(fs.clone()), slow.clone()).unwrap();
    let appending = tokio::spawn({
        let spill = spill.clone();
        async move { spill.append(vec![record(24, 5000)]).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!appending.is_finished(), "the observer has to know them first");
    slow.let_go();
    soon(appending).await.unwrap().unwrap();
    soon(spill.recovered()).await;
    let told: Vec<_> = slow.books.recovered.lock().unwrap().iter().map(|(p, meta, _)| (*p, meta.clone())).collect();
    assert_eq!(told.len(), 24);
    let gone = std::mem::take(&mut *slow.books.dropped.lock().unwrap());
    let gone: Vec<_> = gone.into_iter().map(|gone| (gone.position, gone.meta.unwrap())).collect();
    assert_eq!(gone, told[..8]);
    assert_eq!(numbers(&take_all(&spill).await), (8..25).collect::<Vec<_>>());
}

#[tokio::test]
async fn closing_in_the_middle_of_the_scan_loses_nothing() {
    let (fs, config) = left_by_another(24, Overflow::Block).await;
    let slow = Arc::new(Slow::default());
    let (spill, _) = Spill::open(config.clone(), Arc::new(fs.clone()), slow.clone()).unwrap();
    let closing = tokio::spawn({
        let spill = spill.clone();
        async move { spill.close().await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    slow.let_go();
    soon(closing).await.unwrap();
    assert_eq!(soon(spill.recovered()).await.records, 8, "the segment that it was at");
    let (spill, recovery, _) = open(&config, &fs);
    assert_eq!((recovery.records, recovery.gaps), (24, vec![]));
    assert_eq!(numbers(&take_all(&spill).await), (0..24).collect::<Vec<_>>());
}

fn file(id: u64) -> PathBuf {
    Path::new("/spill").join(segment(id))
}

fn content(fs: &FaultyFs, name: &Path) -> Vec<u8> {
    fs.files().into_iter().find(|(path, _)| path == name).unwrap().1
}

fn remove(fs: &FaultyFs, path: &Path) {
    fs.remove(path).unwrap();
    fs.sync_dir(Path::new("/spill")).unwrap();
}

/// Opens what was tampered with; then once more.
async fn check(fs: &FaultyFs, config: &Config, records: u64, expected: &[(u64, GapReason, Option<u64>)], what: &str) {
    let (spill, recovery, books) = open(config, fs);
    let gaps: Vec<_> = recovery.gaps.iter().map(|gap| (gap.segment, gap.reason, gap.records)).collect();
    assert_eq!((recovery.records, &gaps[..]), (records, expected), "{what}");
    assert_eq!(*books.damaged.lock().unwrap(), recovery.gaps, "{what}: each is told");
    spill.append(vec![record(99, 10)]).await.unwrap();
    assert_eq!(take_all(&spill).await.len() as u64, records + 1, "{what}");
    spill.close().await;
    let (_, again, _) = open(config, fs);
    let whole = |gap: &&Gap| gap.reason == GapReason::Checkpoint || gap.reason == GapReason::Missing && gap.bytes == 0;
    let told_again = again.gaps.iter().filter(whole).filter(|gap| gap.offset == 0).count();
    assert_eq!(told_again, 0, "{what}: what is gone is told once");
}

#[tokio::test]
async fn a_segment_that_is_missing_swapped_doubled_or_rolled_back_is_noticed() {
    use GapReason::{Foreign, Header, Missing};
    let all = async || left_by_another(24, Overflow::Block).await;
    let (fs, config) = all().await;
    check(&fs, &config, 24, &[], "untouched").await;

    let (fs, config) = all().await;
    remove(&fs, &file(2));
    check(&fs, &config, 16, &[(2, Missing, Some(8))], "missing").await;

    let (fs, config) = all().await;
    remove(&fs, &file(3));
    check(&fs, &config, 16, &[(3, Missing, None)], "the last one missing").await;

    let (fs, config) = all().await;
    let (first, second) = (content(&fs, &file(1)), content(&fs, &file(2)));
    fs.put(&file(1), second);
    fs.put(&file(2), first);
    check(&fs, &config, 8, &[(1, Foreign, None), (2, Foreign, None)], "swapped").await;

    let (fs, config) = all().await;
    fs.put(&file(9), content(&fs, &file(2)));
    check(&fs, &config, 24, &[(9, Foreign, None)], "doubled").await;

    let (fs, config) = all().await;
    let mut old = content(&fs, &file(2));
    old[5 * 8192..].fill(0);
    fs.put(&file(2), old);
    check(&fs, &config, 21, &[(2, Missing, Some(3))], "rolled back").await;

    let (fs, config) = all().await;
    fs.put(&file(2), vec![0; 64 << 10]);
    check(&fs, &config, 16, &[(2, Header, None)], "wiped").await;
}

#[tokio::test]
async fn a_checkpoint_that_is_corrupt_gone_or_old_is_told_and_never_in_the_way() {
    let path = Path::new("/spill/checkpoint");
    for block in 0..2 {
        let (fs, config) = left_by_another(24, Overflow::Block).await;
        let mut bad = content(&fs, path);
        bad[block * 4096 + 17] ^= 1;
        fs.put(path, bad);
        check(&fs, &config, 24, &[], "one block").await;
    }
    let (fs, config) = left_by_another(24, Overflow::Block).await;
    let mut bad = content(&fs, path);
    (bad[40], bad[4096 + 40]) = (0xff, 0xff);
    fs.put(path, bad);
    check(&fs, &config, 24, &[(0, GapReason::Checkpoint, None)], "both blocks").await;

    let (fs, config) = left_by_another(24, Overflow::Block).await;
    remove(&fs, path);
    check(&fs, &config, 24, &[], "no checkpoint").await;

    let (fs, config) = left_by_another(24, Overflow::Block).await;
    let old = content(&fs, path);
    let (spill, ..) = open(&config, &fs);
    for (position, _) in spill.next_batch(8, u64::MAX).await.unwrap() {
        spill.ack(position);
    }
    spill.close().await;
    fs.put(path, old);
    check(&fs, &config, 16, &[(1, GapReason::Missing, None)], "an old one").await;
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_fails_no_append_and_alarms_nobody() {
    let fs = FaultyFs::new(1 << 30);
    let config = config(Overflow::Block);
    let (spill, ..) = open(&config, &fs);
    for n in 0..24 {
        if n % 8 == 0 {
            // After the directory's and the commit's comes the checkpoint's.
            fs.skip_then_fail_sync(2);
        }
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    let stats = spill.stats();
    assert_eq!((stats.failed_syncs, stats.backlog_records, stats.failing), (3, 24, false), "{stats:?}");
    for (position, _) in spill.next_batch(16, u64::MAX).await.unwrap() {
        spill.ack(position);
    }
    spill.settled().await;
    assert_eq!(spill.stats().segments, 1);
    let fs = fs.crash(|_| 0);
    let (spill, recovery, _) = open(&config, &fs);
    assert!(recovery.gaps.is_empty(), "{:?}", recovery.gaps);
    let found = numbers(&take_all(&spill).await);
    assert!((16..24).all(|n| found.contains(&n)), "{found:?}");
}

#[tokio::test]
async fn a_long_backlog_is_in_the_index_as_sums_only() {
    let fs = FaultyFs::new(1 << 30);
    let mut config = config(Overflow::Block);
    config.disk_max = ByteSize::mib(16);
    let (spill, ..) = open(&config, &fs);
    let count = 20_000;
    for start in (0..count).step_by(200) {
        spill.append((start..start + 200).map(|n| record(n, 200)).collect()).await.unwrap();
    }
    let (segments, weight) = (spill.stats().segments, spill.stats().backlog_weight);
    assert!(segments > 80, "{segments}");
    let most = 5 * (64 << 10) / 256;
    assert!(spill.loaded_entries() < most, "{} of {count}", spill.loaded_entries());
    for _ in 0..2 {
        let (mut next, mut taken) = (0, Vec::new());
        while next < count {
            for (position, got) in soon(spill.next_batch(333, u64::MAX)).await.unwrap() {
                assert_eq!(number(&got), next, "in order, whole");
                next += 1;
                taken.push(position);
            }
        }
        taken.iter().for_each(|position| assert!(spill.nack(*position)));
        assert_eq!((spill.stats().backlog_weight, spill.stats().in_flight_records), (weight, 0));
    }
    spill.close().await;
    let (spill, recovery, _) = open(&config, &fs);
    assert_eq!((recovery.records, recovery.weight), (count, weight));
    assert!(spill.loaded_entries() < most, "{} of {count}", spill.loaded_entries());
    let all = soon(take_all(&spill)).await;
    assert_eq!(numbers(&all), (0..count).collect::<Vec<_>>());
    all.iter().for_each(|(position, _)| assert!(spill.ack(*position)));
    spill.settled().await;
    assert_eq!((spill.stats().backlog_records, spill.stats().segments), (0, 0));
}

#[tokio::test]
async fn what_rots_or_vanishes_while_it_waits_is_told_when_its_turn_comes() {
    let fs = FaultyFs::new(1 << 30);
    let mut config = config(Overflow::Block);
    config.disk_max = ByteSize::mib(1);
    let (spill, _, books) = open(&config, &fs);
    for n in 0..56 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    let mut bad = content(&fs, &file(4));
    bad[3 * 8192 + 300] ^= 1;
    fs.put(&file(4), bad);
    remove(&fs, &file(5));
    let found = numbers(&soon(take_all(&spill)).await);
    let expected: Vec<_> = (0..27).chain(28..32).chain(40..56).collect();
    assert_eq!(found, expected);
    let lost = std::mem::take(&mut *books.lost.lock().unwrap());
    let weights: Vec<_> = lost.iter().map(|gone| (gone.position.segment, gone.weight)).collect();
    let of_5 = (32..40).map(|n| record(n, 0).weight).sum::<u64>();
    assert_eq!(weights, [(4, record(27, 0).weight), (5, of_5)]);
    let stats = spill.stats();
    assert_eq!((stats.lost_records, stats.backlog_records), (9, 47));
}

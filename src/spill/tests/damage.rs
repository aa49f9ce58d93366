//! Bytes that change on the disk: at most the damaged record is lost, the gap
//! is exact, and nothing panics.

use std::path::Path;

use super::*;

/// Segment 1 of a queue with commits of one to three records, and where each
/// record lies.
async fn sample() -> (Vec<u8>, Vec<RecordInfo>) {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    for group in [0..1, 1..4, 4..6] {
        spill.append(group.map(|n| record(n, 30)).collect()).await.unwrap();
    }
    let mut files = fs.files();
    let scanned: Vec<_> = Scan::new(Arc::new(fs), Path::new("/spill")).unwrap().collect();
    let mut content = files.remove(0).1;
    // What was allocated and never written says nothing.
    assert!(content[12288..].iter().all(|&byte| byte == 0));
    content.truncate(12288);
    (content, scanned[0].records.clone())
}

fn file(id: u64) -> PathBuf {
    Path::new("/spill").join(segment(id))
}

fn scan_of(files: Vec<(u64, Vec<u8>)>) -> Vec<ScannedSegment> {
    let fs = FaultyFs::new(1 << 30);
    for (id, content) in files {
        fs.put(&file(id), content);
    }
    Scan::new(Arc::new(fs), Path::new("/spill")).unwrap().collect()
}

/// Which of the six records are sound, and the gaps.
fn survivors(content: Vec<u8>) -> (Vec<u64>, Vec<Gap>) {
    let mut segments = scan_of(vec![(1, content)]);
    let segment = segments.remove(0);
    let read = |info: &RecordInfo| number(&segment.read(info).unwrap());
    (segment.records.iter().map(read).collect(), segment.gaps)
}

fn hit(records: &[RecordInfo], at: usize) -> Option<u64> {
    let inside = |info: &&RecordInfo| {
        let start = info.offset as usize;
        let end = start + frame::HEADER_BYTES + info.meta.len() + info.payload_bytes as usize;
        (start..end).contains(&at)
    };
    records.iter().find(inside).map(|info| info.sequence)
}

#[tokio::test]
async fn a_flipped_byte_loses_at_most_the_record_it_is_in() {
    let (content, records) = sample().await;
    for at in 0..content.len() {
        let mut bad = content.clone();
        bad[at] ^= 0x40;
        let (left, gaps) = survivors(bad);
        let lost = hit(&records, at);
        let expected: Vec<_> = (0..6).filter(|n| Some(*n) != lost).collect();
        assert_eq!(left, expected, "byte {at}");
        let Some(lost) = lost else {
            assert_eq!(gaps, [], "byte {at} is padding");
            continue;
        };
        let info = &records[lost as usize];
        assert_eq!(gaps.len(), 1, "byte {at}");
        let gap = &gaps[0];
        assert_eq!((gap.segment, gap.offset), (1, u64::from(info.offset)), "byte {at}");
        assert!(gap.bytes >= 88 && gap.offset + gap.bytes <= content.len() as u64);
        let in_header = at < info.offset as usize + frame::HEADER_BYTES;
        let reason = match (lost, in_header) {
            // The last commit cannot be told from one that was torn.
            (4 | 5, _) => GapReason::Torn,
            (_, true) => GapReason::Header,
            (_, false) => GapReason::Body,
        };
        assert_eq!(gap.reason, reason, "byte {at}");
        // The count is exact unless nothing before or after gives a number.
        let count = (!(in_header && (lost == 0 || lost == 5))).then_some(1);
        assert_eq!(gap.records, count, "byte {at}");
        assert_eq!(gap.weight, (!in_header).then_some(info.weight), "byte {at}");
        let in_meta = at < info.offset as usize + frame::HEADER_BYTES + info.meta.len();
        let meta = gap.meta.as_ref().filter(|_| !in_meta);
        assert_eq!(meta, (!in_header && !in_meta).then_some(&info.meta), "byte {at}");
    }
}

#[tokio::test]
async fn a_file_cut_at_any_place_keeps_every_record_before_the_cut() {
    let (content, records) = sample().await;
    for length in 0..content.len() {
        let (left, gaps) = survivors(content[..length].to_vec());
        let whole = |info: &&RecordInfo| {
            let body = info.meta.len() + info.payload_bytes as usize;
            info.offset as usize + frame::HEADER_BYTES + body <= length
        };
        let expected: Vec<_> = records.iter().filter(whole).map(|info| info.sequence).collect();
        assert_eq!(left, expected, "cut at {length}");
        assert!(gaps.len() <= 1 && gaps.iter().all(|gap| gap.reason == GapReason::Torn));
        let begun = records.iter().filter(|info| (info.offset as usize) < length);
        let complete = begun.count() == left.len() && [0, 1, 4, 6].contains(&left.len());
        assert_eq!(gaps.is_empty(), complete, "cut at {length}: {gaps:?}");
    }
}

#[tokio::test]
async fn blocks_of_zeros_or_noise_lose_only_the_records_in_them() {
    let (content, records) = sample().await;
    for fill in [0u8, 0xff, b'P'] {
        for start in (0..content.len()).step_by(512) {
            let mut bad = content.clone();
            bad[start..start + 512].fill(fill);
            let (left, _) = survivors(bad);
            let touched = |n: &u64| !(start..start + 512).any(|at| hit(&records, at) == Some(*n));
            assert_eq!(left, (0..6).filter(touched).collect::<Vec<_>>(), "{fill} at {start}");
        }
    }
}

#[tokio::test]
async fn garbage_files_never_stop_the_start() {
    let fs = FaultyFs::new(1 << 30);
    let (content, _) = sample().await;
    let mut later = content.clone();
    later[4] = 3;
    let crc = crc32fast::hash(&later[..52]);
    later[52..56].copy_from_slice(&crc.to_le_bytes());
    fs.put(&file(1), content.clone());
    fs.put(&file(2), vec![]);
    fs.put(&file(3), vec![0; 8192]);
    fs.put(&file(4), b"PwSp".repeat(3000));
    fs.put(&file(5), vec![0xff; 70_001]);
    fs.put(&file(6), content);
    fs.put(Path::new("/spill/notes.txt"), vec![1; 10]);
    let (spill, recovery, _) = open(&config(Overflow::Block), &fs);
    assert_eq!(recovery.records, 6);
    let reasons: Vec<_> = recovery.gaps.iter().map(|gap| (gap.segment, gap.reason)).collect();
    let (torn, foreign) = (GapReason::Torn, GapReason::Foreign);
    assert_eq!(reasons, [(4, torn), (5, torn), (6, foreign)], "a copied file is told");
    assert_eq!(survivors(later.clone()).1[0].reason, GapReason::Version(3));
    spill.append(vec![record(9, 10)]).await.unwrap();
    assert_eq!(numbers(&take_all(&spill).await), [0, 1, 2, 3, 4, 5, 9]);
}

#[tokio::test]
async fn a_rolled_back_segment_is_noticed_by_the_next_one() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    for n in 0..20 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    let files = fs.files();
    let (old, new) = (files[0].1[..8 * 8192 - 3 * 8192].to_vec(), files[1].1.clone());
    let found = scan_of(vec![(1, old), (2, new.clone())]);
    assert_eq!(found[0].records.len(), 5);
    let [gap] = &found[0].gaps[..] else { panic!("{:?}", found[0].gaps) };
    assert_eq!((gap.reason, gap.records), (GapReason::Missing, Some(3)));
    // Torn in the middle of the last commit: the next segment gives the count.
    let cut = files[0].1[..8 * 8192 - 5000].to_vec();
    let found = scan_of(vec![(1, cut), (2, new)]);
    assert_eq!((found[0].gaps[0].reason, found[0].gaps[0].records), (GapReason::Body, Some(1)));
}

#[tokio::test]
async fn a_damaged_segment_is_drained_and_then_kept_aside_within_the_budget() {
    let fs = FaultyFs::new(1 << 30);
    let mut config = config(Overflow::Block);
    config.disk_max = ByteSize::kib(512);
    for round in 0..3u64 {
        let (spill, ..) = open(&config, &fs);
        for n in 0..9 {
            spill.append(vec![record(n, 5000)]).await.unwrap();
        }
        spill.close().await;
        let (path, mut content) = fs.files().into_iter().find(|(path, _)| !path.starts_with("/spill/damaged")).unwrap();
        content[8192 + 200] ^= 1;
        fs.put(&path, content);
        let (spill, recovery, _) = open(&config, &fs);
        assert_eq!((recovery.records, recovery.gaps.len()), (8, 1), "round {round}");
        let all = take_all(&spill).await;
        assert_eq!(numbers(&all), [0, 2, 3, 4, 5, 6, 7, 8]);
        for (position, _) in all {
            spill.ack(position);
        }
        spill.settled().await;
        let kept = fs.files().iter().filter(|(path, _)| path.starts_with("/spill/damaged")).count();
        assert_eq!(kept, 1, "an eighth of 512 KiB holds one of 64 KiB");
        assert_eq!(spill.stats().disk_bytes, used(&fs));
        spill.close().await;
    }
}

#[tokio::test]
async fn a_record_that_rots_after_the_start_is_reported_and_the_rest_goes_on() {
    let fs = FaultyFs::new(1 << 30);
    let (spill, _, books) = open(&config(Overflow::Block), &fs);
    spill.append((0..3).map(|n| record(n, 5000)).collect()).await.unwrap();
    let (path, mut content) = fs.files().remove(0);
    content[7000] ^= 1;
    fs.put(&path, content);
    assert_eq!(numbers(&soon(take_all(&spill)).await), [0, 2]);
    let lost = std::mem::take(&mut *books.lost.lock().unwrap());
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].weight, record(1, 0).weight);
    assert_eq!(spill.stats().lost_records, 1);
}

#[tokio::test]
async fn a_record_that_looks_like_a_segment_inside_is_not_taken_for_one() {
    let (content, _) = sample().await;
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    let inner = Record { meta: Bytes::new(), payload: content.into(), weight: 1 };
    spill.append(vec![inner]).await.unwrap();
    spill.append(vec![record(1, 10)]).await.unwrap();
    let (_, mut bad) = fs.files().remove(0);
    bad[0] ^= 1;
    let mut segments = scan_of(vec![(1, bad)]);
    let segment = segments.remove(0);
    assert_eq!(segment.records.len(), 1, "only the second append: {:?}", segment.records);
}

#[tokio::test]
async fn a_segment_of_a_later_version_is_left_alone() {
    let (mut content, _) = sample().await;
    for at in (0..content.len() - frame::HEADER_BYTES).step_by(8) {
        if content[at..].starts_with(&frame::MAGIC) {
            content[at + 4] = 3;
            let crc = crc32fast::hash(&content[at..at + 52]);
            content[at + 52..at + 56].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let fs = FaultyFs::new(1 << 30);
    fs.put(&file(7), content.clone());
    let (spill, recovery, _) = open(&config(Overflow::DropOldest), &fs);
    assert_eq!((recovery.records, recovery.gaps[0].reason), (0, GapReason::Version(3)));
    for n in 0..60 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    let stats = spill.stats();
    assert!(stats.dropped_records > 0 && stats.disk_bytes <= stats.disk_max_bytes);
    assert!(fs.files().contains(&(file(7), content)), "still there, and counted");
}

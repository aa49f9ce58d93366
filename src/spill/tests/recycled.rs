//! Files that are written again: what an earlier segment left in them is
//! neither a record nor damage, and nothing is lost on the way.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// Three commits of one to three records in a file that was full of others.
struct Sample {
    content: Vec<u8>,
    records: Vec<RecordInfo>,
    /// The file before.
    old: Vec<u8>,
    checkpoint: Vec<u8>,
}

async fn sample() -> Sample {
    let fs = FaultyFs::new(1 << 30);
    let (spill, ..) = open(&config(Overflow::Block), &fs);
    for n in 100..116 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    for (position, _) in take_all(&spill).await {
        spill.ack(position);
    }
    spill.settled().await;
    let content = |name: &str| fs.files().into_iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
    let old = content("000000000001.free");
    for group in [0..1, 1..4, 4..6] {
        spill.append(group.map(|n| record(n, 30)).collect()).await.unwrap();
    }
    spill.settled().await;
    let scanned: Vec<_> = Scan::new(Arc::new(fs.clone()), Path::new("/spill")).unwrap().collect();
    assert_eq!((scanned.len(), scanned[0].id, scanned[0].gaps.len()), (1, 3, 0));
    let new = content(&segment(3));
    assert_eq!((new.len(), &new[12288..]), (64 << 10, &old[12288..]), "what segment 1 left");
    Sample { content: new, records: scanned[0].records.clone(), old, checkpoint: content("checkpoint") }
}

fn survivors(content: Vec<u8>, checkpoint: &[u8]) -> (Vec<u64>, Vec<Gap>) {
    let fs = FaultyFs::new(1 << 30);
    fs.put(&Path::new("/spill").join(segment(3)), content);
    fs.put(Path::new("/spill/checkpoint"), checkpoint.to_vec());
    let mut segments: Vec<_> = Scan::new(Arc::new(fs), Path::new("/spill")).unwrap().collect();
    assert_eq!(segments.len(), 1);
    let found = segments.remove(0);
    let read = |info: &RecordInfo| number(&found.read(info).unwrap());
    (found.records.iter().map(read).collect(), found.gaps)
}

fn end_of(info: &RecordInfo) -> usize {
    info.offset as usize + frame::HEADER_BYTES + info.meta.len() + info.payload_bytes as usize
}

fn hit(records: &[RecordInfo], at: usize) -> Option<usize> {
    records.iter().position(|info| (info.offset as usize..end_of(info)).contains(&at))
}

#[tokio::test]
async fn a_flipped_byte_of_a_recycled_segment_loses_at_most_the_record_it_is_in() {
    let Sample { content, records, checkpoint, .. } = sample().await;
    let near =
        |at: &usize| hit(&records, *at).is_some() || at % 4096 < 64 && at.is_multiple_of(3) || at.is_multiple_of(331);
    let mut flips = 0;
    for at in (0..content.len()).filter(near) {
        flips += 1;
        let mut bad = content.clone();
        bad[at] ^= 0x40;
        let (left, gaps) = survivors(bad, &checkpoint);
        let lost = hit(&records, at);
        let expected: Vec<_> = (0..6).filter(|n| Some(*n as usize) != lost).collect();
        assert_eq!(left, expected, "byte {at}: {gaps:?}");
        let Some(lost) = lost else {
            assert_eq!(gaps, [], "byte {at} is padding, or was left by another");
            continue;
        };
        assert_eq!(gaps.len(), 1, "byte {at}");
        let (gap, info) = (&gaps[0], &records[lost]);
        assert_eq!(gap.offset, u64::from(info.offset), "byte {at}");
        assert!(gap.bytes >= 88 && gap.offset + gap.bytes <= 16384, "byte {at}: {gap:?}");
        let in_header = at < info.offset as usize + frame::HEADER_BYTES;
        let reason = match (lost, in_header) {
            (4 | 5, _) => GapReason::Torn,
            (_, true) => GapReason::Header,
            (_, false) => GapReason::Body,
        };
        assert_eq!(gap.reason, reason, "byte {at}");
        let count = (!(in_header && (lost == 0 || lost == 5))).then_some(1);
        assert_eq!(gap.records, count, "byte {at}");
    }
    assert!(flips > 600, "{flips}");
}

#[tokio::test]
async fn a_recycled_file_cut_at_any_place_keeps_every_record_before_the_cut() {
    let Sample { content, records, checkpoint, .. } = sample().await;
    let near = |length: &usize| hit(&records, *length).is_some() || length.is_multiple_of(97) || length % 4096 < 2;
    for length in (1..content.len()).filter(near) {
        let (left, gaps) = survivors(content[..length].to_vec(), &checkpoint);
        let whole = records.iter().filter(|info| end_of(info) <= length).count();
        assert_eq!(left, (0..whole as u64).collect::<Vec<_>>(), "cut at {length}");
        let begun = records.iter().filter(|info| (info.offset as usize) < length).count();
        let complete = begun == whole && [0, 1, 4, 6].contains(&whole);
        assert!(gaps.len() <= 1, "cut at {length}: {gaps:?}");
        // What is left of a header that was cut may be anybody's.
        let unclear = whole == 6 && length % 4096 < frame::HEADER_BYTES;
        assert!(unclear || gaps.is_empty() == complete, "cut at {length}: {gaps:?}");
    }
}

#[tokio::test]
async fn a_torn_commit_in_a_recycled_file_costs_nothing_that_was_durable() {
    let Sample { content, records, old, checkpoint } = sample().await;
    // The last commit, any sectors of it not written: the old ones show.
    for missing in 1..256u32 {
        let mut torn = content.clone();
        for sector in (0..8).filter(|sector| missing & (1 << sector) != 0) {
            let at = 8192 + sector * 512;
            torn[at..at + 512].copy_from_slice(&old[at..at + 512]);
        }
        let (left, gaps) = survivors(torn, &checkpoint);
        assert_eq!(left[..4], [0, 1, 2, 3], "{missing:b}: {gaps:?}");
        assert!(gaps.iter().all(|gap| gap.reason == GapReason::Torn && gap.offset >= 8192), "{gaps:?}");
    }
    assert_eq!(records[4].offset, 8192);
}

/// Says of dropped records which they were.
#[derive(Default)]
struct Naming {
    told: Mutex<Vec<u64>>,
    notes: Mutex<u64>,
}

const NOTE: u64 = 1 << 40;

impl Observer for Naming {
    fn dropped(&self, gone: Vec<Gone>) -> Vec<Record> {
        let numbers =
            gone.iter().map(|gone| u64::from_le_bytes(*gone.payload.as_ref().unwrap().first_chunk().unwrap()));
        let numbers: Vec<u64> = numbers.collect();
        let mut notes = self.notes.lock().unwrap();
        *notes += 1;
        let mut payload = (NOTE + *notes).to_le_bytes().to_vec();
        numbers.iter().for_each(|number| payload.extend(number.to_le_bytes()));
        self.told.lock().unwrap().extend(numbers);
        vec![Record { meta: Bytes::new(), payload: payload.into(), weight: 0 }]
    }
}

#[tokio::test]
async fn wherever_the_power_goes_a_dropped_record_is_there_or_said_to_be_gone() {
    let mut cuts = 0;
    for calls in 0..60 {
        let fs = FaultyFs::new(1 << 30);
        let config = config(Overflow::DropOldest);
        let books = Arc::new(Naming::default());
        let (spill, _) = Spill::open(config.clone(), Arc::new(fs.clone()), books.clone()).unwrap();
        recovered(&spill);
        for n in 0..60 {
            spill.append(vec![record(n, 5000)]).await.unwrap();
        }
        let gone: BTreeSet<u64> = books.told.lock().unwrap().iter().copied().collect();
        assert!(gone.len() > 20);
        fs.cut_after(calls);
        let mut durable: BTreeSet<u64> = (0..60).filter(|n| !gone.contains(n)).collect();
        for n in 60..72 {
            if spill.append(vec![record(n, 5000)]).await.is_ok() {
                durable.insert(n);
            }
        }
        cuts += u32::from(spill.stats().failing);
        let fs = fs.crash(|below| (calls as usize * 31) % below);
        let (spill, recovery, _) = open(&config, &fs);
        assert!(recovery.gaps.iter().all(|gap| gap.reason == GapReason::Torn), "{calls}: {:?}", recovery.gaps);
        let mut found = BTreeSet::new();
        for (_, record) in take_all(&spill).await {
            if number(&record) > NOTE {
                let named = record.payload[8..].chunks(8).map(|n| u64::from_le_bytes(*n.first_chunk().unwrap()));
                found.extend(named);
            } else {
                found.insert(number(&record));
            }
        }
        let silent: Vec<_> = durable.difference(&found).collect();
        assert!(silent.is_empty(), "cut after {calls} calls: {silent:?} vanished without a word");
        spill.close().await;
    }
    assert!(cuts > 30, "{cuts}");
}

#[tokio::test]
async fn the_reserve_is_bounded_counted_and_found_again() {
    let fs = FaultyFs::new(1 << 30);
    let mut config = config(Overflow::Block);
    config.reserve_bytes = ByteSize::kib(128);
    let (spill, ..) = open(&config, &fs);
    for n in 0..32 {
        spill.append(vec![record(n, 5000)]).await.unwrap();
    }
    for (position, _) in take_all(&spill).await {
        spill.ack(position);
    }
    spill.settled().await;
    let stats = spill.stats();
    assert_eq!((stats.segments, stats.reserve_bytes), (1, 128 << 10), "the last one takes appends");
    assert_eq!((stats.disk_bytes, used(&fs)), (192 << 10, 192 << 10));
    spill.close().await;
    fs.put(Path::new("/spill/000000000003.free"), vec![1; 4096]);
    let (spill, recovery, _) = open(&config, &fs);
    assert_eq!((recovery, spill.stats().reserve_bytes), (Recovery::default(), 128 << 10));
    let positions = spill.append(vec![record(40, 10)]).await.unwrap();
    assert_eq!(positions[0].segment, 5, "no number is given twice");
    assert!(fs.files().iter().all(|(path, _)| !path.ends_with("000000000003.free")), "of another length");
    assert_eq!(numbers(&take_all(&spill).await), [40]);
}

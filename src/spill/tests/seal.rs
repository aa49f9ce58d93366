//! Encryption: nothing readable on the disk, nothing lost for want of a key.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::spill::frame::{self, HEADER_BYTES, Header};

/// A file with a key of its own for each number.
pub(super) struct KeyFile(tempfile::TempDir);

impl KeyFile {
    pub(super) fn new(number: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key: Vec<u8> = (0..32).map(|at| number.wrapping_mul(37).wrapping_add(at * 7)).collect();
        std::fs::write(dir.path().join("spill.key"), key).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("spill.key")
    }

    fn key(&self) -> Arc<SpillKey> {
        Arc::new(SpillKey::load(&self.path()).unwrap())
    }
}

fn sealed(key: &KeyFile, overflow: Overflow) -> Config {
    Config { key_file: Some(key.path()), ..config(overflow) }
}

fn scanned(fs: &FaultyFs, key: Option<Arc<SpillKey>>) -> Vec<ScannedSegment> {
    Scan::new(Arc::new(fs.clone()), Path::new("/spill")).unwrap().with_key(key).collect()
}

fn telling(n: u64) -> Record {
    let payload = format!("engine.rpm of car 44, lap {n}; ").repeat(9);
    Record { meta: "gateway-7".into(), payload: payload.into(), weight: n + 1 }
}

fn holds(content: &[u8], text: &str) -> bool {
    content.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn filled(config: &Config, fs: &FaultyFs, count: u64) {
    let (spill, ..) = open(config, fs);
    spill.append((0..count / 2).map(telling).collect()).await.unwrap();
    spill.append((count / 2..count).map(telling).collect()).await.unwrap();
    spill.close().await;
}

async fn contents(spill: &Spill) -> Vec<Record> {
    take_all(spill).await.into_iter().map(|(_, record)| record).collect()
}

#[tokio::test]
async fn with_a_key_nothing_readable_lies_on_the_disk_and_all_of_it_comes_back() {
    let (fs, key) = (FaultyFs::new(1 << 30), KeyFile::new(1));
    let config = sealed(&key, Overflow::Block);
    filled(&config, &fs, 6).await;
    for (path, content) in fs.files() {
        for text in ["engine.rpm", "car 44", "gateway-7"] {
            assert!(!holds(&content, text), "{text} in {path:?}");
        }
    }
    let (spill, recovery, books) = open(&config, &fs);
    assert_eq!((recovery.records, recovery.gaps.len()), (6, 0));
    assert!(spill.stats().encrypted);
    let metas: Vec<_> = books.recovered.lock().unwrap().iter().map(|(_, meta, _)| meta.clone()).collect();
    assert_eq!(metas, vec!["gateway-7"; 6]);
    assert_eq!(contents(&spill).await, (0..6).map(telling).collect::<Vec<_>>());
    // The same without a key is readable: the search above would find it.
    let plain = FaultyFs::new(1 << 30);
    filled(&super::config(Overflow::Block), &plain, 6).await;
    assert!(holds(&plain.files()[0].1, "engine.rpm") && holds(&plain.files()[0].1, "gateway-7"));
}

#[tokio::test]
async fn the_same_record_is_never_sealed_to_the_same_bytes() {
    let key = KeyFile::new(1);
    let mut seen = Vec::new();
    for _ in 0..3 {
        // An emptied directory: segment, run and sequence come again.
        let fs = FaultyFs::new(1 << 30);
        filled(&sealed(&key, Overflow::Block), &fs, 2).await;
        let content = fs.files().remove(0).1;
        assert_eq!(content[..48], seen.first().unwrap_or(&content)[..48], "the header is");
        seen.push(content);
    }
    assert!(seen[0][52..] != seen[1][52..] && seen[1][52..] != seen[2][52..]);
}

#[tokio::test]
async fn without_the_right_key_a_segment_is_left_alone_and_told_and_with_it_nothing_is_lost() {
    let (fs, right, wrong) = (FaultyFs::new(1 << 30), KeyFile::new(1), KeyFile::new(2));
    filled(&sealed(&right, Overflow::DropOldest), &fs, 6).await;
    let before = fs.files();
    let weight = (0..6).map(|n| telling(n).weight).sum();
    for key_file in [Some(wrong.path()), None] {
        let config = Config { key_file, ..config(Overflow::DropOldest) };
        let (spill, recovery, books) = open(&config, &fs);
        assert_eq!((recovery.records, books.recovered.lock().unwrap().len()), (0, 0));
        let [gap] = &recovery.gaps[..] else { panic!("{:?}", recovery.gaps) };
        assert_eq!((gap.segment, gap.reason), (1, GapReason::Locked));
        assert!(books.damaged.lock().unwrap().is_empty(), "nothing is lost");
        assert_eq!((gap.records, gap.weight), (Some(6), Some(weight)));
        let stats = spill.stats();
        let used = stats.disk_bytes - stats.reserve_bytes;
        assert_eq!((stats.locked_segments, used), (1, config.segment_bytes.as_u64()));
        // Neither the cap nor a drain touches it.
        for n in 0..60 {
            spill.append(vec![record(n, 5000)]).await.unwrap();
        }
        let stats = spill.stats();
        assert!(stats.dropped_records > 0 && stats.disk_bytes <= stats.disk_max_bytes);
        for (position, _) in take_all(&spill).await {
            spill.ack(position);
        }
        spill.close().await;
        let files = fs.files();
        let segments: Vec<_> = before.iter().filter(|(path, _)| is_segment(path)).collect();
        assert!(!segments.is_empty() && segments.iter().all(|file| files.contains(file)), "there, byte by byte");
    }
    let (spill, recovery, _) = open(&sealed(&right, Overflow::DropOldest), &fs);
    assert_eq!((recovery.records, recovery.gaps.len(), spill.stats().locked_segments), (6, 0, 0));
    assert_eq!(contents(&spill).await, (0..6).map(telling).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_disk_full_of_locked_segments_says_so_instead_of_deleting_them() {
    let (fs, right, wrong) = (FaultyFs::new(1 << 30), KeyFile::new(1), KeyFile::new(2));
    let (spill, ..) = open(&sealed(&right, Overflow::DropNewest), &fs);
    for n in 0..28 {
        spill.append(vec![record(n, 8000)]).await.unwrap();
    }
    spill.close().await;
    let before = fs.files();
    let (spill, ..) = open(&sealed(&wrong, Overflow::DropOldest), &fs);
    let refused = spill.append((0..8).map(|n| record(n, 8000)).collect()).await.unwrap_err();
    assert!(refused.to_string().contains("in segments under another key"), "{refused}");
    spill.close().await;
    let segments =
        |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> { files.into_iter().filter(|(path, _)| is_segment(path)).collect() };
    assert!(segments(fs.files()) == segments(before), "there, byte by byte");
}

fn is_segment(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

#[tokio::test]
async fn a_key_that_is_added_later_leaves_what_was_plain_readable() {
    let (fs, key) = (FaultyFs::new(1 << 30), KeyFile::new(1));
    filled(&config(Overflow::Block), &fs, 4).await;
    let config = sealed(&key, Overflow::Block);
    let (spill, recovery, _) = open(&config, &fs);
    assert_eq!((recovery.records, recovery.gaps.len()), (4, 0));
    spill.append((4..6).map(telling).collect()).await.unwrap();
    spill.close().await;
    let (plain, new) = (&fs.files()[0].1, &fs.files()[1].1);
    assert!(holds(plain, "engine.rpm") && !holds(new, "engine.rpm"));
    let (spill, recovery, _) = open(&config, &fs);
    assert_eq!((recovery.records, recovery.gaps.len()), (6, 0));
    for (at, (position, record)) in take_all(&spill).await.into_iter().enumerate() {
        assert_eq!(record, telling(at as u64));
        spill.ack(position);
    }
    spill.close().await;
    let left = fs.files();
    assert!(left.iter().all(|(_, content)| !holds(content, "engine.rpm")), "nothing plain is written again");
    assert!(left.iter().any(|(path, _)| path.extension().is_some_and(|end| end == "free")), "what is sealed is");
}

#[tokio::test]
async fn a_scan_checks_sealed_segments_without_the_key_and_reads_them_with_it() {
    let (fs, key) = (FaultyFs::new(1 << 30), KeyFile::new(1));
    filled(&sealed(&key, Overflow::Block), &fs, 4).await;
    let blind = scanned(&fs, None).remove(0);
    assert!(blind.is_locked() && !blind.is_damaged());
    assert!(blind.records.iter().all(|info| info.locked && info.meta.is_empty()));
    let refused = blind.read(&blind.records[0]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let open = scanned(&fs, Some(key.key())).remove(0);
    assert!(!open.is_locked() && open.gaps.is_empty());
    let known = |segment: &ScannedSegment| -> Vec<_> {
        segment.records.iter().map(|info| (info.offset, info.sequence, info.payload_bytes, info.weight)).collect()
    };
    assert_eq!(known(&blind), known(&open));
    let read: Vec<_> = open.records.iter().map(|info| open.read(info).unwrap()).collect();
    assert_eq!(read, (0..4).map(telling).collect::<Vec<_>>());
    // Damage shows without the key.
    let (path, mut content) = fs.files().remove(0);
    content[100] ^= 1;
    fs.put(&path, content);
    let blind = scanned(&fs, None).remove(0);
    let reasons: Vec<_> = blind.gaps.iter().map(|gap| gap.reason).collect();
    assert_eq!((reasons, blind.records.len()), (vec![GapReason::Body, GapReason::Locked], 3));
}

/// The header that lies at `at`, whatever its checksum.
fn mend(content: &mut [u8], at: usize) -> bool {
    let length = |from: usize, bytes: usize| {
        content[at + from..at + from + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let body = at + HEADER_BYTES..at + HEADER_BYTES + length(6, 2) + length(8, 4) + 40;
    let Some(stored) = content.get(body) else { return false };
    let crc = crc32fast::hash(stored);
    content[at + 48..at + 52].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&content[at..at + 52]);
    content[at + 52..at + 56].copy_from_slice(&crc.to_le_bytes());
    true
}

#[tokio::test]
async fn a_flipped_byte_loses_its_record_and_no_other_even_under_a_mended_checksum() {
    let (fs, key) = (FaultyFs::new(1 << 30), KeyFile::new(1));
    filled(&sealed(&key, Overflow::Block), &fs, 6).await;
    let (path, content) = fs.files().remove(0);
    let whole = scanned(&fs, Some(key.key())).remove(0);
    let (start, end) = (whole.records[1].offset as usize, whole.records[2].offset as usize);
    let body = HEADER_BYTES + whole.records[1].meta.len() + whole.records[1].payload_bytes as usize + 40;
    assert_eq!(end - start, body.next_multiple_of(8), "sealing adds 40 bytes");
    let (mut refused, mut mended) = (0, 0);
    for (at, mend_it) in (start..start + body).flat_map(|at| [(at, false), (at, true)]) {
        let mut bad = content.clone();
        bad[at] ^= 0x40;
        if mend_it && !mend(&mut bad, start) {
            continue;
        }
        // Both checksums are computed anew: such a change is none.
        if mend_it && (48..56).contains(&(at - start)) {
            assert_eq!(bad, content);
            continue;
        }
        fs.put(&path, bad);
        let segment = scanned(&fs, Some(key.key())).remove(0);
        let read: Vec<_> = segment.records.iter().map(|info| segment.read(info).unwrap()).collect();
        let rest = [0, 2, 3, 4, 5].map(telling);
        if mend_it && (6..12).contains(&(at - start)) {
            // A length that was made longer covers what lies behind it.
            assert!(!read.is_empty() && read.iter().all(|record| rest.contains(record)), "byte {}", at - start);
        } else {
            assert_eq!(read, rest, "byte {} mended {mend_it}", at - start);
        }
        assert!(!segment.gaps.is_empty() && !segment.is_locked());
        refused += 1;
        mended += usize::from(mend_it);
    }
    println!("{refused} changes of one byte, {mended} under right checksums: each refused");
    assert!(mended > 300);
}

#[tokio::test]
async fn a_cut_in_a_sealed_commit_is_a_torn_end_and_not_a_lock() {
    let (fs, key) = (FaultyFs::new(1 << 30), KeyFile::new(1));
    filled(&sealed(&key, Overflow::Block), &fs, 4).await;
    let (path, content) = fs.files().remove(0);
    let ends: Vec<_> = scanned(&fs, Some(key.key()))[0]
        .records
        .iter()
        .map(|info| info.offset as usize + HEADER_BYTES + info.meta.len() + info.payload_bytes as usize + 40)
        .collect();
    for length in (0..content.len()).step_by(7) {
        fs.put(&path, content[..length].to_vec());
        let segment = scanned(&fs, Some(key.key())).remove(0);
        assert_eq!(segment.records.len(), ends.iter().filter(|end| **end <= length).count(), "cut at {length}");
        // Of a segment in which nothing is left the checkpoint says that something was.
        let known = |gap: &Gap| gap.reason == GapReason::Header && segment.records.is_empty();
        let right = segment.gaps.iter().all(|gap| gap.reason == GapReason::Torn || known(gap));
        assert!(right, "cut at {length}: {:?}", segment.gaps);
    }
}

#[tokio::test]
async fn a_wrong_key_does_not_start_the_queue_where_the_file_holds_none() {
    let (fs, key) = (FaultyFs::new(1 << 30), KeyFile::new(1));
    std::fs::write(key.path(), "too short").unwrap();
    let refused = Spill::open(sealed(&key, Overflow::Block), Arc::new(fs), Arc::new(())).unwrap_err().to_string();
    assert!(refused.contains("key_file") && refused.contains("9 bytes that are no key"), "{refused}");
}

/// What sealing costs: `cargo test --release --lib sealing_costs -- --nocapture`.
#[test]
fn sealing_costs_forty_bytes_a_record_and_some_time() {
    let key = KeyFile::new(1).key();
    let cipher = key.cipher(1, 1);
    for payload_bytes in [300, 4_000, 64_000] {
        let (mut record, mut bytes) = (record(1, payload_bytes), Vec::new());
        record.meta = Bytes::from(vec![7; 60]);
        let header = |sealed| Header {
            sealed,
            first: true,
            last: true,
            meta_bytes: 60,
            payload_bytes: payload_bytes as u32,
            offset: 0,
            segment: 1,
            run: 1,
            sequence: 0,
            weight: 2,
            body_crc: 0,
        };
        let (mut rates, mut lengths) = (Vec::new(), Vec::new());
        for cipher in [None, Some(&cipher)] {
            // 256 MiB in release, little in a build without optimization.
            let rounds = (if cfg!(debug_assertions) { 1 << 17 } else { 1 << 28 }) / payload_bytes;
            let start = Instant::now();
            for _ in 0..rounds {
                bytes.clear();
                frame::put(&mut bytes, &header(cipher.is_some()), &record, cipher).unwrap();
            }
            let put = start.elapsed();
            let head = *bytes.first_chunk::<HEADER_BYTES>().unwrap();
            let start = Instant::now();
            for _ in 0..rounds {
                let header = Header::decode(&head, 1, 0).unwrap();
                let body = Bytes::copy_from_slice(&bytes[HEADER_BYTES..]);
                assert_eq!(frame::decode_body(&header, body, Some(&key)).unwrap(), record);
            }
            let rate = |time: Duration| (rounds * payload_bytes) as f64 / time.as_secs_f64() / 1e6;
            rates.push([rate(put), rate(start.elapsed())]);
            lengths.push(bytes.len());
        }
        println!("{payload_bytes} B records: MB/s [written, read] plain {:.0?}, sealed {:.0?}", rates[0], rates[1]);
        assert_eq!(lengths[1], lengths[0] + 40);
    }
}

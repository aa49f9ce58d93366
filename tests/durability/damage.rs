//! Files that somebody damaged, moved or put back: what is sound is handed out, what is not is told, nothing panics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use pitwire::spill::scan::parse_segment_file_name;
use pitwire::spill::{Config, Gap, Record, Spill, scan};

use crate::books::{Key, key_of, open, open_at_once};
use crate::life::{runtime, small, soon};
use crate::rig::{KIB, figure, folder};

/// The plain files of a directory.
type Files = BTreeMap<String, Vec<u8>>;

fn files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Makes a directory hold these files and nothing else.
fn lay(dir: &Path, files: &Files) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    fs::create_dir(dir).unwrap();
    for (name, content) in files {
        fs::write(dir.join(name), content).unwrap();
    }
}

fn config(dir: &Path) -> Config {
    Config { segment_bytes: ByteSize::b(64 * KIB), ..small(dir) }
}

/// Appends one commit of records with payloads of these sizes.
async fn commit(spill: &Spill, number: &mut u64, sizes: &[usize]) -> BTreeSet<u64> {
    let key = |number| Key { life: 0, writer: 0, number };
    let numbers: BTreeSet<u64> = (*number..*number + sizes.len() as u64).collect();
    let records: Vec<Record> = numbers.iter().zip(sizes).map(|(&n, &bytes)| key(n).record(bytes)).collect();
    *number += sizes.len() as u64;
    soon("an answer", spill.append(records)).await.unwrap();
    numbers
}

/// What a new process finds: the numbers of the sound records, in order, and the gaps.
async fn find(dir: &Path) -> (Vec<u64>, Vec<Gap>) {
    let (spill, recovery) =
        open(&config(dir), std::sync::Arc::new(())).await.expect("content never keeps it from starting");
    let (mut found, mut lost) = (Vec::new(), 0);
    while (found.len() as u64) + lost < recovery.records {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), spill.next_batch(4096, 64 << 20));
        let batch = next.await.unwrap_or_else(|_| panic!("{recovery:?} {:?}", spill.stats())).unwrap();
        found.extend(batch.iter().map(|(_, record)| key_of(record).number));
        lost = spill.stats().lost_records;
    }
    soon("close", spill.close()).await;
    (found, recovery.gaps)
}

/// A segment of two commits with three records each, between two others of the same run.
struct Sample {
    dir: PathBuf,
    victim: String,
    files: Files,
    /// Where each of its records lies: start and end.
    records: Vec<(usize, usize)>,
    /// Its records' numbers begin here.
    first: u64,
    all: u64,
}

async fn sample(dir: &Path) -> Sample {
    let mut number = 0;
    let (spill, _) = open(&config(dir), std::sync::Arc::new(())).await.unwrap();
    commit(&spill, &mut number, &[62_000, 10]).await;
    let first = number;
    commit(&spill, &mut number, &[1200, 900, 1500]).await;
    commit(&spill, &mut number, &[10, 2000, 1800]).await;
    commit(&spill, &mut number, &[60_000]).await;
    soon("close", spill.close()).await;
    let segments: Vec<_> = scan(dir).unwrap().collect();
    let sizes: Vec<usize> = segments.iter().map(|segment| segment.records.len()).collect();
    assert_eq!(sizes, [2, 6, 1], "three segments of one run");
    let place = |info: &pitwire::spill::RecordInfo| {
        let start = info.offset as usize;
        // The header is 56 bytes long.
        (start, start + 56 + info.meta.len() + info.payload_bytes as usize)
    };
    Sample {
        dir: dir.to_owned(),
        victim: segments[1].path.file_name().unwrap().to_str().unwrap().to_owned(),
        files: files(dir),
        records: segments[1].records.iter().map(place).collect(),
        first,
        all: number,
    }
}

impl Sample {
    /// What is found with the victim's content replaced: by a new process, or by a scan alone, which is cheaper.
    async fn with(&self, content: Vec<u8>, process: bool) -> (Vec<u64>, Vec<Gap>) {
        if !process {
            fs::write(self.dir.join(&self.victim), content).unwrap();
            return look(&self.dir);
        }
        let mut files = self.files.clone();
        files.insert(self.victim.clone(), content);
        lay(&self.dir, &files);
        let found = find(&self.dir).await;
        lay(&self.dir, &self.files);
        found
    }

    fn content(&self) -> &Vec<u8> {
        &self.files[&self.victim]
    }
}

/// What a scan finds, which a recovery stands on: the numbers of the sound records, in order, and the gaps.
fn look(dir: &Path) -> (Vec<u64>, Vec<Gap>) {
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    for segment in scan(dir).unwrap() {
        found.extend(segment.records.iter().map(|info| key_of(&segment.read(info).unwrap()).number));
        gaps.extend(segment.gaps);
    }
    (found, gaps)
}

/// Of so many damages one is shown to a new process; the others to a scan.
const PROCESS_EVERY: usize = 23;

#[test]
fn each_byte_flipped_costs_at_most_the_record_it_is_in_and_the_gap_is_exact() {
    let place = folder();
    runtime().block_on(async {
        let sample = sample(&place.path().join("spill")).await;
        let end = sample.records.last().unwrap().1;
        // Behind the last record there is nothing but what was never written.
        let places: Vec<usize> = (0..end).chain((end..sample.content().len()).step_by(509)).collect();
        let mut lost_one = 0;
        for &at in &places {
            let mut content = sample.content().clone();
            content[at] ^= 0x40;
            let (found, gaps) = sample.with(content, at % PROCESS_EVERY == 0).await;
            let hit = sample.records.iter().position(|&(start, end)| (start..end).contains(&at));
            let lost = hit.map(|record| sample.first + record as u64);
            let expected: Vec<u64> = (0..sample.all).filter(|number| Some(*number) != lost).collect();
            assert_eq!(found, expected, "byte {at}: {gaps:?}");
            let Some((start, end)) = hit.map(|record| sample.records[record]) else { continue };
            assert_eq!(gaps.len(), 1, "byte {at}: {gaps:?}");
            let gap = &gaps[0];
            let reach = usize::try_from(gap.offset + gap.bytes).unwrap();
            assert_eq!((gap.records, usize::try_from(gap.offset).unwrap()), (Some(1), start), "byte {at}: {gaps:?}");
            // To the next record, or to the end of what was never written.
            assert!(reach >= end, "byte {at}: {gaps:?}");
            lost_one += 1;
        }
        figure(&format!(
            "{} bytes flipped one by one: at most 1 record lost, all {lost_one} losses counted exactly, 0 panics",
            places.len()
        ));
        assert!(lost_one > 7000);
    });
}

#[test]
fn a_file_cut_anywhere_keeps_what_is_before_the_cut_and_tells_the_gap() {
    let place = folder();
    runtime().block_on(async {
        let sample = sample(&place.path().join("spill")).await;
        let end = sample.records.last().unwrap().1;
        for length in 0..end {
            let (found, gaps) = sample.with(sample.content()[..length].to_vec(), length % PROCESS_EVERY == 0).await;
            let whole = sample.records.iter().take_while(|(_, end)| *end <= length).count() as u64;
            let after = sample.first + 6;
            let expected: Vec<u64> = (0..sample.first + whole).chain(after..sample.all).collect();
            assert_eq!(found, expected, "cut at {length}: {gaps:?}");
            assert!(!gaps.is_empty(), "cut at {length}: nothing is told");
            let named: u64 = gaps.iter().filter_map(|gap| gap.records).sum();
            assert!(named <= 6 - whole, "cut at {length}: {gaps:?}");
        }
        figure(&format!("cut at each of {end} places: all before the cut is kept, each gap told, 0 panics"));
    });
}

/// Three segments of one process, two of the next, and what the second was like before its last commit.
async fn two_runs(dir: &Path) -> (Files, Vec<BTreeSet<u64>>, Vec<u8>) {
    let (mut number, mut segments) = (0, Vec::new());
    let spill = open_at_once(&config(dir));
    segments.push(commit(&spill, &mut number, &[40_000, 1000]).await);
    let mut second = commit(&spill, &mut number, &[30_000, 1000]).await;
    let last = |files: Files| files.into_iter().rfind(|(name, _)| parse_segment_file_name(name).is_some());
    let (_, older) = last(files(dir)).unwrap();
    second.extend(commit(&spill, &mut number, &[20_000]).await);
    segments.push(second);
    segments.push(commit(&spill, &mut number, &[40_000, 1000]).await);
    soon("close", spill.close()).await;
    let spill = open_at_once(&config(dir));
    for _ in 0..2 {
        segments.push(commit(&spill, &mut number, &[40_000, 7]).await);
    }
    soon("close", spill.close()).await;
    (files(dir), segments, older)
}

#[test]
fn segments_that_are_missing_swapped_doubled_or_rolled_back_are_told() {
    let place = folder();
    runtime().block_on(async {
        let dir = place.path().join("spill");
        let (files, segments, older) = two_runs(&dir).await;
        let all: BTreeSet<u64> = segments.iter().flatten().copied().collect();
        let names: Vec<String> = files.keys().filter(|name| parse_segment_file_name(name).is_some()).cloned().collect();
        assert_eq!(names.len(), 5);
        let mut cases: Vec<(String, Files)> = Vec::new();
        for (gone, name) in names.iter().enumerate() {
            let mut bad = files.clone();
            bad.remove(name);
            cases.push((format!("segment {gone} missing"), bad));
        }
        for (a, b) in [(0, 1), (1, 3), (3, 4)] {
            let mut bad = files.clone();
            bad.insert(names[a].clone(), files[&names[b]].clone());
            bad.insert(names[b].clone(), files[&names[a]].clone());
            cases.push((format!("segments {a} and {b} swapped"), bad));
        }
        let mut bad = files.clone();
        bad.insert("000000000077.seg".into(), files[&names[1]].clone());
        cases.push(("segment 1 doubled".into(), bad));
        let mut bad = files.clone();
        bad.insert(names[2].clone(), files[&names[0]].clone());
        cases.push(("segment 2 overwritten with segment 0".into(), bad));
        let mut bad = files.clone();
        // Of the last one that a process wrote this could not be seen: nothing behind it counts on.
        bad.insert(names[1].clone(), older);
        cases.push(("segment 1 rolled back by a commit".into(), bad));
        let mut silent = Vec::new();
        for (what, bad) in &cases {
            lay(&dir, bad);
            let (found, gaps) = find(&dir).await;
            let found_once: BTreeSet<u64> = found.iter().copied().collect();
            assert_eq!(found_once.len(), found.len(), "{what}: some twice: {found:?}");
            assert!(found_once.is_subset(&all), "{what}: invented: {found:?}");
            let lost = all.len() - found_once.len();
            if gaps.is_empty() {
                silent.push(format!("{what}: {lost} lost"));
            }
        }
        figure(&format!("{} kinds of moved files: {} silent {silent:?}", cases.len(), silent.len()));
        assert!(silent.is_empty(), "{silent:?}");
    });
}

#[test]
fn a_checkpoint_that_is_damaged_is_told_and_costs_nothing() {
    let place = folder();
    runtime().block_on(async {
        let dir = place.path().join("spill");
        let (files, segments, _) = two_runs(&dir).await;
        let all: Vec<u64> = segments.iter().flatten().copied().collect();
        let good = &files["checkpoint"];
        assert_eq!(good.len(), 8192, "two blocks");
        let mut cases: Vec<(String, Vec<u8>, bool)> = Vec::new();
        // One sound block is enough; without any it is told.
        for at in (0..good.len()).step_by(61) {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            cases.push((format!("byte {at} flipped"), bad, false));
        }
        cases.push(("both blocks damaged".into(), good.iter().map(|byte| byte ^ 1).collect(), true));
        cases.push(("noise".into(), (0..8192u32).map(|n| (n * 31 % 251) as u8).collect(), true));
        cases.push(("text".into(), b"not a checkpoint".to_vec(), true));
        for (what, content, told) in &cases {
            let mut bad = files.clone();
            bad.insert("checkpoint".into(), content.clone());
            lay(&dir, &bad);
            let (found, gaps) = find(&dir).await;
            assert_eq!(found, all, "{what}: {gaps:?}");
            assert_eq!(!gaps.is_empty(), *told, "{what}: {gaps:?}");
            // It is made anew with the next append, and nothing is told any more.
            if *told {
                let spill = open_at_once(&config(&dir));
                commit(&spill, &mut 1000, &[10]).await;
                soon("close", spill.close()).await;
                let (found, gaps) = find(&dir).await;
                assert_eq!((found.len(), gaps.len()), (all.len() + 1, 0), "{what}: {gaps:?}");
            }
        }
        figure(&format!("{} damages: all records found, every lost checkpoint told and made anew", cases.len()));
    });
}

//! Puts damaged segments aside without losing what is sound in them: for a directory that no process has.
//!
//! It stands on the queue itself: the sound records of a damaged segment are appended anew, synced, and acked where
//! they lay; the queue then puts the finished segment into `damaged/`, as it does when an agent has drained it. A cut
//! at any moment leaves some records twice, which is harmless, and none less. No data is removed: the overflow
//! policy is off, and so are the budgets; whoever calls sees to it that there is room ([`Damage::bytes_needed`]). The
//! empty file that is kept for notes goes, and the next agent makes it anew.
//!
//! One thing goes that an agent would remove as well: a segment in which nothing is sound and whose only commit was never
//! promised to anybody.
//!
//! What cannot be read at all, is of another version or under another key, is left alone.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::config::{BLOCK_BYTES, Config, Overflow};
use super::fs::RealFs;
use super::scan::{DAMAGED_DIR, scan, segment_file_name};
use super::seal::SpillKey;
use super::segment::Gap;
use super::stats::{AppendError, Observer, SpillError};
use super::{Record, Spill};

/// Records handed over at once, and their bytes: one commit each.
const TOGETHER_MAX: usize = 256;
const TOGETHER_BYTES_MAX: u64 = 4 << 20;
/// How long nothing may come of reading: a segment that the disk refuses is tried again every 5 s.
const QUIET_MAX: Duration = Duration::from_secs(12);

/// A segment that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedSegment {
    /// Its number.
    pub segment: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// What is sound in it.
    pub records: u64,
    /// Its weight.
    pub weight: u64,
    /// What is not.
    pub gaps: Vec<Gap>,
}

/// What a repair has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// Segments to be put aside.
    pub damaged: Vec<DamagedSegment>,
    /// Segments that nothing can be done about: of another version, under another key, or refused by the disk.
    pub left_alone: Vec<u64>,
    /// Sound records in all.
    #[serde(skip)]
    records: u64,
    #[serde(skip)]
    last: u64,
}

impl Damage {
    /// Looks for damage; blocking, takes no lock and changes nothing. `seen` is told the bytes of each segment; `key` opens what is sealed.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub fn find(dir: &Path, key: Option<Arc<SpillKey>>, mut seen: impl FnMut(u64)) -> io::Result<Self> {
        let mut found = Self::default();
        for segment in scan(dir)?.with_key(key) {
            seen(segment.bytes);
            found.last = found.last.max(segment.id);
            if segment.is_unusable() || segment.is_locked() {
                found.left_alone.push(segment.id);
                continue;
            }
            let records = segment.records.len() as u64;
            found.records += records;
            if segment.is_damaged() {
                let weight = segment.records.iter().fold(0u64, |sum, record| sum.saturating_add(record.weight));
                let (segment, bytes, gaps) = (segment.id, segment.bytes, segment.gaps);
                found.damaged.push(DamagedSegment { segment, bytes, records, weight, gaps });
            }
        }
        Ok(found)
    }

    /// Bytes that the repair writes at most: the damaged segments anew, and a block for each commit.
    #[must_use]
    pub fn bytes_needed(&self) -> u64 {
        let commits = |segment: &DamagedSegment| segment.records / 16 + 2;
        self.damaged.iter().map(|segment| segment.bytes + commits(segment) * BLOCK_BYTES).sum()
    }
}

/// Why a repair was not finished. What was sound is still there, some of it twice.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The directory could not be opened.
    #[error(transparent)]
    Open(#[from] SpillError),
    /// Records could not be written anew.
    #[error("write the sound records anew: {0}; make room or mend the disk, then repair again")]
    Append(AppendError),
    /// The disk does not give all records.
    #[error("{left} records could not be read: look at the disk (dmesg), then repair again")]
    Unread {
        /// How many.
        left: u64,
    },
    /// A segment is still where it was.
    #[error("segment {segment} could not be put aside: {reason}")]
    NotAside {
        /// The segment.
        segment: u64,
        /// What the queue said last.
        reason: String,
    },
}

/// Puts the damaged segments aside; answers how many records were written anew. `config` names the directory and what
/// is needed to read it; its budgets do not count here. `observer` is told what is lost: what it answers lies in the
/// queue afterwards, since nobody finds the damage again.
///
/// # Errors
/// See [`RepairError`]. Another process that has the directory is one.
///
/// # Cancel safety
/// May be dropped: some records are then there twice.
pub async fn repair(config: Config, damage: &Damage, observer: Arc<dyn Observer>) -> Result<u64, RepairError> {
    let dir = config.dir.clone();
    let config = Config { disk_max: ByteSize::eib(1), free_min: ByteSize::b(0), overflow: Overflow::Block, ..config };
    let opened = tokio::task::spawn_blocking(|| Spill::open(config, Arc::new(RealFs), observer)).await;
    let (spill, _) = opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    // Damage is known to the queue only once it was scanned.
    spill.recovered().await;
    let outcome = write_anew(&spill, damage).await;
    let reason = spill.stats().last_error;
    spill.close().await;
    give_back(&dir);
    let written = outcome?;
    let still = damage.damaged.iter().find(|damaged| dir.join(segment_file_name(damaged.segment)).exists());
    match still {
        None => Ok(written),
        Some(damaged) => Err(RepairError::NotAside {
            segment: damaged.segment,
            reason: reason.unwrap_or_else(|| format!("look at {DAMAGED_DIR}/ in the directory")),
        }),
    }
}

/// Whoever repairs may be root; the files are for whom the directory is for.
fn give_back(dir: &Path) {
    let Ok(owner) = std::fs::metadata(dir) else { return };
    let files = [dir.to_owned(), dir.join(DAMAGED_DIR)].into_iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    for path in files.flatten().flatten().map(|entry| entry.path()) {
        let strange = std::fs::symlink_metadata(&path).is_ok_and(|file| file.uid() != owner.uid());
        if strange && let Err(error) = lchown(&path, Some(owner.uid()), Some(owner.gid())) {
            tracing::warn!(path = %path.display(), %error, "cannot give the file to the directory's owner");
        }
    }
}

/// Goes through the whole backlog, oldest first, and writes anew what lies in damaged segments.
async fn write_anew(spill: &Spill, damage: &Damage) -> Result<u64, RepairError> {
    let damaged: BTreeSet<u64> = damage.damaged.iter().map(|damaged| damaged.segment).collect();
    let (mut seen, mut written) = (0, 0);
    // What is damaged between the search and now is told by the queue, and lost.
    while seen + spill.stats().lost_records < damage.records {
        let batch = spill.next_batch(TOGETHER_MAX, TOGETHER_BYTES_MAX);
        let Ok(Some(batch)) = tokio::time::timeout(QUIET_MAX, batch).await else {
            return Err(RepairError::Unread { left: damage.records - seen });
        };
        // In order: what was written here comes last.
        let old: Vec<_> = batch.into_iter().filter(|(position, _)| position.segment <= damage.last).collect();
        if old.is_empty() {
            break;
        }
        seen += old.len() as u64;
        let again = old.into_iter().filter(|(position, _)| damaged.contains(&position.segment));
        let (positions, records): (Vec<_>, Vec<Record>) = again.unzip();
        written += records.len() as u64;
        spill.append(records).await.map_err(RepairError::Append)?;
        // The others stay in flight, that is where they are, until the queue is closed.
        positions.into_iter().for_each(|position| {
            spill.ack(position);
        });
    }
    spill.settled().await;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn config(dir: &Path) -> Config {
        Config { dir: dir.into(), segment_bytes: ByteSize::kib(64), free_min: ByteSize::b(0), ..Config::default() }
    }

    fn record(number: u32) -> Record {
        let payload: Vec<u8> = (0..5_000).map(|byte| (byte as u32 * 31 + number) as u8).collect();
        Record { meta: number.to_string().into(), payload: payload.into(), weight: 10 }
    }

    async fn filled(dir: &Path, records: u32) {
        let (spill, _) = Spill::open(config(dir), Arc::new(RealFs), Arc::new(())).unwrap();
        for number in 0..records {
            spill.append(vec![record(number)]).await.unwrap();
        }
        spill.close().await;
    }

    fn segments(dir: &Path) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.sort();
        paths
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 0xff;
        fs::write(path, bytes).unwrap();
    }

    /// The numbers of the records that an agent would find.
    fn numbers(dir: &Path) -> Vec<u32> {
        let metas = scan(dir).unwrap().flat_map(|segment| segment.records);
        let mut numbers: Vec<u32> =
            metas.map(|record| std::str::from_utf8(&record.meta).unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    #[tokio::test]
    async fn a_repair_keeps_every_sound_record_and_puts_the_damaged_segments_aside_whole() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 60).await;
        let before = segments(dir.path());
        assert!(before.len() >= 5, "{before:?}");
        // The second record of the first segment, and the first of the third.
        flip(&before[0], 8_192 + 1_000);
        flip(&before[2], 100);
        let evidence = fs::read(&before[0]).unwrap();
        let damage = Damage::find(dir.path(), None, |_| {}).unwrap();
        let found: Vec<(u64, usize)> = damage.damaged.iter().map(|d| (d.segment, d.gaps.len())).collect();
        assert_eq!(found, [(1, 1), (3, 1)]);
        let sound = numbers(dir.path());
        assert_eq!(sound.len(), 58);

        let written = repair(config(dir.path()), &damage, Arc::new(())).await.unwrap();
        assert_eq!(written, damage.damaged.iter().map(|damaged| damaged.records).sum::<u64>());
        assert_eq!(numbers(dir.path()), sound, "none less, none twice");
        assert_eq!(Damage::find(dir.path(), None, |_| {}).unwrap().damaged, []);
        let aside = segments(&dir.path().join(DAMAGED_DIR));
        assert_eq!(aside.len(), 2);
        assert_eq!(fs::read(&aside[0]).unwrap(), evidence, "as it was found");
        assert!(before[1].exists() && before[3].exists(), "what was sound stays where it was");
    }

    #[tokio::test]
    async fn a_segment_without_one_sound_record_is_put_aside_too_and_one_of_another_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 30).await;
        let before = segments(dir.path());
        (0..8).for_each(|commit| flip(&before[0], commit * 8_192 + 1_000));
        let mut later = fs::read(&before[1]).unwrap();
        for header in later.chunks_mut(8_192) {
            header[4] = 9;
            let crc = crc32fast::hash(&header[..52]);
            header[52..56].copy_from_slice(&crc.to_le_bytes());
        }
        fs::write(&before[1], &later).unwrap();
        let sound = numbers(dir.path());
        let damage = Damage::find(dir.path(), None, |_| {}).unwrap();
        assert_eq!(damage.left_alone, [2]);
        assert_eq!(damage.damaged.iter().map(|d| (d.segment, d.records)).collect::<Vec<_>>(), [(1, 0)]);
        repair(config(dir.path()), &damage, Arc::new(())).await.unwrap();
        assert_eq!(numbers(dir.path()), sound);
        assert_eq!(fs::read(&before[1]).unwrap(), later);
        assert!(!before[0].exists() && dir.path().join(DAMAGED_DIR).join("000000000001.seg").exists());
    }

    #[tokio::test]
    async fn a_directory_that_a_process_has_is_refused_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 15).await;
        flip(&segments(dir.path())[0], 8_192 + 1_000);
        let damage = Damage::find(dir.path(), None, |_| {}).unwrap();
        let (held, _) = Spill::open(config(dir.path()), Arc::new(RealFs), Arc::new(())).unwrap();
        let refused = repair(config(dir.path()), &damage, Arc::new(())).await;
        assert!(matches!(refused, Err(RepairError::Open(SpillError::Locked { .. }))), "{refused:?}");
        held.close().await;
        assert!(!dir.path().join(DAMAGED_DIR).exists());
    }
}

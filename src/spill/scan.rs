//! Reading segments as they lie on disk, without a lock and without changing
//! anything: recovery stands on this, and so do tools that look into the
//! directory of a dead or a running agent.
//!
//! In a directory that is being written, the newest segment may end in a
//! commit that is not complete yet ([`GapReason::Torn`]), and a segment may
//! vanish between the listing and the reading: it is left out then.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Record;
use super::frame::Header;
use super::fs::{Filesystem, RealFs, SegmentFile};
use super::seal::SpillKey;
use super::segment::{Found, Gap, GapReason, Pass, RecordInfo, Window, read_record};

/// Directory beside the segments for damaged ones.
pub(super) const DAMAGED_DIR: &str = "damaged";

/// Where the damaged segments of the queue in `dir` are kept.
#[must_use]
pub fn damaged_dir(dir: &Path) -> PathBuf {
    dir.join(DAMAGED_DIR)
}

/// The name of a segment's file.
#[must_use]
pub fn segment_file_name(id: u64) -> String {
    format!("{id:012}.seg")
}

/// The number in the name of a segment's file; `None` for any other name.
#[must_use]
pub fn parse_segment_file_name(name: &str) -> Option<u64> {
    let id = name.strip_suffix(".seg")?.parse().ok()?;
    // Twelve digits are 8 EiB of segments of 8 MiB; more is not ours.
    (id < 1_000_000_000_000 && segment_file_name(id) == name).then_some(id)
}

/// A segment that was scanned.
pub struct ScannedSegment {
    /// Its number.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u64,
    /// What is sound in it, in order.
    pub records: Vec<RecordInfo>,
    /// What is not.
    pub gaps: Vec<Gap>,
    file: Option<Arc<dyn SegmentFile>>,
    found: Found,
    key: Option<Arc<SpillKey>>,
}

impl std::fmt::Debug for ScannedSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScannedSegment")
            .field("id", &self.id)
            .field("bytes", &self.bytes)
            .field("records", &self.records.len())
            .field("gaps", &self.gaps)
            .finish_non_exhaustive()
    }
}

impl ScannedSegment {
    /// Reads one of [`Self::records`] with its payload.
    ///
    /// # Errors
    /// `PermissionDenied` if it is locked, `InvalidData` if it was damaged since
    /// the scan, or what the file system says.
    pub fn read(&self, info: &RecordInfo) -> io::Result<Record> {
        if info.locked {
            let why = "the record is sealed under another key: name the right spill.key_file";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let meta_bytes = info.meta.len();
        read_record(file.as_ref(), self.id, info.offset, meta_bytes, info.payload_bytes, self.key.as_deref())?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the record is damaged"))
    }

    /// Whether it is damaged beyond a commit that was never finished.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let harmless = |gap: &Gap| matches!(gap.reason, GapReason::Torn | GapReason::Unreadable | GapReason::Locked);
        !self.gaps.iter().all(harmless)
    }

    /// Whether its records are sealed and the key at hand, if any, opens none.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.records.iter().any(|record| record.locked)
    }

    /// Reports what is locked, as one gap over all of the file.
    fn tell_locked(&mut self) {
        if self.is_locked() {
            let locked = self.records.iter().filter(|record| record.locked);
            let (records, weight) =
                locked.fold((0, 0u64), |(n, sum), record| (n + 1, sum.saturating_add(record.weight)));
            self.gaps.push(Gap {
                segment: self.id,
                offset: 0,
                bytes: self.bytes,
                reason: GapReason::Locked,
                records: Some(records),
                weight: Some(weight),
            });
        }
    }

    /// Whether nothing can be done with it, so that it is left alone: refused by the disk, or all of it of a version
    /// that this program does not know.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        let beyond = |gap: &Gap| matches!(gap.reason, GapReason::Unreadable | GapReason::Version(_));
        self.records.is_empty() && self.gaps.iter().any(beyond)
    }
}

/// The segments of a directory, oldest first; see [`scan`].
pub struct Scan {
    fs: Arc<dyn Filesystem>,
    dir: PathBuf,
    ids: VecDeque<(u64, u64)>,
    previous: Option<(u64, u64)>,
    key: Option<Arc<SpillKey>>,
}

/// Goes through the segments of a directory, oldest first, one in memory at a
/// time, checking everything. Blocking; takes no lock and changes nothing.
/// Sealed records are checked for damage without their key, and then *locked*;
/// [`Scan::with_key`] opens them.
///
/// # Errors
/// If the directory cannot be listed.
pub fn scan(dir: &Path) -> io::Result<Scan> {
    Scan::new(Arc::new(RealFs), dir)
}

impl Scan {
    pub(super) fn new(fs: Arc<dyn Filesystem>, dir: &Path) -> io::Result<Self> {
        let mut ids: Vec<_> = fs
            .list(dir)?
            .iter()
            .filter_map(|entry| Some((parse_segment_file_name(&entry.name)?, entry.bytes)))
            .collect();
        ids.sort_unstable();
        Ok(Self { fs, dir: dir.to_owned(), ids: ids.into(), previous: None, key: None })
    }

    /// Opens what is sealed under this key.
    #[must_use]
    pub fn with_key(mut self, key: Option<Arc<SpillKey>>) -> Self {
        self.key = key;
        self
    }

    /// Segments still to come and their bytes, for a progress bar.
    #[must_use]
    pub fn remaining(&self) -> (usize, u64) {
        (self.ids.len(), self.ids.iter().map(|(_, bytes)| bytes).sum())
    }

    fn load(&self, id: u64, listed_bytes: u64) -> Option<ScannedSegment> {
        let path = self.dir.join(segment_file_name(id));
        let (found, key) = (Found::default(), self.key.clone());
        let mut pass = Pass { segment: id, records: Vec::new(), gaps: Vec::new(), found, key };
        let opened = self.fs.open(&path);
        let mut bytes = listed_bytes;
        let read = opened.as_ref().map_err(io::Error::kind).and_then(|file| {
            bytes = file.bytes().map_err(|error| error.kind())?;
            pass.run(file.as_ref(), bytes).map_err(|error| error.kind())
        });
        match read {
            Ok(()) => {}
            Err(io::ErrorKind::NotFound) => return None,
            Err(_) => {
                // Nothing of it is used: half a segment would look whole.
                pass.records.clear();
                pass.gaps.clear();
                pass.found = Found::default();
                pass.gap(0, bytes, GapReason::Unreadable, (None, None));
            }
        }
        Some(ScannedSegment {
            id,
            path,
            bytes,
            records: pass.records,
            gaps: pass.gaps,
            file: opened.ok(),
            found: pass.found,
            key: pass.key,
        })
    }

    /// The number of the next segment in which a header is sound, and that one.
    fn following(&self) -> Option<(u64, Header)> {
        self.ids.iter().find_map(|&(id, _)| {
            let file = self.fs.open(&self.dir.join(segment_file_name(id))).ok()?;
            let mut window = Window::new(file.as_ref(), file.bytes().ok()?);
            let header = window.find_header(id, 0).ok()?.0?;
            Some((id, header))
        })
    }
}

impl Iterator for Scan {
    type Item = ScannedSegment;

    fn next(&mut self) -> Option<ScannedSegment> {
        loop {
            let (id, bytes) = self.ids.pop_front()?;
            let Some(mut segment) = self.load(id, bytes) else {
                continue;
            };
            if let (Some((run, next)), Some((first_run, first))) = (self.previous, segment.found.first)
                && run == first_run
                && let Some(gap) = segment.gaps.first_mut().filter(|gap| gap.offset == 0)
                && gap.records.is_none()
            {
                gap.records = first.checked_sub(next);
            }
            if let Some((following, header)) = self.following() {
                settle(&mut segment, following, &header);
            }
            segment.tell_locked();
            self.previous = segment.found.next;
            return Some(segment);
        }
    }
}

/// Settles the end of a segment by the first record of the one that follows.
///
/// A commit whose sync failed was written once more in the next segment under
/// the same numbers, or its numbers were given to other records because the
/// first ones went back to the caller: either way the later segment counts.
fn settle(segment: &mut ScannedSegment, following: u64, header: &Header) {
    let (run, sequence) = (header.run, header.sequence);
    let Some((_, next)) = segment.found.next.filter(|(own, _)| *own == run) else {
        return;
    };
    segment.records.retain(|record| record.run != run || record.sequence < sequence);
    if header.offset > 0 {
        // Its start is damaged: what it began with is not known.
        return;
    }
    let tail = segment.found.next_at_tail.or(segment.found.first);
    if tail.is_some_and(|(own, tail)| own == run && sequence <= tail) {
        // The whole last commit was withdrawn, torn or not.
        segment.gaps.retain(|gap| gap.reason != GapReason::Torn);
        return;
    }
    if following != segment.id + 1 {
        // What lay between was acked and deleted, or is missing: nobody knows.
        return;
    }
    // The writer went on after it, so it was durable once: this is damage.
    for gap in segment.gaps.iter_mut().filter(|gap| gap.reason == GapReason::Torn) {
        gap.reason = match gap.weight {
            Some(_) => GapReason::Body,
            None => GapReason::Header,
        };
    }
    if next < sequence {
        let lost = sequence - next;
        let bytes = segment.bytes;
        match segment.gaps.iter_mut().rfind(|gap| gap.records.is_none()) {
            Some(gap) => gap.records = Some(lost),
            None => segment.gaps.push(Gap {
                segment: segment.id,
                offset: bytes,
                bytes: 0,
                reason: GapReason::Missing,
                records: Some(lost),
                weight: None,
            }),
        }
    }
}

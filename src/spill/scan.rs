//! Reading segments as they lie on disk, without a lock and without changing
//! anything: recovery stands on this, and so do tools that look into the
//! directory of a dead or a running agent.
//!
//! In a directory that is being written, the newest segment may end in a
//! commit that is not complete yet ([`GapReason::Torn`]), and a segment may
//! vanish between the listing and the reading: it is left out then.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Record;
use super::checkpoint;
use super::frame::Header;
use super::fs::{Filesystem, RealFs, SegmentFile};
use super::seal::SpillKey;
use super::segment::{Found, Gap, GapReason, Pass, Read, RecordInfo, Unused, read_record};
use super::settle::settle;
use super::window::Window;

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
    parse(name, ".seg", segment_file_name)
}

/// The file that is kept for what is said of dropped data. It holds nothing: it is renamed before it is written.
pub const NOTES_FILE: &str = "notes";

/// The name of a recycled segment that waits to be written again.
#[must_use]
pub fn free_file_name(id: u64) -> String {
    format!("{id:012}.free")
}

/// The number in the name of a recycled segment; `None` for any other name.
#[must_use]
pub fn parse_free_file_name(name: &str) -> Option<u64> {
    parse(name, ".free", free_file_name)
}

fn parse(name: &str, suffix: &str, name_of: fn(u64) -> String) -> Option<u64> {
    let id = name.strip_suffix(suffix)?.parse().ok()?;
    // Twelve digits are 8 EiB of segments of 8 MiB; more is not ours.
    (id < 1_000_000_000_000 && name_of(id) == name).then_some(id)
}

/// A segment that was scanned.
pub struct ScannedSegment {
    /// Its number.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// Length of the file; 0 if it is missing.
    pub bytes: u64,
    /// What is sound in it, in order.
    pub records: Vec<RecordInfo>,
    /// What is not.
    pub gaps: Vec<Gap>,
    /// Where the queue's records end.
    pub(super) end: u64,
    /// The checkpoint lists it, and it is not there.
    pub(super) absent: bool,
    file: Option<Arc<dyn SegmentFile>>,
    pub(super) found: Found,
    key: Option<Arc<SpillKey>>,
    unused: Option<Unused>,
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
        match read_record(file.as_ref(), self.id, info.offset, meta_bytes, info.payload_bytes, self.key.as_deref())? {
            Read::Sound(record) => Ok(record),
            Read::Damaged(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the record is damaged")),
        }
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
                meta: None,
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

    /// Whether the checkpoint knows it and it is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.absent
    }

    /// Whether a record of its own lies in it.
    pub(super) fn is_used(&self) -> bool {
        self.found.first.is_some()
    }

    fn gap(&mut self, bytes: u64, reason: GapReason, records: Option<u64>) {
        self.gaps.push(Gap { segment: self.id, offset: 0, bytes, reason, records, weight: None, meta: None });
    }
}

/// The segments of a directory, oldest first; see [`scan`].
pub struct Scan {
    fs: Arc<dyn Filesystem>,
    dir: PathBuf,
    /// Numbers and lengths; `None` for one that is listed and not there.
    items: VecDeque<(u64, Option<u64>)>,
    present: BTreeSet<u64>,
    /// What the checkpoint lists, if there is a sound one.
    listed: Option<BTreeSet<u64>>,
    /// Number of the last one, and the run and sequence that should follow.
    previous: Option<(u64, u64, u64)>,
    key: Option<Arc<SpillKey>>,
}

/// What comes next.
pub(super) enum Step {
    Segment(Box<ScannedSegment>),
    /// It was removed since the listing.
    Vanished(u64),
}

/// Goes through the segments of a directory, oldest first, one in memory at a
/// time, checking everything. Those that the checkpoint misses are among them,
/// with a gap. Blocking; takes no lock and changes nothing.
/// Sealed records are checked for damage without their key, and then *locked*;
/// [`Scan::with_key`] opens them.
///
/// # Errors
/// If the directory cannot be listed.
pub fn scan(dir: &Path) -> io::Result<Scan> {
    Scan::new(Arc::new(RealFs), dir)
}

/// Reads and checks a whole segment; `None` if it is not there (any more).
pub(super) fn load(
    fs: &dyn Filesystem,
    dir: &Path,
    id: u64,
    listed_bytes: u64,
    key: Option<Arc<SpillKey>>,
) -> Option<ScannedSegment> {
    let path = dir.join(segment_file_name(id));
    let mut pass = Pass::new(id, key);
    let opened = fs.open(&path);
    let mut bytes = listed_bytes;
    let read = opened.as_ref().map_err(io::Error::kind).and_then(|file| {
        bytes = file.bytes().map_err(|error| error.kind())?;
        pass.run(file.as_ref(), bytes).map_err(|error| error.kind())
    });
    match read {
        // What was read may be a file that got another name meanwhile.
        Ok(()) if fs.open(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => return None,
        Ok(()) => {}
        Err(io::ErrorKind::NotFound) => return None,
        Err(_) => {
            // Nothing of it is used: half a segment would look whole.
            pass = Pass::new(id, pass.key);
            pass.gap(0, bytes, GapReason::Unreadable, (None, None));
        }
    }
    let Pass { records, gaps, found, unused, key, .. } = pass;
    let (file, end, absent) = (opened.ok(), bytes, false);
    Some(ScannedSegment { id, path, bytes, records, gaps, end, absent, file, found, key, unused })
}

impl Scan {
    pub(super) fn new(fs: Arc<dyn Filesystem>, dir: &Path) -> io::Result<Self> {
        let listed = checkpoint::read(fs.as_ref(), dir).checkpoint.map(|checkpoint| checkpoint.listed);
        let files = fs.list(dir)?;
        let segment = |entry: &super::fs::DirEntry| Some((parse_segment_file_name(&entry.name)?, entry.bytes));
        Ok(Self::of(fs, dir, files.iter().filter_map(segment).collect(), listed))
    }

    /// Of segments with these lengths.
    pub(super) fn of(
        fs: Arc<dyn Filesystem>,
        dir: &Path,
        files: Vec<(u64, u64)>,
        listed: Option<BTreeSet<u64>>,
    ) -> Self {
        let present: BTreeSet<u64> = files.iter().map(|(id, _)| *id).collect();
        let mut items: Vec<_> = files.into_iter().map(|(id, bytes)| (id, Some(bytes))).collect();
        items.extend(listed.iter().flatten().filter(|id| !present.contains(id)).map(|id| (*id, None)));
        items.sort_unstable();
        Self { fs, dir: dir.to_owned(), items: items.into(), present, listed, previous: None, key: None }
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
        let present = self.items.iter().filter_map(|(_, bytes)| *bytes);
        (present.clone().count(), present.sum())
    }

    /// The number of the next segment in which a header is sound, and that one.
    fn following(&self) -> Option<(u64, Header)> {
        self.items.iter().filter(|(_, bytes)| bytes.is_some()).find_map(|&(id, _)| {
            let file = self.fs.open(&self.dir.join(segment_file_name(id))).ok()?;
            let mut window = Window::new(file.as_ref(), file.bytes().ok()?);
            let header = window.search(id, 0).ok()?.next?;
            Some((id, header))
        })
    }

    pub(super) fn step(&mut self) -> Option<Step> {
        let (id, bytes) = self.items.pop_front()?;
        let Some(bytes) = bytes else {
            return Some(Step::Segment(Box::new(self.absent(id))));
        };
        let Some(mut segment) = load(self.fs.as_ref(), &self.dir, id, bytes, self.key.clone()) else {
            return Some(Step::Vanished(id));
        };
        self.judge(&mut segment);
        if let (Some((_, run, next)), Some((first_run, first))) = (self.previous, segment.found.first)
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
        self.previous = segment.found.next.map(|(run, next)| (id, run, next));
        Some(Step::Segment(Box::new(segment)))
    }

    /// One that the checkpoint lists and that is not there. How many records
    /// it had is known if both its neighbours are there.
    fn absent(&mut self, id: u64) -> ScannedSegment {
        let before = self.previous.take().filter(|(previous, ..)| previous + 1 == id);
        let after = self.following().filter(|(following, header)| *following == id + 1 && header.offset == 0);
        let records = before.zip(after).and_then(|((_, run, next), (_, header))| {
            (header.run == run).then(|| header.sequence.checked_sub(next)).flatten()
        });
        let path = self.dir.join(segment_file_name(id));
        let mut segment = ScannedSegment {
            id,
            path,
            bytes: 0,
            records: Vec::new(),
            gaps: Vec::new(),
            end: 0,
            absent: true,
            file: None,
            found: Found::default(),
            key: None,
            unused: None,
        };
        segment.gap(0, GapReason::Missing, records);
        segment
    }

    /// Says by the checkpoint what a file without a record of its own is: one
    /// that was never used, or one whose content is gone.
    fn judge(&self, segment: &mut ScannedSegment) {
        let listed = self.listed.as_ref().map(|listed| listed.contains(&segment.id));
        let Some(unused) = segment.unused else {
            if listed == Some(true) && !segment.is_used() {
                // It was durable, so it was not torn.
                let torn = segment.gaps.iter_mut().filter(|gap| gap.reason == GapReason::Torn);
                torn.for_each(|gap| gap.reason = GapReason::Header);
            }
            return;
        };
        let lives =
            |id: u64| self.present.contains(&id) || self.listed.as_ref().is_some_and(|known| known.contains(&id));
        let reason = match (listed, unused) {
            (Some(true), Unused::Foreign(_)) => GapReason::Foreign,
            (Some(true), _) => GapReason::Header,
            // A file is recycled when its old name is gone for good: a copy.
            (_, Unused::Foreign(id)) if lives(id) => GapReason::Foreign,
            (None, Unused::Other) => GapReason::Torn,
            _ => return,
        };
        segment.gap(segment.bytes, reason, None);
    }
}

impl Iterator for Scan {
    type Item = ScannedSegment;

    fn next(&mut self) -> Option<ScannedSegment> {
        loop {
            match self.step()? {
                Step::Segment(segment) => return Some(*segment),
                Step::Vanished(_) => {}
            }
        }
    }
}

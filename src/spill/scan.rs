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

use bytes::Bytes;

use super::Record;
use super::config::{BLOCK_BYTES, GAPS_MAX};
use super::frame::{ALIGN_BYTES, HEADER_BYTES, Header, MAGIC, NoHeader, align_up, decode_body};
use super::fs::{Filesystem, RealFs, SegmentFile};

/// Bytes looked at together; bounds the memory of a scan.
const WINDOW_BYTES: usize = 1 << 20;
/// Directory beside the segments for damaged ones.
pub(super) const DAMAGED_DIR: &str = "damaged";

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

/// Why bytes of a segment could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The last commit of the segment is incomplete: power was cut while it
    /// was being written (nobody was told that it is durable), or it was
    /// damaged afterwards; the two cannot be told apart.
    Torn,
    /// No record starts where one should.
    Header,
    /// A record whose content does not match its checksum.
    Body,
    /// Sound bytes of another segment: files were swapped or copied.
    Foreign,
    /// Written by a later version of this program.
    Version(u8),
    /// Records missing between this segment and the next: it was cut off or an
    /// older copy was put back.
    Missing,
    /// The file system refused to read the segment; it is left alone.
    Unreadable,
}

/// Bytes of a segment that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// The segment.
    pub segment: u64,
    /// Where the gap starts in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// Why.
    pub reason: GapReason,
    /// Records lost in it, when the numbers around it tell.
    pub records: Option<u64>,
    /// Their weight, when their headers could be read.
    pub weight: Option<u64>,
}

/// A sound record in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordInfo {
    /// First segment of the process that wrote it.
    pub run: u64,
    /// Its number within that run.
    pub sequence: u64,
    /// Where it starts in the file.
    pub offset: u32,
    /// The caller's meta.
    pub meta: Bytes,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// The caller's weight.
    pub weight: u64,
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
    /// `InvalidData` if it was damaged since the scan, or what the file system
    /// says.
    pub fn read(&self, info: &RecordInfo) -> io::Result<Record> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let meta_bytes = info.meta.len();
        read_record(file.as_ref(), self.id, info.offset, meta_bytes, info.payload_bytes)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the record is damaged"))
    }

    /// Whether it is damaged beyond a commit that was never finished.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.gaps.iter().any(|gap| !matches!(gap.reason, GapReason::Torn | GapReason::Unreadable))
    }
}

/// Reads and checks one record; `None` if it is damaged.
pub(super) fn read_record(
    file: &dyn SegmentFile,
    segment: u64,
    offset: u32,
    meta_bytes: usize,
    payload_bytes: u32,
) -> io::Result<Option<Record>> {
    let mut buf = vec![0; HEADER_BYTES + meta_bytes + payload_bytes as usize];
    if file.read_at(&mut buf, u64::from(offset))? < buf.len() {
        return Ok(None);
    }
    let Some(head) = buf.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let Ok(header) = Header::decode(head, segment, u64::from(offset)) else {
        return Ok(None);
    };
    Ok(decode_body(&header, Bytes::from(buf).slice(HEADER_BYTES..)))
}

/// What the headers of a segment told about the records around it.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// Run and sequence of the first sound header.
    first: Option<(u64, u64)>,
    /// Run and the sequence that should come next.
    next: Option<(u64, u64)>,
    /// The same at the start of the last commit.
    next_at_tail: Option<(u64, u64)>,
}

/// Goes through a file by window.
struct Window<'a> {
    file: &'a dyn SegmentFile,
    /// Bytes of the file.
    length: u64,
    start: u64,
    buf: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn SegmentFile, length: u64) -> Self {
        Self { file, length, start: 0, buf: Vec::new() }
    }

    /// `len` bytes at `offset`, fewer at the end of the file.
    fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        debug_assert!(len <= WINDOW_BYTES);
        let end = self.start + self.buf.len() as u64;
        if offset < self.start || offset + len as u64 > end {
            let rest = self.length.saturating_sub(offset);
            let rest = usize::try_from(rest).unwrap_or(usize::MAX);
            self.buf.resize(rest.min(WINDOW_BYTES), 0);
            let n = self.file.read_at(&mut self.buf, offset)?;
            self.buf.truncate(n);
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let rest = self.buf.get(from..).unwrap_or_default();
        Ok(rest.get(..len).unwrap_or(rest))
    }

    fn header(&mut self, segment: u64, offset: u64) -> io::Result<Result<Header, NoHeader>> {
        Ok(match self.get(offset, HEADER_BYTES)?.first_chunk() {
            Some(bytes) => Header::decode(bytes, segment, offset),
            None => Err(NoHeader::Damaged),
        })
    }

    fn body_is_sound(&mut self, header: &Header) -> io::Result<bool> {
        let mut at = u64::from(header.offset) + HEADER_BYTES as u64;
        let mut left = header.body_bytes();
        let mut hasher = crc32fast::Hasher::new();
        while left > 0 {
            let want = usize::try_from(left.min(WINDOW_BYTES as u64)).unwrap_or(WINDOW_BYTES);
            let piece = self.get(at, want)?;
            if piece.is_empty() {
                return Ok(false);
            }
            hasher.update(piece);
            at += piece.len() as u64;
            left -= piece.len() as u64;
        }
        Ok(hasher.finalize() == header.body_crc)
    }

    /// The first sound header at or after `from`, and whether everything that
    /// was passed over is zero.
    fn find_header(&mut self, segment: u64, from: u64) -> io::Result<(Option<Header>, bool)> {
        const STEP: usize = 64 << 10;
        let mut at = align_up(from, ALIGN_BYTES);
        let mut zero = true;
        loop {
            let piece = self.get(at, STEP)?;
            if piece.is_empty() {
                return Ok((None, zero));
            }
            let (length, mut candidates) = (piece.len(), Vec::new());
            for (index, word) in piece.chunks(8).enumerate() {
                if word.starts_with(&MAGIC) {
                    candidates.push((at + 8 * index as u64, zero));
                }
                zero &= word.iter().all(|&byte| byte == 0);
            }
            for (offset, zero_before) in candidates {
                if let Ok(header) = self.header(segment, offset)? {
                    return Ok((Some(header), zero_before));
                }
            }
            at += align_up(length as u64, ALIGN_BYTES);
        }
    }
}

struct Pass {
    segment: u64,
    records: Vec<RecordInfo>,
    gaps: Vec<Gap>,
    found: Found,
}

impl Pass {
    fn gap(&mut self, offset: u64, bytes: u64, reason: GapReason, lost: (Option<u64>, Option<u64>)) {
        let (records, weight) = lost;
        if self.gaps.len() >= GAPS_MAX
            && let Some(last) = self.gaps.last_mut()
        {
            last.bytes = offset + bytes - last.offset;
            last.records = last.records.zip(records).map(|(a, b)| a + b);
            last.weight = last.weight.zip(weight).map(|(a, b)| a.saturating_add(b));
            return;
        }
        let segment = self.segment;
        self.gaps.push(Gap { segment, offset, bytes, reason, records, weight });
    }

    /// Goes through the file from start to end.
    fn run(&mut self, file: &dyn SegmentFile, length: u64) -> io::Result<()> {
        let mut window = Window::new(file, length);
        let (mut at, mut tail, mut at_commit_start) = (0, 0, true);
        while at < length {
            if at_commit_start {
                tail = at;
                self.found.next_at_tail = self.found.next;
            }
            let header = match window.header(self.segment, at)? {
                Ok(header) => header,
                Err(why) => {
                    let (next, zero) = window.find_header(self.segment, at)?;
                    let end = next.map_or(length, |header| u64::from(header.offset));
                    if next.is_none() && zero && at_commit_start {
                        // What was never written is no gap.
                        break;
                    }
                    let lost = next.and_then(|header| self.missing_before(&header));
                    self.gap(at, end - at, reason_of(why), (lost, None));
                    at = end;
                    at_commit_start = next.is_some_and(|header| header.first);
                    continue;
                }
            };
            if header.first && !at_commit_start {
                tail = at;
                self.found.next_at_tail = Some((header.run, header.sequence));
            }
            self.found.first.get_or_insert((header.run, header.sequence));
            self.found.next = Some((header.run, header.sequence.saturating_add(1)));
            let next = at + header.framed_bytes();
            if window.body_is_sound(&header)? {
                let meta_at = at + HEADER_BYTES as u64;
                let meta = window.get(meta_at, usize::from(header.meta_bytes))?;
                self.records.push(RecordInfo {
                    run: header.run,
                    sequence: header.sequence,
                    offset: header.offset,
                    meta: Bytes::copy_from_slice(meta),
                    payload_bytes: header.payload_bytes,
                    weight: header.weight,
                });
            } else {
                let lost = (Some(1), Some(header.weight));
                self.gap(at, next.min(length) - at, GapReason::Body, lost);
            }
            at_commit_start = header.last;
            at = if header.last { align_up(next, BLOCK_BYTES) } else { next };
        }
        let reported = self.gaps.last().map_or(0, |gap| gap.offset + gap.bytes);
        if !at_commit_start && reported < length {
            // Cut between two records of a commit.
            self.gap(length, 0, GapReason::Torn, (None, None));
        }
        for gap in &mut self.gaps {
            if gap.offset >= tail && matches!(gap.reason, GapReason::Header | GapReason::Body) {
                gap.reason = GapReason::Torn;
            }
        }
        Ok(())
    }

    fn missing_before(&self, header: &Header) -> Option<u64> {
        let (run, next) = self.found.next?;
        (run == header.run).then(|| header.sequence.checked_sub(next)).flatten()
    }
}

fn reason_of(why: NoHeader) -> GapReason {
    match why {
        NoHeader::Damaged => GapReason::Header,
        NoHeader::Foreign => GapReason::Foreign,
        NoHeader::Version(version) => GapReason::Version(version),
    }
}

/// The segments of a directory, oldest first; see [`scan`].
pub struct Scan {
    fs: Arc<dyn Filesystem>,
    dir: PathBuf,
    ids: VecDeque<(u64, u64)>,
    previous: Option<(u64, u64)>,
}

/// Goes through the segments of a directory, oldest first, one in memory at a
/// time, checking everything. Blocking; takes no lock and changes nothing.
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
        Ok(Self { fs, dir: dir.to_owned(), ids: ids.into(), previous: None })
    }

    /// Segments still to come and their bytes, for a progress bar.
    #[must_use]
    pub fn remaining(&self) -> (usize, u64) {
        (self.ids.len(), self.ids.iter().map(|(_, bytes)| bytes).sum())
    }

    fn load(&self, id: u64, listed_bytes: u64) -> Option<ScannedSegment> {
        let path = self.dir.join(segment_file_name(id));
        let mut pass = Pass { segment: id, records: Vec::new(), gaps: Vec::new(), found: Found::default() };
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

//! One segment as it lies on the disk: the sound records and the gaps between
//! them. Reads through a window, checks every byte, changes nothing.

use std::io;

use bytes::Bytes;

use super::Record;
use super::config::{BLOCK_BYTES, GAPS_MAX};
use super::frame::{ALIGN_BYTES, HEADER_BYTES, Header, MAGIC, NoHeader, align_up, decode_body};
use super::fs::SegmentFile;

/// Bytes looked at together; bounds the memory of a scan.
const WINDOW_BYTES: usize = 1 << 20;

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
    /// Written by a later version of this program; left alone.
    Version(u8),
    /// Records missing between this segment and the next: it was cut off or an
    /// older copy was put back. Or the whole segment is gone that the
    /// checkpoint knows.
    Missing,
    /// The checkpoint itself (segment 0 here): what it knew is not known now.
    Checkpoint,
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
pub(super) struct Found {
    /// Run and sequence of the first sound header.
    pub(super) first: Option<(u64, u64)>,
    /// Run and the sequence that should come next.
    pub(super) next: Option<(u64, u64)>,
    /// The same at the start of the last commit.
    pub(super) next_at_tail: Option<(u64, u64)>,
}

/// Goes through a file by window.
pub(super) struct Window<'a> {
    file: &'a dyn SegmentFile,
    /// Bytes of the file.
    length: u64,
    start: u64,
    buf: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn SegmentFile, length: u64) -> Self {
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

    /// Whether a header of this segment lay here before it was damaged.
    fn was_header(&mut self, segment: u64, offset: u64) -> io::Result<bool> {
        let bytes = self.get(offset, HEADER_BYTES)?.first_chunk();
        // Files are whole blocks: a shorter rest was cut off.
        Ok(bytes.is_none_or(|bytes| Header::was_here(bytes, segment, offset)))
    }

    /// Looks for the first sound header at or after `from`.
    pub(super) fn search(&mut self, segment: u64, from: u64) -> io::Result<Search> {
        const STEP: usize = 64 << 10;
        let mut at = align_up(from, ALIGN_BYTES);
        let mut found = Search { next: None, end: from, zero: true };
        let mut stale = None;
        loop {
            let piece = self.get(at, STEP)?;
            if piece.is_empty() {
                found.end = stale.unwrap_or(found.end);
                return Ok(found);
            }
            let (length, mut candidates) = (piece.len(), Vec::new());
            for (index, word) in piece.chunks(8).enumerate() {
                if word.starts_with(&MAGIC) {
                    candidates.push(at + 8 * index as u64);
                }
                if word.iter().any(|&byte| byte != 0) {
                    found.end = at + (8 * index + word.len()) as u64;
                    found.zero = false;
                }
            }
            for offset in candidates {
                match self.header(segment, offset)? {
                    Ok(header) => {
                        found.next = Some(header);
                        return Ok(found);
                    }
                    Err(NoHeader::Foreign { segment: other }) if other < segment && offset % BLOCK_BYTES == 0 => {
                        stale.get_or_insert(offset);
                    }
                    Err(_) => {}
                }
            }
            at += align_up(length as u64, ALIGN_BYTES);
        }
    }
}

/// What lies behind a place where no record starts.
pub(super) struct Search {
    pub(super) next: Option<Header>,
    /// Where what an earlier segment left begins, or only zeros follow; has a
    /// meaning only without a next header.
    end: u64,
    /// Nothing but zeros.
    zero: bool,
}

/// What a file holds in which no record of its own was ever found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unused {
    /// Nothing.
    Zeros,
    /// A sound header of another segment at its start.
    Foreign(u64),
    /// Something else.
    Other,
}

pub(super) struct Pass {
    pub(super) segment: u64,
    pub(super) records: Vec<RecordInfo>,
    pub(super) gaps: Vec<Gap>,
    pub(super) found: Found,
    /// Set if no record of its own was ever in it, as far as can be seen.
    pub(super) unused: Option<Unused>,
}

impl Pass {
    pub(super) fn new(segment: u64) -> Self {
        Self { segment, records: Vec::new(), gaps: Vec::new(), found: Found::default(), unused: None }
    }

    pub(super) fn gap(&mut self, offset: u64, bytes: u64, reason: GapReason, lost: (Option<u64>, Option<u64>)) {
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
    pub(super) fn run(&mut self, file: &dyn SegmentFile, length: u64) -> io::Result<()> {
        let mut window = Window::new(file, length);
        let (mut at, mut tail, mut at_commit_start) = (0, 0, true);
        if length == 0 {
            self.unused = Some(Unused::Zeros);
        }
        while at < length {
            let before = (tail, self.found.next_at_tail);
            if at_commit_start {
                tail = at;
                self.found.next_at_tail = self.found.next;
            }
            let header = match window.header(self.segment, at)? {
                Ok(header) => header,
                Err(why) => {
                    let Search { next, end, zero } = window.search(self.segment, at)?;
                    if next.is_none() && at_commit_start {
                        let own = match why {
                            NoHeader::Foreign { segment } => segment >= self.segment,
                            NoHeader::Version(_) => true,
                            NoHeader::Damaged => window.was_header(self.segment, at)?,
                        };
                        if zero || !own {
                            // What was never written is no gap, nor is what an
                            // earlier segment left in a recycled file. So the
                            // last commit is the one before.
                            (tail, self.found.next_at_tail) = before;
                            self.unused = (at == 0).then_some(match why {
                                _ if zero => Unused::Zeros,
                                NoHeader::Foreign { segment } => Unused::Foreign(segment),
                                _ => Unused::Other,
                            });
                            break;
                        }
                    }
                    let lost = next.and_then(|header| self.missing_before(&header));
                    let reason = self.reason_of(why);
                    match next {
                        Some(header) => {
                            let end = u64::from(header.offset);
                            self.gap(at, end - at, reason, (lost, None));
                            at = end;
                            at_commit_start = header.first;
                        }
                        None => {
                            self.gap(at, end - at, reason, (lost, None));
                            at_commit_start = true;
                            break;
                        }
                    }
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

    fn reason_of(&self, why: NoHeader) -> GapReason {
        match why {
            // What an earlier segment left shows through.
            NoHeader::Foreign { segment } if segment < self.segment => GapReason::Header,
            NoHeader::Damaged => GapReason::Header,
            NoHeader::Foreign { .. } => GapReason::Foreign,
            NoHeader::Version(version) => GapReason::Version(version),
        }
    }
}

//! One segment as it lies on the disk: the sound records and the gaps between
//! them. Checks every byte, changes nothing.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Record;
use super::config::{BLOCK_BYTES, GAPS_MAX};
use super::frame::{HEADER_BYTES, Header, NoHeader, align_up, decode_body};
use super::fs::SegmentFile;
use super::seal::{Opener, SEAL_BYTES, SpillKey};
use super::window::{Search, Window};

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
    /// Sound and sealed, but under another key or with none given: the segment
    /// is left alone until a start with the right one. Nothing is lost.
    Locked,
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
    /// The meta of a record whose content does not match its checksum: as it lies there, unchecked, for whoever can
    /// tell whether it is sound. Never of a sealed one.
    #[serde(skip)]
    pub meta: Option<Bytes>,
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
    /// The caller's meta; empty if it is locked.
    pub meta: Bytes,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// The caller's weight.
    pub weight: u64,
    /// Whether it is sealed and the key at hand, if any, does not open it.
    pub locked: bool,
}

/// What came of reading a record.
pub(super) enum Read {
    Sound(Record),
    /// Damaged, or sealed under another key; with the meta where a header says
    /// which bytes it is: as [`Gap::meta`].
    Damaged(Option<Bytes>),
}

/// Reads and checks one record.
pub(super) fn read_record(
    file: &dyn SegmentFile,
    segment: u64,
    offset: u32,
    meta_bytes: usize,
    payload_bytes: u32,
    key: Option<&SpillKey>,
) -> io::Result<Read> {
    // Whether it is sealed is known when its header is.
    let mut buf = vec![0; HEADER_BYTES + meta_bytes + payload_bytes as usize + SEAL_BYTES as usize];
    let got = file.read_at(&mut buf, u64::from(offset))?;
    buf.truncate(got);
    let Some(head) = buf.first_chunk::<HEADER_BYTES>() else {
        return Ok(Read::Damaged(None));
    };
    let Ok(header) = Header::decode(head, segment, u64::from(offset)) else {
        return Ok(Read::Damaged(None));
    };
    let body = HEADER_BYTES..HEADER_BYTES + usize::try_from(header.body_bytes()).unwrap_or(usize::MAX - HEADER_BYTES);
    let meta = buf.get(HEADER_BYTES..HEADER_BYTES + usize::from(header.meta_bytes));
    let meta = meta.filter(|_| !header.sealed).map(Bytes::copy_from_slice);
    if buf.len() < body.end {
        return Ok(Read::Damaged(meta));
    }
    Ok(decode_body(&header, Bytes::from(buf).slice(body), key).map_or(Read::Damaged(meta), Read::Sound))
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
    pub(super) key: Option<Arc<SpillKey>>,
    /// Set if no record of its own was ever in it, as far as can be seen.
    pub(super) unused: Option<Unused>,
}

impl Pass {
    pub(super) fn new(segment: u64, key: Option<Arc<SpillKey>>) -> Self {
        Self { segment, records: Vec::new(), gaps: Vec::new(), found: Found::default(), key, unused: None }
    }

    pub(super) fn gap(&mut self, offset: u64, bytes: u64, reason: GapReason, lost: (Option<u64>, Option<u64>)) {
        let (records, weight) = lost;
        if self.gaps.len() >= GAPS_MAX
            && let Some(last) = self.gaps.last_mut()
        {
            last.bytes = offset + bytes - last.offset;
            last.records = last.records.zip(records).map(|(a, b)| a + b);
            last.weight = last.weight.zip(weight).map(|(a, b)| a.saturating_add(b));
            last.meta = None;
            return;
        }
        let segment = self.segment;
        self.gaps.push(Gap { segment, offset, bytes, reason, records, weight, meta: None });
    }

    /// Goes through the file from start to end.
    pub(super) fn run(&mut self, file: &dyn SegmentFile, length: u64) -> io::Result<()> {
        let mut window = Window::new(file, length);
        let key = self.key.clone();
        let (mut opener, mut opened, mut locked) = (Opener::new(key.as_deref()), false, Vec::new());
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
                let meta = if header.sealed {
                    window.body(&header, opener.body())?;
                    opener.meta(&header)
                } else {
                    let meta = window.get(at + HEADER_BYTES as u64, usize::from(header.meta_bytes))?;
                    Some(Bytes::copy_from_slice(meta))
                };
                opened |= header.sealed && meta.is_some();
                match meta {
                    Some(meta) => self.records.push(info(&header, meta, false)),
                    None => locked.push(header),
                }
            } else {
                let lost = (Some(1), Some(header.weight));
                self.gap(at, next.min(length) - at, GapReason::Body, lost);
                if let Some(gap) = self.gaps.last_mut().filter(|gap| !header.sealed && gap.offset == at) {
                    let meta = window.get(at + HEADER_BYTES as u64, usize::from(header.meta_bytes))?;
                    gap.meta = Some(Bytes::copy_from_slice(meta));
                }
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
        self.judge_locked(&locked, opened);
        Ok(())
    }

    /// One process writes a segment under one key: where that opens some, what
    /// does not open was altered; where it opens none, it is the wrong one.
    fn judge_locked(&mut self, locked: &[Header], opened: bool) {
        for header in locked {
            if opened {
                let lost = (Some(1), Some(header.weight));
                self.gap(u64::from(header.offset), header.framed_bytes(), GapReason::Body, lost);
            } else {
                self.records.push(info(header, Bytes::new(), true));
            }
        }
        if !locked.is_empty() {
            self.records.sort_by_key(|record| record.offset);
            self.gaps.sort_by_key(|gap| gap.offset);
        }
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

fn info(header: &Header, meta: Bytes, locked: bool) -> RecordInfo {
    RecordInfo {
        run: header.run,
        sequence: header.sequence,
        offset: header.offset,
        meta,
        payload_bytes: header.payload_bytes,
        weight: header.weight,
        locked,
    }
}

//! A segment's file, looked at through a window of bounded size: headers, bodies, and the search for the next record.

use std::io;

use super::config::BLOCK_BYTES;
use super::frame::{ALIGN_BYTES, HEADER_BYTES, Header, MAGIC, NoHeader, align_up};
use super::fs::SegmentFile;

/// Bytes looked at together; bounds the memory of a scan.
const WINDOW_BYTES: usize = 1 << 20;

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
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
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

    pub(super) fn header(&mut self, segment: u64, offset: u64) -> io::Result<Result<Header, NoHeader>> {
        Ok(match self.get(offset, HEADER_BYTES)?.first_chunk() {
            Some(bytes) => Header::decode(bytes, segment, offset),
            None => Err(NoHeader::Damaged),
        })
    }

    pub(super) fn body_is_sound(&mut self, header: &Header) -> io::Result<bool> {
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

    /// Puts the stored body of a record, which is sound, into `body`.
    pub(super) fn body(&mut self, header: &Header, body: &mut Vec<u8>) -> io::Result<()> {
        let mut at = u64::from(header.offset) + HEADER_BYTES as u64;
        let end = at + header.body_bytes();
        while at < end {
            let want = usize::try_from((end - at).min(WINDOW_BYTES as u64)).unwrap_or(WINDOW_BYTES);
            let piece = self.get(at, want)?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            body.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether a header of this segment lay here before it was damaged.
    pub(super) fn was_header(&mut self, segment: u64, offset: u64) -> io::Result<bool> {
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
    pub(super) end: u64,
    /// Nothing but zeros.
    pub(super) zero: bool,
}

//! From the bytes of a serial line back to frames, through any garbage.
//!
//! The line is cut at each `0x00` into *blocks*. A block that is the COBS form of bytes with a
//! good CRC is a frame. Any other block is garbage, except that its end may still be a whole
//! frame: noise without a `0x00`, or a delimiter that was itself hit, glues what came before to
//! the next frame. So a failed block is searched for a frame that is a suffix of it (*salvage*).
//!
//! # Invariants
//! - Each byte pushed ends in exactly one of: a frame, a delimiter, garbage, still held.
//! - How the input is cut into pushes makes no difference to the pieces.
//! - Work for a block is bounded: see [`SALVAGE_TRIES_MAX`].

use core::fmt;

use crate::frame::checked_body;
use crate::limits::{
    DEVICE_NAME_BYTES_MAX, ENCODED_BYTES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_MIN, HEADER_FIXED_BYTES, VERSION,
};
use crate::name::is_name;
use crate::payload::FrameKind;
use crate::stream::DELIMITER;

/// Twice the longest block: when it is full without a delimiter, the older half is garbage for
/// certain and the newer half may still end in the longest frame.
const BUFFER_BYTES: usize = 2 * ENCODED_BYTES_MAX;
const _: () = assert!(BUFFER_BYTES - ENCODED_BYTES_MAX >= ENCODED_BYTES_MAX);

/// Bytes that show whether a header is plausible: up to the end of the longest device name.
const PEEK_BYTES: usize = HEADER_FIXED_BYTES + 1 + DEVICE_NAME_BYTES_MAX;

/// How many suffixes of a failed block are decoded whole. A candidate has passed for a header with
/// a device name, which noise does about once in 10^7 bytes: 5/256² for version and kind, times
/// 1/16 for the name's length, times about 1/90 for its characters. The bound is for hostile input.
const SALVAGE_TRIES_MAX: usize = 64;

/// What the [`Deframer`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame with a good CRC, without COBS and delimiter: for [`decode`](crate::decode).
    Frame(&'a [u8]),
    /// Bytes that are no frame; they are gone.
    Garbage {
        /// How many, delimiters not counted.
        bytes: usize,
        /// Why.
        reason: GarbageReason,
    },
}

/// Why bytes were thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GarbageReason {
    /// No delimiter within the longest frame: a wrong baud rate, or a stuck line.
    NoDelimiter,
    /// Not COBS: bytes were lost or changed, or the frame was cut.
    Cobs,
    /// Shorter than any frame.
    TooShort,
    /// Longer than any frame.
    TooLong,
    /// The CRC does not match: bytes were changed.
    Crc,
}

impl fmt::Display for GarbageReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDelimiter => "no delimiter within the longest frame",
            Self::Cobs => "not cobs",
            Self::TooShort => "shorter than any frame",
            Self::TooLong => "longer than any frame",
            Self::Crc => "crc does not match",
        })
    }
}

/// What became of every byte: pushed = frame + delimiter + garbage + held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Frames handed out or about to be.
    pub frames: u64,
    /// Their bytes on the line, COBS included, delimiters not.
    pub frame_bytes: u64,
    /// Delimiters.
    pub delimiter_bytes: u64,
    /// Bytes thrown away.
    pub garbage_bytes: u64,
    /// Bytes of a block that has no delimiter yet.
    pub held_bytes: u64,
}

/// Finds frames in the bytes of a serial line. About 12 KiB, of fixed size.
pub struct Deframer {
    /// The block so far.
    block: [u8; BUFFER_BYTES],
    block_len: usize,
    /// The last frame, without COBS.
    frame: [u8; FRAME_BYTES_MAX],
    /// A salvaged frame that follows the garbage which was handed out last.
    pending_len: Option<usize>,
    totals: Totals,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deframer {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            block: [0; BUFFER_BYTES],
            block_len: 0,
            frame: [0; FRAME_BYTES_MAX],
            pending_len: None,
            totals: Totals { frames: 0, frame_bytes: 0, delimiter_bytes: 0, garbage_bytes: 0, held_bytes: 0 },
        }
    }

    /// Takes bytes from the front of `input`: returns how many, and the next piece.
    ///
    /// Call it with what is left until it returns no piece: then all of `input` was taken.
    pub fn push(&mut self, input: &[u8]) -> (usize, Option<Piece<'_>>) {
        if let Some(len) = self.pending_len.take() {
            return (0, Some(Piece::Frame(&self.frame[..len])));
        }
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let room = &mut self.block[self.block_len..];
            let window = &rest[..rest.len().min(room.len())];
            let end = window.iter().position(|&b| b == DELIMITER);
            let new = &window[..end.unwrap_or(window.len())];
            room[..new.len()].copy_from_slice(new);
            self.block_len += new.len();
            taken += new.len();
            if end.is_some() {
                taken += 1;
                self.totals.delimiter_bytes += 1;
                if self.block_len > 0 {
                    return (taken, Some(self.finish_block()));
                }
            } else if self.block_len == BUFFER_BYTES {
                return (taken, Some(self.drop_older_half()));
            }
        }
        (taken, None)
    }

    /// Gives up a block that has begun, when the line was closed: what comes next is not its end.
    /// Returns its bytes, which count as garbage from now on.
    pub fn reset(&mut self) -> usize {
        let bytes = core::mem::take(&mut self.block_len);
        self.totals.garbage_bytes += bytes as u64;
        bytes
    }

    /// What became of every byte so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { held_bytes: self.block_len as u64, ..self.totals }
    }

    fn drop_older_half(&mut self) -> Piece<'_> {
        self.block.copy_within(ENCODED_BYTES_MAX.., 0);
        self.block_len = BUFFER_BYTES - ENCODED_BYTES_MAX;
        self.garbage(ENCODED_BYTES_MAX, GarbageReason::NoDelimiter)
    }

    fn finish_block(&mut self) -> Piece<'_> {
        let block_len = core::mem::take(&mut self.block_len);
        let block = &self.block[..block_len];
        let reason = match unstuff(block, &mut self.frame) {
            Ok(len) => {
                self.count_frame(block_len);
                return Piece::Frame(&self.frame[..len]);
            }
            Err(reason) => reason,
        };
        match salvage(block, &mut self.frame) {
            Some((start, len)) => {
                self.count_frame(block_len - start);
                self.pending_len = Some(len);
                self.garbage(start, reason)
            }
            None => self.garbage(block_len, reason),
        }
    }

    fn count_frame(&mut self, bytes: usize) {
        self.totals.frames += 1;
        self.totals.frame_bytes += bytes as u64;
    }

    fn garbage(&mut self, bytes: usize, reason: GarbageReason) -> Piece<'_> {
        self.totals.garbage_bytes += bytes as u64;
        Piece::Garbage { bytes, reason }
    }
}

/// Undoes COBS and checks the CRC; the frame's length.
fn unstuff(block: &[u8], frame: &mut [u8; FRAME_BYTES_MAX]) -> Result<usize, GarbageReason> {
    if block.len() > ENCODED_BYTES_MAX {
        return Err(GarbageReason::TooLong);
    }
    let len = match cobs::decode(block, frame) {
        Ok(report) => report.frame_size(),
        Err(cobs::DecodeError::TargetBufTooSmall) => return Err(GarbageReason::TooLong),
        Err(_) => return Err(GarbageReason::Cobs),
    };
    if len < FRAME_BYTES_MIN {
        return Err(GarbageReason::TooShort);
    }
    match checked_body(&frame[..len]) {
        Some(_) => Ok(len),
        None => Err(GarbageReason::Crc),
    }
}

/// The frame that is a suffix of a failed block: where it starts, and its length without COBS.
fn salvage(block: &[u8], frame: &mut [u8; FRAME_BYTES_MAX]) -> Option<(usize, usize)> {
    let first = block.len().saturating_sub(ENCODED_BYTES_MAX);
    // A frame is longer than its COBS overhead, so later starts need not be looked at.
    let last = block.len().checked_sub(FRAME_BYTES_MIN)?;
    (first..=last)
        .filter(|&start| may_begin_frame(&block[start..]))
        .take(SALVAGE_TRIES_MAX)
        .find_map(|start| Some((start, unstuff(&block[start..], frame).ok()?)))
}

/// Whether the COBS bytes begin like a frame: version, kind and a device name.
fn may_begin_frame(encoded: &[u8]) -> bool {
    // Version and kind are not 0, so they lie within the first run and follow its code byte.
    let [code, version, kind, ..] = encoded else {
        return false;
    };
    if *code < 3 || *version != VERSION || FrameKind::from_code(*kind).is_none() {
        return false;
    }
    let mut head = [0; PEEK_BYTES];
    let mut state = cobs::DecoderState::default();
    let mut len = 0;
    for &byte in encoded {
        if len == PEEK_BYTES {
            break;
        }
        match state.feed(byte) {
            Ok(cobs::DecodeResult::DataContinue(decoded)) => {
                head[len] = decoded;
                len += 1;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    let Some((&name_bytes, name)) = head[..len].get(HEADER_FIXED_BYTES..).and_then(<[u8]>::split_first) else {
        return false;
    };
    name.get(..usize::from(name_bytes))
        .and_then(|name| core::str::from_utf8(name).ok())
        .is_some_and(|name| is_name(name, DEVICE_NAME_BYTES_MAX))
}

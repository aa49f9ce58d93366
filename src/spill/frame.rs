//! One record as bytes: header, meta, payload. Pure.
//!
//! All numbers are little-endian. The place of the checksum and the length of
//! the header stay the same in every version.
//!
//! ```text
//!  0  4  magic "PwSp"
//!  4  1  version: 1 = plain, 2 = sealed (`seal`)
//!  5  1  flags: 1 = first of its commit, 2 = last of its commit
//!  6  2  bytes of meta
//!  8  4  bytes of payload
//! 12  4  offset of this header in the file
//! 16  8  segment: the number in the file's name
//! 24  8  run: the first segment that the writing process made
//! 32  8  sequence of the record within its run, from 0
//! 40  8  weight
//! 48  4  CRC-32 of meta and payload as they are stored
//! 52  4  CRC-32 of bytes 0..52
//! 56     meta and payload, or what sealing makes of them; zeros up to a multiple of 8
//! ```
//!
//! Segment and offset make a header valid in one place only: bytes that came
//! here from another file, or a record inside a payload, are not taken for one.

use std::io;

use bytes::Bytes;

use super::Record;
use super::seal::{self, SEAL_BYTES, SegmentCipher, SpillKey};

pub(super) const HEADER_BYTES: usize = 56;
/// Records start on multiples of this, which makes the search for the next one
/// after damage eight times shorter.
pub(super) const ALIGN_BYTES: u64 = 8;
pub(super) const MAGIC: [u8; 4] = *b"PwSp";
pub(super) const VERSION: u8 = 1;
pub(super) const VERSION_SEALED: u8 = 2;
/// Bytes of the header that are authenticated with a sealed body: all but the
/// checksums.
const BOUND_BYTES: usize = 48;
const FLAG_FIRST: u8 = 1;
const FLAG_LAST: u8 = 2;

/// The fixed part in front of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The body can be read with the key only.
    pub(super) sealed: bool,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) meta_bytes: u16,
    pub(super) payload_bytes: u32,
    pub(super) offset: u32,
    pub(super) segment: u64,
    pub(super) run: u64,
    pub(super) sequence: u64,
    pub(super) weight: u64,
    pub(super) body_crc: u32,
}

/// Why bytes are no header that belongs where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Not a header, or a damaged one.
    Damaged,
    /// A sound header of another segment or place.
    Foreign { segment: u64 },
    /// A sound header of a version that this program does not know.
    Version(u8),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0u8; HEADER_BYTES];
        let flags = if self.first { FLAG_FIRST } else { 0 } | if self.last { FLAG_LAST } else { 0 };
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = if self.sealed { VERSION_SEALED } else { VERSION };
        out[5] = flags;
        out[6..8].copy_from_slice(&self.meta_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.segment.to_le_bytes());
        out[24..32].copy_from_slice(&self.run.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..48].copy_from_slice(&self.weight.to_le_bytes());
        out[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..52]);
        out[52..56].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header that should lie at `offset` of `segment`.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], segment: u64, offset: u64) -> Result<Self, NoHeader> {
        if bytes[0..4] != MAGIC || crc32fast::hash(&bytes[..52]) != u32_at(bytes, 52) {
            return Err(NoHeader::Damaged);
        }
        let sealed = match bytes[4] {
            VERSION => false,
            VERSION_SEALED => true,
            later => return Err(NoHeader::Version(later)),
        };
        let header = Self {
            sealed,
            first: bytes[5] & FLAG_FIRST != 0,
            last: bytes[5] & FLAG_LAST != 0,
            meta_bytes: u16::from_le_bytes([bytes[6], bytes[7]]),
            payload_bytes: u32_at(bytes, 8),
            offset: u32_at(bytes, 12),
            segment: u64_at(bytes, 16),
            run: u64_at(bytes, 24),
            sequence: u64_at(bytes, 32),
            weight: u64_at(bytes, 40),
            body_crc: u32_at(bytes, 48),
        };
        if sealed && bytes[5] & !(FLAG_FIRST | FLAG_LAST) != 0 {
            // The seal is about the flags that are known.
            return Err(NoHeader::Damaged);
        }
        if header.segment != segment || u64::from(header.offset) != offset {
            return Err(NoHeader::Foreign { segment: header.segment });
        }
        Ok(header)
    }

    /// What a sealed body is bound to.
    pub(super) fn bound(&self) -> [u8; BOUND_BYTES] {
        let mut out = [0; BOUND_BYTES];
        out.copy_from_slice(&self.encode()[..BOUND_BYTES]);
        out
    }

    /// Whether bytes that are no sound header were once one of `segment` at
    /// `offset`. In a recycled file this tells a damaged commit from what an
    /// earlier segment left there: that names a lower segment.
    pub(super) fn was_here(bytes: &[u8; HEADER_BYTES], segment: u64, offset: u64) -> bool {
        let magic = bytes[0..4] == MAGIC;
        let place = u64::from(u32_at(bytes, 12)) == offset;
        let named = u64_at(bytes, 16);
        if named == segment {
            return magic || place;
        }
        if magic && place && named > segment {
            return true;
        }
        // Damaged in these three fields only: with the right ones it is sound.
        let Ok(place) = u32::try_from(offset) else {
            return false;
        };
        let mut mended = *bytes;
        mended[0..4].copy_from_slice(&MAGIC);
        mended[12..16].copy_from_slice(&place.to_le_bytes());
        mended[16..24].copy_from_slice(&segment.to_le_bytes());
        crc32fast::hash(&mended[..52]) == u32_at(bytes, 52)
    }

    /// Bytes of the body as it is stored.
    pub(super) fn body_bytes(&self) -> u64 {
        stored_bytes(u64::from(self.meta_bytes) + u64::from(self.payload_bytes), self.sealed)
    }

    /// Bytes from this header to the next record of the commit.
    pub(super) fn framed_bytes(&self) -> u64 {
        align_up(HEADER_BYTES as u64 + self.body_bytes(), ALIGN_BYTES)
    }
}

/// Whether what lies at the start of a file is the head of a sealed record, of whichever segment.
pub(super) fn is_sealed(bytes: &[u8; HEADER_BYTES]) -> bool {
    bytes[0..4] == MAGIC && bytes[4] == VERSION_SEALED
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

/// Next multiple of `unit`, a power of two.
pub(super) fn align_up(bytes: u64, unit: u64) -> u64 {
    debug_assert!(unit.is_power_of_two());
    bytes.saturating_add(unit - 1) & !(unit - 1)
}

fn stored_bytes(content: u64, sealed: bool) -> u64 {
    if sealed { content + SEAL_BYTES } else { content }
}

/// Bytes that a record takes within a commit.
pub(super) fn framed_bytes(record: &Record, sealed: bool) -> u64 {
    let content = record.meta.len() as u64 + record.payload.len() as u64;
    align_up(HEADER_BYTES as u64 + stored_bytes(content, sealed), ALIGN_BYTES)
}

/// Puts a record behind `buf`, sealed if its header says so; its checksum is
/// computed here.
///
/// # Errors
/// If it cannot be sealed; what `buf` holds then is of no use.
pub(super) fn put(
    buf: &mut Vec<u8>,
    header: &Header,
    record: &Record,
    cipher: Option<&SegmentCipher>,
) -> io::Result<()> {
    debug_assert_eq!(header.sealed, cipher.is_some());
    let start = buf.len();
    buf.resize(start + HEADER_BYTES, 0);
    match cipher {
        Some(cipher) => cipher.seal(buf, header, record)?,
        None => {
            buf.extend_from_slice(&record.meta);
            buf.extend_from_slice(&record.payload);
        }
    }
    let (head, body) = buf[start..].split_at_mut(HEADER_BYTES);
    let header = Header { body_crc: crc32fast::hash(body), ..*header };
    head.copy_from_slice(&header.encode());
    Ok(())
}

/// Splits the body of a record that was read whole and checks it. A sealed one
/// without its key is none.
pub(super) fn decode_body(header: &Header, body: Bytes, key: Option<&SpillKey>) -> Option<Record> {
    if body.len() as u64 != header.body_bytes() || crc32fast::hash(&body) != header.body_crc {
        return None;
    }
    let body = if header.sealed { seal::open(key?, header, body)? } else { body };
    let meta = body.slice(..usize::from(header.meta_bytes));
    let payload = body.slice(usize::from(header.meta_bytes)..);
    Some(Record { meta, payload, weight: header.weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            sealed: false,
            first: true,
            last: false,
            meta_bytes: 2,
            payload_bytes: 0x0102_0304,
            offset: 0x1000,
            segment: 17,
            run: 16,
            sequence: 0x0a,
            weight: 400,
            body_crc: 0xdead_beef,
        }
    }

    // Written by hand from the table above; the checksum by Python's `zlib.crc32`.
    // Frozen: a change of format is a new version with its own bytes.
    const GOLDEN: [u8; HEADER_BYTES] = [
        0x50, 0x77, 0x53, 0x70, 1, 1, 2, 0, 0x04, 0x03, 0x02, 0x01, 0x00, 0x10, 0, 0, // 0..16
        17, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, // segment, run
        10, 0, 0, 0, 0, 0, 0, 0, 0x90, 0x01, 0, 0, 0, 0, 0, 0, // sequence, weight
        0xef, 0xbe, 0xad, 0xde, 0xe8, 0x0a, 0x64, 0xa7, // checksums
    ];

    #[test]
    fn the_header_has_the_bytes_of_the_table() {
        assert_eq!(header().encode(), GOLDEN);
        assert_eq!(Header::decode(&GOLDEN, 17, 0x1000), Ok(header()));
    }

    #[test]
    fn a_header_is_refused_in_any_other_place_and_with_any_byte_changed() {
        assert_eq!(Header::decode(&GOLDEN, 18, 0x1000), Err(NoHeader::Foreign { segment: 17 }));
        assert_eq!(Header::decode(&GOLDEN, 17, 0x1008), Err(NoHeader::Foreign { segment: 17 }));
        assert!(!Header::was_here(&GOLDEN, 18, 0x1000), "what an earlier segment left");
        for at in 0..HEADER_BYTES {
            for bit in 0..8 {
                let mut bytes = GOLDEN;
                bytes[at] ^= 1 << bit;
                assert_eq!(Header::decode(&bytes, 17, 0x1000), Err(NoHeader::Damaged), "byte {at} bit {bit}");
                assert!(Header::was_here(&bytes, 17, 0x1000), "byte {at} bit {bit}");
                assert!(!Header::was_here(&bytes, u64::MAX, 0x1000), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut bytes = GOLDEN;
        bytes[4] = 3;
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes, 17, 0x1000), Err(NoHeader::Version(3)));
    }

    #[test]
    fn sizes_round_up_and_never_overflow() {
        assert_eq!(align_up(0, 8), 0);
        assert_eq!(align_up(1, 8), 8);
        assert_eq!(align_up(4096, 4096), 4096);
        assert_eq!(align_up(u64::MAX, 4096), !4095);
    }
}

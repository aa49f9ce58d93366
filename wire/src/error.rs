//! What can be wrong with a frame, on the way out and on the way in.

use core::fmt;

use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MIN, VERSION};

/// Why a frame could not be encoded. Nothing usable was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The frame would be longer than [`FRAME_BYTES_MAX`]: send it in parts.
    TooLong,
    /// The buffer that was handed in is too small for this frame.
    BufferFull,
    /// A field holds what the protocol does not allow; its name.
    Field(&'static str),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "encode frame: longer than {FRAME_BYTES_MAX} bytes"),
            Self::BufferFull => f.write_str("encode frame: the output buffer is too small"),
            Self::Field(name) => write!(f, "encode frame: {name} is out of bounds"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the shortest frame has.
    TooShort,
    /// More bytes than [`FRAME_BYTES_MAX`].
    TooLong,
    /// The version byte is not the one this crate reads; the byte.
    Version(u8),
    /// The CRC does not match: bytes were changed, lost or added on the way.
    Crc,
    /// The kind byte is none of the protocol's; the byte.
    Kind(u8),
    /// The CRC is right but an inner length points past the end: the sender's encoder is wrong.
    Overrun,
    /// The CRC is right but bytes are left over after the payload: the sender's encoder is wrong.
    Trailing,
    /// The CRC is right but a field holds what the protocol does not allow; its name.
    Field(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "decode frame: shorter than {FRAME_BYTES_MIN} bytes"),
            Self::TooLong => write!(f, "decode frame: longer than {FRAME_BYTES_MAX} bytes"),
            Self::Version(v) => write!(f, "decode frame: version {v}, expected {VERSION}"),
            Self::Crc => f.write_str("decode frame: crc does not match"),
            Self::Kind(k) => write!(f, "decode frame: unknown kind {k}, expected 1 to 5"),
            Self::Overrun => f.write_str("decode frame: an inner length points past the end"),
            Self::Trailing => f.write_str("decode frame: bytes left over after the payload"),
            Self::Field(name) => write!(f, "decode frame: {name} is out of bounds"),
        }
    }
}

impl core::error::Error for DecodeError {}

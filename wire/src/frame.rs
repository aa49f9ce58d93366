//! A whole frame: header, payload, CRC.

use crate::codec::{In, Out};
use crate::error::{DecodeError, EncodeError};
use crate::header::Header;
use crate::limits::{CRC_BYTES, FRAME_BYTES_MAX, FRAME_BYTES_MIN, VERSION};
use crate::payload::{FrameKind, Payload};

/// CRC-32 as zlib, Ethernet and PNG compute it (CRC-32/ISO-HDLC).
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Writes a frame into `out` and returns its length in bytes.
///
/// The bytes are an MQTT payload as they are; for a serial line see
/// [`frame_to_stream`](crate::frame_to_stream).
///
/// # Errors
/// [`EncodeError::Field`] if a field breaks a rule of the protocol, [`EncodeError::TooLong`] if
/// the frame would be longer than 4,096 bytes, [`EncodeError::BufferFull`] if `out` is too small.
pub fn encode(header: &Header, payload: &Payload<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    payload.check(header.t0_us).map_err(EncodeError::Field)?;
    let room = out.len().min(FRAME_BYTES_MAX);
    let bounded = out.len() >= FRAME_BYTES_MAX;
    write(header, payload, &mut out[..room]).map_err(|e| match e {
        EncodeError::BufferFull if bounded => EncodeError::TooLong,
        e => e,
    })
}

fn write(header: &Header, payload: &Payload<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut out = Out::new(out);
    header.write(payload.kind().code(), &mut out)?;
    payload.write(&mut out)?;
    let crc = crc32(out.written());
    out.put(crc)?;
    Ok(out.written().len())
}

/// Reads a frame: without COBS and delimiter, as MQTT carries it.
///
/// The payload borrows from `frame`. Everything is checked before it is used: length, version,
/// CRC, kind, inner lengths, and the rules of the fields.
///
/// # Errors
/// [`DecodeError`] says which check failed. After [`DecodeError::Crc`] the fault is the line's;
/// the variants listed after it in the enum are the sender's fault.
pub fn decode(frame: &[u8]) -> Result<(Header, Payload<'_>), DecodeError> {
    if frame.len() < FRAME_BYTES_MIN {
        return Err(DecodeError::TooShort);
    }
    if frame.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::TooLong);
    }
    if frame[0] != VERSION {
        return Err(DecodeError::Version(frame[0]));
    }
    let body = checked_body(frame).ok_or(DecodeError::Crc)?;
    let mut input = In::new(body);
    let (kind, header) = Header::read(&mut input)?;
    let kind = FrameKind::from_code(kind).ok_or(DecodeError::Kind(kind))?;
    let payload = Payload::read(kind, &mut input)?;
    if !input.rest().is_empty() {
        return Err(DecodeError::Trailing);
    }
    payload.check(header.t0_us).map_err(DecodeError::Field)?;
    Ok((header, payload))
}

/// The frame without its CRC, if that matches.
pub(crate) fn checked_body(frame: &[u8]) -> Option<&[u8]> {
    let (body, crc) = frame.split_last_chunk::<CRC_BYTES>()?;
    (crc32(body) == u32::from_le_bytes(*crc)).then_some(body)
}

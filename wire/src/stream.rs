//! Frames on a serial line: COBS, then `0x00`.

use crate::error::EncodeError;
use crate::frame::encode;
use crate::header::Header;
use crate::limits::FRAME_BYTES_MAX;
use crate::payload::Payload;

/// What stands between frames on a serial line, and nowhere inside one.
pub(crate) const DELIMITER: u8 = 0;

/// Writes the serial form of a frame that [`encode`] made into `out` and returns its length.
///
/// A sender writes one extra `0x00` when it opens the line, so that what an earlier sender left
/// there half-done cannot cost the first frame.
///
/// # Errors
/// [`EncodeError::TooLong`] for more than 4,096 bytes, [`EncodeError::BufferFull`] if `out` is too
/// small; [`STREAM_BYTES_MAX`](crate::limits::STREAM_BYTES_MAX) bytes always suffice.
pub fn frame_to_stream(frame: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(EncodeError::TooLong);
    }
    let len = cobs::try_encode(frame, out).map_err(|_| EncodeError::BufferFull)?;
    *out.get_mut(len).ok_or(EncodeError::BufferFull)? = DELIMITER;
    Ok(len + 1)
}

/// [`encode`] into `scratch`, then [`frame_to_stream`] into `out`.
///
/// # Errors
/// Those of the two.
pub fn encode_stream(
    header: &Header,
    payload: &Payload<'_>,
    scratch: &mut [u8],
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let len = encode(header, payload, scratch)?;
    frame_to_stream(&scratch[..len], out)
}

//! Every bound of the protocol, with its arithmetic. Sizes are bytes.

use crate::value::ValueKind;

/// The version byte of the frames this crate reads and writes.
pub const VERSION: u8 = 1;

/// Longest frame before COBS.
pub const FRAME_BYTES_MAX: usize = 4096;

/// What a device keeps its frames below unless it has a reason: 1 KiB is 11 ms at 921,600 baud.
pub const FRAME_BYTES_DEFAULT: usize = 1024;

/// Bytes of the header before the device's name: version, kind, catalogue, boot, sequence, t0.
pub const HEADER_FIXED_BYTES: usize = 1 + 1 + 4 + 4 + 4 + 8;

/// Bytes of the CRC that ends a frame.
pub const CRC_BYTES: usize = 4;

/// Shortest frame that can be one: the header with a name of one byte, and the CRC.
pub const FRAME_BYTES_MIN: usize = HEADER_FIXED_BYTES + 1 + 1 + CRC_BYTES;

/// Longest device name.
pub const DEVICE_NAME_BYTES_MAX: usize = 16;

/// Longest channel name.
pub const CHANNEL_NAME_BYTES_MAX: usize = 48;

/// Longest unit.
pub const UNIT_BYTES_MAX: usize = 16;

/// Longest text of an event: its length is a `u8`.
pub const TEXT_BYTES_MAX: usize = 255;

/// Channels a device's catalogue may hold. A receiver bounds its memory by this.
pub const CATALOGUE_CHANNELS_MAX: usize = 1024;

/// Least period of a Burst or Scan with more than one time: below 1 µs two samples would share a
/// device time, and with it their identity.
pub const PERIOD_NS_MIN: u32 = 1_000;

/// Bytes of a Burst before its values: channel, value kind, period, count.
pub const BURST_FIXED_BYTES: usize = 2 + 1 + 4 + 2;

/// Bytes of a Scan before its data: group, period, count, data length.
pub const SCAN_FIXED_BYTES: usize = 1 + 4 + 2 + 2;

/// Bytes of a Describe before its entries: part, parts, clock base, total, count.
pub const DESCRIBE_FIXED_BYTES: usize = 1 + 1 + 1 + 2 + 1;

/// Bytes of a channel entry without its name and unit (their length bytes included):
/// id, value kind, group, scale, offset, rate.
pub const CHANNEL_FIXED_BYTES: usize = 2 + 1 + 1 + 8 + 8 + 4 + 1 + 1;

/// Longest COBS form of `frame_bytes` bytes: one byte more for each 254 begun.
#[must_use]
pub const fn cobs_bytes_max(frame_bytes: usize) -> usize {
    cobs::max_encoding_length(frame_bytes)
}

/// Longest COBS form of a frame, without the delimiter: 4096 + 17.
pub const ENCODED_BYTES_MAX: usize = cobs_bytes_max(FRAME_BYTES_MAX);

/// Longest frame on a serial line, with its delimiter.
pub const STREAM_BYTES_MAX: usize = ENCODED_BYTES_MAX + 1;

/// Room for a payload in a frame of `frame_bytes` from a device whose name has `device_bytes`.
#[must_use]
pub const fn payload_bytes_max(frame_bytes: usize, device_bytes: usize) -> usize {
    let frame_bytes = if frame_bytes < FRAME_BYTES_MAX { frame_bytes } else { FRAME_BYTES_MAX };
    frame_bytes.saturating_sub(HEADER_FIXED_BYTES + 1 + device_bytes + CRC_BYTES)
}

/// How many values fit in a Burst of a frame of `frame_bytes`.
#[must_use]
pub const fn burst_values_max(frame_bytes: usize, device_bytes: usize, kind: ValueKind) -> usize {
    payload_bytes_max(frame_bytes, device_bytes).saturating_sub(BURST_FIXED_BYTES) / kind.bytes()
}

/// How many times (rows of `row_bytes`) fit in a Scan of a frame of `frame_bytes`.
#[must_use]
pub const fn scan_rows_max(frame_bytes: usize, device_bytes: usize, row_bytes: usize) -> usize {
    if row_bytes == 0 {
        return 0;
    }
    payload_bytes_max(frame_bytes, device_bytes).saturating_sub(SCAN_FIXED_BYTES) / row_bytes
}

const _: () = assert!(FRAME_BYTES_DEFAULT <= FRAME_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX <= u16::MAX as usize, "inner lengths are u16");
const _: () = assert!(ENCODED_BYTES_MAX == 4096 + 17);
// The smallest frame a device may choose still holds one channel entry of the longest names.
const _: () = assert!(
    DESCRIBE_FIXED_BYTES + CHANNEL_FIXED_BYTES + CHANNEL_NAME_BYTES_MAX + UNIT_BYTES_MAX
        <= payload_bytes_max(256, DEVICE_NAME_BYTES_MAX)
);

//! The frame protocol between a car's devices and the agent, for both ends: no std, no allocation.
//!
//! A *frame* is what a device sends at once. Its bytes are the same on every transport:
//!
//! ```text
//!  0   u8    version, 1
//!  1   u8    kind: 1 Describe, 2 Burst, 3 Scan, 4 Event, 5 Status
//!  2   u32   catalogue: the revision of the channel catalogue the frame was made under
//!  6   u32   boot: differs for each start of the device
//! 10   u32   sequence: from 0, one per frame of any kind
//! 14   i64   t0: device time in µs
//! 22   str8  device: u8 length 1..=16, then bytes of [a-z0-9._-]
//!  ..  payload, by kind
//!  ..  u32   CRC-32 (the zlib one) over everything before it
//! ```
//!
//! All numbers are little-endian and of fixed width. MQTT carries these bytes as they are; on a
//! serial line they are COBS-encoded and each frame is followed by one `0x00`, so that a receiver
//! finds the next frame after any disturbance.
//!
//! ```
//! use pitwire_wire::{Burst, Deframer, DeviceName, Header, Payload, Piece, Values};
//!
//! let header = Header { catalogue: 0, boot: 1, sequence: 0, t0_us: 0, device: DeviceName::new("ecu")? };
//! let values = Values::I16(&[2000, 2010]);
//! let payload = Payload::Burst(Burst { channel: 1, period_ns: 10_000_000, values });
//! let (mut scratch, mut line) = ([0; 1024], [0; 1100]);
//! let len = pitwire_wire::encode_stream(&header, &payload, &mut scratch, &mut line)?;
//!
//! let mut deframer = Deframer::new();
//! let (_taken, piece) = deframer.push(&line[..len]);
//! let Some(Piece::Frame(frame)) = piece else { panic!("no frame") };
//! assert_eq!(pitwire_wire::decode(frame)?, (header, payload));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading order
//! - [`limits`]: every bound with its arithmetic;
//! - `name`, `header`: who sent the frame, when, and which one it is;
//! - `value`, `payload`: what it says;
//! - `codec`: the only place that knows bincode;
//! - `frame`: [`encode`] and [`decode`], a whole frame with its version and CRC;
//! - `stream`: frames on a serial line; `deframe`: the way back, through any garbage.
//!
//! # Invariants
//! - Decoding never panics and never copies: a payload borrows from the frame.
//! - What [`decode`] accepts is consistent (lengths, names, times that increase), and is exactly
//!   what [`encode`] would write.
//! - No state but the [`Deframer`]'s buffer; its size is fixed.
//!
//! # What is deliberately absent
//! Clocks, transports, catalogues kept over time, and any judgement of values: NaN is a value.
#![no_std]

mod codec;
mod deframe;
mod error;
mod frame;
mod header;
pub mod limits;
mod name;
mod payload;
mod stream;
mod value;

pub use deframe::{Deframer, GarbageReason, Piece, Totals};
pub use error::{DecodeError, EncodeError};
pub use frame::{crc32, decode, encode};
pub use header::Header;
pub use limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX};
pub use name::{DeviceName, NameError};
pub use payload::{
    Burst, ChannelEntry, ClockBase, Describe, DescribeParts, Event, EventKind, FrameKind, Payload, Scan, ScanWriter,
    Status, catalogue_revision, describe_parts,
};
pub use stream::{encode_stream, frame_to_stream};
pub use value::{Value, ValueKind, Values, WireValues};

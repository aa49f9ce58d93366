//! Chunk data, codec 1: every sample of a row, packed, version 1.
//!
//! ```text
//! u8  version = 1
//! u8  bits 0–1: value kind, 0 i16, 1 i32, 2 f32, 3 f64
//!     bits 2–3: scaling, 0 none, 1 decimal, 2 binary
//!     bit  4:   flags follow
//! u8  bits 0–3: value mode; bits 4–7: time mode
//! scaling  physical = raw × scale + offset, in f64
//!          0 none:     scale 1, offset 0
//!          1 decimal:  for scale, then offset: signed m, u8 e     m ÷ 10^e, in f64
//!          2 binary:   f64 scale, f64 offset
//! times    0 one run:  varint period_ns                           t_i = d0 + (i × period_ns) div 1000
//!          1 runs:     varint runs, each: signed, µs from the first time of the run before (d0 for the first);
//!                      varint period_ns; varint count
//!          2 numbers:  µs after d0
//! values   0 raw:      n × little-endian
//!          1 numbers   (i16 and i32)
//!          2 xor       (f32 and f64)
//!          3 pco:      its wrapped format: header, one chunk's meta, one page of n
//! flags    varint runs, each: varint count, varint flags; the counts sum to n. Absent: all good
//! ```
//! `n` and `d0` are the row's. A varint is LEB128, a signed one in zigzag; *numbers* are described in [`ints`], *xor* in
//! [`xor`]. Of the ways that a value or a time may go, the shortest is taken.
//!
//! Invariants: what was encoded comes back bit for bit; decoding never panics and allocates no more than a chunk may
//! hold, whatever the bytes are.
//! Deliberately absent: statistics of the row (`v_min` …), which `chunk` makes. `docs/storage.md` says the same for
//! those who write a reader in another language.

mod bits;
mod input;
mod ints;
mod parts;
mod samples;
mod times;
mod values;
mod xor;

pub(crate) use self::bits::BitWriter;
use self::input::Input;
pub(crate) use self::input::put_varint;
pub use self::samples::{Sample, pack, samples};
pub use self::times::{Run, RunTimes};
use crate::limits::CHUNK_SAMPLES_MAX;
use crate::sample::{Flags, Quality, Scaling, ValueKind, Values};

/// The column `codec` of rows whose data is in this format.
pub const CODEC: i8 = 1;
/// Version of the format.
const VERSION: u8 = 1;
const HAS_FLAGS: u8 = 1 << 4;

/// A row's samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Device times in µs, as many as `values`, in the order in which they were written.
    pub times: Vec<i64>,
    /// Raw values.
    pub values: Values,
    /// How a raw value becomes a physical one.
    pub scaling: Scaling,
    /// Flags of the samples.
    pub flags: Flags,
}

/// Why a row's data cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by another program.
    #[error("{what} {found} is unknown to this version; read it with the version that wrote it, or newer")]
    Unsupported {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: i32,
    },
    /// Not in the format.
    #[error("chunk data is damaged: {0}")]
    Damaged(String),
}

/// The data of a row of `times.len()` samples that starts at device time `d0` (µs).
///
/// # Panics
/// If there are not as many values as times, or a time lies before `d0` or over 2^32 µs after it: the
/// builder closes chunks at `CHUNK_SAMPLES_MAX` and `CHUNK_SPAN_US`, far below.
#[must_use]
pub fn encode(d0: i64, times: &RunTimes, values: &Values, scaling: Scaling, flags: &Flags) -> Vec<u8> {
    let n = times.len();
    assert_eq!(n, values.len(), "as many times as values");
    let flagged = flags.union() != Quality::GOOD;
    let mut out = vec![VERSION, kind_code(values.kind()), 0];
    out[1] |= parts::put_scaling(&mut out, scaling) << 2 | if flagged { HAS_FLAGS } else { 0 };
    let time_mode = parts::put_times(&mut out, d0, times);
    let value_mode = values::put(&mut out, values);
    out[2] = value_mode | time_mode << 4;
    if flagged {
        parts::put_flags(&mut out, flags, n);
    }
    out.shrink_to_fit();
    out
}

/// The samples of a row: its `d0`, `data`, `codec` and `n`.
///
/// # Errors
/// If the codec or the version is unknown, or the data does not hold exactly `n` samples.
pub fn decode(d0: i64, data: &[u8], codec: i8, n: i32) -> Result<Decoded, CodecError> {
    if codec != CODEC {
        return Err(CodecError::Unsupported { what: "codec", found: codec.into() });
    }
    let mut input = Input::new(data);
    let [version, head, modes] = input.take::<3>("header")?;
    if version != VERSION {
        return Err(CodecError::Unsupported { what: "version", found: version.into() });
    }
    if head >> 5 != 0 {
        return Err(CodecError::Unsupported { what: "header", found: head.into() });
    }
    let count = usize::try_from(n).ok().filter(|count| *count <= CHUNK_SAMPLES_MAX);
    let count = count.ok_or_else(|| damaged(format!("its row says that it holds {n} samples")))?;
    let scaling = parts::take_scaling(&mut input, head >> 2 & 3)?;
    let times = parts::take_times(&mut input, modes >> 4, d0, count)?;
    let values = values::take(&mut input, modes & 0xF, kind_of(head & 3), count)?;
    let flags = if head & HAS_FLAGS != 0 { parts::take_flags(&mut input, count)? } else { Flags::default() };
    if input.left() > 0 {
        return Err(damaged(format!("{} bytes too many", input.left())));
    }
    Ok(Decoded { times, values, scaling, flags })
}

const fn kind_code(kind: ValueKind) -> u8 {
    match kind {
        ValueKind::I16 => 0,
        ValueKind::I32 => 1,
        ValueKind::F32 => 2,
        ValueKind::F64 => 3,
    }
}

/// Of two bits.
const fn kind_of(code: u8) -> ValueKind {
    match code & 3 {
        0 => ValueKind::I16,
        1 => ValueKind::I32,
        2 => ValueKind::F32,
        _ => ValueKind::F64,
    }
}

const fn damaged(why: String) -> CodecError {
    CodecError::Damaged(why)
}

#[cfg(test)]
mod tests;

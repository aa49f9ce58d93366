//! Chunk data, codec 0: every sample of a row, plain little-endian, version 1.
//!
//! ```text
//! u8  version = 1
//! u8  value kind: 1 i16, 2 i32, 3 f32, 4 f64
//! u8  time mode: 0 runs, 1 offsets
//! u8  0
//! f64 scale, f64 offset          physical = raw × scale + offset, in f64
//! u32 n
//! times, mode 0: u16 runs, then each: u32 first (µs after the row's d0), u32 period_ns, u32 count
//!                t_i = d0 + first + (i × period_ns) div 1000
//!        mode 1: n × u32 µs after d0
//! values: n × raw
//! flags:  u16 runs, then each: u32 count, u16 flags; 0 runs: all good, else the counts sum to n
//! ```
//!
//! Invariants: what was encoded comes back bit for bit; decoding never panics and allocates at most a
//! small multiple of its input, because `n` values have to lie in it.
//! Deliberately absent: statistics of the row (`v_min` …), which the builder makes, and compression.

pub mod packed;

use self::packed::CODEC_PACKED;
use super::times::{Run, RunTimes};
use crate::sample::{Flags, Quality, Scaling, ValueKind, Values};

/// The column `codec` of rows whose data is in this format.
pub const CODEC_PLAIN: i8 = 0;
/// Version of the format.
const VERSION: u8 = 1;
const MODE_RUNS: u8 = 0;
const MODE_OFFSETS: u8 = 1;
/// version, kind, mode, 0; scale; offset; n.
const HEADER_BYTES: usize = 4 + 8 + 8 + 4;
const RUN_BYTES: usize = 12;
const OFFSET_BYTES: usize = 4;
const FLAG_RUN_BYTES: usize = 6;
/// Runs are counted in u16.
const RUNS_MAX: usize = u16::MAX as usize;

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
    /// Written by a newer program.
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
/// Of more than 65,535 runs of flags the rest share theirs, or-ed: no flag is lost, a few samples gain one.
/// One allocation.
///
/// # Panics
/// If there are not as many values as times, or a time lies before `d0` or over 2^32 µs after it: the
/// builder closes chunks at `CHUNK_SAMPLES_MAX` and `CHUNK_SPAN_US`, far below.
#[must_use]
pub fn encode(d0: i64, times: &RunTimes, values: &Values, scaling: Scaling, flags: &Flags) -> Vec<u8> {
    let n = times.len();
    assert_eq!(n, values.len(), "as many times as values");
    let count = u32::try_from(n).expect("a chunk is bounded by CHUNK_SAMPLES_MAX");
    let runs = times.runs();
    let by_runs = runs.len() <= RUNS_MAX && 2 + runs.len() * RUN_BYTES <= n * OFFSET_BYTES;
    let times_bytes = if by_runs { 2 + runs.len() * RUN_BYTES } else { n * OFFSET_BYTES };
    let flag_runs = flags.runs().len().min(RUNS_MAX) + 1;
    let kind = values.kind();
    let size = HEADER_BYTES + times_bytes + n * kind.bytes() + 2 + flag_runs * FLAG_RUN_BYTES;
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(&[VERSION, kind_code(kind), if by_runs { MODE_RUNS } else { MODE_OFFSETS }, 0]);
    out.extend_from_slice(&scaling.scale.to_le_bytes());
    out.extend_from_slice(&scaling.offset.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    let after_d0 = |t: i64| {
        let after = t.checked_sub(d0).and_then(|after| u32::try_from(after).ok());
        after.expect("a chunk's times lie within CHUNK_SPAN_US after its d0").to_le_bytes()
    };
    if by_runs {
        out.extend_from_slice(&(runs.len() as u16).to_le_bytes());
        for run in runs {
            out.extend_from_slice(&after_d0(run.t0_us));
            out.extend_from_slice(&run.period_ns.to_le_bytes());
            out.extend_from_slice(&run.count.to_le_bytes());
        }
    } else {
        times.iter().for_each(|t| out.extend_from_slice(&after_d0(t)));
    }
    match values {
        Values::I16(raw) => put(&mut out, raw, i16::to_le_bytes),
        Values::I32(raw) => put(&mut out, raw, i32::to_le_bytes),
        Values::F32(raw) => put(&mut out, raw, f32::to_le_bytes),
        Values::F64(raw) => put(&mut out, raw, f64::to_le_bytes),
    }
    put_flags(&mut out, flags, count);
    out
}

fn put<T: Copy, const N: usize>(out: &mut Vec<u8>, raw: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + raw.len() * N, 0);
    for (to, &value) in out[start..].chunks_exact_mut(N).zip(raw) {
        to.copy_from_slice(&bytes(value));
    }
}

/// Flags exactly covering `n` samples: what is short is good, what is too long is cut.
fn put_flags(out: &mut Vec<u8>, flags: &Flags, n: u32) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    if flags.union() == Quality::GOOD {
        return;
    }
    let mut left = n;
    let mut runs: u16 = 0;
    let given = flags.runs().iter().copied().chain(std::iter::once((u32::MAX, Quality::GOOD)));
    for (count, quality) in given {
        let count = count.min(left);
        if count == 0 {
            continue;
        }
        let (count, quality) = if usize::from(runs) + 1 == RUNS_MAX { (left, flags.union()) } else { (count, quality) };
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&quality.0.to_le_bytes());
        runs += 1;
        left -= count;
    }
    out[at..at + 2].copy_from_slice(&runs.to_le_bytes());
}

/// The samples of a row: its `d0`, `data`, `codec` and `n`; of either codec.
///
/// # Errors
/// If the codec or the version is unknown, or the data does not hold exactly `n` samples.
pub fn decode(d0: i64, data: &[u8], codec: i8, n: i32) -> Result<Decoded, CodecError> {
    if codec == CODEC_PACKED {
        return packed::decode(d0, data, n);
    }
    if codec != CODEC_PLAIN {
        return Err(CodecError::Unsupported { what: "codec", found: codec.into() });
    }
    let mut input = Input { data, at: 0 };
    let [version, kind, mode, zero] = input.take::<4>("header")?;
    if version != VERSION {
        return Err(CodecError::Unsupported { what: "version", found: version.into() });
    }
    let kind = kind_of(kind)?;
    if zero != 0 {
        return Err(damaged(format!("byte 3 is {zero}, not 0")));
    }
    let scale = f64::from_le_bytes(input.take("scale")?);
    let offset = f64::from_le_bytes(input.take("offset")?);
    let count = input.u32("n")?;
    if i64::from(count) != i64::from(n) {
        return Err(damaged(format!("it holds {count} samples, its row says {n}")));
    }
    let count = count as usize;
    // Before anything is allocated: the values alone have to lie in what is left.
    if count.checked_mul(kind.bytes()).is_none_or(|bytes| bytes > input.left()) {
        return Err(damaged(format!("{count} samples do not fit into {} bytes", data.len())));
    }
    let times = match mode {
        MODE_RUNS => take_runs(&mut input, d0, count)?,
        MODE_OFFSETS => {
            let bytes = input.slice(count.saturating_mul(OFFSET_BYTES), "times")?;
            let after = |b: &[u8]| i64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let time = |b: &[u8]| d0.checked_add(after(b)).ok_or_else(beyond);
            bytes.chunks_exact(OFFSET_BYTES).map(time).collect::<Result<_, _>>()?
        }
        other => return Err(CodecError::Unsupported { what: "time mode", found: other.into() }),
    };
    let values = match kind {
        ValueKind::I16 => Values::I16(get(&mut input, count, i16::from_le_bytes)?),
        ValueKind::I32 => Values::I32(get(&mut input, count, i32::from_le_bytes)?),
        ValueKind::F32 => Values::F32(get(&mut input, count, f32::from_le_bytes)?),
        ValueKind::F64 => Values::F64(get(&mut input, count, f64::from_le_bytes)?),
    };
    let flags = take_flags(&mut input, count)?;
    if input.left() > 0 {
        return Err(damaged(format!("{} bytes too many", input.left())));
    }
    Ok(Decoded { times, values, scaling: Scaling { scale, offset }, flags })
}

fn take_runs(input: &mut Input<'_>, d0: i64, n: usize) -> Result<Vec<i64>, CodecError> {
    let mut times = Vec::with_capacity(n);
    for _ in 0..input.u16("runs")? {
        let t0_us = d0.checked_add(i64::from(input.u32("run")?)).ok_or_else(beyond)?;
        let run = Run { t0_us, period_ns: input.u32("run")?, count: input.u32("run")? };
        if run.count as usize > n - times.len() {
            return Err(damaged(format!("its runs hold more than its {n} samples")));
        }
        if run.last() == i64::MAX {
            return Err(beyond());
        }
        times.extend((0..run.count).map(|index| run.at(index)));
    }
    if times.len() != n {
        return Err(damaged(format!("its runs hold {} times for {n} samples", times.len())));
    }
    Ok(times)
}

fn take_flags(input: &mut Input<'_>, n: usize) -> Result<Flags, CodecError> {
    let runs = input.u16("flags")?;
    let mut flags = Flags::default();
    let mut covered = 0;
    for _ in 0..runs {
        let count = input.u32("flags")? as usize;
        let quality = Quality(input.u16("flags")?);
        if count == 0 || count > n - covered {
            return Err(damaged(format!("a run of {count} flags after {covered} of {n} samples")));
        }
        flags.push(quality, count, covered);
        covered += count;
    }
    if runs > 0 && covered != n {
        return Err(damaged(format!("flags for {covered} of {n} samples")));
    }
    Ok(flags)
}

fn get<T, const N: usize>(input: &mut Input<'_>, n: usize, from: impl Fn([u8; N]) -> T) -> Result<Vec<T>, CodecError> {
    let bytes = input.slice(n.saturating_mul(N), "values")?;
    let (values, _) = bytes.as_chunks::<N>();
    Ok(values.iter().map(|&value| from(value)).collect())
}

const fn kind_code(kind: ValueKind) -> u8 {
    match kind {
        ValueKind::I16 => 1,
        ValueKind::I32 => 2,
        ValueKind::F32 => 3,
        ValueKind::F64 => 4,
    }
}

fn kind_of(code: u8) -> Result<ValueKind, CodecError> {
    match code {
        1 => Ok(ValueKind::I16),
        2 => Ok(ValueKind::I32),
        3 => Ok(ValueKind::F32),
        4 => Ok(ValueKind::F64),
        other => Err(CodecError::Unsupported { what: "value kind", found: other.into() }),
    }
}

const fn damaged(why: String) -> CodecError {
    CodecError::Damaged(why)
}

fn beyond() -> CodecError {
    damaged("a time is beyond the end of time".into())
}

struct Input<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    const fn left(&self) -> usize {
        self.data.len() - self.at
    }

    fn slice(&mut self, bytes: usize, what: &str) -> Result<&'a [u8], CodecError> {
        let end = self.at.saturating_add(bytes);
        let slice = self.data.get(self.at..end);
        let slice = slice.ok_or_else(|| damaged(format!("it ends after {} bytes, within its {what}", self.data.len())));
        self.at = end.min(self.data.len());
        slice
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], CodecError> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N, what)?);
        Ok(array)
    }

    fn u16(&mut self, what: &str) -> Result<u16, CodecError> {
        Ok(u16::from_le_bytes(self.take(what)?))
    }

    fn u32(&mut self, what: &str) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.take(what)?))
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;

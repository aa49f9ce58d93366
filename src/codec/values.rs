//! Values, the shortest way that there is for them.

use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::input::Input;
use super::{CodecError, damaged};
use super::{ints, xor};
use crate::sample::{ValueKind, Values};

const RAW: u8 = 0;
const NUMBERS: u8 = 1;
const XOR: u8 = 2;
const PCO: u8 = 3;

/// From so many whole numbers on pco is tried: below, its model of them costs what it saves.
const PCO_INTS_MIN: usize = 128;
/// The same of floats, whose digits pco finds where xor does not.
const PCO_FLOATS_MIN: usize = 64;
/// Of 0 to 12. Above 4 it takes twice the time for 2 %.
const PCO_LEVEL: usize = 4;

/// Answers their mode.
pub(super) fn put(out: &mut Vec<u8>, values: &Values) -> u8 {
    match values {
        Values::I16(raw) => put_ints(out, raw, |&v| v.into()),
        Values::I32(raw) => put_ints(out, raw, |&v| v.into()),
        Values::F32(raw) => put_floats(out, raw, 32, |&v| v.to_bits().into(), |v| v.to_le_bytes()),
        Values::F64(raw) => put_floats(out, raw, 64, |&v| v.to_bits(), |v| v.to_le_bytes()),
    }
}

fn put_ints<T: Number>(out: &mut Vec<u8>, raw: &[T], number: impl Fn(&T) -> i64) -> u8 {
    let plan = ints::plan(raw.iter().map(&number));
    if raw.len() >= PCO_INTS_MIN {
        // The order is known: to look for it costs pco five times as long.
        let config = config().with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::TryConsecutive(plan.order));
        let start = out.len();
        if put_pco(out, raw, &config).is_ok() && out.len() - start < plan.bytes {
            return PCO;
        }
        out.truncate(start);
    }
    ints::put(out, raw.iter().map(number), &plan);
    NUMBERS
}

fn put_floats<T: Number, const N: usize>(
    out: &mut Vec<u8>,
    raw: &[T],
    width: u32,
    bits: impl Fn(&T) -> u64,
    bytes: impl Fn(T) -> [u8; N],
) -> u8 {
    let start = out.len();
    xor::put(out, raw.iter().map(bits), width);
    let xored = out.len() - start;
    let mut mode = XOR;
    if raw.len() >= PCO_FLOATS_MIN {
        let packed = put_pco(out, raw, &config()).map(|()| out.len() - start - xored);
        match packed {
            Ok(packed) if packed < xored => {
                out.drain(start..start + xored);
                mode = PCO;
            }
            _ => out.truncate(start + xored),
        }
    }
    if out.len() - start > raw.len() * N {
        out.truncate(start);
        raw.iter().for_each(|&value| out.extend_from_slice(&bytes(value)));
        mode = RAW;
    }
    mode
}

fn config() -> ChunkConfig {
    ChunkConfig::default().with_compression_level(PCO_LEVEL)
}

fn put_pco<T: Number>(out: &mut Vec<u8>, raw: &[T], config: &ChunkConfig) -> pco::errors::PcoResult<()> {
    let file = FileCompressor::default();
    file.write_header(&mut *out)?;
    let mut chunk = file.chunk_compressor(raw, config)?;
    chunk.write_meta(&mut *out)?;
    chunk.write_page(0, &mut *out)?;
    Ok(())
}

pub(super) fn take(input: &mut Input<'_>, mode: u8, kind: ValueKind, n: usize) -> Result<Values, CodecError> {
    Ok(match kind {
        ValueKind::I16 => Values::I16(take_ints(input, mode, n, i16::from_le_bytes)?),
        ValueKind::I32 => Values::I32(take_ints(input, mode, n, i32::from_le_bytes)?),
        ValueKind::F32 => {
            Values::F32(take_floats(input, mode, n, f32::from_le_bytes, |bits| f32::from_bits(bits as u32))?)
        }
        ValueKind::F64 => Values::F64(take_floats(input, mode, n, f64::from_le_bytes, f64::from_bits)?),
    })
}

fn take_ints<T: Number + TryFrom<i64>, const N: usize>(
    input: &mut Input<'_>,
    mode: u8,
    n: usize,
    from: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, CodecError> {
    if mode != NUMBERS {
        return take_any(input, mode, n, from);
    }
    let mut values = Vec::with_capacity(n);
    ints::take(input, n, |number| {
        let value = T::try_from(number).map_err(|_| damaged(format!("{number} is no value of {N} bytes")))?;
        values.push(value);
        Ok(())
    })?;
    Ok(values)
}

fn take_floats<T: Number, const N: usize>(
    input: &mut Input<'_>,
    mode: u8,
    n: usize,
    from: impl Fn([u8; N]) -> T,
    of_bits: impl Fn(u64) -> T,
) -> Result<Vec<T>, CodecError> {
    if mode != XOR {
        return take_any(input, mode, n, from);
    }
    let mut values = Vec::with_capacity(n);
    xor::take(input, n, 8 * N as u32, |bits| values.push(of_bits(bits)))?;
    Ok(values)
}

fn take_any<T: Number, const N: usize>(
    input: &mut Input<'_>,
    mode: u8,
    n: usize,
    from: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, CodecError> {
    match mode {
        RAW => {
            let (values, _) = input.slice(n * N, "values")?.as_chunks::<N>();
            Ok(values.iter().map(|&value| from(value)).collect())
        }
        PCO => take_pco(input, n).map_err(|error| damaged(error.to_string())),
        other => Err(CodecError::Unsupported { what: "value mode", found: other.into() }),
    }
}

fn take_pco<T: Number>(input: &mut Input<'_>, n: usize) -> pco::errors::PcoResult<Vec<T>> {
    let whole = input.rest();
    let (file, rest) = FileDecompressor::new(whole)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
    let mut page = chunk.page_decompressor(rest, n)?;
    let mut values = vec![T::default(); n];
    page.read(&mut values)?;
    let left = page.into_src().len();
    input.skip(whole.len() - left);
    Ok(values)
}

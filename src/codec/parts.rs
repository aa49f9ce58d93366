//! What stands around the values: their scaling, their times, their flags.

use super::input::{Input, put_signed, put_varint};
use super::ints;
use super::times::{Run, RunTimes};
use super::{CodecError, damaged};
use crate::sample::{Flags, Quality, Scaling};

const SCALING_NONE: u8 = 0;
const SCALING_DECIMAL: u8 = 1;
const SCALING_BINARY: u8 = 2;
const TIMES_ONE_RUN: u8 = 0;
const TIMES_RUNS: u8 = 1;
const TIMES_NUMBERS: u8 = 2;
/// Powers of ten up to this are exact in f64, so that a quotient by them is what a decimal number of that many digits is
/// read as.
const EXPONENT_MAX: u8 = 22;
/// Digits of a decimal: whole numbers up to 2^53 are exact.
const MANTISSA_MAX: f64 = 9_007_199_254_740_992.0;

/// Answers its code.
pub(super) fn put_scaling(out: &mut Vec<u8>, Scaling { scale, offset }: Scaling) -> u8 {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    if same(scale, 1.0) && same(offset, 0.0) {
        return SCALING_NONE;
    }
    if let (Some(scale), Some(offset)) = (decimal(scale), decimal(offset)) {
        for (mantissa, exponent) in [scale, offset] {
            put_signed(out, mantissa);
            out.push(exponent);
        }
        return SCALING_DECIMAL;
    }
    out.extend_from_slice(&scale.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    SCALING_BINARY
}

/// The shortest `m ÷ 10^e` that is the number to the bit, if it is one of up to 9 decimals.
fn decimal(value: f64) -> Option<(i64, u8)> {
    (0..=9).find_map(|exponent: u8| {
        let mantissa = (value * 10f64.powi(exponent.into())).round();
        let whole = mantissa.abs() <= MANTISSA_MAX;
        (whole && of_decimal(mantissa as i64, exponent).to_bits() == value.to_bits())
            .then_some((mantissa as i64, exponent))
    })
}

fn of_decimal(mantissa: i64, exponent: u8) -> f64 {
    mantissa as f64 / 10f64.powi(exponent.into())
}

pub(super) fn take_scaling(input: &mut Input<'_>, code: u8) -> Result<Scaling, CodecError> {
    match code {
        SCALING_NONE => Ok(Scaling::IDENTITY),
        SCALING_DECIMAL => {
            let mut number = || {
                let (mantissa, exponent) = (input.signed("scaling")?, input.u8("scaling")?);
                if exponent > EXPONENT_MAX {
                    return Err(damaged(format!("a scale over 10^{exponent}")));
                }
                Ok(of_decimal(mantissa, exponent))
            };
            Ok(Scaling { scale: number()?, offset: number()? })
        }
        SCALING_BINARY => {
            let scale = f64::from_le_bytes(input.take("scale")?);
            Ok(Scaling { scale, offset: f64::from_le_bytes(input.take("offset")?) })
        }
        other => Err(CodecError::Unsupported { what: "scaling", found: other.into() }),
    }
}

/// Answers their mode.
pub(super) fn put_times(out: &mut Vec<u8>, d0: i64, times: &RunTimes) -> u8 {
    let runs = times.runs();
    if let [] | [Run { count: 1, .. }] = runs {
        // The only one, if there is one, is d0.
        assert!(runs.iter().all(|run| run.t0_us == d0), "a chunk begins at its d0");
        put_varint(out, 0);
        return TIMES_ONE_RUN;
    }
    if let [run] = runs
        && run.t0_us == d0
    {
        put_varint(out, run.period_ns.into());
        return TIMES_ONE_RUN;
    }
    let start = out.len();
    put_varint(out, runs.len() as u64);
    let mut before = d0;
    for run in runs {
        put_signed(out, run.t0_us.wrapping_sub(before));
        put_varint(out, run.period_ns.into());
        put_varint(out, run.count.into());
        before = run.t0_us;
    }
    // Less than a bit a time: numbers would take as long to try as they could save.
    if (out.len() - start) * 8 <= times.len() {
        return TIMES_RUNS;
    }
    let after_d0 = |t: i64| {
        let after = t.checked_sub(d0).and_then(|after| u32::try_from(after).ok());
        i64::from(after.expect("a chunk's times lie within CHUNK_SPAN_US after its d0"))
    };
    let each: Vec<i64> = times.iter().map(after_d0).collect();
    let plan = ints::plan(each.iter().copied());
    if plan.bytes >= out.len() - start {
        return TIMES_RUNS;
    }
    out.truncate(start);
    ints::put(out, each.iter().copied(), &plan);
    TIMES_NUMBERS
}

pub(super) fn take_times(input: &mut Input<'_>, mode: u8, d0: i64, n: usize) -> Result<Vec<i64>, CodecError> {
    let mut times = Vec::with_capacity(n);
    match mode {
        TIMES_ONE_RUN => {
            let period_ns = input.varint_u32("period")?;
            push_run(&mut times, Run { t0_us: d0, period_ns, count: n as u32 }, n)?;
        }
        TIMES_RUNS => {
            let mut t0_us = d0;
            for _ in 0..input.varint("runs")? {
                t0_us = t0_us.checked_add(input.signed("runs")?).ok_or_else(beyond)?;
                let (period_ns, count) = (input.varint_u32("runs")?, input.varint_u32("runs")?);
                if count == 0 {
                    return Err(damaged("a run of no times".into()));
                }
                push_run(&mut times, Run { t0_us, period_ns, count }, n)?;
            }
            if times.len() != n {
                return Err(damaged(format!("its runs hold {} times for {n} samples", times.len())));
            }
        }
        TIMES_NUMBERS => ints::take(input, n, |after| {
            times.push(d0.checked_add(after).ok_or_else(beyond)?);
            Ok(())
        })?,
        other => return Err(CodecError::Unsupported { what: "time mode", found: other.into() }),
    }
    Ok(times)
}

fn push_run(times: &mut Vec<i64>, run: Run, n: usize) -> Result<(), CodecError> {
    if run.count as usize > n - times.len() {
        return Err(damaged(format!("its runs hold more than its {n} samples")));
    }
    // There the formula stands still; one time is exact everywhere.
    if run.count > 1 && run.last() == i64::MAX {
        return Err(beyond());
    }
    times.extend((0..run.count).map(|index| run.at(index)));
    Ok(())
}

fn beyond() -> CodecError {
    damaged("a time is beyond the end of time".into())
}

/// Exactly covering `n` samples: what is short is good, what is too long is cut.
pub(super) fn put_flags(out: &mut Vec<u8>, flags: &Flags, n: usize) {
    let mut runs: Vec<(usize, Quality)> = Vec::new();
    let mut left = n;
    let given = flags.runs().iter().map(|&(count, quality)| (count as usize, quality));
    for (count, quality) in given.chain(std::iter::once((n, Quality::GOOD))) {
        let count = count.min(left);
        if count > 0 {
            runs.push((count, quality));
            left -= count;
        }
    }
    put_varint(out, runs.len() as u64);
    for (count, quality) in runs {
        put_varint(out, count as u64);
        put_varint(out, quality.0.into());
    }
}

pub(super) fn take_flags(input: &mut Input<'_>, n: usize) -> Result<Flags, CodecError> {
    let mut flags = Flags::default();
    let mut covered = 0;
    for _ in 0..input.varint("flags")? {
        let count = input.varint_u32("flags")? as usize;
        let quality = input.varint("flags")?;
        let quality = u16::try_from(quality).map_err(|_| damaged(format!("flags {quality}, beyond 16 bits")))?;
        if count == 0 || count > n - covered {
            return Err(damaged(format!("a run of {count} flags after {covered} of {n} samples")));
        }
        flags.push(Quality(quality), count, covered);
        covered += count;
    }
    if covered != n {
        return Err(damaged(format!("flags for {covered} of {n} samples")));
    }
    Ok(flags)
}

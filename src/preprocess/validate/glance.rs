//! Whether anything can be wrong with a column, in a few passes over its slices.
//!
//! `physical = raw × scale + offset` is monotonic in `raw` even as rounded in f64, so a column of integers is in
//! range exactly if its smallest and its largest value are. For steps between integers the bound is drawn a little
//! too tight, by more than rounding can make up: what lies between is left to the closer look.

use super::Checks;
use super::judge::{Clock, State, Verdict, within_rate};
use crate::preprocess::dedup::increases;
use crate::sample::{Column, Scaling, Times, Values};

/// Whether nothing is wrong for sure; `state` then knows of the column.
pub(super) fn is_good(checks: &Checks, state: &mut State, column: &Column, clock: Option<Clock>) -> bool {
    if !in_range(checks, &column.values, column.channel.scaling) {
        return false;
    }
    let last = column.len() - 1;
    let (first_us, last_us) = (column.times.at(0), column.times.at(last));
    let dated = clock.filter(|_| checks.ahead_us.is_some() || checks.behind_us.is_some());
    if dated.is_none() && !checks.remembers() {
        return true;
    }
    let on_time = |t_us: i64| dated.is_none_or(|clock| clock.verdict(checks, t_us) == Verdict::GOOD);
    if !increases(&column.times) || !on_time(first_us) || !on_time(last_us) {
        return false;
    }
    if !checks.remembers() {
        return true;
    }
    let newer = state.newest_us.is_none_or(|newest_us| first_us > newest_us);
    if !newer || !no_gap(checks, state, column, first_us) || !moves(checks, state, column, first_us, last_us) {
        return false;
    }
    if let Some(rate_per_us) = checks.rate_per_us {
        let first = (first_us, column.physical(0));
        let begins = state.good.is_none_or(|good| within_rate(rate_per_us, good, first));
        if !begins || !steps_within(rate_per_us, column) {
            return false;
        }
        state.good = Some((last_us, column.physical(last)));
    }
    if checks.stuck_us.is_some() {
        state.still = Some(still_at_end(state, column));
    }
    if checks.gap.is_some() && (state.newest_us.is_some() || last > 0) {
        state.period.fitted();
    }
    (state.newest_us, state.astray) = (Some(last_us), 0);
    true
}

fn in_range(checks: &Checks, values: &Values, scaling: Scaling) -> bool {
    // `all` would stop at the first that fails and cannot be vectorised.
    let good = |raw: f64| checks.in_range(scaling.physical(raw));
    match values {
        Values::I16(v) => extremes(v).is_none_or(|(low, high)| good(low.into()) && good(high.into())),
        Values::I32(v) => extremes(v).is_none_or(|(low, high)| good(low.into()) && good(high.into())),
        Values::F32(v) => v.iter().fold(true, |all, &raw| all & good(raw.into())),
        Values::F64(v) => v.iter().fold(true, |all, &raw| all & good(raw)),
    }
}

fn extremes<T: Copy + Ord>(values: &[T]) -> Option<(T, T)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(low, high), &v| (low.min(v), high.max(v))))
}

fn no_gap(checks: &Checks, state: &State, column: &Column, first_us: i64) -> bool {
    let Some(gap) = checks.gap else { return true };
    let fits = |interval_us: i64| state.period.fits(gap, interval_us);
    let inner = match &column.times {
        Times::Regular { count: 0..=1, .. } => true,
        // Rounded down to whole µs, two of them lie one period apart or one µs more.
        Times::Regular { period_ns, .. } => fits((period_ns / 1000).into()) && fits(period_ns.div_ceil(1000).into()),
        Times::Explicit(times) => times.windows(2).all(|pair| fits(pair[1].saturating_sub(pair[0]))),
    };
    inner && state.newest_us.is_none_or(|newest_us| fits(first_us.saturating_sub(newest_us)))
}

/// Whether no value can have been the same for too long.
fn moves(checks: &Checks, state: &State, column: &Column, first_us: i64, last_us: i64) -> bool {
    let Some(stuck_us) = checks.stuck_us else { return true };
    let led_us = state.still.filter(|(bits, _)| *bits == column.values.raw(0).to_bits()).map(|(bits, since_us)| {
        let same = |&index: &usize| column.values.raw(index).to_bits() == bits;
        let led = (0..column.len()).take_while(same).count();
        column.times.at(led - 1).saturating_sub(since_us)
    });
    led_us.is_none_or(|led_us| led_us < stuck_us) && last_us.saturating_sub(first_us) < stuck_us
}

/// The bits of the last raw value, and since when it has been the same.
fn still_at_end(state: &State, column: &Column) -> (u64, i64) {
    let bits = column.values.raw(column.len() - 1).to_bits();
    let start = (0..column.len()).rev().take_while(|&index| column.values.raw(index).to_bits() == bits).last();
    let start = start.unwrap_or(column.len() - 1);
    let before = state.still.filter(|(before, _)| start == 0 && *before == bits);
    (bits, before.map_or_else(|| column.times.at(start), |(_, since_us)| since_us))
}

/// Whether all steps within the column are possible for sure.
fn steps_within(rate_per_us: f64, column: &Column) -> bool {
    let (scaling, len) = (column.channel.scaling, column.len());
    let Times::Regular { period_ns, .. } = column.times else {
        let sample = |index: usize| (column.times.at(index), column.physical(index));
        return (1..len).all(|index| within_rate(rate_per_us, sample(index - 1), sample(index)));
    };
    // The shortest interval between two times that are rounded down to whole µs.
    let step_max = rate_per_us * f64::from(period_ns / 1000);
    match &column.values {
        Values::I16(v) => {
            let step = pairs(v).fold(0, |most: u16, (a, b)| most.max(a.abs_diff(b)));
            let most = v.iter().fold(0, |most: u16, v| most.max(v.unsigned_abs()));
            integer_step_within(step.into(), most.into(), step_max, scaling)
        }
        Values::I32(v) => {
            let step = pairs(v).fold(0, |most: u32, (a, b)| most.max(a.abs_diff(b)));
            let most = v.iter().fold(0, |most: u32, v| most.max(v.unsigned_abs()));
            integer_step_within(step, most, step_max, scaling)
        }
        Values::F32(v) => {
            let step = |a: f32, b: f32| (scaling.physical(b.into()) - scaling.physical(a.into())).abs();
            pairs(v).fold(true, |all, (a, b)| all & (step(a, b) <= step_max))
        }
        Values::F64(v) => {
            let step = |a: f64, b: f64| (scaling.physical(b) - scaling.physical(a)).abs();
            pairs(v).fold(true, |all, (a, b)| all & (step(a, b) <= step_max))
        }
    }
}

fn pairs<T: Copy>(values: &[T]) -> impl Iterator<Item = (T, T)> + '_ {
    values.iter().zip(values.get(1..).unwrap_or_default()).map(|(a, b)| (*a, *b))
}

/// Whether the largest step is possible, whatever rounding does: each physical value is off by less than
/// 3 × 2⁻⁵³ of `|raw × scale| + |offset|`, and the bounds of the closer look by 2⁻⁵² of themselves.
fn integer_step_within(step: u32, most: u32, step_max: f64, scaling: Scaling) -> bool {
    let (scale, offset) = (scaling.scale.abs(), scaling.offset.abs());
    let off = (f64::from(most) * scale + offset) * 1e-14;
    f64::from(step) * scale + off <= step_max * (1.0 - 1e-9)
}

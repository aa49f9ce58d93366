//! Whole numbers as differences of an order from 0 to 3, each above the smallest of them, in as many bits as the largest
//! needs.
//!
//! ```text
//! u8     order (2 bits), width (6 bits), 0 to 40
//! order × signed: the first value, the first difference, the first difference of differences
//! signed the smallest of what follows; absent if nothing does
//! (n − order) × width bits, above the smallest
//! ```
//! A constant takes width 0 at order 0, a ramp at order 1, what bends little few bits at order 2 or 3: for as few samples
//! as a chunk of a slow channel has that is what a general compressor reaches, and costs some ns a value.

use super::bits::{BitReader, BitWriter};
use super::input::{Input, put_signed, signed_bytes};
use super::{CodecError, damaged};

const ORDERS: usize = 4;
/// Differences of the third order of 33-bit numbers take 36 bits.
const WIDTH_MAX: u32 = 40;

/// How numbers will be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Of the differences.
    pub(super) order: usize,
    width: u32,
    heads: [i64; ORDERS - 1],
    least: i64,
    /// What it will take.
    pub(super) bytes: usize,
}

/// One step: each value becomes the difference to the one before, then that of differences, and so on.
#[derive(Default)]
struct Ladder {
    last: [i64; ORDERS],
}

impl Ladder {
    /// The value and its differences of each order; those of an order above its index mean nothing.
    fn climb(&mut self, value: i64) -> [i64; ORDERS] {
        let mut rung = [value, 0, 0, 0];
        for order in 1..ORDERS {
            rung[order] = rung[order - 1].wrapping_sub(self.last[order - 1]);
        }
        self.last = rung;
        rung
    }
}

/// The shortest way to write numbers of 33 bits at most.
pub(super) fn plan(values: impl ExactSizeIterator<Item = i64>) -> Plan {
    let n = values.len();
    let (mut least, mut most) = ([i64::MAX; ORDERS], [i64::MIN; ORDERS]);
    let (mut ladder, mut heads) = (Ladder::default(), [0; ORDERS - 1]);
    for (index, value) in values.enumerate() {
        let rung = ladder.climb(value);
        if index < ORDERS - 1 {
            heads[index] = rung[index];
        }
        for order in 0..ORDERS.min(index + 1) {
            least[order] = least[order].min(rung[order]);
            most[order] = most[order].max(rung[order]);
        }
    }
    let of_order = |order: usize| {
        let rest = n.saturating_sub(order);
        let head_bytes: usize = heads[..order.min(n)].iter().map(|&head| signed_bytes(head)).sum();
        let (least, width) = match rest {
            0 => (0, 0),
            _ => (least[order], 64 - most[order].abs_diff(least[order]).leading_zeros()),
        };
        let least_bytes = if rest == 0 { 0 } else { signed_bytes(least) };
        let bytes = 1 + head_bytes + least_bytes + (rest * width as usize).div_ceil(8);
        Plan { order, width, heads, least, bytes }
    };
    let plans = (0..ORDERS.min(n.max(1))).map(of_order);
    plans.min_by_key(|plan| plan.bytes).unwrap_or_else(|| of_order(0))
}

/// Writes the numbers for which the plan was made.
pub(super) fn put(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = i64>, plan: &Plan) {
    let Plan { order, width, heads, least, .. } = *plan;
    debug_assert!(width <= WIDTH_MAX);
    out.push(order as u8 | (width as u8) << 2);
    let n = values.len();
    heads[..order.min(n)].iter().for_each(|&head| put_signed(out, head));
    if n <= order {
        return;
    }
    put_signed(out, least);
    if width == 0 {
        return;
    }
    let (mut ladder, mut bits) = (Ladder::default(), BitWriter::new(out));
    for (index, value) in values.enumerate() {
        let rung = ladder.climb(value);
        if index >= order {
            bits.put(rung[order].abs_diff(least), width);
        }
    }
    bits.finish();
}

/// Reads `n` numbers, each given to `each`, which may refuse it.
///
/// # Errors
/// If they are not in the format, or one is refused.
pub(super) fn take(
    input: &mut Input<'_>,
    n: usize,
    mut each: impl FnMut(i64) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let head = input.u8("numbers")?;
    let (order, width) = (usize::from(head & 3), u32::from(head >> 2));
    if width > WIDTH_MAX {
        return Err(damaged(format!("numbers of {width} bits")));
    }
    // The last of each order, to be added up.
    let mut sums = [0i64; ORDERS];
    let heads = order.min(n);
    for index in 0..heads {
        let mut value = input.signed("numbers")?;
        sums[index] = value;
        for below in (0..index).rev() {
            value = sums[below].wrapping_add(value);
            sums[below] = value;
        }
        each(value)?;
    }
    if n <= order {
        return Ok(());
    }
    let least = input.signed("numbers")?;
    let mut bits = BitReader::new(input.rest());
    for _ in heads..n {
        let mut value = least.wrapping_add(bits.take(width).cast_signed());
        for below in (0..order).rev() {
            value = sums[below].wrapping_add(value);
            sums[below] = value;
        }
        if bits.overran() {
            break;
        }
        each(value)?;
    }
    bits.finish(input)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(values: &[i64]) -> Vec<u8> {
        let plan = plan(values.iter().copied());
        let mut out = Vec::new();
        put(&mut out, values.iter().copied(), &plan);
        assert_eq!(out.len(), plan.bytes, "as planned: {plan:?}");
        out
    }

    fn unpacked(data: &[u8], n: usize) -> Vec<i64> {
        let (mut input, mut values) = (Input::new(data), Vec::new());
        take(&mut input, n, |value| {
            values.push(value);
            Ok(())
        })
        .unwrap();
        assert_eq!(input.left(), 0);
        values
    }

    #[test]
    fn what_is_constant_straight_or_bent_takes_the_order_that_suits_it() {
        assert_eq!(packed(&[7; 50]), [0, 14]);
        let ramp: Vec<i64> = (0..50).map(|i| 100 + 3 * i).collect();
        assert_eq!(packed(&ramp), [1, 0xC8, 1, 6]);
        let bent: Vec<i64> = (0..50).map(|i| i * i).collect();
        assert_eq!(packed(&bent), [2, 0, 2, 4]);
        assert_eq!(packed(&[]), [0]);
        assert_eq!(packed(&[-3]), [0, 5]);
        assert_eq!(packed(&[0, 1, 0, 1, 1, 0, 0, 1]), [1 << 2, 0, 0b1001_1010]);
    }

    proptest! {
        #[test]
        fn numbers_come_back(
            values in prop::collection::vec(any::<i32>(), 0..200),
            shift in 0u32..32,
            summed in 0usize..3,
        ) {
            let mut values: Vec<i64> = values.into_iter().map(|value| i64::from(value >> shift)).collect();
            for _ in 0..summed {
                let mut sum = 0;
                for value in &mut values {
                    sum = (sum + *value).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
                    *value = sum;
                }
            }
            let data = packed(&values);
            prop_assert_eq!(unpacked(&data, values.len()), values);
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..60), n in 0usize..100) {
            let mut count = 0;
            let read = take(&mut Input::new(&data), n, |_| { count += 1; Ok(()) });
            prop_assert!(count == n || read.is_err());
        }
    }
}

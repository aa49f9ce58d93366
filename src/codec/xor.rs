//! Floats by what differs from the one before (Pelkonen et al., *Gorilla*, VLDB 2015, section 4.1.2), bits from the lowest
//! up. Exact for every bit pattern.
//!
//! ```text
//! the first value as it is; then for each, x = its bits xor those before:
//!   0                                x = 0
//!   1 0  bits                        x fits where the last x stood: only the bits of that place
//!   1 1  zeros L  length − 1  bits   a place of its own: zeros above it (5 bits, at most 31), its length (5 or 6 bits)
//! ```

use super::bits::{BitReader, BitWriter};
use super::input::Input;
use super::{CodecError, damaged};

/// Zeros above a place are counted up to this.
const ZEROS_MAX: u32 = 31;
const ZEROS_BITS: u32 = 5;

/// Where bits of a value stand that is `width` wide: `zeros` above, `length` of them.
#[derive(Clone, Copy)]
struct Place {
    zeros: u32,
    length: u32,
}

impl Place {
    fn shift(self, width: u32) -> u32 {
        width - self.zeros - self.length
    }
}

/// Bits of a length, less one: 31 or 63 at most.
const fn length_bits(width: u32) -> u32 {
    width.trailing_zeros()
}

/// Writes bit patterns that are `width` (32 or 64) wide.
pub(super) fn put(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: u32) {
    let (mut before, mut place) = (None, None::<Place>);
    let mut bits = BitWriter::new(out);
    for value in values {
        let Some(last) = before.replace(value) else {
            bits.put_wide(value, width);
            continue;
        };
        let x = value ^ last;
        if x == 0 {
            bits.put(0, 1);
            continue;
        }
        let zeros = (x.leading_zeros() - (64 - width)).min(ZEROS_MAX);
        let trailing = x.trailing_zeros();
        let own = Place { zeros, length: width - zeros - trailing };
        let new_costs = ZEROS_BITS + length_bits(width) + own.length;
        match place.filter(|old| zeros >= old.zeros && trailing >= old.shift(width) && old.length <= new_costs) {
            Some(old) => {
                bits.put(0b01, 2);
                bits.put_wide(x >> old.shift(width), old.length);
            }
            None => {
                bits.put(0b11, 2);
                bits.put(u64::from(zeros), ZEROS_BITS);
                bits.put(u64::from(own.length - 1), length_bits(width));
                bits.put_wide(x >> trailing, own.length);
                place = Some(own);
            }
        }
    }
    bits.finish();
}

/// Reads `n` of them.
///
/// # Errors
/// If they are not in the format.
pub(super) fn take(input: &mut Input<'_>, n: usize, width: u32, mut each: impl FnMut(u64)) -> Result<(), CodecError> {
    let mut bits = BitReader::new(input.rest());
    let (mut last, mut place) = (0, None::<Place>);
    for index in 0..n {
        if index == 0 {
            last = bits.take_wide(width);
        } else if bits.take(1) == 1 {
            let here = if bits.take(1) == 1 {
                let zeros = bits.take(ZEROS_BITS) as u32;
                Place { zeros, length: bits.take(length_bits(width)) as u32 + 1 }
            } else {
                place.ok_or_else(|| damaged("a value stands in the place of none".into()))?
            };
            if here.zeros + here.length > width {
                return Err(damaged(format!("{} bits below {} of {width}", here.length, here.zeros)));
            }
            last ^= bits.take_wide(here.length) << here.shift(width);
            place = Some(here);
        }
        if bits.overran() {
            break;
        }
        each(last);
    }
    bits.finish(input)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_repeats_costs_a_bit_and_what_changes_its_place() {
        let bits = |values: &[f64]| {
            let mut out = Vec::new();
            put(&mut out, values.iter().map(|v| v.to_bits()), 64);
            out.len()
        };
        assert_eq!(bits(&[]), 0);
        assert_eq!(bits(&[1.5; 41]), 8 + 5);
        // 12.0 ^ 24.0 = 1 << 52: 11 zeros, one bit.
        assert_eq!(bits(&[12.0, 24.0]), 8 + 2);
    }

    proptest! {
        #[test]
        fn every_bit_pattern_comes_back(
            values in prop::collection::vec(prop_oneof![any::<u64>(), (0u64..4).prop_map(|v| v << 50), Just(0)], 0..100),
            narrow in any::<bool>(),
        ) {
            let width = if narrow { 32 } else { 64 };
            let values: Vec<u64> = values.into_iter().map(|v| if narrow { v >> 32 } else { v }).collect();
            let mut out = Vec::new();
            put(&mut out, values.iter().copied(), width);
            let (mut input, mut found) = (Input::new(&out), Vec::new());
            take(&mut input, values.len(), width, |value| found.push(value)).unwrap();
            prop_assert_eq!((found, input.left()), (values, 0));
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..60), n in 0usize..100) {
            let mut count = 0;
            let read = take(&mut Input::new(&data), n, 64, |_| count += 1);
            prop_assert!(count == n || read.is_err());
        }
    }
}

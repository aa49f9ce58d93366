//! Bits in a row, the lowest of each byte first, as NumPy's `unpackbits(…, bitorder="little")` reads them.

use super::input::Input;
use super::{CodecError, damaged};

/// Writes bits behind what is there.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that do not fill a byte yet, fewer than 8 between two calls.
    held: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, count: 0 }
    }

    /// Writes the lowest `width` bits of `value`, at most 56.
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        debug_assert!(width <= 56 && (width == 56 || value >> width == 0));
        self.held |= value << self.count;
        self.count += width;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Writes `width` bits, up to 64.
    pub(crate) fn put_wide(&mut self, value: u64, width: u32) {
        if width <= 32 {
            return self.put(value, width);
        }
        self.put(value & 0xFFFF_FFFF, 32);
        self.put(value >> 32, width - 32);
    }

    /// Fills the last byte with zeros.
    pub(crate) fn finish(self) {
        if self.count > 0 {
            self.out.push(self.held as u8);
        }
    }
}

/// Reads what [`BitWriter`] wrote.
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, held: 0, count: 0 }
    }

    /// The next `width` bits, at most 56. Behind the end there are zeros: see [`Self::overran`].
    pub(super) fn take(&mut self, width: u32) -> u64 {
        while self.count < width {
            self.held |= u64::from(self.data.get(self.at).copied().unwrap_or(0)) << self.count;
            self.at += 1;
            self.count += 8;
        }
        let value = self.held & ((1 << width) - 1);
        self.held >>= width;
        self.count -= width;
        value
    }

    /// The next `width` bits, up to 64.
    pub(super) fn take_wide(&mut self, width: u32) -> u64 {
        if width <= 32 {
            return self.take(width);
        }
        let low = self.take(32);
        low | self.take(width - 32) << 32
    }

    /// Whether more was taken than there was.
    pub(super) const fn overran(&self) -> bool {
        self.at > self.data.len()
    }

    /// Ends the reading: the bytes that were begun belong to it, and what is left of the last one is zero.
    pub(super) fn finish(self, input: &mut Input<'_>) -> Result<(), CodecError> {
        if self.overran() {
            return Err(damaged("it ends within its values".into()));
        }
        if self.held != 0 {
            return Err(damaged("bits are set behind its values".into()));
        }
        input.skip(self.at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_bit_comes_first() {
        let mut out = Vec::new();
        let mut bits = BitWriter::new(&mut out);
        bits.put(0b1, 1);
        bits.put(0b10, 2);
        bits.put(0b1_0000_0001, 9);
        bits.finish();
        assert_eq!(out, [0b0000_1101, 0b0000_1000]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(values in prop::collection::vec((any::<u64>(), 0u32..=64), 0..80)) {
            let cut = |(value, width): (u64, u32)| if width == 64 { value } else { value & ((1 << width) - 1) };
            let mut out = Vec::new();
            let mut bits = BitWriter::new(&mut out);
            values.iter().for_each(|&(value, width)| bits.put_wide(cut((value, width)), width));
            bits.finish();
            let mut bits = BitReader::new(&out);
            for &(value, width) in &values {
                prop_assert_eq!(bits.take_wide(width), cut((value, width)));
            }
            let mut input = Input::new(&out);
            prop_assert!(bits.finish(&mut input).is_ok());
            prop_assert_eq!(input.left(), 0);
        }
    }
}

//! Bytes that are read from the front, and numbers of as many bytes as they need.

use super::{CodecError, damaged};

/// What is left of a row's data.
pub(super) struct Input<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub(super) const fn left(&self) -> usize {
        self.data.len() - self.at
    }

    /// All that is left, without taking it.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.data[self.at..]
    }

    /// Takes so many of the bytes that are left, or all.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes.min(self.left());
    }

    pub(super) fn slice(&mut self, bytes: usize, what: &str) -> Result<&'a [u8], CodecError> {
        let end = self.at.saturating_add(bytes);
        let slice = self.data.get(self.at..end);
        let slice = slice.ok_or_else(|| damaged(format!("it ends after {} bytes, within its {what}", self.data.len())));
        self.at = end.min(self.data.len());
        slice
    }

    pub(super) fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], CodecError> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N, what)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, CodecError> {
        Ok(u8::from_le_bytes(self.take(what)?))
    }

    /// LEB128: seven bits a byte, the lowest first, the highest bit says that more follow; in its shortest form.
    pub(super) fn varint(&mut self, what: &str) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(damaged(format!("its {what} is a number that is too long")));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged(format!("its {what} is a number that is too long")))
    }

    /// A varint that may be negative: 0, -1, 1, -2, …
    pub(super) fn signed(&mut self, what: &str) -> Result<i64, CodecError> {
        let value = self.varint(what)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A varint that fits 32 bits.
    pub(super) fn varint_u32(&mut self, what: &str) -> Result<u32, CodecError> {
        let value = self.varint(what)?;
        u32::try_from(value).map_err(|_| damaged(format!("its {what} is {value}, beyond 32 bits")))
    }
}

/// See [`Input::varint`].
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// See [`Input::signed`].
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// Bytes of a number as [`put_signed`] writes it.
pub(super) const fn signed_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_the_bytes_of_the_format_and_one_form_only() {
        let mut out = Vec::new();
        [0u64, 127, 128, 300].into_iter().for_each(|value| put_varint(&mut out, value));
        [0i64, -1, 1, -64, 64].into_iter().for_each(|value| put_signed(&mut out, value));
        assert_eq!(out, [0, 127, 0x80, 1, 0xAC, 2, 0, 1, 2, 127, 0x80, 1]);
        assert!(Input::new(&[0x80, 0]).varint("n").is_err(), "0 in two bytes");
        assert!(Input::new(&[0xFF; 10]).varint("n").is_err(), "beyond 64 bits");
        assert!(Input::new(&[0x80]).varint("n").is_err(), "it ends");
    }

    proptest! {
        #[test]
        fn numbers_come_back(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_signed(&mut out, value.cast_signed());
            let mut input = Input::new(&out);
            prop_assert_eq!(input.varint("n").unwrap(), value);
            let before = input.left();
            prop_assert_eq!(input.signed("n").unwrap(), value.cast_signed());
            prop_assert_eq!((before, input.left()), (signed_bytes(value.cast_signed()), 0));
        }
    }
}

//! Raw values: single ones, and columns of one kind that are read in place.

use crate::codec::Out;
use crate::error::EncodeError;

/// How a channel's raw values are sent. Physical value = raw × scale + offset, in `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// IEEE 754, 32 bits.
    F32,
}

impl ValueKind {
    /// Bytes of one value.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::I16 => 1,
            Self::I32 => 2,
            Self::F32 => 3,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::I16),
            2 => Some(Self::I32),
            3 => Some(Self::F32),
            _ => None,
        }
    }
}

/// One raw value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// See [`ValueKind::I16`].
    I16(i16),
    /// See [`ValueKind::I32`].
    I32(i32),
    /// See [`ValueKind::F32`].
    F32(f32),
}

impl Value {
    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> ValueKind {
        match self {
            Self::I16(_) => ValueKind::I16,
            Self::I32(_) => ValueKind::I32,
            Self::F32(_) => ValueKind::F32,
        }
    }

    /// The raw value as `f64`: exact for every kind.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::I16(v) => f64::from(v),
            Self::I32(v) => f64::from(v),
            Self::F32(v) => f64::from(v),
        }
    }

    pub(crate) fn write(self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        match self {
            Self::I16(v) => out.put(v),
            Self::I32(v) => out.put(v),
            Self::F32(v) => out.put(v),
        }
    }

    /// Bits and kind, so that NaN equals itself.
    fn bits(self) -> (ValueKind, u32) {
        let bits = match self {
            Self::I16(v) => v as u32,
            Self::I32(v) => v as u32,
            Self::F32(v) => v.to_bits(),
        };
        (self.kind(), bits)
    }
}

/// Values of one kind: a slice when a frame is made, a view into the frame when it was decoded.
///
/// Two of them are equal when kind, length and all bits are equal, whatever they are made of.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Native integers of 16 bits.
    I16(&'a [i16]),
    /// Native integers of 32 bits.
    I32(&'a [i32]),
    /// Native floats.
    F32(&'a [f32]),
    /// Values in a frame.
    Wire(WireValues<'a>),
}

/// Little-endian values in a frame, one every `stride` bytes. Made by decoding only.
#[derive(Debug, Clone, Copy)]
pub struct WireValues<'a> {
    kind: ValueKind,
    stride: usize,
    count: usize,
    /// Begins with the first value; the last value lies wholly inside.
    bytes: &'a [u8],
}

impl<'a> WireValues<'a> {
    /// `None` if the last value would not lie inside `bytes`.
    pub(crate) fn new(kind: ValueKind, stride: usize, count: usize, bytes: &'a [u8]) -> Option<Self> {
        let needed = match count {
            0 => 0,
            n => (n - 1).checked_mul(stride)?.checked_add(kind.bytes())?,
        };
        let fits = stride >= kind.bytes() && bytes.len() >= needed;
        fits.then_some(Self { kind, stride, count, bytes })
    }

    fn chunks<const N: usize>(self) -> impl ExactSizeIterator<Item = [u8; N]> + Clone + 'a {
        debug_assert_eq!(N, self.kind.bytes());
        (0..self.count).map(move |i| {
            let mut value = [0; N];
            value.copy_from_slice(&self.bytes[i * self.stride..][..N]);
            value
        })
    }
}

/// One of two iterators over the same items.
#[derive(Clone)]
enum Either<A, B> {
    Native(A),
    Wire(B),
}

impl<T, A: ExactSizeIterator<Item = T>, B: ExactSizeIterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::Native(a) => a.next(),
            Self::Wire(b) => b.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Native(a) => a.size_hint(),
            Self::Wire(b) => b.size_hint(),
        }
    }
}

impl<T, A: ExactSizeIterator<Item = T>, B: ExactSizeIterator<Item = T>> ExactSizeIterator for Either<A, B> {}

impl<'a> Values<'a> {
    /// Their kind.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::I16(_) => ValueKind::I16,
            Self::I32(_) => ValueKind::I32,
            Self::F32(_) => ValueKind::F32,
            Self::Wire(w) => w.kind,
        }
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Wire(w) => w.count,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, if they are [`ValueKind::I16`].
    #[must_use]
    pub fn i16s(&self) -> Option<impl ExactSizeIterator<Item = i16> + Clone + 'a> {
        match *self {
            Self::I16(v) => Some(Either::Native(v.iter().copied())),
            Self::Wire(w) if w.kind == ValueKind::I16 => Some(Either::Wire(w.chunks().map(i16::from_le_bytes))),
            _ => None,
        }
    }

    /// The values, if they are [`ValueKind::I32`].
    #[must_use]
    pub fn i32s(&self) -> Option<impl ExactSizeIterator<Item = i32> + Clone + 'a> {
        match *self {
            Self::I32(v) => Some(Either::Native(v.iter().copied())),
            Self::Wire(w) if w.kind == ValueKind::I32 => Some(Either::Wire(w.chunks().map(i32::from_le_bytes))),
            _ => None,
        }
    }

    /// The values, if they are [`ValueKind::F32`].
    #[must_use]
    pub fn f32s(&self) -> Option<impl ExactSizeIterator<Item = f32> + Clone + 'a> {
        match *self {
            Self::F32(v) => Some(Either::Native(v.iter().copied())),
            Self::Wire(w) if w.kind == ValueKind::F32 => Some(Either::Wire(w.chunks().map(f32::from_le_bytes))),
            _ => None,
        }
    }

    /// The value at `i`.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<Value> {
        match self {
            Self::I16(v) => v.get(i).copied().map(Value::I16),
            Self::I32(v) => v.get(i).copied().map(Value::I32),
            Self::F32(v) => v.get(i).copied().map(Value::F32),
            Self::Wire(w) if i < w.count => {
                let at = w.bytes.get(i * w.stride..)?;
                Some(match w.kind {
                    ValueKind::I16 => Value::I16(i16::from_le_bytes(*at.first_chunk()?)),
                    ValueKind::I32 => Value::I32(i32::from_le_bytes(*at.first_chunk()?)),
                    ValueKind::F32 => Value::F32(f32::from_le_bytes(*at.first_chunk()?)),
                })
            }
            Self::Wire(_) => None,
        }
    }

    /// All values, whatever their kind. Column code wants [`i16s`](Self::i16s) and its sisters.
    pub fn iter(&self) -> impl Iterator<Item = Value> + 'a {
        let values = *self;
        (0..values.len()).filter_map(move |i| values.get(i))
    }

    /// The values' bytes, little-endian and without gaps, where they lie so in a frame.
    #[must_use]
    pub fn raw(&self) -> Option<&'a [u8]> {
        match self {
            Self::Wire(w) if w.stride == w.kind.bytes() => w.bytes.get(..w.count * w.stride),
            _ => None,
        }
    }

    pub(crate) fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        match self.raw() {
            Some(bytes) => out.put_bytes(bytes),
            None => self.iter().try_for_each(|value| value.write(out)),
        }
    }
}

impl PartialEq for Values<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind()
            && self.len() == other.len()
            && self.iter().zip(other.iter()).all(|(a, b)| a.bits() == b.bits())
    }
}

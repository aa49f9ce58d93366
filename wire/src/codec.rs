//! bincode, wrapped: the only module that knows it.
//!
//! Version 1 of the wire is bincode 2 with fixed-width little-endian integers and nothing else, so
//! a field's bytes are its bytes in memory on a little-endian machine. Lengths are written by hand
//! as `u8` or `u16`, because bincode's own would be `u64`. What varies in length is a slice of the
//! frame, never a copy. Another serializer with the same bytes can take this module's place.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{BorrowDecode, Encode};

use crate::error::{DecodeError, EncodeError};
use crate::limits::FRAME_BYTES_MAX;

// The limit binds nothing that the slice does not bind already; it is the second line.
const CONFIG: Configuration<LittleEndian, Fixint, Limit<FRAME_BYTES_MAX>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<FRAME_BYTES_MAX>();

/// Writes fields one after another into a buffer.
pub(crate) struct Out<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Out<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Everything written so far.
    pub(crate) fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    pub(crate) fn put<T: Encode>(&mut self, value: T) -> Result<(), EncodeError> {
        let free = &mut self.buffer[self.len..];
        let n = bincode::encode_into_slice(value, free, CONFIG).map_err(|_| EncodeError::BufferFull)?;
        self.len += n;
        Ok(())
    }

    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.len + bytes.len();
        self.buffer.get_mut(self.len..end).ok_or(EncodeError::BufferFull)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// A string with its length as `u8`; `field` names it in the error.
    pub(crate) fn put_str8(&mut self, text: &str, field: &'static str) -> Result<(), EncodeError> {
        let len = u8::try_from(text.len()).map_err(|_| EncodeError::Field(field))?;
        self.put(len)?;
        self.put_bytes(text.as_bytes())
    }
}

/// Reads fields one after another from a frame.
#[derive(Clone)]
pub(crate) struct In<'a> {
    rest: &'a [u8],
}

impl<'a> In<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take<T: BorrowDecode<'a, ()>>(&mut self) -> Result<T, DecodeError> {
        // Only fixed-width numbers come this way, so the one thing that can go wrong is the end.
        let (value, n) = bincode::borrow_decode_from_slice(self.rest, CONFIG).map_err(|_| DecodeError::Overrun)?;
        self.rest = &self.rest[n..];
        Ok(value)
    }

    pub(crate) fn take_bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Overrun)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A string with its length as `u8`; `field` names it in the error.
    pub(crate) fn take_str8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let len: u8 = self.take()?;
        let bytes = self.take_bytes(usize::from(len))?;
        core::str::from_utf8(bytes).map_err(|_| DecodeError::Field(field))
    }
}

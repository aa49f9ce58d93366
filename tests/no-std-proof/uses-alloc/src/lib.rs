//! Uses alloc, not std.
#![no_std]
extern crate alloc;

/// Allocates.
pub fn bytes() -> alloc::vec::Vec<u8> {
    alloc::vec![1, 2, 3]
}

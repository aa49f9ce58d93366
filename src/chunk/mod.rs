//! Samples to chunk rows and back.
//!
//! Pure: no I/O, no clock of its own.

pub mod codec;
mod times;

pub use times::{Run, RunTimes};

//! Samples to chunk rows and back.
//!
//! The stage gathers the samples of each device and boot; when the oldest has waited for `flush_after`
//! everything of that device closes together and becomes one [`Flush`] per partition: one atomic write.
//! A channel's chunk also closes at a second of device time, at its bucket's edge, when the channel's
//! description changes and at its size bound; a change of boot is another device to this stage.
//!
//! Pure: no I/O, and no clock of its own: an item says when it came, and the gateway that is handed in what UTC that was.

mod bucket;
mod build;
mod clocks;
pub mod codec;
mod open;
mod times;

pub use bucket::{bucket_length_us, bucket_of};
pub use build::{Chunk, Flush, Outgoing, Setup};
pub use clocks::{KnownClock, Pairing, RememberClock};
pub use times::{Run, RunTimes};

#[cfg(test)]
mod tests;

//! Samples to chunk rows.
//!
//! The stage gathers the samples of each device and boot; when the oldest has waited for `flush_after`
//! everything of that device closes together and becomes one [`Flush`] per partition: one atomic write. Where each sample
//! becomes a row, a flush has up to some 20,000 of them, of any partitions.
//! A channel's chunk also closes at a second of device time, at its bucket's edge, when the channel's
//! description changes and at its size bound; a change of boot is another device to this stage.
//!
//! Pure: no I/O, and no clock of its own: an item says when it came, and the gateway that is handed in what UTC that was.

mod bucket;
mod build;
mod clocks;
mod flush;
mod open;

pub use bucket::{bucket_length_us, bucket_of, samples_bucket_length_us};
pub use build::{Chunk, Setup};
pub use clocks::{KnownClock, Pairing, RememberClock};
pub use flush::{Flush, Outgoing};

#[cfg(test)]
mod tests;

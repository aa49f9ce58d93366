//! The device: what could run on a microcontroller. No std, no allocation.
//!
//! A caller (a main loop on hardware, the shell of the simulator here) advances the [`Clock`],
//! asks each [lane](Lane) which samples are due, reads its sensors and hands over raw values. The
//! [`Device`] makes frames of them and offers each to an [`Outbox`], such as a bounded [`Queue`].
//! An outbox that is full refuses the whole frame: the device counts it and goes on.
//!
//! # Invariants
//! - Each frame of any kind takes the next sequence, whether it is sent or dropped.
//! - Times strictly increase per channel within a boot. A clock that is stepped back starts a new
//!   boot.
//! - Frames are at most [`FRAME_BYTES_DEFAULT`](pitwire_wire::FRAME_BYTES_DEFAULT) long.
//! - Memory is fixed: [`LANES_MAX`] row buffers, one frame, and the queue.
//!
//! It deliberately lacks sensors, transports, wall time and retransmission.

mod clock;
mod frames;
mod lane;
mod queue;

pub use clock::Clock;
pub use frames::{DESCRIBE_EVERY_MS, Device, STATUS_EVERY_MS};
pub use lane::{AGE_MS_MAX, LANES_MAX, Lane, LaneConfig};
pub use queue::{Full, Made, Outbox, Queue};

#[cfg(test)]
mod tests;

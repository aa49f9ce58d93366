//! A simulated racing car that speaks the Pitwire wire: for tests, demos and load.
//!
//! # Parts, in reading order
//! - [`device`]: the firmware. No std, no allocation: clock, lanes, frames, queue. It is all that
//!   is left with `--no-default-features`.
//! - [`car`]: the model of a car on its laps, from which every value follows.
//! - [`tiers`]: which devices and channels a kind of car carries.
//! - [`fault`]: what goes wrong on demand.
//! - [`manifest`]: what was sent, for an audit.
//! - [`Options`] and [`Simulator`]: the shell that puts them together and sends, one thread for
//!   each output. The binary `firmware-sim` is a thin wrapper over it.
//!
//! # Invariants
//! - Only the manifest knows what was sent; nothing of the agent has a part in it.
//! - Everything follows from the seed and the start: same options, same frames. Only how the
//!   devices take turns on a line depends on its reader.
//! - All queues are bounded; what does not fit is dropped by frames and counted, or waited for.
//! - No output can hold up another.
//!
//! It deliberately lacks replay of recordings, TLS and credentials for brokers, and MQTT
//! unplugging (stop the broker instead).
#![cfg_attr(not(any(test, feature = "std")), no_std)]

#[cfg(feature = "std")]
pub mod car;
pub mod device;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
pub mod fault;
#[cfg(feature = "std")]
mod link;
#[cfg(feature = "std")]
pub mod manifest;
#[cfg(feature = "std")]
mod options;
#[cfg(feature = "std")]
mod run;
#[cfg(feature = "std")]
mod stop;
#[cfg(feature = "std")]
pub mod tiers;

#[cfg(feature = "std")]
pub use self::{
    error::{Error, Result},
    fault::{Fault, parse_duration},
    options::{Broker, Options, Output, Speed},
    run::{DeviceSummary, Simulator, Summary, run},
    stop::Stop,
    tiers::Tier,
};
#[cfg(feature = "std")]
pub use pitwire_wire::ClockBase;

//! A simulated racing car.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]
#![cfg_attr(not(feature = "std"), no_std)]

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

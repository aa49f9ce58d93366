//! The whole system: simulated cars, the agent as a process, real pseudo-terminals, a real mosquitto, a
//! real Cassandra, real SQLite files. Every scenario ends in an audit of what was sent against what a
//! reader of the store sees, and prints its figures.
//!
//! Needs the binary `firmware-sim` beside `pitwire`: `cargo build --workspace --bins`, as `tests/run` does.
//! Tests that need a quiet machine take a [`support::turn`] of their own.
//!
//! By environment: `PITWIRE_CASSANDRA=HOST:PORT` (a node to share), `PITWIRE_SYSTEM_LONG=1` (long forms).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod acknowledge;
mod clocks;
mod cluster;
mod crash;
mod demo;
mod disk;
mod drain;
mod errors;
mod explain;
mod faults;
mod gaps;
mod garbage;
mod grants;
mod json;
mod killed;
mod line;
mod lost;
mod outage;
mod page;
mod plan;
mod poison;
mod priority;
mod reading;
mod reload;
mod rows;
mod sealed;
mod serial;
mod soak;
mod spill;
mod steps;
mod unplug;
mod unready;
mod wear;

mod support;

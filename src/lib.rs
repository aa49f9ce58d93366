//! Pitwire: the telemetry agent on a racing car's gateway.
pub mod chunk;
pub mod clock;
pub mod ledger;
pub mod limits;
pub mod live;
pub mod receipt;
pub mod row;
pub mod sample;
pub mod store;

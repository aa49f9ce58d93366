//! Pitwire: the telemetry agent on a racing car's gateway.
pub mod chunk;
pub mod clock;
pub mod decode;
pub mod deliver;
pub mod gauges;
pub mod item;
pub mod ledger;
pub mod limits;
pub mod live;
pub mod monitor;
pub mod pipeline;
pub mod preprocess;
pub mod receipt;
pub mod row;
pub mod sample;
pub mod spill;
pub mod store;

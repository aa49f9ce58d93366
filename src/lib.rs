//! Pitwire: the telemetry agent on a racing car's gateway.
//!
//! It reads sensor frames from serial ports and MQTT, preprocesses them in a bounded pipeline and writes
//! them in batches to Apache Cassandra or SQLite. While the uplink lags it spills to the local disk and
//! drains later. What it accepted is not lost, not doubled and, to a reader, not out of order.
//!
//! ```text
//!  serial ─┐                                        ┌─> store: Cassandra │ SQLite
//!  mqtt  ──┴─> decode ─> preprocess ─> chunk ─> deliver
//!   ^                                               └─> spill ─> (drains back into deliver)
//!   │                                                 │
//!   └───────────────── receipts ──────────────────────┘     ledger and monitor look on, never touch
//! ```
//! Batches move, not single samples. Receipts travel with them and fire backwards: a message is acknowledged
//! to its broker only when everything made from it is settled. Every queue is bounded in items and bytes.
//!
//! # Modules, in the order in which to read them
//! What everything is made of; each imports only those above it:
//! - [`sample`]: channels, times, values, flags: the words of the data;
//! - [`row`]: what a store holds: made by `chunk`, written by `store`, read by `export`;
//! - [`priority`], [`layout`]: which channels matter more than others, and how they are stored;
//! - [`limits`]: every bound with its arithmetic;
//! - [`codec`]: a chunk's samples as bytes, and back;
//! - [`pipeline`]: the engine: stages stitched by bounded queues; a crate of its own, so it cannot know telemetry;
//! - [`ledger`]: what came in and where it went, as one identity;
//! - [`clock`]: the only reader of the wall clock; device time to UTC;
//! - [`receipt`]: how the end of a frame's way is told back to where it came from;
//! - [`item`]: what moves between the stages;
//! - [`gauges`], [`live`]: what sources and channels show of themselves.
//!
//! The parts; none imports another:
//! - [`source`]: a transport turned into raw messages, reconnecting for ever;
//! - [`decode`]: bytes to samples, one file per format;
//! - [`preprocess`]: calibrate, validate, derive, decimate;
//! - [`chunk`]: samples to chunk rows;
//! - [`store`]: one trait; Cassandra and SQLite;
//! - [`spill`]: the disk queue; knows nothing of stores.
//!
//! What joins them:
//! - [`deliver`]: everything becomes durable, in the store or in the spill: the only one that sees both;
//! - [`monitor`]: the page, the status API, the metrics; reads snapshots, holds no sender;
//! - [`export`]: a store read back, as files, or compared with a manifest;
//! - [`config`]: one file that gathers each module's section;
//! - [`state`]: what the agent remembers between runs;
//! - [`app`]: what is built, in which order it starts, how it drains;
//! - [`cli`]: the commands.
//!
//! `docs/architecture.md` follows a sample on its way; `tests/tidy.rs` holds the imports to this order.

pub mod app;
pub mod chunk;
pub mod cli;
pub mod clock;
pub mod codec;
pub mod config;
pub mod decode;
pub mod deliver;
pub mod export;
pub mod gap;
pub mod gauges;
pub mod item;
pub mod layout;
pub mod ledger;
pub mod limits;
pub mod live;
pub mod monitor;
pub mod preprocess;
pub mod priority;
pub mod receipt;
pub mod row;
pub mod sample;
pub mod settled;
pub mod source;
pub mod spill;
pub mod state;
pub mod store;

pub use pitwire_pipeline as pipeline;

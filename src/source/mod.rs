//! Sources: a transport turned into raw messages, reconnecting for ever.
//!
//! A source owns its connection, puts what comes into the pipeline's first queue, and ends at an item
//! boundary when it is told to stop. Adding a transport is one file and one line in the app.
//!
//! Invariants: a source never ends because of its peer or its cable; a full queue holds back only the
//! source itself; each state is shown with its reason and what to do about it.
//! Deliberately absent: formats, and any look into the bytes.

mod ack;
mod mqtt;
mod serial;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::gauges::SourceGauges;
use crate::item::RawBatch;
use crate::ledger::SourceId;
use crate::pipeline::Sender;

pub use mqtt::{MqttConfig, Protocol, TlsConfig, run as run_mqtt};
pub use serial::{SerialConfig, run as run_serial};

/// What every source is given.
pub struct Outlet {
    /// Its place in the ledger.
    pub id: SourceId,
    /// The way into the pipeline; given up at the stop, so that end-of-stream can walk down.
    pub sender: Option<Sender<RawBatch>>,
    /// What it shows of itself.
    pub gauges: Arc<SourceGauges>,
    /// When things come.
    pub clock: Arc<dyn Clock>,
    /// When to take nothing more.
    pub stop: CancellationToken,
    /// When every receipt that will fire has fired.
    pub settled: CancellationToken,
}

#[cfg(test)]
mod tests;

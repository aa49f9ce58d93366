//! Stores: one trait, the same tables and the same meaning in each.
//!
//! A store writes [`Rows`] and reads them back; it decides nothing: what to do about an error is
//! `deliver`'s affair. The tables stand in `schema.cql`, once for all stores. Adding a store is one
//! folder and one line in [`connect`].
//!
//! Chunks whose layout is rows are taken apart here, into the table `samples`: till then they are packed.
//!
//! Invariants: writing the same rows again changes nothing; the other chunks of one [`Rows`] are stored together
//! or not at all as long as they fit one mutation (8 MiB; see `limits`), though a reader that needs several
//! pages may see those of a flush written meanwhile in part; an extent is stored before the first chunk of
//! its partition.

mod cassandra;
mod config;
mod error;
mod schema;
mod sqlite;
mod url;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use config::{Compression, Config};
pub use error::StoreError;
pub use url::{Node, StoreUrl, StoreUrlError};

use crate::row::{AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Rows, SampleRow, SessionRow};
use crate::sample::UnixMicros;

/// A reader's requests may take at least this: longer than a node at its defaults waits for the others (10 s over a
/// range, `range_request_timeout`), so that it answers first. Nodes find another one dead after some 20 s.
const READ_TIMEOUT: Duration = Duration::from_secs(12);

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Writing and reading; what is embedded is created if absent.
    Write,
    /// Reading what is there.
    Read,
}

/// Opens the store that `config` names, to write and to read. The embedded store is created if it is not
/// there; a cluster is asked once, and its schema is not looked at (see [`Store::check`]).
///
/// # Errors
/// [`StoreError::Unavailable`] if nobody answers: call again later. [`StoreError::Hold`] if a person has
/// to act.
///
/// # Cancel safety
/// May be dropped at any point.
pub async fn connect(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    open(config, Access::Write).await
}

/// As [`connect`], for readers: an embedded store that is not there is an error, not a new empty file, and a
/// request may take as long as a server gives it.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to_read(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    let request_timeout = config.request_timeout.max(READ_TIMEOUT);
    open(&Config { request_timeout, ..config.clone() }, Access::Read).await
}

async fn open(config: &Config, access: Access) -> Result<Arc<dyn Store>, StoreError> {
    if let Err(reason) = config.validate() {
        return Err(StoreError::Hold { reason, remedy: "correct the section [store]".into() });
    }
    Ok(match &config.url {
        StoreUrl::Sqlite { path } => Arc::new(sqlite::Sqlite::open(path, config, access).await?),
        StoreUrl::Cassandra { nodes, keyspace } => {
            Arc::new(cassandra::Cassandra::connect(nodes, keyspace, config).await?)
        }
    })
}

/// The statements that make what a store needs, for `pitwire schema print`: CQL, or SQL for SQLite.
#[must_use]
pub fn schema_script(config: &Config) -> String {
    match &config.url {
        StoreUrl::Sqlite { .. } => schema::sqlite_script(),
        StoreUrl::Cassandra { keyspace, .. } => schema::Options::new(keyspace, config).script(),
    }
}

/// A place for rows.
#[async_trait]
pub trait Store: Send + Sync {
    /// `cassandra` or `sqlite`.
    fn kind(&self) -> &'static str;

    /// Whether the tables are there as this version needs them.
    ///
    /// # Errors
    /// [`StoreError::Hold`] if they are not, with what to do.
    async fn check(&self) -> Result<(), StoreError>;

    /// Creates what is absent, checks the rest, never drops.
    ///
    /// # Errors
    /// As the store says.
    async fn apply_schema(&self) -> Result<(), StoreError>;

    /// Writes `rows`; returns once they are durable as far as the store promises it.
    ///
    /// # Errors
    /// Nothing is known of rows whose write failed; write them again.
    ///
    /// # Cancel safety
    /// May be dropped at any point: the rows are then written or not, and may be written again.
    async fn write(&self, rows: &Rows) -> Result<(), StoreError>;

    /// How many requests, one after another, [`Self::write`] would make of `rows` now: what a write takes is as many round
    /// trips. At least 1.
    fn requests(&self, rows: &Rows) -> u32 {
        let _ = rows;
        1
    }

    /// Deletes a bounded part of what is older than `ttl` at `now`, and says how many rows it deleted:
    /// call it again while that is not 0, else every few minutes. 0 where the store expires rows itself. What
    /// lies before [`EARLIEST_PLAUSIBLE`](crate::clock::EARLIEST_PLAUSIBLE) stays: its place says nothing of its age.
    ///
    /// # Errors
    /// As [`Self::write`].
    async fn expire(&self, now: UnixMicros) -> Result<u64, StoreError>;

    /// Where a store deletes by age: the end of the newest partition that begins before `now`, if it holds any. What
    /// lies years behind all others was placed by a clock that was wrong, and does not count.
    ///
    /// # Errors
    /// As [`Self::write`].
    async fn newest_before(&self, _now: UnixMicros) -> Result<Option<UnixMicros>, StoreError> {
        Ok(None)
    }

    /// Writes an agent's heartbeat, replacing the one before.
    ///
    /// # Errors
    /// As [`Self::write`].
    async fn heartbeat(&self, agent: &AgentRow) -> Result<(), StoreError>;

    /// The days (since 1970) on which `car` has partitions, ascending.
    ///
    /// # Errors
    /// As the store says; so for all that follow.
    async fn days(&self, car: &str) -> Result<Vec<i32>, StoreError>;

    /// The partitions of `car` on `day`.
    async fn extents(&self, car: &str, day: i32) -> Result<Vec<ExtentRow>, StoreError>;

    /// The chunks of one partition, of `channel` only if given, ordered by channel and `t0`.
    async fn chunks(
        &self,
        car: &str,
        device: &str,
        bucket: i64,
        channel: Option<&str>,
    ) -> Result<Vec<ChunkRow>, StoreError>;

    /// The samples of one partition of those that are rows, by time.
    async fn samples(&self, car: &str, channel: &str, bucket: i64) -> Result<Vec<SampleRow>, StoreError>;

    /// What devices of `car` said of their channels.
    async fn channels(&self, car: &str) -> Result<Vec<ChannelRow>, StoreError>;

    /// The clock mappings of `car`'s devices.
    async fn clocks(&self, car: &str) -> Result<Vec<ClockRow>, StoreError>;

    /// The events of `car` on `day`, by time.
    async fn events(&self, car: &str, day: i32) -> Result<Vec<EventRow>, StoreError>;

    /// The sessions of `car`, by start.
    async fn sessions(&self, car: &str) -> Result<Vec<SessionRow>, StoreError>;

    /// The last heartbeat of each agent of `car`.
    async fn agents(&self, car: &str) -> Result<Vec<AgentRow>, StoreError>;
}

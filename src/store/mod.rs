//! Stores: one trait, the same tables and the same meaning in each.
//!
//! A store writes [`Rows`] and reads them back; it decides nothing: what to do about an error is
//! `deliver`'s affair. Adding a store is one file and one line in [`connect`].
//!
//! Invariants: writing the same rows again changes nothing; chunks of one [`Rows`] become visible
//! together; an extent is durable before the first chunk of its partition is acknowledged.

mod error;

use async_trait::async_trait;

pub use error::StoreError;

use crate::row::{AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Rows, SessionRow};

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

//! Cassandra, through the `scylla` driver.
//!
//! All chunks of one [`Rows`] go into one unlogged batch over one partition: one mutation, atomic, and
//! many times cheaper than as many statements. Single samples go in batches over one partition each, some at once. Extents go before them. Statements are prepared when first
//! used, idempotent and routed by token; nothing absent is bound (a NULL would be a tombstone), and no
//! timestamp is sent.
//!
//! Invariants: `connect` asks once; afterwards the driver reconnects by itself. Every request ends within
//! `request_timeout`. Rows are rejected only if the schema is right at that moment, and only after a second
//! try with statements prepared anew.
//!
//! Deliberately absent: retries (`deliver` decides on them), DDL outside [`Store::apply_schema`], TLS.

mod classify;
mod extents;
mod read;
mod schema;
mod session;
mod statements;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use scylla::client::session::Session;
use scylla::errors::{ExecutionError, PrepareError};

use super::{Config, Node, Store, StoreError};
use crate::row::{AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Rows, SampleRow, SessionRow};
use crate::sample::UnixMicros;
use classify::Class;
use extents::Written;
use statements::Statements;

/// A cluster.
pub(super) struct Cassandra {
    session: Session,
    keyspace: String,
    config: Config,
    /// Its contact points, as messages name it.
    target: String,
    request_timeout: Duration,
    statements: Statements,
    written: Written,
}

/// Why a request failed, and what that means.
#[derive(Debug)]
struct Failure {
    class: Class,
    reason: String,
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Self {
        Self { class: classify::execution(&error), reason: error.to_string() }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        Self { class: classify::prepare(&error), reason: error.to_string() }
    }
}

impl Failure {
    /// A result that cannot be read as what was asked for.
    fn unreadable(error: impl std::fmt::Display) -> Self {
        Self { class: Class::Schema, reason: error.to_string() }
    }
}

impl Cassandra {
    /// Asks the nodes once.
    pub(super) async fn connect(nodes: &[Node], keyspace: &str, config: &Config) -> Result<Self, StoreError> {
        let target = nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(",");
        let session = session::open(nodes, keyspace, config, &target).await?;
        Ok(Self {
            session,
            keyspace: keyspace.to_owned(),
            config: config.clone(),
            target,
            request_timeout: config.request_timeout,
            statements: Statements::default(),
            written: Written::default(),
        })
    }

    /// What `failure` of `operation` is to the caller; looks at the schema if that may be the cause.
    async fn settle(&self, operation: &str, failure: Failure) -> StoreError {
        let what = format!("{operation} {}", self.target);
        let Failure { class, reason } = failure;
        // Whatever was changed, nothing that was known before is trusted. While a keyspace is dropped writes may just
        // time out, and it may be back before anybody looks: extents are written anew after any failure.
        self.written.clear();
        if class != Class::Unavailable {
            self.forget();
        }
        match class {
            Class::Unavailable => StoreError::Unavailable { what, reason },
            Class::Hold(remedy) => StoreError::Hold { reason: format!("{what}: {reason}"), remedy: remedy.into() },
            Class::Schema | Class::Suspect => match self.check().await {
                Err(error) => error,
                Ok(()) if class == Class::Schema => StoreError::Unavailable { what, reason },
                Ok(()) => StoreError::Rejected { reason },
            },
        }
    }

    fn forget(&self) {
        self.statements.clear();
        self.written.clear();
    }

    /// Runs `write`; a second time with statements prepared anew before its rows are called poison.
    async fn try_write<F>(&self, write: impl Fn() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let Err(failure) = write().await else { return Ok(()) };
        if failure.class != Class::Suspect {
            return Err(self.settle("write to", failure).await);
        }
        self.forget();
        match write().await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.settle("write to", failure).await),
        }
    }

    async fn try_read<T>(&self, read: impl Future<Output = Result<T, Failure>>) -> Result<T, StoreError> {
        match read.await {
            Ok(found) => Ok(found),
            Err(failure) => match self.settle("read from", failure).await {
                // Nothing was written that could be refused.
                StoreError::Rejected { reason } => {
                    Err(StoreError::Unavailable { what: format!("read from {}", self.target), reason })
                }
                error => Err(error),
            },
        }
    }
}

#[async_trait]
impl Store for Cassandra {
    fn kind(&self) -> &'static str {
        "cassandra"
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.check_schema().await
    }

    async fn apply_schema(&self) -> Result<(), StoreError> {
        self.make_schema().await
    }

    async fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        self.try_write(|| self.write_rows(rows)).await
    }

    fn requests(&self, rows: &Rows) -> u32 {
        self.requests_of(rows)
    }

    async fn expire(&self, _now: UnixMicros) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn heartbeat(&self, agent: &AgentRow) -> Result<(), StoreError> {
        self.try_write(|| self.write_agent(agent)).await
    }

    async fn days(&self, car: &str) -> Result<Vec<i32>, StoreError> {
        self.try_read(self.read_days(car)).await
    }

    async fn extents(&self, car: &str, day: i32) -> Result<Vec<ExtentRow>, StoreError> {
        self.try_read(self.read_extents(car, day)).await
    }

    async fn chunks(
        &self,
        car: &str,
        device: &str,
        bucket: i64,
        channel: Option<&str>,
    ) -> Result<Vec<ChunkRow>, StoreError> {
        self.try_read(self.read_chunks(car, device, bucket, channel)).await
    }

    async fn samples(&self, car: &str, channel: &str, bucket: i64) -> Result<Vec<SampleRow>, StoreError> {
        self.try_read(self.read_samples(car, channel, bucket)).await
    }

    async fn channels(&self, car: &str) -> Result<Vec<ChannelRow>, StoreError> {
        self.try_read(self.read_channels(car)).await
    }

    async fn clocks(&self, car: &str) -> Result<Vec<ClockRow>, StoreError> {
        self.try_read(self.read_clocks(car)).await
    }

    async fn events(&self, car: &str, day: i32) -> Result<Vec<EventRow>, StoreError> {
        self.try_read(self.read_events(car, day)).await
    }

    async fn sessions(&self, car: &str) -> Result<Vec<SessionRow>, StoreError> {
        self.try_read(self.read_sessions(car)).await
    }

    async fn agents(&self, car: &str) -> Result<Vec<AgentRow>, StoreError> {
        self.try_read(self.read_agents(car)).await
    }
}

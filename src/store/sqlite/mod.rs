//! The embedded store: SQLite in WAL mode with `synchronous=FULL`, the same tables and the same meaning.
//!
//! Invariants: one connection writes, one transaction for each [`Rows`], on disk when `write` returns;
//! readers have connections of their own and see whole transactions. Nothing is written into a file that
//! is no longer the one at the path.
//!
//! `double` columns are of type `ANY`: a `REAL` column would turn -0.0 into 0.0. A NaN, which SQLite
//! cannot hold, is a blob of its eight bytes.
//!
//! Deliberately absent: network file systems, and giving freed pages back to the disk (they are reused).

mod error;
mod file;
mod read;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{Access, Config, Store, StoreError};
use crate::limits::SQLITE_READERS_MAX;
use crate::row::{AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Rows, SampleRow, SessionRow};
use crate::sample::UnixMicros;
use error::hold;
use file::FileId;

/// The embedded store.
pub(super) struct Sqlite {
    shared: Arc<Shared>,
    /// Held by who writes; the connection itself is never waited for on a thread.
    writer: Arc<tokio::sync::Mutex<Writer>>,
    readers: Arc<Semaphore>,
    ttl: Option<Duration>,
    access: Access,
}

struct Shared {
    path: PathBuf,
    file: FileId,
    /// Waited for another process's lock.
    busy_timeout: Duration,
    /// Read connections that nobody uses.
    idle: Mutex<Vec<Connection>>,
}

/// The connection that writes; `None` in a store that is only read.
struct Writer(Option<Connection>);

impl Sqlite {
    /// Opens the file, and makes it if it is to be written and is not there.
    pub(super) async fn open(path: &Path, config: &Config, access: Access) -> Result<Self, StoreError> {
        let (path, busy_timeout) = (path.to_owned(), config.request_timeout);
        let (shared, writer) = blocking(move || {
            let writer = match access {
                Access::Write => Some(file::open_to_write(&path, busy_timeout)?),
                Access::Read => None,
            };
            let idle = Mutex::new(vec![file::open_to_read(&path, busy_timeout)?]);
            let file = FileId::of(&path)?;
            Ok((Shared { path, file, busy_timeout, idle }, writer))
        })
        .await?;
        Ok(Self {
            shared: Arc::new(shared),
            writer: Arc::new(tokio::sync::Mutex::new(Writer(writer))),
            readers: Arc::new(Semaphore::new(SQLITE_READERS_MAX)),
            ttl: config.ttl,
            access,
        })
    }

    /// Runs `work` with the connection that writes.
    async fn write_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let Some(connection) = &mut writer.0 else {
                return Err(hold("the store was opened to be read".into(), "open it with `connect` to write"));
            };
            shared.still_there()?;
            work(connection).map_err(|error| error::classify(&error, "write to", &shared.path))
        })
        .await
    }

    /// Runs `work` with a connection that reads.
    async fn read_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.readers).acquire_owned().await.expect("the semaphore is never closed");
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let _permit = permit;
            shared.still_there()?;
            let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => file::open_to_read(&shared.path, shared.busy_timeout)?,
            };
            let result = work(&connection).map_err(|error| error::classify(&error, "read", &shared.path));
            if result.is_ok() {
                shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            result
        })
        .await
    }
}

impl Shared {
    /// A file deleted or replaced takes writes that nobody will ever read.
    fn still_there(&self) -> Result<(), StoreError> {
        match FileId::of(&self.path) {
            Ok(file) if file == self.file => Ok(()),
            _ => Err(hold(
                format!("{} was removed or replaced while it was in use", self.path.display()),
                "put it back, or restart to begin a new one",
            )),
        }
    }
}

/// Runs `work` where it may block. It goes on if the caller stops waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Unavailable { what: "use the store".into(), reason: "shutting down".into() }),
        },
    }
}

#[async_trait]
impl Store for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn check(&self) -> Result<(), StoreError> {
        let path = self.shared.path.clone();
        let differences = self.read_with(file::differences).await?;
        file::judge(&path, &differences)
    }

    async fn apply_schema(&self) -> Result<(), StoreError> {
        if self.access == Access::Write {
            self.write_with(file::create_tables).await?;
        }
        self.check().await
    }

    async fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = rows.clone();
        self.write_with(move |connection| write::rows(connection, &rows)).await
    }

    async fn expire(&self, now: UnixMicros) -> Result<u64, StoreError> {
        let Some(ttl) = self.ttl else { return Ok(0) };
        let ttl_us = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
        let before_us = now.0.saturating_sub(ttl_us);
        self.write_with(move |connection| write::expire(connection, before_us)).await
    }

    async fn newest_before(&self, now: UnixMicros) -> Result<Option<UnixMicros>, StoreError> {
        let newest = self.read_with(move |connection| read::newest_before(connection, now.0)).await?;
        Ok(newest.map(UnixMicros))
    }

    async fn heartbeat(&self, agent: &AgentRow) -> Result<(), StoreError> {
        let agent = agent.clone();
        self.write_with(move |connection| write::heartbeat(connection, &agent)).await
    }

    async fn days(&self, car: &str) -> Result<Vec<i32>, StoreError> {
        let car = car.to_owned();
        self.read_with(move |connection| read::days(connection, &car)).await
    }

    async fn extents(&self, car: &str, day: i32) -> Result<Vec<ExtentRow>, StoreError> {
        let car = car.to_owned();
        self.read_with(move |connection| read::extents(connection, &car, day)).await
    }

    async fn chunks(
        &self,
        car: &str,
        device: &str,
        bucket: i64,
        channel: Option<&str>,
    ) -> Result<Vec<ChunkRow>, StoreError> {
        let (car, device, channel) = (car.to_owned(), device.to_owned(), channel.map(str::to_owned));
        self.read_with(move |connection| read::chunks(connection, &car, &device, bucket, channel.as_deref())).await
    }

    async fn samples(&self, car: &str, channel: &str, bucket: i64) -> Result<Vec<SampleRow>, StoreError> {
        let (car, channel) = (car.to_owned(), channel.to_owned());
        self.read_with(move |connection| read::samples(connection, &car, &channel, bucket)).await
    }

    async fn channels(&self, car: &str) -> Result<Vec<ChannelRow>, StoreError> {
        let car = car.to_owned();
        self.read_with(move |connection| read::channels(connection, &car)).await
    }

    async fn clocks(&self, car: &str) -> Result<Vec<ClockRow>, StoreError> {
        let car = car.to_owned();
        self.read_with(move |connection| read::clocks(connection, &car)).await
    }

    async fn events(&self, car: &str, day: i32) -> Result<Vec<EventRow>, StoreError> {
        let car = car.to_owned();
        self.read_with(move |connection| read::events(connection, &car, day)).await
    }

    async fn sessions(&self, car: &str) -> Result<Vec<SessionRow>, StoreError> {
        let car = car.to_owned();
        self.read_with(move |connection| read::sessions(connection, &car)).await
    }

    async fn agents(&self, car: &str) -> Result<Vec<AgentRow>, StoreError> {
        let car = car.to_owned();
        self.read_with(move |connection| read::agents(connection, &car)).await
    }
}

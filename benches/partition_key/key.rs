//! The two keys: a table each, with the same columns and the same options, how a flush is written into it,
//! and how a channel is read from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pitwire::limits::{CASSANDRA_PAGE_ROWS, WRITES_IN_FLIGHT};
use pitwire::row::ChunkRow;
use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlTimestamp, MaybeUnset};

use super::flushes::{CAR, Flush};

/// A key of the table `chunks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// `((car, device, bucket), channel, t0, writer, seq)`, a flush is one batch.
    Device,
    /// `((car, channel, bucket), t0, device, writer, seq)`, a row is one statement.
    Channel,
}

const DEVICE_KEY: &str = "PRIMARY KEY ((car, device, bucket), channel, t0, writer, seq)";
const CHANNEL_KEY: &str = "PRIMARY KEY ((car, channel, bucket), t0, device, writer, seq)";
const COLUMNS: &str = "car, device, bucket, channel, t0, writer, seq, boot, d0, t1, at, n, v_min, v_max, v_mean, v_last, quality, codec, data";
/// A channel's bucket: 5 rows/s × 3,600 s = 18,000 rows, far below what a partition may hold.
pub(crate) const CHANNEL_BUCKET_US: i64 = 3_600_000_000;
/// Statements in flight where each row is one: chosen so that nobody waits for an answer, not tuned.
const STATEMENTS_IN_FLIGHT: usize = 256;
/// A write that times out on a busy machine is written again, as the agent does.
const ATTEMPTS_MAX: u32 = 20;

impl Key {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Device, Self::Channel];

    /// As the table of results names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Device => "device, batch",
            Self::Channel => "channel, rows",
        }
    }

    /// Its table.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Device => "chunks",
            Self::Channel => "chunks_by_channel",
        }
    }

    /// The statement that makes its table, from the project's own `schema` of `chunks`.
    pub(crate) fn create(self, schema: &str) -> Result<String> {
        let statement = schema.split_inclusive(';').find(|statement| statement.contains(".chunks ("));
        let statement = statement.and_then(|statement| statement.find("CREATE TABLE").map(|at| &statement[at..]));
        let statement = statement.context("the schema has no table chunks")?;
        ensure!(
            statement.contains(DEVICE_KEY),
            "the schema's key of chunks is not `{DEVICE_KEY}` any more: bring this benchmark up to it"
        );
        Ok(match self {
            Self::Device => statement.to_owned(),
            Self::Channel => statement.replace(DEVICE_KEY, CHANNEL_KEY).replace(".chunks (", ".chunks_by_channel ("),
        })
    }

    fn in_flight(self) -> usize {
        match self {
            Self::Device => WRITES_IN_FLIGHT.into(),
            Self::Channel => STATEMENTS_IN_FLIGHT,
        }
    }

    fn bucket(self, row: &ChunkRow) -> i64 {
        match self {
            Self::Device => row.bucket,
            Self::Channel => row.t0.div_euclid(CHANNEL_BUCKET_US) * CHANNEL_BUCKET_US,
        }
    }
}

/// The prepared statements of a key.
pub(crate) struct Statements {
    key: Key,
    insert: PreparedStatement,
    channel: PreparedStatement,
    all: PreparedStatement,
    /// Writes that had to be repeated.
    pub(crate) repeated: AtomicU64,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) samples: u64,
    /// Of the rows as they came over the wire.
    pub(crate) bytes: u64,
}

impl Found {
    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.samples += other.samples;
        self.bytes += other.bytes;
    }
}

impl Statements {
    pub(crate) async fn prepare(session: &Session, keyspace: &str, key: Key) -> Result<Self> {
        let (table, marks) = (key.table(), vec!["?"; COLUMNS.split(',').count()].join(", "));
        let (channel, all) = match key {
            Key::Device => {
                ("car = ? AND device = ? AND bucket = ? AND channel = ?", "car = ? AND device = ? AND bucket = ?")
            }
            Key::Channel => {
                let range = "car = ? AND channel = ? AND bucket = ? AND t0 >= ? AND t0 < ?";
                (range, range)
            }
        };
        let prepare = async |text: String| -> Result<PreparedStatement> {
            let mut statement = session.prepare(text).await?;
            statement.set_is_idempotent(true);
            statement.set_page_size(CASSANDRA_PAGE_ROWS);
            Ok(statement)
        };
        Ok(Self {
            key,
            insert: prepare(format!("INSERT INTO {keyspace}.{table} ({COLUMNS}) VALUES ({marks})")).await?,
            channel: prepare(format!("SELECT {COLUMNS} FROM {keyspace}.{table} WHERE {channel}")).await?,
            all: prepare(format!("SELECT {COLUMNS} FROM {keyspace}.{table} WHERE {all}")).await?,
            repeated: AtomicU64::new(0),
        })
    }

    /// Writes all `flushes` as fast as it goes.
    pub(crate) async fn write(self: &Arc<Self>, session: &Arc<Session>, flushes: &Arc<Vec<Flush>>) -> Result<()> {
        // What is written at once, as places in `flushes`: a flush, or a row.
        let units: Vec<(usize, std::ops::Range<usize>)> = match self.key {
            Key::Device => flushes.iter().enumerate().map(|(at, flush)| (at, 0..flush.len())).collect(),
            Key::Channel => {
                let rows = |(at, flush): (usize, &Flush)| (0..flush.len()).map(move |row| (at, row..row + 1));
                flushes.iter().enumerate().flat_map(rows).collect()
            }
        };
        let (units, next) = (Arc::new(units), Arc::new(AtomicUsize::new(0)));
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..self.key.in_flight() {
            let (this, session) = (self.clone(), session.clone());
            let (flushes, units, next) = (flushes.clone(), units.clone(), next.clone());
            writers.spawn(async move {
                while let Some((flush, rows)) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    this.write_unit(&session, &flushes[*flush][rows.clone()]).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn write_unit(&self, session: &Session, rows: &[ChunkRow]) -> Result<()> {
        let mut attempt = 0;
        loop {
            let written = match (self.key, rows) {
                (Key::Channel, [row]) => session.execute_unpaged(&self.insert, values(self.key, row)).await,
                (_, rows) => {
                    let mut batch = Batch::new(BatchType::Unlogged);
                    batch.set_is_idempotent(true);
                    rows.iter().for_each(|_| batch.append_statement(self.insert.clone()));
                    let values: Vec<_> = rows.iter().map(|row| values(self.key, row)).collect();
                    session.batch(&batch, values).await
                }
            };
            match written {
                Ok(_) => return Ok(()),
                Err(error) if attempt == ATTEMPTS_MAX => bail!("write into {}: {error}", self.key.table()),
                Err(_) => self.repeated.fetch_add(1, Ordering::Relaxed),
            };
            attempt += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reads one channel from `from` to `to` (UTC µs), partition after partition, as the store's readers do.
    pub(crate) async fn read_channel(
        &self,
        session: &Session,
        (device, channel): (&str, &str),
        device_bucket_us: i64,
        (from, to): (i64, i64),
    ) -> Result<Found> {
        let length_us = if self.key == Key::Device { device_bucket_us } else { CHANNEL_BUCKET_US };
        let mut found = Found::default();
        let mut bucket = from.div_euclid(length_us) * length_us;
        while bucket < to {
            found.add(match self.key {
                Key::Device => self.select(session, &self.channel, (CAR, device, bucket, channel)).await?,
                Key::Channel => self.select(session, &self.channel, (CAR, channel, bucket, from, to)).await?,
            });
            bucket += length_us;
        }
        Ok(found)
    }

    /// Reads every channel of `device` from `from` to `to` (UTC µs), both at an edge of a device's bucket and
    /// within one of a channel's.
    pub(crate) async fn read_all(
        &self,
        session: &Session,
        (device, channels): (&str, &[&str]),
        device_bucket_us: i64,
        (from, to): (i64, i64),
    ) -> Result<Found> {
        let mut found = Found::default();
        match self.key {
            Key::Device => {
                for bucket in (from..to).step_by(usize::try_from(device_bucket_us)?) {
                    found.add(self.select(session, &self.all, (CAR, device, bucket)).await?);
                }
            }
            Key::Channel => {
                let bucket = from.div_euclid(CHANNEL_BUCKET_US) * CHANNEL_BUCKET_US;
                for channel in channels {
                    found.add(self.select(session, &self.all, (CAR, *channel, bucket, from, to)).await?);
                }
            }
        }
        Ok(found)
    }

    async fn select(
        &self,
        session: &Session,
        statement: &PreparedStatement,
        values: impl SerializeRow + Clone,
    ) -> Result<Found> {
        let (mut found, mut state) = (Found::default(), PagingState::start());
        loop {
            let (page, next) = session.execute_single_page(statement, values.clone(), state).await?;
            let page = page.into_rows_result()?;
            found.bytes += page.rows_bytes_size() as u64;
            for row in page.rows::<Columns>()? {
                found.rows += 1;
                found.samples += u64::from(row?.n.unsigned_abs());
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Break(()) => return Ok(found),
                std::ops::ControlFlow::Continue(next) => state = next,
            }
        }
    }
}

/// A row as it is bound, in the order of [`COLUMNS`].
#[derive(scylla::SerializeRow)]
struct Values<'a> {
    car: &'a str,
    device: &'a str,
    bucket: i64,
    channel: &'a str,
    t0: i64,
    writer: &'a [u8],
    seq: i64,
    boot: i64,
    d0: i64,
    t1: i64,
    at: CqlTimestamp,
    n: i32,
    v_min: MaybeUnset<f64>,
    v_max: MaybeUnset<f64>,
    v_mean: MaybeUnset<f64>,
    v_last: MaybeUnset<f64>,
    quality: i32,
    codec: i8,
    data: &'a [u8],
}

fn values(key: Key, row: &ChunkRow) -> Values<'_> {
    Values {
        car: &row.car,
        device: &row.device,
        bucket: key.bucket(row),
        channel: &row.channel,
        t0: row.t0,
        writer: &row.writer,
        seq: row.seq,
        boot: row.boot,
        d0: row.d0,
        t1: row.t1,
        at: CqlTimestamp(row.t0.div_euclid(1_000)),
        n: row.n,
        v_min: MaybeUnset::from_option(row.v_min),
        v_max: MaybeUnset::from_option(row.v_max),
        v_mean: MaybeUnset::from_option(row.v_mean),
        v_last: MaybeUnset::from_option(row.v_last),
        quality: row.quality,
        codec: row.codec,
        data: &row.data,
    }
}

/// A row as it is read: all of it, so that decoding counts as it does for a reader.
#[derive(scylla::DeserializeRow)]
#[expect(dead_code, reason = "decoded, not used")]
struct Columns {
    car: String,
    device: String,
    bucket: i64,
    channel: String,
    t0: i64,
    writer: Vec<u8>,
    seq: i64,
    boot: i64,
    d0: i64,
    t1: i64,
    at: Option<CqlTimestamp>,
    n: i32,
    v_min: Option<f64>,
    v_max: Option<f64>,
    v_mean: Option<f64>,
    v_last: Option<f64>,
    quality: i32,
    codec: i8,
    data: Vec<u8>,
}

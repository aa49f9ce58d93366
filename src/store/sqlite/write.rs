//! Rows into the file.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, params};

use crate::clock::EARLIEST_PLAUSIBLE;
use crate::codec;
use crate::limits::SQLITE_EXPIRED_ROWS_MAX;
use crate::row::{AgentRow, ChunkRow, ExtentRow, Layout, Rows, day_of};
use crate::store::schema;

/// A double as it is: SQLite would make NULL of a NaN, so that one becomes a blob.
struct Double(f64, [u8; 8]);

impl Double {
    fn new(value: f64) -> Self {
        Self(value, value.to_bits().to_le_bytes())
    }
}

impl ToSql for Double {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = if self.0.is_nan() { ValueRef::Blob(&self.1) } else { ValueRef::Real(self.0) };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// Writes all rows in one transaction, on disk when it returns.
pub(super) fn rows(connection: &mut Connection, rows: &Rows) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for r in &rows.extents {
        let values = params![r.car, r.day, r.layout, r.device, r.channel, r.bucket, r.length_us];
        insert(&transaction, "extents", values)?;
    }
    for r in &rows.channels {
        let (scale, offset) = (Double::new(r.scale), Double::new(r.offset));
        insert(
            &transaction,
            "channels",
            params![r.car, r.device, r.channel, r.since, r.unit, r.kind, r.value_kind, scale, offset, r.rate_mhz],
        )?;
    }
    for r in &rows.clocks {
        let values = params![r.car, r.device, r.boot, r.from_us, r.offset_us, r.provisional];
        insert(&transaction, "clocks", values)?;
    }
    for r in rows.chunks.iter().filter(|row| row.layout == Layout::Rows) {
        samples(&transaction, r)?;
    }
    for r in rows.chunks.iter().filter(|row| row.layout == Layout::Chunks) {
        let [v_min, v_max, v_mean, v_last] = [r.v_min, r.v_max, r.v_mean, r.v_last].map(|v| v.map(Double::new));
        insert(
            &transaction,
            "chunks",
            params![
                r.car,
                r.device,
                r.bucket,
                r.channel,
                r.t0,
                r.writer,
                r.seq,
                r.boot,
                r.d0,
                r.t1,
                r.t0.div_euclid(1_000),
                r.n,
                v_min,
                v_max,
                v_mean,
                v_last,
                r.quality,
                r.codec,
                r.data,
            ],
        )?;
    }
    for r in &rows.events {
        let at = r.t.div_euclid(1_000);
        insert(
            &transaction,
            "events",
            params![r.car, r.day, r.t, r.device, r.boot, r.sequence, r.d, at, r.kind, r.number, r.text],
        )?;
    }
    for r in &rows.sessions {
        insert(&transaction, "sessions", params![r.car, r.start, r.number, r.name])?;
    }
    transaction.commit()
}

/// Each sample of `of` as a row.
fn samples(transaction: &Transaction<'_>, of: &ChunkRow) -> Result<(), rusqlite::Error> {
    let samples = codec::samples(of).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut insert = transaction.prepare_cached(&schema::table("samples").insert_sql())?;
    for sample in samples {
        let (at, quality) = (sample.t.div_euclid(1_000), sample.quality.0);
        insert.execute(params![
            of.car,
            of.channel,
            of.bucket,
            sample.t,
            of.device,
            of.boot,
            sample.d,
            Double::new(sample.v),
            at,
            quality,
            of.writer,
            of.seq,
        ])?;
    }
    Ok(())
}

/// Writes a heartbeat over the one before.
pub(super) fn heartbeat(connection: &mut Connection, r: &AgentRow) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let at = r.at_us.div_euclid(1_000);
    insert(
        &transaction,
        "agents",
        params![r.car, r.agent, r.at_us, at, r.version, r.in_flight, r.backlog, r.stored, r.mode],
    )?;
    transaction.commit()
}

/// One row; `values` in the order of `schema.cql`.
fn insert(transaction: &Transaction<'_>, table: &str, values: &[&dyn ToSql]) -> Result<(), rusqlite::Error> {
    transaction.prepare_cached(&schema::table(table).insert_sql())?.execute(values).map(drop)
}

/// Deletes about [`SQLITE_EXPIRED_ROWS_MAX`] rows of buckets that end at `before_us` or earlier, the extents
/// of those that are empty then, and events of earlier days; says how many rows went. What was placed before
/// [`EARLIEST_PLAUSIBLE`] was placed by a clock that was not set, today perhaps: it stays.
pub(super) fn expire(connection: &mut Connection, before_us: i64) -> Result<u64, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let day = day_of(before_us);
    let mut left = SQLITE_EXPIRED_ROWS_MAX;
    while left > 0 {
        let Some(expired) = first_expired(&transaction, day, before_us)? else { break };
        left -= delete_in(&transaction, &expired, left)?.min(left);
        let ExtentRow { car, day, layout, device, channel, bucket, .. } = expired;
        if left > 0 {
            // Fewer than were allowed: the bucket is empty, and only now may its extent go.
            left -= transaction
                .prepare_cached(
                    "DELETE FROM extents WHERE car = ?1 AND day = ?2 AND layout = ?3 AND device = ?4 \
                     AND channel = ?5 AND bucket = ?6",
                )?
                .execute(params![car, day, layout, device, channel, bucket])?;
        }
    }
    left -= transaction
        .prepare_cached(
            "DELETE FROM events WHERE (car, day, t, device, boot, sequence) IN \
               (SELECT car, day, t, device, boot, sequence FROM events WHERE day < ?1 AND day >= ?3 LIMIT ?2)",
        )?
        .execute(params![day, left as i64, day_of(EARLIEST_PLAUSIBLE.0)])?;
    transaction.commit()?;
    Ok((SQLITE_EXPIRED_ROWS_MAX - left) as u64)
}

/// Deletes at most `rows_max` rows of what `extent` names, and says how many.
fn delete_in(transaction: &Transaction<'_>, extent: &ExtentRow, rows_max: usize) -> Result<usize, rusqlite::Error> {
    let ExtentRow { car, device, channel, bucket, .. } = extent;
    if extent.layout == Layout::Rows.as_str() {
        return transaction
            .prepare_cached(
                "DELETE FROM samples WHERE (car, channel, bucket, t, device, boot, d, v) IN \
                   (SELECT car, channel, bucket, t, device, boot, d, v FROM samples \
                     WHERE car = ?1 AND channel = ?2 AND bucket = ?3 AND device = ?4 LIMIT ?5)",
            )?
            .execute(params![car, channel, bucket, device, rows_max as i64]);
    }
    transaction
        .prepare_cached(
            "DELETE FROM chunks WHERE rowid IN \
               (SELECT rowid FROM chunks WHERE car = ?1 AND device = ?2 AND bucket = ?3 LIMIT ?4)",
        )?
        .execute(params![car, device, bucket, rows_max as i64])
}

/// An extent whose bucket ends at `before_us` or earlier.
fn first_expired(
    transaction: &Transaction<'_>,
    day: i32,
    before_us: i64,
) -> Result<Option<ExtentRow>, rusqlite::Error> {
    // Goes from car to car, and in each the old days come first in the key: what is kept is not walked through.
    transaction
        .prepare_cached(
            "WITH RECURSIVE cars(car) AS (SELECT min(car) FROM extents UNION ALL \
               SELECT (SELECT min(car) FROM extents WHERE car > cars.car) FROM cars WHERE cars.car IS NOT NULL) \
             SELECT e.car, e.day, e.layout, e.device, e.channel, e.bucket, e.length_us FROM cars JOIN extents e \
               ON e.car = cars.car AND e.day BETWEEN ?3 AND ?1 WHERE e.bucket <= ?2 - e.length_us LIMIT 1",
        )?
        .query_row(params![day, before_us, day_of(EARLIEST_PLAUSIBLE.0)], |row| {
            Ok(ExtentRow {
                car: row.get(0)?,
                day: row.get(1)?,
                layout: row.get(2)?,
                device: row.get(3)?,
                channel: row.get(4)?,
                bucket: row.get(5)?,
                length_us: row.get(6)?,
            })
        })
        .optional()
}

//! Rows into the cluster.

use futures_util::{TryStreamExt as _, stream};
use scylla::SerializeRow;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlTimestamp, MaybeUnset};

use super::statements::Kind;
use super::{Cassandra, Class, Failure};
use crate::codec::{self, Sample};
use crate::limits::{
    CASSANDRA_BATCH_BYTES_MAX, CASSANDRA_BATCH_STATEMENTS_MAX, CASSANDRA_SAMPLES_BATCH_ROWS,
    CASSANDRA_SAMPLES_BATCHES_AT_ONCE,
};
use crate::row::{AgentRow, ChunkRow, Layout, Rows};

/// A statement's id and the lengths of its values on the wire, and a row of the small tables, about.
const STATEMENT_BYTES: usize = 256;

/// A chunk as it is bound.
#[derive(SerializeRow)]
struct ChunkValues<'a> {
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

impl<'a> From<&'a ChunkRow> for ChunkValues<'a> {
    fn from(r: &'a ChunkRow) -> Self {
        Self {
            car: &r.car,
            device: &r.device,
            bucket: r.bucket,
            channel: &r.channel,
            t0: r.t0,
            writer: &r.writer,
            seq: r.seq,
            boot: r.boot,
            d0: r.d0,
            t1: r.t1,
            at: millis(r.t0),
            n: r.n,
            v_min: MaybeUnset::from_option(r.v_min),
            v_max: MaybeUnset::from_option(r.v_max),
            v_mean: MaybeUnset::from_option(r.v_mean),
            v_last: MaybeUnset::from_option(r.v_last),
            quality: r.quality,
            codec: r.codec,
            data: &r.data,
        }
    }
}

/// A sample as it is bound.
#[derive(SerializeRow)]
struct SampleValues<'a> {
    car: &'a str,
    channel: &'a str,
    bucket: i64,
    t: i64,
    device: &'a str,
    boot: i64,
    d: i64,
    v: f64,
    at: CqlTimestamp,
    quality: i32,
    writer: &'a [u8],
    seq: i64,
}

impl<'a> SampleValues<'a> {
    fn new(of: &'a ChunkRow, sample: &Sample) -> Self {
        Self {
            car: &of.car,
            channel: &of.channel,
            bucket: of.bucket,
            t: sample.t,
            device: &of.device,
            boot: of.boot,
            d: sample.d,
            v: sample.v,
            at: millis(sample.t),
            quality: i32::from(sample.quality.0),
            writer: &of.writer,
            seq: of.seq,
        }
    }
}

fn millis(t_us: i64) -> CqlTimestamp {
    CqlTimestamp(t_us.div_euclid(1_000))
}

impl Cassandra {
    /// Writes extents first, then what describes the chunks, the chunks, and what stands beside them.
    pub(super) async fn write_rows(&self, rows: &Rows) -> Result<(), Failure> {
        let (missing, age) = self.written.missing(&rows.extents);
        self.insert(
            "extents",
            &missing,
            |a, b| (&a.car, a.day) == (&b.car, b.day),
            |_| 0,
            |r| (&r.car, r.day, &r.layout, &r.device, &r.channel, r.bucket, r.length_us),
        )
        .await?;
        self.written.remember(&missing, age);
        self.insert(
            "channels",
            &rows.channels,
            |a, b| a.car == b.car,
            |_| 0,
            |r| {
                let key = (&r.car, &r.device, &r.channel, r.since);
                (key.0, key.1, key.2, key.3, &r.unit, &r.kind, &r.value_kind, r.scale, r.offset, r.rate_mhz)
            },
        )
        .await?;
        self.insert(
            "clocks",
            &rows.clocks,
            |a, b| a.car == b.car,
            |_| 0,
            |r| (&r.car, &r.device, r.boot, r.from_us, r.offset_us, r.provisional),
        )
        .await?;
        let (samples, chunks): (Vec<_>, Vec<_>) = rows.chunks.iter().partition(|row| row.layout == Layout::Rows);
        self.write_samples(&samples).await?;
        self.insert(
            "chunks",
            &chunks,
            |a, b| (&a.car, &a.device, a.bucket) == (&b.car, &b.device, b.bucket),
            |r| r.car.len() + r.device.len() + r.channel.len() + r.data.len(),
            |&r| ChunkValues::from(r),
        )
        .await?;
        self.insert(
            "events",
            &rows.events,
            |a, b| (&a.car, a.day) == (&b.car, b.day),
            |r| r.text.len(),
            |r| (&r.car, r.day, r.t, &r.device, r.boot, r.sequence, r.d, millis(r.t), &r.kind, r.number, &r.text),
        )
        .await?;
        self.insert(
            "sessions",
            &rows.sessions,
            |a, b| a.car == b.car,
            |r| r.name.len(),
            |r| (&r.car, r.start, r.number, &r.name),
        )
        .await
    }

    /// Writes each sample of `chunks` as a row, in batches of one partition, some at once.
    async fn write_samples(&self, chunks: &[&ChunkRow]) -> Result<(), Failure> {
        if chunks.is_empty() {
            return Ok(());
        }
        let statement = self.statement(Kind::Insert("samples")).await?;
        // A chunk is taken apart when its first batch is due.
        let batches = chunks.iter().flat_map(|&chunk| match codec::samples(chunk) {
            Ok(samples) => {
                samples.chunks(CASSANDRA_SAMPLES_BATCH_ROWS).map(|some| Ok((chunk, some.to_vec()))).collect()
            }
            // Our own hands made it: it can never be stored.
            Err(error) => vec![Err(Failure { class: Class::Suspect, reason: error.to_string() })],
        });
        let statement = &statement;
        let write = |(chunk, samples): (_, Vec<Sample>)| async move {
            let values: Vec<_> = samples.iter().map(|sample| SampleValues::new(chunk, sample)).collect();
            self.write_batch(statement, values).await
        };
        stream::iter(batches).try_for_each_concurrent(CASSANDRA_SAMPLES_BATCHES_AT_ONCE, write).await
    }

    /// Requests, one after another, that [`Self::write_rows`] would make now, as a rule: one for each table that has
    /// something to be written, and more of single samples.
    pub(super) fn requests_of(&self, rows: &Rows) -> u32 {
        let Rows { extents, channels, clocks, chunks, events, sessions } = rows;
        let extents = !self.written.missing(extents).0.is_empty();
        let no_chunks = chunks.iter().all(|row| row.layout == Layout::Rows);
        let others = [channels.is_empty(), clocks.is_empty(), no_chunks, events.is_empty(), sessions.is_empty()];
        let tables = u32::from(extents) + others.into_iter().map(|empty| u32::from(!empty)).sum::<u32>();
        let samples = chunks.iter().filter(|row| row.layout == Layout::Rows);
        let batches: usize =
            samples.map(|row| (row.n.unsigned_abs() as usize).div_ceil(CASSANDRA_SAMPLES_BATCH_ROWS)).sum();
        let rounds = batches.div_ceil(CASSANDRA_SAMPLES_BATCHES_AT_ONCE);
        tables.saturating_add(u32::try_from(rounds).unwrap_or(u32::MAX)).max(1)
    }

    /// Writes a heartbeat over the one before.
    pub(super) async fn write_agent(&self, agent: &AgentRow) -> Result<(), Failure> {
        self.insert(
            "agents",
            std::slice::from_ref(agent),
            |_, _| true,
            |_| 0,
            |r| (&r.car, &r.agent, r.at_us, millis(r.at_us), &r.version, r.in_flight, r.backlog, r.stored, &r.mode),
        )
        .await
    }

    /// Writes `rows` of one table: those that follow each other in the `same` partition in one batch, as far
    /// as its bounds allow.
    async fn insert<'a, T, V: SerializeRow>(
        &self,
        table: &'static str,
        rows: &'a [T],
        same: impl Fn(&T, &T) -> bool,
        bytes: impl Fn(&T) -> usize,
        values: impl Fn(&'a T) -> V,
    ) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        let statement = self.statement(Kind::Insert(table)).await?;
        for group in rows.chunk_by(same).flat_map(|group| split(group, &bytes)) {
            self.write_batch(&statement, group.iter().map(&values).collect()).await?;
        }
        Ok(())
    }

    /// Writes rows of one partition together.
    async fn write_batch<V: SerializeRow>(&self, statement: &PreparedStatement, rows: Vec<V>) -> Result<(), Failure> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        rows.iter().for_each(|_| batch.append_statement(statement.clone()));
        self.session.batch(&batch, rows).await?;
        Ok(())
    }
}

/// `rows` in pieces within the bounds of a batch; a row that alone is too large makes a piece of its own.
fn split<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut pieces, mut start, mut sum) = (Vec::new(), 0, 0);
    for (index, row) in rows.iter().enumerate() {
        let bytes = STATEMENT_BYTES + bytes(row);
        let full = index - start == CASSANDRA_BATCH_STATEMENTS_MAX || sum + bytes > CASSANDRA_BATCH_BYTES_MAX;
        if full && index > start {
            pieces.push(&rows[start..index]);
            (start, sum) = (index, 0);
        }
        sum += bytes;
    }
    pieces.push(&rows[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_stays_within_its_bounds_and_no_row_is_lost() {
        let lengths = |rows: &[usize]| split(rows, |&bytes| bytes).iter().map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[1; 10]), [10]);
        let third = CASSANDRA_BATCH_BYTES_MAX / 3 - STATEMENT_BYTES;
        assert_eq!(lengths(&[third; 7]), [3, 3, 1]);
        let huge = 2 * CASSANDRA_BATCH_BYTES_MAX;
        assert_eq!(lengths(&[huge, 1, huge, huge]), [1, 1, 1, 1]);
        assert_eq!(lengths(&vec![0; 100_000]).iter().sum::<usize>(), 100_000);
        assert!(lengths(&vec![0; 100_000]).iter().all(|&n| n <= CASSANDRA_BATCH_STATEMENTS_MAX));
    }
}

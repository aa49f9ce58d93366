//! Rows out of the file. Columns are selected in the order of `schema.cql` and taken in that order.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, Error, Row, ToSql, params};

use crate::clock::EARLIEST_PLAUSIBLE;
use crate::row::{
    AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Layout, SampleRow, SessionRow, day_of,
};
use crate::store::schema;

/// A double as it was written: a NaN is a blob.
struct Double(f64);

impl FromSql for Double {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Real(value) => Ok(Self(value)),
            // Another tool may have written a whole number into a column of type ANY.
            ValueRef::Integer(value) => Ok(Self(value as f64)),
            ValueRef::Blob(bytes) => {
                let bytes: [u8; 8] = bytes.try_into().map_err(|_| FromSqlError::InvalidType)?;
                Ok(Self(f64::from_bits(u64::from_le_bytes(bytes))))
            }
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// A row's values, one after the other.
struct Values<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl Values<'_> {
    fn next<T: FromSql>(&mut self) -> Result<T, Error> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    fn double(&mut self) -> Result<f64, Error> {
        Ok(self.next::<Double>()?.0)
    }

    fn maybe_double(&mut self) -> Result<Option<f64>, Error> {
        Ok(self.next::<Option<Double>>()?.map(|double| double.0))
    }

    fn skip(&mut self) {
        self.next += 1;
    }
}

/// The rows of `table` for which `tail` (from `WHERE` on) holds.
fn select<T>(
    connection: &Connection,
    table: &str,
    tail: &str,
    parameters: &[&dyn ToSql],
    make: impl Fn(&mut Values<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let sql = format!("SELECT {} FROM {table} {tail}", schema::table(table).column_list());
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(parameters, |row| make(&mut Values { row, next: 0 }))?.collect()
}

pub(super) fn days(connection: &Connection, car: &str) -> Result<Vec<i32>, Error> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT day FROM extents WHERE car = ?1 ORDER BY day")?;
    statement.query_map([car], |row| row.get(0))?.collect()
}

pub(super) fn extents(connection: &Connection, car: &str, day: i32) -> Result<Vec<ExtentRow>, Error> {
    let tail = "WHERE car = ?1 AND day = ?2 ORDER BY layout, device, channel, bucket";
    select(connection, "extents", tail, params![car, day], |v| {
        Ok(ExtentRow {
            car: v.next()?,
            day: v.next()?,
            layout: v.next()?,
            device: v.next()?,
            channel: v.next()?,
            bucket: v.next()?,
            length_us: v.next()?,
        })
    })
}

pub(super) fn chunks(
    connection: &Connection,
    car: &str,
    device: &str,
    bucket: i64,
    channel: Option<&str>,
) -> Result<Vec<ChunkRow>, Error> {
    let make = |v: &mut Values<'_>| {
        Ok(ChunkRow {
            car: v.next()?,
            device: v.next()?,
            bucket: v.next()?,
            channel: v.next()?,
            t0: v.next()?,
            writer: v.next()?,
            seq: v.next()?,
            boot: v.next()?,
            d0: v.next()?,
            t1: v.next()?,
            n: {
                v.skip(); // at
                v.next()?
            },
            v_min: v.maybe_double()?,
            v_max: v.maybe_double()?,
            v_mean: v.maybe_double()?,
            v_last: v.maybe_double()?,
            quality: v.next()?,
            codec: v.next()?,
            data: v.next()?,
            layout: Layout::Chunks,
        })
    };
    const ORDER: &str = "ORDER BY channel, t0, writer, seq";
    const PARTITION: &str = "WHERE car = ?1 AND device = ?2 AND bucket = ?3";
    match channel {
        None => select(connection, "chunks", &format!("{PARTITION} {ORDER}"), params![car, device, bucket], make),
        Some(channel) => {
            let tail = format!("{PARTITION} AND channel = ?4 {ORDER}");
            select(connection, "chunks", &tail, params![car, device, bucket, channel], make)
        }
    }
}

pub(super) fn samples(connection: &Connection, car: &str, channel: &str, bucket: i64) -> Result<Vec<SampleRow>, Error> {
    let tail = "WHERE car = ?1 AND channel = ?2 AND bucket = ?3 ORDER BY t, device, boot, d, v";
    select(connection, "samples", tail, params![car, channel, bucket], |v| {
        (0..3).for_each(|_| v.skip()); // the partition
        Ok(SampleRow {
            t: v.next()?,
            device: v.next()?,
            boot: v.next()?,
            d: v.next()?,
            v: v.double()?,
            quality: {
                v.skip(); // at
                v.next()?
            },
            writer: v.next()?,
            seq: v.next()?,
        })
    })
}

pub(super) fn channels(connection: &Connection, car: &str) -> Result<Vec<ChannelRow>, Error> {
    select(connection, "channels", "WHERE car = ?1 ORDER BY device, channel, since", params![car], |v| {
        Ok(ChannelRow {
            car: v.next()?,
            device: v.next()?,
            channel: v.next()?,
            since: v.next()?,
            unit: v.next()?,
            kind: v.next()?,
            value_kind: v.next()?,
            scale: v.double()?,
            offset: v.double()?,
            rate_mhz: v.next()?,
        })
    })
}

pub(super) fn clocks(connection: &Connection, car: &str) -> Result<Vec<ClockRow>, Error> {
    select(connection, "clocks", "WHERE car = ?1 ORDER BY device, boot, from_us", params![car], |v| {
        Ok(ClockRow {
            car: v.next()?,
            device: v.next()?,
            boot: v.next()?,
            from_us: v.next()?,
            offset_us: v.next()?,
            provisional: v.next()?,
        })
    })
}

pub(super) fn events(connection: &Connection, car: &str, day: i32) -> Result<Vec<EventRow>, Error> {
    let tail = "WHERE car = ?1 AND day = ?2 ORDER BY t, device, boot, sequence";
    select(connection, "events", tail, params![car, day], |v| {
        Ok(EventRow {
            car: v.next()?,
            day: v.next()?,
            t: v.next()?,
            device: v.next()?,
            boot: v.next()?,
            sequence: v.next()?,
            d: v.next()?,
            kind: {
                v.skip(); // at
                v.next()?
            },
            number: v.next()?,
            text: v.next()?,
        })
    })
}

/// Days without data beyond which what follows is taken for a clock that was wrong: less than the 1,024 weeks by which
/// GPS receivers err, and more than any car stands still.
const JUMP_DAYS_MAX: i32 = 3_650;

/// The end of the newest partition that begins before `now_us`, of those that follow the oldest since
/// [`EARLIEST_PLAUSIBLE`] without a jump of [`JUMP_DAYS_MAX`].
pub(super) fn newest_before(connection: &Connection, now_us: i64) -> Result<Option<i64>, Error> {
    // Goes from car to car, and in each from day to day: extents have both in their key.
    const CARS: &str = "WITH RECURSIVE cars(car) AS (SELECT min(car) FROM extents UNION ALL \
           SELECT (SELECT min(car) FROM extents WHERE car > cars.car) FROM cars WHERE cars.car IS NOT NULL)";
    let mut days = connection.prepare_cached(&format!(
        "{CARS}, days(car, day) AS ( \
           SELECT car, (SELECT min(day) FROM extents e WHERE e.car = cars.car AND e.day >= ?1) FROM cars \
             WHERE cars.car IS NOT NULL UNION ALL \
           SELECT car, (SELECT min(day) FROM extents e WHERE e.car = days.car AND e.day > days.day) FROM days \
             WHERE days.day IS NOT NULL) \
         SELECT DISTINCT day FROM days WHERE day <= ?2 ORDER BY day"
    ))?;
    let range = params![day_of(EARLIEST_PLAUSIBLE.0), day_of(now_us)];
    let mut last: Option<i32> = None;
    for day in days.query_map(range, |row| row.get(0))? {
        let day: i32 = day?;
        if last.is_some_and(|last| day - last > JUMP_DAYS_MAX) {
            break;
        }
        last = Some(day);
    }
    let Some(last) = last else { return Ok(None) };
    connection
        .prepare_cached(&format!(
            "{CARS} SELECT max(e.bucket + e.length_us) FROM cars JOIN extents e ON e.car = cars.car AND e.day = ?1 \
               WHERE e.bucket < ?2"
        ))?
        .query_row(params![last, now_us], |row| row.get(0))
}

pub(super) fn sessions(connection: &Connection, car: &str) -> Result<Vec<SessionRow>, Error> {
    select(connection, "sessions", "WHERE car = ?1 ORDER BY start", params![car], |v| {
        Ok(SessionRow { car: v.next()?, start: v.next()?, number: v.next()?, name: v.next()? })
    })
}

pub(super) fn agents(connection: &Connection, car: &str) -> Result<Vec<AgentRow>, Error> {
    select(connection, "agents", "WHERE car = ?1 ORDER BY agent", params![car], |v| {
        Ok(AgentRow {
            car: v.next()?,
            agent: v.next()?,
            at_us: v.next()?,
            version: {
                v.skip(); // at
                v.next()?
            },
            in_flight: v.next()?,
            backlog: v.next()?,
            stored: v.next()?,
            mode: v.next()?,
        })
    })
}

//! Rows out of the cluster, page by page. A partition is bounded, so what is asked for is returned whole.

use scylla::DeserializeRow;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::PagingState;
use scylla::serialize::row::SerializeRow;
use scylla::value::CqlTimestamp;

use super::statements::Kind;
use super::{Cassandra, Failure};
use crate::row::{AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Layout, SampleRow, SessionRow};

const OF_CAR: &str = "WHERE car = ?";
const OF_DAY: &str = "WHERE car = ? AND day = ?";
const OF_PARTITION: &str = "WHERE car = ? AND device = ? AND bucket = ?";
const OF_SAMPLES: &str = "WHERE car = ? AND channel = ? AND bucket = ?";
const OF_CHANNEL: &str = "WHERE car = ? AND device = ? AND bucket = ? AND channel = ?";

/// A chunk as it is read.
#[derive(DeserializeRow)]
struct ChunkValues {
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
    #[expect(dead_code, reason = "t0 says the same")]
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

impl TryFrom<ChunkValues> for ChunkRow {
    type Error = Failure;

    fn try_from(v: ChunkValues) -> Result<Self, Failure> {
        let writer = writer_of(v.writer, &v.channel)?;
        Ok(Self {
            car: v.car,
            device: v.device,
            bucket: v.bucket,
            channel: v.channel,
            t0: v.t0,
            writer,
            seq: v.seq,
            boot: v.boot,
            d0: v.d0,
            t1: v.t1,
            n: v.n,
            v_min: v.v_min,
            v_max: v.v_max,
            v_mean: v.v_mean,
            v_last: v.v_last,
            quality: v.quality,
            codec: v.codec,
            data: v.data,
            layout: Layout::Chunks,
        })
    }
}

fn writer_of(bytes: Vec<u8>, channel: &str) -> Result<[u8; 16], Failure> {
    let wrong = |bytes: Vec<u8>| {
        Failure::unreadable(format!("a row of {channel} has a writer of {} bytes, not 16", bytes.len()))
    };
    bytes.try_into().map_err(wrong)
}

impl Cassandra {
    /// Every row that `kind` finds, made by `make`.
    async fn select<R, T>(
        &self,
        kind: Kind,
        values: impl SerializeRow,
        make: impl Fn(R) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let statement = self.statement(kind).await?;
        let (mut found, mut state) = (Vec::new(), PagingState::start());
        loop {
            let (page, next) = self.session.execute_single_page(&statement, &values, state).await?;
            let page = page.into_rows_result().map_err(Failure::unreadable)?;
            for row in page.rows::<R>().map_err(Failure::unreadable)? {
                found.push(make(row.map_err(Failure::unreadable)?)?);
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Break(()) => return Ok(found),
                std::ops::ControlFlow::Continue(next) => state = next,
            }
        }
    }

    /// From the keys of the partitions: one for each car and day, so the list is short.
    pub(super) async fn read_days(&self, car: &str) -> Result<Vec<i32>, Failure> {
        let found = self.select(Kind::Days, (), |key: (String, i32)| Ok(key)).await?;
        let mut days: Vec<_> = found.into_iter().filter(|(of, _)| of == car).map(|(_, day)| day).collect();
        days.sort_unstable();
        Ok(days)
    }

    pub(super) async fn read_extents(&self, car: &str, day: i32) -> Result<Vec<ExtentRow>, Failure> {
        self.select(
            Kind::Select("extents", OF_DAY),
            (car, day),
            |(car, day, layout, device, channel, bucket, length_us)| {
                Ok(ExtentRow { car, day, layout, device, channel, bucket, length_us })
            },
        )
        .await
    }

    pub(super) async fn read_chunks(
        &self,
        car: &str,
        device: &str,
        bucket: i64,
        channel: Option<&str>,
    ) -> Result<Vec<ChunkRow>, Failure> {
        let make = |values: ChunkValues| ChunkRow::try_from(values);
        match channel {
            None => self.select(Kind::Select("chunks", OF_PARTITION), (car, device, bucket), make).await,
            Some(name) => self.select(Kind::Select("chunks", OF_CHANNEL), (car, device, bucket, name), make).await,
        }
    }

    pub(super) async fn read_samples(&self, car: &str, channel: &str, bucket: i64) -> Result<Vec<SampleRow>, Failure> {
        type Values = (String, String, i64, i64, String, i64, i64, f64, Option<CqlTimestamp>, i32, Vec<u8>, i64);
        self.select(Kind::Select("samples", OF_SAMPLES), (car, channel, bucket), |values: Values| {
            let (_car, channel, _bucket, t, device, boot, d, v, _at, quality, writer, seq) = values;
            Ok(SampleRow { t, device, boot, v, d, quality, writer: writer_of(writer, &channel)?, seq })
        })
        .await
    }

    pub(super) async fn read_channels(&self, car: &str) -> Result<Vec<ChannelRow>, Failure> {
        self.select(
            Kind::Select("channels", OF_CAR),
            (car,),
            |(car, device, channel, since, unit, kind, value_kind, scale, offset, rate_mhz)| {
                Ok(ChannelRow { car, device, channel, since, unit, kind, value_kind, scale, offset, rate_mhz })
            },
        )
        .await
    }

    pub(super) async fn read_clocks(&self, car: &str) -> Result<Vec<ClockRow>, Failure> {
        self.select(Kind::Select("clocks", OF_CAR), (car,), |(car, device, boot, from_us, offset_us, provisional)| {
            Ok(ClockRow { car, device, boot, from_us, offset_us, provisional })
        })
        .await
    }

    pub(super) async fn read_events(&self, car: &str, day: i32) -> Result<Vec<EventRow>, Failure> {
        type Values = (String, i32, i64, String, i64, i64, i64, Option<CqlTimestamp>, String, i64, String);
        self.select(Kind::Select("events", OF_DAY), (car, day), |values: Values| {
            let (car, day, t, device, boot, sequence, d, _at, kind, number, text) = values;
            Ok(EventRow { car, day, t, device, boot, sequence, d, kind, number, text })
        })
        .await
    }

    pub(super) async fn read_sessions(&self, car: &str) -> Result<Vec<SessionRow>, Failure> {
        self.select(Kind::Select("sessions", OF_CAR), (car,), |(car, start, number, name)| {
            Ok(SessionRow { car, start, number, name })
        })
        .await
    }

    pub(super) async fn read_agents(&self, car: &str) -> Result<Vec<AgentRow>, Failure> {
        type Values = (String, String, i64, Option<CqlTimestamp>, String, i64, i64, i64, String);
        self.select(Kind::Select("agents", OF_CAR), (car,), |values: Values| {
            let (car, agent, at_us, _at, version, in_flight, backlog, stored, mode) = values;
            Ok(AgentRow { car, agent, at_us, version, in_flight, backlog, stored, mode })
        })
        .await
    }
}

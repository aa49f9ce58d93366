//! Rows as earlier versions laid them into the spill: a newer agent reads them (decision 0006).

use bincode::Decode;

use super::{ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Layout, Rows, SessionRow};

/// Version 1: every row was a chunk.
#[derive(Decode)]
pub(super) struct RowsV1 {
    extents: Vec<ExtentRow>,
    chunks: Vec<ChunkRowV1>,
    channels: Vec<ChannelRow>,
    clocks: Vec<ClockRow>,
    events: Vec<EventRow>,
    sessions: Vec<SessionRow>,
}

#[derive(Decode)]
struct ChunkRowV1 {
    car: String,
    device: String,
    bucket: i64,
    channel: String,
    t0: i64,
    writer: [u8; 16],
    seq: i64,
    boot: i64,
    d0: i64,
    t1: i64,
    n: i32,
    v_min: Option<f64>,
    v_max: Option<f64>,
    v_mean: Option<f64>,
    v_last: Option<f64>,
    quality: i32,
    codec: i8,
    data: Vec<u8>,
}

impl From<RowsV1> for Rows {
    fn from(rows: RowsV1) -> Self {
        let RowsV1 { extents, chunks, channels, clocks, events, sessions } = rows;
        Self { extents, chunks: chunks.into_iter().map(ChunkRow::from).collect(), channels, clocks, events, sessions }
    }
}

impl From<ChunkRowV1> for ChunkRow {
    fn from(row: ChunkRowV1) -> Self {
        Self {
            car: row.car,
            device: row.device,
            bucket: row.bucket,
            channel: row.channel,
            t0: row.t0,
            writer: row.writer,
            seq: row.seq,
            boot: row.boot,
            d0: row.d0,
            t1: row.t1,
            n: row.n,
            v_min: row.v_min,
            v_max: row.v_max,
            v_mean: row.v_mean,
            v_last: row.v_last,
            quality: row.quality,
            codec: row.codec,
            data: row.data,
            layout: Layout::Chunks,
        }
    }
}

//! Rows at the edges of what rows may hold.

use pitwire::row::{AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Layout, Rows, SessionRow, day_of};

pub(crate) const CAR: &str = "44";
pub(crate) const DEVICE: &str = "ecu";
pub(crate) const MINUTE_US: i64 = 60_000_000;
/// 2026-05-24T13:00:00Z, a full minute.
pub(crate) const BUCKET: i64 = 1_779_627_600_000_000;
pub(crate) const DAY: i32 = day_of(BUCKET);

pub(crate) fn chunk(channel: &str, t0: i64, seq: i64) -> ChunkRow {
    ChunkRow {
        car: CAR.into(),
        device: DEVICE.into(),
        bucket: BUCKET,
        channel: channel.into(),
        t0,
        writer: [0xA5; 16],
        seq,
        boot: 7,
        d0: t0.wrapping_sub(BUCKET),
        t1: t0.wrapping_add(199_000),
        n: 20,
        v_min: Some(-1.5),
        v_max: Some(8_000.0),
        v_mean: Some(0.1 + 0.2),
        v_last: Some(12.25),
        quality: 3,
        codec: 0,
        data: (0..=255).collect(),
        layout: Layout::Chunks,
    }
}

pub(crate) fn extent(day: i32, bucket: i64) -> ExtentRow {
    ExtentRow {
        car: CAR.into(),
        day,
        layout: Layout::Chunks.as_str().into(),
        device: DEVICE.into(),
        channel: String::new(),
        bucket,
        length_us: MINUTE_US,
    }
}

/// One flush: an extent and its chunks.
pub(crate) fn flush(channels: &[&str], t0: i64) -> Rows {
    let chunks = channels.iter().enumerate().map(|(seq, channel)| chunk(channel, t0, seq as i64)).collect();
    Rows { extents: vec![extent(DAY, BUCKET)], chunks, ..Rows::default() }
}

/// Rows whose every value is as odd as its type allows, in the order in which a store gives them back.
pub(crate) fn odd() -> Rows {
    let doubles = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX];
    let mut chunks: Vec<_> = doubles
        .iter()
        .enumerate()
        .map(|(seq, &value)| {
            let mut row = chunk("a", BUCKET, seq as i64);
            (row.v_min, row.v_max, row.v_mean, row.v_last) = (Some(value), Some(-value), None, Some(value));
            row
        })
        .collect();
    let mut empty = chunk("", i64::MIN, i64::MIN);
    (empty.writer, empty.boot, empty.d0, empty.t1) = ([0; 16], i64::MIN, i64::MAX, i64::MAX);
    (empty.n, empty.quality, empty.codec) = (i32::MIN, i32::MAX, i8::MIN);
    (empty.v_min, empty.v_max, empty.v_last) = (None, None, None);
    empty.data = Vec::new();
    let mut full = chunk("ζ·𝛑", i64::MAX, i64::MAX);
    (full.writer, full.boot, full.codec) = ([0xFF; 16], i64::MAX, i8::MAX);
    full.data = (0..70_000_u32).map(|i| (i * 7) as u8).collect();
    chunks.insert(0, empty);
    chunks.push(full);
    let channel = |name: &str, since: i64, scale: f64, offset: f64| ChannelRow {
        car: CAR.into(),
        device: String::new(),
        channel: name.into(),
        since,
        unit: "µ°".into(),
        kind: "raw".into(),
        value_kind: "i16".into(),
        scale,
        offset,
        rate_mhz: i64::MAX,
    };
    let clock = |from_us, offset_us, provisional| ClockRow {
        car: CAR.into(),
        device: DEVICE.into(),
        boot: i64::MIN,
        from_us,
        offset_us,
        provisional,
    };
    Rows {
        extents: vec![extent(DAY, i64::MIN), extent(DAY, BUCKET), extent(DAY, i64::MAX)],
        chunks,
        channels: vec![
            channel("", i64::MIN, -0.0, f64::NAN),
            channel("", 0, f64::INFINITY, f64::NEG_INFINITY),
            channel("z", i64::MAX, 0.1, 1e-300),
        ],
        clocks: vec![clock(i64::MIN, i64::MAX, true), clock(0, i64::MIN, false)],
        events: vec![
            event(i64::MIN, 0, ""),
            event(BUCKET, i64::MIN, "pit\u{0} wall\n\"'; DROP TABLE chunks"),
            event(BUCKET, i64::MAX, "ζ𝛑"),
        ],
        sessions: vec![
            SessionRow { car: CAR.into(), start: i64::MIN, number: i64::MAX, name: String::new() },
            SessionRow { car: CAR.into(), start: BUCKET, number: -1, name: "Qualifying ζ".into() },
        ],
    }
}

pub(crate) fn event(t: i64, sequence: i64, text: &str) -> EventRow {
    EventRow {
        car: CAR.into(),
        day: DAY,
        t,
        device: DEVICE.into(),
        boot: 7,
        sequence,
        d: i64::MIN,
        kind: "text".into(),
        number: i64::MAX,
        text: text.into(),
    }
}

pub(crate) fn heartbeat(agent: &str, at_us: i64) -> AgentRow {
    AgentRow {
        car: CAR.into(),
        agent: agent.into(),
        at_us,
        version: "0.1.0".into(),
        in_flight: 1,
        backlog: i64::MAX,
        stored: 3,
        mode: "direct".into(),
    }
}

/// What a comparison must not miss: NaN equals itself, and -0.0 is not 0.0.
pub(crate) fn bits(chunks: &[ChunkRow]) -> Vec<(ChunkRow, [Option<u64>; 4])> {
    let bare = |row: &ChunkRow| {
        let doubles = [row.v_min, row.v_max, row.v_mean, row.v_last].map(|v| v.map(f64::to_bits));
        (ChunkRow { v_min: None, v_max: None, v_mean: None, v_last: None, ..row.clone() }, doubles)
    };
    chunks.iter().map(bare).collect()
}

/// The same for channels.
pub(crate) fn channel_bits(channels: &[ChannelRow]) -> Vec<(ChannelRow, u64, u64)> {
    let bare = |row: &ChannelRow| {
        (ChannelRow { scale: 0.0, offset: 0.0, ..row.clone() }, row.scale.to_bits(), row.offset.to_bits())
    };
    channels.iter().map(bare).collect()
}

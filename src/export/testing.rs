//! What the tests of this folder share: a store in memory and makers of rows.
//!
//! The store in memory stands beside SQLite, not in its place: it can be made to fail, to count what it is
//! asked, and is fast enough for thousands of random cases. [`on_each`] runs a test on both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use crate::codec::{self, CODEC, RunTimes, Sample, encode};
use crate::row::{
    AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Layout, Rows, SampleRow, SessionRow, day_of,
};
use crate::sample::{Flags, Quality, Scaling, UnixMicros, Values};
use crate::store::{Config, Store, StoreError, StoreUrl, connect};

type ChunkKey = (String, String, i64, String, i64, [u8; 16], i64);

/// Car, day, device, channel, bucket.
type ExtentKey = (String, i32, String, String, i64);

/// A store in memory.
#[derive(Default)]
pub(super) struct MemoryStore {
    chunks: Mutex<BTreeMap<ChunkKey, ChunkRow>>,
    extents: Mutex<BTreeMap<ExtentKey, ExtentRow>>,
    samples: Mutex<BTreeMap<(String, String, i64), Vec<SampleRow>>>,
    channels: Mutex<Vec<ChannelRow>>,
    clocks: Mutex<BTreeMap<(String, String, i64, i64), ClockRow>>,
    events: Mutex<Vec<EventRow>>,
    /// So many of the next reads of partitions fail as not reachable.
    pub(super) failing: AtomicU32,
    /// Channels asked for one by one.
    pub(super) by_channel: AtomicU32,
}

#[async_trait]
impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn apply_schema(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        for row in &rows.extents {
            let key = (row.car.clone(), row.day, row.device.clone(), row.channel.clone(), row.bucket);
            self.extents.lock().unwrap().insert(key, row.clone());
        }
        for row in rows.chunks.iter().filter(|row| row.layout == Layout::Rows) {
            let mut samples = self.samples.lock().unwrap();
            let partition = samples.entry((row.car.clone(), row.channel.clone(), row.bucket)).or_default();
            for Sample { t, d, v, quality } in codec::samples(row).unwrap() {
                let key = |row: &SampleRow| (row.t, row.device.clone(), row.boot, row.v.to_bits());
                let (device, boot, writer, seq) = (row.device.clone(), row.boot, row.writer, row.seq);
                let sample = SampleRow { t, device, boot, v, d, quality: i32::from(quality.0), writer, seq };
                partition.retain(|other| key(other) != key(&sample));
                partition.push(sample);
            }
        }
        for row in rows.chunks.iter().filter(|row| row.layout == Layout::Chunks) {
            let key =
                (row.car.clone(), row.device.clone(), row.bucket, row.channel.clone(), row.t0, row.writer, row.seq);
            self.chunks.lock().unwrap().insert(key, row.clone());
        }
        for row in &rows.clocks {
            let key = (row.car.clone(), row.device.clone(), row.boot, row.from_us);
            self.clocks.lock().unwrap().insert(key, row.clone());
        }
        self.channels.lock().unwrap().extend_from_slice(&rows.channels);
        self.events.lock().unwrap().extend_from_slice(&rows.events);
        Ok(())
    }

    async fn heartbeat(&self, _: &AgentRow) -> Result<(), StoreError> {
        Ok(())
    }

    async fn expire(&self, _: UnixMicros) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn days(&self, car: &str) -> Result<Vec<i32>, StoreError> {
        let extents = self.extents.lock().unwrap();
        let days: BTreeSet<i32> = extents.values().filter(|row| row.car == car).map(|row| row.day).collect();
        Ok(days.into_iter().collect())
    }

    async fn extents(&self, car: &str, day: i32) -> Result<Vec<ExtentRow>, StoreError> {
        let extents = self.extents.lock().unwrap();
        Ok(extents.values().filter(|row| row.car == car && row.day == day).cloned().collect())
    }

    async fn chunks(
        &self,
        car: &str,
        device: &str,
        bucket: i64,
        channel: Option<&str>,
    ) -> Result<Vec<ChunkRow>, StoreError> {
        let one_less = |left: u32| left.checked_sub(1);
        if self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(StoreError::Unavailable { what: "read".into(), reason: "made to fail".into() });
        }
        self.by_channel.fetch_add(u32::from(channel.is_some()), Ordering::SeqCst);
        tokio::task::yield_now().await;
        let chunks = self.chunks.lock().unwrap();
        let of = |row: &&ChunkRow| {
            row.car == car
                && row.device == device
                && row.bucket == bucket
                && channel.is_none_or(|channel| row.channel == channel)
        };
        Ok(chunks.values().filter(of).cloned().collect())
    }

    async fn samples(&self, car: &str, channel: &str, bucket: i64) -> Result<Vec<SampleRow>, StoreError> {
        let key = (car.to_owned(), channel.to_owned(), bucket);
        Ok(self.samples.lock().unwrap().get(&key).cloned().unwrap_or_default())
    }

    async fn channels(&self, car: &str) -> Result<Vec<ChannelRow>, StoreError> {
        Ok(self.channels.lock().unwrap().iter().filter(|row| row.car == car).cloned().collect())
    }

    async fn clocks(&self, car: &str) -> Result<Vec<ClockRow>, StoreError> {
        Ok(self.clocks.lock().unwrap().values().filter(|row| row.car == car).cloned().collect())
    }

    async fn events(&self, car: &str, day: i32) -> Result<Vec<EventRow>, StoreError> {
        let events = self.events.lock().unwrap();
        Ok(events.iter().filter(|row| row.car == car && row.day == day).cloned().collect())
    }

    async fn sessions(&self, _: &str) -> Result<Vec<SessionRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn agents(&self, _: &str) -> Result<Vec<AgentRow>, StoreError> {
        Ok(Vec::new())
    }
}

/// One chunk to be made: car 44, device `ecu`, boot 1, channel `rpm`, unless told otherwise.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) car: &'static str,
    pub(super) device: &'static str,
    pub(super) boot: i64,
    pub(super) channel: &'static str,
    pub(super) writer: u8,
    pub(super) seq: i64,
    /// UTC at the time of writing − device time.
    pub(super) placed_us: i64,
    pub(super) bucket_us: i64,
    pub(super) layout: Layout,
    /// (device time, value, flags)
    pub(super) samples: Vec<(i64, f64, u16)>,
}

pub(super) fn chunk(samples: &[(i64, f64)]) -> Chunk {
    Chunk {
        car: "44",
        device: "ecu",
        boot: 1,
        channel: "rpm",
        writer: 1,
        seq: 0,
        placed_us: 0,
        bucket_us: 60_000_000,
        layout: Layout::Chunks,
        samples: samples.iter().map(|&(d, value)| (d, value, 0)).collect(),
    }
}

impl Chunk {
    /// The chunk and its extent as rows.
    pub(super) fn rows(&self) -> Rows {
        let mut times = RunTimes::new();
        let mut flags = Flags::default();
        for (already, &(d, _, quality)) in self.samples.iter().enumerate() {
            times.push(d);
            flags.push(Quality(quality), 1, already);
        }
        let d0 = times.iter().min().unwrap();
        let values = Values::F64(self.samples.iter().map(|s| s.1).collect());
        let t0 = d0 + self.placed_us;
        let bucket = t0.div_euclid(self.bucket_us) * self.bucket_us;
        let car = String::from(self.car);
        let device = String::from(self.device);
        let row = ChunkRow {
            car: car.clone(),
            device: device.clone(),
            bucket,
            channel: self.channel.into(),
            t0,
            writer: [self.writer; 16],
            seq: self.seq,
            boot: self.boot,
            d0,
            t1: times.iter().max().unwrap() + self.placed_us,
            n: i32::try_from(self.samples.len()).unwrap(),
            v_min: None,
            v_max: None,
            v_mean: None,
            v_last: None,
            quality: 0,
            codec: CODEC,
            data: encode(d0, &times, &values, Scaling::IDENTITY, &flags),
            layout: self.layout,
        };
        let extent = ExtentRow {
            car,
            day: day_of(bucket),
            layout: self.layout.as_str().into(),
            device,
            channel: if self.layout == Layout::Rows { self.channel.into() } else { String::new() },
            bucket,
            length_us: self.bucket_us,
        };
        Rows { extents: vec![extent], chunks: vec![row], ..Rows::default() }
    }
}

/// A clock mapping of `ecu`, boot 1.
pub(super) fn clock_row(from_us: i64, offset_us: i64, provisional: bool) -> ClockRow {
    ClockRow { car: "44".into(), device: "ecu".into(), boot: 1, from_us, offset_us, provisional }
}

/// What `device` says of `channel`.
pub(super) fn channel_row(device: &str, channel: &str, unit: &str) -> ChannelRow {
    ChannelRow {
        car: "44".into(),
        device: device.into(),
        channel: channel.into(),
        since: 0,
        unit: unit.into(),
        kind: "raw".into(),
        value_kind: "f64".into(),
        scale: 1.0,
        offset: 0.0,
        rate_mhz: 0,
    }
}

/// Writes `chunks` to `store`.
pub(super) async fn write(store: &dyn Store, chunks: &[Chunk]) {
    for chunk in chunks {
        store.write(&chunk.rows()).await.unwrap();
    }
}

/// Runs `test` on a store in memory and on SQLite.
pub(super) async fn on_each(test: impl AsyncFn(&dyn Store)) {
    test(&MemoryStore::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Sqlite { path: folder.path().join("pitwire.db") };
    let store = connect(&Config { url, ..Config::default() }).await.unwrap();
    test(&*store).await;
}

//! A store and a disk that do as they are told.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::row::{AgentRow, ChannelRow, ChunkRow, ClockRow, EventRow, ExtentRow, Rows, SampleRow, SessionRow};
use crate::sample::UnixMicros;
use crate::spill::RealFs;
use crate::spill::fs::{DirEntry, Filesystem, SegmentFile};
use crate::store::{Store, StoreError};

/// What the scripted store does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Script {
    /// Takes everything at once.
    Works,
    /// Takes everything, each write after this time.
    Slow(Duration),
    /// Answers nothing, ever.
    Hangs,
    /// Fails everything at once.
    Refuses,
    /// Answers checks, and fails every write at once.
    ReadsOnly,
    /// Cannot reach one partition: writes with a chunk of this channel fail at once.
    Without(&'static str),
    /// Can never take chunks of this channel, or an event with this text.
    Poison(&'static str),
    /// The same, each answer after this time.
    SlowPoison(&'static str, Duration),
    /// Can never take any row.
    PoisonAll,
    /// Its driver panics.
    Panics,
}

/// A store that does as it is told.
pub(crate) struct Scripted {
    script: Mutex<Script>,
    pub(super) written: Mutex<Vec<Rows>>,
    writes: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
    pub(super) in_flight_max: AtomicUsize,
    pub(super) connects: AtomicUsize,
    pub(super) heartbeats: AtomicUsize,
}

impl Scripted {
    pub(crate) fn new(script: Script) -> Arc<Self> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Self {
            script: Mutex::new(script),
            written: Mutex::default(),
            writes: zero(),
            in_flight: zero(),
            in_flight_max: zero(),
            connects: zero(),
            heartbeats: zero(),
        })
    }

    pub(super) fn now(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    fn script(&self) -> Script {
        *self.script.lock().unwrap()
    }

    pub(super) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// The stored chunks by channel: how often each was written.
    pub(super) fn stored(&self) -> HashMap<String, usize> {
        let mut stored = HashMap::new();
        for rows in self.written.lock().unwrap().iter() {
            rows.chunks.iter().for_each(|chunk| *stored.entry(chunk.channel.clone()).or_default() += 1);
        }
        stored
    }

    /// Every sample that a reader would see, each row once.
    pub(super) fn samples(&self) -> u64 {
        let written = self.written.lock().unwrap();
        let rows: HashMap<(&str, i64), u64> =
            written.iter().flat_map(|r| &r.chunks).map(|c| ((c.channel.as_str(), c.seq), c.n as u64)).collect();
        rows.values().sum()
    }

    async fn answer(&self) -> Result<(), StoreError> {
        let error = || StoreError::Unavailable { what: "use".into(), reason: "scripted".into() };
        match self.script() {
            Script::Hangs => pending().await,
            Script::Refuses => Err(error()),
            Script::Panics => panic!("scripted"),
            _ => Ok(()),
        }
    }

    async fn write_as_told(&self, rows: &Rows) -> Result<(), StoreError> {
        let unavailable = || StoreError::Unavailable { what: "write".into(), reason: "scripted".into() };
        let rejected = || StoreError::Rejected { reason: "scripted: too large".into() };
        let has = |name: &str| {
            rows.chunks.iter().any(|chunk| chunk.channel.starts_with(name))
                || rows.events.iter().any(|e| e.text == name)
        };
        self.answer().await?;
        if let Script::SlowPoison(_, pause) = self.script() {
            tokio::time::sleep(pause).await;
        }
        match self.script() {
            Script::ReadsOnly => return Err(unavailable()),
            Script::Without(channel) if has(channel) => return Err(unavailable()),
            Script::Poison(channel) | Script::SlowPoison(channel, _) if has(channel) => return Err(rejected()),
            Script::PoisonAll => return Err(rejected()),
            Script::Slow(pause) => tokio::time::sleep(pause).await,
            _ => {}
        }
        self.written.lock().unwrap().push(rows.clone());
        Ok(())
    }
}

/// Counts itself out also when the write is dropped.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.answer().await
    }

    async fn apply_schema(&self) -> Result<(), StoreError> {
        self.answer().await
    }

    async fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _in_flight = InFlight(&self.in_flight);
        self.in_flight_max.fetch_max(now, Ordering::SeqCst);
        self.write_as_told(rows).await
    }

    async fn expire(&self, _now: UnixMicros) -> Result<u64, StoreError> {
        self.answer().await.map(|()| 0)
    }

    async fn heartbeat(&self, _agent: &AgentRow) -> Result<(), StoreError> {
        self.answer().await?;
        self.heartbeats.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn days(&self, _car: &str) -> Result<Vec<i32>, StoreError> {
        Ok(Vec::new())
    }

    async fn extents(&self, _car: &str, _day: i32) -> Result<Vec<ExtentRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn samples(&self, _: &str, _: &str, _: i64) -> Result<Vec<SampleRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn chunks(&self, _: &str, _: &str, _: i64, _: Option<&str>) -> Result<Vec<ChunkRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn channels(&self, _car: &str) -> Result<Vec<ChannelRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn clocks(&self, _car: &str) -> Result<Vec<ClockRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn events(&self, _car: &str, _day: i32) -> Result<Vec<EventRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn sessions(&self, _car: &str) -> Result<Vec<SessionRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn agents(&self, _car: &str) -> Result<Vec<AgentRow>, StoreError> {
        Ok(Vec::new())
    }
}

/// The real file system, of which writes can be made to fail or to hang.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<DiskScript>);

#[derive(Default)]
struct DiskScript {
    fails: AtomicBool,
    hangs: AtomicBool,
}

impl Disk {
    pub(super) fn fails(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::SeqCst);
    }

    pub(super) fn hangs(&self, hangs: bool) {
        self.0.hangs.store(hangs, Ordering::SeqCst);
    }

    fn obey(&self) -> io::Result<()> {
        while self.0.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.0.fails.load(Ordering::SeqCst) { Err(io::Error::other("scripted")) } else { Ok(()) }
    }
}

impl Filesystem for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.create_dir(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        RealFs.lock(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealFs.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        self.obey()?;
        Ok(Arc::new(DiskFile(RealFs.create(path)?, self.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        RealFs.open(path)
    }
    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        self.obey()?;
        Ok(Arc::new(DiskFile(RealFs.open_to_write(path)?, self.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealFs.free_bytes(dir)
    }
}

struct DiskFile(Arc<dyn SegmentFile>, Disk);

impl SegmentFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.1.obey()?;
        self.0.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.obey()?;
        self.0.sync_data()
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }
}

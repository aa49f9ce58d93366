//! Samples in, rows out, and back through the codec. By subject: `closing`, `flushing`, `clocks`, `random`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::clock::{Clock, Gateway, Scripted, Trust};
use crate::codec;
use crate::item::Batch;
use crate::item::{Catalogue, Event, Item};
use crate::layout::{self, Layouts};
use crate::ledger::{Fate, Ledger, SourceId};
use crate::live::LiveBoard;
use crate::pipeline::Stage;
use crate::priority::{self, Priorities, Priority};
use crate::receipt::{Custody, Receipt};
use crate::row::{ChunkRow, Layout};
use crate::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Origin, Quality, Scaling, Times, UnixMicros, ValueKind, Values,
};

mod clocks;
mod closing;
mod flushing;
mod random;

const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// A minute's start in 2026.
const MINUTE: i64 = 29_500_000 * 60_000_000;

fn meta(name: &str, kind: ValueKind) -> Arc<ChannelMeta> {
    let scaling = Scaling { scale: 0.5, offset: 1.0 };
    Arc::new(ChannelMeta { name: name.into(), unit: "V".into(), kind, scaling, rate_mhz: 100_000, derived: false })
}

fn origin(device: &str, boot: u32, base: ClockBase) -> Arc<Origin> {
    Arc::new(Origin { car: "44".into(), device: device.into(), boot, base })
}

fn utc() -> Arc<Origin> {
    origin("ecu", 7, ClockBase::Utc)
}

fn column(meta: &Arc<ChannelMeta>, times: Times, values: Values) -> Column {
    Column { channel: meta.clone(), times, values, flags: Flags::default() }
}

/// `count` samples of an i16 channel every 10 ms from `t0` on.
fn every_10_ms(name: &str, t0: i64, count: u32) -> Column {
    let times = Times::Regular { t0: DeviceTime(t0), period_ns: 10_000_000, count };
    column(&meta(name, ValueKind::I16), times, Values::I16((0..count).map(|n| n as i16).collect()))
}

struct Bench {
    stage: Chunk,
    ledger: Arc<Ledger>,
    source: SourceId,
    began: Instant,
    fired: Arc<AtomicU32>,
    remembered: Arc<Mutex<Vec<KnownClock>>>,
    clock: Arc<Scripted>,
}

impl Bench {
    fn new() -> Self {
        Self::with_clocks(Vec::new())
    }

    fn with_clocks(clocks: Vec<KnownClock>) -> Self {
        Self::with(clocks, &Scripted::manual(UnixMicros(MINUTE)))
    }

    /// Another process by the same clock.
    fn with(clocks: Vec<KnownClock>, clock: &Arc<Scripted>) -> Self {
        Self::with_priorities(clocks, clock, Priorities::default())
    }

    fn with_priorities(clocks: Vec<KnownClock>, clock: &Arc<Scripted>, priorities: Priorities) -> Self {
        let ledger = Ledger::new();
        let source = ledger.source("src");
        let remembered: Arc<Mutex<Vec<KnownClock>>> = Arc::default();
        let remember = remembered.clone();
        let stage = Chunk::new(Setup {
            priorities,
            layouts: Layouts::new(&layout::Config { rows: vec!["row*".into()] }),
            flush_after: FLUSH_AFTER,
            writer: [9; 16],
            live: LiveBoard::new(),
            clocks,
            remember: Arc::new(move |clock| remember.lock().unwrap().push(clock.clone())),
            gateway: Gateway::new(clock.clone(), Trust::System),
        });
        let (began, clock) = (clock.now(), clock.clone());
        Self { stage, ledger, source, began, fired: Arc::default(), remembered, clock }
    }

    /// A receipt that is counted when it fires.
    fn receipt(&self) -> Receipt {
        let fired = self.fired.clone();
        Receipt::new(move || {
            fired.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn fired(&self) -> u32 {
        self.fired.load(Ordering::SeqCst)
    }

    fn batch_at(&mut self, origin: &Arc<Origin>, columns: Vec<Column>, received: i64, ms: u64) -> Vec<Flush> {
        let samples = columns.iter().map(|column| column.len() as u64).sum();
        let custody = Custody { receipt: self.receipt(), tally: self.ledger.receive(self.source, samples) };
        let accepted_at = self.began + Duration::from_millis(ms);
        let received = UnixMicros(received);
        self.clock.set_utc(received);
        self.give(Item::Batch(Batch { origin: origin.clone(), columns, accepted_at, received, custody }))
    }

    fn batch(&mut self, columns: Vec<Column>) -> Vec<Flush> {
        self.batch_at(&utc(), columns, MINUTE, 0)
    }

    fn event(&mut self, origin: &Arc<Origin>, t: i64, kind: &'static str, text: String) -> Vec<Flush> {
        let receipt = self.receipt();
        self.give(Item::Event(Event {
            origin: origin.clone(),
            t: DeviceTime(t),
            sequence: 3,
            kind,
            number: 5,
            text,
            accepted_at: self.began,
            received: UnixMicros(MINUTE),
            receipt,
        }))
    }

    fn catalogue(&mut self, origin: &Arc<Origin>, channels: Vec<Arc<ChannelMeta>>) -> Vec<Flush> {
        self.give(Item::Catalogue(Catalogue {
            origin: origin.clone(),
            revision: 1,
            channels,
            changed: Vec::new(),
            t: DeviceTime(MINUTE),
            received: UnixMicros(MINUTE),
            accepted_at: self.began,
        }))
    }

    fn give(&mut self, item: Item) -> Vec<Flush> {
        let mut out = Vec::new();
        self.stage.process(item, &mut out);
        flushes(out)
    }

    fn at(&mut self, ms: u64) -> Vec<Flush> {
        let mut out = Vec::new();
        self.clock.pass((self.began + Duration::from_millis(ms)).saturating_duration_since(self.clock.now()));
        self.stage.on_deadline(self.began + Duration::from_millis(ms), &mut out);
        flushes(out)
    }

    fn finish(&mut self) -> Vec<Flush> {
        let mut out = Vec::new();
        self.stage.finish(&mut out);
        flushes(out)
    }
}

fn flushes(out: Vec<Outgoing>) -> Vec<Flush> {
    let flush = |outgoing| match outgoing {
        Outgoing::Flush(flush) => {
            assert_eq!(flush.tally.samples(), flush.rows.samples(), "a flush's tally is what is in its rows");
            let layouts: BTreeSet<Layout> = flush.rows.chunks.iter().map(|row| row.layout).collect();
            assert!(layouts.len() <= 1, "one layout each: {layouts:?}");
            let partitions: BTreeSet<i64> = flush.rows.chunks.iter().map(|row| row.bucket).collect();
            assert!(partitions.len() <= 1 || layouts.contains(&Layout::Rows), "one partition each: {partitions:?}");
            flush
        }
        Outgoing::Malformed(malformed) => panic!("{malformed:?}"),
    };
    out.into_iter().map(flush).collect()
}

fn store(flushes: Vec<Flush>) {
    for flush in flushes {
        flush.tally.settle(Fate::Stored);
        flush.receipts.into_iter().for_each(Receipt::settle);
    }
}

fn chunks(flushes: &[Flush]) -> Vec<&ChunkRow> {
    flushes.iter().flat_map(|flush| &flush.rows.chunks).collect()
}

/// The samples of a row as (device time, physical value, flags).
fn samples(row: &ChunkRow) -> Vec<(i64, f64, u16)> {
    let decoded = codec::decode(row.d0, &row.data, row.codec, row.n).unwrap();
    let flags = decoded.flags.iter(decoded.times.len());
    let value = |index| decoded.scaling.physical(decoded.values.raw(index));
    decoded.times.iter().zip(flags).enumerate().map(|(index, (&t, q))| (t, value(index), q.0)).collect()
}

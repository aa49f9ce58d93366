//! What the tests of derive and decimate share: a stage with its ledger, receipts that are counted, and
//! batches in few words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Config, Lag, Preprocess, Reason, Setup, StepCounts, Swap};
use crate::clock::EARLIEST_PLAUSIBLE;
use crate::item::{Batch, Catalogue, Item};
use crate::ledger::{Fate, Ledger, Snapshot};
use crate::pipeline::Stage;
use crate::receipt::{Custody, Receipt};
use crate::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Origin, Quality, Scaling, Times, UnixMicros, ValueKind, Values,
};

/// (time, value, flags) of each sample that came out, by channel, in the order in which they came.
pub(super) type Seen = BTreeMap<String, Vec<(i64, f64, u16)>>;

/// A stage and all that comes out of it.
pub(super) struct Bench {
    pub(super) stage: Preprocess,
    pub(super) swap: Swap,
    pub(super) ledger: Arc<Ledger>,
    pub(super) counts: Arc<StepCounts>,
    pub(super) start: Instant,
    pub(super) fired: Arc<AtomicUsize>,
    pub(super) seen: Seen,
    /// What came out and is not stored yet.
    pub(super) unstored: Vec<Batch>,
    /// (channel, whether derived, times) of each column that came out.
    pub(super) batches: Vec<(String, bool, Vec<i64>)>,
    pub(super) catalogues: Vec<Catalogue>,
    pub(super) frames: usize,
}

pub(super) fn config(text: &str) -> Config {
    let mut config: Config = toml::from_str(text).unwrap();
    // Repetitions are for derive and decimate to bear as well: nobody has to leave dedup on.
    config.dedup.enabled = false;
    assert_eq!(config.faults(), [], "{text}");
    config
}

pub(super) fn meta(name: &str) -> Arc<ChannelMeta> {
    let (name, unit, scaling) = (name.into(), "u".into(), Scaling { scale: 0.5, offset: 0.0 });
    Arc::new(ChannelMeta { name, unit, kind: ValueKind::F64, scaling, rate_mhz: 0, derived: false })
}

/// A column of physical values at explicit times; those that are negative are flagged.
pub(super) fn column(name: &str, samples: &[(i64, f64)]) -> Column {
    let mut flags = Flags::default();
    for (index, (_, value)) in samples.iter().enumerate() {
        flags.push(if *value < 0.0 { Quality::OUT_OF_RANGE } else { Quality::GOOD }, 1, index);
    }
    let times = Times::Explicit(samples.iter().map(|(t, _)| *t).collect());
    let values = Values::F64(samples.iter().map(|(_, value)| value * 2.0).collect());
    Column { channel: meta(name), times, values, flags }
}

impl Bench {
    pub(super) fn new(text: &str) -> Self {
        Self::with_lag(text, Arc::new(|| Duration::ZERO))
    }

    pub(super) fn with_lag(text: &str, lag: Lag) -> Self {
        let (ledger, counts, swap) = (Ledger::new(), Arc::<StepCounts>::default(), Swap::default());
        let setup = Setup { ledger: ledger.clone(), counts: counts.clone(), lag };
        Self {
            stage: Preprocess::new(&config(text), setup, swap.clone()),
            swap,
            ledger,
            counts,
            start: Instant::now(),
            fired: Arc::default(),
            seen: Seen::new(),
            unstored: Vec::new(),
            batches: Vec::new(),
            catalogues: Vec::new(),
            frames: 0,
        }
    }

    pub(super) fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// A frame of device `ecu`, accepted at `ms`.
    pub(super) fn frame(&mut self, ms: u64, columns: Vec<Column>) {
        self.frame_of("ecu", ms, columns);
    }

    pub(super) fn frame_of(&mut self, device: &str, ms: u64, columns: Vec<Column>) {
        let samples = columns.iter().map(|column| column.len() as u64).sum();
        let tally = self.ledger.receive(self.ledger.source("s"), samples);
        let fired = self.fired.clone();
        let receipt = Receipt::new(move || {
            fired.fetch_add(1, Ordering::SeqCst);
        });
        self.frames += 1;
        let batch = Batch {
            origin: origin(device),
            columns,
            accepted_at: self.at(ms),
            received: UnixMicros(EARLIEST_PLAUSIBLE.0 + ms as i64 * 1_000),
            custody: Custody { receipt, tally },
        };
        let mut out = Vec::new();
        self.stage.process(Item::Batch(batch), &mut out);
        self.take(out);
    }

    pub(super) fn catalogue(&mut self, channels: &[(&str, u32)]) -> Vec<Arc<ChannelMeta>> {
        self.describe(channels);
        let Catalogue { channels, changed, .. } = self.catalogues.pop().unwrap();
        channels.into_iter().chain(changed).collect()
    }

    /// The same; what comes of it is in `catalogues`.
    pub(super) fn describe(&mut self, channels: &[(&str, u32)]) {
        let of =
            |(name, rate_mhz): &(&str, u32)| Arc::new(ChannelMeta { rate_mhz: *rate_mhz, ..(*meta(name)).clone() });
        let catalogue = Catalogue {
            origin: origin("ecu"),
            revision: 1,
            channels: channels.iter().map(of).collect(),
            changed: Vec::new(),
            t: DeviceTime(0),
            received: UnixMicros(0),
            accepted_at: self.start,
        };
        let mut out = Vec::new();
        self.stage.process(Item::Catalogue(catalogue), &mut out);
        self.take(out);
    }

    /// When the stage wants to be woken, in ms.
    pub(super) fn stage_due(&self) -> Option<u128> {
        self.stage.deadline().map(|due| (due - self.start).as_millis())
    }

    /// The deadline that the stage asked for passes, if it is at `ms` or before; whether it did.
    pub(super) fn pass(&mut self, ms: u64) -> bool {
        let due = self.stage.deadline().is_some_and(|due| due <= self.at(ms));
        if due {
            let mut out = Vec::new();
            self.stage.on_deadline(self.at(ms), &mut out);
            self.take(out);
            assert!(self.stage.deadline().is_none_or(|due| due > self.at(ms)), "what was due is gone");
        }
        due
    }

    pub(super) fn finish(&mut self) {
        let mut out = Vec::new();
        self.stage.finish(&mut out);
        self.take(out);
        assert_eq!(self.stage.deadline(), None);
    }

    fn take(&mut self, out: Vec<Item>) {
        for item in out {
            match item {
                Item::Batch(batch) => {
                    assert_eq!(batch.custody.tally.samples(), batch.samples(), "a batch has its samples' tally");
                    for column in &batch.columns {
                        let of = self.seen.entry(column.channel.name.to_string()).or_default();
                        let flags = column.flags.iter(column.len());
                        let each =
                            flags.enumerate().map(|(i, quality)| (column.times.at(i), column.physical(i), quality.0));
                        of.extend(each);
                        let meta = &column.channel;
                        self.batches.push((meta.name.to_string(), meta.derived, column.times.iter().collect()));
                    }
                    self.unstored.push(batch);
                }
                Item::Catalogue(catalogue) => self.catalogues.push(catalogue),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Everything that came out is stored.
    pub(super) fn store(&mut self) {
        for batch in std::mem::take(&mut self.unstored) {
            batch.custody.tally.settle(Fate::Stored);
            batch.custody.receipt.settle();
        }
    }

    pub(super) fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }

    /// Stores all, and checks that each frame was told of once and that every sample has a fate.
    pub(super) fn end(&mut self) -> Snapshot {
        self.finish();
        let all_fired = self.fired() == self.frames;
        assert!(self.unstored.is_empty() || !all_fired, "a receipt fired before its samples were stored");
        self.store();
        assert_eq!(self.fired(), self.frames, "each receipt fires once");
        let now = self.ledger.snapshot();
        assert!(now.balanced, "{now:?}");
        assert_eq!((now.total.in_flight, now.derived.in_flight), (0, 0));
        now
    }

    /// (time, value) of a channel's samples.
    pub(super) fn of(&self, channel: &str) -> Vec<(i64, f64)> {
        self.seen.get(channel).into_iter().flatten().map(|(t, value, _)| (*t, *value)).collect()
    }

    /// How often `reason` was counted, and the last case.
    pub(super) fn counted(&self, reason: Reason) -> (u64, String) {
        let deeds = self.counts.snapshot();
        let of = deeds.into_iter().filter(|deed| deed.reason == reason);
        of.fold((0, String::new()), |(samples, _), deed| (samples + deed.samples, deed.last))
    }
}

fn origin(device: &str) -> Arc<Origin> {
    Arc::new(Origin { car: "44".into(), device: device.into(), boot: 1, base: ClockBase::Utc })
}

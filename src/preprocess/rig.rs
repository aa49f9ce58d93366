//! What the steps' tests share: a stage that is fed column by column.

use std::time::Instant;

use super::*;
use crate::item::{Batch, Item};
use crate::ledger::{Fate, Ledger};
use crate::pipeline::Stage;
use crate::receipt::{Custody, Receipt};
use crate::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Origin, Quality, Scaling, Times, UnixMicros, Values,
};

pub(super) struct Rig {
    stage: Preprocess,
    pub(super) ledger: Arc<Ledger>,
    pub(super) counts: Arc<StepCounts>,
    pub(super) base: ClockBase,
    pub(super) received: UnixMicros,
}

impl Rig {
    /// `config` is what stands below `[preprocess]`.
    pub(super) fn new(config: &str) -> Self {
        let config: Config = toml::from_str(config).unwrap();
        assert_eq!(config.faults(), []);
        let (ledger, counts) = (Ledger::new(), Arc::<StepCounts>::default());
        let setup = Setup { ledger: ledger.clone(), counts: counts.clone(), lag: Arc::new(|| Duration::ZERO) };
        let stage = Preprocess::new(&config, setup, Swap::default());
        Self { stage, ledger, counts, base: ClockBase::Utc, received: UnixMicros(0) }
    }

    /// What comes of a frame; `None` if nothing is left of it.
    pub(super) fn frame(&mut self, columns: Vec<Column>, receipt: Receipt) -> Option<Batch> {
        let samples = columns.iter().map(|column| column.len() as u64).sum();
        let origin = Origin { car: "44".into(), device: "ecu".into(), boot: 1, base: self.base };
        let batch = Batch {
            origin: Arc::new(origin),
            columns,
            accepted_at: Instant::now(),
            received: self.received,
            custody: Custody { receipt, tally: self.ledger.receive(self.ledger.source("s"), samples) },
        };
        let mut out = Vec::new();
        self.stage.process(Item::Batch(batch), &mut out);
        assert!(out.len() <= 1);
        out.pop().map(|item| match item {
            Item::Batch(batch) => batch,
            other => panic!("{other:?}"),
        })
    }

    /// What comes of one column, which is stored at once.
    pub(super) fn column(&mut self, column: Column) -> Option<Column> {
        let mut batch = self.frame(vec![column], Receipt::none())?;
        batch.custody.receipt.settle();
        batch.custody.tally.settle(Fate::Stored);
        assert_eq!(batch.columns.len(), 1);
        batch.columns.pop()
    }

    /// Its flags, sample by sample.
    pub(super) fn flags(&mut self, times: Times, values: Values) -> Vec<Quality> {
        let column = self.column(column(&meta(&values), times, values)).unwrap();
        column.flags.iter(column.len()).collect()
    }

    /// What was counted, as (reason, samples).
    pub(super) fn counted(&self) -> Vec<(Reason, u64)> {
        self.counts.snapshot().into_iter().map(|deed| (deed.reason, deed.samples)).collect()
    }

    /// The last case of `reason`, in words.
    pub(super) fn words(&self, reason: Reason) -> String {
        self.counts.snapshot().into_iter().find(|deed| deed.reason == reason).unwrap().last
    }

    pub(super) fn duplicates(&self) -> u64 {
        let now = self.ledger.snapshot();
        assert!(now.balanced, "{now:?}");
        now.total.duplicate
    }
}

/// `brake.front` in bar, raw values as they are.
pub(super) fn meta(values: &Values) -> ChannelMeta {
    ChannelMeta {
        name: "brake.front".into(),
        unit: "bar".into(),
        kind: values.kind(),
        scaling: Scaling::IDENTITY,
        rate_mhz: 0,
        derived: false,
    }
}

pub(super) fn column(meta: &ChannelMeta, times: Times, values: Values) -> Column {
    assert_eq!(times.len(), values.len());
    Column { channel: Arc::new(meta.clone()), times, values, flags: Flags::default() }
}

/// Every `period_ns` from `t0_us` on.
pub(super) fn every(t0_us: i64, period_ns: u32, count: usize) -> Times {
    Times::Regular { t0: DeviceTime(t0_us), period_ns, count: count as u32 }
}

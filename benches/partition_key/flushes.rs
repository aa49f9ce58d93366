//! The rows: the simulated car of a tier, sampled by its plan and cut into flushes by the agent's own stage.
//! Every 200 ms of a device are one flush, as in a car; only the waiting is left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firmware_sim::car::{Car, Noise, STEP_S, State};
use firmware_sim::tiers::{ChannelPlan, DevicePlan, Tier, devices, raw};
use pitwire::chunk::{Chunk, Outgoing, Setup};
use pitwire::clock::{Gateway, SystemClock, Trust};
use pitwire::item::Batch;
use pitwire::item::{Catalogue, Item};
use pitwire::layout::Layouts;
use pitwire::ledger::{Fate, Ledger, SourceId, Tally};
use pitwire::live::LiveBoard;
use pitwire::pipeline::Stage;
use pitwire::priority::Priorities;
use pitwire::receipt::{Custody, Receipt};
use pitwire::row::ChunkRow;
use pitwire::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Origin, Scaling, Times, UnixMicros, ValueKind, Values,
};

/// The car's name, in the store and as the seed of its day.
pub(crate) const CAR: &str = "44";
/// The default of `deliver.flush_after`.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// The first sample: 2026-11-21 12:00:00 UTC, the start of a bucket of either key.
pub(crate) const START_US: i64 = 1_795_262_400_000_000;

const STEP_US: i64 = (STEP_S * 1e6) as i64;
const STEPS_PER_FLUSH: usize = (FLUSH_AFTER.as_micros() as i64 / STEP_US) as usize;
const SEED: u64 = 7;

/// The chunks of one flush: of one device and one bucket.
pub(crate) type Flush = Vec<ChunkRow>;

/// A car that is driven on by [`Self::drive`].
pub(crate) struct Source {
    car: Car,
    noise: Noise,
    devices: Vec<Device>,
    chunk: Chunk,
    ledger: Arc<Ledger>,
    source: SourceId,
    epoch: Instant,
    steps: usize,
}

struct Device {
    origin: Arc<Origin>,
    channels: Vec<(ChannelPlan, Arc<ChannelMeta>)>,
}

impl Source {
    /// A car at its start.
    pub(crate) fn new(tier: Tier) -> Self {
        let ledger = Ledger::new();
        let source = ledger.source("bench");
        let setup = Setup {
            priorities: Priorities::default(),
            layouts: Layouts::default(),
            flush_after: FLUSH_AFTER,
            // As random as a process's own: 128 bits that do not compress.
            writer: 0x9d3f_07c1_5be8_42a6_e17b_c0d4_3892_6f5a_u128.to_be_bytes(),
            live: LiveBoard::new(),
            clocks: Vec::new(),
            remember: Arc::new(|_| {}),
            gateway: Gateway::new(SystemClock::shared(), Trust::System),
        };
        let mut this = Self {
            car: Car::new(tier.machine(), SEED, CAR),
            noise: Noise::new(SEED, "partition key"),
            devices: devices(tier, 1.0).into_iter().map(Device::new).collect(),
            chunk: Chunk::new(setup),
            ledger,
            source,
            epoch: Instant::now(),
            steps: 0,
        };
        let mut out = Vec::new();
        for device in &this.devices {
            this.chunk.process(Item::Catalogue(device.catalogue(this.epoch)), &mut out);
        }
        // What the catalogue brings into the other tables is no part of the comparison.
        this.chunk.finish(&mut out);
        this
    }

    /// Every channel as (device, channel).
    pub(crate) fn channels(&self) -> Vec<(String, String)> {
        let of = |device: &Device| {
            let name = device.origin.device.to_string();
            device.channels.iter().map(|(plan, _)| (name.clone(), plan.name.clone())).collect::<Vec<_>>()
        };
        self.devices.iter().flat_map(of).collect()
    }

    /// The names of the devices.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| &*device.origin.device)
    }

    /// The length of the buckets that the stage has chosen for `device`, µs.
    pub(crate) fn bucket_length_us(&self, device: &str) -> i64 {
        let of = self.devices.iter().filter(|d| *d.origin.device == *device);
        let channels = of.flat_map(|d| &d.channels).map(|(_, meta)| &**meta);
        pitwire::chunk::bucket_length_us(channels, FLUSH_AFTER)
    }

    /// UTC of what comes next, µs.
    pub(crate) fn now_us(&self) -> i64 {
        START_US + self.steps as i64 * STEP_US
    }

    /// The flushes of the next `span`.
    pub(crate) fn drive(&mut self, span: Duration) -> Vec<Flush> {
        let until_us = self.now_us() + span.as_micros() as i64;
        let (mut flushes, mut out) = (Vec::new(), Vec::new());
        while self.now_us() < until_us {
            let (first, t0_us) = (self.steps, self.now_us());
            let mut states = vec![self.car.state().clone()];
            for _ in 0..STEPS_PER_FLUSH {
                self.car.step();
                states.push(self.car.state().clone());
            }
            self.steps += STEPS_PER_FLUSH;
            let accepted_at = self.epoch + Duration::from_micros((t0_us - START_US) as u64);
            for device in &self.devices {
                let columns = device.columns(&states, first, &mut self.noise);
                let samples: usize = columns.iter().map(Column::len).sum();
                if samples == 0 {
                    continue;
                }
                let tally = self.ledger.receive(self.source, samples as u64);
                let custody = Custody { receipt: Receipt::none(), tally };
                let (origin, received) = (device.origin.clone(), UnixMicros(t0_us));
                let batch = Batch { origin, columns, accepted_at, received, custody };
                self.chunk.process(Item::Batch(batch), &mut out);
            }
            self.chunk.on_deadline(accepted_at + FLUSH_AFTER, &mut out);
            flushes.extend(out.drain(..).filter_map(chunks));
        }
        flushes
    }
}

/// A flush's chunks, settled, as nobody waits for them.
fn chunks(outgoing: Outgoing) -> Option<Flush> {
    let Outgoing::Flush(mut flush) = outgoing else { return None };
    let tally: Tally = flush.tally;
    tally.settle(Fate::Stored);
    let chunks = std::mem::take(&mut flush.rows.chunks);
    (!chunks.is_empty()).then_some(chunks)
}

impl Device {
    fn new(plan: DevicePlan) -> Self {
        let origin = Origin { car: CAR.into(), device: plan.name.into(), boot: 1, base: ClockBase::Utc };
        let meta = |plan: &ChannelPlan| ChannelMeta {
            name: plan.name.as_str().into(),
            unit: plan.unit.into(),
            kind: kind(plan),
            scaling: Scaling { scale: plan.scale, offset: plan.offset },
            rate_mhz: plan.rate_mhz,
            derived: false,
        };
        let channels = plan.channels.into_iter().map(|plan| (plan.clone(), Arc::new(meta(&plan)))).collect();
        Self { origin: Arc::new(origin), channels }
    }

    fn catalogue(&self, accepted_at: Instant) -> Catalogue {
        Catalogue {
            origin: self.origin.clone(),
            revision: 1,
            channels: self.channels.iter().map(|(_, meta)| meta.clone()).collect(),
            changed: Vec::new(),
            t: DeviceTime(START_US),
            received: UnixMicros(START_US),
            accepted_at,
        }
    }

    /// What its channels see between `states`, whose first is the car at step `first`.
    fn columns(&self, states: &[State], first: usize, noise: &mut Noise) -> Vec<Column> {
        let sampled = |(plan, meta): &(ChannelPlan, Arc<ChannelMeta>)| {
            // Every tier but `f1`, which is not measured, samples at whole steps.
            let every = (1_000_000_000 / i64::from(plan.rate_mhz) / STEP_US).max(1) as usize;
            let mut values = Values::empty(meta.kind);
            let mut t0 = None;
            for (at, pair) in states.windows(2).enumerate().filter(|(at, _)| (first + at).is_multiple_of(every)) {
                t0 = t0.or(Some(START_US + (first + at) as i64 * STEP_US));
                let physical = plan.recipe.between(&pair[0], &pair[1]).at(0.0, noise);
                push(&mut values, raw(plan.kind, plan.scale, plan.offset, physical));
            }
            let times = Times::Regular {
                t0: DeviceTime(t0?),
                period_ns: (every as i64 * STEP_US * 1_000) as u32,
                count: values.len() as u32,
            };
            Some(Column { channel: meta.clone(), times, values, flags: Flags::default() })
        };
        self.channels.iter().filter_map(sampled).collect()
    }
}

fn kind(plan: &ChannelPlan) -> ValueKind {
    match plan.kind {
        pitwire_wire::ValueKind::I16 => ValueKind::I16,
        pitwire_wire::ValueKind::I32 => ValueKind::I32,
        pitwire_wire::ValueKind::F32 => ValueKind::F32,
    }
}

fn push(values: &mut Values, value: pitwire_wire::Value) {
    match (values, value) {
        (Values::I16(to), pitwire_wire::Value::I16(raw)) => to.push(raw),
        (Values::I32(to), pitwire_wire::Value::I32(raw)) => to.push(raw),
        (Values::F32(to), pitwire_wire::Value::F32(raw)) => to.push(raw),
        (_, other) => unreachable!("a plan makes values of its own kind only, not {other:?}"),
    }
}

//! The frames of a simulated car, as decode hands them on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firmware_sim::car::{Car, Noise, STEP_S, State};
use firmware_sim::tiers::{ChannelPlan, LanePlan, Tier, devices, raw};
use pitwire::item::Batch;
use pitwire::ledger::Ledger;
use pitwire::receipt::{Custody, Receipt};
use pitwire::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Origin, Scaling, Times, UnixMicros, ValueKind, Values,
};
use pitwire_wire::limits::{FRAME_BYTES_DEFAULT, burst_values_max, scan_rows_max};

/// The first sample: 2026-11-21 12:00:00 UTC.
const START_US: i64 = 1_795_262_400_000_000;
const SEED: u64 = 7;

/// The frames of a stretch of time.
pub(crate) struct Frames {
    frames: Vec<(Arc<Origin>, Vec<Column>)>,
    span: Duration,
    samples: usize,
}

impl Frames {
    /// What a car of `tier` sends in `span`.
    pub(crate) fn new(tier: Tier, span: Duration) -> Self {
        let mut car = Car::new(tier.machine(), SEED, "44");
        let mut noise = Noise::new(SEED, "preprocess");
        let steps = (span.as_secs_f64() / STEP_S).ceil() as usize + 1;
        let mut states = vec![car.state().clone()];
        for _ in 0..steps {
            car.step();
            states.push(car.state().clone());
        }
        // Whole periods of the fastest channels, so that no round begins with a gap.
        let plans = devices(tier, 1.0);
        let period_ns = plans.iter().flat_map(|plan| &plan.lanes).map(|lane| lane.config.period_ns).min();
        let period_ns = period_ns.expect("every tier has channels");
        let span = Duration::from_nanos(span.as_nanos() as u64 / period_ns * period_ns);
        let mut frames = Vec::new();
        for plan in plans {
            let origin = Origin { car: "44".into(), device: plan.name.into(), boot: 1, base: ClockBase::Utc };
            let origin = Arc::new(origin);
            for lane in &plan.lanes {
                let channels = &plan.channels[lane.channels.clone()];
                frames.extend(lane_frames(&origin, lane, channels, &states, span, &mut noise));
            }
        }
        // As they come: in the order of their ends.
        frames.sort_by_key(|(_, columns)| columns.first().map(|column| column.times.at(column.len() - 1)));
        let samples = frames.iter().flat_map(|(_, columns)| columns).map(Column::len).sum();
        Self { frames, span, samples }
    }

    pub(crate) fn batches(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// The same frames, `round` stretches later.
    pub(crate) fn batches_of(&self, round: usize, ledger: &Arc<Ledger>) -> Vec<Batch> {
        let (source, later_us) = (ledger.source("bench"), self.span.as_micros() as i64 * round as i64);
        let batch = |(origin, columns): &(Arc<Origin>, Vec<Column>)| {
            let mut columns = columns.clone();
            for column in &mut columns {
                if let Times::Regular { t0, .. } = &mut column.times {
                    t0.0 += later_us;
                }
            }
            let samples = columns.iter().map(|column| column.len() as u64).sum();
            Batch {
                origin: origin.clone(),
                columns,
                accepted_at: Instant::now(),
                received: UnixMicros(START_US + later_us),
                custody: Custody { receipt: Receipt::none(), tally: ledger.receive(source, samples) },
            }
        };
        self.frames.iter().map(batch).collect()
    }
}

/// The frames of channels that are sampled together, each as full as it can be.
fn lane_frames(
    origin: &Arc<Origin>,
    lane: &LanePlan,
    channels: &[ChannelPlan],
    states: &[State],
    span: Duration,
    noise: &mut Noise,
) -> Vec<(Arc<Origin>, Vec<Column>)> {
    let count = (span.as_nanos() as u64 / lane.config.period_ns) as usize;
    let metas: Vec<Arc<ChannelMeta>> = channels.iter().map(|plan| Arc::new(meta(plan))).collect();
    let burst = lane.config.group == 0;
    let (name, row) = (origin.device.len(), channels.iter().map(|plan| plan.kind.bytes()).sum());
    let mut frames = Vec::new();
    let mut column = |plan: &ChannelPlan, meta: &Arc<ChannelMeta>, from: usize, count: usize| {
        let mut values = Values::empty(meta.kind);
        for index in from..from + count {
            let at = index as f64 * lane.config.period_ns as f64 / 1e9 / STEP_S;
            let step = at as usize;
            let physical = plan.recipe.between(&states[step], &states[step + 1]).at(at.fract(), noise);
            push(&mut values, raw(plan.kind, plan.scale, plan.offset, physical));
        }
        let t0 = DeviceTime(START_US + (from as u64 * lane.config.period_ns / 1000) as i64);
        let times = Times::Regular { t0, period_ns: lane.config.period_ns as u32, count: count as u32 };
        Column { channel: meta.clone(), times, values, flags: Flags::default() }
    };
    if burst {
        for (plan, meta) in channels.iter().zip(&metas) {
            let full = burst_values_max(FRAME_BYTES_DEFAULT, name, plan.kind);
            for from in (0..count).step_by(full) {
                frames.push((origin.clone(), vec![column(plan, meta, from, full.min(count - from))]));
            }
        }
    } else {
        let full = scan_rows_max(FRAME_BYTES_DEFAULT, name, row);
        for from in (0..count).step_by(full) {
            let rows = full.min(count - from);
            let columns = channels.iter().zip(&metas).map(|(plan, meta)| column(plan, meta, from, rows)).collect();
            frames.push((origin.clone(), columns));
        }
    }
    frames
}

fn meta(plan: &ChannelPlan) -> ChannelMeta {
    let kind = match plan.kind {
        pitwire_wire::ValueKind::I16 => ValueKind::I16,
        pitwire_wire::ValueKind::I32 => ValueKind::I32,
        pitwire_wire::ValueKind::F32 => ValueKind::F32,
    };
    let scaling = Scaling { scale: plan.scale, offset: plan.offset };
    let (name, unit) = (plan.name.as_str().into(), plan.unit.into());
    ChannelMeta { name, unit, kind, scaling, rate_mhz: plan.rate_mhz, derived: false }
}

fn push(values: &mut Values, value: pitwire_wire::Value) {
    match (values, value) {
        (Values::I16(to), pitwire_wire::Value::I16(raw)) => to.push(raw),
        (Values::I32(to), pitwire_wire::Value::I32(raw)) => to.push(raw),
        (Values::F32(to), pitwire_wire::Value::F32(raw)) => to.push(raw),
        (_, other) => unreachable!("a plan makes values of its own kind only, not {other:?}"),
    }
}

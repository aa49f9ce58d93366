//! One device of one car, with what its sensors see and where its frames go.

use std::ops::Range;

use pitwire_wire::{ChannelEntry, DeviceName, EventKind, Value, ValueKind, Values};

use super::port::Wire;
use crate::car::{Happening, Noise, STEP_S, State};
use crate::device::{Clock, Device, Full, LaneConfig, Made, Outbox, Queue};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, Tally};
use crate::options::Options;
use crate::stop::Stop;
use crate::tiers::{ChannelPlan, DevicePlan, raw};

/// Frames that a device holds while the line is busy: 32 × 1 KiB.
pub(super) const QUEUE_FRAMES: usize = 32;
/// A Burst is sent before its first sample is this old.
const BURST_AGE_S: f64 = 0.1;
/// Nanoseconds of a step of the car.
pub(super) const STEP_NS: u32 = (STEP_S * 1e9) as u32;

/// A device's plan with the strings that its catalogue borrows.
#[derive(Debug)]
pub(super) struct RigPlan {
    pub(super) car: String,
    pub(super) device: DevicePlan,
    /// Which car of the port.
    pub(super) car_index: usize,
    /// Whether it tells of laps: the first device of each car on the port.
    pub(super) tells_laps: bool,
}

impl RigPlan {
    pub(super) fn entries(&self) -> Vec<ChannelEntry<'_>> {
        self.device.channels.iter().map(ChannelPlan::entry).collect()
    }
}

/// What a device has sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceSummary {
    /// The car.
    pub car: String,
    /// The device.
    pub device: String,
    /// Starts, the first included.
    pub boots: u32,
    /// Frames made.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
    /// Frames that a full buffer refused.
    pub frames_dropped: u64,
    /// Samples in those.
    pub samples_dropped: u64,
    /// Samples in frames that faults made unreadable, or that an unplugged line lost.
    pub samples_hit: u64,
}

/// Values of a Burst that is being filled.
#[derive(Debug)]
enum Column {
    I16(Vec<i16>),
    I32(Vec<i32>),
    F32(Vec<f32>),
}

impl Column {
    fn new(kind: ValueKind) -> Self {
        match kind {
            ValueKind::I16 => Self::I16(Vec::new()),
            ValueKind::I32 => Self::I32(Vec::new()),
            ValueKind::F32 => Self::F32(Vec::new()),
        }
    }

    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::I16(v), Value::I16(x)) => v.push(x),
            (Self::I32(v), Value::I32(x)) => v.push(x),
            (Self::F32(v), Value::F32(x)) => v.push(x),
            _ => debug_assert!(false, "a column takes its own kind"),
        }
    }

    fn values(&self) -> Values<'_> {
        match self {
            Self::I16(v) => Values::I16(v),
            Self::I32(v) => Values::I32(v),
            Self::F32(v) => Values::F32(v),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::I16(v) => v.clear(),
            Self::I32(v) => v.clear(),
            Self::F32(v) => v.clear(),
        }
    }
}

/// A channel that is sent in Bursts.
#[derive(Debug)]
struct BurstState {
    column: Column,
    /// Index of the first value in its lane.
    first: u64,
    /// Values of the Burst that is being filled.
    wanted: usize,
    /// Values of every later one.
    full: usize,
}

/// One device at work.
pub(super) struct Rig<'a> {
    pub(super) plan: &'a RigPlan,
    pub(super) device: Device<'a>,
    pub(super) queue: Queue<QUEUE_FRAMES>,
    tally: Tally<'a>,
    noise: Noise,
    boots: Noise,
    bursts: Vec<Option<BurstState>>,
    row: Vec<Value>,
    pub(super) summary: DeviceSummary,
}

/// Where a rig's frames go while it works.
struct Out<'r, 'a, 'w> {
    queue: &'r mut Queue<QUEUE_FRAMES>,
    tally: &'r mut Tally<'a>,
    summary: &'r mut DeviceSummary,
    wire: &'r mut Wire<'w>,
    rig_index: usize,
    stop: &'r Stop,
}

impl Outbox for Out<'_, '_, '_> {
    fn put(&mut self, made: &Made<'_>) -> std::result::Result<(), Full> {
        self.tally.frame(made.header, made.payload);
        self.summary.frames += 1;
        self.summary.samples += u64::from(made.samples);
        if self.queue.is_full() {
            self.wire.make_room(self.rig_index, self.queue, self.summary, self.stop);
        }
        let put = self.queue.push(made.frame);
        if put.is_err() {
            self.summary.frames_dropped += 1;
            self.summary.samples_dropped += u64::from(made.samples);
        }
        self.wire.drain(self.rig_index, self.queue, self.summary, self.stop);
        put
    }
}

impl<'a> Rig<'a> {
    /// A device that starts now.
    pub(super) fn new(
        plan: &'a RigPlan,
        entries: &'a [ChannelEntry<'a>],
        options: &Options,
        start_us: i64,
        manifest: Option<&'a Manifest>,
    ) -> Result<Self> {
        let what = || format!("set up device {} of car {}", plan.device.name, plan.car);
        let purpose = format!("{}/{}", plan.car, plan.device.name);
        // The start is mixed in: a later run is another boot, even with the same seed.
        let mut boots = Noise::new(options.seed ^ start_us.cast_unsigned(), &purpose);
        let boot = boots.next_u64() as u32;
        let name = DeviceName::new(plan.device.name).map_err(|e| Error::failed(what(), e))?;
        let lanes: Vec<LaneConfig> = plan.device.lanes.iter().map(|lane| lane.config).collect();
        let clock = Clock::new(options.clock, start_us);
        let device = Device::new(name, clock, boot, entries, &lanes).map_err(|e| Error::failed(what(), e))?;
        let mut rig = Self {
            plan,
            queue: Queue::new(),
            tally: Tally::new(manifest, &plan.car, plan.device.name, entries),
            noise: Noise::new(options.seed, &format!("{purpose}/noise")),
            boots,
            bursts: Vec::new(),
            row: Vec::new(),
            summary: DeviceSummary {
                car: plan.car.clone(),
                device: plan.device.name.to_owned(),
                boots: 1,
                ..DeviceSummary::default()
            },
            device,
        };
        rig.begin_bursts();
        Ok(rig)
    }

    /// Empties the Bursts. The first of each channel has a length of its own, so that the channels
    /// do not all send at once.
    fn begin_bursts(&mut self) {
        self.bursts.clear();
        for lane in &self.plan.device.lanes {
            let many = lane.channels.len().max(1);
            for (i, channel) in self.plan.device.channels[lane.channels.clone()].iter().enumerate() {
                let state = (lane.config.group == 0).then(|| {
                    let fits = self.device.burst_values_max(channel.kind);
                    let by_age = (BURST_AGE_S * 1e9 / lane.config.period_ns as f64) as usize;
                    let full = by_age.clamp(1, fits.max(1));
                    BurstState {
                        column: Column::new(channel.kind),
                        first: 0,
                        wanted: 1 + i * full.saturating_sub(1) / many,
                        full,
                    }
                });
                self.bursts.push(state);
            }
        }
    }

    /// A step of the car passes.
    pub(super) fn step(
        &mut self,
        rig_index: usize,
        before: &State,
        now: &State,
        happening: Option<&Happening>,
        wire: &mut Wire<'_>,
        stop: &Stop,
    ) -> Result<()> {
        let start_ns = self.device.clock().local_ns();
        self.device.clock_mut().advance(STEP_NS);
        let span = start_ns..self.device.clock().local_ns();
        let mut out =
            Out { queue: &mut self.queue, tally: &mut self.tally, summary: &mut self.summary, wire, rig_index, stop };
        let failed =
            |e| Error::failed(format!("make a frame of device {} of car {}", self.plan.device.name, self.plan.car), e);
        self.device.tick(&mut out).map_err(failed)?;
        if let (Some(happening), true) = (happening, self.plan.tells_laps) {
            let (kind, number, text) = event(happening);
            self.device.event(kind, number, &text, &mut out).map_err(failed)?;
        }
        let work = Work { plan: &self.plan.device, before, now, span };
        for lane in 0..self.plan.device.lanes.len() {
            if self.plan.device.lanes[lane].config.group == 0 {
                work.bursts(lane, &mut self.device, &mut self.bursts, &mut self.noise, &mut out).map_err(failed)?;
            } else {
                work.rows(lane, &mut self.device, &mut self.row, &mut self.noise, &mut out).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Sends what is held: rows, Bursts.
    pub(super) fn flush(&mut self, rig_index: usize, wire: &mut Wire<'_>, stop: &Stop) -> Result<()> {
        let failed =
            |e| Error::failed(format!("make a frame of device {} of car {}", self.plan.device.name, self.plan.car), e);
        let mut out =
            Out { queue: &mut self.queue, tally: &mut self.tally, summary: &mut self.summary, wire, rig_index, stop };
        self.device.flush(&mut out).map_err(failed)?;
        for (lane, plan) in self.plan.device.lanes.iter().enumerate() {
            for at in plan.channels.clone() {
                if let Some(state) = &mut self.bursts[at]
                    && !state.column.values().is_empty()
                {
                    let id = self.plan.device.channels[at].id;
                    self.device.burst(lane, id, state.first, state.column.values(), &mut out).map_err(failed)?;
                    state.column.clear();
                }
            }
        }
        Ok(())
    }

    /// The last words: what is held, and the account.
    pub(super) fn end(&mut self, rig_index: usize, wire: &mut Wire<'_>, stop: &Stop) -> Result<()> {
        self.flush(rig_index, wire, stop)?;
        let mut out =
            Out { queue: &mut self.queue, tally: &mut self.tally, summary: &mut self.summary, wire, rig_index, stop };
        let failed = |e| Error::failed(format!("make a frame of device {}", self.plan.device.name), e);
        self.device.status(&mut out).map_err(failed)?;
        self.tally.finish();
        Ok(())
    }

    /// The device loses power and starts again.
    pub(super) fn reboot(&mut self) {
        let boot = self.next_boot();
        self.device.reboot(boot);
        self.begin_again();
    }

    /// Its clock is stepped; call [`Rig::flush`] first.
    pub(super) fn step_clock(&mut self, by_us: i64) {
        let boot = self.next_boot();
        self.device.step_clock(by_us, boot);
        if by_us < 0 {
            self.begin_again();
        }
    }

    fn next_boot(&mut self) -> u32 {
        loop {
            let boot = self.boots.next_u64() as u32;
            if boot != self.device.boot() {
                return boot;
            }
        }
    }

    fn begin_again(&mut self) {
        self.tally.finish();
        self.begin_bursts();
        self.summary.boots += 1;
    }
}

/// One step of the car, as one device samples it.
struct Work<'w> {
    plan: &'w DevicePlan,
    before: &'w State,
    now: &'w State,
    /// On the device's count, ns.
    span: Range<u64>,
}

impl Work<'_> {
    fn share(&self, due_ns: u64) -> f64 {
        let length = (self.span.end - self.span.start).max(1);
        due_ns.saturating_sub(self.span.start) as f64 / length as f64
    }

    fn rows(
        &self,
        lane: usize,
        device: &mut Device<'_>,
        row: &mut Vec<Value>,
        noise: &mut Noise,
        out: &mut impl Outbox,
    ) -> std::result::Result<(), pitwire_wire::EncodeError> {
        let Some(state) = device.lanes().get(lane) else { return Ok(()) };
        let due = state.next()..state.due_end(self.span.end);
        for index in due {
            let Some(state) = device.lanes().get(lane) else { return Ok(()) };
            let share = self.share(state.due_ns(index));
            row.clear();
            for channel in &self.plan.channels[self.plan.lanes[lane].channels.clone()] {
                let value = channel.recipe.between(self.before, self.now).at(share, noise);
                row.push(raw(channel.kind, channel.scale, channel.offset, value));
            }
            device.row(lane, row, out)?;
        }
        Ok(())
    }

    fn bursts(
        &self,
        lane: usize,
        device: &mut Device<'_>,
        bursts: &mut [Option<BurstState>],
        noise: &mut Noise,
        out: &mut impl Outbox,
    ) -> std::result::Result<(), pitwire_wire::EncodeError> {
        let Some(state) = device.lanes().get(lane) else { return Ok(()) };
        let due = state.next()..state.due_end(self.span.end);
        let period_ns = state.config().period_ns;
        for at in self.plan.lanes[lane].channels.clone() {
            let channel = &self.plan.channels[at];
            let Some(burst) = bursts.get_mut(at).and_then(Option::as_mut) else { continue };
            let segment = channel.recipe.between(self.before, self.now);
            for index in due.clone() {
                if burst.column.values().is_empty() {
                    burst.first = index;
                }
                let value = segment.at(self.share(index * period_ns), noise);
                burst.column.push(raw(channel.kind, channel.scale, channel.offset, value));
                if burst.column.values().len() >= burst.wanted {
                    device.burst(lane, channel.id, burst.first, burst.column.values(), out)?;
                    burst.column.clear();
                    burst.wanted = burst.full;
                }
            }
        }
        device.taken(lane, due.end);
        Ok(())
    }
}

/// What is told of something that happened. The lap's number is that of the one which begins.
fn event(happening: &Happening) -> (EventKind, i64, String) {
    match happening {
        Happening::Session => (EventKind::Session, 1, "practice".to_owned()),
        Happening::Lap { number, time_s } => {
            let (minutes, seconds) = ((time_s / 60.0).floor(), time_s % 60.0);
            let text = if *number == 0 { String::new() } else { format!("{minutes:.0}:{seconds:06.3}") };
            (EventKind::Lap, i64::from(*number) + 1, text)
        }
    }
}

//! One port at work: its cars drive, its devices sample, its wire sends.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pitwire_wire::ChannelEntry;
use tracing::warn;

use super::inject::{Form, Injector};
use super::pace::Pace;
use super::rig::{DeviceSummary, Rig, RigPlan, STEP_NS};
use super::target::Target;
pub(super) use super::wire::Wire;
use crate::car::{Car, Happening};
use crate::error::Result;
use crate::fault::{Fault, FaultKind, When};
use crate::manifest::Manifest;
use crate::options::{Options, Output, Speed};
use crate::stop::Stop;

/// Simulated time of a step.
const STEP: Duration = Duration::from_nanos(STEP_NS as u64);

/// While frames wait for the line, it is tried this often.
const DRAIN_EVERY: Duration = Duration::from_millis(1);

/// When the first port began to send: the cars started then, for all ports.
pub(super) type Origin = OnceLock<(Instant, i64)>;

/// A port before it runs.
pub(super) struct Port {
    pub(super) cars: Vec<String>,
    pub(super) rigs: Vec<RigPlan>,
}

/// What a port has sent, and what went wrong.
pub(super) struct PortSummary {
    pub(super) devices: Vec<DeviceSummary>,
    pub(super) problem: Option<String>,
    pub(super) elapsed: Duration,
}

/// A fault of a device or its cable, at a time.
struct Timed {
    at: Duration,
    kind: FaultKind,
    rigs: Vec<usize>,
}

impl Port {
    /// Runs to the end.
    pub(super) fn run(
        &self,
        mut wire: Wire<'_>,
        output: &Output,
        options: &Options,
        manifest: Option<&Manifest>,
        origin: &Origin,
        stop: &Stop,
    ) -> Result<PortSummary> {
        let entries: Vec<Vec<ChannelEntry<'_>>> = self.rigs.iter().map(RigPlan::entries).collect();
        self.set_targets(&mut wire, output, options);
        let mut timed = self.timed_faults(output, options);
        if !wire.await_reader(stop) {
            return Ok(PortSummary { devices: Vec::new(), problem: None, elapsed: Duration::ZERO });
        }
        let (started, origin_us) = *origin.get_or_init(|| (Instant::now(), start_us(options)));
        let (late, factor) = match options.speed {
            // Devices on several ports see one car, whichever port is opened first.
            Speed::Times(times) if options.start_us.is_none() => (started.elapsed(), times),
            Speed::Times(times) => (Duration::ZERO, times),
            Speed::Max => (Duration::ZERO, 1.0),
        };
        let late_steps = (late.as_secs_f64() * factor / STEP.as_secs_f64()) as u64;
        let late_us = late_steps.saturating_mul(u64::from(STEP_NS) / 1_000);
        let start_us = origin_us.saturating_add_unsigned(late_us);

        let mut rigs = Vec::new();
        for (plan, entries) in self.rigs.iter().zip(&entries) {
            rigs.push(Rig::new(plan, entries, options, start_us, manifest)?);
        }
        let mut cars: Vec<Car> =
            self.cars.iter().map(|name| Car::new(options.tier.machine(), options.seed, name)).collect();
        for car in &mut cars {
            for _ in 0..late_steps {
                car.step();
            }
        }

        let mut pace = Pace::new(options.speed, STEP);
        let mut happenings: Vec<Option<Happening>> = vec![Some(Happening::Session); cars.len()];
        let mut before: Vec<_> = cars.iter().map(|car| car.state().clone()).collect();
        let end = options.run_for.unwrap_or(Duration::MAX);
        while wire.elapsed < end && !stop.is_stopped() {
            wire.tend();
            let now = wire.elapsed;
            for fault in timed.extract_if(.., |fault| fault.at <= now) {
                self.inject(&fault, &mut rigs, &mut wire, stop)?;
            }
            for (i, car) in cars.iter_mut().enumerate() {
                before[i].clone_from(car.state());
                let happened = car.step();
                happenings[i] = happenings[i].take().or(happened);
            }
            for (i, rig) in rigs.iter_mut().enumerate() {
                let at = rig.plan.car_index;
                rig.step(i, &before[at], cars[at].state(), happenings[at].as_ref(), &mut wire, stop)?;
            }
            happenings.fill(None);
            wire.elapsed += STEP;
            pace.advance();
            loop {
                // Frames that wait go out although nothing new is made.
                let mut waiting = wire.is_busy();
                for (i, rig) in rigs.iter_mut().enumerate() {
                    wire.drain(i, &mut rig.queue, &mut rig.summary, stop);
                    waiting |= !rig.queue.is_empty();
                }
                let Some(left) = pace.left() else { break };
                if waiting {
                    wire.wait(left.min(DRAIN_EVERY));
                } else {
                    std::thread::sleep(left);
                }
            }
        }
        for (i, rig) in rigs.iter_mut().enumerate() {
            rig.end(i, &mut wire, stop)?;
        }
        for (i, rig) in rigs.iter_mut().enumerate() {
            wire.finish_queue(i, &mut rig.queue, &mut rig.summary, stop);
        }
        wire.account_missing();
        let problem = wire.finish(stop).err();
        if let Some(problem) = &problem {
            warn!("{problem}");
        }
        Ok(PortSummary { devices: rigs.into_iter().map(|rig| rig.summary).collect(), problem, elapsed: wire.elapsed })
    }

    fn set_targets(&self, wire: &mut Wire<'_>, output: &Output, options: &Options) {
        let form = if output.is_line() { Form::Line } else { Form::Message };
        let mut garbage_taken: Vec<&Fault> = Vec::new();
        for plan in &self.rigs {
            let mut faults = Vec::new();
            for fault in &options.faults {
                if !fault.concerns(&plan.car, plan.device.name) {
                    continue;
                }
                // Garbage comes over the cable: once, however many devices are on it.
                let garbage = matches!(fault.kind, FaultKind::Garbage(_));
                if garbage && garbage_taken.contains(&fault) {
                    continue;
                }
                if garbage {
                    garbage_taken.push(fault);
                }
                if garbage || fault.kind.hits_frames() {
                    faults.push(fault.clone());
                }
            }
            let purpose = format!("{}/{}/faults", plan.car, plan.device.name);
            let groups = plan.device.channels.iter().map(|channel| channel.group);
            let injector = Injector::new(faults, options.seed, &purpose, form, groups);
            wire.targets.push(Target::new(&plan.car, plan.device.name, injector));
        }
    }

    fn timed_faults(&self, output: &Output, options: &Options) -> Vec<Timed> {
        let mut timed = Vec::new();
        for fault in &options.faults {
            let When::At(at) = fault.when else { continue };
            let rigs: Vec<usize> =
                (0..self.rigs.len()).filter(|&i| fault.concerns(&self.rigs[i].car, self.rigs[i].device.name)).collect();
            let on_line = !matches!(fault.kind, FaultKind::Unplug(_)) || output.is_line();
            let frame = fault.kind.hits_frames() || matches!(fault.kind, FaultKind::Garbage(_));
            if !rigs.is_empty() && on_line && !frame {
                timed.push(Timed { at, kind: fault.kind, rigs });
            }
        }
        timed
    }

    fn inject(&self, fault: &Timed, rigs: &mut [Rig<'_>], wire: &mut Wire<'_>, stop: &Stop) -> Result<()> {
        if let FaultKind::Unplug(length) = fault.kind {
            wire.unplug(fault.at + length);
            return Ok(());
        }
        for &i in &fault.rigs {
            let Some(rig) = rigs.get_mut(i) else { continue };
            if let FaultKind::Step(_) = fault.kind {
                rig.flush(i, wire, stop)?;
            }
            let last = rig.device.next_sequence().saturating_sub(1);
            wire.note(i, fault.kind.as_str(), rig.device.boot(), last);
            match fault.kind {
                FaultKind::Reboot => rig.reboot(),
                FaultKind::Step(by_us) => rig.step_clock(by_us),
                FaultKind::Drift(ppm) => rig.device.clock_mut().set_drift_ppm(ppm),
                _ => {}
            }
        }
        Ok(())
    }
}

/// UTC at the start. What runs faster than time begins so much earlier that it ends about now:
/// nobody should have to store the future.
fn start_us(options: &Options) -> i64 {
    if let Some(start_us) = options.start_us {
        return start_us;
    }
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ahead = match (options.speed, options.run_for) {
        (Speed::Times(times), Some(length)) if times > 1.0 => length.mul_f64(1.0 - 1.0 / times),
        (Speed::Max, Some(length)) => length,
        _ => Duration::ZERO,
    };
    i64::try_from(since_1970.saturating_sub(ahead).as_micros()).unwrap_or(i64::MAX)
}

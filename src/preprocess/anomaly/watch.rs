//! One channel: its detectors, and which anomalies are open.

use std::sync::Arc;

use super::super::Context;
use super::super::counts::Rule;
use super::config::{Config, Detector};
use super::drift::Drift;
use super::flatline::Flatline;
use super::rate::Rate;
use super::report::{Told, brief, lasting};
use super::spike::{Seen, Spike};
use crate::sample::{ChannelMeta, Quality};

/// Values with one of these say nothing of the channel.
const UNUSABLE: u16 = Quality::OUT_OF_RANGE.0 | Quality::NOT_FINITE.0;
/// Distances of two samples that make a gap, after which levels and dwells start anew.
const GAP: i64 = 8;
/// A time so far before the last one is a clock that was set, not a late sample: all is learned anew.
pub(super) const SET_BACK_US: i64 = 10_000_000;

/// An anomaly that is going on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Device time, µs.
    pub(super) since: i64,
    pub(super) samples: i64,
}

/// What is known of one channel.
pub(super) struct Watch {
    pub(super) meta: Arc<ChannelMeta>,
    pub(super) rule: Rule,
    pub(super) config: Arc<Config>,
    first: i64,
    /// Samples so far.
    pub(super) seen: u32,
    /// The last sample's time, µs; `None` before the first.
    pub(super) last: Option<i64>,
    /// The usual distance of two samples, µs, times 64: an exponentially weighted mean, clipped at three times itself.
    pub(super) pace: i64,
    spike: Option<Spike>,
    flatline: Option<Flatline>,
    drift: Option<Drift>,
    rate: Option<Rate>,
    pub(super) open: [Option<Open>; 4],
    /// How far it usually is behind its device, and whether it stopped: kept by `device`.
    pub(super) silence: super::device::Silence,
    told: Vec<Told>,
}

impl Watch {
    pub(super) fn new(meta: &Arc<ChannelMeta>, rule: &Rule, config: &Arc<Config>) -> Self {
        let wanted = |detector| config.detect.contains(&detector);
        Self {
            meta: meta.clone(),
            rule: rule.clone(),
            config: config.clone(),
            first: 0,
            seen: 0,
            last: None,
            pace: 0,
            spike: wanted(Detector::Spike).then(|| Spike::new(config.spike_factor, config.learn_for)),
            flatline: wanted(Detector::Flatline).then(|| Flatline::new(config.flatline_after, config.flatline_factor)),
            drift: wanted(Detector::Drift).then(|| Drift::new(config.drift_window, config.drift_factor)),
            rate: wanted(Detector::RateDrop).then(|| Rate::new(config.rate_window, config.rate_factor, meta.rate_mhz)),
            open: [None; 4],
            silence: super::device::Silence::default(),
            told: Vec::new(),
        }
    }

    /// Whether nothing is judged yet at `t`.
    pub(super) fn learning(&self, t: i64) -> bool {
        (t.saturating_sub(self.first) as u128) < self.config.learn_for.as_micros()
    }

    /// The flags of a sample.
    pub(super) fn see(&mut self, t: i64, value: f64, before: Quality) -> Quality {
        if before.0 & Quality::IMPLAUSIBLE_TIME.0 != 0 {
            return Quality::GOOD;
        }
        let Some(last) = self.last else {
            (self.first, self.last) = (t, Some(t));
            return self.judge(t, value, before, true);
        };
        let distance = t.saturating_sub(last);
        if distance <= 0 {
            if distance < -SET_BACK_US {
                let told = std::mem::take(&mut self.told);
                *self = Self { told, ..Self::new(&self.meta, &self.rule, &self.config) };
                return self.see(t, value, before);
            }
            // Late: it is stored, but has no place in what follows each other.
            return Quality::GOOD;
        }
        self.last = Some(t);
        self.seen = self.seen.saturating_add(1);
        // Two thousand years; 64 times that fits an i64.
        let distance = distance.min(1 << 56);
        if self.pace == 0 {
            self.pace = distance * 64;
        }
        if distance > GAP * (self.pace / 64) {
            self.spike.iter_mut().for_each(Spike::gap);
            self.flatline.iter_mut().for_each(Flatline::gap);
        }
        self.pace += distance.min(self.pace / 64 * 3 + 1) - self.pace / 64;
        let learning = self.learning(t);
        self.judge(t, value, before, learning)
    }

    fn judge(&mut self, t: i64, value: f64, before: Quality, learning: bool) -> Quality {
        let mut verdict = Quality::GOOD;
        if let Some(rate) = &mut self.rate {
            let slow = rate.see(t, learning);
            let unit = || format!("{} comes", self.meta.name);
            let told = turn(&mut self.open, Detector::RateDrop, slow.map(|slow| slow.since), t, |open| match slow {
                Some(slow) => {
                    format!("rate drop: {} with {} samples/s, usual {}", unit(), brief(slow.rate), brief(slow.usual))
                }
                None => format!("rate drop over: {} as usual again, after {}", unit(), lasting(open.since, t)),
            });
            self.told.extend(told);
            if slow.is_some() {
                verdict = verdict.with(Quality::RATE_DROP);
            }
        }
        if !value.is_finite() || before.0 & UNUSABLE != 0 {
            return verdict;
        }
        let (name, unit) = (&self.meta.name, &self.meta.unit);
        match self.spike.as_mut().map_or(Seen::Usual, |spike| spike.see(t, value, learning)) {
            Seen::Usual => {}
            // Level and dwell are judged without it.
            Seen::Out => return verdict.with(Quality::SPIKE),
            Seen::Returned(out) => {
                let (low, high) = (brief(out.level - out.threshold), brief(out.level + out.threshold));
                let text = format!("spike: {name} {} {unit}, expected {low} to {high}", brief(out.value));
                self.told.push(Told::spike(out.since, i64::from(out.samples), text));
            }
        }
        if let Some(flatline) = &mut self.flatline {
            let still = flatline.see(t, value, learning);
            let told = turn(&mut self.open, Detector::Flatline, still.map(|still| still.since), t, |open| {
                let at = format!("{name} {} {unit}", brief(value));
                match still {
                    Some(still) => format!(
                        "flatline: {at} has not changed for {}, usually at most {}",
                        lasting(still.since, t),
                        lasting(0, still.threshold as i64)
                    ),
                    None => format!("flatline over: {at} moves again, after {}", lasting(open.since, t)),
                }
            });
            self.told.extend(told);
            if still.is_some() {
                verdict = verdict.with(Quality::FLATLINE);
            }
        }
        if let Some(drift) = &mut self.drift {
            let away = drift.see(t, value).filter(|_| !learning);
            let told = turn(&mut self.open, Detector::Drift, away.map(|_| t), t, |open| match away {
                Some(away) => format!(
                    "drift: {name} has a level of {} {unit}, expected {} to {}",
                    brief(away.level),
                    brief(away.reference - away.threshold),
                    brief(away.reference + away.threshold)
                ),
                None => format!("drift over: {name} has its usual level again, after {}", lasting(open.since, t)),
            });
            self.told.extend(told);
            if away.is_some() {
                verdict = verdict.with(Quality::DRIFT);
            }
        }
        verdict
    }

    /// Hands out the events of the samples seen since the last call.
    pub(super) fn tell(&mut self, context: &mut Context<'_>) {
        for told in self.told.drain(..) {
            let event = told.event(&self.meta.name, context);
            context.aside.events.push(event);
        }
    }
}

/// Opens or closes an anomaly; what is to be told of that.
fn turn(
    open: &mut [Option<Open>; 4],
    detector: Detector,
    since: Option<i64>,
    t: i64,
    text: impl FnOnce(Open) -> String,
) -> Option<Told> {
    let slot = &mut open[detector as usize];
    match (since, &mut *slot) {
        (None, None) => None,
        (Some(_), Some(open)) => {
            open.samples += 1;
            None
        }
        (Some(since), None) => {
            let open = *slot.insert(Open { since, samples: 1 });
            Some(Told::onset(detector, t, 1, text(open)))
        }
        (None, Some(open)) => {
            let open = *open;
            *slot = None;
            Some(Told::end(detector, t, open.samples, text(open)))
        }
    }
}

//! One device and boot: channels that stop while it goes on, and how many events it may have.
//!
//! The device's time is the latest of all its samples. A channel whose last sample is further behind it than
//! `rate_window`, or [`PACES`] times its usual distance of samples, plus twice what was usual for it so far has stopped.
//! This is looked at once for each second of device
//! time, after a whole batch, so that a frame with one channel's burst does not make the others look late.
//! What is seen depends on what came of the other channels meanwhile, and so on the batches, unlike all
//! verdicts on samples.

use super::super::counts::Rule;
use super::super::{Context, Reason, StepName};
use super::Lane;
use super::config::Detector;
use super::report::{Told, brief, lasting};
use super::watch::{SET_BACK_US, Watch};
use crate::limits::ANOMALY_EVENTS_MAX;
use crate::sample::{Column, Quality};

const SECOND_US: i64 = 1_000_000;
/// Distances of samples for which a channel may be silent.
const PACES: i64 = 20;
/// Samples before the first verdict.
const SAMPLES_MIN: u32 = 20;
const MINUTE_US: i64 = 60 * SECOND_US;

/// What is held of one device and boot.
#[derive(Default)]
pub(in crate::preprocess) struct Device {
    /// The latest time of any sample, µs.
    now: Option<i64>,
    /// When it was last looked at, in seconds.
    looked: i64,
    /// The minute of the last event, and the events in it.
    minute: i64,
    events: usize,
}

/// How a channel keeps up with its device.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    /// How far behind it was at most before it came again, µs.
    behind: i64,
    /// How far behind it has been since its sample at `last`, µs.
    waiting: i64,
    last: i64,
    /// Its last sample before it stopped, µs, if it has.
    since: Option<i64>,
}

impl Device {
    /// After the samples of a batch: `lanes` are all of the device. Takes away what is too much of the events that
    /// the batch brought; `already` were there before.
    pub(in crate::preprocess) fn look<'l>(
        &mut self,
        columns: &[Column],
        lanes: impl Iterator<Item = &'l mut Lane>,
        context: &mut Context<'_>,
        already: usize,
    ) {
        let timed = columns.iter().filter(|column| column.flags.union().0 & Quality::IMPLAUSIBLE_TIME.0 == 0);
        let latest = timed.filter_map(|column| Some(column.times.at(column.len().checked_sub(1)?))).max();
        if let Some(latest) = latest {
            let set_back = self.now.is_some_and(|now| latest.saturating_add(SET_BACK_US) < now);
            self.now = if set_back { Some(latest) } else { self.now.max(Some(latest)) };
        }
        if let Some(now) = self.now
            && now.div_euclid(SECOND_US) != self.looked
        {
            self.looked = now.div_euclid(SECOND_US);
            for watch in lanes.filter_map(|lane| lane.0.as_deref_mut()) {
                silence(watch, now, context);
            }
        }
        self.limit(context, already);
    }

    /// Events of one device are few, or nobody reads them.
    fn limit(&mut self, context: &mut Context<'_>, already: usize) {
        let all = context.aside.events.split_off(already.min(context.aside.events.len()));
        for event in all {
            let minute = self.now.map_or(0, |now| now.div_euclid(MINUTE_US));
            if minute != self.minute {
                (self.minute, self.events) = (minute, 0);
            }
            if self.events < ANOMALY_EVENTS_MAX {
                self.events += 1;
                context.aside.events.push(event);
            } else {
                let text = event.text;
                context.counts.add(StepName::Anomaly, &Rule::from(""), Reason::EventWithheld, 1, || text);
                event.receipt.settle();
            }
        }
    }
}

fn silence(watch: &mut Watch, now: i64, context: &mut Context<'_>) {
    let Some(last) = watch.last.filter(|_| watch.config.detect.contains(&Detector::RateDrop)) else { return };
    let (name, behind) = (&watch.meta.name, now.saturating_sub(last));
    let window = i64::try_from(watch.config.rate_window.as_micros()).unwrap_or(i64::MAX);
    let learning = watch.learning(now) || watch.seen < SAMPLES_MIN;
    let silence = &mut watch.silence;
    if silence.last != last {
        let stopped = silence.since.is_some();
        // What was told as a silence is not usual.
        silence.behind = if stopped { silence.behind } else { silence.behind.max(silence.waiting) };
        (silence.last, silence.waiting) = (last, 0);
    }
    silence.waiting = behind;
    let threshold = window.max(watch.pace / 64 * PACES).saturating_add(silence.behind.saturating_mul(2));
    match silence.since {
        Some(since) if since == last => {}
        Some(since) => {
            silence.since = None;
            let text = format!("silence over: {name} comes again, after {}", lasting(since, last));
            context.aside.events.push(Told::back(last, text).event(name, context));
        }
        None if learning || behind <= threshold => {}
        None => {
            silence.since = Some(last);
            let at = last.saturating_add(threshold);
            let text = format!(
                "silence: {name} has sent nothing for {} while its device goes on, usual at most {} s",
                lasting(last, now),
                brief(threshold as f64 / 1e6)
            );
            context.counts.add(StepName::Anomaly, &watch.rule, Reason::Silence, 1, || text.clone());
            context.aside.events.push(Told::silent(at, text).event(name, context));
        }
    }
}

//! Decimate: fewer samples for links that cannot carry all.
//!
//! What is kept by `every`, `window` and `deadband` are samples as they were measured, with their identity and
//! value. A mean is no fact: it goes to a channel of its own, `NAME.mean`, marked as derived.
//!
//! Invariants: samples keep their order; each dropped sample is settled as dropped by [`Policy::Decimate`] and
//! counted under its rule; what is kept does not depend on how the samples were cut into batches; what a window
//! holds back has a share of its frame's receipt, and leaves with the sample that ends the window, or a little
//! after the window's length, whichever is first.
//! Deliberately absent: filters against aliasing (a thinned channel is for looking at, not for spectra).

mod lag;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use self::lag::Gate;
use self::window::Windows;
use super::counts::Rule;
use super::{Context, Outlet, Reason, StepName};
use crate::ledger::Policy;
use crate::limits::{DECIMATE_EVERY_MAX, DECIMATE_WINDOW_MAX, DECIMATE_WINDOW_MIN};
use crate::priority::Priority;
use crate::sample::{ChannelMeta, Column, Quality};

pub use self::lag::Thresholds;

/// What the name of a mean's channel ends in.
pub(super) const MEAN_SUFFIX: &str = ".mean";
/// A channel that stands still shows life this often.
const GAP_MAX: Duration = Duration::from_secs(10);

/// `[[preprocess.decimate]]`: exactly one of `every`, `window` and `deadband`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which channels.
    pub channel: String,
    /// One of so many is kept.
    pub every: Option<u32>,
    /// Stretches of device time, of each of which `keep` remains.
    #[serde(default, with = "humantime_serde")]
    pub window: Option<Duration>,
    /// What remains of a window; the last sample if absent.
    pub keep: Option<Vec<Keep>>,
    /// A sample is dropped while it is no further than this from the last one kept.
    pub deadband: Option<f64>,
    /// Unless that one is as old as this; 10 s if absent.
    #[serde(default, with = "humantime_serde")]
    pub max_gap: Option<Duration>,
    /// When the rule applies.
    #[serde(default)]
    pub when: When,
    /// With `when = "lagging"`: how early.
    #[serde(default)]
    pub priority: Priority,
}

/// What remains of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Its first sample.
    First,
    /// Its last.
    Last,
    /// The first of its smallest.
    Min,
    /// The first of its largest.
    Max,
    /// Its mean, in a channel of its own.
    Mean,
}

/// When a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// All the time.
    #[default]
    Always,
    /// While the uplink lags.
    Lagging,
}

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.into(), what));
        let ways = [self.every.is_some(), self.window.is_some(), self.deadband.is_some()];
        if ways.iter().filter(|given| **given).count() != 1 {
            fault("channel", "exactly one of every, window and deadband says how it is thinned".into());
        }
        if self.every.is_some_and(|every| !(2..=DECIMATE_EVERY_MAX).contains(&every)) {
            fault("every", format!("2 to {DECIMATE_EVERY_MAX} are possible: one of so many is kept"));
        }
        if self.window.is_some_and(|window| !(DECIMATE_WINDOW_MIN..=DECIMATE_WINDOW_MAX).contains(&window)) {
            let [min, max] = [DECIMATE_WINDOW_MIN, DECIMATE_WINDOW_MAX].map(humantime::format_duration);
            fault("window", format!("{min} to {max} are possible"));
        }
        match &self.keep {
            Some(_) if self.window.is_none() => fault("keep", "it says what remains of a window".into()),
            Some(keep) if keep.is_empty() => fault("keep", "at least one of first, last, min, max and mean".into()),
            _ => {}
        }
        if self.deadband.is_some_and(|band| !(band.is_finite() && band >= 0.0)) {
            fault("deadband", "a number, 0 or above, in the channel's unit".into());
        }
        if self.max_gap.is_some_and(|gap| gap.is_zero()) {
            fault("max_gap", "with a gap of 0 nothing would be dropped".into());
        }
        if self.max_gap.is_some() && self.deadband.is_none() {
            fault("max_gap", "it belongs to a deadband".into());
        }
        faults
    }
}

/// Whether an entry may make a mean called `name`.
pub(super) fn may_make(entries: &[Config], name: &str) -> bool {
    let makes = |entry: &Config, of: &str| {
        entry.keep.as_ref().is_some_and(|keep| keep.contains(&Keep::Mean)) && WildMatch::new(&entry.channel).matches(of)
    };
    name.strip_suffix(MEAN_SUFFIX).is_some_and(|of| entries.iter().any(|entry| makes(entry, of)))
}

/// The entries of the list, ready to be matched.
pub(super) struct Rules {
    entries: Vec<(WildMatch, Rule, Config)>,
    gate: Arc<Gate>,
}

impl Rules {
    pub(super) fn new(config: &[Config], thresholds: &Thresholds) -> Self {
        let rule = |entry: &Config| (WildMatch::new(&entry.channel), entry.channel.as_str().into(), entry.clone());
        Self { entries: config.iter().map(rule).collect(), gate: Gate::new(thresholds) }
    }

    /// Goes on from where `before` was.
    pub(super) fn continues(&self, before: &Self) {
        self.gate.continues(&before.gate);
    }

    /// What applies to a channel.
    pub(super) fn lane(&self, meta: &Arc<ChannelMeta>) -> Lane {
        let entry = self.entries.iter().find(|(pattern, ..)| pattern.matches(&meta.name));
        let thin = |(_, rule, entry): &(_, Rule, Config)| Thin {
            rule: rule.clone(),
            way: Way::new(entry, meta),
            lagging: (entry.when == When::Lagging).then(|| (self.gate.clone(), entry.priority)),
        };
        Lane(entry.map(thin))
    }
}

/// What is known of one channel.
pub(super) struct Lane(Option<Thin>);

struct Thin {
    rule: Rule,
    way: Way,
    /// What says whether it applies, unless it always does.
    lagging: Option<(Arc<Gate>, Priority)>,
}

enum Way {
    Every { every: u32, count: u32 },
    Windows(Windows),
    Deadband { band: f64, gap_us: i64, kept: Option<(i64, f64, Quality)> },
}

impl Way {
    fn new(entry: &Config, meta: &Arc<ChannelMeta>) -> Self {
        let us = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        if let Some(window) = entry.window {
            let keep = entry.keep.as_deref().unwrap_or(&[Keep::Last]);
            return Self::Windows(Windows::new(window, us(window), keep, meta));
        }
        match entry.deadband {
            Some(band) => Self::Deadband { band, gap_us: us(entry.max_gap.unwrap_or(GAP_MAX)), kept: None },
            None => Self::Every { every: entry.every.unwrap_or(1).max(1), count: 0 },
        }
    }
}

impl Lane {
    pub(super) fn apply(&mut self, column: &mut Column, context: &mut Context<'_>) {
        let Some(Thin { rule, way, lagging }) = &mut self.0 else { return };
        let (lag, counts) = (context.lag, context.counts);
        let thins = lagging.as_ref().is_none_or(|(gate, priority)| gate.thins(*priority, lag, counts));
        let before = column.len();
        let (kept, reason): (Vec<usize>, Reason) = match way {
            Way::Windows(windows) if thins => return windows.apply(rule, column, context),
            Way::Windows(windows) => return windows.close(rule, &mut context.outlet()),
            // The count goes on while nothing is thinned, so that the phase does not depend on the lag.
            Way::Every { every, count } => ((0..before).filter(|_| is_nth(*every, count)).collect(), Reason::Every),
            Way::Deadband { band, gap_us, kept } => {
                let flags: Vec<Quality> = column.flags.iter(before).collect();
                let mut leaves_band = |index: usize| {
                    let (t, value, quality) = (column.times.at(index), column.physical(index), flags[index]);
                    let still = kept.is_some_and(|(last_t, last, last_quality)| {
                        let near = (value - last).abs() <= *band || value.to_bits() == last.to_bits();
                        // A time before the last one says that one of the two is wrong, not that nothing has changed.
                        near && quality == last_quality && t >= last_t && t.saturating_sub(last_t) < *gap_us
                    });
                    if !still || !thins {
                        *kept = Some((t, value, quality));
                    }
                    !still
                };
                ((0..before).filter(|&index| leaves_band(index)).collect(), Reason::Deadband)
            }
        };
        if !thins || kept.len() == before {
            return;
        }
        column.retain(&kept);
        let dropped = (before - kept.len()) as u64;
        context.drop(Policy::Decimate, dropped);
        context.counts.add(StepName::Decimate, rule, reason, dropped, || column.channel.name.to_string());
    }

    /// The channel of its mean, if it makes one.
    pub(super) fn mean(&self) -> Option<&Arc<ChannelMeta>> {
        self.windows().and_then(|(_, windows)| windows.mean())
    }

    /// The device sends a channel of the mean's name itself: none is made.
    pub(super) fn take_mean(&mut self, outlet: &mut Outlet<'_>) {
        if let Some(Thin { rule, way: Way::Windows(windows), .. }) = &mut self.0 {
            windows.take_mean(rule, outlet);
        }
    }

    /// When a window has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.windows().and_then(|(_, windows)| windows.due())
    }

    /// Ends the window that has waited long enough at `now`, or any.
    pub(super) fn release(&mut self, now: Option<Instant>, outlet: &mut Outlet<'_>) {
        if let Some(Thin { rule, way: Way::Windows(windows), .. }) = &mut self.0
            && now.is_none_or(|now| windows.due().is_some_and(|due| due <= now))
        {
            windows.close(rule, outlet);
        }
    }

    fn windows(&self) -> Option<(&Rule, &Windows)> {
        match &self.0 {
            Some(Thin { rule, way: Way::Windows(windows), .. }) => Some((rule, windows)),
            _ => None,
        }
    }
}

/// Whether the next sample is one of every so many that is kept.
fn is_nth(every: u32, count: &mut u32) -> bool {
    let first = *count == 0;
    *count = (*count + 1) % every;
    first
}

#[cfg(test)]
mod tests;

//! Derive: new channels, computed from others of the same device and boot.
//!
//! ```text
//!  wheel.fl   ──o────o────o────o──            o: a sample
//!  wheel.rl   ────x─────────x────             x: a sample of `at`: one of the new channel for each
//!                 │         │
//!  slip       ────x─────────x────             each with the latest o at or before x
//! ```
//! **The rule.** At each time t of `at`, every input counts with its latest sample at or before t that is not
//! older than `max_age`. So that this does not depend on the order in which bursts arrive, t is computed once
//! every other input has a sample at or after t, or `wait` after its frame was accepted.
//!
//! Invariants: the new channel's times strictly increase; samples are computed in the order of `at`; an entry
//! uses what entries before it compute, so there are no cycles; what waits holds a share of the receipt of its
//! frame of `at` until it is given out, or is counted as not computable; history and what waits are bounded.
//! Deliberately absent: inputs of other devices (another clock), interpolation (an input counts as measured).

mod device;
mod expression;
mod functions;
mod notes;
mod track;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use self::expression::Expression;
use super::counts::Rule;
use crate::limits::{DERIVE_MAX_AGE_MAX, DERIVE_WAIT_MAX, JSON_CHANNEL_BYTES_MAX};
use crate::sample::Origin;

pub(super) use self::device::Device;

/// `[[preprocess.derive]]`: one new channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The new channel's name.
    pub name: String,
    /// How it is computed.
    pub expression: String,
    /// Its unit's symbol.
    #[serde(default)]
    pub unit: String,
    /// The channel whose times it has; the first of the expression if absent.
    pub at: Option<String>,
    /// Only on these devices.
    #[serde(default = "any")]
    pub device: String,
    /// How old an input may be at the time for which it counts.
    #[serde(default = "second", with = "humantime_serde")]
    pub max_age: Duration,
    /// How long a sample of `at` waits for the other inputs to catch up.
    #[serde(default = "two_tenths", with = "humantime_serde")]
    pub wait: Duration,
}

fn any() -> String {
    "*".into()
}
const fn second() -> Duration {
    Duration::from_secs(1)
}
const fn two_tenths() -> Duration {
    Duration::from_millis(200)
}

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.into(), what));
        for (key, name) in [("name", Some(&self.name)), ("at", self.at.as_ref())] {
            let Some(name) = name else { continue };
            if name.is_empty() || name.len() > JSON_CHANNEL_BYTES_MAX || name.chars().any(char::is_control) {
                fault(key, format!("a channel's name has 1 to {JSON_CHANNEL_BYTES_MAX} bytes"));
            }
        }
        if self.max_age > DERIVE_MAX_AGE_MAX {
            fault("max_age", format!("at most {} are possible", humantime::format_duration(DERIVE_MAX_AGE_MAX)));
        }
        if self.wait > DERIVE_WAIT_MAX {
            fault("wait", format!("at most {} are possible", humantime::format_duration(DERIVE_WAIT_MAX)));
        }
        match Expression::new(&self.expression) {
            Err(what) => fault("expression", what.to_string()),
            Ok(expression) if expression.inputs().is_empty() => {
                fault("expression", "it names no channel, so nothing says when it is to be computed".into());
            }
            Ok(_) => {}
        }
        faults
    }

    /// The channels that it needs, `at` last if only that names it.
    fn needs(&self) -> Vec<String> {
        let inputs = Expression::new(&self.expression).map(|made| made.inputs().to_vec()).unwrap_or_default();
        let at = self.at.clone().filter(|at| !inputs.contains(at));
        inputs.into_iter().chain(at).collect()
    }
}

/// What is wrong between the entries, as (index, key, what would be right).
pub(super) fn faults_between(entries: &[Config]) -> Vec<(usize, &'static str, String)> {
    let mut faults = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let name = &entry.name;
        if let Some(first) = entries[..index].iter().position(|other| other.name == *name) {
            faults.push((index, "name", format!("`{name}` is computed by entry [{first}] already")));
        }
        for needed in entry.needs() {
            let key = if entry.at.as_ref() == Some(&needed) { "at" } else { "expression" };
            if needed == *name {
                faults.push((index, key, format!("`{name}` cannot be computed from itself")));
            } else if let Some(later) = entries[index..].iter().position(|other| other.name == needed)
                && !entries[..index].iter().any(|other| other.name == needed)
            {
                let later = index + later;
                let what = format!("`{needed}` is computed by entry [{later}]: move that one before this one");
                faults.push((index, key, format!("{what}; two cannot be computed from each other")));
            }
        }
    }
    faults
}

/// A channel that an entry names, or makes for another: its index.
type ChannelId = usize;

/// The entries of the list, compiled.
pub(super) struct Rules {
    plan: Arc<Plan>,
    /// Bytes that all devices hold.
    held_bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Plan {
    entries: Vec<Entry>,
    /// Which entry makes a channel.
    makers: HashMap<String, usize>,
    channels: HashMap<String, ChannelId>,
    /// By channel: the entries whose times it gives.
    driven: Vec<Vec<usize>>,
    /// By channel: the entries that compute with it.
    readers: Vec<Vec<usize>>,
}

struct Entry {
    rule: Rule,
    unit: Arc<str>,
    device: WildMatch,
    expression: Expression,
    /// By the expression's order.
    inputs: Vec<ChannelId>,
    at: ChannelId,
    /// Its own channel, if a later entry needs it.
    makes: Option<ChannelId>,
    max_age_us: i64,
    /// Its own, or that of an entry whose channel it needs, if that is longer.
    wait: Duration,
}

impl Plan {
    fn new(config: &[Config]) -> Self {
        let mut plan = Self::default();
        let needed: Vec<Vec<String>> = config.iter().map(Config::needs).collect();
        for name in needed.iter().flatten() {
            let next = plan.channels.len();
            plan.channels.entry(name.clone()).or_insert(next);
        }
        plan.driven = vec![Vec::new(); plan.channels.len()];
        plan.readers = vec![Vec::new(); plan.channels.len()];
        for (entry, needed) in config.iter().zip(&needed) {
            // A configuration with faults is not run.
            let Ok(expression) = Expression::new(&entry.expression) else { continue };
            let Some(at) = entry.at.as_ref().or(needed.first()).and_then(|at| plan.channels.get(at)) else { continue };
            let index = plan.entries.len();
            let inputs: Vec<ChannelId> = expression.inputs().iter().map(|name| plan.channels[name]).collect();
            inputs.iter().for_each(|&input| plan.readers[input].push(index));
            plan.driven[*at].push(index);
            let before = needed.iter().filter_map(|name| plan.makers.get(name));
            let wait = before.map(|&maker| plan.entries[maker].wait).fold(entry.wait, Duration::max);
            plan.entries.push(Entry {
                rule: entry.name.as_str().into(),
                unit: entry.unit.as_str().into(),
                device: WildMatch::new(&entry.device),
                expression,
                inputs,
                at: *at,
                makes: plan.channels.get(&entry.name).copied(),
                max_age_us: i64::try_from(entry.max_age.as_micros()).unwrap_or(i64::MAX),
                wait,
            });
            plan.makers.insert(entry.name.clone(), index);
        }
        plan
    }
}

impl Rules {
    pub(super) fn new(config: &[Config]) -> Self {
        Self { plan: Arc::new(Plan::new(config)), held_bytes: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What is held of one device and boot: nothing so far.
    pub(super) fn device(&self, origin: &Origin) -> Device {
        Device::new(self.plan.clone(), self.held_bytes.clone(), origin)
    }
}

#[cfg(test)]
mod tests;

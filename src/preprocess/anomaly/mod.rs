//! Anomaly: what a channel has not done so far, as flags and events.
//!
//! ```text
//!                    ┌─▶ spike ──usable, no spike──▶ flatline, drift ─┐
//!  sample ─▶ pace ───┤                                                ├─▶ flags ─▶ column
//!                    └─▶ rate ─────────────────────────────────────────┘     └───▶ events, of onset and end
//!  batch  ─▶ device: channels that stopped while their device goes on ───────────▶ events
//! ```
//! Each channel of a device and boot learns what is usual for it: sizes of moves, dwells, distances of its level,
//! counts. Before `learn_for` there is no verdict; a boot starts anew, and so does a change of the rules.
//!
//! Invariants: nothing is dropped or changed, only flagged; one pass, constant memory (about 3 KiB a channel),
//! device time only; a value that is not finite or carries a flag of implausibility teaches nothing; however samples
//! are cut into batches, their verdicts are the same. At most one anomaly is open per channel and detector.
//! Events carry a share of the batch's receipt, so that the message is acknowledged only once they are durable;
//! their `sequence` comes from channel and detector, so writing them again is harmless.
//!
//! Deliberately absent: verdicts on several channels together, models that are trained elsewhere, and any
//! look ahead: a verdict is on the sample that came, from those before it.

mod config;
mod device;
mod drift;
mod flatline;
mod rate;
mod report;
mod sketch;
mod spike;
mod watch;

use std::sync::Arc;

use wildmatch::WildMatch;

use super::Context;
use super::counts::Rule;
use crate::sample::{ChannelMeta, Column, Flags, Quality};

pub use config::{Config, Detector};
pub(super) use device::Device;
use watch::Watch;

/// The entries of the list, ready to be matched.
pub(super) struct Rules(Vec<(WildMatch, Rule, Arc<Config>)>);

impl Rules {
    pub(super) fn new(config: &[Config]) -> Self {
        let rule =
            |entry: &Config| (WildMatch::new(&entry.channel), entry.channel.as_str().into(), Arc::new(entry.clone()));
        Self(config.iter().map(rule).collect())
    }

    /// What applies to a channel.
    pub(super) fn lane(&self, meta: &Arc<ChannelMeta>) -> Lane {
        let entry = self.0.iter().find(|(pattern, ..)| pattern.matches(&meta.name));
        Lane(entry.map(|(_, rule, config)| Box::new(Watch::new(meta, rule, config))))
    }
}

/// What is known of one channel.
pub(super) struct Lane(Option<Box<Watch>>);

impl Lane {
    pub(super) fn apply(&mut self, column: &mut Column, context: &mut Context<'_>) {
        let Some(watch) = &mut self.0 else { return };
        let count = column.len();
        let mut verdicts: Vec<(usize, Quality)> = Vec::new();
        let mut see = |index, before| {
            let verdict = watch.see(column.times.at(index), column.physical(index), before);
            if verdict != Quality::GOOD {
                verdicts.push((index, verdict));
            }
        };
        if column.flags.runs().is_empty() {
            (0..count).for_each(|index| see(index, Quality::GOOD));
        } else {
            (0..count).zip(column.flags.iter(count)).for_each(|(index, before)| see(index, before));
        }
        watch.tell(context);
        if verdicts.is_empty() {
            return;
        }
        report::count(watch, column, &verdicts, context.counts);
        let mut flags = Flags::default();
        let mut verdicts = verdicts.into_iter().peekable();
        for (index, before) in column.flags.iter(count).enumerate() {
            let verdict = verdicts.next_if(|(at, _)| *at == index).map_or(Quality::GOOD, |(_, verdict)| verdict);
            flags.push(before.with(verdict), 1, index);
        }
        column.flags = flags;
    }
}

#[cfg(test)]
mod tests;

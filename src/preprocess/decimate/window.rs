//! Windows of device time, and what remains of each.
//!
//! Windows are the stretches `[k × length, (k + 1) × length)` of device time, so they do not depend on when
//! the first sample came. The first sample of one leaves at once; what else remains is known when the window
//! ends: until then it is held back, out of its batch, with its place in the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Keep, MEAN_SUFFIX};
use crate::ledger::{Fate, Policy, Tally};
use crate::limits::DECIMATE_WAIT;
use crate::preprocess::counts::Rule;
use crate::preprocess::{Context, From, Outlet, Reason, StepName};
use crate::sample::{ChannelMeta, Column, DeviceTime, Flags, Quality, Scaling, Times, ValueKind, Values};

pub(super) struct Windows {
    length: Duration,
    length_us: i64,
    first: bool,
    /// Which of [`Open::roles`] are asked for.
    asked: [bool; ROLES],
    mean: Option<Arc<ChannelMeta>>,
    open: Option<Open>,
}

const ROLES: usize = 3;
/// Each sample is the last in its turn.
const LAST: usize = 0;
const MIN: usize = 1;
const MAX: usize = 2;

/// A window that has not ended.
struct Open {
    slot: i64,
    /// When the frame that opened it was accepted.
    since: Instant,
    /// Last, smallest, largest.
    roles: [Option<(f64, Place)>; ROLES],
    /// What is held back of earlier batches: those that have a role, in order.
    held: Vec<Held>,
    mean: Option<Mean>,
}

/// Where a sample with a role is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// On its way: it was the window's first.
    Given,
    /// Held back.
    Held(usize),
    /// In the batch that is being looked at.
    Here(usize),
}

struct Held {
    sample: Column,
    from: From,
    tally: Tally,
}

/// A mean that is being made.
struct Mean {
    sum: f64,
    numbers: u64,
    doubtful: bool,
    first_t: i64,
    last_t: i64,
    /// The oldest frame that it is made of.
    from: From,
}

impl Windows {
    pub(super) fn new(length: Duration, length_us: i64, keep: &[Keep], meta: &ChannelMeta) -> Self {
        let keeps = |what| keep.contains(&what);
        let mean = || {
            Arc::new(ChannelMeta {
                name: format!("{}{MEAN_SUFFIX}", meta.name).into(),
                unit: meta.unit.clone(),
                kind: ValueKind::F64,
                scaling: Scaling::IDENTITY,
                // A thousandth of a Hz is 10^9 µs.
                rate_mhz: u32::try_from(1_000_000_000 / length_us.max(1)).unwrap_or(u32::MAX),
                derived: true,
            })
        };
        Self {
            length,
            length_us: length_us.max(1),
            first: keeps(Keep::First),
            asked: [keeps(Keep::Last), keeps(Keep::Min), keeps(Keep::Max)],
            mean: keeps(Keep::Mean).then(mean),
            open: None,
        }
    }

    pub(super) const fn mean(&self) -> Option<&Arc<ChannelMeta>> {
        self.mean.as_ref()
    }

    /// Makes no mean any more; the last sample remains instead if nothing else would.
    pub(super) fn take_mean(&mut self, rule: &Rule, outlet: &mut Outlet<'_>) {
        let Some(mean) = self.mean.take() else { return };
        self.asked[LAST] |= !self.first && self.asked == [false; ROLES];
        if let Some(mean) = self.open.as_mut().and_then(|open| open.mean.take()) {
            mean.from.receipt.settle();
        }
        let tell = || format!("the device sends `{}` itself: no mean is made for it", mean.name);
        outlet.counts.add(StepName::Decimate, rule, Reason::NameTaken, 1, tell);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        let holds = !open.held.is_empty() || open.mean.is_some();
        holds.then(|| open.since + self.length + DECIMATE_WAIT)
    }

    /// Keeps of `column` what is known to remain, and holds back what may.
    pub(super) fn apply(&mut self, rule: &Rule, column: &mut Column, context: &mut Context<'_>) {
        let count = column.len();
        let mut kept = Vec::new();
        for (index, quality) in column.flags.iter(count).enumerate() {
            let (t, value) = (column.times.at(index), column.physical(index));
            let slot = t.div_euclid(self.length_us);
            if self.open.as_ref().is_some_and(|open| open.slot != slot) {
                self.end(rule, &mut kept, &mut context.outlet());
            }
            let mut place = Place::Here(index);
            let open = self.open.get_or_insert_with(|| {
                if self.first {
                    kept.push(index);
                    place = Place::Given;
                }
                let mean = |from| Mean { sum: 0.0, numbers: 0, doubtful: false, first_t: t, last_t: t, from };
                Open {
                    slot,
                    since: context.accepted_at,
                    roles: [None; ROLES],
                    held: Vec::new(),
                    mean: self.mean.is_some().then(|| mean(context.frame())),
                }
            });
            open.see(self.asked, value, place);
            if let Some(mean) = &mut open.mean {
                mean.see(t, value, quality);
            }
        }
        let held_back = self.open.as_mut().map_or(0, |open| open.hold_back(rule, column, context));
        // Windows follow each other, but what remains of one was found role by role.
        kept.sort_unstable();
        kept.dedup();
        let dropped = count - kept.len() - held_back;
        if kept.len() < count {
            column.retain(&kept);
        }
        count_dropped(rule, dropped as u64, context);
    }

    /// Ends the open window; there is no batch that has a part of it.
    pub(super) fn close(&mut self, rule: &Rule, outlet: &mut Outlet<'_>) {
        self.end(rule, &mut Vec::new(), outlet);
    }

    fn end(&mut self, rule: &Rule, kept: &mut Vec<usize>, outlet: &mut Outlet<'_>) {
        let Some(mut open) = self.open.take() else { return };
        for (_, place) in open.roles.iter().flatten() {
            if let Place::Here(index) = place {
                kept.push(*index);
            }
        }
        open.drop_without_role(rule, outlet);
        for Held { sample, from, tally } in open.held {
            outlet.give(sample, from, tally);
        }
        if let (Some(mean), Some(meta)) = (open.mean, &self.mean) {
            outlet.counts.add(StepName::Decimate, rule, Reason::Mean, 1, || meta.name.to_string());
            let (column, from) = mean.made(meta);
            outlet.derive(column, from);
        }
    }
}

impl Open {
    fn see(&mut self, asked: [bool; ROLES], value: f64, place: Place) {
        for (role, _) in asked.into_iter().enumerate().filter(|(_, asked)| *asked) {
            let better = match (role, self.roles[role]) {
                (_, None) => true,
                // Anything is better than no number.
                (MIN | MAX, Some((best, _))) if best.is_nan() => !value.is_nan(),
                (MIN, Some((best, _))) => value < best,
                (MAX, Some((best, _))) => value > best,
                _ => true,
            };
            if better {
                self.roles[role] = Some((value, place));
            }
        }
    }

    /// Takes what has a role out of the batch, and lets go what lost its own; how many it took.
    fn hold_back(&mut self, rule: &Rule, column: &Column, context: &mut Context<'_>) -> usize {
        self.drop_without_role(rule, &mut context.outlet());
        let here = |role: &Option<(f64, Place)>| match role {
            Some((_, Place::Here(index))) => Some(*index),
            _ => None,
        };
        let mut indices: Vec<usize> = self.roles.iter().filter_map(here).collect();
        indices.sort_unstable();
        indices.dedup();
        for &index in &indices {
            let quality = column.flags.iter(column.len()).nth(index).unwrap_or_default();
            let sample = Column {
                channel: column.channel.clone(),
                times: Times::one(DeviceTime(column.times.at(index))),
                values: column.values.select(&[index]),
                flags: Flags::all(quality, 1),
            };
            let tally = context.custody.tally.split(1);
            self.held.push(Held { sample, from: context.frame(), tally });
            self.move_roles(Place::Here(index), Place::Held(self.held.len() - 1));
        }
        indices.len()
    }

    /// Settles what is held and has no role any more.
    fn drop_without_role(&mut self, rule: &Rule, outlet: &mut Outlet<'_>) {
        let mut dropped = 0;
        for (index, held) in std::mem::take(&mut self.held).into_iter().enumerate() {
            if self.roles.iter().flatten().any(|(_, place)| *place == Place::Held(index)) {
                // Roles move to lower places only, and no place is read after it was moved to.
                self.move_roles(Place::Held(index), Place::Held(self.held.len()));
                self.held.push(held);
            } else {
                held.tally.settle(Fate::Dropped(Policy::Decimate));
                held.from.receipt.settle();
                dropped += 1;
            }
        }
        outlet.counts.add(StepName::Decimate, rule, Reason::Window, dropped, String::new);
    }

    fn move_roles(&mut self, before: Place, now: Place) {
        for (_, place) in self.roles.iter_mut().flatten().filter(|(_, place)| *place == before) {
            *place = now;
        }
    }
}

impl Mean {
    fn see(&mut self, t: i64, value: f64, quality: Quality) {
        if value.is_finite() {
            self.sum += value;
            self.numbers += 1;
        }
        self.doubtful |= quality != Quality::GOOD;
        (self.first_t, self.last_t) = (self.first_t.min(t), self.last_t.max(t));
    }

    /// One sample, in the middle of those that it is made of: so two parts of one window, ended early by a
    /// deadline, have times of their own.
    fn made(self, meta: &Arc<ChannelMeta>) -> (Column, From) {
        let value = if self.numbers == 0 { f64::NAN } else { self.sum / self.numbers as f64 };
        let mut quality = if self.doubtful { Quality::DOUBTFUL_INPUT } else { Quality::GOOD };
        if !value.is_finite() {
            quality = quality.with(Quality::NOT_FINITE);
        }
        let t = self.first_t.saturating_add(self.last_t.saturating_sub(self.first_t) / 2);
        let column = Column {
            channel: meta.clone(),
            times: Times::one(DeviceTime(t)),
            values: Values::F64(vec![value]),
            flags: Flags::all(quality, 1),
        };
        (column, self.from)
    }
}

fn count_dropped(rule: &Rule, samples: u64, context: &mut Context<'_>) {
    context.drop(Policy::Decimate, samples);
    context.counts.add(StepName::Decimate, rule, Reason::Window, samples, String::new);
}

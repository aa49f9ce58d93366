//! One device and boot: what is remembered of its inputs, and what waits to be computed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::notes::{Notes, names};
use super::track::{Known, Track};
use super::{ChannelId, Entry, Plan};
use crate::limits::{
    DERIVE_ASTRAY_MAX, DERIVE_CUT_SAMPLES, DERIVE_HELD_BYTES_MAX, DERIVE_SAMPLES_MAX, DERIVE_UNASKED_SAMPLES_MAX,
    EXPRESSION_INPUTS_MAX,
};
use crate::preprocess::{Context, From, Outlet, Reason, StepCounts, StepName};
use crate::sample::{ChannelMeta, Column, Flags, Origin, Quality, Scaling, Times, ValueKind, Values};

/// What is computed although an input could still come.
#[derive(Clone, Copy)]
enum Force {
    /// Nothing.
    Nothing,
    /// What has waited long enough.
    Due(Instant),
    /// Everything: no more input will come, or the rules change.
    All,
    /// Everything: too much is held.
    Crowd,
}

/// What is held of one device and boot.
pub(in crate::preprocess) struct Device {
    plan: Arc<Plan>,
    /// By channel; empty if no entry is for this device.
    tracks: Vec<Track>,
    /// By entry.
    states: Vec<State>,
    bytes: usize,
    bytes_of_all: Arc<AtomicUsize>,
}

struct State {
    /// Whether the entry is for this device.
    applies: bool,
    /// The device sends a channel of this name itself.
    taken: bool,
    meta: Arc<ChannelMeta>,
    waiting: VecDeque<Waiting>,
    waiting_samples: usize,
    waiting_bytes: usize,
    /// The last time that was looked at.
    last_t: Option<i64>,
    /// Times in a row that were not after it.
    astray: u32,
}

/// Times of one column of `at`, from `next` on still to be computed.
struct Waiting {
    times: Times,
    next: usize,
    from: From,
}

impl Device {
    pub(super) fn new(plan: Arc<Plan>, bytes_of_all: Arc<AtomicUsize>, origin: &Origin) -> Self {
        let state = |entry: &Entry| State {
            applies: entry.device.matches(&origin.device),
            taken: false,
            meta: meta(entry, 0),
            waiting: VecDeque::new(),
            waiting_samples: 0,
            waiting_bytes: 0,
            last_t: None,
            astray: 0,
        };
        let states: Vec<State> = plan.entries.iter().map(state).collect();
        let channels = if states.iter().any(|state| state.applies) { plan.channels.len() } else { 0 };
        let tracks = std::iter::repeat_with(Track::default).take(channels).collect();
        Self { plan, tracks, states, bytes: 0, bytes_of_all }
    }

    /// Looks at a batch that has been calibrated and validated: what can be computed now is given out.
    pub(in crate::preprocess) fn apply(&mut self, columns: &[Column], context: &mut Context<'_>) {
        if self.tracks.is_empty() {
            return;
        }
        let plan = self.plan.clone();
        let mut touched = false;
        for column in columns {
            let name = &*column.channel.name;
            if let Some(&maker) = plan.makers.get(name)
                && self.states[maker].applies
            {
                self.take_name(maker, context.counts);
            }
            if let Some(&id) = plan.channels.get(name) {
                touched = true;
                self.feed(id, column, &|| context.frame(), context.counts);
            }
        }
        if touched {
            self.compute(Force::Nothing, &mut context.outlet());
            self.stay_small(&mut context.outlet());
        }
    }

    /// Adds what this device's entries make to its catalogue, and stops those whose name it takes.
    pub(in crate::preprocess) fn catalogue(&mut self, channels: &mut Vec<Arc<ChannelMeta>>, counts: &StepCounts) {
        let plan = self.plan.clone();
        let described = channels.clone();
        let mut known: HashMap<&str, u32> = described.iter().map(|meta| (&*meta.name, meta.rate_mhz)).collect();
        let names: Vec<&str> = names(&plan);
        for (index, entry) in plan.entries.iter().enumerate() {
            if !self.states[index].applies {
                continue;
            }
            if known.contains_key(&*entry.rule) {
                self.take_name(index, counts);
                continue;
            }
            self.states[index].taken = false;
            let Some(&rate_mhz) = known.get(names[entry.at]) else { continue };
            if entry.inputs.iter().all(|&input| known.contains_key(names[input])) {
                self.states[index].rate(entry, rate_mhz);
                channels.push(self.states[index].meta.clone());
                known.insert(&entry.rule, rate_mhz);
            }
        }
    }

    /// When something has waited long enough.
    pub(in crate::preprocess) fn due(&self) -> Option<Instant> {
        let first = |(state, entry): (&State, &Entry)| Some(state.waiting.front()?.from.accepted_at + entry.wait);
        self.states.iter().zip(&self.plan.entries).filter_map(first).min()
    }

    /// Computes what has waited long enough at `now`, or everything.
    pub(in crate::preprocess) fn release(&mut self, now: Option<Instant>, outlet: &mut Outlet<'_>) {
        self.compute(now.map_or(Force::All, Force::Due), outlet);
    }

    /// Under new rules: nothing is computed under a name that the device has sent already.
    pub(in crate::preprocess) fn keep_names_apart<'m>(
        &mut self,
        sent: impl Iterator<Item = &'m ChannelMeta>,
        counts: &StepCounts,
    ) {
        let plan = self.plan.clone();
        for meta in sent.filter(|meta| !meta.derived) {
            if let Some(&maker) = plan.makers.get(&*meta.name)
                && self.states[maker].applies
            {
                self.take_name(maker, counts);
            }
        }
    }

    fn take_name(&mut self, maker: usize, counts: &StepCounts) {
        let state = &mut self.states[maker];
        if !std::mem::replace(&mut state.taken, true) {
            let waited = state.waiting_samples as u64;
            (state.waiting_samples, state.waiting_bytes) = (0, 0);
            state.waiting.drain(..).for_each(|waiting| waiting.from.receipt.settle());
            let rule = &self.plan.entries[maker].rule;
            let tell = || format!("the device sends `{rule}` itself: nothing is computed for it");
            counts.add(StepName::Derive, rule, Reason::NameTaken, waited.max(1), tell);
        }
    }

    /// Takes a column in as input, and as times to be computed at.
    fn feed(&mut self, id: ChannelId, column: &Column, frame: &dyn Fn() -> From, counts: &StepCounts) {
        if !self.plan.readers[id].is_empty() {
            let plausible = |quality: Quality| quality.0 & Quality::IMPLAUSIBLE_TIME.0 == 0;
            let each = column.flags.iter(column.len()).enumerate();
            for (index, quality) in each.filter(|(_, quality)| plausible(*quality)) {
                self.tracks[id].push(Known { t: column.times.at(index), value: column.physical(index), quality });
            }
        }
        for &driven in &self.plan.driven[id] {
            let (state, entry) = (&mut self.states[driven], &self.plan.entries[driven]);
            if state.taken {
                let tell = || format!("the device sends `{}` itself", entry.rule);
                counts.add(StepName::Derive, &entry.rule, Reason::NameTaken, column.len() as u64, tell);
            } else if state.applies
                && let Some(times) = plausible_times(column)
            {
                state.rate(entry, column.channel.rate_mhz);
                state.waiting_samples += times.len();
                state.waiting_bytes += waiting_bytes(&times);
                state.waiting.push_back(Waiting { times, next: 0, from: frame() });
            }
        }
    }

    fn compute(&mut self, force: Force, outlet: &mut Outlet<'_>) {
        for index in 0..self.states.len() {
            while let Some((column, from)) = self.compute_front(index, force, outlet.counts) {
                if let Some(made) = self.plan.entries[index].makes {
                    let (accepted_at, received) = (from.accepted_at, from.received);
                    let frame = || From { receipt: from.receipt.clone(), accepted_at, received };
                    self.feed(made, &column, &frame, outlet.counts);
                }
                outlet.derive(column, from);
            }
        }
        for (id, track) in self.tracks.iter_mut().enumerate() {
            if track.len() > 1 {
                let readers = self.plan.readers[id].iter().map(|&reader| self.states[reader].floor());
                track.forget_before(readers.min().unwrap_or(i64::MAX));
            }
        }
        self.weigh();
    }

    /// Computes what it can of the first waiting column of an entry; `None` if nothing moved.
    fn compute_front(&mut self, index: usize, force: Force, counts: &StepCounts) -> Option<(Column, From)> {
        let (state, entry) = (&mut self.states[index], &self.plan.entries[index]);
        let waiting = state.waiting.front_mut()?;
        let forced = match force {
            Force::Nothing => false,
            Force::Due(now) => waiting.from.accepted_at + entry.wait <= now,
            Force::All | Force::Crowd => true,
        };
        let (begin, len) = (waiting.next, waiting.times.len());
        let mut notes = Notes::default();
        let (mut times, mut values, mut flags) = (Vec::new(), Vec::new(), Flags::default());
        while waiting.next < len {
            let t = waiting.times.at(waiting.next);
            let complete = entry.inputs.iter().all(|&id| id == entry.at || self.tracks[id].complete_at(t));
            if !complete && !forced {
                break;
            }
            waiting.next += 1;
            if let Some(last) = state.last_t.filter(|last| t <= *last) {
                state.astray += 1;
                if state.astray <= DERIVE_ASTRAY_MAX {
                    notes.note(Reason::Late, t, 0, last);
                    continue;
                }
                // So many in a row: it was the newest time that was a mistake.
            }
            (state.last_t, state.astray) = (Some(t), 0);
            let Some((value, quality)) = value_at(entry, &self.tracks, t, &mut notes) else { continue };
            if !complete {
                let crowded = matches!(force, Force::Crowd);
                notes.note(if crowded { Reason::HeldTooMuch } else { Reason::WaitOver }, t, 0, 0);
            }
            notes.note(Reason::Computed, t, 0, 0);
            flags.push(quality, 1, values.len());
            times.push(t);
            values.push(value);
        }
        let looked_at = waiting.next - begin;
        if looked_at == 0 {
            return None;
        }
        state.waiting_samples -= looked_at;
        // Runs of times stay runs: they are shorter in the store.
        let whole = values.len() == len && begin == 0;
        let times = if whole { waiting.times.clone() } else { Times::Explicit(times) };
        let from = if waiting.next < len {
            waiting.from.share()
        } else {
            state.waiting_bytes -= waiting_bytes(&waiting.times);
            state.waiting.pop_front()?.from
        };
        if let (Some(made), Some(last)) = (entry.makes, state.last_t) {
            self.tracks[made].complete(last);
        }
        notes.count(entry, &self.plan, counts);
        Some((Column { channel: state.meta.clone(), times, values: Values::F64(values), flags }, from))
    }

    /// Computes early and forgets where too much would be held.
    fn stay_small(&mut self, outlet: &mut Outlet<'_>) {
        let long = |count: usize| count > DERIVE_SAMPLES_MAX;
        let crowded = self.bytes_of_all.load(Ordering::Relaxed) > DERIVE_HELD_BYTES_MAX;
        if crowded
            || self.tracks.iter().any(|track| long(track.len()))
            || self.states.iter().any(|state| long(state.waiting_samples))
        {
            self.compute(Force::Crowd, outlet);
        }
        for (id, track) in self.tracks.iter_mut().enumerate() {
            let asked = self.plan.readers[id].iter().any(|&reader| self.states[reader].last_t.is_some());
            let most = if asked { DERIVE_SAMPLES_MAX } else { DERIVE_UNASKED_SAMPLES_MAX };
            // Half, so that this is not done for each sample from here on.
            match (crowded, track.len() > most) {
                (true, _) => track.keep_newest(DERIVE_CUT_SAMPLES),
                (false, true) => track.keep_newest(most / 2),
                (false, false) => {}
            }
        }
        self.weigh();
    }

    fn weigh(&mut self) {
        let tracks: usize = self.tracks.iter().map(|track| track.len() * size_of::<Known>()).sum();
        let waiting: usize = self.states.iter().map(|state| state.waiting_bytes).sum();
        self.bytes_of_all.fetch_add(tracks + waiting, Ordering::Relaxed);
        self.bytes_of_all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = tracks + waiting;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.bytes_of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl State {
    /// The earliest time that may still be computed.
    fn floor(&self) -> i64 {
        if !self.applies || self.taken {
            return i64::MAX;
        }
        let waiting = self.waiting.front().map(|waiting| waiting.times.at(waiting.next));
        waiting.or(self.last_t).unwrap_or(i64::MIN)
    }

    /// The channel has the rate of the one that gives its times.
    fn rate(&mut self, entry: &Entry, rate_mhz: u32) {
        if self.meta.rate_mhz != rate_mhz {
            self.meta = meta(entry, rate_mhz);
        }
    }
}

fn meta(entry: &Entry, rate_mhz: u32) -> Arc<ChannelMeta> {
    Arc::new(ChannelMeta {
        name: entry.rule.clone(),
        unit: entry.unit.clone(),
        kind: ValueKind::F64,
        scaling: Scaling::IDENTITY,
        rate_mhz,
        derived: true,
    })
}

/// The times of a column, but for those that validate calls impossible; `None` if there is none.
fn plausible_times(column: &Column) -> Option<Times> {
    let times = if column.flags.union().0 & Quality::IMPLAUSIBLE_TIME.0 == 0 {
        column.times.clone()
    } else {
        let each = column.times.iter().zip(column.flags.iter(column.len()));
        let plausible = each.filter(|(_, quality)| quality.0 & Quality::IMPLAUSIBLE_TIME.0 == 0);
        Times::Explicit(plausible.map(|(t, _)| t).collect())
    };
    (!times.is_empty()).then_some(times)
}

fn waiting_bytes(times: &Times) -> usize {
    match times {
        Times::Regular { .. } => size_of::<Waiting>(),
        Times::Explicit(times) => size_of::<Waiting>() + size_of_val(times.as_slice()),
    }
}

/// The value at `t` and its flags, unless an input is missing or too old.
fn value_at(entry: &Entry, tracks: &[Track], t: i64, notes: &mut Notes) -> Option<(f64, Quality)> {
    let mut inputs = [0.0; EXPRESSION_INPUTS_MAX];
    let mut doubtful = None;
    for (place, &id) in entry.inputs.iter().enumerate() {
        let Some(known) = tracks[id].at(t) else {
            notes.note(Reason::MissingInput, t, id, 0);
            return None;
        };
        let age_us = t.saturating_sub(known.t);
        if age_us > entry.max_age_us {
            notes.note(Reason::StaleInput, t, id, age_us);
            return None;
        }
        if known.quality != Quality::GOOD {
            doubtful = Some(id);
        }
        inputs[place] = known.value;
    }
    let (value, mut quality) = (entry.expression.value(&inputs), Quality::GOOD);
    if let Some(id) = doubtful {
        notes.note(Reason::DoubtfulInput, t, id, 0);
        quality = quality.with(Quality::DOUBTFUL_INPUT);
    }
    if !value.is_finite() {
        notes.note(Reason::NotFinite, t, 0, 0);
        quality = quality.with(Quality::NOT_FINITE);
    }
    Some((value, quality))
}

//! What came in and where it went, in samples, per source: one identity that always holds.
//!
//! `received + recovered = stored + backlog + in_flight + quarantined + dropped{policy} + duplicate`
//!
//! All counts change and are read under one lock, so every [`Snapshot`] is of one moment. `in_flight` is
//! counted by itself: a [`Tally`] holds samples in flight from their receipt to their fate, and a tally
//! that is lost on the way takes its samples out of `in_flight` without putting them anywhere, so that
//! [`Counts::balanced`] shows the mistake instead of hiding it.
//!
//! Derived samples are no facts: they have a line of their own, [`SourceId::DERIVED`], for which the same
//! identity holds (`received` then counts those that were computed), and are in no sum.
//!
//! Deliberately absent: rates, history.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::sample::Name;

/// A source's place in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(u16);

impl SourceId {
    /// The line of samples that steps computed.
    pub const DERIVED: Self = Self(u16::MAX);
}

/// The name of [`SourceId::DERIVED`] in records of the spill: no source can be called so.
const DERIVED_NAME: &str = "derived#";

/// A named policy by which samples are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The validate step was told to drop what is implausible.
    Validate,
    /// The decimate step thinned the channel.
    Decimate,
    /// The disk budget of the spill was used up.
    Overflow,
    /// A record of the spill was damaged on disk.
    Damaged,
    /// Nothing could be written, and memory was full.
    Memory,
}

/// Where samples end, or wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged by the store.
    Stored,
    /// Synced to the spill, still to be stored.
    Backlog,
    /// Synced to the quarantine with a reason.
    Quarantined,
    /// Dropped by a named policy.
    Dropped(Policy),
    /// Samples that had come before.
    Duplicate,
}

/// The ledger's lines for one source, or for all of them, in samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Decoded from frames of this run.
    pub received: u64,
    /// Found in the spill at start.
    pub recovered: u64,
    /// Acknowledged by the store.
    pub stored: u64,
    /// In the spill now.
    pub backlog: u64,
    /// On their way through the agent's memory.
    pub in_flight: u64,
    /// In the quarantine, by this run.
    pub quarantined: u64,
    /// Dropped, by policy.
    pub dropped: BTreeMap<Policy, u64>,
    /// Came more than once.
    pub duplicate: u64,
}

impl Counts {
    /// Whether the identity holds.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        self.received + self.recovered
            == self.stored + self.backlog + self.in_flight + self.quarantined + dropped + self.duplicate
    }

    fn fate(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Stored => &mut self.stored,
            Fate::Backlog => &mut self.backlog,
            Fate::Quarantined => &mut self.quarantined,
            Fate::Dropped(policy) => self.dropped.entry(policy).or_default(),
            Fate::Duplicate => &mut self.duplicate,
        }
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.recovered += other.recovered;
        self.stored += other.stored;
        self.backlog += other.backlog;
        self.in_flight += other.in_flight;
        self.quarantined += other.quarantined;
        self.duplicate += other.duplicate;
        for (policy, count) in &other.dropped {
            *self.dropped.entry(*policy).or_default() += count;
        }
    }
}

/// The ledger at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The sum over all sources.
    #[serde(flatten)]
    pub total: Counts,
    /// What steps computed; in no sum.
    pub derived: Counts,
    /// Whether the identity holds for each source, and for what was derived.
    pub balanced: bool,
    /// Source by source.
    pub sources: BTreeMap<String, Counts>,
}

/// The agent's book of samples. Shared; its lock is held for a few additions only.
#[derive(Debug, Default)]
pub struct Ledger {
    lines: Mutex<Lines>,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Lines {
    sources: Vec<(Name, Counts)>,
    derived: Counts,
}

impl Lines {
    fn of(&mut self, source: SourceId) -> &mut Counts {
        if source == SourceId::DERIVED { &mut self.derived } else { &mut self.sources[usize::from(source.0)].1 }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Counts> {
        self.sources.iter_mut().map(|(_, counts)| counts).chain(std::iter::once(&mut self.derived))
    }
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The place of the source called `name`, opened if it has none yet.
    ///
    /// # Panics
    /// With more than 65,535 names; a configuration is limited far below.
    pub fn source(&self, name: &str) -> SourceId {
        if name == DERIVED_NAME {
            return SourceId::DERIVED;
        }
        let lines = &mut self.lock().sources;
        let index = lines.iter().position(|(known, _)| &**known == name).unwrap_or_else(|| {
            lines.push((name.into(), Counts::default()));
            lines.len() - 1
        });
        let index = u16::try_from(index).ok().filter(|index| *index != SourceId::DERIVED.0);
        SourceId(index.expect("the number of sources is bounded by the configuration"))
    }

    /// The name of `source`.
    #[must_use]
    pub fn name(&self, source: SourceId) -> Name {
        match source {
            SourceId::DERIVED => DERIVED_NAME.into(),
            SourceId(index) => self.lock().sources[usize::from(index)].0.clone(),
        }
    }

    /// Counts `samples` as received and in flight; the tally is to be settled.
    #[must_use]
    pub fn receive(self: &Arc<Self>, source: SourceId, samples: u64) -> Tally {
        let mut lines = self.lock();
        let counts = lines.of(source);
        counts.received += samples;
        counts.in_flight += samples;
        drop(lines);
        Tally { ledger: Some(self.clone()), parts: if samples == 0 { vec![] } else { vec![(source, samples)] } }
    }

    /// Counts `samples` that the spill held at start.
    pub fn recover(&self, source: SourceId, samples: u64) {
        let mut lines = self.lock();
        let counts = lines.of(source);
        counts.recovered += samples;
        counts.backlog += samples;
    }

    /// Moves samples out of the backlog to `fate`.
    pub fn settle_backlog(&self, parts: &[(SourceId, u64)], fate: Fate) {
        let mut lines = self.lock();
        for &(source, samples) in parts {
            let counts = lines.of(source);
            counts.backlog = counts.backlog.saturating_sub(samples);
            *counts.fate(fate) += samples;
        }
    }

    /// Moves samples out of the backlog to `fate` when nobody can say any more whose they were: the source
    /// with the largest backlog gives first. With one source that is exact, and the identity holds for each.
    pub fn settle_backlog_of_anyone(&self, samples: u64, fate: Fate) {
        let mut lines = self.lock();
        let mut left = samples;
        while let Some(counts) = lines.all().max_by_key(|counts| counts.backlog) {
            let taken = left.min(counts.backlog);
            if taken == 0 {
                return;
            }
            counts.backlog -= taken;
            *counts.fate(fate) += taken;
            left -= taken;
        }
    }

    /// The agent's stop is over: samples dropped from here on were cut off by it and stay in flight, which
    /// is what they were.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// All counts of one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let lines = self.lock();
        let mut total = Counts::default();
        let mut balanced = lines.derived.balanced();
        for (_, counts) in &lines.sources {
            total.add(counts);
            balanced &= counts.balanced();
        }
        let sources = lines.sources.iter().map(|(name, counts)| (name.to_string(), counts.clone())).collect();
        Snapshot { total, derived: lines.derived.clone(), balanced, sources }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Additions cannot leave the book half written, so a panic elsewhere does not spoil it.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Samples in flight, by source: to be settled, whole or in parts, exactly once.
#[derive(Debug, Default)]
pub struct Tally {
    ledger: Option<Arc<Ledger>>,
    parts: Vec<(SourceId, u64)>,
}

impl Tally {
    /// How many samples it holds.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.parts.iter().map(|(_, samples)| samples).sum()
    }

    /// What it holds, by source.
    #[must_use]
    pub fn parts(&self) -> &[(SourceId, u64)] {
        &self.parts
    }

    /// Takes the samples of `other` in.
    pub fn merge(&mut self, mut other: Self) {
        if self.ledger.is_none() {
            self.ledger = other.ledger.clone();
        }
        for (source, samples) in std::mem::take(&mut other.parts) {
            match self.parts.iter_mut().find(|(known, _)| *known == source) {
                Some((_, held)) => *held += samples,
                None => self.parts.push((source, samples)),
            }
        }
    }

    /// Takes `samples` out into a tally of their own, at most what is there.
    #[must_use]
    pub fn split(&mut self, samples: u64) -> Self {
        let mut left = samples;
        let mut parts = Vec::new();
        for (source, held) in &mut self.parts {
            let taken = left.min(*held);
            if taken > 0 {
                *held -= taken;
                left -= taken;
                parts.push((*source, taken));
            }
        }
        self.parts.retain(|(_, held)| *held > 0);
        Self { ledger: self.ledger.clone(), parts }
    }

    /// Ends the flight of its samples.
    pub fn settle(mut self, fate: Fate) {
        let parts = std::mem::take(&mut self.parts);
        if let Some(ledger) = &self.ledger {
            let mut lines = ledger.lock();
            for (source, samples) in parts {
                let counts = lines.of(source);
                counts.in_flight = counts.in_flight.saturating_sub(samples);
                *counts.fate(fate) += samples;
            }
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.parts.is_empty() {
            return;
        }
        if let Some(ledger) = &self.ledger {
            if ledger.ended.load(Ordering::Acquire) {
                return;
            }
            let mut lines = ledger.lock();
            for &(source, samples) in &self.parts {
                let counts = lines.of(source);
                counts.in_flight = counts.in_flight.saturating_sub(samples);
            }
        }
        tracing::error!(samples = self.samples(), "samples left the agent without a fate: please report this");
    }
}

#[cfg(test)]
mod tests;

//! The audit: what was sent, by its sender's manifest, against what a reader of the store sees.
//!
//! Samples are compared by identity, never by UTC, so no clock mapping matters. Per slot (one second of
//! device time of one channel): fewer found than sent adds to `missing`, more to `extra`, equal counts with
//! another digest add the slot's samples to `altered`. Only channels of the manifest are compared, between
//! the first and the last device time that it names for their device and boot; everything else that the
//! store holds of these cars is `unlisted`.
//!
//! Two values of one identity are both found, so a conflict is `extra`. What is missing in a slot that a gap event
//! reaches into (by device, boot, channel and time) is `declared`: the store says that it is missing.
//!
//! Bounded by the manifest, and by the reader. Deliberately absent: prefixes that a source adds to device
//! names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::BufRead;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::gaps::{self, DeclaredGap};
use super::manifest::{Manifest, ManifestError, SLOT_US, SentCar, Slot, slot_of};
use super::merge::{Block, Series};
use super::plan::Query;
use super::reader::Reader;
use crate::limits::{READ_FAULTS_LISTED_MAX, UNLISTED_NAMED_MAX};
use crate::row::day_of;
use crate::store::{Store, StoreError};

/// Why an audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store.
    #[error("read the store: {0}")]
    Store(#[from] StoreError),
}

/// What an audit found. As JSON it is the counts, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AuditReport {
    /// Samples in the manifest.
    pub sent: u64,
    /// Samples in the store, of what is compared.
    pub found: u64,
    /// Samples that slots lack.
    pub missing: u64,
    /// Samples that slots have too many.
    pub extra: u64,
    /// Samples of slots with the right number of samples, some of which are others.
    pub altered: u64,
    /// Samples of these cars in the store that the manifest does not speak of.
    pub unlisted: u64,
    /// Chunk rows read.
    pub rows: u64,
    /// Of the missing samples, those in slots that a gap event speaks of.
    pub declared: u64,
    /// Each slot that is not as it should be.
    #[serde(skip)]
    pub bad_slots: Vec<BadSlot>,
    /// `car/device/boot/channel` of unlisted samples, the first thousand.
    #[serde(skip)]
    pub unlisted_channels: BTreeSet<String>,
    /// Lines of the manifest about injected faults.
    #[serde(skip)]
    pub faults: u64,
    /// Rows that could not be read; their samples are missing.
    #[serde(skip)]
    pub damaged: u64,
    /// The first of them in words.
    #[serde(skip)]
    pub damages: Vec<String>,
}

impl AuditReport {
    /// Whether the store holds exactly what was sent.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.altered == 0
    }
}

/// What is wrong with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Fewer samples than were sent.
    Missing,
    /// More.
    Extra,
    /// As many, but others.
    Altered,
}

/// A slot that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadSlot {
    /// The car.
    pub car: String,
    /// The device.
    pub device: String,
    /// Its start.
    pub boot: i64,
    /// The channel.
    pub channel: String,
    /// The manifest's slot; for seconds in which nothing was sent the first such second.
    pub slot: i64,
    /// Samples sent.
    pub sent: u64,
    /// Samples found.
    pub found: u64,
    /// What is wrong.
    pub fault: Fault,
}

impl BadSlot {
    fn is_declared_by(&self, declared: &DeclaredGap) -> bool {
        let DeclaredGap { device, boot, gap, .. } = declared;
        let first_us = self.slot.saturating_mul(SLOT_US);
        (*device == self.device && *boot == self.boot)
            && gap.covers_channel(&self.channel)
            && gap.covers_time(first_us, first_us.saturating_add(SLOT_US - 1))
    }
}

/// Compares `manifest` with what `store` holds.
///
/// # Errors
/// If a line of the manifest is wrong, or the store does not answer. Rows that cannot be decoded are
/// counted: their samples are missing.
pub async fn audit(manifest: impl BufRead, store: &dyn Store) -> Result<AuditReport, AuditError> {
    let manifest = Manifest::read(manifest)?;
    let mut report = AuditReport { sent: manifest.sent, faults: manifest.faults, ..AuditReport::default() };
    for (car, sent) in manifest.cars {
        audit_car(&car, sent, store, &mut report).await?;
    }
    Ok(report)
}

async fn audit_car(car: &str, sent: SentCar, store: &dyn Store, report: &mut AuditReport) -> Result<(), StoreError> {
    let mut compare = Compare::new(car, sent);
    let mut reading = Reader::new(store, car).read(&Query::default()).await?;
    while let Some(block) = reading.next().await? {
        compare.take(&block, report);
    }
    let counts = reading.counts();
    report.rows += counts.rows;
    report.damaged += counts.damaged;
    let room = READ_FAULTS_LISTED_MAX.saturating_sub(report.damages.len());
    report.damages.extend(counts.faults.iter().take(room).cloned());
    let days = compare.days();
    let (first_bad, missing_before) = (report.bad_slots.len(), report.missing);
    compare.judge(report);
    if report.bad_slots.len() > first_bad {
        let gaps = gaps::read(store, car, days).await?;
        let missing = report.bad_slots[first_bad..].iter().filter(|bad| bad.fault == Fault::Missing);
        let declared = missing.filter(|bad| gaps.iter().any(|gap| bad.is_declared_by(gap)));
        let declared = declared.map(|bad| bad.sent - bad.found).sum::<u64>();
        // Where nobody knows whose they were, a gap still says how many.
        let of_anyone: u64 = gaps.iter().filter(|gap| gap.device.is_empty()).filter_map(|gap| gap.gap.samples).sum();
        report.declared += declared + of_anyone.min(report.missing - missing_before - declared);
    }
    Ok(())
}

/// One channel of one boot under comparison.
struct Compared {
    /// Index into [`Compare::sent`], or none if the manifest does not know it.
    sent: Option<usize>,
    /// Device times compared, both inclusive.
    span: (i64, i64),
    /// The slot that samples are being added to, which is mostly the one before's.
    slot: i64,
    found: u64,
    digest: u64,
    /// Whether the report names it as unlisted.
    named: bool,
}

struct SentSeries {
    device: String,
    boot: i64,
    channel: String,
    slots: BTreeMap<i64, Slot>,
    /// Found in seconds in which nothing was sent: how many, and the first such second.
    stray: Option<(u64, i64)>,
}

struct Compare<'a> {
    car: &'a str,
    sent: Vec<SentSeries>,
    spans: HashMap<(String, i64), (i64, i64)>,
    /// For each of the reader's series.
    series: Vec<Compared>,
}

impl<'a> Compare<'a> {
    fn new(car: &'a str, sent: SentCar) -> Self {
        // In the order of their keys: `find` searches by it.
        let series = sent.series.into_iter();
        let series =
            series.map(|((device, boot, channel), slots)| SentSeries { device, boot, channel, slots, stray: None });
        Self { car, sent: series.collect(), spans: sent.spans, series: Vec::new() }
    }

    fn find(&self, series: &Series) -> Compared {
        let key = (&*series.device, series.boot, &*series.channel);
        let order = |s: &SentSeries| (s.device.as_str(), s.boot, s.channel.as_str()).cmp(&key);
        let sent = self.sent.binary_search_by(order).ok();
        let span = self.spans.get(&(series.device.to_string(), series.boot)).copied().unwrap_or((0, -1));
        Compared { sent, span, slot: i64::MIN, found: 0, digest: 0, named: false }
    }

    fn take(&mut self, block: &Block, report: &mut AuditReport) {
        while let Some(series) = block.series.get(self.series.len()) {
            self.series.push(self.find(series));
        }
        for sample in &block.samples {
            let compared = &mut self.series[sample.series as usize];
            let (first, last) = compared.span;
            let Some(sent) = compared.sent.filter(|_| (first..=last).contains(&sample.d_us)) else {
                report.unlisted += 1;
                if !compared.named && report.unlisted_channels.len() < UNLISTED_NAMED_MAX {
                    compared.named = true;
                    let Series { device, boot, channel, .. } = &block.series[sample.series as usize];
                    report.unlisted_channels.insert(format!("{}/{device}/{boot}/{channel}", self.car));
                }
                continue;
            };
            let slot = slot_of(sample.d_us);
            if slot != compared.slot {
                settle(&mut self.sent[sent], compared);
                compared.slot = slot;
            }
            compared.found += 1;
            compared.digest = compared.digest.wrapping_add(digest(sample.d_us, sample.value));
            report.found += 1;
        }
    }

    /// The days of the device times that were sent, if they are UTC.
    fn days(&self) -> (i32, i32) {
        let days = |&(first, last): &(i64, i64)| (day_of(first), day_of(last));
        let joined = self.spans.values().map(days).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        joined.unwrap_or((1, 0))
    }

    /// Adds each slot that is not right to the report.
    fn judge(mut self, report: &mut AuditReport) {
        for compared in &mut self.series {
            if let Some(sent) = compared.sent {
                settle(&mut self.sent[sent], compared);
            }
        }
        for SentSeries { device, boot, channel, slots, stray } in self.sent {
            let mut bad = |slot: i64, sent: u64, found: u64, fault: Fault| {
                let (device, channel) = (device.clone(), channel.clone());
                report.bad_slots.push(BadSlot {
                    car: self.car.into(),
                    device,
                    boot,
                    channel,
                    slot,
                    sent,
                    found,
                    fault,
                });
            };
            for Slot { slot, sent, sent_digest, found, found_digest } in slots.into_values() {
                if found < sent {
                    report.missing += sent - found;
                    bad(slot, sent, found, Fault::Missing);
                } else if found > sent {
                    report.extra += found - sent;
                    bad(slot, sent, found, Fault::Extra);
                } else if found_digest != sent_digest {
                    report.altered += sent;
                    bad(slot, sent, found, Fault::Altered);
                }
            }
            if let Some((found, slot)) = stray {
                report.extra += found;
                bad(slot, 0, found, Fault::Extra);
            }
        }
    }
}

/// Puts down what was found in the slot that ends.
fn settle(sent: &mut SentSeries, compared: &mut Compared) {
    if compared.found == 0 {
        return;
    }
    match sent.slots.get_mut(&compared.slot) {
        Some(slot) => {
            slot.found += compared.found;
            slot.found_digest = slot.found_digest.wrapping_add(compared.digest);
        }
        None => {
            let (found, first) = sent.stray.unwrap_or((0, compared.slot));
            sent.stray = Some((found + compared.found, first.min(compared.slot)));
        }
    }
    (compared.found, compared.digest) = (0, 0);
}

/// xxh3-64 of a sample: device time as i64, physical value as f64, both little-endian.
fn digest(d_us: i64, value: f64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&d_us.to_le_bytes());
    bytes[8..].copy_from_slice(&value.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;

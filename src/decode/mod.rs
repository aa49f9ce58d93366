//! Bytes to samples: one file per format, all of them pure.
//!
//! The stage hands every message to its source's format, which puts out [`Item`]s. Adding a format is
//! one file and one line in [`Decode::source`].
//!
//! Invariants: a message's receipt goes into what was made from it, or is settled here when nothing was;
//! bad input is counted, never a panic; what a format remembers is bounded (`limits`).
//! Deliberately absent: transports, and any step on values.

mod catalogue;
mod columns;
mod declare;
mod device;
mod held;
mod holes;
mod json;
mod track;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clock::Gateway;
use crate::gap::GapCounts;
use crate::gauges::SourceGauges;
use crate::item::{Body, FormatName, Item, Malformed, RawBatch, RawMessage};
use crate::ledger::{Ledger, SourceId};
use crate::limits::CAR_BYTES_MAX;
use crate::pipeline::Stage;
use crate::receipt::Receipt;
use crate::sample::{Name, UnixMicros};
use crate::settled::Book;

pub use catalogue::CatalogueRecord;
use held::HeldBytes;

/// What a format has to know of its source.
#[derive(Clone)]
pub struct SourceSpec {
    /// Its place in the ledger.
    pub id: SourceId,
    /// Its name.
    pub name: Name,
    /// The car of messages that name none.
    pub car: Name,
    /// Whether `car` holds even if a topic says otherwise.
    pub car_is_fixed: bool,
    /// Put before every device's name.
    pub device_prefix: String,
    /// What it shows of itself.
    pub gauges: Arc<SourceGauges>,
    /// Where samples are counted.
    pub ledger: Arc<Ledger>,
}

impl SourceSpec {
    /// The car of a message: the one that its topic `pitwire/CAR/…` names, unless the source's own holds.
    ///
    /// # Errors
    /// If the topic names none that can be a key of the store.
    fn car_of(&self, topic: &[u8]) -> Result<Name, String> {
        let named = std::str::from_utf8(topic).ok().and_then(|topic| topic.strip_prefix("pitwire/")?.split('/').next());
        let Some(car) = named.filter(|car| !self.car_is_fixed && **car != *self.car) else {
            return Ok(self.car.clone());
        };
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !",*?".contains(c);
        if car.is_empty() || car.len() > CAR_BYTES_MAX || !car.chars().all(plain) {
            return Err(format!(
                "its topic names the car {car:?}: 1 to {CAR_BYTES_MAX} bytes without spaces and , * ? are possible"
            ));
        }
        Ok(car.into())
    }
}

/// Called with each catalogue that is new, so that it outlives the process.
pub type Remember = Arc<dyn Fn(&CatalogueRecord) + Send + Sync>;

/// Where it is noted what is settled and what is declared missing.
#[derive(Clone, Default)]
pub struct Gaps {
    /// What is settled, by device, boot and sequence.
    pub book: Arc<Book>,
    /// What was declared.
    pub counts: Arc<GapCounts>,
}

/// A format's decoder for one source.
trait Format: Send {
    fn decode(&mut self, message: RawMessage, out: &mut Vec<Item>);
    /// No more came with the last message: gives out what was gathered.
    fn end_of_batch(&mut self, _out: &mut Vec<Item>) {}
    /// When it wants [`Self::on_deadline`] to be called, if at all.
    fn deadline(&self) -> Option<Instant> {
        None
    }
    /// The deadline has come.
    fn on_deadline(&mut self, _now: Instant, _out: &mut Vec<Item>) {}
    /// No more input will come: gives out, or gives back, what is held.
    fn finish(&mut self, _out: &mut Vec<Item>) {}
}

/// The first stage of the pipeline.
pub struct Decode {
    formats: HashMap<SourceId, Box<dyn Format>>,
    known: Vec<CatalogueRecord>,
    remember: Remember,
    copy_after: Duration,
    held: HeldBytes,
    gaps: Gaps,
    gateway: Arc<Gateway>,
}

impl Decode {
    /// A stage that knows the catalogues of earlier runs, and tells `remember` of new ones. What it has
    /// to hold goes as a copy to the quarantine in time to be durable within `durable_within`. What names no
    /// time is stamped by the counter of `gateway`.
    #[must_use]
    pub fn new(
        known: Vec<CatalogueRecord>,
        remember: Remember,
        durable_within: Duration,
        gateway: Arc<Gateway>,
    ) -> Self {
        let copy_after = durable_within / 2;
        Self {
            formats: HashMap::new(),
            known,
            remember,
            copy_after,
            held: HeldBytes::default(),
            gaps: Gaps::default(),
            gateway,
        }
    }

    /// Where sources that are added from now on note what is settled and what is missing.
    #[must_use]
    pub fn with_gaps(mut self, gaps: Gaps) -> Self {
        self.gaps = gaps;
        self
    }

    /// Adds a source.
    #[must_use]
    pub fn source(mut self, spec: SourceSpec, format: FormatName) -> Self {
        let id = spec.id;
        let format: Box<dyn Format> = match format {
            FormatName::Wire => {
                let holding = wire::Holding { copy_after: self.copy_after, bytes: self.held.clone() };
                Box::new(wire::Wire::new(spec, &self.known, self.remember.clone(), holding, self.gaps.clone()))
            }
            FormatName::Json => Box::new(json::Json::new(spec, self.gateway.clone())),
        };
        self.formats.insert(id, format);
        self
    }
}

impl Stage for Decode {
    type In = RawBatch;
    type Out = Item;

    fn name(&self) -> &str {
        "decode"
    }

    fn process(&mut self, RawBatch { source, messages }: RawBatch, out: &mut Vec<Item>) {
        let Some(format) = self.formats.get_mut(&source) else {
            // Only a mistake of ours leads here; the receipts stay void, so nothing is acknowledged.
            return tracing::error!(?source, "messages of a source that decode does not know");
        };
        for message in messages {
            if matches!(message.body, Body::Flush) {
                message.receipt.settle();
                format.end_of_batch(out);
                out.push(Item::Flush(source));
            } else {
                format.decode(message, out);
            }
        }
        format.end_of_batch(out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.formats.values().filter_map(|format| format.deadline()).min()
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Vec<Item>) {
        for format in self.formats.values_mut() {
            format.on_deadline(now, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Item>) {
        for format in self.formats.values_mut() {
            format.finish(out);
        }
    }
}

/// When and for whom a message came: what everything made from it inherits.
#[derive(Clone)]
struct Arrival {
    accepted_at: Instant,
    received: UnixMicros,
    receipt: Receipt,
    /// Whether its source sends it again unless the receipt fires.
    comes_again: bool,
}

/// Counts a message that cannot be decoded and makes it an item for the quarantine.
fn malformed(spec: &SourceSpec, arrival: Arrival, topic: &[u8], payload: Bytes, reason: String) -> Item {
    if let Some(since_last_line) = spec.gauges.complain(arrival.accepted_at) {
        let (source, topic, bytes) = (&spec.name, String::from_utf8_lossy(topic), payload.len());
        tracing::warn!(%source, %topic, reason, bytes, since_last_line, "a message cannot be decoded; it is kept in the \
            quarantine: compare its sender with docs/firmware.md, or source.format with what it sends");
    }
    quarantined(spec, arrival, topic, payload, reason)
}

/// An item for the quarantine.
fn quarantined(spec: &SourceSpec, arrival: Arrival, topic: &[u8], payload: Bytes, reason: String) -> Item {
    Item::Malformed(Malformed {
        source: spec.name.clone(),
        topic: String::from_utf8_lossy(topic).into_owned(),
        reason,
        payload,
        accepted_at: arrival.accepted_at,
        received: arrival.received,
        receipt: arrival.receipt,
    })
}

#[cfg(test)]
mod json_tests;
#[cfg(test)]
mod tests;

//! What moves between the stages: raw messages into decode, items out of it.
//!
//! Each carries what is needed to tell its end back: a [`Receipt`], and for samples their [`Custody`].
//! Deliberately absent: how any stage works.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ledger::SourceId;
use crate::receipt::{Custody, Receipt};
use crate::sample::{ChannelMeta, Column, DeviceTime, Name, Origin, UnixMicros};

/// What a source speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    /// Pitwire's own frames.
    #[default]
    Wire,
    /// `{"ts": ms, "values": {"channel": number}}`, or an array of them.
    Json,
}

/// What a source hands on at once: what had come by then, so that the stages are woken for all of it together.
#[derive(Debug)]
pub struct RawBatch {
    /// Which source.
    pub source: SourceId,
    /// In order of arrival, at least one.
    pub messages: Vec<RawMessage>,
}

impl RawBatch {
    /// A single one.
    #[must_use]
    pub fn one(source: SourceId, message: RawMessage) -> Self {
        Self { source, messages: vec![message] }
    }

    /// Its weight in a queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(RawMessage::bytes).sum()
    }
}

/// Bytes as a source received them.
#[derive(Debug)]
pub struct RawMessage {
    /// What came.
    pub body: Body,
    /// When: deadlines count from here.
    pub accepted_at: Instant,
    /// The gateway's UTC then.
    pub received: UnixMicros,
    /// To be settled when everything made from it is.
    pub receipt: Receipt,
}

/// What came from a source.
#[derive(Debug)]
pub enum Body {
    /// A byte stream was opened anew: half a frame before it is lost.
    Opened,
    /// Some bytes of a stream.
    Stream(Bytes),
    /// One whole message.
    Message {
        /// Where it was published.
        topic: Bytes,
        /// What.
        payload: Bytes,
    },
    /// Nothing: the source wants what it gave before to become durable soon, since it is sent no more until then.
    Flush,
}

impl RawMessage {
    /// What it adds to the weight of a batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        128 + match &self.body {
            Body::Opened | Body::Flush => 0,
            Body::Stream(bytes) => bytes.len(),
            Body::Message { topic, payload } => topic.len() + payload.len(),
        }
    }
}

/// What decode makes of messages.
#[derive(Debug)]
pub enum Item {
    /// Samples of one frame.
    Batch(Batch),
    /// Something that happened.
    Event(Event),
    /// What a device says of its channels.
    Catalogue(Catalogue),
    /// A message that cannot be decoded.
    Malformed(Malformed),
    /// A wish of a source: what it gave before is to be gathered no longer.
    Flush(SourceId),
}

impl Item {
    /// Its weight in a queue: about what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            // 96: a column's head; 16 for a single explicit time and value.
            Self::Batch(batch) => {
                128 + batch.columns.iter().map(|c| 96 + c.values.len() * c.values.kind().bytes()).sum::<usize>()
            }
            Self::Event(event) => 192 + event.text.len(),
            Self::Catalogue(catalogue) => 128 + 160 * (catalogue.channels.len() + catalogue.changed.len()),
            Self::Malformed(malformed) => 192 + malformed.payload.len(),
            Self::Flush(_) => 32,
        }
    }
}

/// The samples of one frame, all of one device and boot, moving together.
#[derive(Debug)]
pub struct Batch {
    /// Who measured.
    pub origin: Arc<Origin>,
    /// Channel by channel.
    pub columns: Vec<Column>,
    /// When the agent accepted the frame: the deadline D counts from here.
    pub accepted_at: Instant,
    /// The gateway's UTC at that moment, for mapping devices that have no UTC of their own.
    pub received: UnixMicros,
    /// What has to be told when every sample of it is settled.
    pub custody: Custody,
}

impl Batch {
    /// How many samples.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.columns.iter().map(|column| column.len() as u64).sum()
    }
}

/// Something that happened at a device's time.
#[derive(Debug)]
pub struct Event {
    /// Who says so.
    pub origin: Arc<Origin>,
    /// When.
    pub t: DeviceTime,
    /// The frame's sequence.
    pub sequence: u32,
    /// `lap`, `session`, `marker`, `text`, `anomaly`.
    pub kind: &'static str,
    /// Lap or session number.
    pub number: i64,
    /// Free text.
    pub text: String,
    /// When the agent accepted the frame.
    pub accepted_at: Instant,
    /// The gateway's UTC then.
    pub received: UnixMicros,
    /// To be settled when the event is durable.
    pub receipt: Receipt,
}

/// A device's channels, complete.
#[derive(Debug)]
pub struct Catalogue {
    /// Whose.
    pub origin: Arc<Origin>,
    /// The revision that frames name.
    pub revision: u32,
    /// Its channels as it describes them, by id.
    pub channels: Vec<Arc<ChannelMeta>>,
    /// Those whose description the steps make or change: what holds for them does not hold since the Describe.
    pub changed: Vec<Arc<ChannelMeta>>,
    /// Its frame's time.
    pub t: DeviceTime,
    /// The gateway's UTC when it was complete.
    pub received: UnixMicros,
    /// The same.
    pub accepted_at: Instant,
}

/// A message that cannot be decoded; it is quarantined with its reason.
#[derive(Debug)]
pub struct Malformed {
    /// Through which source it came.
    pub source: Name,
    /// Where it was published, if anywhere.
    pub topic: String,
    /// What is wrong with it.
    pub reason: String,
    /// The message.
    pub payload: Bytes,
    /// When the agent accepted it.
    pub accepted_at: Instant,
    /// The gateway's UTC then.
    pub received: UnixMicros,
    /// To be settled when it is quarantined.
    pub receipt: Receipt,
}

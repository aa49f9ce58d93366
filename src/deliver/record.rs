//! Flushes as records of the spill, and what lies in the quarantine.
//!
//! A record's meta names the samples by source, so that the ledger can be kept without reading the rows;
//! its payload is [`Rows::encode`](crate::row::Rows::encode), or a message that could not be decoded.

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::item::Malformed;
use crate::ledger::{Ledger, SourceId};
use crate::row::Rows;
use crate::spill::Record;

/// Version of the meta.
const META_VERSION: u8 = 1;
/// The spill bounds a meta; texts in it are cut here.
const TEXT_BYTES_MAX: usize = 512;

/// What a record says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Meta {
    /// Samples by the name of their source.
    pub samples: Vec<(String, u64)>,
    /// Why it lies in the quarantine; empty in the backlog.
    pub reason: String,
    /// What the payload is.
    pub content: Content,
}

/// What a record's payload is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// [`Rows`].
    Rows,
    /// A message as it came, and where it was published.
    Message {
        /// The topic, if any.
        topic: String,
        /// The gateway's UTC when it came, µs.
        received_us: i64,
    },
}

impl Meta {
    fn encode(&self) -> Bytes {
        let mut bytes = vec![META_VERSION];
        bincode::encode_into_std_write(self, &mut bytes, bincode::config::standard())
            .expect("encoding plain data into memory cannot fail");
        bytes.into()
    }

    /// A meta from a record; `None` if it is of another version or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&META_VERSION, body) = bytes.split_first()? else { return None };
        let config = bincode::config::standard().with_limit::<65_536>();
        bincode::decode_from_slice(body, config).ok().map(|(meta, _)| meta)
    }

    /// Its samples, by their place in the ledger.
    #[must_use]
    pub fn samples_in(&self, ledger: &Ledger) -> Vec<(SourceId, u64)> {
        self.samples.iter().map(|(name, count)| (ledger.source(name), *count)).collect()
    }
}

/// Rows for the backlog, or with a reason for the quarantine.
#[must_use]
pub fn rows_record(rows: &Rows, samples: &[(SourceId, u64)], ledger: &Ledger, reason: &str) -> Record {
    let samples = samples.iter().map(|&(source, count)| (ledger.name(source).to_string(), count)).collect();
    let meta = Meta { samples, reason: cut(reason), content: Content::Rows };
    Record { meta: meta.encode(), payload: rows.encode().into(), weight: rows.samples() }
}

/// A message that could not be decoded, for the quarantine.
#[must_use]
pub fn message_record(malformed: &Malformed) -> Record {
    let content = Content::Message { topic: cut(&malformed.topic), received_us: malformed.received.0 };
    let meta = Meta { samples: vec![(malformed.source.to_string(), 0)], reason: cut(&malformed.reason), content };
    Record { meta: meta.encode(), payload: malformed.payload.clone(), weight: 0 }
}

/// A record as it is, for the quarantine, with a reason.
#[must_use]
pub fn raw_record(record: &Record, reason: &str) -> Record {
    let samples = Meta::decode(&record.meta).map(|meta| meta.samples).unwrap_or_default();
    let meta = Meta { samples, reason: cut(reason), content: Content::Rows };
    Record { meta: meta.encode(), ..record.clone() }
}

/// The samples of a record, by their place in the ledger; of an unreadable meta all go to `unknown`.
#[must_use]
pub fn samples_of(meta: Option<&[u8]>, weight: u64, ledger: &Ledger) -> Vec<(SourceId, u64)> {
    match meta.and_then(Meta::decode) {
        Some(meta) => meta.samples_in(ledger),
        None => vec![(ledger.source("unknown"), weight)],
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_samples_by_source_across_processes() {
        let ledger = Ledger::new();
        let sources = [(ledger.source("ecu"), 5), (ledger.source("gps"), 2)];
        let record = rows_record(&Rows::default(), &sources, &ledger, "");
        let later = Ledger::new();
        later.source("gps");
        let samples = samples_of(Some(&record.meta), record.weight, &later);
        assert_eq!(samples, [(later.source("ecu"), 5), (later.source("gps"), 2)]);
    }

    #[test]
    fn a_meta_that_cannot_be_read_keeps_its_weight() {
        let ledger = Ledger::new();
        assert_eq!(samples_of(Some(b"\x09"), 7, &ledger), [(ledger.source("unknown"), 7)]);
        assert_eq!(samples_of(None, 7, &ledger), [(ledger.source("unknown"), 7)]);
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(cut(&"é".repeat(400)).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("a{}", "é".repeat(400))).len(), TEXT_BYTES_MAX - 1);
    }
}

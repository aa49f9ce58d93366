//! Flushes as records of the spill, and what lies in the quarantine.
//!
//! A record's meta names the samples by source, so that the ledger can be kept without reading the rows, and whose
//! they are from when to when, so that a gap can be declared without them. It has a checksum of its own. The payload is [`Rows::encode`](crate::row::Rows::encode), or a message that could not be decoded.

use bincode::{Decode, Encode};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::item::Malformed;
use crate::ledger::{Ledger, SourceId};
use crate::row::Rows;
use crate::spill::Record;

/// Version of the meta: the byte, eight of its checksum, the content.
const META_VERSION: u8 = 2;
/// The version before: the byte, the content without a span. Records of it may lie in a spill.
const META_VERSION_1: u8 = 1;
/// Of the checksum, xxh3-64 little-endian.
const SUM_BYTES: usize = 8;
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
    /// Whose samples it holds; absent if it holds none, or those of several.
    pub span: Option<Span>,
}

/// Whose samples a record holds, and from when to when.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// The car.
    pub car: String,
    /// The device.
    pub device: String,
    /// Its start.
    pub boot: i64,
    /// First device time, µs.
    pub d_from: i64,
    /// Last device time, µs.
    pub d_to: i64,
    /// UTC − device time, as placed, µs.
    pub offset_us: i64,
    /// How many samples.
    pub samples: u64,
}

impl Span {
    /// Of rows whose chunks are all of one device and boot, as those of a flush are.
    #[must_use]
    pub fn of(rows: &Rows) -> Option<Self> {
        let first = rows.chunks.first()?;
        let offset_us = first.t0.saturating_sub(first.d0);
        let (mut d_from, mut d_to) = (first.d0, first.d0);
        for chunk in &rows.chunks {
            if (&chunk.car, &chunk.device, chunk.boot) != (&first.car, &first.device, first.boot) {
                return None;
            }
            d_from = d_from.min(chunk.d0);
            d_to = d_to.max(chunk.t1.saturating_sub(chunk.t0.saturating_sub(chunk.d0)));
        }
        let (car, device, boot) = (first.car.clone(), first.device.clone(), first.boot);
        Some(Self { car, device, boot, d_from, d_to, offset_us, samples: rows.samples() })
    }
}

#[derive(Decode)]
struct MetaV1 {
    samples: Vec<(String, u64)>,
    reason: String,
    content: Content,
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
        let mut bytes = vec![META_VERSION; 1 + SUM_BYTES];
        bincode::encode_into_std_write(self, &mut bytes, bincode::config::standard())
            .expect("encoding plain data into memory cannot fail");
        let (head, body) = bytes.split_at_mut(1 + SUM_BYTES);
        head[1..].copy_from_slice(&xxh3_64(body).to_le_bytes());
        bytes.into()
    }

    /// A meta from a record; `None` if it is of another version or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let config = bincode::config::standard().with_limit::<65_536>();
        match version {
            META_VERSION => {
                let (sum, body) = rest.split_first_chunk::<SUM_BYTES>()?;
                let sound = u64::from_le_bytes(*sum) == xxh3_64(body);
                sound.then(|| bincode::decode_from_slice(body, config).ok().map(|(meta, _)| meta))?
            }
            META_VERSION_1 => {
                let (MetaV1 { samples, reason, content }, _) = bincode::decode_from_slice(rest, config).ok()?;
                Some(Self { samples, reason, content, span: None })
            }
            _ => None,
        }
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
    let meta = Meta { samples, reason: cut(reason), content: Content::Rows, span: Span::of(rows) };
    Record { meta: meta.encode(), payload: rows.encode().into(), weight: rows.samples() }
}

/// A message that could not be decoded, for the quarantine.
#[must_use]
pub fn message_record(malformed: &Malformed) -> Record {
    let content = Content::Message { topic: cut(&malformed.topic), received_us: malformed.received.0 };
    let meta =
        Meta { samples: vec![(malformed.source.to_string(), 0)], reason: cut(&malformed.reason), content, span: None };
    Record { meta: meta.encode(), payload: malformed.payload.clone(), weight: 0 }
}

/// A record as it is, for the quarantine, with a reason.
#[must_use]
pub fn raw_record(record: &Record, reason: &str) -> Record {
    let (samples, span) = Meta::decode(&record.meta).map(|meta| (meta.samples, meta.span)).unwrap_or_default();
    let meta = Meta { samples, reason: cut(reason), content: Content::Rows, span };
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
    fn a_record_of_the_version_before_is_read_and_a_damaged_meta_is_not() {
        // One source `ecu` with five samples, no reason, rows.
        let old = [1, 1, 3, b'e', b'c', b'u', 5, 0, 0];
        let samples = vec![("ecu".to_owned(), 5)];
        let meta = Meta { samples, reason: String::new(), content: Content::Rows, span: None };
        assert_eq!(Meta::decode(&old).as_ref(), Some(&meta));
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Some(meta));
        for index in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[index] ^= 0x40;
            assert_eq!(Meta::decode(&damaged), None, "byte {index}");
            assert_eq!(Meta::decode(&bytes[..index]), None);
        }
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(cut(&"é".repeat(400)).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("a{}", "é".repeat(400))).len(), TEXT_BYTES_MAX - 1);
    }
}

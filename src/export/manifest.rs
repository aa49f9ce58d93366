//! The manifest: what was sent, as its sender wrote it down, one JSON line per car, device, boot, channel
//! and second of device time.
//!
//! Bounded: 64 bytes for each slot, and no line longer than [`MANIFEST_LINE_BYTES_MAX`].

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read};

use serde::Deserialize;

use crate::limits::MANIFEST_LINE_BYTES_MAX;

/// µs of device time in one slot.
pub(super) const SLOT_US: i64 = 1_000_000;

/// The slot of a device time.
pub(super) const fn slot_of(d_us: i64) -> i64 {
    d_us.div_euclid(SLOT_US)
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("read the manifest: {0}")]
    Read(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line} of the manifest: {reason}; it is written by the simulator and not to be edited")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct SlotLine {
    car: String,
    device: String,
    boot: i64,
    channel: String,
    slot: i64,
    samples: u64,
    t_first_us: i64,
    t_last_us: i64,
    digest: u64,
}

/// A line about an injected fault; what else it says is for people.
#[derive(Deserialize)]
struct FaultLine {
    #[serde(rename = "fault")]
    _fault: serde_json::Value,
}

/// What was sent in a second, and what was found of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slot {
    /// As the manifest numbers it.
    pub(super) slot: i64,
    pub(super) sent: u64,
    pub(super) sent_digest: u64,
    pub(super) found: u64,
    pub(super) found_digest: u64,
}

/// (device, boot, channel)
pub(super) type SeriesKey = (String, i64, String);

/// What was sent of one car.
#[derive(Debug, Default)]
pub(super) struct SentCar {
    pub(super) series: BTreeMap<SeriesKey, BTreeMap<i64, Slot>>,
    /// First and last device time of each (device, boot).
    pub(super) spans: HashMap<(String, i64), (i64, i64)>,
}

/// A manifest as it was read.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) cars: BTreeMap<String, SentCar>,
    pub(super) sent: u64,
    pub(super) faults: u64,
}

impl Manifest {
    pub(super) fn read(mut from: impl BufRead) -> Result<Self, ManifestError> {
        let mut manifest = Self::default();
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let read = from.by_ref().take(MANIFEST_LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut text)?;
            if read == 0 {
                break;
            }
            let wrong = |reason: String| ManifestError::Line { line, reason };
            if read > MANIFEST_LINE_BYTES_MAX {
                return Err(wrong(format!("longer than {MANIFEST_LINE_BYTES_MAX} bytes")));
            }
            if !text.trim_ascii().is_empty() {
                manifest.add(&text).map_err(wrong)?;
            }
        }
        Ok(manifest)
    }

    fn add(&mut self, text: &[u8]) -> Result<(), String> {
        let line: SlotLine = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(_) if serde_json::from_slice::<FaultLine>(text).is_ok() => {
                self.faults += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("neither a slot nor a fault: {error}")),
        };
        if line.samples == 0 {
            return Ok(());
        }
        let second = slot_of(line.t_first_us);
        if line.t_first_us > line.t_last_us || slot_of(line.t_last_us) != second {
            return Err(format!(
                "t_first_us {} and t_last_us {} are not within one second",
                line.t_first_us, line.t_last_us
            ));
        }
        let car = self.cars.entry(line.car).or_default();
        let span = (line.t_first_us, line.t_last_us);
        let whole = car.spans.entry((line.device.clone(), line.boot)).or_insert(span);
        *whole = (whole.0.min(span.0), whole.1.max(span.1));
        let slots = car.series.entry((line.device, line.boot, line.channel)).or_default();
        // A second that was written in two lines is their sum.
        let slot = slots.entry(second).or_insert(Slot { slot: line.slot, ..Slot::default() });
        slot.sent += line.samples;
        slot.sent_digest = slot.sent_digest.wrapping_add(line.digest);
        self.sent += line.samples;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"car":"44","device":"ecu","boot":1,"channel":"rpm","slot":7,"samples":2,"t_first_us":7000001,"t_last_us":7999999,"digest":18446744073709551615}"#;

    #[test]
    fn slots_are_kept_and_faults_counted() {
        let text = format!("{LINE}\n\n{{\"fault\":\"flip\",\"device\":\"ecu\",\"samples\":9}}\n{LINE}");
        let manifest = Manifest::read(text.as_bytes()).unwrap();
        assert_eq!((manifest.sent, manifest.faults), (4, 1));
        let car = &manifest.cars["44"];
        assert_eq!(car.spans[&("ecu".to_owned(), 1)], (7_000_001, 7_999_999));
        let slot = car.series[&("ecu".to_owned(), 1, "rpm".to_owned())][&7];
        assert_eq!(slot, Slot { slot: 7, sent: 4, sent_digest: u64::MAX - 1, ..Slot::default() });
    }

    #[test]
    fn a_line_that_is_wrong_is_named_by_its_number() {
        for (wrong, why) in [
            ("{\"car\":\"44\"", "neither a slot nor a fault"),
            ("{\"car\":\"44\"}", "missing field `device`"),
            (&LINE.replace("7999999", "8000000"), "not within one second"),
            (&LINE.replace("7999999", "7000000"), "not within one second"),
            (&" ".repeat(MANIFEST_LINE_BYTES_MAX + 1), "longer than"),
            ("\u{fffd}", "neither"),
        ] {
            let error = Manifest::read(format!("{LINE}\n{wrong}\n").as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 2 of the manifest") && error.contains(why), "{error}");
        }
    }
}

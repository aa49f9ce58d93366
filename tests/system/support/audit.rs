//! What was sent, and what arrived.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::pitwire;

/// What `pitwire audit --json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Audit {
    pub(crate) sent: u64,
    pub(crate) found: u64,
    pub(crate) missing: u64,
    pub(crate) extra: u64,
    pub(crate) altered: u64,
    pub(crate) unlisted: u64,
    pub(crate) rows: u64,
    pub(crate) declared: u64,
}

impl Audit {
    /// Nothing is missing, doubled or altered, and there was something to compare.
    #[track_caller]
    pub(crate) fn assert_exact(&self) {
        assert!(self.sent > 0 && self.rows > 0, "{self:?}");
        assert_eq!((self.missing, self.extra, self.altered, self.found), (0, 0, 0, self.sent), "{self:?}");
    }

    /// Nothing but `missing` samples are missing.
    #[track_caller]
    pub(crate) fn assert_missing(&self, missing: u64) {
        assert!(self.sent > 0 && self.rows > 0, "{self:?}");
        assert_eq!((self.missing, self.extra, self.altered), (missing, 0, 0), "{self:?}");
        assert_eq!(self.found, self.sent - missing, "{self:?}");
    }
}

/// Runs `pitwire audit`, whose exit code has to say the same as its counts.
#[track_caller]
pub(crate) fn audit(manifest: &Path, store: &str) -> Audit {
    let manifest = manifest.to_str().unwrap();
    let output = pitwire(&["audit", "--manifest", manifest, "--store", store, "--json"]);
    let words = String::from_utf8_lossy(&output.stderr);
    let line = String::from_utf8(output.stdout).unwrap();
    let audit: Audit = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?} {words}"));
    let exact = (audit.missing, audit.extra, audit.altered) == (0, 0, 0);
    assert_eq!(output.status.code(), Some(i32::from(!exact)), "{audit:?} {words}");
    audit
}

/// A fault that the simulator injected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct FaultLine {
    pub(crate) fault: String,
    pub(crate) car: String,
    pub(crate) device: String,
    pub(crate) seq_from: u64,
    pub(crate) seq_to: u64,
    pub(crate) samples: u64,
}

/// A second of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SlotLine {
    pub(crate) car: String,
    pub(crate) device: String,
    pub(crate) channel: String,
    /// The second of device time.
    pub(crate) slot: i64,
    pub(crate) samples: u64,
    #[serde(skip)]
    line: String,
}

/// A simulator's manifest, complete.
pub(crate) struct Manifest {
    path: PathBuf,
    pub(crate) slots: Vec<SlotLine>,
    pub(crate) faults: Vec<FaultLine>,
}

impl Manifest {
    pub(crate) fn read(path: &Path) -> Self {
        let (mut slots, mut faults) = (Vec::new(), Vec::new());
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if value.get("fault").is_some() {
                faults.push(serde_json::from_value(value).unwrap());
            } else {
                slots.push(SlotLine { line: line.to_owned(), ..serde_json::from_value(value).unwrap() });
            }
        }
        Self { path: path.to_owned(), slots, faults }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sent(&self) -> u64 {
        self.slots.iter().map(|slot| slot.samples).sum()
    }

    /// The lines of one kind of fault.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&FaultLine> {
        self.faults.iter().filter(|fault| fault.fault == kind).collect()
    }

    /// Samples in the frames that one kind of fault touched.
    pub(crate) fn touched_by(&self, kind: &str) -> u64 {
        self.of_kind(kind).iter().map(|fault| fault.samples).sum()
    }

    /// A manifest of some of the seconds, for an audit of these alone: whole seconds of a device, since all
    /// its channels between the first and the last are compared.
    pub(crate) fn part(&self, name: &str, keep: impl Fn(&SlotLine) -> bool) -> Self {
        let path = self.path.with_file_name(name);
        let slots: Vec<SlotLine> = self.slots.iter().filter(|slot| keep(slot)).cloned().collect();
        let mut file = std::fs::File::create(&path).unwrap();
        for slot in &slots {
            writeln!(file, "{}", slot.line).unwrap();
        }
        Self { path, slots, faults: Vec::new() }
    }
}

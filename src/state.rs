//! What the agent remembers between runs: its id, the devices' catalogues, clock mappings.
//!
//! A cache for a quicker and steadier start, written on change only, each file whole: written beside,
//! synced, renamed. A directory that cannot be written costs the memory, never the agent.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chunk::KnownClock;
use crate::decode::CatalogueRecord;

/// Catalogues kept: 256 devices × 2 revisions.
const CATALOGUES_MAX: usize = 512;
/// Clock mappings kept: 256 devices × 4 boots.
const CLOCKS_MAX: usize = 1_024;

/// The state directory.
pub struct StateDir {
    dir: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    catalogues: Vec<CatalogueRecord>,
    clocks: Vec<KnownClock>,
}

impl StateDir {
    /// Opens the directory, making it if it is absent, and reads what is there. What cannot be read is
    /// passed over with a warning.
    #[must_use]
    pub fn open(dir: &Path) -> Arc<Self> {
        if let Err(error) = std::fs::create_dir_all(dir) {
            tracing::warn!(dir = %dir.display(), %error, "state directory cannot be made; nothing will be remembered");
        }
        let known = Known { catalogues: read(&dir.join("catalogues.json")), clocks: read(&dir.join("clocks.json")) };
        Arc::new(Self { dir: dir.into(), known: Mutex::new(known) })
    }

    /// The agent's id: the one kept, or a new random one.
    #[must_use]
    pub fn agent(&self) -> String {
        let path = self.dir.join("agent");
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let kept = kept.trim();
        if kept.len() == 16 && kept.bytes().all(|b| b.is_ascii_hexdigit()) {
            return kept.to_owned();
        }
        let mut random = [0; 8];
        fill_random(&mut random);
        let agent: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write("agent", agent.as_bytes());
        agent
    }

    /// The catalogues known so far.
    #[must_use]
    pub fn catalogues(&self) -> Vec<CatalogueRecord> {
        self.lock().catalogues.clone()
    }

    /// The clock mappings known so far.
    #[must_use]
    pub fn clocks(&self) -> Vec<KnownClock> {
        self.lock().clocks.clone()
    }

    /// Keeps a catalogue. Blocks for a write to disk: called when a device's channels change.
    pub fn remember_catalogue(&self, record: &CatalogueRecord) {
        let mut known = self.lock();
        let same = |other: &CatalogueRecord| {
            (&other.car, &other.device, other.revision) == (&record.car, &record.device, record.revision)
        };
        known.catalogues.retain(|other| !same(other));
        known.catalogues.push(record.clone());
        let surplus = known.catalogues.len().saturating_sub(CATALOGUES_MAX);
        known.catalogues.drain(..surplus);
        self.write_json("catalogues.json", &known.catalogues);
    }

    /// Keeps a clock mapping, in the place of the one before. Blocks for a write to disk: called a few times for
    /// each boot of a device.
    pub fn remember_clock(&self, clock: &KnownClock) {
        let mut known = self.lock();
        let same =
            |other: &KnownClock| (&other.car, &other.device, other.boot) == (&clock.car, &clock.device, clock.boot);
        known.clocks.retain(|other| !same(other));
        known.clocks.push(clock.clone());
        let surplus = known.clocks.len().saturating_sub(CLOCKS_MAX);
        known.clocks.drain(..surplus);
        self.write_json("clocks.json", &known.clocks);
    }

    fn write_json(&self, file: &str, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.write(file, &bytes),
            Err(error) => tracing::warn!(file, %error, "cannot be remembered"),
        }
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        if let Err(error) = replace(&self.dir, file, bytes) {
            tracing::warn!(dir = %self.dir.display(), file, %error, "state cannot be written; it will be forgotten");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills `bytes` with random bits of the system.
///
/// # Panics
/// If the system has none to give, which Linux does not do after its start.
pub fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gives random bits");
}

fn read<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "state cannot be read");
            return Vec::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "state is damaged and passed over");
        Vec::new()
    })
}

fn replace(dir: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!("{file}.new"));
    let mut new = std::fs::File::create(&beside)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    std::fs::rename(&beside, dir.join(file))?;
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Pairing;
    use crate::clock::{Certainty, Mapping};

    #[test]
    fn what_is_remembered_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path());
        let agent = state.agent();
        let mapping = Mapping { offset_us: 5, provisional: false };
        let clock = KnownClock {
            car: "44".into(),
            device: "ecu".into(),
            boot: 3,
            mapping,
            certainty: Certainty::Plausible,
            from_us: -7,
            replaced: vec![(-8, Mapping { offset_us: 1, provisional: true })],
            pairing: Some(Pairing { gateway_boot: 5, ahead_us: 6 }),
            unwritten: true,
        };
        state.remember_clock(&KnownClock { replaced: Vec::new(), ..clock.clone() });
        state.remember_clock(&clock);
        let later = StateDir::open(dir.path());
        assert_eq!(later.agent(), agent);
        assert_eq!(later.clocks(), [clock], "the last word on a device and boot");
    }

    #[test]
    fn a_damaged_or_unwritable_state_costs_the_memory_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("clocks.json"), "{").unwrap();
        assert!(StateDir::open(dir.path()).clocks().is_empty());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(StateDir::open(&file.join("below")).agent().len(), 16);
    }
}

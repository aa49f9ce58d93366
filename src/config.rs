//! The configuration: one TOML file that gathers each module's own section.
//!
//! Everything is checked before anything is used; each fault is named with its line, what is wrong and
//! what would be right. `docs/configuration.md` describes every key, held to this by a test.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::item::FormatName;
use crate::limits::{DISK_BYTES_MIN, SOURCES_MAX};
use crate::priority::Priority;
use crate::source::{MqttConfig, SerialConfig};
use crate::spill::config::SURE_SEGMENTS;
use crate::spill::queues::dir_of;
use crate::{clock, deliver, layout, monitor, preprocess, priority, spill, store};
use read::Reading;

mod read;

/// Where `pitwire run` looks unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/pitwire/pitwire.toml";
/// Longest name of a car, an agent, a source.
const NAME_BYTES_MAX: usize = 64;
/// Faults named at once; more would not help anybody.
const FAULTS_MAX: usize = 50;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The car whose data this is, unless a source says otherwise.
    pub car: String,
    /// The agent's id; a random one is made and kept if absent.
    #[serde(default)]
    pub agent: Option<String>,
    /// Where the agent keeps its id, catalogues and clock mappings.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where the agent keeps what is settled, for the gap that a crash leaves: a directory in RAM.
    #[serde(default = "default_runtime_dir")]
    pub runtime_dir: PathBuf,
    /// `[store]`
    #[serde(default)]
    pub store: store::Config,
    /// `[spill]`
    #[serde(default)]
    pub spill: spill::Config,
    /// `[priority]`
    #[serde(default)]
    pub priority: priority::Config,
    /// `[layout]`
    #[serde(default)]
    pub layout: layout::Config,
    /// `[quarantine]`
    #[serde(default)]
    pub quarantine: Quarantine,
    /// `[deliver]`
    #[serde(default)]
    pub deliver: deliver::Config,
    /// `[preprocess]`
    #[serde(default)]
    pub preprocess: preprocess::Config,
    /// `[monitor]`
    #[serde(default)]
    pub monitor: monitor::Config,
    /// `[clock]`
    #[serde(default)]
    pub clock: clock::Config,
    /// `[[source.…]]`
    #[serde(default)]
    pub source: Sources,
}

/// `[quarantine]`: what can be neither decoded nor stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quarantine {
    /// Its directory; `quarantine` beside the spill's if absent.
    pub dir: Option<PathBuf>,
    /// Hard cap on its bytes on disk; the oldest goes first.
    pub disk_max: bytesize::ByteSize,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { dir: None, disk_max: bytesize::ByteSize::mib(64) }
    }
}

/// The sources, by transport.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    /// `[[source.serial]]`
    pub serial: Vec<SerialConfig>,
    /// `[[source.mqtt]]`
    pub mqtt: Vec<MqttConfig>,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/pitwire".into()
}

fn default_runtime_dir() -> PathBuf {
    "/run/pitwire".into()
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1; `None` if it is about what is absent.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// In the order of the file.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            match fault.line {
                Some(line) => write!(f, "{separator}{}:{line}: {}", self.path.display(), fault.what)?,
                None => write!(f, "{separator}{}: {}", self.path.display(), fault.what)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks a file, and the key that it names.
    ///
    /// # Errors
    /// Every fault that could be found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let error = |what: String| ConfigError { path: path.into(), faults: vec![Fault { line: None, what }] };
        let text = std::fs::read_to_string(path).map_err(|cause| {
            error(format!("cannot be read: {cause}; name another with --config, docs/configuration.md has an example"))
        })?;
        let parsed = Self::parse(&text).and_then(|config| match config.key_fault(&text) {
            Some(fault) => Err(vec![fault]),
            None => Ok(config),
        });
        parsed.map_err(|faults| ConfigError { path: path.into(), faults })
    }

    /// What is wrong with the spill's key, as far as this process can see it.
    fn key_fault(&self, text: &str) -> Option<Fault> {
        let error = if self.spill.key_is_with_systemd() { None } else { self.spill.key().err() }?;
        let key = format!("spill.{}", error.key);
        let line = read::line_of(text, read::read(text).root.get_ref(), &key);
        Some(Fault { line, what: format!("{key}: {}", error.expected) })
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Every fault that could be found.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let Reading { config, root, mut faults, passed_over } = read::read(text);
        if let Some(config) = &config {
            let whole = faults.is_empty();
            // What was taken out is not missing.
            for (key, what) in config.faults(&passed_over).into_iter().filter(|(key, _)| whole || key != "source") {
                let line = read::line_of(text, root.get_ref(), &key);
                faults.push(Fault { line, what: format!("{key}: {what}") });
            }
        }
        faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// The directory of the quarantine.
    #[must_use]
    pub fn quarantine_dir(&self) -> PathBuf {
        let beside = || self.spill.dir.parent().unwrap_or(Path::new(".")).join("quarantine");
        self.quarantine.dir.clone().unwrap_or_else(beside)
    }

    /// What is wrong though it could be read, as (key, what). Nothing is compared with a key that was passed
    /// over: its default is not what the user meant.
    fn faults(&self, passed_over: &[String]) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: String, what: String| faults.push((key, what));
        if let Err(what) = name(&self.car) {
            fault("car".into(), what);
        }
        if let Some(Err(what)) = self.agent.as_deref().map(name) {
            fault("agent".into(), what);
        }
        if let Err(what) = self.store.validate() {
            fault("store".into(), what);
        }
        faults.extend(self.disk_faults(passed_over));
        faults.extend(self.priority.faults());
        faults.extend(self.layout.faults());
        let mut fault = |key: String, what: String| faults.push((key, what));
        for (index, source) in self.source.serial.iter().enumerate() {
            let key = |key: &str| format!("source.serial[{index}].{key}");
            if source.format == FormatName::Json {
                fault(key("format"), r#"json has no frames on a serial port; use "wire""#.into());
            }
            if source.baud == 0 {
                fault(key("baud"), "must be above 0, e.g. 921600".into());
            }
            if source.path.as_os_str().is_empty() {
                fault(key("path"), "must name a port, e.g. /dev/serial/by-id/usb-ecu".into());
            }
        }
        for (index, source) in self.source.mqtt.iter().enumerate() {
            for (key, what) in source.faults() {
                fault(format!("source.mqtt[{index}].{key}"), what);
            }
        }
        self.name_faults(&mut faults);
        self.taken_twice(&mut faults);
        faults.extend(self.deliver.faults(passed_over));
        faults.extend(self.preprocess.faults());
        faults
    }

    /// Directories, and what they may hold.
    fn disk_faults(&self, passed_over: &[String]) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: String, what: String| faults.push((key, what));
        let read = |key: &str| !passed_over.iter().any(|passed| passed == key);
        // The budget is judged below, in one place.
        let spill = self.spill.validate().err().filter(|error| error.key != "disk_max");
        if let Some(error) = &spill {
            fault(format!("spill.{}", error.key), format!("{} {}", error.value, error.expected));
        }
        let segment_known = read("spill.segment_bytes") && spill.is_none_or(|error| error.key != "segment_bytes");
        let queues = if read("priority.high") && read("priority.low") { self.priority.given().len() } else { 1 };
        let least = SURE_SEGMENTS * queues as u64;
        let segments = if segment_known { self.spill.segment_bytes.as_u64().saturating_mul(least) } else { 0 };
        let budgets = [
            ("spill", self.spill.disk_max, segments.max(DISK_BYTES_MIN)),
            ("quarantine", self.quarantine.disk_max, DISK_BYTES_MIN),
        ];
        for (key, disk_max, least) in budgets {
            if disk_max.as_u64() < least {
                let why = match queues {
                    _ if least <= DISK_BYTES_MIN || key != "spill" => String::new(),
                    1 => ", two segments".into(),
                    _ => format!(", two segments for each of {queues} priorities"),
                };
                let least = bytesize::ByteSize::b(least);
                fault(format!("{key}.disk_max"), format!("{disk_max} must be at least {least}{why}"));
            }
        }
        let dirs = [
            ("state_dir", Some(&self.state_dir), "/var/lib/pitwire"),
            ("runtime_dir", Some(&self.runtime_dir), "/run/pitwire"),
            ("spill.dir", Some(&self.spill.dir).filter(|dir| !dir.as_os_str().is_empty()), "/var/lib/pitwire/spill"),
            ("quarantine.dir", self.quarantine.dir.as_ref(), "/var/lib/pitwire/quarantine"),
        ];
        for (key, dir, example) in dirs {
            if let Some(dir) = dir.filter(|dir| !dir.is_absolute()) {
                let what =
                    format!("{dir:?} would depend on the working directory: use an absolute path, e.g. {example:?}");
                fault(key.into(), what);
            }
        }
        let taken = Priority::ALL.map(|priority| dir_of(&self.spill.dir, priority));
        if taken.contains(&self.quarantine_dir()) && read("spill.dir") && read("quarantine.dir") {
            fault(
                "quarantine.dir".into(),
                "must be another directory than spill.dir, and than high and low in it".into(),
            );
        }
        faults
    }

    /// A port has one reader, and a broker's session one client.
    fn taken_twice(&self, faults: &mut Vec<(String, String)>) {
        let serial = &self.source.serial;
        for (index, source) in serial.iter().enumerate() {
            if let Some(other) = serial[..index].iter().find(|other| other.path == source.path) {
                let what =
                    format!("{:?} is read by the source {:?} already: name another port", source.path, other.name);
                faults.push((format!("source.serial[{index}].path"), what));
            }
        }
        let mqtt = &self.source.mqtt;
        let session = |source: &MqttConfig| Some((source.address().ok()?, source.client_id.clone()?));
        for (index, source) in mqtt.iter().enumerate() {
            let Some(own) = session(source) else { continue };
            if let Some(other) = mqtt[..index].iter().find(|other| session(other).as_ref() == Some(&own)) {
                let what = format!(
                    "{:?} is taken at this broker by the source {:?}, and they would throw each other out: use another, \
                     or leave the key out",
                    own.1, other.name
                );
                faults.push((format!("source.mqtt[{index}].client_id"), what));
            }
        }
    }

    fn name_faults(&self, faults: &mut Vec<(String, String)>) {
        let serial = self.source.serial.iter().enumerate();
        let serial = serial.map(|(i, s)| (format!("source.serial[{i}]"), &s.name, &s.car, &s.device_prefix));
        let mqtt = self.source.mqtt.iter().enumerate();
        let mqtt = mqtt.map(|(i, s)| (format!("source.mqtt[{i}]"), &s.name, &s.car, &s.device_prefix));
        let all: Vec<_> = serial.chain(mqtt).collect();
        if all.is_empty() {
            faults.push(("source".into(), "no source: add a [[source.serial]] or a [[source.mqtt]]".into()));
        }
        if all.len() > SOURCES_MAX {
            faults.push(("source".into(), format!("{} sources, at most {SOURCES_MAX} are possible", all.len())));
        }
        for (index, (key, source, car, prefix)) in all.iter().enumerate() {
            if let Err(what) = name(source) {
                faults.push((format!("{key}.name"), what));
            } else if all[..index].iter().any(|(_, other, _, _)| other == source) {
                faults.push((format!("{key}.name"), format!("{source:?} is taken by another source")));
            }
            if let Some(Err(what)) = car.as_deref().map(name) {
                faults.push((format!("{key}.car"), what));
            }
            if !prefix.is_empty()
                && let Err(what) = name(prefix)
            {
                faults.push((format!("{key}.device_prefix"), what));
            }
        }
    }
}

/// Names end up in keys, topics and paths of the API.
fn name(name: &str) -> Result<(), String> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    let plain = !name.chars().any(|c| c.is_control() || c.is_whitespace() || "/#+,*?".contains(c));
    if fits && plain {
        Ok(())
    } else {
        Err(format!("{name:?} must have 1 to {NAME_BYTES_MAX} bytes, no spaces and none of / # + , * ?"))
    }
}

#[cfg(test)]
mod tests;

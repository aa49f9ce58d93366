//! The configuration: one TOML file that gathers each module's own section.
//!
//! Everything is checked before anything is used; each fault is named with its line, what is wrong and
//! what would be right. `docs/configuration.md` describes every key, held to this by a test.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::item::FormatName;
use crate::limits::{DISK_BYTES_MIN, SOURCES_MAX};
use crate::source::{MqttConfig, SerialConfig};
use crate::{clock, deliver, monitor, preprocess, spill, store};

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
    /// `[store]`
    #[serde(default)]
    pub store: store::Config,
    /// `[spill]`
    #[serde(default)]
    pub spill: spill::Config,
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
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every fault that could be found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let error = |what: String| ConfigError { path: path.into(), faults: vec![Fault { line: None, what }] };
        let text = std::fs::read_to_string(path).map_err(|cause| {
            error(format!("cannot be read: {cause}; name another with --config, docs/configuration.md has an example"))
        })?;
        Self::parse(&text).map_err(|faults| ConfigError { path: path.into(), faults })
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Every fault that could be found.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let (config, root, mut faults) = deserialize(text);
        if let Some(config) = &config {
            let whole = faults.is_empty();
            // What was taken out is not missing.
            for (key, what) in config.faults().into_iter().filter(|(key, _)| whole || key != "source") {
                let line = line_of(text, root.get_ref(), &key);
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

    /// What is wrong though it could be read, as (key, what).
    fn faults(&self) -> Vec<(String, String)> {
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
        if let Err(error) = self.spill.validate() {
            fault(format!("spill.{}", error.key), format!("{} {}", error.value, error.expected));
        }
        for (key, disk_max) in [("spill", self.spill.disk_max), ("quarantine", self.quarantine.disk_max)] {
            if disk_max.as_u64() < DISK_BYTES_MIN {
                let least = bytesize::ByteSize::b(DISK_BYTES_MIN);
                fault(format!("{key}.disk_max"), format!("{disk_max} must be at least {least}"));
            }
        }
        if self.quarantine_dir() == self.spill.dir {
            fault("quarantine.dir".into(), "must be another directory than spill.dir".into());
        }
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
        faults.extend(self.deliver.faults());
        faults.extend(self.preprocess.faults());
        faults
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

/// Reads as much as can be read: what cannot is noted, taken out and passed over, so that all faults are
/// named at once. Gives the configuration if one is left, what was read, and the faults.
fn deserialize(text: &str) -> (Option<Config>, Spanned<DeTable<'_>>, Vec<Fault>) {
    let line = |span: &Range<usize>| Some(text[..span.start.min(text.len())].matches('\n').count() + 1);
    let fault = |error: &toml::de::Error| Fault {
        line: error.span().as_ref().and_then(line),
        what: error.message().replace('\n', " "),
    };
    let (mut root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the rest means is anybody's guess.
        return (None, root, errors.iter().take(FAULTS_MAX).map(fault).collect());
    }
    let mut faults = Vec::new();
    let mut taken: Vec<String> = Vec::new();
    // Each turn takes something out, and a file is finite; the bound is for the reader.
    while faults.len() < FAULTS_MAX {
        let error = match Config::deserialize(toml::Deserializer::from(root.clone())) {
            Ok(config) => return (Some(config), root, faults),
            Err(error) => error,
        };
        // A key that was taken out is not missing.
        let missed = taken.iter().any(|key| error.message().starts_with(&format!("missing field `{key}`")));
        if !missed {
            faults.push(fault(&error));
        }
        match error.span().and_then(|span| take_out(root.get_mut(), &span)) {
            Some(key) => taken.push(key),
            None if !missed && error.message().starts_with("missing field `car`") => {
                root.get_mut().insert(spanned("car".into()), spanned(DeValue::String("car".into())));
                faults.last_mut().into_iter().for_each(|fault| fault.line = None);
            }
            None if missed && !root.get_ref().iter().any(|(key, _)| key.get_ref() == "car") => {
                root.get_mut().insert(spanned("car".into()), spanned(DeValue::String("car".into())));
            }
            None => break,
        }
    }
    (None, root, faults)
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Takes out the entry whose key or value is at `span`; gives its key.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let here = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
    if let Some(key) = here.map(|(key, _)| key.clone()) {
        table.remove(&key);
        return Some(key.get_ref().to_string());
    }
    table.iter_mut().find_map(|(key, value)| match value.get_mut() {
        DeValue::Table(inner) => take_out(inner, span),
        DeValue::Array(entries) => {
            if entries.iter().any(|entry| entry.span() == *span) {
                *entries = entries.iter().filter(|entry| entry.span() != *span).cloned().collect();
                return Some(key.get_ref().to_string());
            }
            entries.iter_mut().find_map(|entry| match entry.get_mut() {
                DeValue::Table(inner) => take_out(inner, span),
                _ => None,
            })
        }
        _ => None,
    })
}

/// The line of a key such as `source.mqtt[0].url`, or of the nearest section that exists.
fn line_of(text: &str, table: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut table = table;
    let mut found = None;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let (spanned_key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        found = Some(spanned_key.span().start);
        let value = match (value.get_ref(), index) {
            (DeValue::Array(array), Some(index)) => {
                let entry = array.get(index)?;
                found = Some(entry.span().start);
                entry.get_ref()
            }
            (value, _) => value,
        };
        match value {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
        let next = key.split('.').skip_while(|p| *p != part).nth(1);
        let exists = next.is_some_and(|next| {
            let name = next.split('[').next().unwrap_or(next);
            table.iter().any(|(key, _)| key.get_ref() == name)
        });
        if !exists {
            break;
        }
    }
    found.map(|at| text[..at].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests;

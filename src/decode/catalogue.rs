//! Catalogues: what devices say of their channels, gathered from the parts of Describe.

use std::collections::HashMap;
use std::sync::Arc;

use pitwire_wire as wire;
use serde::{Deserialize, Serialize};

use crate::limits::CHANNELS_PER_DEVICE_MAX;
use crate::sample::{ChannelMeta, ClockBase, Scaling, ValueKind};

/// A catalogue as the state directory keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogueRecord {
    /// The car.
    pub car: String,
    /// The device, with the source's prefix.
    pub device: String,
    /// The revision that frames name.
    pub revision: u32,
    /// Whether its times are UTC.
    pub utc: bool,
    /// The gateway's UTC when it was complete, µs.
    pub since_us: i64,
    /// Its channels.
    pub channels: Vec<ChannelRecord>,
}

/// One channel in a [`CatalogueRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelRecord {
    id: u16,
    group: u8,
    name: String,
    unit: String,
    kind: String,
    scale: f64,
    offset: f64,
    rate_mhz: u32,
}

/// One channel as its device numbers it.
#[derive(Clone)]
struct Entry {
    id: u16,
    group: u8,
    meta: Arc<ChannelMeta>,
}

/// A complete catalogue, ready for decoding.
#[derive(Clone)]
pub(super) struct Catalogue {
    pub(super) base: ClockBase,
    pub(super) since_us: i64,
    /// By id, ascending.
    channels: Vec<Entry>,
    by_id: HashMap<u16, usize>,
    groups: HashMap<u8, Vec<usize>>,
}

impl Catalogue {
    pub(super) fn channel(&self, id: u16) -> Option<&Arc<ChannelMeta>> {
        self.by_id.get(&id).map(|&index| &self.channels[index].meta)
    }

    /// The channels of a group in the order of a Scan's columns.
    pub(super) fn group(&self, group: u8) -> Option<impl Iterator<Item = &Arc<ChannelMeta>>> {
        Some(self.groups.get(&group)?.iter().map(|&index| &self.channels[index].meta))
    }

    pub(super) fn metas(&self) -> Vec<Arc<ChannelMeta>> {
        self.channels.iter().map(|entry| entry.meta.clone()).collect()
    }

    fn new(base: ClockBase, since_us: i64, mut channels: Vec<Entry>) -> Self {
        channels.sort_by_key(|entry| entry.id);
        let by_id = channels.iter().enumerate().map(|(index, entry)| (entry.id, index)).collect();
        let mut groups: HashMap<u8, Vec<usize>> = HashMap::new();
        for (index, entry) in channels.iter().enumerate() {
            groups.entry(entry.group).or_default().push(index);
        }
        groups.remove(&0);
        Self { base, since_us, channels, by_id, groups }
    }

    /// The same channels of a device whose time has another base: the revision does not tell.
    pub(super) fn with_base(&self, base: ClockBase) -> Self {
        Self { base, ..self.clone() }
    }

    /// The form for the state directory.
    pub(super) fn record(&self, car: &str, device: &str, revision: u32) -> CatalogueRecord {
        let channels = self.channels.iter().map(|Entry { id, group, meta }| ChannelRecord {
            id: *id,
            group: *group,
            name: meta.name.to_string(),
            unit: meta.unit.to_string(),
            kind: meta.kind.as_str().into(),
            scale: meta.scaling.scale,
            offset: meta.scaling.offset,
            rate_mhz: meta.rate_mhz,
        });
        CatalogueRecord {
            car: car.into(),
            device: device.into(),
            revision,
            utc: self.base == ClockBase::Utc,
            since_us: self.since_us,
            channels: channels.collect(),
        }
    }

    /// A catalogue from the state directory; `None` if a channel's kind is unknown to this version.
    pub(super) fn from_record(record: &CatalogueRecord) -> Option<Self> {
        let channel = |c: &ChannelRecord| {
            let kind = [ValueKind::I16, ValueKind::I32, ValueKind::F32].into_iter().find(|k| k.as_str() == c.kind)?;
            let meta = meta(&c.name, &c.unit, kind, c.scale, c.offset, c.rate_mhz);
            Some(Entry { id: c.id, group: c.group, meta })
        };
        let channels = record.channels.iter().map(channel).collect::<Option<Vec<_>>>()?;
        let base = if record.utc { ClockBase::Utc } else { ClockBase::Boot };
        Some(Self::new(base, record.since_us, channels))
    }
}

fn meta(name: &str, unit: &str, kind: ValueKind, scale: f64, offset: f64, rate_mhz: u32) -> Arc<ChannelMeta> {
    Arc::new(ChannelMeta {
        name: name.into(),
        unit: unit.into(),
        kind,
        scaling: Scaling { scale, offset },
        rate_mhz,
        derived: false,
    })
}

/// The parts of one revision, as they come.
pub(super) struct Parts {
    parts: Vec<Option<Vec<Entry>>>,
}

impl Parts {
    pub(super) fn new(describe: &wire::Describe<'_>) -> Self {
        Self { parts: (0..describe.parts).map(|_| None).collect() }
    }

    /// Takes a part in; returns the catalogue once it is complete.
    ///
    /// # Errors
    /// If the part does not fit the ones before: the text says how.
    pub(super) fn add(&mut self, describe: &wire::Describe<'_>, since_us: i64) -> Result<Option<Catalogue>, String> {
        if usize::from(describe.parts) != self.parts.len() {
            return Err(format!("describe of {} parts after one of {}", describe.parts, self.parts.len()));
        }
        let part = describe.channels().map(|c| {
            let kind = value_kind(c.kind);
            Entry { id: c.id, group: c.group, meta: meta(c.name, c.unit, kind, c.scale, c.offset, c.rate_mhz) }
        });
        let part: Vec<_> = part.collect();
        let slot = self.parts.get_mut(usize::from(describe.part));
        *slot.ok_or_else(|| format!("describe part {} of {}", describe.part, describe.parts))? = Some(part);
        if self.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let channels: Vec<_> = self.parts.iter().flatten().flatten().cloned().collect();
        if channels.len() != usize::from(describe.total_channels) || channels.len() > CHANNELS_PER_DEVICE_MAX {
            return Err(format!("describe lists {} channels and names {}", channels.len(), describe.total_channels));
        }
        let mut ids: Vec<u16> = channels.iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("describe numbers two channels {}", twice[0]));
        }
        let mut names: Vec<&str> = channels.iter().map(|entry| &*entry.meta.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("describe names channel {} twice", twice[0]));
        }
        Ok(Some(Catalogue::new(clock_base(describe), since_us, channels)))
    }
}

/// The clock's base that a Describe states, in the agent's words.
pub(super) const fn clock_base(describe: &wire::Describe<'_>) -> ClockBase {
    match describe.clock_base {
        wire::ClockBase::Utc => ClockBase::Utc,
        wire::ClockBase::Boot => ClockBase::Boot,
    }
}

/// The wire's kinds in the agent's words.
pub(super) const fn value_kind(kind: wire::ValueKind) -> ValueKind {
    match kind {
        wire::ValueKind::I16 => ValueKind::I16,
        wire::ValueKind::I32 => ValueKind::I32,
        wire::ValueKind::F32 => ValueKind::F32,
    }
}

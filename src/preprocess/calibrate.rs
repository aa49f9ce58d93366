//! Calibrate: a device's value corrected.
//!
//! A linear correction composes with the device's scaling, so raw integers stay as they came.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::Context;
use crate::sample::{ChannelMeta, Column, Scaling};

/// `[[preprocess.calibrate]]`: a linear correction: `corrected = physical × scale + offset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which channels, e.g. `brake.*`.
    pub channel: String,
    /// Factor.
    #[serde(default = "one")]
    pub scale: f64,
    /// Summand, in the corrected unit.
    #[serde(default)]
    pub offset: f64,
    /// The corrected unit; the device's own if absent.
    pub unit: Option<String>,
}

const fn one() -> f64 {
    1.0
}

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        if self.scale.is_finite() && self.offset.is_finite() && self.scale != 0.0 {
            return Vec::new();
        }
        vec![("scale".into(), "scale must be a number other than 0, and offset a number".into())]
    }
}

/// The entries of the list, ready to be matched.
pub(super) struct Rules(Vec<(WildMatch, Config)>);

impl Rules {
    pub(super) fn new(config: &[Config]) -> Self {
        Self(config.iter().map(|step| (WildMatch::new(&step.channel), step.clone())).collect())
    }

    /// What applies to a channel, once and for all of its samples.
    pub(super) fn lane(&self, meta: &Arc<ChannelMeta>) -> Lane {
        let step = self.0.iter().find(|(pattern, _)| pattern.matches(&meta.name));
        let corrected = step.map_or_else(
            || meta.clone(),
            |(_, step)| {
                let Scaling { scale, offset } = meta.scaling;
                let scaling = Scaling { scale: scale * step.scale, offset: offset * step.scale + step.offset };
                let unit = step.unit.as_deref().map_or_else(|| meta.unit.clone(), Into::into);
                Arc::new(ChannelMeta { scaling, unit, ..(**meta).clone() })
            },
        );
        Lane { corrected }
    }
}

/// What applies to one channel.
pub(super) struct Lane {
    /// The channel's description as everything behind this step sees it.
    pub(super) corrected: Arc<ChannelMeta>,
}

impl Lane {
    pub(super) fn apply(&mut self, column: &mut Column, _context: &mut Context<'_>) {
        column.channel = self.corrected.clone();
    }
}

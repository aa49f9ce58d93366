//! Dedup: samples that came before, by identity.
//!
//! Deliberately absent so far: everything; repeated frames are found by `decode`.

use serde::{Deserialize, Serialize};

use super::Context;
use crate::sample::Column;

/// `[preprocess.dedup]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Config {
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// What applies to all channels.
pub(super) struct Rules {}

impl Rules {
    pub(super) fn new(_config: &Config) -> Self {
        Self {}
    }

    pub(super) fn lane(&self) -> Lane {
        Lane {}
    }
}

/// What is remembered of one channel; it outlives a change of the configuration.
pub(super) struct Lane {}

impl Lane {
    pub(super) fn apply(&mut self, _column: &mut Column, _context: &mut Context<'_>) {}
}

//! Derive: new channels computed from others.

use serde::{Deserialize, Serialize};

use super::Context;
use crate::sample::Column;

/// `[[preprocess.derive]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// The entries of the list, ready to be applied.
pub(super) struct Rules {}

impl Rules {
    pub(super) fn new(_config: &[Config]) -> Self {
        Self {}
    }

    pub(super) fn device(&self) -> Device {
        Device {}
    }
}

/// What is held of one device and boot.
pub(super) struct Device {}

impl Device {
    /// Looks at a batch that has been calibrated and validated; what can be computed now goes to
    /// `context.derived`.
    pub(super) fn apply(&mut self, _columns: &[Column], _context: &mut Context<'_>) {}
}

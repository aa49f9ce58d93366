//! Decimate: fewer samples for links that cannot carry all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Context;
use crate::sample::{ChannelMeta, Column};

/// `[[preprocess.decimate]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// The entries of the list, ready to be matched.
pub(super) struct Rules {}

impl Rules {
    pub(super) fn new(_config: &[Config]) -> Self {
        Self {}
    }

    /// What applies to a channel.
    pub(super) fn lane(&self, _meta: &Arc<ChannelMeta>) -> Lane {
        Lane {}
    }
}

/// What is known of one channel.
pub(super) struct Lane {}

impl Lane {
    pub(super) fn apply(&mut self, _column: &mut Column, _context: &mut Context<'_>) {}
}

//! In which form a channel's samples lie in the store: packed as chunks, or each as a row of its own.
//!
//! Pure. Deliberately absent: the rows themselves (`row`), and how long a partition lasts (`chunk`).

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::row::Layout;

/// `[layout]`: which channels have another layout than chunks, by patterns with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Of these channels each sample is a row, for those who read with plain CQL or SQL.
    pub rows: Vec<String>,
}

impl Config {
    /// What is wrong, as (key, what would be right).
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let empty = self.rows.iter().enumerate().filter(|(_, pattern)| pattern.trim().is_empty());
        let fault = |(index, pattern): (usize, &String)| {
            ("layout.rows".into(), format!("pattern {} is {pattern:?}: name channels, e.g. \"lap*\"", index + 1))
        };
        empty.map(fault).collect()
    }
}

/// The patterns, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Layouts {
    rows: Vec<WildMatch>,
}

impl Layouts {
    /// Of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { rows: config.rows.iter().map(|pattern| WildMatch::new(pattern)).collect() }
    }

    /// The layout of a channel.
    #[must_use]
    pub fn of(&self, channel: &str) -> Layout {
        match self.rows.iter().any(|pattern| pattern.matches(channel)) {
            true => Layout::Rows,
            false => Layout::Chunks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_stored_as_rows_if_a_pattern_names_it() {
        let layouts = Layouts::new(&Config { rows: vec!["lap*".into(), "gps.?".into()] });
        let table = [
            ("lap_time", Layout::Rows),
            ("gps.x", Layout::Rows),
            ("gps.lat", Layout::Chunks),
            ("speed", Layout::Chunks),
        ];
        for (channel, layout) in table {
            assert_eq!(layouts.of(channel), layout, "{channel}");
        }
        assert_eq!(Layouts::default().of("lap_time"), Layout::Chunks);
    }

    #[test]
    fn an_empty_pattern_is_a_fault() {
        assert_eq!(Config { rows: vec!["a".into()] }.faults(), []);
        let faults = Config { rows: vec!["a".into(), " ".into()] }.faults();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].1.contains("pattern 2"), "{faults:?}");
    }
}

//! Which channels matter more than others when there is not room for all.
//!
//! Pure. Deliberately absent: what is done by it, which is the affair of `preprocess` (thinning), `chunk` and `deliver`
//! (one way for each) and `spill` (who gives way on a full disk).

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

/// What gives way first when there is not room for all, and comes last when there is again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Gives way first.
    Low,
    /// Gives way then.
    #[default]
    Normal,
    /// Gives way last.
    High,
}

impl Priority {
    /// All, the highest first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// As the configuration and the API say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// `[priority]`: which channels have another priority than `normal`, by patterns with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Of these channels the spill gives up nothing while it holds others. Before `low`, where both match.
    pub high: Vec<String>,
    /// Of these channels the spill gives up all it may before it touches others.
    pub low: Vec<String>,
}

impl Config {
    /// What is wrong, as (key, what would be right).
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (key, patterns) in [("high", &self.high), ("low", &self.low)] {
            for (index, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| pattern.trim().is_empty()) {
                faults.push((
                    format!("priority.{key}"),
                    format!("pattern {} is {pattern:?}: name channels, e.g. \"brake*\"", index + 1),
                ));
            }
        }
        if let Some(both) = self.low.iter().find(|pattern| self.high.contains(pattern)) {
            faults.push((
                "priority.low".into(),
                format!("{both:?} is under priority.high as well: take one of them out"),
            ));
        }
        faults
    }

    /// The priorities that it gives, `normal` always among them.
    #[must_use]
    pub fn given(&self) -> Vec<Priority> {
        let given = |priority: &Priority| match priority {
            Priority::High => !self.high.is_empty(),
            Priority::Normal => true,
            Priority::Low => !self.low.is_empty(),
        };
        Priority::ALL.into_iter().filter(given).collect()
    }
}

/// The patterns, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Priorities {
    high: Vec<WildMatch>,
    low: Vec<WildMatch>,
}

impl Priorities {
    /// Of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let ready = |patterns: &[String]| patterns.iter().map(|pattern| WildMatch::new(pattern)).collect();
        Self { high: ready(&config.high), low: ready(&config.low) }
    }

    /// The priority of a channel.
    #[must_use]
    pub fn of(&self, channel: &str) -> Priority {
        let among = |patterns: &[WildMatch]| patterns.iter().any(|pattern| pattern.matches(channel));
        match () {
            () if among(&self.high) => Priority::High,
            () if among(&self.low) => Priority::Low,
            () => Priority::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(high: &[&str], low: &[&str]) -> Config {
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Config { high: owned(high), low: owned(low) }
    }

    #[test]
    fn a_channel_has_the_priority_of_the_first_list_that_names_it() {
        let priorities = Priorities::new(&config(&["brake*", "gps.?"], &["*"]));
        let table = [
            ("brake_fl", Priority::High),
            ("gps.x", Priority::High),
            ("gps.lat", Priority::Low),
            ("vibration", Priority::Low),
        ];
        for (channel, priority) in table {
            assert_eq!(priorities.of(channel), priority, "{channel}");
        }
        assert_eq!(Priorities::default().of("brake_fl"), Priority::Normal);
    }

    #[test]
    fn they_give_way_in_the_order_of_their_names() {
        assert!(Priority::Low < Priority::Normal && Priority::Normal < Priority::High);
        assert_eq!(Priority::ALL.map(Priority::as_str), ["high", "normal", "low"]);
        assert_eq!(config(&[], &[]).given(), [Priority::Normal]);
        assert_eq!(config(&["a"], &["b"]).given(), Priority::ALL);
    }

    #[test]
    fn empty_patterns_and_those_of_both_lists_are_faults() {
        assert_eq!(config(&["a"], &["b"]).faults(), []);
        let faults = config(&["a", " "], &["", "a"]).faults();
        let keys: Vec<&str> = faults.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["priority.high", "priority.low", "priority.low"]);
    }
}

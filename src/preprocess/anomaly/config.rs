//! What may be set, and what of it is wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sample::Quality;

/// `[[preprocess.anomaly]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which channels.
    pub channel: String,
    /// What is looked for.
    #[serde(default = "Detector::all")]
    pub detect: Vec<Detector>,
    /// How long a channel is only learned from, in device time, after its first sample of a boot.
    #[serde(default = "learn_for", with = "humantime_serde")]
    pub learn_for: Duration,
    /// Spike: how many spreads of the channel's usual moves a value is away.
    #[serde(default = "spike_factor")]
    pub spike_factor: f64,
    /// Flatline: how long a channel that usually moves stands at least.
    #[serde(default = "flatline_after", with = "humantime_serde")]
    pub flatline_after: Duration,
    /// Flatline: how many times as long as it usually stands at most.
    #[serde(default = "flatline_factor")]
    pub flatline_factor: f64,
    /// Drift: the time of the long reference; the slow level has a tenth of it.
    #[serde(default = "drift_window", with = "humantime_serde")]
    pub drift_window: Duration,
    /// Drift: how many times as far as usual the level is from its reference.
    #[serde(default = "drift_factor")]
    pub drift_factor: f64,
    /// Rate drop: over what time samples are counted, and how long a channel may stop while its device goes on.
    #[serde(default = "rate_window", with = "humantime_serde")]
    pub rate_window: Duration,
    /// Rate drop: the share of the usual rate below which a channel comes too slowly.
    #[serde(default = "rate_factor")]
    pub rate_factor: f64,
}

const fn learn_for() -> Duration {
    Duration::from_secs(30)
}
const fn spike_factor() -> f64 {
    5.0
}
const fn flatline_after() -> Duration {
    Duration::from_secs(10)
}
const fn flatline_factor() -> f64 {
    3.0
}
const fn drift_window() -> Duration {
    Duration::from_secs(300)
}
const fn drift_factor() -> f64 {
    3.0
}
const fn rate_window() -> Duration {
    Duration::from_secs(5)
}
const fn rate_factor() -> f64 {
    0.7
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// A value far from the level before it.
    Spike,
    /// A channel that usually moves stands.
    Flatline,
    /// The slow level has moved.
    Drift,
    /// Fewer samples a second than usual.
    RateDrop,
}

impl Detector {
    /// In the order of their declaration.
    pub(super) const ALL: [Self; 4] = [Self::Spike, Self::Flatline, Self::Drift, Self::RateDrop];

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// The flag of its samples.
    pub(super) const fn quality(self) -> Quality {
        match self {
            Self::Spike => Quality::SPIKE,
            Self::Flatline => Quality::FLATLINE,
            Self::Drift => Quality::DRIFT,
            Self::RateDrop => Quality::RATE_DROP,
        }
    }
}

/// The longest of any duration: times in µs stay far from the end of an i64.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Config {
    /// What is wrong, as (key within the entry, what would be right).
    pub(in crate::preprocess) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.to_owned(), what));
        if self.detect.is_empty() {
            fault("detect", "nothing is looked for: name a detector, or leave the key out for all".into());
        }
        if (1..self.detect.len()).any(|index| self.detect[..index].contains(&self.detect[index])) {
            fault("detect", "a detector stands there twice: once is enough".into());
        }
        for (key, value, low, high) in [
            ("spike_factor", self.spike_factor, 1.0, 1e6),
            ("flatline_factor", self.flatline_factor, 1.0, 1e6),
            ("drift_factor", self.drift_factor, 1.0, 1e6),
            ("rate_factor", self.rate_factor, 0.01, 0.99),
        ] {
            if !(low..=high).contains(&value) {
                fault(key, format!("{value} must be a number from {low} to {high}"));
            }
        }
        for (key, value, least) in [
            ("learn_for", self.learn_for, Duration::ZERO),
            ("flatline_after", self.flatline_after, Duration::from_millis(100)),
            ("drift_window", self.drift_window, Duration::from_secs(10)),
            ("rate_window", self.rate_window, Duration::from_millis(100)),
        ] {
            if !(least..=LONGEST).contains(&value) {
                let [value, least, most] = [value, least, LONGEST].map(humantime::format_duration);
                fault(key, format!("{value} must be from {least} to {most}"));
            }
        }
        faults
    }
}

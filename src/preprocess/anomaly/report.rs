//! Anomalies in words: events and counts.

use xxhash_rust::xxh3::xxh3_64;

use super::super::{Context, Reason, StepCounts, StepName};
use super::config::Detector;
use super::watch::Watch;
use crate::item::Event;
use crate::sample::{Column, DeviceTime, Quality};

/// The kind of the events.
pub(super) const KIND: &str = "anomaly";

/// Which event of an anomaly.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Onset = 0,
    End = 1,
    /// A channel stopped.
    Silent = 2,
    /// It came again.
    Back = 3,
}

/// Something worth telling a person.
#[derive(Debug)]
pub(super) struct Told {
    detector: Detector,
    phase: Phase,
    /// Device time, µs.
    t: i64,
    samples: i64,
    text: String,
}

impl Told {
    /// A spike is known for one when it is over: it has one event, at the time of its first sample.
    pub(super) const fn spike(t: i64, samples: i64, text: String) -> Self {
        Self { detector: Detector::Spike, phase: Phase::Onset, t, samples, text }
    }

    pub(super) const fn onset(detector: Detector, t: i64, samples: i64, text: String) -> Self {
        Self { detector, phase: Phase::Onset, t, samples, text }
    }

    pub(super) const fn end(detector: Detector, t: i64, samples: i64, text: String) -> Self {
        Self { detector, phase: Phase::End, t, samples, text }
    }

    pub(super) const fn silent(t: i64, text: String) -> Self {
        Self { detector: Detector::RateDrop, phase: Phase::Silent, t, samples: 0, text }
    }

    pub(super) const fn back(t: i64, text: String) -> Self {
        Self { detector: Detector::RateDrop, phase: Phase::Back, t, samples: 0, text }
    }

    /// As an event of the batch's device. Its share of the receipt is settled when it is durable.
    pub(super) fn event(self, channel: &str, context: &Context<'_>) -> Event {
        Event {
            origin: context.origin.clone(),
            t: DeviceTime(self.t),
            sequence: sequence(channel, self.detector, self.phase),
            kind: KIND,
            number: self.samples,
            text: self.text,
            accepted_at: context.accepted_at,
            received: context.received,
            receipt: context.custody.receipt.clone(),
        }
    }
}

/// Part of the event's key: the same for the same anomaly, and apart from the frames', which count from 0.
fn sequence(channel: &str, detector: Detector, phase: Phase) -> u32 {
    let mut name = channel.as_bytes().to_vec();
    name.extend([0, detector as u8, phase as u8]);
    xxh3_64(&name) as u32 | 1 << 31
}

/// Counts what a column was flagged for.
pub(super) fn count(watch: &Watch, column: &Column, verdicts: &[(usize, Quality)], counts: &StepCounts) {
    for detector in Detector::ALL {
        let mut concerned = verdicts.iter().filter(|(_, verdict)| verdict.0 & detector.quality().0 != 0);
        let Some((last, _)) = concerned.next_back() else { continue };
        let samples = 1 + concerned.count() as u64;
        let (name, unit) = (&column.channel.name, &column.channel.unit);
        let tell = || format!("{name} {} {unit}", brief(column.physical(*last)));
        counts.add(StepName::Anomaly, &watch.rule, reason(detector), samples, tell);
    }
}

const fn reason(detector: Detector) -> Reason {
    match detector {
        Detector::Spike => Reason::Spike,
        Detector::Flatline => Reason::Flatline,
        Detector::Drift => Reason::Drift,
        Detector::RateDrop => Reason::RateDrop,
    }
}

/// A number with five significant digits.
pub(super) fn brief(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e9).contains(&size) {
        return format!("{value:.4e}");
    }
    // Between -4 and 8.
    let magnitude = if size == 0.0 { 0 } else { size.log10().floor() as i32 };
    let text = format!("{value:.*}", (4 - magnitude).clamp(0, 8) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A span of device time, in seconds.
pub(super) fn lasting(from_us: i64, to_us: i64) -> String {
    format!("{:.1} s", to_us.saturating_sub(from_us) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_brief_and_exact_enough() {
        let all = [0.0, 12.0, -0.25, 123_456.0, 0.001_234_56, 1e12, 100.0].map(brief);
        assert_eq!(all, ["0", "12", "-0.25", "123456", "0.0012346", "1.0000e12", "100"]);
    }

    #[test]
    fn sequences_tell_channel_detector_and_phase_apart() {
        let all = [
            sequence("a", Detector::Spike, Phase::Onset),
            sequence("a", Detector::Spike, Phase::End),
            sequence("a", Detector::Drift, Phase::Onset),
            sequence("b", Detector::Spike, Phase::Onset),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 4);
        assert!(all.iter().all(|sequence| *sequence >= 1 << 31));
    }
}

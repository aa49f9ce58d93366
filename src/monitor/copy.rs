//! Copies of what the parts show of themselves, as parts of the [`Status`](super::Status).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::status::{DeviceStatus, QueueStatus, SourceState, SourceStatus};
use crate::gauges::{self, SourceGauges};
use crate::pipeline::QueueSnapshot;

impl SourceStatus {
    /// What `source` shows at `now`.
    #[must_use]
    pub fn of(source: &SourceGauges, now: Instant) -> Self {
        let since = |then| now.saturating_duration_since(then).as_secs_f64();
        let count = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        let condition = source.condition();
        let devices = source.devices().into_iter().map(|((car, device, boot), counts)| DeviceStatus {
            car,
            device,
            boot,
            frames: counts.frames,
            frames_lost: counts.frames_lost,
            samples: counts.samples,
            samples_lost: counts.samples_lost,
            duplicate_frames: counts.duplicate_frames,
        });
        Self {
            name: source.name.clone(),
            kind: source.kind.into(),
            target: source.target.clone(),
            state: condition.state.into(),
            detail: condition.detail,
            state_for_s: since(condition.since),
            connects: count(&source.connects),
            bytes: count(&source.bytes),
            messages: count(&source.messages),
            frames: count(&source.frames),
            malformed: count(&source.malformed),
            garbage_bytes: count(&source.garbage_bytes),
            held_frames: count(&source.held_frames),
            quiet_for_s: source.last_data().map(since),
            devices: devices.collect(),
        }
    }
}

impl From<gauges::SourceState> for SourceState {
    fn from(state: gauges::SourceState) -> Self {
        match state {
            gauges::SourceState::Connecting => Self::Connecting,
            gauges::SourceState::Connected => Self::Connected,
            gauges::SourceState::Down => Self::Down,
        }
    }
}

impl From<QueueSnapshot> for QueueStatus {
    fn from(queue: QueueSnapshot) -> Self {
        let QueueSnapshot { name, items, items_max, bytes, bytes_max, items_peak, blocked_ms, .. } = queue;
        Self { name, items, items_max, bytes, bytes_max, items_peak, blocked_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gauges::DeviceGauges;

    #[test]
    fn a_source_is_copied_with_its_times_as_ages() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let source = SourceGauges::new("ecu", "serial", "/dev/ttyACM0", start);
        let fresh = SourceStatus::of(&source, after(1));
        assert_eq!((fresh.state, fresh.state_for_s, fresh.quiet_for_s), (SourceState::Connecting, 1.0, None));

        source.set(gauges::SourceState::Connected, "", after(2));
        source.received(100, after(3));
        let counts = DeviceGauges {
            frames: 1,
            frames_lost: 2,
            samples: 3,
            samples_lost: 4,
            duplicate_frames: 5,
            ..Default::default()
        };
        source.set_device(&("44".into(), "ecu".into(), 7), &counts);
        let now = SourceStatus::of(&source, after(5));
        assert_eq!((now.name.as_str(), now.kind.as_str(), now.target.as_str()), ("ecu", "serial", "/dev/ttyACM0"));
        assert_eq!((now.state, now.state_for_s, now.quiet_for_s), (SourceState::Connected, 3.0, Some(2.0)));
        assert_eq!((now.connects, now.bytes, now.messages), (1, 100, 1));
        let device = &now.devices[0];
        assert_eq!((device.car.as_str(), device.device.as_str(), device.boot), ("44", "ecu", 7));
        let counts = (device.frames, device.frames_lost, device.samples, device.samples_lost, device.duplicate_frames);
        assert_eq!(counts, (1, 2, 3, 4, 5));
    }
}

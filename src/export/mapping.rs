//! Device time to UTC by the best mapping known.
//!
//! Rows of `clocks` whose gateway clock was known to be right count; provisional ones only for a boot that
//! has no other. Each holds from its `from_us` on, the first one also before: within a boot a device's
//! clock never steps, so even a later mapping is better than none.
//!
//! Invariant: UTC depends on (device, boot, device time) alone, never on the row a sample lay in, so two
//! copies of a sample are always placed at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::PLACEMENT_SLACK_US;
use crate::row::ClockRow;
use crate::sample::{Name, Quality};

/// What a mapping says of the flag [`Quality::PROVISIONAL_TIME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// No row: the sample's own flags hold.
    AsStored,
    /// The gateway's clock was right.
    Known,
    /// It was not known to be.
    Provisional,
}

/// The mapping of one device and boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootClock {
    /// (from device time, offset), ascending, the first from the beginning of time.
    pieces: Vec<(i64, i64)>,
    trust: Trust,
}

impl BootClock {
    /// A boot without rows in `clocks`: the placement of the first row seen, which is the identity for
    /// devices whose time is UTC.
    fn placed(offset_us: i64) -> Self {
        Self { pieces: vec![(i64::MIN, offset_us)], trust: Trust::AsStored }
    }

    fn of(rows: &[&ClockRow]) -> Self {
        let known = rows.iter().any(|row| !row.provisional);
        let used = rows.iter().filter(|row| !known || !row.provisional);
        let mut pieces: Vec<(i64, i64)> = used.map(|row| (row.from_us, row.offset_us)).collect();
        pieces.sort_unstable();
        if let Some(first) = pieces.first_mut() {
            first.0 = i64::MIN;
        }
        Self { pieces, trust: if known { Trust::Known } else { Trust::Provisional } }
    }

    /// UTC of device time `d`, both µs.
    pub(super) fn utc(&self, d: i64) -> i64 {
        let after = self.pieces.partition_point(|&(from, _)| from <= d);
        let (_, offset) = self.pieces[after.saturating_sub(1)];
        d.saturating_add(offset)
    }

    /// No sample of device times `d0 ..= d1` is placed before this.
    pub(super) fn earliest(&self, d0: i64, d1: i64) -> i64 {
        let later = self.pieces.iter().filter(|&&(from, _)| from > d0 && from <= d1);
        later.map(|&(from, offset)| from.saturating_add(offset)).fold(self.utc(d0), i64::min)
    }

    /// The flags of a sample, now that it is placed by this mapping.
    pub(super) fn quality(&self, stored: Quality) -> Quality {
        match self.trust {
            Trust::AsStored => stored,
            Trust::Known => Quality(stored.0 & !Quality::PROVISIONAL_TIME.0),
            Trust::Provisional => stored.with(Quality::PROVISIONAL_TIME),
        }
    }
}

/// How far the best mapping may place a device's samples from where they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shift {
    /// Earlier by at most this, µs.
    pub(super) back_us: i64,
    /// Later by at most this, µs.
    pub(super) ahead_us: i64,
}

impl Shift {
    pub(super) fn widest(self, other: Self) -> Self {
        Self { back_us: self.back_us.max(other.back_us), ahead_us: self.ahead_us.max(other.ahead_us) }
    }
}

/// The mappings of a car's devices.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    boots: HashMap<(Name, i64), Arc<BootClock>>,
    shifts: HashMap<Name, Shift>,
}

impl Clocks {
    pub(super) fn new(rows: &[ClockRow]) -> Self {
        let mut by_boot: HashMap<(&str, i64), Vec<&ClockRow>> = HashMap::new();
        for row in rows {
            by_boot.entry((&row.device, row.boot)).or_default().push(row);
        }
        let mut clocks = Self::default();
        for ((device, boot), rows) in by_boot {
            let device: Name = device.into();
            let clock = BootClock::of(&rows);
            // Any row of the boot may have been in force when a chunk was placed.
            let offsets = || rows.iter().map(|row| row.offset_us);
            let best = || clock.pieces.iter().map(|&(_, offset)| offset);
            let least = |a: i64, b: i64| a.saturating_sub(b).max(0).saturating_add(PLACEMENT_SLACK_US);
            let shift = Shift {
                back_us: least(offsets().max().unwrap_or(0), best().min().unwrap_or(0)),
                ahead_us: least(best().max().unwrap_or(0), offsets().min().unwrap_or(0)),
            };
            let widest = clocks.shifts.entry(Arc::clone(&device)).or_default();
            *widest = widest.widest(shift);
            clocks.boots.insert((device, boot), Arc::new(clock));
        }
        clocks
    }

    /// How far samples of `device` may lie from their partition.
    pub(super) fn shift(&self, device: &str) -> Shift {
        self.shifts.get(device).copied().unwrap_or_default()
    }

    /// Whether `device` has a mapping, or with `None` any has.
    pub(super) fn maps(&self, device: Option<&str>) -> bool {
        device.map_or(!self.shifts.is_empty(), |device| self.shifts.contains_key(device))
    }

    /// The widest shift of all devices.
    pub(super) fn widest_shift(&self) -> Shift {
        self.shifts.values().fold(Shift::default(), |widest, &shift| widest.widest(shift))
    }

    /// The mapping of (device, boot); without rows that of the first chunk asked for, which starts at
    /// device time `d0` and was placed at `t0`.
    pub(super) fn boot(&mut self, device: &Name, boot: i64, d0: i64, t0: i64) -> Arc<BootClock> {
        let placed = || Arc::new(BootClock::placed(t0.saturating_sub(d0)));
        Arc::clone(self.boots.entry((Arc::clone(device), boot)).or_insert_with(placed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(from_us: i64, offset_us: i64, provisional: bool) -> ClockRow {
        ClockRow { car: "44".into(), device: "ecu".into(), boot: 1, from_us, offset_us, provisional }
    }

    fn clock(rows: &[ClockRow]) -> Arc<BootClock> {
        Clocks::new(rows).boot(&"ecu".into(), 1, 0, 0)
    }

    #[test]
    fn without_rows_utc_is_the_device_time() {
        let clock = clock(&[]);
        assert_eq!(clock.utc(77), 77);
        assert_eq!(clock.quality(Quality::PROVISIONAL_TIME), Quality::PROVISIONAL_TIME);
    }

    #[test]
    fn the_latest_row_at_or_before_a_time_holds() {
        let clock = clock(&[row(100, 2_000, false), row(0, 1_000, false)]);
        assert_eq!([0, 99, 100, 101].map(|d| clock.utc(d)), [1_000, 1_099, 2_100, 2_101]);
        assert_eq!(clock.earliest(50, 60), 1_050);
    }

    #[test]
    fn a_known_mapping_replaces_provisional_ones_of_its_boot_even_before_it() {
        let rows = [row(0, 5, true), row(600, 9_000, false)];
        let clock = clock(&rows);
        assert_eq!(clock.utc(10), 9_010);
        assert_eq!(clock.quality(Quality(17)), Quality(1));
        assert_eq!(
            Clocks::new(&rows).shift("ecu"),
            Shift { back_us: PLACEMENT_SLACK_US, ahead_us: PLACEMENT_SLACK_US + 8_995 }
        );
    }

    #[test]
    fn provisional_mappings_serve_where_there_is_no_better_and_say_so() {
        let clock = clock(&[row(0, 5, true)]);
        assert_eq!(clock.utc(10), 15);
        assert_eq!(clock.quality(Quality::GOOD), Quality::PROVISIONAL_TIME);
    }

    #[test]
    fn a_mapping_that_steps_back_lowers_the_earliest_time() {
        let clock = clock(&[row(0, 1_000, false), row(100, 500, false)]);
        assert_eq!(clock.earliest(90, 110), 600);
    }
}

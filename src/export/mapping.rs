//! Device time to UTC by the best mapping known.
//!
//! Rows of `clocks` whose gateway clock was known to be right count; provisional ones only for a boot that
//! has no other. Each holds from its `from_us` on, the first one also before: within a boot a device's
//! clock never steps, so even a later mapping is better than none. Of those that hold for the whole boot the
//! last is the best (see [`ClockRow::from_start`]); what the others say matters for one thing only, where rows were
//! put while they were the best.
//!
//! Invariant: UTC depends on (device, boot, device time) alone, never on the row a sample lay in, so two
//! copies of a sample are always placed at the same time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{PLACEMENT_SLACK_US, READ_SHIFTS_MAX};
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
        let whole = pieces.partition_point(|&(from, _)| ClockRow::is_from_start(from));
        pieces.drain(..whole.saturating_sub(1));
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

/// By car, device and boot, a digest of the mapping by which its samples are placed.
pub(super) type ClockDigests = BTreeMap<String, u64>;

/// How far before its best UTC a device's samples may have been put: ranges of µs (after it, if negative), both ends
/// included, ascending and apart from each other.
///
/// A correction is one step, by an hour or by 56 years, and not a range up to it: so what was put in 1970 is looked
/// for in 1970 alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shifts(Vec<(i64, i64)>);

impl Default for Shifts {
    /// Nothing moves what has no mapping.
    fn default() -> Self {
        Self(vec![(0, 0)])
    }
}

impl Shifts {
    /// Samples lie where their best UTC is, but for the gateways' transport.
    fn none() -> Self {
        Self(vec![(-PLACEMENT_SLACK_US, PLACEMENT_SLACK_US)])
    }

    fn add(&mut self, shift_us: i64) {
        let near = |us: i64| (us.saturating_sub(PLACEMENT_SLACK_US), us.saturating_add(PLACEMENT_SLACK_US));
        self.0.push(near(shift_us));
    }

    /// Joins what overlaps, then what is nearest, until few enough are left.
    fn join(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by(|later, earlier| {
            let joins = later.0 <= earlier.1;
            if joins {
                earlier.1 = earlier.1.max(later.1);
            }
            joins
        });
        while self.0.len() > READ_SHIFTS_MAX {
            let gap = |index: &usize| self.0[index + 1].0.saturating_sub(self.0[*index].1);
            let Some(index) = (0..self.0.len() - 1).min_by_key(gap) else { break };
            self.0[index].1 = self.0[index + 1].1;
            self.0.remove(index + 1);
        }
    }

    /// Whether what lies from `first_us` to `last_us` may have its best UTC in `from_us .. to_us`.
    pub(super) fn may_hold(&self, first_us: i64, last_us: i64, from_us: Option<i64>, to_us: Option<i64>) -> bool {
        self.0.iter().any(|&(least, most)| {
            from_us.is_none_or(|from| last_us.saturating_add(most) >= from)
                && to_us.is_none_or(|to| first_us.saturating_add(least) < to)
        })
    }

    /// No sample that lies at or after `at_us` has an earlier best UTC than this.
    pub(super) fn earliest(&self, at_us: i64) -> i64 {
        at_us.saturating_add(self.0.first().map_or(0, |&(least, _)| least))
    }
}

/// The mappings of a car's devices.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    boots: HashMap<(Name, i64), Arc<BootClock>>,
    shifts: HashMap<Name, Shifts>,
    /// Of a device without mappings.
    unmapped: Shifts,
    /// Of all devices.
    all: Shifts,
}

impl Clocks {
    pub(super) fn new(rows: &[ClockRow]) -> Self {
        let mut by_boot: HashMap<(&str, i64), Vec<&ClockRow>> = HashMap::new();
        for row in rows {
            by_boot.entry((&row.device, row.boot)).or_default().push(row);
        }
        let mut clocks = Self { all: Shifts::none(), ..Self::default() };
        for ((device, boot), rows) in by_boot {
            let device: Name = device.into();
            let clock = BootClock::of(&rows);
            // Any row of the boot may have been the best when a chunk was placed.
            let shifts = clocks.shifts.entry(Arc::clone(&device)).or_insert_with(Shifts::none);
            for row in rows {
                for &(_, best) in &clock.pieces {
                    let shift_us = best.saturating_sub(row.offset_us);
                    shifts.add(shift_us);
                    clocks.all.add(shift_us);
                }
            }
            clocks.boots.insert((device, boot), Arc::new(clock));
        }
        clocks.shifts.values_mut().for_each(Shifts::join);
        clocks.all.join();
        clocks
    }

    /// How far samples of `device` may lie from their partition.
    pub(super) fn shifts(&self, device: &str) -> &Shifts {
        self.shifts.get(device).unwrap_or(&self.unmapped)
    }

    /// The same of all devices.
    pub(super) fn all_shifts(&self) -> &Shifts {
        &self.all
    }

    /// A digest of each mapping of `car`.
    pub(super) fn digests(&self, car: &str) -> ClockDigests {
        let digests = self.boots.iter().map(|((device, boot), clock)| {
            let pieces = clock.pieces.iter().flat_map(|(from, offset)| [from.to_le_bytes(), offset.to_le_bytes()]);
            let bytes: Vec<u8> = pieces.flatten().collect();
            (format!("{car} {device} {boot}"), xxh3_64(&bytes))
        });
        digests.collect()
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
        // Within the slack of each other.
        let slack = PLACEMENT_SLACK_US;
        assert_eq!(Clocks::new(&rows).shifts("ecu"), &Shifts(vec![(-slack, 8_995 + slack)]));
    }

    #[test]
    fn of_whole_boots_the_best_holds_and_what_the_others_placed_is_looked_for_there_alone() {
        const DAY: i64 = 86_400_000_000;
        let (year, slack) = (365 * DAY, PLACEMENT_SLACK_US);
        let at = |rank, by, offset_us| row(ClockRow::from_start(rank, by), offset_us, rank == 0);
        let rows = [at(2, 1, 56 * year), at(0, 9, 0), at(1, 9, 55 * year), at(1, 3, 54 * year)];
        let clock = clock(&rows);
        assert_eq!((clock.utc(i64::MIN / 2), clock.utc(5)), (i64::MIN / 2 + 56 * year, 56 * year + 5));
        let clocks = Clocks::new(&rows);
        let near = |us: i64| (us - slack, us + slack);
        assert_eq!(clocks.shifts("ecu").0, [near(0), near(year), near(2 * year), near(56 * year)]);
        assert_eq!(clocks.shifts("other"), &Shifts(vec![(0, 0)]));
        // A day of the 56th year lies there, or a year or two before, or in the first days of all.
        let day = |day: i64| {
            let asked = (Some(56 * year + 10 * DAY), Some(56 * year + 11 * DAY));
            clocks.shifts("ecu").may_hold(day * DAY, (day + 1) * DAY - 1, asked.0, asked.1)
        };
        let found: Vec<i64> = (0..57 * 365).filter(|&d| day(d)).collect();
        let around = |year: i64| [9, 10, 11].map(|day| year * 365 + day);
        let expected = [around(0), around(54), around(55), around(56)].concat();
        assert_eq!(found, expected, "the day itself, and its neighbours for the slack");
    }

    #[test]
    fn shifts_are_bounded_however_often_a_car_starts_without_a_clock() {
        const DAY: i64 = 86_400_000_000;
        let start = |day: i64| {
            let boot = ClockRow { boot: day, ..row(ClockRow::from_start(0, 1), 0, true) };
            [
                ClockRow {
                    from_us: ClockRow::from_start(1, 1),
                    offset_us: (20_000 + day) * DAY,
                    provisional: false,
                    ..boot.clone()
                },
                boot,
            ]
        };
        let rows: Vec<ClockRow> = (0..1_000).flat_map(start).collect();
        let clocks = Clocks::new(&rows);
        assert_eq!(clocks.shifts("ecu").0.len(), READ_SHIFTS_MAX);
        let asked = (Some(20_500 * DAY), Some(20_501 * DAY));
        let may = |day: i64| clocks.shifts("ecu").may_hold(day * DAY, day * DAY + 60_000_000, asked.0, asked.1);
        assert!(may(0) && may(20_500), "1970 and the day itself");
        assert!(!may(10_000) && !may(20_400), "nothing between");
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

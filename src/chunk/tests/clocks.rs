//! Where samples of a device without UTC are placed.

use super::*;
use crate::clock::{Certainty, EARLIEST_PLAUSIBLE, Mapping};
use crate::row::ClockRow;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const YEARS_50: i64 = 50 * 8_766 * HOUR;
/// A gateway whose clock was not set says this.
const IN_1970: i64 = 60 * SECOND;

fn boot_based(boot: u32) -> Arc<Origin> {
    origin("ecu", boot, ClockBase::Boot)
}

fn known(boot: u32, mapping: Mapping) -> KnownClock {
    KnownClock {
        car: "44".into(),
        device: "ecu".into(),
        boot,
        mapping,
        certainty: Certainty::Plausible,
        from_us: ClockRow::from_start(1, 5),
        replaced: Vec::new(),
        pairing: None,
        unwritten: false,
    }
}

/// (offset, provisional) of all rows, which are of the whole boot, each under a key of its own, the best one last.
fn clocks(flushes: &[Flush]) -> Vec<(i64, bool)> {
    let rows: Vec<&ClockRow> = flushes.iter().flat_map(|flush| &flush.rows.clocks).collect();
    let keys: Vec<i64> = rows.iter().map(|row| row.from_us).collect();
    assert!(keys.iter().all(|&from_us| ClockRow::is_from_start(from_us)), "{rows:?}");
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{rows:?}");
    rows.iter().map(|row| (row.offset_us, row.provisional)).collect()
}

impl Bench {
    /// What the state directory holds.
    fn state(&self) -> Vec<KnownClock> {
        let mut state: Vec<KnownClock> = Vec::new();
        for clock in self.remembered.lock().unwrap().iter() {
            state.retain(|other| other.boot != clock.boot);
            state.push(clock.clone());
        }
        state
    }
}

#[test]
fn the_first_frame_of_a_boot_maps_it_and_all_later_ones_follow() {
    let mut bench = Bench::new();
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 5_000_000, 3)], MINUTE + 100_000, 0);
    let out = bench.at(200);
    let row = chunks(&out)[0];
    let offset_us = MINUTE + 100_000 - 5_020_000;
    assert_eq!((row.d0, row.t0, row.t1), (5_000_000, MINUTE + 80_000, MINUTE + 100_000));
    assert_eq!((clocks(&out), out[0].rows.clocks[0].boot), (vec![(offset_us, false)], 7));
    let known = bench.remembered.lock().unwrap().clone();
    assert_eq!((known.len(), known[0].boot, known[0].mapping.offset_us), (1, 7, offset_us));
    store(out);
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 6_000_000, 1)], MINUTE + 9_000_000, 0);
    let later = bench.finish();
    assert_eq!(chunks(&later)[0].t0, 6_000_000 + offset_us, "delays do not move it");
    assert!(later[0].rows.clocks.is_empty());
    store(later);
}

#[test]
fn a_mapping_of_an_earlier_run_is_used_again_so_that_rows_stay_where_they_were() {
    let mut bench = Bench::with_clocks(vec![known(7, Mapping { offset_us: MINUTE, provisional: false })]);
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 10, 1)], MINUTE + 3_000_000, 0);
    bench.batch_at(&boot_based(8), vec![every_10_ms("a", 10, 1)], MINUTE + 3_000_000, 0);
    let out = bench.finish();
    let mut placed: Vec<_> = chunks(&out).iter().map(|row| (row.boot, row.t0 - MINUTE)).collect();
    placed.sort_unstable();
    assert_eq!(placed, [(7, 10), (8, 3_000_000)]);
    assert_eq!(bench.state().iter().filter(|clock| clock.mapping.offset_us != MINUTE).count(), 1);
    store(out);
}

#[test]
fn under_a_clock_that_is_not_known_rows_are_marked_provisional() {
    let mut bench = Bench::new();
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 0, 1)], EARLIEST_PLAUSIBLE.0 - 1, 0);
    let out = bench.finish();
    assert_eq!(chunks(&out)[0].quality, i32::from(Quality::PROVISIONAL_TIME.0));
    assert!(out[0].rows.clocks[0].provisional);
    assert_eq!(samples(chunks(&out)[0])[0].2, 0, "the samples themselves are good");
    store(out);
}

#[test]
fn once_the_clock_is_known_a_correction_is_written_without_new_data_once_and_what_follows_is_placed_by_it() {
    let mut bench = Bench::new();
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 0, 1)], IN_1970, 0);
    let out = bench.at(200);
    assert_eq!((chunks(&out)[0].t0, clocks(&out)), (IN_1970, vec![(IN_1970, true)]));
    store(out);
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 10 * SECOND, 1)], IN_1970 + 10 * SECOND, 10_000);
    // The clock is set while something is gathered: that closes as it was placed.
    bench.clock.set_utc(UnixMicros(MINUTE));
    assert!(bench.stage.deadline().is_some_and(|at| at <= bench.clock.now() + Duration::from_secs(1)));
    let out = bench.at(11_000);
    // What the clock said 11 s before the look, when the first frame came.
    let right = clocks(&out).last().unwrap().0;
    assert_eq!(clocks(&out), [(IN_1970, true), (right, false)]);
    assert!((right - (MINUTE - 200_000)).abs() < SECOND, "{}", right - MINUTE);
    assert_eq!(chunks(&out).iter().map(|row| row.t0).collect::<Vec<_>>(), [IN_1970 + 10 * SECOND]);
    store(out);
    assert!(bench.at(12_000).is_empty() && bench.at(60_000).is_empty(), "once");
    let state = bench.state();
    assert_eq!((state[0].mapping.offset_us, state[0].unwritten), (right, false), "{state:?}");

    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 70 * SECOND, 1)], MINUTE, 0);
    let out = bench.finish();
    assert_eq!(chunks(&out)[0].t0, right + 70 * SECOND);
    assert_eq!(chunks(&out)[0].quality, 0);
    store(out);
}

#[test]
fn a_later_run_corrects_what_an_earlier_one_placed_and_repeats_what_was_not_durable() {
    let mut first = Bench::new();
    first.batch_at(&boot_based(7), vec![every_10_ms("a", 0, 1)], IN_1970, 0);
    store(first.finish());
    let clock = first.clock.clone();
    clock.pass(Duration::from_secs(30));

    // Killed and started again while nobody knew; then the clock is set, and no data comes.
    let mut second = Bench::with(first.state(), &clock);
    assert!(second.at(1_000).is_empty());
    clock.set_utc(UnixMicros(MINUTE));
    let out = second.at(2_500);
    let right = MINUTE - 31 * SECOND;
    assert_eq!(clocks(&out), [(IN_1970, true), (right, false)]);
    drop(out);
    let state = second.state();
    assert!(state[0].unwritten, "{state:?}");

    // Killed before it was durable.
    let mut third = Bench::with(state, &clock);
    let out = third.at(0);
    assert_eq!(clocks(&out), [(IN_1970, true), (right, false)]);
    store(out);
    assert!(third.at(2_000).is_empty());
    let state = third.state();
    assert!(!state[0].unwritten, "{state:?}");
    let mut fourth = Bench::with(state, &clock);
    assert!(fourth.at(20_000).is_empty());
}

#[test]
fn steps_of_a_known_clock_move_no_mapping_and_a_synchronised_clock_betters_it_once() {
    let mut bench = Bench::new();
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 0, 1)], MINUTE, 0);
    let out = bench.at(200);
    assert_eq!(clocks(&out), [(MINUTE, false)]);
    store(out);
    let mut at_ms = 0;
    for step_us in [HOUR, -HOUR, YEARS_50, -YEARS_50, -YEARS_50, YEARS_50] {
        bench.clock.step_us(step_us);
        at_ms += 20_000;
        assert!(bench.at(at_ms).is_empty());
        // A boot that begins now is placed as if nobody had touched the clock.
        let wall_us = bench.clock.now_utc().0;
        bench.batch_at(&boot_based(at_ms as u32), vec![every_10_ms("a", 0, 1)], wall_us, at_ms);
        store(bench.at(at_ms + 300));
    }
    // It was off by an hour all the time, says the network.
    bench.clock.step_us(HOUR);
    bench.clock.set_synchronised(true);
    let out = bench.at(at_ms + 20_000);
    assert_eq!(out.len(), 7, "one for each boot");
    assert_eq!(clocks(&out[..1]).len(), 2);
    let moved = |flush: &Flush| flush.rows.clocks[1].offset_us - flush.rows.clocks[0].offset_us;
    assert!(out.iter().all(|flush| moved(flush) == HOUR), "{:?}", out.iter().map(moved).collect::<Vec<_>>());
    store(out);
    bench.clock.step_us(YEARS_50);
    assert!(bench.at(at_ms + 60_000).is_empty());
}

#[test]
fn a_device_that_outlives_its_gateways_start_is_paired_anew() {
    let clock = Scripted::manual(UnixMicros(IN_1970));
    let mut first = Bench::with(Vec::new(), &clock);
    first.batch_at(&boot_based(7), vec![every_10_ms("a", 0, 1)], IN_1970, 0);
    store(first.finish());
    // The gateway's power is cut; its clock begins in 1970 again, the device goes on.
    let clock = Scripted::manual(UnixMicros(IN_1970));
    clock.set_boot(78);
    let mut second = Bench::with(first.state(), &clock);
    second.batch_at(&boot_based(7), vec![every_10_ms("a", 600 * SECOND, 1)], IN_1970, 0);
    let out = second.at(200);
    assert_eq!(chunks(&out)[0].t0, IN_1970 + 600 * SECOND, "by the mapping that is in the store");
    store(out);
    clock.set_utc(UnixMicros(MINUTE));
    let out = second.at(5_000);
    assert_eq!(clocks(&out), [(IN_1970, true), (MINUTE - 200_000 - 600 * SECOND, false)]);
    store(out);
}

#[test]
fn a_device_with_utc_needs_no_mapping() {
    let mut bench = Bench::new();
    bench.batch_at(&utc(), vec![every_10_ms("a", MINUTE, 1)], MINUTE + 9_000_000, 0);
    let out = bench.finish();
    assert!(out[0].rows.clocks.is_empty() && bench.remembered.lock().unwrap().is_empty());
    assert_eq!(chunks(&out)[0].t0, MINUTE);
    store(out);
}

#[test]
fn an_event_may_be_the_first_of_its_boot() {
    let mut bench = Bench::new();
    bench.event(&boot_based(7), 500, "marker", String::new());
    let out = bench.finish();
    assert_eq!((out[0].rows.events[0].t, out[0].rows.events[0].d), (MINUTE, 500));
    assert_eq!(out[0].rows.clocks.len(), 1);
    store(out);
}

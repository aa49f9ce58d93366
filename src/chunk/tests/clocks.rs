//! Where samples of a device without UTC are placed.

use super::*;
use crate::clock::{EARLIEST_PLAUSIBLE, Mapping};

fn boot_based(boot: u32) -> Arc<Origin> {
    origin("ecu", boot, ClockBase::Boot)
}

#[test]
fn the_first_frame_of_a_boot_maps_it_and_all_later_ones_follow() {
    let mut bench = Bench::new();
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 5_000_000, 3)], MINUTE + 100_000, 0);
    let out = bench.at(200);
    let row = chunks(&out)[0];
    let offset_us = MINUTE + 100_000 - 5_020_000;
    assert_eq!((row.d0, row.t0, row.t1), (5_000_000, MINUTE + 80_000, MINUTE + 100_000));
    let clock = &out[0].rows.clocks[0];
    assert_eq!((clock.boot, clock.from_us, clock.offset_us, clock.provisional), (7, i64::MIN, offset_us, false));
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
    let mapping = Mapping { offset_us: MINUTE, provisional: false };
    let known = KnownClock { car: "44".into(), device: "ecu".into(), boot: 7, mapping };
    let mut bench = Bench::with_clocks(vec![known]);
    bench.batch_at(&boot_based(7), vec![every_10_ms("a", 10, 1)], MINUTE + 3_000_000, 0);
    bench.batch_at(&boot_based(8), vec![every_10_ms("a", 10, 1)], MINUTE + 3_000_000, 0);
    let out = bench.finish();
    let mut placed: Vec<_> = chunks(&out).iter().map(|row| (row.boot, row.t0 - MINUTE)).collect();
    placed.sort_unstable();
    assert_eq!(placed, [(7, 10), (8, 3_000_000)]);
    assert_eq!(bench.remembered.lock().unwrap().len(), 1, "only the new boot is told");
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

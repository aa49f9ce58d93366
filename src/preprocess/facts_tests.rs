//! What must not befall facts: that what is computed takes their name, that one wrong time silences what comes after it,
//! and that another unit relabels what is stored.

use std::sync::Arc;
use std::time::Duration;

use super::testing::{Bench, column, config};
use crate::chunk::{Chunk, Outgoing, Setup};
use crate::clock::{Gateway, SystemClock, Trust};
use crate::item::Item;
use crate::layout::Layouts;
use crate::ledger::Fate;
use crate::limits::DERIVE_ASTRAY_MAX;
use crate::live::LiveBoard;
use crate::pipeline::Stage;
use crate::priority::Priorities;
use crate::receipt::Receipt;

const DOUBLE: &str = "[[derive]]\nname = 'x'\nexpression = 'a * 2'";
/// A time that no car has.
const WRONG: i64 = i64::MAX / 2;

#[test]
fn new_rules_compute_nothing_under_a_name_that_the_device_has_sent() {
    let mut bench = Bench::new("");
    bench.frame(0, vec![column("x", &[(0, 1.0)]), column("a", &[(0, 1.0)])]);
    bench.swap.put(&config(DOUBLE)).unwrap();
    bench.frame(1, vec![column("a", &[(10, 1.0)])]);
    bench.frame(2, vec![column("x", &[(10, 5.0)])]);
    bench.end();
    assert_eq!(bench.of("x"), [(0, 1.0), (10, 5.0)]);
}

#[test]
fn new_rules_compute_nothing_under_a_name_that_the_device_has_described() {
    let mut bench = Bench::new("");
    bench.catalogue(&[("x", 1000), ("a", 1000)]);
    bench.swap.put(&config(DOUBLE)).unwrap();
    bench.frame(1, vec![column("a", &[(10, 1.0)])]);
    bench.end();
    assert_eq!(bench.of("x"), []);
}

#[test]
fn one_wrong_time_silences_a_derived_channel_for_a_while_only() {
    let mut bench = Bench::new(DOUBLE);
    bench.frame(0, vec![column("a", &[(0, 1.0), (WRONG, 1.0)])]);
    let samples = 2 * i64::from(DERIVE_ASTRAY_MAX);
    for t in 1..=samples {
        bench.frame(1, vec![column("a", &[(t, 1.0)])]);
    }
    bench.end();
    assert_eq!(bench.of("x").len() as i64, 2 + samples - i64::from(DERIVE_ASTRAY_MAX));
}

#[test]
fn one_wrong_time_of_an_input_makes_wrong_values_for_a_while_only() {
    let mut bench = Bench::new("[[derive]]\nname = 's'\nexpression = 'a + b'");
    bench.frame(0, vec![column("b", &[(0, 1.0), (WRONG, 1.0)])]);
    let samples = 2 * i64::from(DERIVE_ASTRAY_MAX);
    for t in 1..=samples {
        // The input comes after the times that need it.
        bench.frame(1, vec![column("a", &[(t, 1.0)])]);
        bench.frame(1, vec![column("b", &[(t, 9.0)])]);
    }
    bench.end();
    let right = bench.of("s").into_iter().filter(|(_, value)| *value == 10.0).count() as i64;
    assert!(right >= samples - i64::from(DERIVE_ASTRAY_MAX) - 2, "{right} of {samples}");
}

#[test]
fn a_time_that_validate_calls_impossible_is_neither_computed_at_nor_waited_for() {
    let validate = "[[validate]]\nchannel = '*'\ntime_ahead_max = '1s'";
    let mut bench = Bench::new(&format!("[[derive]]\nname = 's'\nexpression = 'a + b'\n{validate}"));
    bench.frame(0, vec![column("a", &[(0, 1.0), (WRONG, 1.0)]), column("b", &[(0, 1.0), (WRONG, 1.0)])]);
    bench.frame(1, vec![column("a", &[(500, 1.0)])]);
    bench.frame(2, vec![column("b", &[(500, 9.0)])]);
    bench.end();
    assert_eq!(bench.of("s"), [(0, 2.0), (500, 10.0)]);
}

#[test]
fn a_wrong_time_does_not_make_a_still_channel_look_dead() {
    let mut bench = Bench::new("[[decimate]]\nchannel = 'a'\ndeadband = 1.0\nmax_gap = '1s'");
    bench.frame(0, vec![column("a", &[(WRONG, 1.0)])]);
    for second in 1..=1_000 {
        bench.frame(1, vec![column("a", &[(second * 1_000_000, 1.0)])]);
    }
    bench.end();
    assert_eq!(bench.of("a").len(), 1_001);
}

/// The rows of `channels` that a process writes which calibrates `p` as `rules` say, one set after the other, a minute
/// apart: (since, unit).
fn announced(rules: &[&str]) -> Vec<(i64, String)> {
    let mut chunk = Chunk::new(Setup {
        flush_after: Duration::from_millis(10),
        writer: [1; 16],
        live: LiveBoard::new(),
        clocks: Vec::new(),
        remember: Arc::new(|_| {}),
        gateway: Gateway::new(SystemClock::shared(), Trust::System),
        priorities: Priorities::default(),
        layouts: Layouts::default(),
    });
    let mut bench = Bench::new(rules[0]);
    let mut out = Vec::new();
    bench.describe(&[("p", 0)]);
    for (index, rules) in rules.iter().enumerate() {
        bench.swap.put(&config(rules)).unwrap();
        bench.frame(0, vec![column("p", &[(index as i64 * 60_000_000 + 7, 1.0)])]);
        bench.catalogues.drain(..).for_each(|catalogue| chunk.process(Item::Catalogue(catalogue), &mut out));
        bench.unstored.drain(..).for_each(|batch| chunk.process(Item::Batch(batch), &mut out));
    }
    chunk.finish(&mut out);
    let mut rows = Vec::new();
    for out in out {
        let Outgoing::Flush(flush) = out else { panic!("{out:?}") };
        rows.extend(flush.rows.channels.iter().map(|row| (row.since, row.unit.clone())));
        flush.tally.settle(Fate::Stored);
        flush.receipts.into_iter().for_each(Receipt::settle);
    }
    rows
}

#[test]
fn another_unit_is_announced_from_its_first_sample_on_and_no_row_is_written_over() {
    let [bar, kpa, own] = [
        "[[calibrate]]\nchannel = 'p'\nscale = 2.0\nunit = 'bar'",
        "[[calibrate]]\nchannel = 'p'\nscale = 200.0\nunit = 'kPa'",
        "",
    ];
    let row = |since, unit: &str| (since, unit.to_owned());
    assert_eq!(announced(&[bar, kpa]), [row(7, "bar"), row(60_000_007, "kPa")]);
    // A restart with other rules: the Describe is remembered with its time, at which the device's own unit holds.
    assert_eq!(announced(&[own, bar]), [row(0, "u"), row(60_000_007, "bar")]);
    assert_eq!(announced(&[kpa, kpa]), [row(7, "kPa")]);
}

#[test]
fn what_rules_did_that_are_gone_is_forgotten_with_them() {
    let rule = |pattern: &str| format!("[[validate]]\nchannel = '{pattern}'\nmax = 0.5");
    let mut bench = Bench::new(&rule("a*"));
    for pattern in ["a?", "*"] {
        bench.frame(0, vec![column("ab", &[(0, 1.0)])]);
        bench.swap.put(&config(&rule(pattern))).unwrap();
        bench.frame(1, vec![column("ab", &[(10, 1.0)])]);
    }
    let rules: Vec<String> = bench.counts.snapshot().into_iter().map(|deed| deed.rule).collect();
    assert_eq!(rules, ["*"]);
    bench.end();
}

use proptest::prelude::*;

use super::*;
use crate::preprocess::rig::{Rig, column, every, meta};
use crate::sample::{Quality, Scaling, Times, UnixMicros};

const GOOD: Quality = Quality::GOOD;
const RATE: Quality = Quality::RATE_OF_CHANGE;
const GAP: Quality = Quality::AFTER_GAP;
const TIME: Quality = Quality::IMPLAUSIBLE_TIME;

fn rig(entry: &str) -> Rig {
    Rig::new(&format!("[[validate]]\nchannel = '*'\n{entry}"))
}

fn at(times: &[i64]) -> Times {
    Times::Explicit(times.to_vec())
}

#[test]
fn a_spike_is_one_bad_sample_and_what_follows_it_is_good() {
    let mut rig = rig("rate_max = 1000.0");
    let flags = rig.flags(every(0, 1_000_000, 5), Values::I16(vec![0, 1, 50, 2, 3]));
    assert_eq!(flags, [GOOD, GOOD, RATE, GOOD, GOOD]);
    assert_eq!(rig.counted(), [(Reason::RateOfChange, 1)]);
    assert_eq!(rig.words(Reason::RateOfChange), "brake.front 50 bar at 2000 µs");
}

#[test]
fn the_rate_of_change_is_asked_across_batches_and_by_device_time() {
    let mut rig = rig("rate_max = 1000.0");
    assert_eq!(rig.flags(at(&[0]), Values::F64(vec![0.0])), [GOOD]);
    assert_eq!(rig.flags(at(&[1_000]), Values::F64(vec![1.5])), [RATE]);
    assert_eq!(rig.flags(at(&[2_000]), Values::F64(vec![1.5])), [GOOD], "time has made it possible");
}

#[test]
fn a_value_that_is_not_finite_or_out_of_range_is_no_measure_for_others() {
    let mut rig = rig("rate_max = 1000.0\nmax = 100.0\nstuck_after = '1h'");
    let values = Values::F64(vec![0.0, f64::NAN, 1.0, 500.0, 2.0, f64::INFINITY]);
    let flags = rig.flags(every(0, 1_000_000, 6), values);
    assert_eq!(flags, [GOOD, Quality::NOT_FINITE, GOOD, Quality::OUT_OF_RANGE, GOOD, Quality::NOT_FINITE]);
}

#[test]
fn a_value_that_stays_the_same_for_too_long_is_stuck_until_it_moves() {
    let mut rig = rig("stuck_after = '3ms'");
    assert_eq!(rig.flags(every(0, 1_000_000, 3), Values::I16(vec![7, 7, 7])), [GOOD; 3]);
    let flags = rig.flags(every(3_000, 1_000_000, 3), Values::I16(vec![7, 7, 8]));
    assert_eq!(flags, [Quality::STUCK, Quality::STUCK, GOOD]);
    assert_eq!(rig.counted(), [(Reason::Stuck, 2)]);
}

#[test]
fn the_first_sample_after_a_gap_is_flagged_and_the_missing_ones_are_counted() {
    let mut rig = rig("gap_periods = 1.5");
    let values = Values::I16(vec![0; 3]);
    let declared = ChannelMeta { rate_mhz: 1_000_000, ..meta(&values) };
    let mut flags = |times| {
        let column = rig.column(column(&declared, times, Values::I16(vec![0; 3]))).unwrap();
        column.flags.iter(3).collect::<Vec<_>>()
    };
    assert_eq!(flags(every(0, 1_000_000, 3)), [GOOD; 3]);
    assert_eq!(flags(every(6_000, 1_000_000, 3)), [GAP, GOOD, GOOD]);
    assert_eq!(flags(at(&[9_000, 12_000, 13_000])), [GOOD, GAP, GOOD]);
    assert_eq!(rig.counted(), [(Reason::AfterGap, 2), (Reason::Missing, 5)]);
    assert_eq!(rig.words(Reason::Missing), "2 before brake.front 0 bar at 12000 µs");
}

#[test]
fn a_period_that_is_not_declared_is_learned_and_learned_anew() {
    let mut rig = rig("gap_periods = 1.5");
    let zeros = |count| Values::I16(vec![0; count]);
    assert_eq!(rig.flags(every(0, 1_000_000, 20), zeros(20)), [GOOD; 20]);
    assert_eq!(rig.flags(at(&[22_000]), zeros(1)), [GAP]);
    let slower = rig.flags(every(32_000, 10_000_000, 40), zeros(40));
    assert_eq!(slower.iter().filter(|flags| **flags == GAP).count(), 14, "until the new period is known");
    assert_eq!(slower.last(), Some(&GOOD));
}

#[test]
fn a_gap_of_a_given_length_needs_no_period() {
    let mut rig = rig("gap_after = '1s'");
    assert_eq!(rig.flags(at(&[0, 900_000, 2_000_000]), Values::I16(vec![0; 3])), [GOOD, GOOD, GAP]);
    assert_eq!(rig.counted(), [(Reason::AfterGap, 1), (Reason::Missing, 1)]);
}

#[test]
fn late_samples_are_judged_by_their_value_alone_unless_backwards_is_asked_for() {
    let mut late = rig("rate_max = 1.0\nmax = 100");
    late.flags(at(&[10_000]), Values::I16(vec![0]));
    let flags = late.flags(at(&[5_000, 6_000]), Values::I16(vec![50, 500]));
    assert_eq!(flags, [GOOD, Quality::OUT_OF_RANGE]);
    let mut asked = rig("time_backwards = true");
    asked.flags(at(&[10_000]), Values::I16(vec![0]));
    assert_eq!(asked.flags(at(&[5_000, 11_000]), Values::I16(vec![0; 2])), [TIME, GOOD]);
    assert_eq!(asked.counted(), [(Reason::TimeBackwards, 1)]);
}

#[test]
fn a_newest_time_that_was_a_mistake_does_not_disable_the_checks_for_ever() {
    let mut rig = rig("rate_max = 1.0");
    rig.flags(at(&[i64::MAX / 2]), Values::I16(vec![0]));
    let count = crate::limits::VALIDATE_ASTRAY_MAX as usize;
    rig.flags(every(0, 1_000_000, count), Values::I16(vec![0; count]));
    assert_eq!(rig.flags(every(count as i64 * 1_000, 1_000_000, 1), Values::I16(vec![9])), [RATE]);
}

#[test]
fn a_time_far_from_the_gateways_clock_is_implausible_for_devices_with_utc_only() {
    let entry = "time_ahead_max = '1s'\ntime_behind_max = '1h'";
    let mut utc = rig(entry);
    let now = crate::clock::EARLIEST_PLAUSIBLE.0 + 10_000_000_000;
    utc.received = UnixMicros(now);
    let times = [now - 5_000_000_000, now - 1_000_000, now + 2_000_000];
    assert_eq!(utc.flags(at(&times), Values::I16(vec![0; 3])), [TIME, GOOD, TIME]);
    assert_eq!(utc.counted(), [(Reason::TimeAhead, 1), (Reason::TimeBehind, 1)]);
    let mut boot = rig(entry);
    boot.base = ClockBase::Boot;
    boot.received = utc.received;
    assert_eq!(boot.flags(at(&times), Values::I16(vec![0; 3])), [GOOD; 3]);
    let mut unset = rig(entry);
    unset.received = UnixMicros(60_000_000);
    assert_eq!(unset.flags(at(&times), Values::I16(vec![0; 3])), [GOOD; 3], "a gateway's clock of 1970 says nothing");
}

#[test]
fn each_check_can_have_an_action_of_its_own() {
    let mut rig = rig("max = 10\nrate_max = 1000.0\nrate_action = 'drop'");
    let values = Values::F64(vec![9.0, 10.0, 11.0, 5.0, 10.5]);
    let column = rig.column(column(&meta(&values), every(0, 1_000_000, 5), values)).unwrap();
    assert_eq!(column.times, at(&[0, 1_000, 2_000, 4_000]));
    let flags: Vec<Quality> = column.flags.iter(4).collect();
    assert_eq!(flags, [GOOD, GOOD, Quality::OUT_OF_RANGE, Quality::OUT_OF_RANGE]);
    let now = rig.ledger.snapshot();
    assert!(now.balanced && now.total.dropped[&Policy::Validate] == 1);
}

#[test]
fn a_frame_of_which_nothing_is_left_is_acknowledged() {
    let mut rig = rig("max = 0\naction = 'drop'");
    let fired = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fire = fired.clone();
    let receipt = crate::receipt::Receipt::new(move || fire.store(true, std::sync::atomic::Ordering::SeqCst));
    let values = Values::I16(vec![1, 2]);
    assert!(rig.frame(vec![column(&meta(&values), every(0, 1_000_000, 2), values)], receipt).is_none());
    assert!(fired.load(std::sync::atomic::Ordering::SeqCst) && rig.ledger.snapshot().balanced);
}

#[test]
fn a_mistake_is_a_fault_that_names_its_key() {
    for (entry, key) in [
        ("min = 2\nmax = 1", "min"),
        ("rate_max = 0.0", "rate_max"),
        ("rate_max = nan", "rate_max"),
        ("gap_periods = 1.0", "gap_periods"),
        ("gap_periods = 2.0\ngap_after = '1s'", "gap_after"),
        ("stuck_after = '0s'", "stuck_after"),
        ("time_ahead_max = '200years'", "time_ahead_max"),
    ] {
        let faults = toml::from_str::<Config>(&format!("channel = 'a'\n{entry}")).unwrap().faults();
        assert_eq!(faults.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [key], "{entry}");
    }
}

/// A stretch of samples with one period, some time after the last.
#[derive(Debug, Clone)]
struct Stretch {
    pause_us: i64,
    period_ns: u32,
    values: Vec<i16>,
}

fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
    let values = prop_oneof![
        prop::collection::vec(-3..4_i16, 1..30),
        prop::collection::vec(Just(2_i16), 1..30),
        prop::collection::vec(prop_oneof![9 => -3..4_i16, 1 => any::<i16>()], 1..30),
    ];
    let pause = prop_oneof![5 => 1_000..1_002_i64, 2 => -20_000..20_000_i64, 1 => 1..5_i64];
    let period = prop::sample::select(vec![1_000_000_u32, 1_000_499, 999_500, 2_000_000, 1_000, 300]);
    let stretch = (pause, period, values);
    prop::collection::vec(
        stretch.prop_map(|(pause_us, period_ns, values)| Stretch { pause_us, period_ns, values }),
        1..12,
    )
}

fn entry() -> impl Strategy<Value = String> {
    let keys = [
        "min = -2.5",
        "max = 3.0",
        "rate_max = 2000.0",
        "rate_max = 500.5",
        "stuck_after = '5ms'",
        "gap_periods = 1.5",
        "gap_after = '2ms'",
        "time_backwards = true",
        "time_ahead_max = '30ms'",
        "action = 'drop'",
    ];
    prop::sample::subsequence(keys.to_vec(), 0..keys.len()).prop_map(|keys| {
        let both = |a: &str, b: &str| keys.iter().any(|k| k.starts_with(a)) && keys.iter().any(|k| k.starts_with(b));
        let (gaps, mut rates) = (both("gap_periods", "gap_after"), 0);
        let kept = keys.iter().filter(|key| {
            rates += u32::from(key.starts_with("rate_max"));
            !(key.starts_with("rate_max") && rates > 1 || gaps && key.starts_with("gap_after"))
        });
        kept.copied().collect::<Vec<_>>().join("\n")
    })
}

/// Times, raw values and flags of what comes out.
type Told = Vec<(i64, u64, Quality)>;

fn told(rig: &mut Rig, meta: &ChannelMeta, times: Times, values: Values) -> Told {
    let Some(column) = rig.column(column(meta, times, values)) else { return Vec::new() };
    let flags: Vec<Quality> = column.flags.iter(column.len()).collect();
    (0..column.len()).map(|i| (column.times.at(i), column.values.raw(i).to_bits(), flags[i])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_verdicts_do_not_depend_on_how_a_series_is_cut_into_batches(
        stretches in stretches(), entry in entry(), kind in 0..4_usize, rate_mhz in prop::sample::select(vec![0, 1_000_000]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        scaling in prop::sample::select(vec![(1.0, 0.0), (-0.1, 0.3), (1e-7, 12.0)]),
    ) {
        let typed = |values: &[i16]| match kind {
            0 => Values::I16(values.to_vec()),
            1 => Values::I32(values.iter().map(|&v| v.into()).collect()),
            2 => Values::F32(values.iter().map(|&v| if v == 3 { f32::NAN } else { v.into() }).collect()),
            _ => Values::F64(values.iter().map(|&v| if v == 3 { f64::NAN } else { v.into() }).collect()),
        };
        let scaling = Scaling { scale: scaling.0, offset: scaling.1 };
        let meta = ChannelMeta { scaling, rate_mhz, ..meta(&typed(&[])) };
        let config = format!("[dedup]\nenabled = false\n[[validate]]\nchannel = '*'\n{entry}");
        let (mut whole, mut single, mut cut) = (Rig::new(&config), Rig::new(&config), Rig::new(&config));
        let now = crate::clock::EARLIEST_PLAUSIBLE;
        [&mut whole, &mut single, &mut cut].into_iter().for_each(|rig| rig.received = now);
        let (mut in_whole, mut times, mut raws, mut end_us) = (Vec::new(), Vec::new(), Vec::new(), now.0);
        for Stretch { pause_us, period_ns, values } in &stretches {
            let stretch = every(end_us + pause_us, *period_ns, values.len());
            times.extend(stretch.iter());
            raws.extend_from_slice(values);
            end_us = stretch.at(values.len() - 1);
            in_whole.extend(told(&mut whole, &meta, stretch, typed(values)));
        }
        let in_single: Told =
            (0..raws.len()).flat_map(|i| told(&mut single, &meta, at(&times[i..=i]), typed(&raws[i..=i]))).collect();
        let mut edges: Vec<usize> = cuts.iter().map(|cut| cut.index(raws.len())).chain([0, raws.len()]).collect();
        edges.sort_unstable();
        edges.dedup();
        let in_cut: Told = edges
            .windows(2)
            .flat_map(|e| told(&mut cut, &meta, at(&times[e[0]..e[1]]), typed(&raws[e[0]..e[1]])))
            .collect();
        prop_assert_eq!(&in_whole, &in_single);
        prop_assert_eq!(&in_cut, &in_single);
        prop_assert_eq!(whole.counted(), single.counted());
        prop_assert_eq!(cut.counted(), single.counted());
        prop_assert!(whole.ledger.snapshot().balanced);
    }

    #[test]
    fn a_glance_says_good_only_of_what_is_good_sample_by_sample(
        stretches in stretches(), entry in entry(), scale in 1e-6..10.0_f64, offset in -10.0..10.0_f64,
    ) {
        let config: Config = toml::from_str(&format!("channel = '*'\n{entry}")).unwrap();
        let (checks, clock) = (Checks::new(&config), Some(Clock { received_us: 0 }));
        let (mut glanced, mut judged, mut end_us) = (State::new(0), State::new(0), 0);
        for Stretch { pause_us, period_ns, values } in &stretches {
            let times = every(end_us + pause_us, *period_ns, values.len());
            end_us = times.at(values.len() - 1);
            let values = Values::I16(values.clone());
            let meta = ChannelMeta { scaling: Scaling { scale, offset }, ..meta(&values) };
            let column = column(&meta, times, values);
            let sample = |index: usize| judge::Sample {
                t_us: column.times.at(index), raw: column.values.raw(index), physical: column.physical(index),
            };
            let good = glance::is_good(&checks, &mut glanced, &column, clock);
            for index in 0..column.len() {
                let (verdict, _) = judged.judge(&checks, sample(index), clock);
                if good {
                    prop_assert_eq!(verdict, Verdict::GOOD);
                } else {
                    prop_assert_eq!(glanced.judge(&checks, sample(index), clock).0, verdict);
                }
            }
        }
    }
}

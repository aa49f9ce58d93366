use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use crate::ledger::Policy;
use crate::preprocess::testing::{Bench, column, config};
use crate::preprocess::{Config, Reason};
use crate::sample::Quality;

const NAN: f64 = f64::NAN;

/// (time, value)
type Samples = Vec<(i64, f64)>;

fn rule(more: &str) -> String {
    format!("[[decimate]]\nchannel = 'a'\n{more}")
}

/// What comes out of `samples` in one frame, the last window included; and of the mean's channel.
fn thinned(more: &str, samples: &[(i64, f64)]) -> (Samples, Samples) {
    let mut bench = Bench::new(&rule(more));
    bench.frame(0, vec![column("a", samples)]);
    let now = bench.end();
    let kept = bench.of("a");
    let dropped = now.total.dropped.get(&Policy::Decimate).copied().unwrap_or_default();
    assert_eq!(dropped, (samples.len() - kept.len()) as u64);
    let counted = [Reason::Every, Reason::Window, Reason::Deadband].map(|reason| bench.counted(reason).0);
    assert_eq!(counted.iter().sum::<u64>(), dropped, "by rule and reason as in the ledger");
    (kept, bench.of("a.mean"))
}

fn ramp(count: i64) -> Samples {
    (0..count).map(|i| (i * 1_000, i as f64)).collect()
}

#[test]
fn one_of_every_so_many_is_kept_by_count_within_the_channel() {
    let mut bench = Bench::new(&rule("every = 3"));
    for part in ramp(10).chunks(2) {
        bench.frame(0, vec![column("a", part), column("other", part)]);
    }
    assert_eq!(bench.of("a"), [(0, 0.0), (3_000, 3.0), (6_000, 6.0), (9_000, 9.0)]);
    assert_eq!(bench.of("other").len(), 10, "no rule, no thinning");
    assert_eq!(bench.counted(Reason::Every), (6, "a".into()));
    assert_eq!(bench.end().total.dropped[&Policy::Decimate], 6);
}

#[test]
fn windows_keep_what_they_are_told_unchanged_and_in_order() {
    let samples = [(1, 5.0), (4, 9.0), (7, 2.0), (9, 3.0), (10, 1.0), (25, 4.0), (26, 6.0)];
    let at = |keep: &str| {
        let (kept, mean) = thinned(&format!("window = '1ms'\nkeep = {keep}"), &samples.map(|(t, v)| (t * 100, v)));
        (kept.into_iter().map(|(t, _)| t / 100).collect::<Vec<_>>(), mean)
    };
    assert_eq!(at("['first']").0, [1, 10, 25]);
    assert_eq!(at("['last']").0, [9, 10, 26]);
    assert_eq!(at("['min']").0, [7, 10, 25]);
    assert_eq!(at("['max', 'min']").0, [4, 7, 10, 25, 26]);
    assert_eq!(at("['last', 'first', 'max']").0, [1, 4, 9, 10, 25, 26]);
    let mean = vec![(500, 4.75), (1_000, 1.0), (2_550, 5.0)];
    assert_eq!(at("['mean']"), (vec![], mean.clone()));
    assert_eq!(at("['mean', 'max']"), (vec![4, 10, 26], mean));
    let (kept, _) = thinned("window = '1ms'", &samples.map(|(t, v)| (t * 100, v)));
    assert_eq!(kept.len(), 3, "the last is what is kept if nothing is said");
}

#[test]
fn smallest_and_largest_are_numbers_where_there_is_one() {
    let (kept, mean) =
        thinned("window = '1s'\nkeep = ['min', 'max', 'mean']", &[(0, NAN), (1, 2.0), (2, 1.0), (3, NAN)]);
    assert_eq!((kept, mean), (vec![(1, 2.0), (2, 1.0)], vec![(1, 1.5)]));
    let (kept, mean) = thinned("window = '1s'\nkeep = ['min', 'mean']", &[(0, NAN), (1, NAN)]);
    assert_eq!(kept.len(), 1, "a channel without numbers still shows that it lives");
    assert!(mean[0].1.is_nan());
}

#[test]
fn a_mean_is_a_derived_sample_and_its_raw_ones_are_dropped_and_counted() {
    let mut bench = Bench::new(&rule("window = '1ms'\nkeep = ['mean']"));
    bench.frame(0, vec![column("a", &[(0, 1.0), (400, -3.0)])]);
    bench.frame(1, vec![column("a", &[(900, 5.0)])]);
    bench.store();
    assert_eq!(bench.fired(), 1, "the oldest frame of the mean comes again if it is lost");
    bench.frame(2, vec![column("a", &[(1_000, 1.0)])]);
    assert_eq!(bench.seen["a.mean"], [(450, 1.0, Quality::DOUBTFUL_INPUT.0)]);
    let meta = &bench.unstored.last().unwrap().columns[0].channel;
    assert!(meta.derived && &*meta.unit == "u" && meta.rate_mhz == 1_000_000);
    let now = bench.end();
    assert_eq!((now.total.dropped[&Policy::Decimate], now.total.stored), (4, 0));
    assert_eq!((now.derived.received, now.derived.stored), (2, 2));
    assert_eq!(bench.counted(Reason::Mean), (2, "a.mean".into()));
}

#[test]
fn what_a_window_holds_back_keeps_its_frame_until_it_is_stored() {
    let mut bench = Bench::new(&rule("window = '100ms'\nkeep = ['max']"));
    bench.frame(0, vec![column("a", &[(0, 5.0), (10, 1.0)])]);
    bench.frame(1, vec![column("a", &[(20, 3.0)])]);
    bench.store();
    assert_eq!((bench.fired(), bench.of("a")), (1, vec![]), "what lost is dropped at once");
    assert_eq!(bench.stage_due(), Some(300), "the window's length and a burst's way");
    bench.frame(2, vec![column("a", &[(100_000, 1.0)])]);
    assert_eq!(bench.of("a"), [(0, 5.0)]);
    assert_eq!(bench.fired(), 1);
    bench.store();
    assert_eq!(bench.fired(), 2);
    assert!(bench.pass(302));
    assert_eq!(bench.of("a"), [(0, 5.0), (100_000, 1.0)]);
    bench.end();
}

#[test]
fn a_larger_value_lets_the_held_one_go_and_its_frame_with_it() {
    let mut bench = Bench::new(&rule("window = '100ms'\nkeep = ['max', 'min']"));
    bench.frame(0, vec![column("a", &[(0, 5.0), (10, 4.0)])]);
    bench.frame(1, vec![column("a", &[(20, 7.0)])]);
    bench.store();
    assert_eq!(bench.fired(), 0, "4 is still the smallest");
    bench.frame(2, vec![column("a", &[(30, 1.0), (40, 8.0)])]);
    bench.store();
    assert_eq!(bench.fired(), 2);
    bench.finish();
    assert_eq!(bench.of("a"), [(30, 1.0), (40, 8.0)]);
    bench.store();
    let now = bench.ledger.snapshot();
    assert!(now.balanced);
    assert_eq!((now.total.dropped[&Policy::Decimate], now.total.stored, bench.fired()), (3, 2, 3));
}

#[test]
fn a_deadband_keeps_what_leaves_it_and_a_sign_of_life() {
    let samples = [(0, 1.0), (1, 1.5), (2, 0.5), (3, 1.6), (4, 1.2), (11, 1.6), (13, 1.6), (14, NAN), (15, NAN)];
    let (kept, _) = thinned("deadband = 0.5\nmax_gap = '10us'", &samples);
    assert_eq!(kept.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [0, 3, 13, 14]);
    let (kept, _) = thinned("deadband = 100.0", &[(0, 1.0), (1, -1.0), (2, -2.0), (9_999_999, 1.0), (19_999_999, 1.0)]);
    let times: Vec<i64> = kept.iter().map(|(t, _)| *t).collect();
    assert_eq!(times, [0, 1, 9_999_999, 19_999_999], "a change of flags is kept; after 10 s any");
}

#[test]
fn computed_channels_are_thinned_like_others() {
    let text = "[[derive]]\nname = 'd'\nexpression = 'a * 2'\n[[decimate]]\nchannel = 'd'\nwindow = '1ms'";
    let mut bench = Bench::new(text);
    bench.frame(0, vec![column("a", &[(0, 1.0), (500, 2.0), (1_000, 3.0)])]);
    assert_eq!(bench.of("d"), [(500, 4.0)]);
    let now = bench.end();
    assert_eq!(bench.of("d"), [(500, 4.0), (1_000, 6.0)]);
    assert_eq!((now.total.stored, now.derived.stored, now.derived.dropped[&Policy::Decimate]), (3, 2, 1));
    assert_eq!(now.total.dropped.get(&Policy::Decimate), None);
}

#[test]
fn computed_samples_that_come_in_several_batches_at_once_keep_their_order() {
    let text =
        "[[derive]]\nname = 'd'\nexpression = 'a + b'\n[[decimate]]\nchannel = 'd'\nwindow = '1ms'\nkeep = ['max']";
    let mut bench = Bench::new(text);
    let parts = [[(100, 1.0), (200, 2.0)], [(900, 1.0), (1_100, 1.0)], [(1_200, 2.0), (2_000, 1.0)]];
    parts.iter().for_each(|part| bench.frame(0, vec![column("a", part)]));
    bench.frame(0, vec![column("b", &[(0, 0.0), (9_000, 0.0)])]);
    bench.end();
    assert_eq!(bench.of("d"), [(200, 2.0), (1_200, 2.0), (2_000, 1.0)]);
}

#[test]
fn a_channel_that_comes_twice_in_one_frame_keeps_its_order() {
    let mut bench = Bench::new(&rule("window = '1ms'\nkeep = ['first', 'last']"));
    bench.frame(0, vec![column("a", &[(0, 1.0), (100, 2.0)])]);
    bench.frame(
        0,
        vec![column("a", &[(200, 3.0)]), column("b", &[(0, 0.0)]), column("a", &[(1_000, 4.0), (1_100, 5.0)])],
    );
    bench.frame(
        0,
        vec![column("a", &[(2_000, 6.0), (2_900, 7.0)]), column("a", &[(3_000, 8.0)]), column("b", &[(1, 0.0)])],
    );
    bench.end();
    let times: Vec<i64> = bench.of("a").iter().map(|(t, _)| *t).collect();
    assert_eq!(times, [0, 200, 1_000, 1_100, 2_000, 2_900, 3_000]);
    assert_eq!(bench.of("b").len(), 2);
}

#[test]
fn a_mean_whose_name_the_device_sends_is_not_made() {
    let mut bench = Bench::new(&rule("window = '1ms'\nkeep = ['mean']"));
    bench.frame(0, vec![column("a", &[(0, 1.0)])]);
    bench.frame(0, vec![column("a.mean", &[(0, 9.0)])]);
    bench.frame(0, vec![column("a", &[(100, 2.0), (200, 3.0)])]);
    assert_eq!(bench.catalogue(&[("a", 0), ("a.mean", 0)]).len(), 2);
    bench.swap.put(&config(&rule("window = '1ms'\nkeep = ['mean']"))).unwrap();
    bench.frame(0, vec![column("a", &[(1_000, 4.0)])]);
    let now = bench.end();
    assert_eq!((bench.of("a"), bench.of("a.mean")), (vec![(200, 3.0), (1_000, 4.0)], vec![(0, 9.0)]));
    assert_eq!((now.derived.received, bench.counted(Reason::NameTaken).0), (0, 2));
}

#[test]
fn the_same_holds_for_the_mean_of_a_computed_channel() {
    let text = "[[derive]]\nname = 'd'\nexpression = 'a'\n[[decimate]]\nchannel = 'd'\nwindow = '1ms'\nkeep = ['mean']";
    let mut bench = Bench::new(text);
    bench.frame(0, vec![column("d.mean", &[(0, 9.0)])]);
    bench.frame(0, vec![column("a", &[(0, 1.0), (1, 2.0)])]);
    bench.end();
    assert_eq!((bench.of("d"), bench.of("d.mean")), (vec![(1, 2.0)], vec![(0, 9.0)]));
}

#[test]
fn the_catalogue_announces_means() {
    let mut bench = Bench::new("[[decimate]]\nchannel = '*'\nwindow = '20ms'\nkeep = ['mean', 'last']");
    let channels = bench.catalogue(&[("a", 1_000_000)]);
    let names: Vec<_> = channels.iter().map(|meta| (&*meta.name, meta.rate_mhz, meta.derived)).collect();
    assert_eq!(names, [("a", 1_000_000, false), ("a.mean", 50_000, true)]);
}

#[test]
fn a_change_of_the_rules_and_of_a_description_ends_the_window() {
    let mut bench = Bench::new(&rule("window = '1s'"));
    bench.frame(0, vec![column("a", &ramp(3))]);
    bench.swap.put(&config(&rule("every = 2"))).unwrap();
    bench.frame(1, vec![column("a", &[(2_500, 9.0), (2_600, 9.0)])]);
    assert_eq!(bench.of("a"), [(2_000, 2.0), (2_500, 9.0)]);
    bench.swap.put(&config(&rule("window = '1s'"))).unwrap();
    bench.frame(2, vec![column("a", &[(3_000, 1.0)])]);
    let mut other = column("a", &[(4_000, 2.0)]);
    let mut meta = (*other.channel).clone();
    meta.unit = "V".into();
    other.channel = Arc::new(meta);
    bench.frame(3, vec![other]);
    assert_eq!(bench.of("a").last(), Some(&(3_000, 1.0)));
    bench.end();
    assert_eq!(bench.of("a").last(), Some(&(4_000, 2.0)));
}

#[test]
fn thinning_for_a_lag_begins_and_ends_with_it() {
    let lag_s = Arc::new(AtomicU64::new(0));
    let lag = lag_s.clone();
    let text = "[[decimate]]\nchannel = 'a'\nevery = 2\nwhen = 'lagging'\npriority = 'low'\n\
                [[decimate]]\nchannel = 'b'\nwindow = '1s'\nwhen = 'lagging'";
    let mut bench = Bench::with_lag(text, Arc::new(move || Duration::from_secs(lag.load(Ordering::SeqCst))));
    let mut t = 0;
    let mut kept = |lag: u64| {
        lag_s.store(lag, Ordering::SeqCst);
        let before = [bench.of("a").len(), bench.of("b").len()];
        let part: Vec<(i64, f64)> = (t..t + 4).map(|i| (i * 1_000, 1.0)).collect();
        t += 4;
        bench.frame(0, vec![column("a", &part), column("b", &part)]);
        [bench.of("a").len() - before[0], bench.of("b").len() - before[1]]
    };
    assert_eq!(kept(0), [4, 4]);
    assert_eq!(kept(11), [2, 4]);
    assert_eq!(kept(61), [2, 0]);
    assert_eq!(kept(31), [2, 0], "no flapping");
    assert_eq!(kept(0), [4, 5], "the window's last, and all that follow");
    assert_eq!(bench.counted(Reason::LagBegan).0, 2);
    assert_eq!(bench.counted(Reason::LagEnded), (2, "lag 0s: thinning ends".into()));
    let now = bench.end();
    assert_eq!(now.total.dropped[&Policy::Decimate], 2 * 3 + 7);
}

#[test]
fn faults_name_the_entry_and_the_key() {
    let check = |more: &str, expected: &str| {
        let config: Config = toml::from_str(&rule(more)).unwrap();
        let found: Vec<_> = config.faults().into_iter().map(|(key, what)| format!("{key}: {what}")).collect();
        assert!(found.len() == 1 && found[0].contains(expected), "{more}: {found:?}");
    };
    check("", "decimate[0].channel: exactly one of every, window and deadband");
    check("every = 2\ndeadband = 1.0", "decimate[0].channel: exactly one of");
    check("every = 1", "decimate[0].every: 2 to");
    check("window = '11s'", "decimate[0].window: 1ms to 10s");
    check("window = '10us'", "decimate[0].window: 1ms to 10s");
    check("window = '1s'\nkeep = []", "decimate[0].keep: at least one of");
    check("every = 2\nkeep = ['min']", "decimate[0].keep: it says what remains of a window");
    check("deadband = -1.0", "decimate[0].deadband: a number");
    check("deadband = nan", "decimate[0].deadband: a number");
    check("every = 2\nmax_gap = '1s'", "decimate[0].max_gap: it belongs to a deadband");
    check("deadband = 1.0\nmax_gap = '0s'", "decimate[0].max_gap: with a gap of 0");
    check("every = 2\n[lag]\nlow_after = '0s'", "lag.low_after: a lag of 0");
}

/// What remains, without any state.
fn model(way: &str, samples: &[(i64, f64)]) -> Samples {
    let mut windows: Vec<Vec<(i64, f64)>> = Vec::new();
    for &(t, value) in samples {
        match windows.last_mut() {
            Some(window) if window[0].0.div_euclid(1_000) == t.div_euclid(1_000) => window.push((t, value)),
            _ => windows.push(vec![(t, value)]),
        }
    }
    let better = |window: &[(i64, f64)], largest: bool| {
        let mut best = window[0];
        for &sample in window {
            if if largest { sample.1 > best.1 } else { sample.1 < best.1 } {
                best = sample;
            }
        }
        best
    };
    match way {
        "every = 3" => samples.iter().step_by(3).copied().collect(),
        "deadband = 2.0" => {
            let mut kept: Vec<(i64, f64)> = Vec::new();
            for &(t, value) in samples {
                let still = |&(_, last): &(i64, f64)| (value - last).abs() <= 2.0 && (value < 0.0) == (last < 0.0);
                if !kept.last().is_some_and(still) {
                    kept.push((t, value));
                }
            }
            kept
        }
        _ => {
            let of = |window: &Vec<(i64, f64)>| {
                let mut kept = vec![better(window, false), better(window, true), window[window.len() - 1]];
                if way.contains("first") {
                    kept.push(window[0]);
                }
                kept.sort_by_key(|(t, _)| *t);
                kept.dedup();
                kept
            };
            windows.iter().flat_map(of).collect()
        }
    }
}

proptest! {
    #[test]
    fn any_cutting_into_batches_keeps_the_same(
        way in prop::sample::select(vec![
            "every = 3",
            "deadband = 2.0",
            "window = '1ms'\nkeep = ['min', 'max', 'last', 'mean']",
            "window = '1ms'\nkeep = ['first', 'max', 'min', 'last', 'mean']",
        ]),
        steps in prop::collection::vec((1i64..700, -2i8..8), 0..60),
        cuts in prop::collection::vec(1usize..8, 0..60),
    ) {
        let mut t = -3_000;
        let samples: Vec<(i64, f64)> = steps.into_iter().map(|(step, value)| {
            t += step;
            (t, f64::from(value))
        }).collect();
        let mut bench = Bench::new(&rule(way));
        let mut left = samples.as_slice();
        for (ms, cut) in (0..).zip(cuts.into_iter().chain([usize::MAX])) {
            let (part, after) = left.split_at(cut.min(left.len()));
            left = after;
            bench.frame(ms, vec![column("a", part)]);
        }
        let now = bench.end();
        let expected = model(way, &samples);
        prop_assert_eq!(bench.of("a"), expected.clone());
        prop_assert_eq!(now.total.dropped.values().sum::<u64>(), (samples.len() - expected.len()) as u64);
        let (whole, means) = thinned(way, &samples);
        prop_assert_eq!((whole, means), (expected, bench.of("a.mean")));
    }
}

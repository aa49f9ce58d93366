use proptest::prelude::*;

use crate::limits::{CHANNELS_PER_DEVICE_MAX, DERIVE_HELD_BYTES_MAX, DERIVE_SAMPLES_MAX, DEVICES_MAX};
use crate::preprocess::testing::{Bench, column};
use crate::preprocess::{Config, Reason};
use crate::sample::Quality;

const SLIP: &str = "[[derive]]\nname = 'slip'\nexpression = 'wheel.rl / wheel.fl - 1'\nunit = '1'";
const DOUBTFUL: u16 = Quality::DOUBTFUL_INPUT.0;

fn slip(more: &str) -> Bench {
    Bench::new(&format!("{SLIP}\n{more}"))
}

#[test]
fn a_sample_is_computed_at_each_time_of_the_first_channel_with_what_counts_then() {
    let mut bench = slip("");
    bench.frame(0, vec![column("wheel.fl", &[(0, 2.0), (10, 4.0), (30, 8.0)])]);
    bench.frame(1, vec![column("wheel.rl", &[(9, 2.0), (10, 2.0), (20, 2.0), (31, 8.0)])]);
    assert_eq!(bench.of("slip"), [(9, 0.0), (10, -0.5), (20, -0.5)], "31 waits: fl may still bring a 31");
    bench.frame(2, vec![column("wheel.fl", &[(31, 4.0)])]);
    assert_eq!(bench.of("slip").last(), Some(&(31, 1.0)));
    let meta = &bench.unstored.last().unwrap().columns[0].channel;
    assert!(meta.derived && &*meta.unit == "1");
    let now = bench.end();
    assert_eq!((now.derived.received, now.derived.stored, now.total.stored), (4, 4, 8));
    assert_eq!(bench.counted(Reason::Computed).0, 4);
}

#[test]
fn what_waits_holds_its_frame_and_is_computed_when_the_wait_is_over() {
    let mut bench = slip("wait = '50ms'");
    bench.frame(0, vec![column("wheel.fl", &[(0, 2.0)])]);
    bench.frame(5, vec![column("wheel.rl", &[(10, 4.0)])]);
    bench.store();
    assert_eq!(bench.fired(), 1, "the frame that waits is not acknowledged");
    assert_eq!(bench.stage_due(), Some(55));
    assert!(!bench.pass(54));
    assert!(bench.pass(55));
    assert_eq!(bench.of("slip"), [(10, 1.0)]);
    assert_eq!(bench.fired(), 1, "what was computed is not stored yet");
    bench.store();
    assert_eq!(bench.fired(), 2);
    assert_eq!(bench.counted(Reason::WaitOver), (1, "at 10 µs".into()));
    bench.finish();
}

#[test]
fn what_cannot_be_computed_is_counted_with_its_reason_and_settles() {
    let mut bench = slip("max_age = '1ms'");
    bench.frame(0, vec![column("wheel.rl", &[(0, 1.0), (1_000, 1.0), (2_000, 1.0), (2_001, 1.0)])]);
    bench.frame(0, vec![column("wheel.fl", &[(1_000, 1.0), (9_000, 1.0)])]);
    assert_eq!(bench.of("slip"), [(1_000, 0.0), (2_000, 0.0)]);
    assert_eq!(bench.counted(Reason::MissingInput), (1, "at 0 µs: no `wheel.fl` so early".into()));
    assert_eq!(bench.counted(Reason::StaleInput), (1, "at 2001 µs: the last `wheel.fl` is 1001 µs old".into()));
    bench.end();
}

#[test]
fn doubtful_inputs_and_results_that_are_no_numbers_are_flagged_and_kept() {
    let mut bench = slip("");
    bench.frame(0, vec![column("wheel.fl", &[(0, 0.0), (10, -2.0)]), column("wheel.rl", &[(0, 1.0), (10, 2.0)])]);
    let flags: Vec<(f64, u16)> = bench.seen["slip"].iter().map(|(_, value, flags)| (*value, *flags)).collect();
    assert_eq!(flags, [(f64::INFINITY, Quality::NOT_FINITE.0), (-2.0, DOUBTFUL)]);
    assert_eq!(bench.counted(Reason::DoubtfulInput), (1, "at 10 µs: `wheel.fl` has a flag".into()));
    assert_eq!(bench.counted(Reason::NotFinite).0, 1);
    bench.end();
}

#[test]
fn a_time_that_does_not_increase_is_not_computed_again() {
    let mut bench = slip("");
    bench.frame(0, vec![column("wheel.fl", &[(0, 1.0), (90, 1.0)])]);
    for times in [[10, 20], [15, 20], [5, 30]] {
        bench.frame(0, vec![column("wheel.rl", &times.map(|t| (t, 1.0)))]);
    }
    assert_eq!(bench.of("slip").iter().map(|(t, _)| *t).collect::<Vec<_>>(), [10, 20, 30]);
    assert_eq!(bench.counted(Reason::Late), (3, "at 5 µs: after 20 µs was computed".into()));
    bench.end();
}

#[test]
fn corrected_values_are_computed_with_and_dropped_ones_are_not() {
    let text = "[[calibrate]]\nchannel = 'a'\nscale = 10.0\n[[validate]]\nchannel = 'a'\nmax = 50\naction = 'drop'\n\
                [[derive]]\nname = 'd'\nexpression = 'a + 1'\nat = 'b'";
    let mut bench = Bench::new(text);
    bench
        .frame(0, vec![column("a", &[(0, 1.0), (10, 9.0), (30, 2.0)]), column("b", &[(5, 0.0), (15, 0.0), (30, 0.0)])]);
    assert_eq!(bench.of("d"), [(5, 11.0), (15, 11.0), (30, 21.0)]);
    bench.end();
}

#[test]
fn an_entry_may_use_what_entries_before_it_make() {
    let text = "[[derive]]\nname = 'sum'\nexpression = 'a + b'\nwait = '300ms'\n\
                [[derive]]\nname = 'twice'\nexpression = '2 * sum'\nwait = '0s'\n\
                [[derive]]\nname = 'mixed'\nexpression = 'a - sum'";
    let mut bench = Bench::new(text);
    bench.frame(0, vec![column("a", &[(0, 1.0), (10, 2.0)])]);
    bench.frame(1, vec![column("b", &[(0, 5.0)])]);
    assert_eq!(bench.stage_due(), Some(300), "an entry waits as long as what it needs");
    bench.pass(300);
    assert_eq!(bench.of("sum"), [(0, 6.0), (10, 7.0)]);
    assert_eq!(bench.of("twice"), [(0, 12.0), (10, 14.0)]);
    assert_eq!(bench.of("mixed"), [(0, -5.0), (10, -5.0)]);
    bench.end();
}

#[test]
fn the_catalogue_announces_what_is_computed_with_the_rate_of_its_times() {
    let mut bench = Bench::new(&format!("{SLIP}\n[[derive]]\nname = 'more'\nexpression = 'x * slip'\nat = 'slip'"));
    let names = |all: Vec<std::sync::Arc<crate::sample::ChannelMeta>>| {
        all.iter().filter(|meta| meta.derived).map(|meta| (meta.name.to_string(), meta.rate_mhz)).collect::<Vec<_>>()
    };
    assert_eq!(names(bench.catalogue(&[("wheel.rl", 100_000)])), []);
    let both = [("wheel.fl", 50_000), ("wheel.rl", 100_000)];
    assert_eq!(names(bench.catalogue(&both)), [("slip".into(), 100_000)]);
    let all = [("wheel.fl", 50_000), ("wheel.rl", 100_000), ("x", 0)];
    assert_eq!(names(bench.catalogue(&all)), [("slip".into(), 100_000), ("more".into(), 100_000)]);
    let taken = [("wheel.fl", 50_000), ("wheel.rl", 100_000), ("slip", 0)];
    assert_eq!(names(bench.catalogue(&taken)), []);
    assert_eq!(bench.counted(Reason::NameTaken).0, 1);
}

#[test]
fn a_channel_that_the_device_sends_is_never_mixed_with_a_computed_one() {
    let mut bench = Bench::new(&format!("{SLIP}\n[[derive]]\nname = 'more'\nexpression = 'slip + 1'"));
    bench.frame(0, vec![column("wheel.rl", &[(0, 1.0)])]);
    bench.frame(0, vec![column("slip", &[(0, 0.25)]), column("wheel.fl", &[(0, 1.0)])]);
    bench.frame(0, vec![column("wheel.rl", &[(10, 1.0), (20, 1.0)]), column("wheel.fl", &[(50, 1.0)])]);
    assert_eq!(bench.of("slip"), [(0, 0.25)]);
    assert_eq!(bench.of("more"), [(0, 1.25)], "what the device sends is an input like any other");
    assert_eq!(bench.counted(Reason::NameTaken), (3, "the device sends `slip` itself".into()));
    let now = bench.end();
    assert_eq!((now.total.stored, now.derived.stored), (6, 1));
}

#[test]
fn entries_are_for_the_devices_that_match() {
    let mut bench = slip("device = 'rear*'");
    for device in ["ecu", "rear-node"] {
        bench.frame_of(device, 0, vec![column("wheel.fl", &[(0, 1.0)]), column("wheel.rl", &[(0, 3.0)])]);
    }
    assert_eq!(bench.of("slip"), [(0, 2.0)]);
    bench.end();
}

#[test]
fn other_devices_samples_are_no_inputs() {
    let mut bench = slip("");
    bench.frame_of("a", 0, vec![column("wheel.fl", &[(0, 1.0)])]);
    bench.frame_of("b", 0, vec![column("wheel.rl", &[(0, 3.0)])]);
    let now = bench.end();
    assert_eq!((bench.of("slip"), now.derived.received), (vec![], 0));
    assert_eq!(bench.counted(Reason::MissingInput).0, 1);
}

#[test]
fn a_change_of_the_rules_computes_what_waits_by_the_old_ones() {
    let mut bench = slip("");
    bench.frame(0, vec![column("wheel.fl", &[(0, 1.0)])]);
    bench.frame(0, vec![column("wheel.rl", &[(10, 3.0)])]);
    assert_eq!(bench.of("slip"), []);
    bench.swap.put(&crate::preprocess::testing::config("[[derive]]\nname = 'new'\nexpression = 'x'")).unwrap();
    bench.frame(1, vec![column("x", &[(0, 7.0)])]);
    assert_eq!((bench.of("slip"), bench.of("new")), (vec![(10, 2.0)], vec![(0, 7.0)]));
    bench.end();
}

#[test]
fn a_device_that_is_forgotten_loses_nothing_that_waited() {
    let mut bench = slip("");
    bench.frame_of("first", 0, vec![column("wheel.fl", &[(0, 1.0)])]);
    bench.frame_of("first", 0, vec![column("wheel.rl", &[(10, 3.0)])]);
    for number in 0..DEVICES_MAX {
        bench.frame_of(&format!("d{number}"), 0, vec![column("wheel.fl", &[(0, 1.0)])]);
    }
    assert_eq!(bench.of("slip"), [(10, 2.0)]);
    bench.end();
}

#[test]
fn what_is_held_is_bounded_in_samples_whatever_comes() {
    let mut bench = slip("wait = '10s'");
    let burst = |start: i64| (start..start + 1_000).map(|t| (t, 1.0)).collect::<Vec<_>>();
    bench.frame(0, vec![column("wheel.fl", &[(0, 1.0)])]);
    for start in 0..20 {
        bench.frame(0, vec![column("wheel.rl", &burst(start * 1_000))]);
    }
    let (early, last) = bench.counted(Reason::HeldTooMuch);
    assert!(early as usize > DERIVE_SAMPLES_MAX - 1_000 && last.starts_with("at "), "{early} {last}");
    // The other way round: the times that count never come.
    let mut bench = slip("");
    for start in 0..40 {
        bench.frame(0, vec![column("wheel.fl", &burst(start * 1_000))]);
    }
    assert!(bench.stage.held_bytes() <= 1_024 * 32, "{}", bench.stage.held_bytes());
    for number in 0..CHANNELS_PER_DEVICE_MAX + 3 {
        bench.frame(0, vec![column(&format!("c{number}"), &[(0, 1.0)])]);
    }
    bench.end();
}

#[test]
fn what_is_held_is_bounded_over_all_devices_and_each_pays_for_itself() {
    let mut bench = slip("");
    let burst = |start: i64| (start..start + 1_000).map(|t| (t, 1.0)).collect::<Vec<_>>();
    for device in 0..50 {
        let device = format!("d{device}");
        bench.frame_of(&device, 0, vec![column("wheel.rl", &[(0, 1.0)]), column("wheel.fl", &[(0, 1.0)])]);
        for start in 0..16 {
            bench.frame_of(&device, 0, vec![column("wheel.fl", &burst(start * 1_000))]);
            bench.store();
        }
        assert!(bench.stage.held_bytes() < DERIVE_HELD_BYTES_MAX + 64 * 1_024);
    }
    assert!(bench.stage.held_bytes() > DERIVE_HELD_BYTES_MAX / 2, "the bound was met");
    bench.frame_of("d0", 0, vec![column("wheel.rl", &[(500, 1.0)])]);
    assert_eq!(bench.of("slip").last(), Some(&(500, 0.0)), "others keep what they need");
}

#[test]
fn faults_name_the_entry_and_the_key() {
    let faults = |text: &str| {
        let config: Config = toml::from_str(text).unwrap();
        config.faults().into_iter().map(|(key, what)| format!("{key}: {what}")).collect::<Vec<_>>()
    };
    let entry = |name: &str, expression: &str, more: &str| {
        format!("[[derive]]\nname = '{name}'\nexpression = '{expression}'\n{more}\n")
    };
    let check = |text: &str, expected: &[&str]| {
        let found = faults(text);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{expected} in {found}");
        }
    };
    check(&entry("a", "b + sqr(c)", ""), &["derive[0].expression: at character 5: there is no function `sqr`"]);
    check(&entry("a", "1 + 2", "at = 'b'"), &["derive[0].expression: it names no channel"]);
    check(&entry("", "b", ""), &["derive[0].name: a channel's name has 1 to"]);
    check(&entry("a", "b", "wait = '11s'\nmax_age = '2h'"), &["max_age: at most 1h", "wait: at most 10s"]);
    check(&entry("a", "a + b", ""), &["derive[0].expression: `a` cannot be computed from itself"]);
    check(&entry("a", "b", "at = 'a'"), &["derive[0].at: `a` cannot be computed from itself"]);
    let twice = entry("a", "b", "") + &entry("a", "c", "");
    check(&twice, &["derive[1].name: `a` is computed by entry [0] already"]);
    let mean = entry("b.mean", "b", "") + "[[decimate]]\nchannel = '*'\nwindow = '1s'\nkeep = ['mean']";
    check(&mean, &["derive[0].name: `b.mean` is what decimate calls a mean"]);
    let circle = entry("a", "b", "") + &entry("b", "a", "");
    check(&circle, &["derive[0].expression: `b` is computed by entry [1]: move that one before this one; two cannot"]);
}

/// (time, value)
type Samples = Vec<(i64, f64)>;

/// Each channel's samples, and in which order how many of them come, as (channel, samples).
fn bursts() -> impl Strategy<Value = (Vec<Samples>, Vec<(usize, usize)>)> {
    let channel = prop::collection::btree_map(0i64..60, 0i8..20, 0..25);
    let channel = channel.prop_map(|of| of.into_iter().map(|(t, value)| (t * 100, f64::from(value) - 1.0)).collect());
    (prop::collection::vec(channel, 3..4), prop::collection::vec((0usize..3, 1usize..6), 0..40))
}

/// The rule, without any state.
fn model(channels: &[Samples], max_age_us: i64) -> Vec<(i64, f64, u16)> {
    let latest = |of: &[(i64, f64)], t: i64| of.iter().rfind(|(at, _)| *at <= t).copied();
    let mut computed = Vec::new();
    for &(t, _) in &channels[0] {
        let inputs: Vec<Option<(i64, f64)>> = channels.iter().map(|of| latest(of, t)).collect();
        if let [Some(a), Some(b), Some(c)] = inputs[..]
            && [a, b, c].iter().all(|(at, _)| t - at <= max_age_us)
        {
            let doubtful = if [a, b, c].iter().any(|(_, value)| *value < 0.0) { DOUBTFUL } else { 0 };
            computed.push((t, a.1 * 100.0 + b.1 * 10.0 + c.1, doubtful));
        }
    }
    computed
}

proptest! {
    #[test]
    fn any_cutting_and_interleaving_gives_what_the_rule_says(
        (channels, order) in bursts(),
        max_age_us in 0i64..3_000,
    ) {
        let names = ["a.x", "b.x", "c.x"];
        let text = format!(
            "[[derive]]\nname = 'd'\nexpression = 'a.x * 100 + b.x * 10 + c.x'\nwait = '5s'\nmax_age = '{max_age_us}us'\n\
             [[derive]]\nname = 'e'\nexpression = 'd - c.x'\nwait = '1s'"
        );
        let mut bench = Bench::new(&text);
        let mut left: Vec<&[(i64, f64)]> = channels.iter().map(Vec::as_slice).collect();
        let rest = (0..3).map(|channel| (channel, usize::MAX));
        for (ms, (channel, count)) in (0..).zip(order.into_iter().chain(rest)) {
            let (burst, after) = left[channel].split_at(count.min(left[channel].len()));
            left[channel] = after;
            bench.frame(ms, vec![column(names[channel], burst)]);
        }
        bench.pass(4_000);
        bench.finish();
        let expected = model(&channels, max_age_us);
        prop_assert_eq!(bench.seen.remove("d").unwrap_or_default(), expected.clone());
        let c = |t: i64| channels[2].iter().rfind(|(at, _)| *at <= t).map_or(f64::NAN, |(_, value)| *value);
        let second: Vec<(i64, f64)> = expected.iter().map(|&(t, value, _)| (t, value - c(t))).collect();
        prop_assert_eq!(bench.of("e"), second);
        for (name, channel) in names.iter().zip(&channels) {
            prop_assert_eq!(&bench.of(name), channel);
        }
        bench.end();
    }
}

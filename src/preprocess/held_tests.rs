//! What steps hold back, whatever comes: samples in any order, deadlines, new rules, a device's own channels
//! under computed names. Nothing is lost or told of twice, and computed times increase.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::testing::{Bench, column, config};

const RULES: [&str; 3] = [
    "[[derive]]\nname = 'd'\nexpression = 'a / b'\nwait = '20ms'\n\
     [[derive]]\nname = 'e'\nexpression = 'd + c'\nat = 'c'\nwait = '0s'\nmax_age = '10s'\n\
     [[decimate]]\nchannel = 'd'\nwindow = '1ms'\nkeep = ['min', 'max', 'mean']\n\
     [[decimate]]\nchannel = 'b'\nwindow = '2ms'\nkeep = ['first', 'last', 'mean']\nwhen = 'lagging'\n\
     [[decimate]]\nchannel = 'c'\nevery = 3",
    "[[derive]]\nname = 'd'\nexpression = 'b'\nat = 'a'\nwait = '5ms'\n\
     [[decimate]]\nchannel = '*'\nwindow = '3ms'\nkeep = ['max']\nwhen = 'lagging'\npriority = 'low'",
    "[[decimate]]\nchannel = '?'\ndeadband = 1.0",
];

#[derive(Debug, Clone)]
enum Step {
    Frame(Vec<(usize, Vec<(i64, i8)>)>),
    Pass(u64),
    Exchange(usize),
    Lag(u64),
    Catalogue(bool),
    Store,
}

fn step() -> impl Strategy<Value = Step> {
    let samples = prop::collection::vec((0i64..400, -1i8..5), 0..6);
    prop_oneof![
        12 => prop::collection::vec((0usize..40, samples), 1..4).prop_map(Step::Frame),
        3 => (0u64..30).prop_map(Step::Pass),
        1 => (0usize..RULES.len()).prop_map(Step::Exchange),
        2 => prop::sample::select(vec![0, 20, 40, 100]).prop_map(Step::Lag),
        1 => any::<bool>().prop_map(Step::Catalogue),
        2 => Just(Step::Store),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_told_twice_or_left_behind(steps in prop::collection::vec(step(), 0..40), sorted in any::<bool>()) {
        let lag_s = Arc::new(AtomicU64::new(0));
        let lag = lag_s.clone();
        let mut bench = Bench::with_lag(RULES[0], Arc::new(move || Duration::from_secs(lag.load(Ordering::SeqCst))));
        let (mut ms, mut last): (u64, BTreeMap<&str, i64>) = (0, BTreeMap::new());
        let (mut sent, mut taken) = (0, false);
        for step in steps {
            match step {
                Step::Frame(columns) => {
                    let mut made = Vec::new();
                    for (channel, samples) in columns {
                        // Seldom, names that are computed elsewhere.
                        let name = ["d", "b.mean", "a", "b", "c"][if channel < 2 { channel } else { 2 + channel % 3 }];
                        let last = last.entry(name).or_default();
                        let at = |(t, value): (i64, i8)| {
                            *last += t;
                            (if sorted { *last } else { t * 10 }, f64::from(value))
                        };
                        let samples: Vec<_> = samples.into_iter().map(at).collect();
                        sent += samples.len() as u64;
                        taken |= channel < 2;
                        made.push(column(name, &samples));
                    }
                    bench.frame(ms, made);
                }
                Step::Pass(more) => {
                    ms += more;
                    bench.pass(ms);
                }
                Step::Exchange(rules) => bench.swap.put(&config(RULES[rules])).unwrap(),
                Step::Lag(s) => lag_s.store(s, Ordering::SeqCst),
                Step::Catalogue(taken) => {
                    bench.catalogue(&[("a", 100_000), ("b", 100_000), if taken { ("d", 1) } else { ("c", 1) }]);
                }
                Step::Store => bench.store(),
            }
            prop_assert!(bench.ledger.snapshot().balanced);
        }
        let (derived, raw): (Vec<_>, Vec<_>) = {
            bench.finish();
            let of = |derived: bool, bench: &Bench| {
                bench.batches.iter().filter(|(_, is, _)| *is == derived).cloned().collect::<Vec<_>>()
            };
            (of(true, &bench), of(false, &bench))
        };
        bench.store();
        let now = bench.ledger.snapshot();
        prop_assert!(now.balanced);
        prop_assert_eq!((now.total.in_flight, now.derived.in_flight), (0, 0));
        prop_assert_eq!(bench.fired(), bench.frames);
        let kept: usize = raw.iter().map(|(_, _, times)| times.len()).sum();
        prop_assert_eq!(now.total.received, sent);
        prop_assert_eq!(now.total.stored, kept as u64);
        prop_assert_eq!(now.total.dropped.values().sum::<u64>(), sent - kept as u64);
        for name in ["a", "b", "c", "d", "b.mean"] {
            let of = raw.iter().filter(|(channel, ..)| channel == name);
            let times: Vec<i64> = of.flat_map(|(_, _, times)| times.clone()).collect();
            prop_assert!(!sorted || times.is_sorted(), "{} {:?}", name, times);
        }
        // New rules start anew, and so does a channel when the device takes its name.
        if bench.swap.applied() == 0 && sorted && !taken {
            for name in ["d", "e", "d.mean", "b.mean"] {
                let of = derived.iter().filter(|(channel, ..)| channel == name);
                let times: Vec<i64> = of.flat_map(|(_, _, times)| times.clone()).collect();
                prop_assert!(times.is_sorted_by(|a, b| a < b), "{} {:?}", name, times);
            }
        }
    }
}

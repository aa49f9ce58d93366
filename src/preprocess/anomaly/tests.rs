use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Config as Steps, Preprocess, Setup, StepCounts, StepName, Swap};
use super::*;
use crate::item::{Batch, Event, Item};
use crate::ledger::{Fate, Ledger};
use crate::limits::ANOMALY_EVENTS_MAX;
use crate::pipeline::Stage as _;
use crate::receipt::{Custody, Receipt};
use crate::sample::{ClockBase, Origin, Scaling, Times, UnixMicros, ValueKind, Values};

/// A stage with one entry for all channels, and what came out of it.
struct Bench {
    stage: Preprocess,
    ledger: Arc<Ledger>,
    counts: Arc<StepCounts>,
    boot: u32,
    receipt: Receipt,
    events: Vec<Event>,
}

impl Bench {
    fn new(keys: &str) -> Self {
        let config: Steps = toml::from_str(&format!("[[anomaly]]\nchannel = '*'\n{keys}")).unwrap();
        assert_eq!(config.faults(), []);
        let (ledger, counts) = (Ledger::new(), Arc::<StepCounts>::default());
        let setup = Setup { ledger: ledger.clone(), counts: counts.clone(), lag: Arc::new(|| Duration::ZERO) };
        let stage = Preprocess::new(&config, setup, Swap::default());
        Self { stage, ledger, counts, boot: 1, receipt: Receipt::none(), events: Vec::new() }
    }

    /// Sends samples of channels at once; the flags of all, one channel after the other.
    fn send(&mut self, channels: &[(&str, &[(i64, f64)])]) -> Vec<Quality> {
        let column = |(name, samples): &(&str, &[(i64, f64)])| {
            let (name, unit, kind, scaling) = ((*name).into(), "V".into(), ValueKind::F64, Scaling::IDENTITY);
            Column {
                channel: Arc::new(ChannelMeta { name, unit, kind, scaling, rate_mhz: 0, derived: false }),
                times: Times::Explicit(samples.iter().map(|(t, _)| *t).collect()),
                values: Values::F64(samples.iter().map(|(_, value)| *value).collect()),
                flags: Flags::default(),
            }
        };
        let columns: Vec<Column> = channels.iter().map(column).collect();
        let tally = self.ledger.receive(self.ledger.source("s"), columns.iter().map(|c| c.len() as u64).sum());
        let origin = Origin { car: "44".into(), device: "ecu".into(), boot: self.boot, base: ClockBase::Boot };
        let batch = Batch {
            origin: Arc::new(origin),
            columns,
            accepted_at: Instant::now(),
            received: UnixMicros(0),
            custody: Custody { receipt: self.receipt.clone(), tally },
        };
        let (mut out, mut flags) = (Vec::new(), Vec::new());
        self.stage.process(Item::Batch(batch), &mut out);
        for item in out {
            match item {
                Item::Batch(batch) => {
                    flags.extend(batch.columns.iter().flat_map(|c| c.flags.iter(c.len()).collect::<Vec<_>>()));
                    batch.custody.tally.settle(Fate::Stored);
                    batch.custody.receipt.settle();
                }
                Item::Event(event) => self.events.push(event),
                other => panic!("{other:?}"),
            }
        }
        flags
    }

    fn texts(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.text.as_str()).collect()
    }

    fn counted(&self, reason: super::super::Reason) -> u64 {
        let of = |deed: &&super::super::Deed| deed.step == StepName::Anomaly && deed.reason == reason;
        self.counts.snapshot().iter().filter(of).map(|deed| deed.samples).sum()
    }
}

/// 100 samples a second from `from` on: a slow swing with a little noise.
fn swing(from: usize, count: usize) -> Vec<(i64, f64)> {
    let value = |n: usize| (n as f64 / 200.0).sin() * 10.0 + (n * 7919 % 13) as f64 / 10.0;
    (from..from + count).map(|n| (n as i64 * 10_000, value(n))).collect()
}

#[test]
fn a_spike_is_flagged_and_told_with_what_was_expected_once_it_is_over() {
    let mut bench = Bench::new("learn_for = '5s'");
    let mut samples = swing(0, 2000);
    samples[1500].1 = 1000.0;
    let flags = bench.send(&[("v", &samples)]);
    let flagged: Vec<usize> = (0..2000).filter(|&at| flags[at] != Quality::GOOD).collect();
    assert_eq!((flagged.as_slice(), flags[1500]), ([1500].as_slice(), Quality::SPIKE));
    let event = &bench.events[0];
    assert_eq!((bench.events.len(), event.kind, event.t.0, event.number), (1, "anomaly", 15_000_000, 1));
    assert!(event.text.starts_with("spike: v 1000 V, expected "), "{}", event.text);
    assert_eq!(bench.counted(super::super::Reason::Spike), 1);
}

#[test]
fn a_step_is_taken_as_the_new_level_and_steps_of_gears_are_no_spikes() {
    let mut bench = Bench::new("learn_for = '5s'");
    let mut samples = swing(0, 3000);
    samples[2000..].iter_mut().for_each(|sample| sample.1 += 1000.0);
    let flags = bench.send(&[("v", &samples)]);
    assert_eq!(flags.iter().filter(|q| **q != Quality::GOOD).count(), 3);
    bench.boot = 2;
    let gears: Vec<_> = (0..60_000).map(|n| (n * 10_000, [1.0, 2.0, 3.0, 2.0, 6.0][(n / 90 % 5) as usize])).collect();
    let flags = bench.send(&[("gear", &gears)]);
    assert!(flags.iter().all(|quality| *quality == Quality::GOOD));
    assert_eq!(bench.texts(), [""; 0]);
}

#[test]
fn a_channel_that_freezes_is_told_at_onset_and_end_and_one_that_rests_at_its_end_is_not() {
    let mut bench = Bench::new("learn_for = '5s'\nflatline_after = '2s'\ndetect = ['flatline']");
    let mut samples = swing(0, 3000);
    (1500..2000).for_each(|at| samples[at].1 = samples[1500].1);
    let flags = bench.send(&[("v", &samples)]);
    let flagged: Vec<usize> = (0..3000).filter(|&at| flags[at] != Quality::GOOD).collect();
    assert_eq!((flagged[0], flagged.len()), (1701, 299));
    let [onset, end] = &bench.texts()[..] else { panic!("{:?}", bench.texts()) };
    assert!(onset.contains("has not changed for 2.0 s, usually at most 2.0 s"), "{onset}");
    assert!(end.starts_with("flatline over: v ") && end.ends_with("moves again, after 5.0 s"), "{end}");
    bench.events.clear();
    let pedal: Vec<_> = swing(0, 3000).into_iter().map(|(t, value)| (t, value.max(0.0))).collect();
    bench.send(&[("pedal", &pedal)]);
    assert_eq!(bench.texts(), [""; 0], "3.1 s of every 12.6 s it is at 0, its lowest");
}

#[test]
fn a_level_that_leaves_is_a_drift_until_it_is_back() {
    let mut bench = Bench::new("drift_window = '10s'\ndetect = ['drift']");
    let mut samples: Vec<_> =
        (0..12_000usize).map(|n| (n as i64 * 10_000, (n * 7919 % 1009) as f64 / 1009.0)).collect();
    samples[8000..].iter_mut().enumerate().for_each(|(n, sample)| sample.1 += (n as f64 / 500.0).min(3.0));
    bench.send(&[("v", &samples)]);
    let [onset, end] = &bench.texts()[..] else { panic!("{:?}", bench.texts()) };
    assert!(onset.starts_with("drift: v has a level of "), "{onset}");
    assert!(end.starts_with("drift over: v "), "the reference has followed: {end}");
    assert!((80_000_000..90_000_000).contains(&bench.events[0].t.0), "{:?}", bench.events[0]);
}

#[test]
fn half_the_rate_is_a_drop_until_it_is_as_before() {
    let mut bench = Bench::new("detect = ['rate_drop']\nrate_window = '1s'\nlearn_for = '5s'");
    let samples: Vec<_> = swing(0, 3000)
        .into_iter()
        .enumerate()
        .filter(|(n, _)| !(1000..2000).contains(n) || n.is_multiple_of(2))
        .map(|(_, sample)| sample)
        .collect();
    let flags = bench.send(&[("v", &samples)]);
    let flagged = flags.iter().filter(|quality| **quality == Quality::RATE_DROP).count();
    assert!((440..=550).contains(&flagged), "{flagged}");
    let [onset, end] = &bench.texts()[..] else { panic!("{:?}", bench.texts()) };
    assert_eq!(*onset, "rate drop: v comes with 50 samples/s, usual 100");
    assert!(end.starts_with("rate drop over: v comes as usual again, after "), "{end}");
}

#[test]
fn a_channel_that_stops_while_its_device_goes_on_is_told_and_a_device_that_pauses_is_not() {
    let mut bench = Bench::new("detect = ['rate_drop']\nrate_window = '2s'\nlearn_for = '5s'");
    for second in (0..40).filter(|second| !(30..35).contains(second)) {
        let both = swing(second * 100, 100);
        let stopped = (15..20).contains(&second);
        let all: [(&str, &[(i64, f64)]); 2] = [("a", &both), ("b", &both)];
        bench.send(if stopped { &all[..1] } else { &all });
    }
    let [onset, end] = &bench.texts()[..] else { panic!("{:?}", bench.texts()) };
    assert!(onset.starts_with("silence: b has sent nothing for "), "{onset}");
    assert!(end.starts_with("silence over: b comes again, after "), "{end}");
    assert_eq!(bench.counted(super::super::Reason::Silence), 1);
}

#[test]
fn what_is_no_number_teaches_nothing_and_a_boot_starts_anew() {
    let mut bench = Bench::new("learn_for = '5s'");
    let mut samples = swing(0, 2000);
    (0..1400).step_by(7).for_each(|at| samples[at].1 = f64::NAN);
    (samples[1500].1, samples[1501].1) = (f64::INFINITY, 60.0);
    let flags = bench.send(&[("v", &samples)]);
    assert_eq!((flags[1500].0 & Quality::SPIKE.0, flags[1501], flags[1502]), (0, Quality::SPIKE, Quality::GOOD));
    bench.boot = 2;
    let mut samples = swing(0, 400);
    samples[350].1 = 1000.0;
    assert!(bench.send(&[("v", &samples)]).iter().all(|quality| *quality == Quality::GOOD));
}

#[test]
fn a_clock_that_is_set_back_is_learned_anew_and_a_late_sample_is_passed_over() {
    let mut bench = Bench::new("learn_for = '5s'");
    bench.send(&[("v", &swing(2000, 2000))]);
    let flags = bench.send(&[("v", &[(39_000_000, 1000.0), (0, 1000.0), (10_000, 0.0), (20_000, 1000.0)])]);
    assert!(flags.iter().all(|quality| *quality == Quality::GOOD));
}

#[test]
fn times_and_values_at_the_edges_of_their_types_are_survived() {
    let mut bench = Bench::new("learn_for = '0s'");
    for t in [0, i64::MIN, i64::MIN + 1, -1, 5, i64::MAX - 1, i64::MAX, 7, 8] {
        bench.send(&[("v", &[(t, f64::MAX)]), ("w", &[(t, f64::MIN_POSITIVE / 2.0)]), ("v", &[(t, f64::MIN)])]);
    }
}

#[test]
fn a_message_is_acknowledged_only_when_its_events_are_durable() {
    let mut bench = Bench::new("learn_for = '5s'");
    let fired = Arc::new(AtomicUsize::new(0));
    let count = fired.clone();
    bench.receipt = Receipt::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut samples = swing(0, 2000);
    samples[1500].1 = 1000.0;
    bench.send(&[("v", &samples)]);
    std::mem::take(&mut bench.receipt).settle();
    assert_eq!(fired.load(Ordering::SeqCst), 0);
    bench.events.pop().unwrap().receipt.settle();
    assert_eq!(fired.load(Ordering::SeqCst), 1);
}

#[test]
fn events_beyond_a_minutes_number_are_counted_and_their_receipts_settled() {
    let mut bench = Bench::new("learn_for = '5s'");
    let fired = Arc::new(AtomicUsize::new(0));
    let mut samples = swing(0, 5900);
    (1000..5900).step_by(40).for_each(|at| samples[at].1 = 1000.0);
    let count = fired.clone();
    bench.receipt = Receipt::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    bench.send(&[("v", &samples)]);
    std::mem::take(&mut bench.receipt).settle();
    assert_eq!(bench.events.len(), ANOMALY_EVENTS_MAX);
    bench.events.drain(..).for_each(|event| event.receipt.settle());
    assert_eq!(fired.load(Ordering::SeqCst), 1);
    assert!(bench.counted(super::super::Reason::EventWithheld) >= 50);
}

#[test]
fn faults_name_their_key_and_what_would_be_right() {
    let check = |line: &str, key: &str, what: &str| {
        let config: Steps = toml::from_str(&format!("[[anomaly]]\nchannel = '*'\n{line}")).unwrap();
        let faults = config.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].0, format!("preprocess.anomaly[0].{key}"));
        assert!(faults[0].1.contains(what), "{faults:?}");
    };
    check("detect = []", "detect", "leave the key out for all");
    check("detect = ['spike', 'spike']", "detect", "a detector stands there twice");
    check("spike_factor = 0.5", "spike_factor", "0.5 must be a number from 1 to 1000000");
    check("drift_factor = nan", "drift_factor", "must be a number from 1");
    check("rate_factor = 1.0", "rate_factor", "from 0.01 to 0.99");
    check("drift_window = '1s'", "drift_window", "1s must be from 10s to 1day");
    let unknown = toml::from_str::<Steps>("[[anomaly]]\nchannel = '*'\ndetekt = []").unwrap_err();
    assert!(unknown.to_string().contains("unknown field `detekt`"));
}

/// A second or so of one channel's behaviour.
fn piece() -> impl Strategy<Value = (u8, usize, f64)> {
    (0u8..6, 20usize..200, -50.0f64..50.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn however_samples_are_cut_into_batches_their_verdicts_are_the_same(
        pieces in prop::collection::vec(piece(), 5..25), cuts in prop::collection::vec(1usize..400, 1..40)
    ) {
        let mut samples = swing(0, 1000);
        for (what, count, size) in pieces {
            let (t, last) = *samples.last().unwrap();
            let from = samples.len();
            let usual = swing(from, count).into_iter().enumerate().map(|(n, (_, value))| (t + (n as i64 + 1) * 10_000, value));
            match what {
                0 => samples.extend(usual.map(|(t, _)| (t, last))),
                1 => samples.extend(usual.map(|(t, value)| (t, value + size))),
                2 => samples.extend(usual.step_by(3)),
                3 => samples.push((t + 3_000_000, f64::NAN)),
                4 => samples.push((t + 10_000, last + size * 10.0)),
                _ => samples.extend(usual),
            }
        }
        let keys = "learn_for = '2s'\nflatline_after = '500ms'\ndrift_window = '10s'\nrate_window = '500ms'";
        let (mut whole, mut cut) = (Bench::new(keys), Bench::new(keys));
        let expected = whole.send(&[("v", &samples)]);
        let (mut rest, mut flags, mut cuts) = (&samples[..], Vec::new(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            flags.extend(cut.send(&[("v", now)]));
            rest = later;
        }
        prop_assert_eq!(flags, expected);
        let told = |bench: &Bench| bench.events.iter().map(|e| (e.t, e.sequence, e.text.clone())).collect::<Vec<_>>();
        prop_assert_eq!(told(&cut), told(&whole));
        whole.events.drain(..).chain(cut.events.drain(..)).for_each(|event| event.receipt.settle());
    }
}

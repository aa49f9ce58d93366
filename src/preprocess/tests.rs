use std::time::Instant;

use super::*;
use crate::item::{Batch, Catalogue, Item};
use crate::ledger::{Fate, Ledger, Policy};
use crate::limits::CHANNELS_PER_DEVICE_MAX;
use crate::pipeline::Stage;
use crate::receipt::{Custody, Receipt};
use crate::sample::{
    ChannelMeta, ClockBase, Column, DeviceTime, Flags, Origin, Quality, Scaling, Times, UnixMicros, ValueKind, Values,
};

fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

fn stage(config: &Config, ledger: &Arc<Ledger>) -> Preprocess {
    let setup = Setup { ledger: ledger.clone(), counts: Arc::default(), lag: Arc::new(|| Duration::ZERO) };
    Preprocess::new(config, setup, Swap::default())
}

fn run(config: &Config, ledger: &Arc<Ledger>, values: Values) -> Batch {
    let scaling = Scaling { scale: 0.5, offset: 0.0 };
    let meta = ChannelMeta {
        name: "brake.front".into(),
        unit: "bar".into(),
        kind: values.kind(),
        scaling,
        rate_mhz: 0,
        derived: false,
    };
    let count = values.len();
    let times = Times::Regular { t0: DeviceTime(0), period_ns: 1_000_000, count: count as u32 };
    let tally = ledger.receive(ledger.source("s"), count as u64);
    let batch = Batch {
        origin: Arc::new(Origin { car: "44".into(), device: "ecu".into(), boot: 1, base: ClockBase::Utc }),
        columns: vec![Column { channel: Arc::new(meta), times, values, flags: Flags::default() }],
        accepted_at: Instant::now(),
        received: UnixMicros(0),
        custody: Custody { receipt: Receipt::none(), tally },
    };
    let mut out = Vec::new();
    stage(config, ledger).process(Item::Batch(batch), &mut out);
    match out.pop() {
        Some(Item::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calibrate_composes_with_the_devices_scaling_and_leaves_raw_integers_alone() {
    let config = config("[[calibrate]]\nchannel = 'brake.*'\nscale = 2.0\noffset = 1.0\nunit = 'kPa'");
    let ledger = Ledger::new();
    let batch = run(&config, &ledger, Values::I16(vec![10]));
    let column = &batch.columns[0];
    assert_eq!(column.values, Values::I16(vec![10]));
    assert_eq!((column.physical(0), &*column.channel.unit), (11.0, "kPa"));
    batch.custody.tally.settle(Fate::Stored);
}

#[test]
fn a_value_out_of_range_is_flagged_in_its_place() {
    let config = config("[[validate]]\nchannel = '*'\nmin = 0\nmax = 10");
    let ledger = Ledger::new();
    let batch = run(&config, &ledger, Values::I16(vec![0, 21, 20, -1]));
    let flags: Vec<u16> = batch.columns[0].flags.iter(4).map(|q| q.0).collect();
    assert_eq!(flags, [0, 1, 0, 1]);
    batch.custody.tally.settle(Fate::Stored);
}

#[test]
fn what_is_dropped_is_counted_and_the_rest_keeps_its_times() {
    let config = config("[[validate]]\nchannel = '*'\nmin = 0\naction = 'drop'");
    let ledger = Ledger::new();
    let batch = run(&config, &ledger, Values::I16(vec![1, -1, 3]));
    assert_eq!(batch.columns[0].times, Times::Explicit(vec![0, 2000]));
    assert_eq!(batch.custody.tally.samples(), 2);
    batch.custody.tally.settle(Fate::Stored);
    let now = ledger.snapshot();
    assert!(now.balanced);
    assert_eq!(now.total.dropped[&Policy::Validate], 1);
}

#[test]
fn floats_that_are_not_finite_are_flagged_without_any_rule() {
    let ledger = Ledger::new();
    let batch = run(&Config::default(), &ledger, Values::F32(vec![1.0, f32::NAN]));
    assert_eq!(batch.columns[0].channel.kind, ValueKind::F32);
    let flags: Vec<Quality> = batch.columns[0].flags.iter(2).collect();
    assert_eq!(flags, [Quality::GOOD, Quality::NOT_FINITE]);
    batch.custody.tally.settle(Fate::Stored);
}

#[test]
fn a_range_the_wrong_way_round_is_a_fault_that_names_its_key() {
    let faults = config("[[validate]]\nchannel = '*'\nmin = 2\nmax = 1").faults();
    assert_eq!(faults[0].0, "preprocess.validate[0].min");
}

#[test]
fn ever_new_channel_names_do_not_grow_its_memory() {
    let ledger = Ledger::new();
    let mut stage = stage(&Config::default(), &ledger);
    let origin = Arc::new(Origin { car: "44".into(), device: "ecu".into(), boot: 1, base: ClockBase::Utc });
    for number in 0..CHANNELS_PER_DEVICE_MAX + 10 {
        let (name, unit, scaling) = (format!("c{number}").into(), "V".into(), Scaling::IDENTITY);
        let meta = ChannelMeta { name, unit, kind: ValueKind::F32, scaling, rate_mhz: 0, derived: false };
        let catalogue = Catalogue {
            origin: origin.clone(),
            revision: 1,
            channels: vec![Arc::new(meta)],
            changed: Vec::new(),
            t: DeviceTime(0),
            received: UnixMicros(0),
            accepted_at: Instant::now(),
        };
        stage.process(Item::Catalogue(catalogue), &mut Vec::new());
    }
    assert_eq!(stage.channels(), 10);
}

#[test]
fn every_reason_and_step_has_the_same_name_in_words_and_in_json() {
    use Reason::*;
    let reasons = [
        Duplicate,
        Conflict,
        Forgotten,
        UnitUnknown,
        OutsideTable,
        OutOfRange,
        NotFinite,
        RateOfChange,
        Stuck,
        AfterGap,
        Missing,
        TimeBackwards,
        TimeAhead,
        TimeBehind,
    ];
    for reason in reasons {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}

proptest::proptest! {
    #[test]
    fn times_that_go_in_in_order_come_out_in_order(
        bursts in proptest::collection::vec((0..50_i64, proptest::collection::vec(-5..6_i16, 1..20)), 1..10),
    ) {
        let table = "[[calibrate]]\nchannel = '*'\ntable = [[-4, 0], [4, 100]]";
        let drop = "[[validate]]\nchannel = '*'\nmin = 10\nrate_max = 20000.0\naction = 'drop'";
        let mut rig = rig::Rig::new(&format!("{table}\n{drop}"));
        for (t0, values) in bursts {
            let values = Values::I16(values);
            let times = rig::every(t0 * 1_000, 1_000_000, values.len());
            let given: Vec<i64> = times.iter().collect();
            if let Some(column) = rig.column(rig::column(&rig::meta(&values), times, values)) {
                let times: Vec<i64> = column.times.iter().collect();
                assert!(times.is_sorted_by(|a, b| a < b) && times.iter().all(|t| given.contains(t)));
            }
        }
        assert!(rig.ledger.snapshot().balanced);
    }
}

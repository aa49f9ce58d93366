//! Whose a sample is: cars, devices, boots, clock bases, repetitions.

use super::*;
use crate::limits::DEVICES_MAX;

#[test]
fn several_cars_on_one_topic_tree_stay_apart() {
    let mut bench = Bench::new();
    let (mut ours, mut theirs) = (Device::new("ecu"), Device::new("ecu"));
    settle(bench.message_on("pitwire/44/ecu", &ours.describe(wire::ClockBase::Utc)).1);
    settle(bench.message_on("pitwire/7/ecu", &theirs.describe(wire::ClockBase::Utc)).1);
    let (_, a) = bench.message_on("pitwire/44/ecu", &ours.burst(0, &[1]));
    let (_, b) = bench.message_on("pitwire/7/ecu", &theirs.burst(0, &[2]));
    let (_, c) = bench.message_on("elsewhere", &ours.burst(10_000, &[3]));
    let cars: Vec<_> = [&a, &b, &c].into_iter().flat_map(|items| batches(items)).map(|b| &*b.origin.car).collect();
    assert_eq!(cars, ["44", "7", "44"], "a topic that names none means the agent's own");
    assert_eq!(bench.device("ecu", 7).duplicate_frames, 0);
    [a, b, c].into_iter().for_each(settle);
    assert_eq!(bench.counts().stored, 3);
}

#[test]
fn a_cars_name_that_cannot_be_a_key_is_refused() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    for topic in ["pitwire/a b/ecu".to_owned(), "pitwire//ecu".into(), format!("pitwire/{}/ecu", "x".repeat(65))] {
        let (number, items) = bench.message_on(&topic, &device.describe(wire::ClockBase::Utc));
        assert!(reasons(&items)[0].contains("its topic names the car"), "{items:?}");
        settle(items);
        assert!(bench.settled().contains(&number));
    }
}

#[test]
fn a_car_from_the_configuration_holds_and_the_prefix_stands_before_every_device() {
    let mut bench = Bench::with(Vec::new(), FormatName::Wire, |spec| {
        spec.car = "9".into();
        spec.car_is_fixed = true;
        spec.device_prefix = "left.".into();
    });
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let items = bench.message(&device.burst(0, &[1]));
    let origin = &batches(&items)[0].origin;
    assert_eq!((&*origin.car, &*origin.device), ("9", "left.ecu"));
    let remembered = bench.remembered.lock().unwrap()[0].clone();
    assert_eq!((&*remembered.car, &*remembered.device), ("9", "left.ecu"));
    settle(items);
}

#[test]
fn a_repetition_is_counted_and_settles_with_its_original_never_before() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let frame = device.burst(0, &[1, 2, 3]);
    let original = bench.message(&frame);
    assert!(bench.message(&frame).is_empty());
    assert_eq!(bench.settled(), [0]);
    assert_eq!((bench.counts().received, bench.counts().duplicate, bench.counts().in_flight), (6, 3, 3));
    settle(original);
    assert_eq!(bench.settled(), [0, 1, 2]);
    assert!(bench.message(&frame).is_empty(), "also after it is settled");
    assert_eq!(bench.settled(), [0, 1, 2, 3]);
    assert_eq!((bench.counts().stored, bench.counts().duplicate), (3, 6));
    assert_eq!(bench.device("ecu", 7).duplicate_frames, 2);
}

#[test]
fn a_repetition_of_what_was_given_up_is_decoded() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let frame = device.burst(0, &[1]);
    for item in bench.message(&frame) {
        if let Item::Batch(batch) = item {
            batch.custody.tally.settle(Fate::Quarantined);
            drop(batch.custody.receipt);
        }
    }
    let again = bench.message(&frame);
    assert_eq!(batches(&again).len(), 1);
    settle(again);
    assert_eq!(bench.settled(), [0, 2]);
}

#[test]
fn a_new_boot_counts_for_itself_and_the_old_one_may_still_speak() {
    let mut bench = Bench::new();
    let mut old = Device::new("ecu");
    settle(bench.message(&old.describe(wire::ClockBase::Utc)));
    settle(bench.message(&old.burst(0, &[1])));
    let mut new = Device { boot: 8, sequence: 0, ..old.clone() };
    let first = bench.message(&new.burst(0, &[2]));
    assert!(matches!(first[0], Item::Catalogue(_)), "announced for each boot");
    assert_eq!(batches(&first)[0].origin.boot, 8);
    settle(first);
    let late = bench.message(&old.burst(10_000, &[3]));
    assert_eq!(batches(&late)[0].origin.boot, 7);
    settle(late);
    assert_eq!((bench.device("ecu", 7).frames, bench.device("ecu", 8).frames), (3, 1));
    assert_eq!(bench.counts().stored, 3);
}

#[test]
fn boots_beyond_the_few_that_are_followed_lose_no_sample() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    let describe = device.describe(wire::ClockBase::Utc);
    let mut sent = 0;
    for boot in 0..40 {
        device.boot = boot % 10;
        assert!(bench.message(&device.burst(i64::from(boot), &[1])).is_empty());
        sent += 1;
    }
    let items = bench.message(&describe);
    assert_eq!(batches(&items).len(), sent, "held ones whose boot is forgotten too");
    settle(items);
    assert_eq!(bench.counts().stored, sent as u64);
}

#[test]
fn the_clocks_base_is_the_boots_own_though_the_revision_does_not_tell() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let items = bench.message(&device.burst(0, &[1]));
    assert_eq!(batches(&items)[0].origin.base, ClockBase::Utc);
    settle(items);
    let mut new = Device { boot: 8, sequence: 0, ..device.clone() };
    settle(bench.message(&new.describe(wire::ClockBase::Boot)));
    let items = bench.message(&new.burst(0, &[1]));
    assert_eq!(batches(&items)[0].origin.base, ClockBase::Boot);
    settle(items);
    let items = bench.message(&device.burst(10_000, &[2]));
    assert_eq!(batches(&items)[0].origin.base, ClockBase::Utc, "a late frame of the boot before");
    settle(items);
    let told: Vec<bool> = bench.remembered.lock().unwrap().iter().map(|record| record.utc).collect();
    assert_eq!(told, [true, false]);
}

#[test]
fn a_new_revision_in_the_middle_of_the_stream_changes_what_comes_after_it_only() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let before = device.catalogue;
    let other = [ChannelEntry { scale: 2.0, ..CHANNELS[0] }];
    device.catalogue = catalogue_revision(&other).unwrap();
    settle(bench.message(&device.frame(0, &Payload::Describe(Describe::new(0, 1, wire::ClockBase::Utc, 1, &other)))));
    let mut scales = Vec::new();
    for (t, catalogue) in [(0, device.catalogue), (10_000, before), (20_000, device.catalogue)] {
        device.catalogue = catalogue;
        let items = bench.message(&device.burst(t, &[1]));
        scales.push(batches(&items)[0].columns[0].channel.scaling.scale);
        settle(items);
    }
    assert_eq!(scales, [2.0, 0.5, 2.0]);
}

#[test]
fn more_devices_than_are_followed_are_refused_with_the_reason() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..=DEVICES_MAX).map(|n| format!("d{n}")).collect();
    let mut refused = Vec::new();
    for name in names {
        let mut device = Device::new(Box::leak(name.into_boxed_str()));
        refused.extend(bench.message(&device.describe(wire::ClockBase::Utc)));
    }
    assert_eq!(reasons(&refused), [format!("more than {DEVICES_MAX} devices on one source")]);
    settle(refused);
    assert_eq!(bench.settled().len(), DEVICES_MAX + 1);
}

//! Frames whose catalogue is not known when they come.

use super::*;
use crate::limits::{HELD_BYTES_ALL_MAX, HELD_BYTES_MAX, HELD_FRAMES_MAX};

#[test]
fn frames_of_an_unknown_revision_wait_and_are_decoded_in_order_when_the_describe_comes() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    let describe = device.describe(wire::ClockBase::Utc);
    for t in 0..3 {
        assert!(bench.message(&device.burst(t * 10_000, &[t as i16])).is_empty());
    }
    assert_eq!(bench.gauges.held_frames.load(Ordering::Relaxed), 3);
    assert_eq!(bench.settled(), [0; 0]);
    let items = bench.message(&describe);
    let values: Vec<Values> = batches(&items).iter().map(|batch| batch.columns[0].values.clone()).collect();
    assert_eq!(values, [Values::I16(vec![0]), Values::I16(vec![1]), Values::I16(vec![2])]);
    assert_eq!(bench.settled(), [3], "the describe itself has nothing to wait for");
    settle(items);
    assert_eq!(bench.settled(), [3, 0, 1, 2]);
    assert_eq!(bench.gauges.held_frames.load(Ordering::Relaxed), 0);
    assert_eq!((bench.counts().stored, bench.malformed()), (3, 0));
}

#[test]
fn a_describe_of_another_revision_releases_nothing() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    device.catalogue = 99;
    assert!(bench.message(&device.burst(0, &[1])).is_empty());
    device.catalogue = revision();
    assert!(batches(&bench.message(&device.describe(wire::ClockBase::Utc))).is_empty());
    device.catalogue = 99;
    let items = bench.message(&device.describe(wire::ClockBase::Utc));
    assert_eq!(batches(&items).len(), 1);
    settle(items);
    assert_eq!(bench.counts().stored, 1);
}

#[test]
fn a_copy_is_durable_before_d_so_that_the_describe_behind_it_can_come() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    let describe = device.describe(wire::ClockBase::Utc);
    let frame = device.burst(0, &[1, 2]);
    assert!(bench.message(&frame).is_empty());
    let at = bench.stage.deadline().unwrap();
    assert_eq!(at, bench.began + DURABLE_WITHIN / 2);
    let mut copies = Vec::new();
    bench.stage.on_deadline(at - Duration::from_nanos(1), &mut copies);
    assert!(copies.is_empty(), "too early");
    bench.stage.on_deadline(at, &mut copies);
    let Item::Malformed(copy) = &copies[0] else { panic!("{copies:?}") };
    assert_eq!((&*copy.payload, &*copy.topic), (&*frame, "pitwire/44/ecu"));
    assert_eq!(bench.stage.deadline(), None, "once");
    assert_eq!((bench.settled().len(), bench.malformed()), (0, 0), "it is not malformed, nor durable yet");
    settle(copies);
    assert_eq!(bench.settled(), [0]);
    let items = bench.message(&describe);
    assert_eq!(batches(&items)[0].samples(), 2, "decoded all the same");
    settle(items);
    assert_eq!((bench.settled(), bench.counts().stored), (vec![0, 1], 2));
}

#[test]
fn a_repetition_of_a_held_frame_waits_with_it() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    let frame = device.burst(0, &[1]);
    assert!(bench.message(&frame).is_empty());
    assert!(bench.message(&frame).is_empty());
    assert_eq!(bench.settled(), [0; 0]);
    let items = bench.message(&device.describe(wire::ClockBase::Utc));
    assert_eq!(batches(&items).len(), 1);
    settle(items);
    let mut settled = bench.settled();
    settled.sort_unstable();
    assert_eq!(settled, [0, 1, 2]);
}

#[test]
fn what_is_held_is_bounded_and_the_oldest_go_to_the_quarantine() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    let mut quarantined = Vec::new();
    for t in 0..HELD_FRAMES_MAX as i64 + 10 {
        quarantined.extend(bench.message(&device.burst(t, &[1])));
    }
    assert_eq!(quarantined.len(), 10);
    assert_eq!(bench.gauges.held_frames.load(Ordering::Relaxed), HELD_FRAMES_MAX as u64);
    assert!(reasons(&quarantined).iter().all(|reason| reason.contains("sent no describe")));
    settle(quarantined);
    assert_eq!(bench.settled(), (0..10).collect::<Vec<_>>());
    let items = bench.message(&device.describe(wire::ClockBase::Utc));
    assert_eq!(batches(&items).len(), HELD_FRAMES_MAX);
    settle(items);
    assert_eq!(bench.counts().stored, HELD_FRAMES_MAX as u64);
}

#[test]
fn what_all_devices_hold_together_is_bounded_too() {
    let mut bench = Bench::new();
    let values = [7; 2_000];
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut quarantined = 0;
    for name in names {
        let mut device = Device::new(name);
        let mut held = 0;
        while held < HELD_BYTES_MAX {
            let frame = device.burst(0, &values);
            held += frame.len();
            let items = bench.message(&frame);
            quarantined += items.len();
            settle(items);
        }
    }
    let held = bench.gauges.held_frames.load(Ordering::Relaxed) as usize;
    assert!(held * (2 * values.len()) <= HELD_BYTES_ALL_MAX, "{held}");
    assert!(quarantined > 0);
    assert_eq!(bench.malformed() as usize, quarantined);
}

#[test]
fn at_the_end_a_serial_ports_frames_are_quarantined_and_a_brokers_are_left_to_it() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    assert!(bench.message(&device.burst(0, &[1])).is_empty());
    assert!(bench.stream(&to_stream(&device.burst(10_000, &[2]))).is_empty());
    let mut out = Vec::new();
    bench.stage.finish(&mut out);
    assert_eq!(reasons(&out), ["the agent stopped before the frame's catalogue came"]);
    settle(out);
    assert_eq!(bench.settled(), [0; 0], "its broker sends it again");
}

#[test]
fn catalogues_of_earlier_runs_are_used_at_once_and_the_newest_are_kept() {
    let mut first = Bench::new();
    let mut device = Device::new("ecu");
    for revision in 100..106 {
        device.catalogue = revision;
        settle(first.message(&device.describe(wire::ClockBase::Utc)));
    }
    let known = first.remembered.lock().unwrap().clone();
    assert_eq!(known.len(), 6);
    let mut later = Bench::with(known, FormatName::Wire, |_| ());
    let items = later.message(&device.burst(0, &[5]));
    assert_eq!(batches(&items).len(), 1, "the newest revision is known");
    settle(items);
    assert_eq!(later.counts().stored, 1);
}

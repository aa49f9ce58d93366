//! The device, as its main loop sees it.

use pitwire_wire::{ChannelEntry, ClockBase, DeviceName, EventKind, Payload, Value, ValueKind, Values, decode};

use super::*;

fn channel(id: u16, group: u8) -> ChannelEntry<'static> {
    ChannelEntry {
        id,
        kind: ValueKind::I16,
        group,
        scale: 0.5,
        offset: 0.0,
        rate_mhz: 100_000,
        name: ["a", "b", "c"][usize::from(id) - 1],
        unit: "",
    }
}

const LANES: [LaneConfig; 2] =
    [LaneConfig { group: 1, period_ns: 10_000_000 }, LaneConfig { group: 0, period_ns: 10_000_000 }];

fn device<'c>(channels: &'c [ChannelEntry<'c>], base: ClockBase) -> Device<'c> {
    let clock = Clock::new(base, 1_000_000_000);
    Device::new(DeviceName::new("ecu").unwrap(), clock, 7, channels, &LANES).unwrap()
}

/// Runs for so many ms and takes rows as they fall due.
fn run<const N: usize>(device: &mut Device<'_>, ms: u32, queue: &mut Queue<N>) {
    for _ in 0..ms {
        device.clock_mut().advance(1_000_000);
        device.tick(queue).unwrap();
        let lane = &device.lanes()[0];
        for index in lane.next()..lane.due_end(device.clock().local_ns()) {
            let value = Value::I16(index as i16);
            device.row(0, &[value, value], queue).unwrap();
        }
    }
}

#[test]
fn rows_stand_on_the_grid_of_the_clock_and_frames_close_by_age() {
    let channels = [channel(1, 1), channel(2, 1), channel(3, 0)];
    let mut device = device(&channels, ClockBase::Utc);
    let mut queue = Queue::<64>::new();
    run(&mut device, 500, &mut queue);
    device.flush(&mut queue).unwrap();
    let (mut next_us, mut rows) = (1_000_000_000, 0);
    while let Some(frame) = queue.pop() {
        if let (header, Payload::Scan(scan)) = decode(&frame).unwrap() {
            assert_eq!(header.t0_us, next_us);
            assert!(scan.count <= 6, "{} rows in a frame", scan.count);
            next_us += i64::from(scan.count) * 10_000;
            rows += scan.count;
        }
    }
    assert_eq!(rows, 50);
}

#[test]
fn full_queue_refuses_whole_frames_and_the_status_says_so() {
    let channels = [channel(1, 1), channel(2, 1), channel(3, 0)];
    let mut device = device(&channels, ClockBase::Boot);
    let mut queue = Queue::<4>::new();
    run(&mut device, 900, &mut queue);
    let (made, dropped) = device.samples();
    assert!(dropped > 0 && dropped < made, "{dropped} of {made}");
    let kept = queue.len();
    assert_eq!(kept, 4);
    while queue.pop().is_some() {}
    run(&mut device, 200, &mut queue);
    let mut status = None;
    let mut before = 0;
    while let Some(frame) = queue.pop() {
        let (header, payload) = decode(&frame).unwrap();
        assert!(header.sequence > 4, "a gap in the sequence");
        match payload {
            Payload::Status(s) => status = Some((s, before)),
            Payload::Scan(scan) => before += u64::from(scan.count) * 2,
            _ => {}
        }
    }
    let (status, before) = status.expect("a status within 1.1 s");
    assert_eq!(status.samples_dropped, dropped);
    assert!(status.samples_before >= made, "{status:?} {before}");
}

#[test]
fn drift_moves_device_time_exactly() {
    let mut clock = Clock::new(ClockBase::Boot, 0);
    clock.set_drift_ppm(50.0);
    (0..100_000).for_each(|_| clock.advance(1_000_001));
    assert_eq!(clock.local_ns(), 100_000_100_000 + 100_000_100_000 / 20_000);
    let mut slow = Clock::new(ClockBase::Boot, 0);
    slow.set_drift_ppm(-50.0);
    (0..1_000).for_each(|_| slow.advance(1_000_000));
    assert_eq!(slow.local_ns(), 1_000_000_000 - 50_000);
}

#[test]
fn reboot_begins_a_new_boot_with_sequence_0_and_describes_itself() {
    for (base, expected_us) in [(ClockBase::Boot, 1_000), (ClockBase::Utc, 1_000_031_000)] {
        let channels = [channel(1, 1), channel(2, 1), channel(3, 0)];
        let mut device = device(&channels, base);
        let mut queue = Queue::<64>::new();
        run(&mut device, 30, &mut queue);
        while queue.pop().is_some() {}
        device.reboot(8);
        run(&mut device, 1, &mut queue);
        let (header, payload) = decode(queue.front().unwrap()).unwrap();
        assert_eq!((header.boot, header.sequence, header.t0_us), (8, 0, expected_us), "{base:?}");
        assert!(matches!(payload, Payload::Describe(_)));
    }
}

#[test]
fn step_back_begins_a_new_boot_and_a_step_forward_does_not() {
    let channels = [channel(1, 1), channel(2, 1), channel(3, 0)];
    let mut device = device(&channels, ClockBase::Utc);
    let mut queue = Queue::<64>::new();
    run(&mut device, 30, &mut queue);
    device.step_clock(3_600_000_000, 8);
    assert_eq!((device.boot(), device.clock().now_us()), (7, 4_600_030_000));
    device.step_clock(-1_000_000, 9);
    assert_eq!((device.boot(), device.clock().now_us(), device.next_sequence()), (9, 4_599_030_000, 0));
}

#[test]
fn wrong_rows_lanes_and_texts_are_refused() {
    let channels = [channel(1, 1), channel(2, 1), channel(3, 0)];
    let mut device = device(&channels, ClockBase::Utc);
    let mut queue = Queue::<4>::new();
    assert!(device.row(0, &[Value::I16(1)], &mut queue).is_err(), "a row without its second channel");
    assert!(device.row(1, &[Value::I16(1)], &mut queue).is_err(), "a row in a lane of bursts");
    assert!(device.burst(9, 3, 0, Values::I16(&[1]), &mut queue).is_err(), "no such lane");
    assert!(device.event(EventKind::Text, 0, &"x".repeat(256), &mut queue).is_err());
    assert_eq!(device.next_sequence(), 0, "what was refused has no sequence");
}

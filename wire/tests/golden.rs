//! Both directions of every frame kind against bytes written by hand.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::golden::{self, hex};
use pitwire_wire::{
    Burst, ChannelEntry, ClockBase, DecodeError, Describe, DeviceName, Event, EventKind, Header, Payload, Scan,
    ScanWriter, Status, Value, ValueKind, Values, catalogue_revision, decode, describe_parts, encode, frame_to_stream,
};

const CHANNELS: [ChannelEntry<'_>; 3] = [
    ChannelEntry {
        id: 1,
        kind: ValueKind::I16,
        group: 0,
        scale: 0.5,
        offset: 0.0,
        rate_mhz: 100_000,
        name: "engine.rpm",
        unit: "rpm",
    },
    ChannelEntry {
        id: 2,
        kind: ValueKind::F32,
        group: 1,
        scale: 1.0,
        offset: -40.0,
        rate_mhz: 10_000,
        name: "coolant.temp",
        unit: "°C",
    },
    ChannelEntry {
        id: 3,
        kind: ValueKind::I16,
        group: 1,
        scale: 0.01,
        offset: 0.0,
        rate_mhz: 10_000,
        name: "throttle",
        unit: "%",
    },
];

fn ecu(sequence: u32, t0_us: i64) -> Header {
    Header { catalogue: golden::CATALOGUE, boot: 7, sequence, t0_us, device: DeviceName::new("ecu").unwrap() }
}

fn gps(sequence: u32, t0_us: i64) -> Header {
    Header { catalogue: 0, boot: 0xdead_beef, sequence, t0_us, device: DeviceName::new("gps-1").unwrap() }
}

#[track_caller]
fn check(header: Header, payload: Payload<'_>, golden: &str) {
    let golden = hex(golden);
    let mut out = [0; 256];
    let len = encode(&header, &payload, &mut out).unwrap();
    assert_eq!(out[..len], golden, "encoded bytes");
    assert_eq!(decode(&golden), Ok((header, payload)), "decoded frame");
}

#[test]
fn describe_has_its_golden_bytes() {
    let describe = Describe::new(0, 1, ClockBase::Boot, 3, &CHANNELS);
    check(ecu(0, 0), Payload::Describe(describe), golden::DESCRIBE);
}

#[test]
fn a_catalogue_of_one_part_is_cut_into_the_golden_describe() {
    let parts: Vec<_> = describe_parts(&CHANNELS, ClockBase::Boot, 1024, 3).unwrap().map(Payload::Describe).collect();
    assert_eq!(parts.len(), 1);
    check(ecu(0, 0), parts[0].clone(), golden::DESCRIBE);
}

#[test]
fn the_catalogue_revision_is_the_crc_of_its_entries() {
    assert_eq!(catalogue_revision(&CHANNELS), Ok(golden::CATALOGUE));
    let bytes = hex(golden::DESCRIBE);
    let entries = &bytes[32..bytes.len() - 4];
    assert_eq!(pitwire_wire::crc32(entries), golden::CATALOGUE);
}

#[test]
fn bursts_have_their_golden_bytes_in_every_value_kind() {
    let burst = Burst { channel: 1, period_ns: 10_000_000, values: Values::I16(&[2000, 2010, -1]) };
    check(ecu(1, 1_000_000), Payload::Burst(burst), golden::BURST);
    let burst = Burst { channel: 513, period_ns: 0, values: Values::I32(&[-471_234_567]) };
    check(gps(0xffff_fffe, 1_700_000_000_123_456), Payload::Burst(burst), golden::BURST_I32);
    let burst = Burst { channel: u16::MAX, period_ns: 272_702, values: Values::F32(&[-0.5, f32::INFINITY]) };
    check(gps(65_536, -1), Payload::Burst(burst), golden::BURST_F32);
}

#[test]
fn scan_has_its_golden_bytes_and_columns() {
    let mut buffer = [0; 12];
    let mut writer = ScanWriter::new(&mut buffer);
    for value in [Value::F32(90.5), Value::I16(5000), Value::F32(90.75), Value::I16(0)] {
        writer.push(value).unwrap();
    }
    let scan = Scan { group: 1, period_ns: 100_000_000, count: 2, data: writer.data() };
    check(ecu(2, 1_000_000), Payload::Scan(scan), golden::SCAN);
    assert_eq!(scan.row_bytes(), 6);
    assert_eq!(scan.column(0, ValueKind::F32), Some(Values::F32(&[90.5, 90.75])));
    assert_eq!(scan.column(4, ValueKind::I16), Some(Values::I16(&[5000, 0])));
    let throttle = scan.column(4, ValueKind::I16).unwrap();
    assert_eq!(throttle.i16s().unwrap().collect::<Vec<_>>(), [5000, 0]);
    assert_eq!(throttle.raw(), None, "a column of wider rows has gaps");
    let coolant = scan.column(0, ValueKind::F32).unwrap();
    assert_eq!(coolant.f32s().unwrap().collect::<Vec<_>>(), [90.5, 90.75]);
    assert_eq!(scan.column(4, ValueKind::I32), None);
    assert_eq!(scan.time_us(1_000_000, 1), 1_100_000);
}

#[test]
fn event_has_its_golden_bytes() {
    let event = Event { kind: EventKind::Lap, number: 12, text: "box box" };
    check(ecu(3, 1_010_000), Payload::Event(event), golden::EVENT);
}

#[test]
fn status_has_its_golden_bytes() {
    let status = Status { samples_before: 7, samples_dropped: 3, resets: 1 };
    check(ecu(4, 1_100_000), Payload::Status(status), golden::STATUS);
}

#[test]
fn a_frame_has_its_golden_bytes_on_a_serial_line() {
    let mut out = [0; 64];
    let len = frame_to_stream(&hex(golden::EVENT), &mut out).unwrap();
    assert_eq!(out[..len], hex(golden::EVENT_STREAM));
}

#[test]
fn a_frame_of_another_version_is_named_before_its_crc_is_judged() {
    let mut bytes = hex(golden::STATUS);
    bytes[0] = 2;
    assert_eq!(decode(&bytes), Err(DecodeError::Version(2)));
}

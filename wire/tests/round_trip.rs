//! Frames come back as they were sent, and what breaks a rule is not sent at all.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::arbitrary::{frame, header};
use common::{Found, assert_accounted, push_all, stream_of};
use pitwire_wire::limits::{
    CATALOGUE_CHANNELS_MAX, FRAME_BYTES_MAX, STREAM_BYTES_MAX, burst_values_max, cobs_bytes_max, scan_rows_max,
};
use pitwire_wire::{
    Burst, ChannelEntry, ClockBase, Deframer, Describe, DeviceName, EncodeError, Event, EventKind, Header, Payload,
    Scan, Status, ValueKind, Values, catalogue_revision, decode, describe_parts, encode, encode_stream,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_frame_decodes_to_what_was_encoded((header, owned, bytes) in frame()) {
        owned.with(|payload| {
            prop_assert_eq!(decode(&bytes), Ok((header.clone(), payload)));
            Ok(())
        })?;
        // A decoded payload encodes again to the same bytes.
        let (header, payload) = decode(&bytes).unwrap();
        let mut again = [0; FRAME_BYTES_MAX];
        let len = encode(&header, &payload, &mut again).unwrap();
        prop_assert_eq!(&again[..len], &bytes[..]);
    }

    #[test]
    fn a_frame_comes_back_from_a_serial_line((_, _, bytes) in frame()) {
        let stream = stream_of(&bytes);
        prop_assert!(stream.len() <= cobs_bytes_max(bytes.len()) + 1);
        prop_assert_eq!(stream.iter().position(|&b| b == 0), Some(stream.len() - 1));
        let mut deframer = Deframer::new();
        let found = push_all(&mut deframer, &stream);
        prop_assert_eq!(&found, &vec![Found::Frame(bytes)]);
        assert_accounted(&deframer, stream.len(), &found);
    }

    #[test]
    fn a_burst_of_the_stated_capacity_fits_and_one_more_does_not(
        header in header(),
        frame_bytes in 64..=FRAME_BYTES_MAX,
    ) {
        let header = Header { t0_us: 0, ..header };
        let device_bytes = header.device.as_str().len();
        let n = burst_values_max(frame_bytes, device_bytes, ValueKind::I16);
        let values = vec![-1_i16; n + 1];
        let encode_n = |n: usize| {
            let values = Values::I16(&values[..n]);
            let burst = Payload::Burst(Burst { channel: 1, period_ns: 1_000, values });
            encode(&header, &burst, &mut vec![0; frame_bytes])
        };
        prop_assert!(encode_n(n).is_ok());
        let full = if frame_bytes == FRAME_BYTES_MAX {
            EncodeError::TooLong
        } else {
            EncodeError::BufferFull
        };
        prop_assert_eq!(encode_n(n + 1), Err(full));
    }
}

fn ecu() -> Header {
    Header { catalogue: 1, boot: 2, sequence: 3, t0_us: 4, device: DeviceName::new("ecu").unwrap() }
}

#[track_caller]
fn refused(header: &Header, payload: Payload<'_>, field: &'static str) {
    let mut out = [0; FRAME_BYTES_MAX];
    assert_eq!(encode(header, &payload, &mut out), Err(EncodeError::Field(field)));
}

fn channel(id: u16, name: &str) -> ChannelEntry<'_> {
    ChannelEntry { id, kind: ValueKind::I16, group: 0, scale: 1.0, offset: 0.0, rate_mhz: 0, name, unit: "" }
}

#[test]
fn sample_times_follow_the_period_in_nanoseconds() {
    let burst = Burst { channel: 1, period_ns: 272_702, values: Values::I16(&[0; 4]) };
    let times = [0, 1, 2, 3].map(|i| burst.time_us(-100, i));
    assert_eq!(times, [-100, 172, 445, 718]);
}

#[test]
fn a_burst_whose_times_would_not_increase_is_refused() {
    let burst = |period_ns, values| Payload::Burst(Burst { channel: 1, period_ns, values: Values::I16(values) });
    refused(&ecu(), burst(999, &[1, 2]), "period_ns");
    let late = Header { t0_us: i64::MAX, ..ecu() };
    refused(&late, burst(1_000, &[1, 2]), "t0");
    assert!(encode(&late, &burst(0, &[1]), &mut [0; 64]).is_ok());
}

#[test]
fn a_scan_of_unequal_rows_or_without_a_group_is_refused() {
    let scan = |group, count, data| Payload::Scan(Scan { group, period_ns: 1_000, count, data });
    refused(&ecu(), scan(0, 1, &[0, 0]), "group");
    refused(&ecu(), scan(1, 2, &[0; 5]), "data_bytes");
    refused(&ecu(), scan(1, 2, &[]), "data_bytes");
    refused(&ecu(), scan(1, 0, &[0, 0]), "data_bytes");
    assert!(encode(&ecu(), &scan(1, 0, &[]), &mut [0; 64]).is_ok());
}

#[test]
fn a_catalogue_that_breaks_a_rule_is_refused() {
    fn describe<'a>(channels: &'a [ChannelEntry<'a>]) -> Payload<'a> {
        Payload::Describe(Describe::new(0, 1, ClockBase::Utc, 2, channels))
    }
    refused(&ecu(), describe(&[channel(1, "a"), channel(1, "b")]), "channel id");
    refused(&ecu(), describe(&[channel(2, "a"), channel(1, "b")]), "channel id");
    refused(&ecu(), describe(&[channel(1, "Upper")]), "name");
    refused(&ecu(), describe(&[channel(1, "")]), "name");
    let mut bad = channel(1, "a");
    bad.scale = f64::NAN;
    refused(&ecu(), describe(&[bad]), "scale");
    assert_eq!(catalogue_revision(&[bad]), Err(EncodeError::Field("scale")));
    bad = channel(1, "a");
    bad.unit = "seventeen bytes!!";
    refused(&ecu(), describe(&[bad]), "unit");
    let three = [channel(1, "a"), channel(2, "b"), channel(3, "c")];
    refused(&ecu(), describe(&three), "total_channels");
    let part = Describe::new(1, 1, ClockBase::Utc, 0, &[]);
    refused(&ecu(), Payload::Describe(part), "part");
}

#[test]
fn a_text_longer_than_its_length_byte_is_refused() {
    let text = "x".repeat(256);
    let event = Event { kind: EventKind::Text, number: 0, text: &text };
    refused(&ecu(), Payload::Event(event), "text");
}

#[test]
fn a_status_that_dropped_more_than_it_made_is_refused() {
    let status = Status { samples_before: 1, samples_dropped: 2, resets: 0 };
    refused(&ecu(), Payload::Status(status), "samples_dropped");
}

#[test]
fn device_names_keep_to_their_characters_and_length() {
    for good in ["a", "ecu-1", "wheel.fl_2", "0123456789abcdef"] {
        assert_eq!(DeviceName::new(good).unwrap().as_str(), good);
    }
    for bad in ["", "ECU", "a b", "a/b", "é", "0123456789abcdefg"] {
        assert!(DeviceName::new(bad).is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn the_largest_catalogue_is_cut_into_parts_that_list_each_channel_once() {
    let names: Vec<_> =
        (0..CATALOGUE_CHANNELS_MAX).map(|i| format!("wheel.front-left.tyre.surface.temperature.{i:04}")).collect();
    let channels: Vec<_> = (0..).zip(&names).map(|(i, n)| channel(i * 7, n)).collect();
    let header = ecu();
    for frame_bytes in [512, 1024, 4096] {
        let mut listed = Vec::new();
        let mut frames = Vec::new();
        for part in describe_parts(&channels, ClockBase::Utc, frame_bytes, 3).unwrap() {
            let mut out = vec![0; frame_bytes];
            let len = encode(&header, &Payload::Describe(part), &mut out).unwrap();
            out.truncate(len);
            frames.push(out);
        }
        for (i, frame) in frames.iter().enumerate() {
            let (_, Payload::Describe(part)) = decode(frame).unwrap() else {
                panic!("part {i} is no describe");
            };
            assert_eq!(usize::from(part.part), i);
            assert_eq!(usize::from(part.parts), frames.len());
            assert_eq!(usize::from(part.total_channels), channels.len());
            listed.extend(part.channels());
        }
        assert_eq!(listed, channels, "at {frame_bytes} bytes a frame");
        assert_eq!(catalogue_revision(&listed), catalogue_revision(&channels));
    }
    assert!(matches!(describe_parts(&channels, ClockBase::Utc, 256, 3), Err(EncodeError::Field("parts"))));
    assert!(matches!(describe_parts(&channels, ClockBase::Utc, 64, 3), Err(EncodeError::TooLong)));
}

#[test]
fn a_device_without_channels_still_describes_itself() {
    let parts: Vec<_> = describe_parts(&[], ClockBase::Boot, 1024, 3).unwrap().collect();
    assert_eq!(parts, [Describe::new(0, 1, ClockBase::Boot, 0, &[])]);
}

#[test]
fn a_scan_of_the_stated_capacity_fits_and_one_row_more_does_not() {
    let data = [0x5a; FRAME_BYTES_MAX];
    let rows = scan_rows_max(1024, 3, 14);
    let encode_rows = |rows: usize| {
        let scan = Scan { group: 1, period_ns: 1_000, count: rows as u16, data: &data[..rows * 14] };
        encode(&ecu(), &Payload::Scan(scan), &mut [0; 1024])
    };
    assert!(encode_rows(rows).is_ok());
    assert_eq!(encode_rows(rows + 1), Err(EncodeError::BufferFull));
}

#[test]
fn no_buffer_that_is_too_small_is_written_past_or_panics() {
    let payload = Payload::Event(Event { kind: EventKind::Marker, number: 1, text: "here" });
    let (mut frame, mut stream) = ([0; FRAME_BYTES_MAX], [0; STREAM_BYTES_MAX]);
    let frame_len = encode(&ecu(), &payload, &mut frame).unwrap();
    let stream_len = encode_stream(&ecu(), &payload, &mut frame, &mut stream).unwrap();
    for n in 0..frame_len {
        let got = encode(&ecu(), &payload, &mut frame[..n]);
        assert_eq!(got, Err(EncodeError::BufferFull), "frame buffer of {n}");
    }
    for n in 0..stream_len {
        let got = encode_stream(&ecu(), &payload, &mut frame, &mut stream[..n]);
        assert_eq!(got, Err(EncodeError::BufferFull), "stream buffer of {n}");
    }
    let too_long = [1; FRAME_BYTES_MAX + 1];
    assert_eq!(pitwire_wire::frame_to_stream(&too_long, &mut [0; 8192]), Err(EncodeError::TooLong));
}

#[test]
fn values_are_read_in_their_own_kind_only() {
    let burst = Payload::Burst(Burst { channel: 1, period_ns: 1_000, values: Values::I16(&[1, -2]) });
    let mut out = [0; 64];
    let len = encode(&ecu(), &burst, &mut out).unwrap();
    let (_, Payload::Burst(burst)) = decode(&out[..len]).unwrap() else {
        panic!("no burst");
    };
    let values = burst.values;
    assert_eq!((values.kind(), values.len()), (ValueKind::I16, 2));
    assert_eq!(values.i16s().unwrap().collect::<Vec<_>>(), [1, -2]);
    assert!(values.i32s().is_none() && values.f32s().is_none());
    assert_eq!(values.raw(), Some(&[1, 0, 0xfe, 0xff][..]));
    assert_eq!(values.iter().map(|v| v.as_f64()).sum::<f64>(), -1.0);
    assert_eq!(values.get(2), None);
}

//! Damaged and hostile bytes: nothing panics, and damage never passes for a frame.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::arbitrary::frame;
use common::golden::{self, hex};
use common::{Found, assert_accounted, push_all, stream_of};
use pitwire_wire::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use pitwire_wire::{DecodeError, Deframer, FrameKind, Payload, Totals, crc32, decode};
use proptest::collection::vec;
use proptest::prelude::*;

const GOLDEN: [&str; 7] = [
    golden::DESCRIBE,
    golden::BURST,
    golden::BURST_I32,
    golden::BURST_F32,
    golden::SCAN,
    golden::EVENT,
    golden::STATUS,
];

/// Makes the CRC right again, as a sender with a wrong encoder would.
fn seal(mut body: Vec<u8>) -> Vec<u8> {
    let crc = crc32(&body);
    body.extend_from_slice(&crc.to_le_bytes());
    body
}

/// The golden frame without its CRC.
fn body(golden: &str) -> Vec<u8> {
    let mut bytes = hex(golden);
    bytes.truncate(bytes.len() - 4);
    bytes
}

/// Reads all that a payload can say, so that every iterator runs.
fn read_whole(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::Describe(d) => d.channels().map(|c| c.name.len() + c.unit.len()).sum(),
        Payload::Burst(b) => b.values.iter().count(),
        Payload::Scan(s) => (0..=s.row_bytes())
            .flat_map(|at| s.column(at, pitwire_wire::ValueKind::I16))
            .map(|column| column.iter().count())
            .sum(),
        Payload::Event(e) => e.text.len(),
        Payload::Status(_) => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic_the_decoder(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_under_a_good_crc_never_panic_the_decoder(
        kind in 0..7_u8,
        rest in vec(any::<u8>(), 0..300),
    ) {
        let mut body = vec![1, kind];
        body.extend_from_slice(&rest);
        if let Ok((_, payload)) = decode(&seal(body)) {
            read_whole(&payload);
        }
    }

    #[test]
    fn a_valid_frame_with_changed_bytes_under_a_good_crc_never_panics(
        (_, _, bytes) in frame(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = bytes[..bytes.len() - 4].to_vec();
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        if let Ok((header, payload)) = decode(&seal(body)) {
            read_whole(&payload);
            let mut out = [0; FRAME_BYTES_MAX];
            prop_assert!(pitwire_wire::encode(&header, &payload, &mut out).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_deframer_and_are_all_accounted_for(
        bytes in vec(any::<u8>(), 0..3000),
    ) {
        let mut deframer = Deframer::new();
        let found = push_all(&mut deframer, &bytes);
        assert_accounted(&deframer, bytes.len(), &found);
    }
}

#[test]
fn a_frame_cut_at_any_offset_is_refused() {
    for golden in GOLDEN {
        let bytes = hex(golden);
        for n in 0..bytes.len() {
            let expected = if n < FRAME_BYTES_MIN { DecodeError::TooShort } else { DecodeError::Crc };
            assert_eq!(decode(&bytes[..n]), Err(expected), "cut at {n}");
        }
    }
}

#[test]
fn a_body_cut_at_any_offset_under_a_good_crc_is_refused() {
    for golden in GOLDEN {
        let body = body(golden);
        for n in 1..body.len() {
            let cut = seal(body[..n].to_vec());
            assert!(decode(&cut).is_err(), "body cut at {n}: {cut:02x?}");
        }
    }
}

#[test]
fn each_byte_flipped_anywhere_in_a_frame_is_noticed() {
    for golden in GOLDEN {
        let bytes = hex(golden);
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= mask;
                let expected = match at {
                    0 => DecodeError::Version(bytes[0]),
                    _ => DecodeError::Crc,
                };
                assert_eq!(decode(&bytes), Err(expected), "byte {at} ^ {mask:#x}");
            }
        }
    }
}

#[test]
fn each_byte_flipped_on_the_line_costs_at_most_the_frames_it_touches() {
    let frames: Vec<_> = GOLDEN.map(hex).to_vec();
    let streams: Vec<_> = frames.iter().map(|f| stream_of(f)).collect();
    let whole: Vec<u8> = streams.concat();
    for at in 0..whole.len() {
        for mask in [0x01, 0x10, 0xff] {
            let mut line = whole.clone();
            line[at] ^= mask;
            let mut deframer = Deframer::new();
            let found = push_all(&mut deframer, &line);
            assert_accounted(&deframer, line.len(), &found);
            let mut end = 0;
            let hit = streams.iter().position(|s| {
                end += s.len();
                at < end
            });
            let expected: Vec<_> =
                (0..frames.len()).filter(|&i| Some(i) != hit).map(|i| frames[i].as_slice()).collect();
            if line[whole.len() - 1] == 0 {
                assert_eq!(common::frames(&found), expected, "byte {at} ^ {mask:#x}");
            } else {
                // The last delimiter itself was hit: its frame is still held.
                assert_eq!(common::frames(&found), &expected[..]);
                assert!(deframer.totals().held_bytes > 0);
            }
        }
    }
}

#[test]
fn a_frame_on_the_line_cut_at_any_offset_is_garbage_and_the_next_arrives() {
    let next = hex(golden::STATUS);
    for golden in GOLDEN {
        let cut = stream_of(&hex(golden));
        for n in 0..cut.len() - 1 {
            for delimiter in [&[][..], &[0]] {
                let line = [&cut[..n], delimiter, &stream_of(&next)].concat();
                let mut deframer = Deframer::new();
                let found = push_all(&mut deframer, &line);
                assert_accounted(&deframer, line.len(), &found);
                assert_eq!(common::frames(&found), [&next], "cut at {n}");
                assert_eq!(deframer.totals().garbage_bytes, n as u64);
            }
        }
    }
}

#[test]
fn inner_faults_under_a_good_crc_name_the_field() {
    let cases: [(&str, usize, u8, DecodeError); 14] = [
        (golden::STATUS, 1, 0, DecodeError::Kind(0)),
        (golden::STATUS, 1, 6, DecodeError::Kind(6)),
        (golden::STATUS, 22, 0, DecodeError::Field("device")),
        (golden::STATUS, 23, b'E', DecodeError::Field("device")),
        (golden::STATUS, 24, 0xff, DecodeError::Field("device")),
        (golden::STATUS, 34, 9, DecodeError::Field("samples_dropped")),
        (golden::EVENT, 26, 0, DecodeError::Field("event_kind")),
        (golden::EVENT, 35, 8, DecodeError::Overrun),
        (golden::EVENT, 35, 6, DecodeError::Trailing),
        (golden::BURST, 28, 4, DecodeError::Field("value_kind")),
        (golden::BURST, 33, 4, DecodeError::Overrun),
        (golden::BURST, 33, 2, DecodeError::Trailing),
        (golden::SCAN, 26, 0, DecodeError::Field("group")),
        (golden::DESCRIBE, 28, 2, DecodeError::Field("clock_base")),
    ];
    for (golden, at, value, expected) in cases {
        let mut body = body(golden);
        body[at] = value;
        assert_eq!(decode(&seal(body)), Err(expected), "byte {at} = {value}");
    }
    let oversized = vec![1; FRAME_BYTES_MAX + 1];
    assert_eq!(decode(&oversized), Err(DecodeError::TooLong));
}

#[test]
fn errors_say_what_was_wrong() {
    let text = |e: DecodeError| e.to_string();
    assert_eq!(text(DecodeError::Version(2)), "decode frame: version 2, expected 1");
    assert_eq!(text(DecodeError::Kind(9)), "decode frame: unknown kind 9, expected 1 to 5");
    assert_eq!(text(DecodeError::Field("unit")), "decode frame: unit is out of bounds");
}

#[test]
fn every_kind_byte_names_its_kind_and_no_other_does() {
    for code in 0..=u8::MAX {
        match FrameKind::from_code(code) {
            Some(kind) => assert_eq!(kind.code(), code),
            None => assert!(!(1..=5).contains(&code), "kind {code} is unknown"),
        }
    }
    assert_eq!(FrameKind::ALL.map(FrameKind::code), [1, 2, 3, 4, 5]);
}

#[test]
fn a_reset_gives_up_the_block_that_has_begun() {
    let mut deframer = Deframer::new();
    let frame = hex(golden::EVENT);
    assert_eq!(push_all(&mut deframer, &stream_of(&frame)[..20]), []);
    assert_eq!(deframer.totals().held_bytes, 20);
    assert_eq!(deframer.reset(), 20);
    assert_eq!(deframer.reset(), 0);
    let found = push_all(&mut deframer, &stream_of(&frame));
    assert_eq!(found, [Found::Frame(frame)]);
    assert_eq!(
        deframer.totals(),
        Totals { frames: 1, frame_bytes: 48, delimiter_bytes: 1, garbage_bytes: 20, held_bytes: 0 }
    );
}

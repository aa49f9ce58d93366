//! The deframer finds the frames again, whatever came before them.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::arbitrary::frame;
use common::golden::{self, hex};
use common::{Found, Numbers, assert_accounted, frames, push_all, stream_of};
use pitwire_wire::limits::{ENCODED_BYTES_MAX, FRAME_BYTES_MAX};
use pitwire_wire::{Burst, Deframer, DeviceName, GarbageReason, Header, Payload, Scan, Values, encode};
use proptest::collection::vec;
use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn burst(sequence: u32, values: &[i16]) -> Vec<u8> {
    let header = Header {
        catalogue: 0x0102_0304,
        boot: 1,
        sequence,
        t0_us: 1_700_000_000_000_000,
        device: DeviceName::new("ecu").unwrap(),
    };
    let burst = Burst { channel: 1, period_ns: 1_000_000, values: Values::I16(values) };
    let mut out = vec![0; FRAME_BYTES_MAX];
    let len = encode(&header, &Payload::Burst(burst), &mut out).unwrap();
    out.truncate(len);
    out
}

/// Pushes `garbage` and directly after it the frames; all frames must come out.
fn check_resync(garbage: &[u8], sent: &[Vec<u8>]) -> Deframer {
    let mut line = garbage.to_vec();
    for frame in sent {
        line.extend(stream_of(frame));
    }
    let mut deframer = Deframer::new();
    let found = push_all(&mut deframer, &line);
    assert_accounted(&deframer, line.len(), &found);
    assert_eq!(frames(&found), sent.iter().collect::<Vec<_>>());
    assert_eq!(deframer.totals().held_bytes, 0);
    deframer
}

#[test]
fn every_frame_after_a_mebibyte_of_random_bytes_arrives() {
    for seed in 0..8 {
        let garbage = Numbers(seed).bytes(MIB);
        let sent: Vec<_> = (0..100).map(|i| burst(i, &[i as i16; 40])).collect();
        let totals = check_resync(&garbage, &sent).totals();
        let zeros = garbage.iter().filter(|&&b| b == 0).count();
        assert_eq!(totals.garbage_bytes, (MIB - zeros) as u64);
    }
}

#[test]
fn every_frame_after_a_mebibyte_without_any_delimiter_arrives() {
    for seed in 0..8 {
        let mut garbage = Numbers(seed).bytes(MIB);
        garbage.iter_mut().for_each(|b| *b = (*b).max(1));
        let sent: Vec<_> = (0..100).map(|i| burst(i, &[i as i16; 40])).collect();
        let totals = check_resync(&garbage, &sent).totals();
        assert_eq!(totals.garbage_bytes, MIB as u64);
    }
}

#[test]
fn garbage_of_any_length_around_the_buffers_edge_costs_not_even_the_longest_frame() {
    let longest = {
        let data = [0xee; FRAME_BYTES_MAX];
        let header = Header { catalogue: 1, boot: 1, sequence: 1, t0_us: 1, device: DeviceName::new("ecu").unwrap() };
        let scan = |n: usize| Payload::Scan(Scan { group: 1, period_ns: 0, count: 1, data: &data[..n] });
        let mut out = vec![0; FRAME_BYTES_MAX];
        let room = FRAME_BYTES_MAX - 22 - 4 - 9 - 4;
        assert_eq!(encode(&header, &scan(room), &mut out), Ok(FRAME_BYTES_MAX));
        out
    };
    let edges = [ENCODED_BYTES_MAX, 2 * ENCODED_BYTES_MAX, 3 * ENCODED_BYTES_MAX];
    let lengths = edges.iter().flat_map(|edge| edge - 40..edge + 40);
    for n in lengths {
        check_resync(&vec![0xaa; n], std::slice::from_ref(&longest));
    }
}

#[test]
fn a_lost_delimiter_between_two_frames_costs_only_the_first() {
    let (first, second) = (burst(0, &[1; 20]), burst(1, &[2; 20]));
    let mut line = stream_of(&first);
    let cut = line.len() - 1;
    line.truncate(cut);
    line.extend(stream_of(&second));
    let mut deframer = Deframer::new();
    let found = push_all(&mut deframer, &line);
    assert_accounted(&deframer, line.len(), &found);
    assert!(matches!(&found[..], [Found::Garbage(n, _), Found::Frame(f)] if *n == cut && *f == second), "{found:?}");
}

#[test]
fn values_that_look_like_headers_do_not_use_up_the_tries() {
    // 0x0104 is "a run of four, version 1, kind 4" at every second byte.
    let mut damaged = stream_of(&burst(0, &[0x0104; 1900]));
    damaged.pop();
    check_resync(&damaged, &[burst(1, &[0x0104; 1900]), burst(2, &[7])]);
}

#[test]
fn work_on_a_hostile_block_is_bounded_at_the_cost_of_the_frame_glued_to_it() {
    // Each period of this pattern passes for a header with a device name; none is a frame.
    let mut pattern = vec![0x1b, 1, 2];
    pattern.resize(23, b'a');
    pattern.extend_from_slice(&[3, b'e', b'c', b'u']);
    let sent = [burst(0, &[1, 2, 3]), burst(1, &[4, 5, 6])];
    check_resync(&pattern.repeat(60), &sent);

    let mut line = pattern.repeat(65);
    line.extend(stream_of(&sent[0]));
    line.extend(stream_of(&sent[1]));
    let mut deframer = Deframer::new();
    let found = push_all(&mut deframer, &line);
    assert_accounted(&deframer, line.len(), &found);
    assert_eq!(frames(&found), [&sent[1]]);
}

#[test]
fn empty_blocks_between_delimiters_are_not_garbage() {
    let frame = hex(golden::BURST);
    let line = [&[0; 100][..], &stream_of(&frame), &[0; 3]].concat();
    let mut deframer = Deframer::new();
    assert_eq!(push_all(&mut deframer, &line), [Found::Frame(frame)]);
    assert_eq!(deframer.totals().delimiter_bytes, 104);
    assert_eq!(deframer.totals().garbage_bytes, 0);
}

#[test]
fn a_line_that_never_has_a_delimiter_is_reported_as_it_goes() {
    let mut deframer = Deframer::new();
    let found = push_all(&mut deframer, &vec![0x55; 3 * ENCODED_BYTES_MAX]);
    let dropped = Found::Garbage(ENCODED_BYTES_MAX, GarbageReason::NoDelimiter);
    assert_eq!(found, [dropped.clone(), dropped]);
    assert_eq!(deframer.totals().held_bytes, ENCODED_BYTES_MAX as u64);
}

/// Stretches of a line: frames, noise, noise without delimiters, frames that lost bytes.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let stretch = prop_oneof![
        4 => frame().prop_map(|(_, _, bytes)| stream_of(&bytes)),
        1 => vec(any::<u8>(), 0..600),
        1 => vec(1..=u8::MAX, 0..600),
        1 => (any::<u8>(), 5_000..20_000_usize).prop_map(|(byte, n)| vec![byte; n]),
        1 => (frame(), any::<prop::sample::Index>()).prop_map(|((_, _, bytes), at)| {
            let mut stream = stream_of(&bytes);
            let at = at.index(stream.len());
            stream.remove(at);
            stream
        }),
    ];
    vec(stretch, 0..8).prop_map(|stretches| stretches.concat())
}

proptest! {
    #[test]
    fn feeding_in_any_pieces_equals_feeding_at_once(
        line in line(),
        cuts in vec(1..5_000_usize, 1..6),
    ) {
        let mut at_once = Deframer::new();
        let expected = push_all(&mut at_once, &line);
        assert_accounted(&at_once, line.len(), &expected);

        let mut by_byte = Deframer::new();
        let found: Vec<_> = line
            .chunks(1)
            .flat_map(|byte| push_all(&mut by_byte, byte))
            .collect();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(by_byte.totals(), at_once.totals());

        let (mut by_cuts, mut found, mut rest) = (Deframer::new(), Vec::new(), &line[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            found.extend(push_all(&mut by_cuts, now));
            rest = later;
        }
        prop_assert_eq!(&found, &expected);
    }

    #[test]
    fn a_frame_after_garbage_without_a_delimiter_arrives(
        garbage in vec(1..=u8::MAX, 0..10_000),
        (_, _, bytes) in frame(),
    ) {
        check_resync(&garbage, &[bytes]);
    }
}

//! What the wire's tests share.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod arbitrary;
pub(crate) mod golden;

use pitwire_wire::{Deframer, GarbageReason, Piece};

/// A piece that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Frame(Vec<u8>),
    Garbage(usize, GarbageReason),
}

/// Pushes everything and collects the pieces.
pub(crate) fn push_all(deframer: &mut Deframer, mut input: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    loop {
        let (taken, piece) = deframer.push(input);
        input = &input[taken..];
        match piece {
            Some(Piece::Frame(frame)) => found.push(Found::Frame(frame.to_vec())),
            Some(Piece::Garbage { bytes, reason }) => found.push(Found::Garbage(bytes, reason)),
            None => {
                assert!(input.is_empty(), "no piece, yet {} bytes left", input.len());
                return found;
            }
        }
    }
}

/// The frames among the pieces.
pub(crate) fn frames(found: &[Found]) -> Vec<&[u8]> {
    found
        .iter()
        .filter_map(|piece| match piece {
            Found::Frame(frame) => Some(frame.as_slice()),
            Found::Garbage(..) => None,
        })
        .collect()
}

/// Holds the deframer to its account: every byte pushed went to exactly one place.
pub(crate) fn assert_accounted(deframer: &Deframer, pushed: usize, found: &[Found]) {
    let totals = deframer.totals();
    let garbage: usize = found
        .iter()
        .map(|piece| match piece {
            Found::Garbage(bytes, _) => *bytes,
            Found::Frame(_) => 0,
        })
        .sum();
    assert_eq!(totals.frames, frames(found).len() as u64);
    assert_eq!(totals.garbage_bytes, garbage as u64);
    assert_eq!(totals.frame_bytes + totals.delimiter_bytes + totals.garbage_bytes + totals.held_bytes, pushed as u64);
}

/// The serial form of a frame.
pub(crate) fn stream_of(frame: &[u8]) -> Vec<u8> {
    let mut out = vec![0; pitwire_wire::limits::STREAM_BYTES_MAX];
    let len = pitwire_wire::frame_to_stream(frame, &mut out).unwrap();
    out.truncate(len);
    out
}

/// Numbers that are the same in every run (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

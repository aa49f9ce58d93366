//! A static library without std, such as firmware links: its own panic handler, no allocator.
//!
//! That it builds is the proof. std anywhere below brings a second panic handler (E0152); alloc
//! anywhere below asks for a global allocator, and there is none.
#![no_std]

use pitwire_wire::limits::STREAM_BYTES_MAX;
use pitwire_wire::{
    Deframer, DeviceName, Event, EventKind, FRAME_BYTES_MAX, Header, Payload, Piece, decode, encode_stream,
};

// Linking it is enough: what a crate links does not depend on what is called.
#[cfg(feature = "sim")]
use firmware_sim as _;
#[cfg(feature = "uses-alloc")]
use uses_alloc as _;
#[cfg(feature = "uses-std")]
use uses_std as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Sends a frame to itself: encode, COBS, deframe, decode. Returns the sequence that arrived.
pub extern "C" fn wire_round_trip(sequence: u32) -> i64 {
    let (mut scratch, mut out) = ([0; FRAME_BYTES_MAX], [0; STREAM_BYTES_MAX]);
    let Ok(device) = DeviceName::new("ecu") else {
        return -1;
    };
    let header = Header { catalogue: 0, boot: 1, sequence, t0_us: 0, device };
    let marker = Payload::Event(Event { kind: EventKind::Marker, number: 0, text: "" });
    let Ok(len) = encode_stream(&header, &marker, &mut scratch, &mut out) else {
        return -2;
    };
    let mut deframer = Deframer::new();
    match deframer.push(&out[..len]) {
        (_, Some(Piece::Frame(frame))) => decode(frame).map_or(-4, |(header, _)| i64::from(header.sequence)),
        _ => -3,
    }
}

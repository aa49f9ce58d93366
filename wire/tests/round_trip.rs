//! Frames come back as they were sent.

use pitwire_wire::*;

#[test]
fn a_burst_comes_back_from_a_serial_line() {
    let header = Header { catalogue: 1, boot: 2, sequence: 3, t0_us: 4, device: DeviceName::new("ecu").unwrap() };
    let payload = Payload::Burst(Burst { channel: 7, period_ns: 10_000_000, values: Values::I16(&[1, -2, 300]) });
    let (mut scratch, mut out) = ([0; 256], [0; 300]);
    let n = encode_stream(&header, &payload, &mut scratch, &mut out).unwrap();
    let mut deframer = Deframer::new();
    let (taken, piece) = deframer.push(&out[..n]);
    assert_eq!(taken, n);
    let Some(Piece::Frame(frame)) = piece else { panic!("no frame: {piece:?}") };
    assert_eq!(decode(frame), Ok((header, payload)));
}

//! A hostile line: garbage, cut, flipped, doubled and swapped frames, and messages that are none.

use proptest::prelude::*;

use super::*;

/// A describe and some bursts of one sample each, whose value is the place.
fn talk(frames: i16) -> Vec<Vec<u8>> {
    let mut device = Device::new("ecu");
    let describe = device.describe(wire::ClockBase::Utc);
    std::iter::once(describe).chain((0..frames).map(|n| device.burst(i64::from(n) * 10_000, &[n]))).collect()
}

fn values(items: &[Item]) -> Vec<f64> {
    batches(items).iter().flat_map(|batch| &batch.columns).map(|column| column.values.raw(0)).collect()
}

#[test]
fn a_cut_or_flipped_frame_costs_itself_and_the_gap_is_known() {
    let mut bench = Bench::new();
    let mut line = vec![0];
    for (index, frame) in talk(6).iter().enumerate() {
        let mut bytes = to_stream(frame);
        match index {
            2 => bytes.truncate(bytes.len() / 2),
            4 => bytes[20] ^= 0x10,
            _ => {}
        }
        line.extend(bytes);
    }
    let mut items = Vec::new();
    for piece in line.chunks(13) {
        items.extend(bench.stream(piece));
    }
    assert_eq!(values(&items), [0.0, 2.0, 4.0, 5.0], "the frame after a cut one is found in its block");
    let seen = bench.device("ecu", 7);
    assert_eq!((seen.frames, seen.frames_lost), (5, 2));
    assert!(bench.gauges.garbage_bytes.load(Ordering::Relaxed) > 0);
    settle(items);
    assert_eq!(bench.counts().stored, 4);
}

#[test]
fn doubled_and_swapped_frames_on_a_line_are_told_apart_from_lost_ones() {
    let mut bench = Bench::new();
    let frames = talk(5);
    let mut items = Vec::new();
    for index in [0, 1, 3, 2, 2, 5, 4] {
        items.extend(bench.stream(&to_stream(&frames[index])));
    }
    assert_eq!(values(&items), [0.0, 2.0, 1.0, 4.0, 3.0]);
    let seen = bench.device("ecu", 7);
    assert_eq!((seen.frames, seen.frames_lost, seen.duplicate_frames), (6, 0, 1));
    settle(items);
    assert_eq!((bench.counts().stored, bench.counts().duplicate), (5, 1));
}

#[test]
fn half_a_frame_before_an_unplugging_does_not_spoil_the_first_after_it() {
    let mut bench = Bench::new();
    let frames = talk(2);
    settle(bench.stream(&to_stream(&frames[0])));
    let half = to_stream(&frames[1]);
    settle(bench.stream(&half[..half.len() / 2]));
    settle(bench.push(Body::Opened, Receipt::none(), bench.began));
    let items = bench.stream(&to_stream(&frames[2]));
    assert_eq!(values(&items), [1.0]);
    assert_eq!(bench.gauges.garbage_bytes.load(Ordering::Relaxed), (half.len() / 2) as u64);
    settle(items);
}

#[test]
fn a_frame_whose_checksum_is_good_and_whose_content_is_not_is_quarantined_from_a_line_too() {
    let mut bench = Bench::new();
    let mut frame = talk(0).remove(0);
    let body = frame.len() - 4;
    frame[1] = 9;
    let crc = wire::crc32(&frame[..body]).to_le_bytes();
    frame[body..].copy_from_slice(&crc);
    let items = bench.message(&frame);
    assert_eq!(reasons(&items).len(), 1, "{items:?}");
    settle(items);
    assert_eq!(bench.settled(), [0]);
}

#[test]
fn a_message_that_is_no_frame_is_quarantined_and_settles_then() {
    let mut bench = Bench::new();
    for payload in [&b""[..], b"hello", &[0; 5000], &talk(0)[0][..20]] {
        let items = bench.message(payload);
        assert_eq!(reasons(&items).len(), 1);
        settle(items);
    }
    assert_eq!((bench.settled(), bench.malformed()), (vec![0, 1, 2, 3], 4));
}

/// What may happen to the talk of a device.
#[derive(Debug, Clone)]
enum Act {
    Burst { device: u8, boot: u32, jump: u32, t0: i64, period_ns: u32, count: usize, channel: u16, revision: bool },
    Scan { group: u8, count: u16, bytes: usize },
    Describe { revision: bool, boot_clock: bool },
    Event { number: i64 },
    Status { before: u64, dropped: u64 },
    Repeat,
    Flip { at: usize, bit: u8 },
    Noise(Vec<u8>),
    Stall,
}

fn act() -> impl Strategy<Value = Act> {
    let jump = prop_oneof![4 => Just(0_u32), 2 => 0..5_u32, 1 => any::<u32>()];
    let t0 = prop_oneof![3 => 0..1_000_000_000_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let period = prop_oneof![Just(0), Just(1_000), Just(272_727), any::<u32>()];
    let burst = (0..3_u8, 0..6_u32, jump, t0, period, 0..50_usize, 0..5_u16, any::<bool>());
    let burst = burst.prop_map(|(device, boot, jump, t0, period_ns, count, channel, revision)| Act::Burst {
        device,
        boot,
        jump,
        t0,
        period_ns,
        count,
        channel,
        revision,
    });
    prop_oneof![
        8 => burst,
        2 => (0..3_u8, 0..4_u16, 0..41_usize).prop_map(|(group, count, bytes)| Act::Scan { group, count, bytes }),
        2 => any::<(bool, bool)>().prop_map(|(revision, boot_clock)| Act::Describe { revision, boot_clock }),
        1 => any::<i64>().prop_map(|number| Act::Event { number }),
        1 => any::<(u64, u64)>().prop_map(|(before, dropped)| Act::Status { before, dropped }),
        3 => Just(Act::Repeat),
        2 => any::<(usize, u8)>().prop_map(|(at, bit)| Act::Flip { at, bit }),
        2 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Act::Noise),
        1 => Just(Act::Stall),
    ]
}

/// A frame for the act; `None` if a device could not send it.
fn frame_of(act: &Act, device: &mut Device, last: &[u8]) -> Option<Vec<u8>> {
    let values = [3_i16; 50];
    let data = [1_u8; 41];
    let payload = match act {
        Act::Burst { period_ns, count, channel, .. } => Payload::Burst(Burst {
            channel: *channel,
            period_ns: *period_ns,
            values: wire::Values::I16(&values[..*count]),
        }),
        Act::Scan { group, count, bytes } => {
            Payload::Scan(Scan { group: *group, period_ns: 1_000, count: *count, data: &data[..*bytes] })
        }
        Act::Describe { boot_clock, .. } => {
            let base = if *boot_clock { wire::ClockBase::Boot } else { wire::ClockBase::Utc };
            Payload::Describe(Describe::new(0, 1, base, CHANNELS.len() as u16, &CHANNELS))
        }
        Act::Event { number } => Payload::Event(wire::Event { kind: EventKind::Lap, number: *number, text: "x" }),
        Act::Status { before, dropped } => {
            Payload::Status(Status { samples_before: *before, samples_dropped: *dropped, resets: 1 })
        }
        Act::Repeat => return Some(last.to_vec()),
        Act::Flip { at, bit } => {
            let mut frame = last.to_vec();
            let at = at % frame.len().max(1);
            *frame.get_mut(at)? ^= 1 << (bit % 8);
            return Some(frame);
        }
        Act::Noise(bytes) => return Some(bytes.clone()),
        Act::Stall => return None,
    };
    let (t0_us, revision_is_known) = match act {
        Act::Burst { device: which, boot, jump, t0, revision, .. } => {
            device.name = ["a", "b", "c"][usize::from(*which)];
            device.boot = *boot;
            device.sequence = device.sequence.wrapping_add(*jump);
            (*t0, *revision)
        }
        Act::Describe { revision, .. } => (0, *revision),
        _ => (0, true),
    };
    device.catalogue = if revision_is_known { revision() } else { 5 };
    let header = Header {
        catalogue: device.catalogue,
        boot: device.boot,
        sequence: device.sequence,
        t0_us,
        device: DeviceName::new(device.name).unwrap(),
    };
    device.sequence = device.sequence.wrapping_add(1);
    let mut out = vec![0; wire::limits::FRAME_BYTES_MAX];
    let length = wire::encode(&header, &payload, &mut out).ok()?;
    out.truncate(length);
    Some(out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_talk_never_panics_balances_the_ledger_and_settles_every_message(
        acts in prop::collection::vec(act(), 1..80),
        on_a_line in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let mut device = Device::new("a");
        let mut last = Vec::new();
        let mut made = Vec::new();
        for act in &acts {
            if matches!(act, Act::Stall) {
                let later = bench.began + DURABLE_WITHIN;
                bench.stage.on_deadline(later, &mut made);
            }
            let Some(frame) = frame_of(act, &mut device, &last) else { continue };
            if on_a_line {
                made.extend(bench.stream(&to_stream(&frame[..frame.len().min(4096)])));
            } else {
                made.extend(bench.message(&frame));
            }
            last = frame;
        }
        let in_batches: u64 = batches(&made).iter().map(|batch| batch.samples()).sum();
        prop_assert_eq!(bench.counts().in_flight, in_batches);
        let later = bench.began + DURABLE_WITHIN;
        bench.stage.on_deadline(later, &mut made);
        settle(made);
        let counts = bench.counts();
        prop_assert_eq!(counts.in_flight, 0);
        prop_assert_eq!(counts.received, counts.stored + counts.duplicate);
        let mut settled = bench.settled();
        settled.sort_unstable();
        prop_assert_eq!(settled, (0..bench.messages).collect::<Vec<_>>(), "each once");
        let mut out = Vec::new();
        bench.stage.finish(&mut out);
        let gap = |item: &Item| matches!(item, Item::Event(event) if event.kind == crate::gap::KIND_GAP);
        prop_assert!(out.iter().all(gap), "everything held has a copy already");
        prop_assert!(out.is_empty() || on_a_line, "what a broker has may still come");
    }

    #[test]
    fn noise_on_a_line_never_panics_and_every_byte_is_accounted_for(
        pieces in prop::collection::vec(prop::collection::vec(prop_oneof![any::<u8>(), Just(0)], 0..600), 0..40),
    ) {
        let mut bench = Bench::new();
        for piece in &pieces {
            settle(bench.stream(piece));
        }
        settle(bench.push(Body::Opened, Receipt::none(), bench.began));
        let bytes: usize = pieces.iter().map(Vec::len).sum();
        let zeros: usize = pieces.iter().flatten().filter(|&&byte| byte == 0).count();
        let garbage = bench.gauges.garbage_bytes.load(Ordering::Relaxed) as usize;
        prop_assert_eq!(garbage, bytes - zeros);
    }
}

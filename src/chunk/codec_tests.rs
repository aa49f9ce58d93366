use proptest::prelude::*;

use super::*;

const SCALING: Scaling = Scaling { scale: 0.5, offset: -1.0 };

/// Written by hand from the format's description; never edited for version 1.
#[rustfmt::skip]
const GOLDEN_RUNS: &[u8] = &[
    1, 1, 0, 0,
    0, 0, 0, 0, 0, 0, 0xE0, 0x3F,                      // scale 0.5
    0, 0, 0, 0, 0, 0, 0xF0, 0xBF,                      // offset -1
    4, 0, 0, 0,                                        // n
    1, 0,                                              // one run
    0, 0, 0, 0,  0x57, 0x29, 0x04, 0,  4, 0, 0, 0,     // first 0, 272,727 ns, 4 times
    0x01, 0, 0xFF, 0xFF, 0x00, 0x80, 0xFF, 0x7F,       // 1, -1, -32768, 32767
    3, 0,                                              // three runs of flags
    1, 0, 0, 0,  0, 0,
    2, 0, 0, 0,  3, 0,
    1, 0, 0, 0,  0, 0,
];

/// Irregular times, f64, all good.
#[rustfmt::skip]
const GOLDEN_OFFSETS: &[u8] = &[
    1, 4, 1, 0,
    0, 0, 0, 0, 0, 0, 0xF0, 0x3F,
    0, 0, 0, 0, 0, 0, 0, 0,
    3, 0, 0, 0,
    0, 0, 0, 0,  1, 0, 0, 0,  0, 1, 0, 0,
    0, 0, 0, 0, 0, 0, 0xF8, 0x3F,                      // 1.5
    1, 0, 0, 0, 0, 0, 0xF8, 0x7F,                      // a NaN with payload 1
    0, 0, 0, 0, 0, 0, 0, 0x80,                         // -0
    0, 0,
];

fn golden_runs() -> (RunTimes, Values, Flags) {
    let mut times = RunTimes::new();
    times.push_run(-7, 272_727, 4);
    let mut flags = Flags::default();
    flags.push(Quality(3), 2, 1);
    flags.push(Quality::GOOD, 1, 3);
    (times, Values::I16(vec![1, -1, i16::MIN, i16::MAX]), flags)
}

#[test]
fn a_regular_burst_has_the_bytes_of_the_format() {
    let (times, values, flags) = golden_runs();
    assert_eq!(encode(-7, &times, &values, SCALING, &flags), GOLDEN_RUNS);
    let decoded = decode(-7, GOLDEN_RUNS, 0, 4).unwrap();
    assert_eq!(decoded, Decoded { times: vec![-7, 265, 538, 811], values, scaling: SCALING, flags });
}

#[test]
fn irregular_times_have_the_bytes_of_the_format() {
    let mut times = RunTimes::new();
    [1000, 1001, 1256].iter().for_each(|&t| times.push(t));
    let values = Values::F64(vec![1.5, f64::from_bits(0x7FF8_0000_0000_0001), -0.0]);
    let data = encode(1000, &times, &values, Scaling::IDENTITY, &Flags::default());
    assert_eq!(data, GOLDEN_OFFSETS);
    let decoded = decode(1000, &data, 0, 3).unwrap();
    assert_eq!(decoded.times, [1000, 1001, 1256]);
    let Values::F64(raw) = decoded.values else { panic!("f64 stays f64") };
    assert_eq!(
        raw.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        [1.5f64.to_bits(), 0x7FF8_0000_0000_0001, (-0.0f64).to_bits()]
    );
}

#[test]
fn every_cut_and_every_tail_is_refused() {
    for golden in [GOLDEN_RUNS, GOLDEN_OFFSETS] {
        let n = i32::from(golden[20]);
        for end in 0..golden.len() {
            assert!(decode(0, &golden[..end], 0, n).is_err(), "cut at {end}");
        }
        let longer = [golden, &[0]].concat();
        assert_eq!(decode(0, &longer, 0, n), Err(CodecError::Damaged("1 bytes too many".into())));
    }
}

#[test]
fn what_is_unknown_or_contradicts_itself_is_refused_with_the_reason() {
    let with = |at: usize, byte: u8| {
        let mut data = GOLDEN_RUNS.to_vec();
        data[at] = byte;
        decode(0, &data, 0, 4).unwrap_err().to_string()
    };
    assert!(decode(0, GOLDEN_RUNS, 2, 4).unwrap_err().to_string().starts_with("codec 2 is unknown"));
    assert!(decode(0, GOLDEN_RUNS, 0, 5).unwrap_err().to_string().contains("4 samples, its row says 5"));
    assert!(decode(0, GOLDEN_RUNS, 0, -1).is_err());
    assert!(decode(i64::MAX - 1, GOLDEN_RUNS, 0, 4).unwrap_err().to_string().contains("beyond"));
    assert!(with(0, 2).starts_with("version 2 is unknown"));
    assert!(with(1, 9).starts_with("value kind 9"));
    assert!(with(2, 2).starts_with("time mode 2"));
    assert!(with(3, 1).contains("byte 3"));
    assert!(with(34, 5).contains("more than its 4 samples"));
    assert!(with(34, 3).contains("3 times for 4 samples"));
    assert!(with(48, 9).contains("run of 9 flags"));
}

#[test]
fn a_claim_of_many_samples_allocates_nothing() {
    let mut data = GOLDEN_RUNS.to_vec();
    data[20..24].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(decode(0, &data, 0, i32::MAX).unwrap_err().to_string().contains("do not fit"));
}

#[test]
fn flags_beyond_the_runs_that_can_be_counted_are_kept_or_ed() {
    let n = 65_536u32;
    let mut times = RunTimes::new();
    times.push_run(0, 15_000, n);
    let mut flags = Flags::default();
    for i in 0..n as usize {
        flags.push(Quality(1 + (i % 2) as u16), 1, i);
    }
    let values = Values::I16(vec![0; n as usize]);
    let data = encode(0, &times, &values, SCALING, &flags);
    let decoded = decode(0, &data, 0, n as i32).unwrap();
    let each: Vec<u16> = decoded.flags.iter(n as usize).map(|q| q.0).collect();
    assert_eq!(each[..65_534], flags.iter(65_534).map(|q| q.0).collect::<Vec<_>>());
    assert_eq!(each[65_534..], [3, 3]);
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![
        prop::collection::vec(any::<i16>(), 0..60).prop_map(Values::I16),
        prop::collection::vec(any::<i32>(), 0..60).prop_map(Values::I32),
        prop::collection::vec(any::<f32>().prop_filter("equality", |v| !v.is_nan()), 0..60).prop_map(Values::F32),
        prop::collection::vec(any::<f64>().prop_filter("equality", |v| !v.is_nan()), 0..60).prop_map(Values::F64),
    ]
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back(
        values in values(),
        d0 in -1_000_000i64..1_000_000,
        period_ns in prop::sample::select(vec![1_000u32, 272_727, 10_000_000]),
        jitter in prop::collection::vec(0i64..3, 60),
        regular in any::<bool>(),
        quality in prop::collection::vec(0u16..3, 60),
    ) {
        let n = values.len();
        let mut times = RunTimes::new();
        if regular {
            times.push_run(d0, period_ns, n as u32);
        } else {
            (0..n).for_each(|i| times.push(d0 + i as i64 * 10 + jitter[i]));
        }
        let mut flags = Flags::default();
        (0..n).for_each(|i| flags.push(Quality(quality[i]), 1, i));
        let data = encode(d0, &times, &values, SCALING, &flags);
        let decoded = decode(d0, &data, CODEC_PLAIN, n as i32).unwrap();
        prop_assert_eq!(decoded.times, times.iter().collect::<Vec<_>>());
        prop_assert_eq!(decoded.values, values);
        prop_assert_eq!(decoded.scaling, SCALING);
        prop_assert_eq!(decoded.flags.iter(n).collect::<Vec<_>>(), flags.iter(n).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        mut data in prop::collection::vec(any::<u8>(), 0..200),
        d0 in any::<i64>(),
        n in 0i32..20,
        aimed in any::<bool>(),
    ) {
        if aimed && data.len() > 24 {
            let head = [1, 1 + data[1] % 4, data[2] % 2, 0];
            data[..4].copy_from_slice(&head);
            data[20..24].copy_from_slice(&n.to_le_bytes());
        }
        if let Ok(decoded) = decode(d0, &data, 0, n) {
            prop_assert_eq!(decoded.times.len(), n as usize);
            prop_assert_eq!(decoded.values.len(), n as usize);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0usize..64, byte in any::<u8>(), d0 in any::<i64>()) {
        let mut data = GOLDEN_RUNS.to_vec();
        let at = at % data.len();
        data[at] = byte;
        let _ = decode(d0, &data, 0, 4);
    }
}

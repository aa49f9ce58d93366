use proptest::prelude::*;

use super::*;

const SCALING: Scaling = Scaling { scale: 0.5, offset: -1.0 };

/// Written by hand from the format's description; never edited for version 1.
#[rustfmt::skip]
const GOLDEN_RUNS: &[u8] = &[
    1, 0b1_01_00, 0x01,
    10, 1,  1, 0,                                      // 5 ÷ 10^1, -1 ÷ 10^0
    0xD7, 0xD2, 0x10,                                  // 272,727 ns
    3,  2,  3,  0xF9, 0xFF, 0x03,  0xF6, 0xFF, 0x0F,   // order 3, width 0: 1, -2, -32,765; 131,067
    3,  1, 0,  2, 3,  1, 0,                            // three runs of flags
];

/// Irregular times, f64, all good.
#[rustfmt::skip]
const GOLDEN_NUMBERS: &[u8] = &[
    1, 3, 0x20,
    1 | 8 << 2,  0,  2,  0, 254,                       // 0, 1, 256 µs: differences of 8 bits above 1
    0, 0, 0, 0, 0, 0, 0xF8, 0x3F,                      // 1.5
    1, 0, 0, 0, 0, 0, 0xF8, 0x7F,                      // a NaN with payload 1
    0, 0, 0, 0, 0, 0, 0, 0x80,                         // -0
];

/// 1.5, 1.5 and 3.0 as f32.
#[rustfmt::skip]
const GOLDEN_XOR: &[u8] = &[
    1, 2, 0x02,
    0x80, 0xAD, 0xE2, 0x04,                            // 10 ms
    0, 0, 0xC0, 0x3F,  0x0E, 0xE7, 0x1F,               // 1.5; the same; 1 zero above 8 ones
];

fn golden_runs() -> (RunTimes, Values, Flags) {
    let mut times = RunTimes::new();
    times.push_run(-7, 272_727, 4);
    let mut flags = Flags::default();
    flags.push(Quality(3), 2, 1);
    flags.push(Quality::GOOD, 1, 3);
    (times, Values::I16(vec![1, -1, i16::MIN, i16::MAX]), flags)
}

fn regular(d0: i64, period_ns: u32, n: usize) -> RunTimes {
    let mut times = RunTimes::new();
    times.push_run(d0, period_ns, n as u32);
    times
}

#[test]
fn a_regular_burst_has_the_bytes_of_the_format() {
    let (times, values, flags) = golden_runs();
    assert_eq!(encode(-7, &times, &values, SCALING, &flags), GOLDEN_RUNS);
    let decoded = decode(-7, GOLDEN_RUNS, CODEC, 4).unwrap();
    assert_eq!(decoded, Decoded { times: vec![-7, 265, 538, 811], values, scaling: SCALING, flags });
}

#[test]
fn irregular_times_and_wild_floats_have_the_bytes_of_the_format() {
    let mut times = RunTimes::new();
    [1000, 1001, 1256].iter().for_each(|&t| times.push(t));
    let values = Values::F64(vec![1.5, f64::from_bits(0x7FF8_0000_0000_0001), -0.0]);
    let data = encode(1000, &times, &values, Scaling::IDENTITY, &Flags::default());
    assert_eq!(data, GOLDEN_NUMBERS);
    let decoded = decode(1000, &data, CODEC, 3).unwrap();
    assert_eq!(decoded.times, [1000, 1001, 1256]);
    let Values::F64(raw) = decoded.values else { panic!("f64 stays f64") };
    assert_eq!(
        raw.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        [1.5f64.to_bits(), 0x7FF8_0000_0000_0001, (-0.0f64).to_bits()]
    );
}

#[test]
fn floats_that_resemble_each_other_have_the_bytes_of_the_format() {
    let values = Values::F32(vec![1.5, 1.5, 3.0]);
    let data = encode(0, &regular(0, 10_000_000, 3), &values, Scaling::IDENTITY, &Flags::default());
    assert_eq!(data, GOLDEN_XOR);
    assert_eq!(decode(0, &data, CODEC, 3).unwrap().values, values);
}

#[test]
fn every_cut_and_every_tail_is_refused() {
    for (golden, n) in [(GOLDEN_RUNS, 4), (GOLDEN_NUMBERS, 3), (GOLDEN_XOR, 3)] {
        for end in 0..golden.len() {
            assert!(decode(0, &golden[..end], CODEC, n).is_err(), "cut at {end}");
        }
        let longer = [golden, &[0]].concat();
        assert_eq!(decode(0, &longer, CODEC, n), Err(CodecError::Damaged("1 bytes too many".into())));
    }
}

#[test]
fn what_is_unknown_or_contradicts_itself_is_refused_with_the_reason() {
    let with = |at: usize, byte: u8| {
        let mut data = GOLDEN_RUNS.to_vec();
        data[at] = byte;
        decode(0, &data, CODEC, 4).unwrap_err().to_string()
    };
    assert!(decode(0, GOLDEN_RUNS, 0, 4).unwrap_err().to_string().starts_with("codec 0 is unknown"));
    assert!(decode(0, GOLDEN_RUNS, CODEC, -1).unwrap_err().to_string().contains("holds -1 samples"));
    assert!(decode(0, GOLDEN_RUNS, CODEC, i32::MAX).unwrap_err().to_string().contains("samples"));
    assert!(decode(i64::MAX - 1, GOLDEN_RUNS, CODEC, 4).unwrap_err().to_string().contains("beyond"));
    assert!(with(0, 2).starts_with("version 2 is unknown"));
    assert!(with(1, 0x24).starts_with("header"));
    assert!(with(1, 0b1_11_00).starts_with("scaling 3"));
    assert!(with(2, 0x31).starts_with("time mode 3"));
    assert!(with(2, 0x02).starts_with("value mode 2"));
    assert!(with(4, 23).contains("10^23"));
    assert!(with(20, 9).contains("run of 9 flags"));
}

/// Signals of the kinds that cars have: what is written is a fraction of what was there, and comes back.
#[test]
fn signals_take_a_fraction_of_what_they_are() {
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) % 8;
    let sine = |i: usize| ((i as f64 * 0.03).sin() * 9_000.0) as i16 + noise(i) as i16;
    let i16s = |n| Values::I16((0..n).map(sine).collect());
    let decimals = |n| Values::F64((0..n).map(|i| f64::from(sine(i)) / 100.0).collect());
    // Values, their bytes, at most so many of them.
    let cases: [(Values, usize, f64); 6] = [
        (Values::I16(vec![512; 10]), 2, 0.8),
        (i16s(10), 2, 1.0),
        (i16s(73), 2, 0.5),
        (i16s(733), 2, 0.4),
        (Values::I32((0..20).map(|i| 70_000 + 3 * i).collect()), 4, 0.2),
        (decimals(733), 8, 0.15),
    ];
    for (values, bytes, share) in cases {
        let n = values.len();
        let data = encode(0, &regular(0, 1_364_000, n), &values, Scaling::IDENTITY, &Flags::default());
        let is = data.len() as f64 / (n * bytes) as f64;
        println!("{n} of {:?}: {} bytes, {:.2} each", values.kind(), data.len(), data.len() as f64 / n as f64);
        assert!(is <= share, "{n} of {:?}: {is:.2} of {bytes} each", values.kind());
        assert_eq!(decode(0, &data, CODEC, n as i32).unwrap().values, values);
    }
}

fn values() -> impl Strategy<Value = Values> {
    let n = || prop_oneof![4 => 0..60usize, 1 => 120..400usize];
    let some = |bits: u32| any::<i32>().prop_map(move |v| v >> bits);
    let i32s = prop_oneof![
        n().prop_flat_map(move |n| prop::collection::vec(some(0), n)),
        n().prop_flat_map(move |n| prop::collection::vec(some(24), n))
    ];
    prop_oneof![
        n().prop_flat_map(|n| prop::collection::vec(any::<i16>(), n)).prop_map(Values::I16),
        i32s.prop_map(Values::I32),
        n().prop_flat_map(|n| prop::collection::vec(any::<u32>(), n))
            .prop_map(|bits| Values::F32(bits.into_iter().map(f32::from_bits).collect())),
        n().prop_flat_map(|n| prop::collection::vec(any::<u64>(), n))
            .prop_map(|bits| Values::F64(bits.into_iter().map(f64::from_bits).collect())),
        n().prop_flat_map(|n| prop::collection::vec(0i32..500, n))
            .prop_map(|tenths| Values::F64(tenths.into_iter().map(|v| f64::from(v) / 10.0).collect())),
    ]
}

/// As bits: a NaN is not equal to itself.
fn bits(values: &Values) -> Vec<u64> {
    match values {
        Values::I16(v) => v.iter().map(|&v| v as u64).collect(),
        Values::I32(v) => v.iter().map(|&v| v as u64).collect(),
        Values::F32(v) => v.iter().map(|v| v.to_bits().into()).collect(),
        Values::F64(v) => v.iter().map(|v| v.to_bits()).collect(),
    }
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back(
        values in values(),
        d0 in -1_000_000i64..1_000_000,
        period_ns in prop::sample::select(vec![1_000u32, 272_727, 10_000_000]),
        jitter in prop::collection::vec(0i64..3, 400),
        is_regular in any::<bool>(),
        scale in prop_oneof![Just(1.0), Just(0.1), Just(0.0078125), Just(f64::NAN), any::<f64>()],
        offset in prop_oneof![Just(0.0), Just(-40.0), Just(-0.0), any::<f64>()],
        quality in prop::collection::vec(0u16..3, 400),
        flagged in any::<bool>(),
    ) {
        let n = values.len();
        let mut times = RunTimes::new();
        if is_regular {
            times.push_run(d0, period_ns, n as u32);
        } else {
            (0..n).for_each(|i| times.push(d0 + i as i64 * 10 + if i > 0 { jitter[i] } else { 0 }));
        }
        let mut flags = Flags::default();
        if flagged {
            (0..n).for_each(|i| flags.push(Quality(quality[i]), 1, i));
        }
        let scaling = Scaling { scale, offset };
        let data = encode(d0, &times, &values, scaling, &flags);
        let decoded = decode(d0, &data, CODEC, n as i32).unwrap();
        prop_assert_eq!(decoded.times, times.iter().collect::<Vec<_>>());
        prop_assert_eq!(bits(&decoded.values), bits(&values));
        prop_assert_eq!(decoded.scaling.scale.to_bits(), scale.to_bits());
        prop_assert_eq!(decoded.scaling.offset.to_bits(), offset.to_bits());
        prop_assert_eq!(decoded.flags.iter(n).collect::<Vec<_>>(), flags.iter(n).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        mut data in prop::collection::vec(any::<u8>(), 0..200),
        d0 in any::<i64>(),
        n in 0i32..300,
        head in 0u8..32,
        modes in (0u8..4, 0u8..3),
    ) {
        if data.len() > 3 {
            data[..3].copy_from_slice(&[1, head, modes.0 | modes.1 << 4]);
        }
        if let Ok(decoded) = decode(d0, &data, CODEC, n) {
            prop_assert_eq!(decoded.times.len(), n as usize);
            prop_assert_eq!(decoded.values.len(), n as usize);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(values in values(), at in any::<prop::sample::Index>(), byte in any::<u8>(), d0 in any::<i64>()) {
        let n = values.len();
        let mut data = encode(0, &regular(0, 272_727, n), &values, SCALING, &Flags::default());
        let at = at.index(data.len());
        data[at] = byte;
        let _ = decode(d0, &data, CODEC, n as i32);
    }
}

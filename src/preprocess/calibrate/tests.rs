use proptest::prelude::*;

use super::*;
use crate::preprocess::rig::{Rig, column, every, meta};

fn rig(entry: &str) -> Rig {
    Rig::new(&format!("[[calibrate]]\nchannel = 'brake.*'\n{entry}"))
}

fn faults(entry: &str) -> Vec<(String, String)> {
    toml::from_str::<Config>(&format!("channel = 'a'\n{entry}")).unwrap().faults()
}

/// What becomes of raw values with the device's `unit` and scaling 0.5.
fn run(rig: &mut Rig, unit: &str, values: Values) -> Column {
    let scaling = Scaling { scale: 0.5, offset: 0.0 };
    let meta = ChannelMeta { unit: unit.into(), scaling, ..meta(&values) };
    rig.column(column(&meta, every(0, 1_000_000, values.len()), values)).unwrap()
}

fn physical(column: &Column) -> Vec<f64> {
    (0..column.len()).map(|index| column.physical(index)).collect()
}

#[test]
fn a_unit_is_converted_from_the_devices_own_and_raw_integers_stay() {
    let column = run(&mut rig("unit = 'degF'"), "°C", Values::I16(vec![0, 200]));
    assert_eq!(column.values, Values::I16(vec![0, 200]));
    assert_eq!(&*column.channel.unit, "degF");
    let values = physical(&column);
    assert!((values[0] - 32.0).abs() < 1e-9 && (values[1] - 212.0).abs() < 1e-9, "{values:?}");
}

#[test]
fn a_unit_comes_after_the_correction_whose_unit_from_names() {
    let column = run(&mut rig("scale = 0.1\nfrom = 'bar'\nunit = 'kPa'"), "V", Values::I16(vec![20]));
    assert_eq!(physical(&column), [100.0]);
    let column = run(&mut rig("polynomial = [1.0, 2.0]\nfrom = 'bar'\nunit = 'kPa'"), "V", Values::I16(vec![20]));
    assert!((physical(&column)[0] - 2_100.0).abs() < 1e-9);
    assert_eq!((&*column.channel.unit, column.channel.kind), ("kPa", ValueKind::F64));
}

#[test]
fn a_correction_without_from_results_in_the_unit_that_is_named() {
    let column = run(&mut rig("scale = 2.0\nunit = 'clicks'"), "V", Values::I16(vec![20]));
    assert_eq!((physical(&column), &*column.channel.unit), (vec![20.0], "clicks"));
}

#[test]
fn a_unit_that_cannot_be_converted_leaves_the_channel_as_it_is_and_says_why() {
    for (unit, why) in [
        ("", "its device declares no unit: say from what with `from`"),
        ("hogshead", "its device's unit 'hogshead' is not known: say what it is with `from`"),
        ("km/h", "'km/h' measures something else than 'degC'"),
    ] {
        let mut rig = rig("unit = 'degC'");
        let column = run(&mut rig, unit, Values::I16(vec![20, 21]));
        assert_eq!((physical(&column), &*column.channel.unit), (vec![10.0, 10.5], unit));
        assert_eq!(rig.counted(), [(Reason::UnitUnknown, 2)]);
        assert_eq!(rig.words(Reason::UnitUnknown), format!("brake.front stays as it is: {why}"));
    }
    let column = run(&mut rig("from = 'K'\nunit = 'degC'"), "hogshead", Values::I16(vec![0]));
    assert_eq!(physical(&column), [-273.15]);
}

#[test]
fn outside_of_a_table_a_value_is_flagged_clamped_or_extrapolated_and_counted() {
    let table = "table = [[0, 100], [10, 200], [20, 220]]";
    let values = || Values::I16(vec![-20, 10, 30, 60]);
    for (outside, expected, flagged) in [
        ("", [100.0, 150.0, 210.0, 220.0], 1),
        ("outside = 'clamp'", [100.0, 150.0, 210.0, 220.0], 0),
        ("outside = 'extrapolate'", [0.0, 150.0, 210.0, 240.0], 0),
    ] {
        let mut rig = rig(&format!("{table}\n{outside}"));
        let column = run(&mut rig, "V", values());
        assert_eq!(physical(&column), expected);
        let flags: Vec<u16> = column.flags.iter(4).map(|quality| quality.0).collect();
        assert_eq!(flags, [flagged, 0, 0, flagged]);
        assert_eq!(rig.counted(), [(Reason::OutsideTable, 2)]);
        assert_eq!(rig.words(Reason::OutsideTable), "brake.front is 30 V before its table");
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let values = Values::F64(vec![f64::NAN, f64::INFINITY, 2.0]);
    for entry in ["table = [[0, 5], [1, 6]]\noutside = 'clamp'", "polynomial = [5.0]"] {
        let column = run(&mut rig(entry), "V", values.clone());
        let finite: Vec<bool> = physical(&column).iter().map(|value| value.is_finite()).collect();
        assert_eq!(finite, [false, false, true], "{entry}");
        assert!(column.flags.iter(3).take(2).all(|quality| quality == Quality::NOT_FINITE));
    }
}

#[test]
fn a_mistake_is_a_fault_that_names_its_key() {
    for (entry, key) in [
        ("scale = 0.0", "scale"),
        ("scale = nan", "scale"),
        ("offset = inf", "offset"),
        ("scale = 1.0\npolynomial = [1.0]", "polynomial"),
        ("polynomial = [1.0]\ntable = [[0, 0], [1, 1]]", "table"),
        ("polynomial = []", "polynomial"),
        ("polynomial = [nan]", "polynomial"),
        ("table = []", "table"),
        ("table = [[0, 1]]", "table"),
        ("table = [[0, 1], [0, 2]]", "table"),
        ("table = [[0, nan], [1, 2]]", "table"),
        ("outside = 'clamp'", "outside"),
        ("unit = 'furlong'", "unit"),
        ("from = 'bar'", "from"),
        ("from = 'barr'\nunit = 'psi'", "from"),
        ("from = 'bar'\nunit = 'degC'", "unit"),
    ] {
        let keys: Vec<String> = faults(entry).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [key], "{entry}");
    }
    assert_eq!(faults("scale = 2.0\nunit = 'furlong'"), []);
}

fn table() -> impl Strategy<Value = Vec<[f64; 2]>> {
    let steps = prop::collection::vec((1..1_000_u32, -1e4..1e4_f64), 2..20);
    (steps, -1e3..1e3_f64).prop_map(|(steps, start)| {
        steps
            .iter()
            .scan(start, |x, (step, y)| {
                *x += f64::from(*step) / 10.0;
                Some([*x, *y])
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_table_is_the_line_between_the_points_around_a_value(
        points in table(), values in prop::collection::vec(-2e3..2e3_f64, 1..50),
    ) {
        let curve = Curve::Table(Table { points: points.clone(), outside: Outside::Extrapolate });
        for (x, got) in values.iter().zip(curve.all(values.clone())) {
            let pair = points.windows(2).find(|pair| *x < pair[1][0]).unwrap_or(&points[points.len() - 2..]);
            let slope = (pair[1][1] - pair[0][1]) / (pair[1][0] - pair[0][0]);
            let expected = pair[0][1] + slope * (x - pair[0][0]);
            prop_assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e4), "{x}: {got}, not {expected}");
        }
    }

    #[test]
    fn a_polynomial_with_a_unit_is_the_sum_of_its_powers_converted(
        coefficients in prop::collection::vec(-10.0..10.0_f64, 1..8),
        values in prop::collection::vec(-2.0..2.0_f64, 1..20),
    ) {
        let converted = Curve::Polynomial(coefficients.clone()).converted(3.0, -7.0);
        for (x, got) in values.iter().zip(converted.all(values.clone())) {
            let sum: f64 = coefficients.iter().enumerate().map(|(power, c)| c * x.powi(power as i32)).sum();
            prop_assert!((got - (sum * 3.0 - 7.0)).abs() < 1e-6, "{x}: {got}");
        }
    }
}

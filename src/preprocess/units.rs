//! Units by their names, and how a value goes from one to another.
//!
//! `in the base unit = value × factor + offset`. Factors are exact by definition where no source is named: the inch,
//! the pound and the pound-force by the international yard and pound agreement of 1959, g and atm by the BIPM's
//! SI brochure. A name may stand for several quantities (`g`, `lb`): the other unit decides.
//! Deliberately absent: prefixes and compounds that nobody writes on a car; arithmetic with units.

/// A conversion: `to = from × factor + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conversion {
    pub(super) factor: f64,
    pub(super) offset: f64,
}

/// Why there is no conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unconvertible {
    /// The unit to convert from has no known name.
    From,
    /// The unit to convert to has none.
    To,
    /// They measure different things.
    Different,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Temperature,
    Pressure,
    Speed,
    Angle,
    AngularRate,
    AngularAcceleration,
    Length,
    Torque,
    Force,
    Mass,
    MassFlow,
    Volume,
    VolumeFlow,
    Acceleration,
    Ratio,
    Voltage,
    Current,
    Resistance,
    Power,
    Energy,
    Charge,
    Frequency,
    Time,
}

struct Unit(Of, f64, f64, &'static [&'static str]);

const INCH: f64 = 0.0254;
const FOOT: f64 = 0.3048;
const MILE: f64 = 1609.344;
const POUND: f64 = 0.453_592_37;
const G: f64 = 9.806_65;
const LBF: f64 = POUND * G;
const PSI: f64 = LBF / (INCH * INCH);
const DEGREE: f64 = std::f64::consts::PI / 180.0;
const TURN: f64 = std::f64::consts::TAU;
const US_GALLON: f64 = 3.785_411_784;
const IMPERIAL_GALLON: f64 = 4.546_09;

/// All units. Names are written as [`plain`] leaves them.
#[rustfmt::skip]
const UNITS: &[Unit] = &[
    Unit(Of::Temperature, 1.0, 0.0, &["K", "kelvin", "degK"]),
    Unit(Of::Temperature, 1.0, 273.15, &["°C", "degC", "C", "celsius"]),
    Unit(Of::Temperature, 5.0 / 9.0, 459.67 * 5.0 / 9.0, &["°F", "degF", "F", "fahrenheit"]),
    Unit(Of::Pressure, 1.0, 0.0, &["Pa", "pascal", "N/m2"]),
    Unit(Of::Pressure, 1e-3, 0.0, &["mPa"]),
    Unit(Of::Pressure, 100.0, 0.0, &["hPa", "mbar", "millibar"]),
    Unit(Of::Pressure, 1e3, 0.0, &["kPa"]),
    Unit(Of::Pressure, 1e5, 0.0, &["bar"]),
    Unit(Of::Pressure, 1e6, 0.0, &["MPa", "N/mm2"]),
    Unit(Of::Pressure, 101_325.0, 0.0, &["atm"]),
    Unit(Of::Pressure, PSI, 0.0, &["psi", "lbf/in2", "lb/in2", "psia", "psig"]),
    Unit(Of::Pressure, 1e3 * PSI, 0.0, &["ksi"]),
    // At 0 °C, NIST SP 811, B.8.
    Unit(Of::Pressure, 133.322_4, 0.0, &["mmHg", "torr"]),
    Unit(Of::Pressure, 3386.389, 0.0, &["inHg"]),
    // At 4 °C, the same.
    Unit(Of::Pressure, 9.806_65, 0.0, &["mmH2O"]),
    Unit(Of::Pressure, 249.089, 0.0, &["inH2O"]),
    Unit(Of::Pressure, G * 1e4, 0.0, &["kgf/cm2", "kg/cm2", "at"]),
    Unit(Of::Speed, 1.0, 0.0, &["m/s", "mps", "ms-1"]),
    Unit(Of::Speed, 1e-3, 0.0, &["mm/s"]),
    Unit(Of::Speed, 1.0 / 3.6, 0.0, &["km/h", "kph", "kmh", "kmph"]),
    Unit(Of::Speed, MILE / 3600.0, 0.0, &["mph", "mi/h"]),
    Unit(Of::Speed, FOOT, 0.0, &["ft/s", "fps"]),
    Unit(Of::Speed, INCH, 0.0, &["in/s"]),
    Unit(Of::Speed, 1852.0 / 3600.0, 0.0, &["kn", "kt", "kts", "knot", "knots"]),
    Unit(Of::Angle, 1.0, 0.0, &["rad", "radian"]),
    Unit(Of::Angle, 1e-3, 0.0, &["mrad"]),
    Unit(Of::Angle, DEGREE, 0.0, &["°", "deg", "degree", "degrees"]),
    Unit(Of::Angle, DEGREE / 60.0, 0.0, &["arcmin"]),
    Unit(Of::Angle, TURN, 0.0, &["rev", "turn", "turns"]),
    Unit(Of::AngularRate, 1.0, 0.0, &["rad/s"]),
    Unit(Of::AngularRate, DEGREE, 0.0, &["°/s", "deg/s", "dps"]),
    Unit(Of::AngularRate, TURN / 60.0, 0.0, &["rpm", "1/min", "min-1", "/min", "r/min", "rev/min", "U/min"]),
    Unit(Of::AngularRate, TURN * 1000.0 / 60.0, 0.0, &["krpm"]),
    Unit(Of::AngularRate, TURN, 0.0, &["rps", "rev/s", "r/s", "Hz", "1/s"]),
    Unit(Of::AngularAcceleration, 1.0, 0.0, &["rad/s2"]),
    Unit(Of::AngularAcceleration, DEGREE, 0.0, &["°/s2", "deg/s2"]),
    Unit(Of::AngularAcceleration, TURN / 60.0, 0.0, &["rpm/s"]),
    Unit(Of::Length, 1.0, 0.0, &["m", "metre", "meter", "metres", "meters"]),
    Unit(Of::Length, 1e3, 0.0, &["km"]),
    Unit(Of::Length, 1e-2, 0.0, &["cm"]),
    Unit(Of::Length, 1e-3, 0.0, &["mm"]),
    Unit(Of::Length, 1e-6, 0.0, &["um", "micron"]),
    Unit(Of::Length, INCH, 0.0, &["in", "inch", "inches", "\""]),
    Unit(Of::Length, INCH / 1e3, 0.0, &["thou", "mil"]),
    Unit(Of::Length, FOOT, 0.0, &["ft", "foot", "feet"]),
    Unit(Of::Length, 3.0 * FOOT, 0.0, &["yd", "yard"]),
    Unit(Of::Length, MILE, 0.0, &["mi", "mile", "miles"]),
    Unit(Of::Torque, 1.0, 0.0, &["Nm", "N.m", "newtonmetre"]),
    Unit(Of::Torque, 1e3, 0.0, &["kNm"]),
    Unit(Of::Torque, LBF * FOOT, 0.0, &["lbft", "lb-ft", "ftlb", "ft-lb", "lbfft", "lbf-ft", "ftlbf", "ft-lbf", "lb.ft", "lbf.ft"]),
    Unit(Of::Torque, LBF * INCH, 0.0, &["lbin", "lb-in", "inlb", "in-lb", "lbfin", "lbf-in", "inlbf", "in-lbf"]),
    Unit(Of::Torque, G, 0.0, &["kgfm", "kgf.m", "kgm", "mkp"]),
    Unit(Of::Force, 1.0, 0.0, &["N", "newton"]),
    Unit(Of::Force, 10.0, 0.0, &["daN"]),
    Unit(Of::Force, 1e3, 0.0, &["kN"]),
    Unit(Of::Force, LBF, 0.0, &["lbf", "lb", "lbs"]),
    Unit(Of::Force, G, 0.0, &["kgf", "kp"]),
    Unit(Of::Mass, 1.0, 0.0, &["kg", "kilogram"]),
    Unit(Of::Mass, 1e-3, 0.0, &["g", "gram"]),
    Unit(Of::Mass, 1e-6, 0.0, &["mg"]),
    Unit(Of::Mass, 1e3, 0.0, &["t", "tonne"]),
    Unit(Of::Mass, POUND, 0.0, &["lb", "lbs", "lbm", "pound"]),
    Unit(Of::Mass, POUND / 16.0, 0.0, &["oz"]),
    Unit(Of::MassFlow, 1.0, 0.0, &["kg/s"]),
    Unit(Of::MassFlow, 1e-3, 0.0, &["g/s"]),
    Unit(Of::MassFlow, 1e-6, 0.0, &["mg/s"]),
    Unit(Of::MassFlow, 1.0 / 60.0, 0.0, &["kg/min"]),
    Unit(Of::MassFlow, 1e-3 / 60.0, 0.0, &["g/min"]),
    Unit(Of::MassFlow, 1.0 / 3600.0, 0.0, &["kg/h", "kg/hr"]),
    Unit(Of::MassFlow, 1e-3 / 3600.0, 0.0, &["g/h"]),
    Unit(Of::MassFlow, POUND / 3600.0, 0.0, &["lb/h", "lb/hr", "lbs/h", "lbs/hr", "pph"]),
    Unit(Of::MassFlow, POUND / 60.0, 0.0, &["lb/min"]),
    // In litres.
    Unit(Of::Volume, 1.0, 0.0, &["l", "L", "litre", "liter", "litres", "liters", "dm3"]),
    Unit(Of::Volume, 1e-3, 0.0, &["ml", "mL", "cc", "cm3"]),
    Unit(Of::Volume, 1e3, 0.0, &["m3"]),
    Unit(Of::Volume, US_GALLON, 0.0, &["gal", "usgal", "galUS"]),
    Unit(Of::Volume, IMPERIAL_GALLON, 0.0, &["impgal", "galUK"]),
    Unit(Of::VolumeFlow, 1.0, 0.0, &["l/s", "L/s"]),
    Unit(Of::VolumeFlow, 1.0 / 60.0, 0.0, &["l/min", "L/min", "lpm", "LPM"]),
    Unit(Of::VolumeFlow, 1.0 / 3600.0, 0.0, &["l/h", "L/h", "l/hr"]),
    Unit(Of::VolumeFlow, 1e-3, 0.0, &["ml/s", "mL/s", "cc/s", "cm3/s"]),
    Unit(Of::VolumeFlow, 1e-3 / 60.0, 0.0, &["ml/min", "mL/min", "cc/min", "cm3/min"]),
    Unit(Of::VolumeFlow, 1e3, 0.0, &["m3/s"]),
    Unit(Of::VolumeFlow, 1e3 / 3600.0, 0.0, &["m3/h"]),
    Unit(Of::VolumeFlow, US_GALLON / 60.0, 0.0, &["gpm", "gal/min"]),
    Unit(Of::VolumeFlow, US_GALLON / 3600.0, 0.0, &["gph", "gal/h", "gal/hr"]),
    Unit(Of::Acceleration, 1.0, 0.0, &["m/s2", "m/s/s", "ms-2"]),
    Unit(Of::Acceleration, G, 0.0, &["g", "G", "gn"]),
    Unit(Of::Acceleration, G / 1e3, 0.0, &["mg", "milli-g"]),
    Unit(Of::Acceleration, FOOT, 0.0, &["ft/s2"]),
    Unit(Of::Ratio, 1.0, 0.0, &["1", "ratio", "fraction"]),
    Unit(Of::Ratio, 1e-2, 0.0, &["%", "percent", "pct"]),
    Unit(Of::Ratio, 1e-3, 0.0, &["‰", "permille", "mm/m"]),
    Unit(Of::Ratio, 1e-6, 0.0, &["ppm", "um/m", "ustrain", "microstrain", "ue"]),
    Unit(Of::Voltage, 1.0, 0.0, &["V", "volt", "volts"]),
    Unit(Of::Voltage, 1e-6, 0.0, &["uV"]),
    Unit(Of::Voltage, 1e-3, 0.0, &["mV"]),
    Unit(Of::Voltage, 1e3, 0.0, &["kV"]),
    Unit(Of::Current, 1.0, 0.0, &["A", "amp", "amps", "ampere"]),
    Unit(Of::Current, 1e-6, 0.0, &["uA"]),
    Unit(Of::Current, 1e-3, 0.0, &["mA"]),
    Unit(Of::Current, 1e3, 0.0, &["kA"]),
    Unit(Of::Resistance, 1.0, 0.0, &["ohm", "Ω", "Ohm"]),
    Unit(Of::Resistance, 1e3, 0.0, &["kohm", "kΩ", "kOhm"]),
    Unit(Of::Power, 1.0, 0.0, &["W", "watt", "Nm/s"]),
    Unit(Of::Power, 1e3, 0.0, &["kW"]),
    Unit(Of::Power, 1e6, 0.0, &["MW"]),
    Unit(Of::Power, 1e-3, 0.0, &["mW"]),
    Unit(Of::Power, 550.0 * FOOT * LBF, 0.0, &["hp", "HP", "bhp"]),
    Unit(Of::Power, 75.0 * G, 0.0, &["PS", "ps", "cv", "CV"]),
    Unit(Of::Energy, 1.0, 0.0, &["J", "joule", "Ws"]),
    Unit(Of::Energy, 1e3, 0.0, &["kJ"]),
    Unit(Of::Energy, 1e6, 0.0, &["MJ"]),
    Unit(Of::Energy, 3600.0, 0.0, &["Wh"]),
    Unit(Of::Energy, 3.6e6, 0.0, &["kWh"]),
    Unit(Of::Charge, 3600.0, 0.0, &["Ah"]),
    Unit(Of::Charge, 3.6, 0.0, &["mAh"]),
    Unit(Of::Charge, 1.0, 0.0, &["As", "coulomb"]),
    Unit(Of::Frequency, 1.0, 0.0, &["Hz", "1/s", "hertz"]),
    Unit(Of::Frequency, 1e3, 0.0, &["kHz"]),
    Unit(Of::Frequency, 1e6, 0.0, &["MHz"]),
    Unit(Of::Time, 1.0, 0.0, &["s", "sec", "second", "seconds"]),
    Unit(Of::Time, 1e-3, 0.0, &["ms", "millisecond", "milliseconds"]),
    Unit(Of::Time, 1e-6, 0.0, &["us", "microsecond", "microseconds"]),
    Unit(Of::Time, 60.0, 0.0, &["min", "minute", "minutes"]),
    Unit(Of::Time, 3600.0, 0.0, &["h", "hr", "hour", "hours"]),
];

/// A name without what people write differently: blanks, `_`, `^`, `*`, dots in the middle, the two signs for
/// micro, raised digits.
fn plain(name: &str) -> String {
    let one = |c: char| match c {
        ' ' | '\t' | '_' | '^' | '*' | '·' | '⋅' | '\u{a0}' => None,
        'µ' | 'μ' => Some('u'),
        '²' => Some('2'),
        '³' => Some('3'),
        'º' | '˚' => Some('°'),
        'Ω' => Some('Ω'),
        c => Some(c),
    };
    name.chars().filter_map(one).collect()
}

/// What a name may stand for. As it is written; else, from three letters on, in any case, if that is one unit only:
/// `BAR` is clear, `mpa` is not.
fn named(name: &str) -> Vec<&'static Unit> {
    let name = plain(name);
    let exact: Vec<&Unit> = UNITS.iter().filter(|unit| unit.3.contains(&name.as_str())).collect();
    if !exact.is_empty() || name.chars().count() < 3 {
        return exact;
    }
    let name = name.to_lowercase();
    let alike: Vec<&Unit> =
        UNITS.iter().filter(|unit| unit.3.iter().any(|known| known.to_lowercase() == name)).collect();
    if alike.len() == 1 { alike } else { Vec::new() }
}

/// Whether `name` is that of a unit.
pub(super) fn is_known(name: &str) -> bool {
    !named(name).is_empty()
}

/// From one unit to another.
///
/// # Errors
/// If there is no such conversion.
pub(super) fn conversion(from: &str, to: &str) -> Result<Conversion, Unconvertible> {
    let (from, to) = (named(from), named(to));
    if from.is_empty() || to.is_empty() {
        return Err(if from.is_empty() { Unconvertible::From } else { Unconvertible::To });
    }
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to)));
    let (from, to) = pairs.into_iter().find(|(from, to)| from.0 == to.0).ok_or(Unconvertible::Different)?;
    if std::ptr::eq(*from, *to) {
        return Ok(Conversion { factor: 1.0, offset: 0.0 });
    }
    Ok(Conversion { factor: from.1 / to.1, offset: (from.2 - to.2) / to.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, from: &str, expected: f64, to: &str) {
        let Conversion { factor, offset } = conversion(from, to).unwrap_or_else(|e| panic!("{from} to {to}: {e:?}"));
        let got = value * factor + offset;
        assert!(
            (got - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
            "{value} {from} is {got} {to}, not {expected}"
        );
        let back = conversion(to, from).unwrap();
        let again = got * back.factor + back.offset;
        assert!((again - value).abs() <= 1e-9 * value.abs().max(1.0), "{value} {from} comes back as {again}");
    }

    #[test]
    fn values_go_from_unit_to_unit() {
        check(100.0, "degC", 212.0, "°F");
        check(-40.0, "F", -40.0, "C");
        check(0.0, "° C", 273.15, "K");
        check(1.0, "bar", 14.503_773_8, "psi");
        check(2.5, "MPa", 25.0, "bar");
        check(300.0, "km/h", 83.333_333_3, "m/s");
        check(100.0, "mph", 160.934_4, "kph");
        check(180.0, "deg", std::f64::consts::PI, "rad");
        check(12_000.0, "1/min", 1_256.637_061, "rad/s");
        check(6_000.0, "RPM", 100.0, "Hz");
        check(1.0, "g", 9.806_65, "m/s²");
        check(500.0, "g", 0.5, "kg");
        check(100.0, "lb", 444.822_161_5, "N");
        check(100.0, "lb", 45.359_237, "kg");
        check(100.0, "N·m", 73.756_214_9, "lb ft");
        check(50.0, "%", 0.5, "ratio");
        check(12.5, "V", 12_500.0, "mV");
        check(100.0, "kg/h", 27.777_777_8, "g/s");
        check(1.0, "l/min", 60.0, "L/h");
        check(100.0, "kW", 135.962_162, "PS");
        check(1.0, "in", 25.4, "mm");
        check(250.0, "µm/m", 0.25, "‰");
    }

    #[test]
    fn what_measures_something_else_or_has_no_known_name_is_not_converted() {
        assert_eq!(conversion("bar", "degC"), Err(Unconvertible::Different));
        assert_eq!(conversion("", "degC"), Err(Unconvertible::From));
        assert_eq!(conversion("bar", "furlong"), Err(Unconvertible::To));
        assert_eq!(conversion("BAR", "kpa").map(|c| c.factor), Ok(100.0));
        assert_eq!(conversion("mpa", "bar"), Err(Unconvertible::From), "milli or mega");
    }

    #[test]
    fn names_are_plain_and_each_is_one_unit_of_a_quantity() {
        let mut all: Vec<(String, &str)> = Vec::new();
        for Unit(of, factor, offset, names) in UNITS {
            assert!(factor.is_finite() && *factor > 0.0 && offset.is_finite() && !names.is_empty());
            all.extend(names.iter().map(|name| (format!("{of:?}"), *name)));
        }
        for (_, name) in &all {
            assert_eq!(plain(name), *name);
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

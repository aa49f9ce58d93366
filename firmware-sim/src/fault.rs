//! What goes wrong, on demand: the specification of faults.
//!
//! `KIND@WHEN[:ARG][,car=CAR][,device=DEVICE]`, where `WHEN` is a time after the device's start
//! (`500ms`, `5s`, `2m`) or `every=N`: each Nth frame of each device.
//!
//! | kind | what happens |
//! |---|---|
//! | `flip@WHEN` | one bit of a frame is flipped |
//! | `drop-bytes@WHEN[:N]` | N bytes of a frame are lost (1) |
//! | `cut@WHEN` | a frame breaks off |
//! | `insert@WHEN[:SIZE]` | random bytes come before a frame (16) |
//! | `duplicate@WHEN` | a frame is sent twice |
//! | `swap@WHEN` | a frame and the next of its device change places |
//! | `garbage@TIME:SIZE` | random bytes come before a frame, `1MiB` of them, say |
//! | `unplug@TIME:FOR` | the cable is out for so long; frames made meanwhile are lost |
//! | `reboot@TIME` | the device starts anew: new boot, sequence from 0 |
//! | `step@TIME:±BY` | the device's clock is stepped; a step back begins a new boot |
//! | `drift@TIME:PPM`, `drift=PPM` | the device's clock runs too fast, or too slow if negative |

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;

/// Bytes that `garbage` and `insert` may send at once.
const GARBAGE_BYTES_MAX: u64 = 64 << 20;

/// One fault: what, when, to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// When.
    pub when: When,
    /// Only to this car.
    pub car: Option<String>,
    /// Only to this device.
    pub device: Option<String>,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FaultKind {
    /// One bit of a frame is flipped.
    Flip,
    /// So many bytes of a frame are lost.
    DropBytes(u64),
    /// A frame breaks off, without a delimiter.
    Cut,
    /// So many random bytes come before a frame.
    Insert(u64),
    /// A frame is sent twice.
    Duplicate,
    /// A frame and the next of its device change places.
    Swap,
    /// So many random bytes come before a frame, once.
    Garbage(u64),
    /// The cable is out for so long.
    Unplug(Duration),
    /// The device starts anew.
    Reboot,
    /// The clock is stepped by so many µs.
    Step(i64),
    /// The clock runs so many millionths too fast.
    Drift(f64),
}

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Once, so long after the start of sending.
    At(Duration),
    /// To each Nth frame.
    Every(u64),
}

impl FaultKind {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::DropBytes(_) => "drop-bytes",
            Self::Cut => "cut",
            Self::Insert(_) => "insert",
            Self::Duplicate => "duplicate",
            Self::Swap => "swap",
            Self::Garbage(_) => "garbage",
            Self::Unplug(_) => "unplug",
            Self::Reboot => "reboot",
            Self::Step(_) => "step",
            Self::Drift(_) => "drift",
        }
    }

    /// Whether it happens to single frames, and may so happen to each Nth.
    #[must_use]
    pub fn hits_frames(&self) -> bool {
        use FaultKind::{Cut, DropBytes, Duplicate, Flip, Insert, Swap};
        matches!(self, Flip | DropBytes(_) | Cut | Insert(_) | Duplicate | Swap)
    }
}

impl Fault {
    /// Whether it concerns a device.
    #[must_use]
    pub fn concerns(&self, car: &str, device: &str) -> bool {
        self.car.as_deref().is_none_or(|c| c == car) && self.device.as_deref().is_none_or(|d| d == device)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => write!(f, "{}ms", at.as_millis()),
            Self::Every(n) => write!(f, "every={n}"),
        }
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fault = |why: String| Error::usage(format!("fault '{text}': {why}"));
        let mut scoped = text.split(',');
        let spec = scoped.next().unwrap_or_default();
        let (mut car, mut device) = (None, None);
        for scope in scoped {
            match scope.split_once('=') {
                Some(("car", name)) => car = Some(name.to_owned()),
                Some(("device", name)) => device = Some(name.to_owned()),
                _ => return Err(fault(format!("'{scope}': expected car=NAME or device=NAME"))),
            }
        }
        let (name, when, argument) = match spec.split_once('@') {
            Some((name, rest)) => match rest.split_once(':') {
                Some((when, argument)) => (name, when, Some(argument)),
                None => (name, rest, None),
            },
            None => match spec.split_once('=') {
                Some(("drift", ppm)) => ("drift", "0s", Some(ppm)),
                _ => return Err(fault("expected KIND@WHEN[:ARG], such as flip@every=500 or unplug@5s:5s".to_owned())),
            },
        };
        let needs = |what: &str| argument.ok_or_else(|| fault(format!("{name} needs {what} after a colon")));
        let size = |text: &str| parse_size(text).map_err(&fault);
        let kind = match name {
            "flip" => FaultKind::Flip,
            "drop-bytes" => FaultKind::DropBytes(argument.map_or(Ok(1), size)?),
            "cut" => FaultKind::Cut,
            "insert" => FaultKind::Insert(argument.map_or(Ok(16), size)?),
            "duplicate" => FaultKind::Duplicate,
            "swap" => FaultKind::Swap,
            "garbage" => FaultKind::Garbage(size(needs("a size, such as 1MiB,")?)?),
            "unplug" => FaultKind::Unplug(parse_duration(needs("a duration, such as 5s,")?).map_err(&fault)?),
            "reboot" => FaultKind::Reboot,
            "step" => FaultKind::Step(parse_step(needs("a signed duration, such as +3600s,")?).map_err(&fault)?),
            "drift" => {
                let ppm = needs("parts per million, such as 50,")?;
                match ppm.parse::<f64>() {
                    Ok(value) if value.abs() <= 100_000.0 => FaultKind::Drift(value),
                    _ => return Err(fault(format!("drift '{ppm}': expected a number of ppm from -100000 to 100000"))),
                }
            }
            _ => {
                return Err(fault(format!(
                    "no kind '{name}': expected flip, drop-bytes, cut, insert, duplicate, swap, garbage, unplug, reboot, step or drift"
                )));
            }
        };
        let takes_argument = !matches!(
            kind,
            FaultKind::Flip | FaultKind::Cut | FaultKind::Duplicate | FaultKind::Swap | FaultKind::Reboot
        );
        if argument.is_some() && !takes_argument {
            return Err(fault(format!("{name} takes nothing after a colon")));
        }
        let when = match when.strip_prefix("every=") {
            Some(n) if kind.hits_frames() => match n.parse() {
                Ok(n) if n > 0 => When::Every(n),
                _ => return Err(fault(format!("every '{n}': expected a number from 1"))),
            },
            Some(_) => return Err(fault(format!("{name} happens at a time, not every N frames"))),
            None => When::At(parse_duration(when).map_err(&fault)?),
        };
        Ok(Self { kind, when, car, device })
    }
}

/// A duration: a number with `ms`, `s`, `m` or `h`, at most a year.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("duration '{text}': expected a number with a unit, such as 500ms, 20s, 2m or 1h");
    let end = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    // A year: longer is a slip of the finger, and keeps the arithmetic in range.
    if !(0.0..=31_557_600.0).contains(&(number * seconds)) {
        return Err(wrong());
    }
    Ok(Duration::from_micros((number * seconds * 1e6).round() as u64))
}

/// A signed duration in µs.
fn parse_step(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let by = parse_duration(rest)?;
    // At most a year, see above.
    Ok(sign * by.as_micros() as i64)
}

/// A size in bytes: a number, with KiB or MiB if wanted.
fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("size '{text}': expected bytes from 1 to 64MiB, such as 16, 4KiB or 1MiB");
    let (number, unit) = match (text.strip_suffix("MiB"), text.strip_suffix("KiB")) {
        (Some(number), _) => (number, 1 << 20),
        (_, Some(number)) => (number, 1 << 10),
        _ => (text, 1),
    };
    let size = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    if size == 0 || size > GARBAGE_BYTES_MAX { Err(wrong()) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: FaultKind, when: When) {
        let fault: Fault = text.parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((fault.kind, fault.when), (kind, when), "{text}");
    }

    #[test]
    fn specifications_say_what_they_mean() {
        let at = |ms| When::At(Duration::from_millis(ms));
        check("flip@every=500", FaultKind::Flip, When::Every(500));
        check("drop-bytes@2s:3", FaultKind::DropBytes(3), at(2_000));
        check("insert@every=7:1KiB", FaultKind::Insert(1024), When::Every(7));
        check("unplug@5s:500ms", FaultKind::Unplug(Duration::from_millis(500)), at(5_000));
        check("reboot@8s", FaultKind::Reboot, at(8_000));
        check("drift=-50", FaultKind::Drift(-50.0), at(0));
        check("drift@1m:20.5", FaultKind::Drift(20.5), at(60_000));
        check("step@6s:+3600s", FaultKind::Step(3_600_000_000), at(6_000));
        check("step@6s:-1.5s", FaultKind::Step(-1_500_000), at(6_000));
        check("garbage@0s:1MiB", FaultKind::Garbage(1 << 20), at(0));
        let fault: Fault = "cut@3s,car=44,device=ecu".parse().unwrap();
        assert!(fault.concerns("44", "ecu") && !fault.concerns("44", "gps") && !fault.concerns("45", "ecu"));
    }

    #[test]
    fn wrong_specifications_say_what_would_be_right() {
        for (text, hint) in [
            ("flip", "KIND@WHEN"),
            ("melt@5s", "expected flip"),
            ("reboot@every=5", "not every"),
            ("flip@every=0", "from 1"),
            ("flip@5", "with a unit"),
            ("flip@5s:3", "nothing after"),
            ("unplug@5s", "needs a duration"),
            ("garbage@0s:0", "from 1"),
            ("flip@5s,wheel=fl", "car=NAME"),
            ("drift=fast", "ppm"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}

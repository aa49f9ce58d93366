//! What to simulate: the command line's flags as a struct.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pitwire_wire::ClockBase;

use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::tiers::Tier;

/// What to simulate. Start from [`Options::default`] and set what differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What kind of car.
    pub tier: Tier,
    /// The cars' names, each once.
    pub cars: Vec<String>,
    /// Decides the drivers' pace, the weather, noise and faults.
    pub seed: u64,
    /// Ends after so much device time has been sent; never if `None`.
    pub run_for: Option<Duration>,
    /// How fast time passes.
    pub speed: Speed,
    /// Multiplies every channel's rate: 0.001 to 100.
    pub rate_factor: f64,
    /// What the devices' clocks count from.
    pub clock: ClockBase,
    /// Where the frames go: each device to exactly one, in turn.
    pub outputs: Vec<Output>,
    /// Where to write what was sent.
    pub manifest: Option<PathBuf>,
    /// Wait for a full buffer instead of dropping frames.
    pub block: bool,
    /// Speed of serial ports.
    pub baud: u32,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// UTC at the start in µs since 1970. `None` is the wall clock; with a fixed start two runs of
    /// one seed make the same frames, boot numbers included.
    pub start_us: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tier: Tier::default(),
            cars: vec!["44".to_owned()],
            seed: 1,
            run_for: None,
            speed: Speed::Times(1.0),
            rate_factor: 1.0,
            clock: ClockBase::Utc,
            outputs: Vec::new(),
            manifest: None,
            block: false,
            baud: 921_600,
            faults: Vec::new(),
            start_us: None,
        }
    }
}

/// How fast simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times as fast as real time.
    Times(f64),
    /// As fast as the machine can.
    Max,
}

impl FromStr for Speed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(times) if times > 0.0 && times <= 10_000.0 => Ok(Self::Times(times)),
            _ => Err(Error::usage(format!("speed '{text}': expected a number above 0, at most 10000, or max"))),
        }
    }
}

/// Where frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A pseudo-terminal that the simulator makes, under a name of its own if `link` is given.
    Pty {
        /// A symbolic link to it: made, made anew after an unplugging, removed at the end.
        link: Option<PathBuf>,
    },
    /// A serial port, another's pseudo-terminal, or a fifo.
    Serial {
        /// Its path.
        path: PathBuf,
    },
    /// An MQTT broker.
    Mqtt(Broker),
}

impl Output {
    /// Whether it is a line of bytes, which carries one car only.
    #[must_use]
    pub fn is_line(&self) -> bool {
        !matches!(self, Self::Mqtt(_))
    }
}

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// Port, 1883 unless given.
    pub port: u16,
}

impl FromStr for Broker {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let fault = || Error::usage(format!("broker '{url}': expected mqtt://HOST or mqtt://HOST:PORT"));
        let rest = url.strip_prefix("mqtt://").ok_or_else(fault)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An IPv6 address stands in brackets, so a colon after the last one begins the port.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| fault())?),
            _ => (rest, 1883),
        };
        if host.is_empty() || port == 0 || host.contains(['/', '@', ' ']) {
            return Err(fault());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

impl Options {
    /// Checks what no type checks.
    ///
    /// # Errors
    /// [`Error::Usage`] says what is wrong and what would be right.
    pub fn check(&self) -> Result<()> {
        if self.outputs.is_empty() {
            return Err(Error::usage("nowhere to send to: give --pty, --serial PATH or --mqtt URL"));
        }
        if self.cars.is_empty() {
            return Err(Error::usage("no car: give at least one name"));
        }
        for (i, car) in self.cars.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if car.is_empty() || car.len() > 32 || !car.chars().all(plain) {
                return Err(Error::usage(format!("car '{car}': expected 1 to 32 of letters, digits, '.', '_', '-'")));
            }
            if self.cars[..i].contains(car) {
                return Err(Error::usage(format!("car '{car}' is named twice")));
            }
        }
        if !(0.001..=100.0).contains(&self.rate_factor) {
            return Err(Error::usage(format!("rate factor {}: expected 0.001 to 100", self.rate_factor)));
        }
        if let Speed::Times(times) = self.speed
            && !(times > 0.0 && times <= 10_000.0)
        {
            return Err(Error::usage(format!("speed {times}: expected a number above 0, at most 10000")));
        }
        for (i, output) in self.outputs.iter().enumerate() {
            if let Output::Pty { link: Some(_) } | Output::Serial { .. } = output
                && self.outputs[..i].contains(output)
            {
                return Err(Error::usage(format!("output {} is the same as an earlier one", i + 1)));
            }
        }
        Ok(())
    }
}

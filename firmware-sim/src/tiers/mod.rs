//! Tiers: what a kind of car carries, which devices, which channels, how often.
//!
//! | tier | samples/s | devices |
//! |---|---|---|
//! | `club` | 400 | ecu, chassis, gps |
//! | `can` | 1,500 | ecu, chassis, gps: 100, 50, 20, 10 and 1 Hz |
//! | `wide` | 78,200 | ecu, chassis, aero, power: 782 channels at 100 Hz |
//! | `f1` | 1,100,100 | ecu, chassis, aero: 300 channels at 3,667 Hz, in Bursts |

mod build;
mod channels;
mod recipe;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use pitwire_wire::{ChannelEntry, ValueKind};

use crate::car::{Machine, machine};
use crate::device::LaneConfig;
use build::{ChainFamily, Library, Set, build, burst, scan};
use channels::{Place, named, varied};
pub use recipe::{Recipe, Ripple, Segment, raw};

/// What a kind of car carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tier {
    /// A club car: 400 samples/s.
    Club,
    /// A car with a CAN bus: 1,500 samples/s.
    #[default]
    Can,
    /// A wide log: 782 channels at 100 Hz, 78,200 samples/s.
    Wide,
    /// A formula car: 300 channels at 3,667 Hz, 1.1 million samples/s.
    F1,
}

/// A tier that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownTier(String);

impl fmt::Display for UnknownTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no tier '{}': expected club, can, wide or f1", self.0)
    }
}

impl std::error::Error for UnknownTier {}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(name: &str) -> Result<Self, UnknownTier> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == name).ok_or_else(|| UnknownTier(name.to_owned()))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Tier {
    /// All tiers, from small to large.
    pub const ALL: [Self; 4] = [Self::Club, Self::Can, Self::Wide, Self::F1];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Club => "club",
            Self::Can => "can",
            Self::Wide => "wide",
            Self::F1 => "f1",
        }
    }

    /// The kind of car.
    #[must_use]
    pub fn machine(self) -> Machine {
        match self {
            Self::Club => machine::CLUB,
            Self::Can | Self::Wide => machine::GT,
            Self::F1 => machine::FORMULA,
        }
    }
}

/// A channel of a device: its catalogue entry, and how it follows the car.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelPlan {
    /// Its number in the device.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// How raw values are sent.
    pub kind: ValueKind,
    /// The group of its Scans, 0 for Bursts.
    pub group: u8,
    /// Physical value = raw × scale + offset.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// Rate in millihertz.
    pub rate_mhz: u32,
    /// How it follows the car.
    pub recipe: Recipe,
}

impl ChannelPlan {
    /// Its entry in the catalogue.
    #[must_use]
    pub fn entry(&self) -> ChannelEntry<'_> {
        ChannelEntry {
            id: self.id,
            kind: self.kind,
            group: self.group,
            scale: self.scale,
            offset: self.offset,
            rate_mhz: self.rate_mhz,
            name: &self.name,
            unit: self.unit,
        }
    }
}

/// Channels of a device that are sampled together.
#[derive(Debug, Clone, PartialEq)]
pub struct LanePlan {
    /// Group and period.
    pub config: LaneConfig,
    /// Which of the device's channels.
    pub channels: Range<usize>,
}

/// A device of a car.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePlan {
    /// Its name, 1 to 16 of `[a-z0-9._-]`.
    pub name: &'static str,
    /// Its channels in ascending id.
    pub channels: Vec<ChannelPlan>,
    /// How they are sampled.
    pub lanes: Vec<LanePlan>,
}

impl DevicePlan {
    /// Samples a second, all channels together.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.channels.iter().map(|c| f64::from(c.rate_mhz) / 1_000.0).sum()
    }
}

/// The devices of a car of a tier. `rate_factor` multiplies every rate (0.001 to 100).
#[must_use]
pub fn devices(tier: Tier, rate_factor: f64) -> Vec<DevicePlan> {
    let mut library = Library(named());
    let make = |name, sets: Vec<Set>| build(name, sets, rate_factor);
    match tier {
        Tier::Club => vec![
            make(
                "ecu",
                vec![
                    scan(
                        20.0,
                        library.some(&[
                            "engine.rpm",
                            "engine.throttle",
                            "engine.lambda",
                            "engine.map",
                            "engine.oil.pressure",
                            "engine.torque",
                            "gearbox.gear",
                            "fuel.pressure",
                            "battery.voltage",
                            "brake.pressure.front",
                        ]),
                    ),
                    scan(10.0, library.some(&["engine.oil.temp", "engine.water.temp", "fuel.mass", "fuel.flow"])),
                ],
            ),
            make(
                "chassis",
                vec![
                    burst(20.0, library.some(&["chassis.accel.long", "chassis.accel.lat"])),
                    scan(10.0, library.some(&["chassis.speed", "steering.angle", "wheel.fl.speed", "wheel.fr.speed"])),
                ],
            ),
            make(
                "gps",
                vec![scan(
                    10.0,
                    library.some(&[
                        "gps.lat",
                        "gps.lon",
                        "gps.alt",
                        "gps.speed",
                        "gps.course",
                        "gps.satellites",
                        "lap.number",
                        "lap.distance",
                    ]),
                )],
            ),
        ],
        Tier::Can => vec![
            make(
                "ecu",
                vec![
                    scan(
                        100.0,
                        library.some(&[
                            "engine.rpm",
                            "engine.throttle",
                            "engine.pedal",
                            "engine.torque",
                            "chassis.speed",
                        ]),
                    ),
                    scan(50.0, library.some(&["gearbox.gear", "engine.lambda", "engine.ignition", "engine.map"])),
                    scan(
                        1.0,
                        library.some(&[
                            "engine.oil.temp",
                            "engine.water.temp",
                            "engine.intake.temp",
                            "gearbox.oil.temp",
                            "fuel.mass",
                            "fuel.flow",
                            "battery.voltage",
                            "air.temp",
                        ]),
                    ),
                ],
            ),
            make(
                "chassis",
                vec![
                    burst(
                        100.0,
                        library.some(&[
                            "chassis.accel.long",
                            "chassis.accel.lat",
                            "chassis.yaw.rate",
                            "steering.angle",
                        ]),
                    ),
                    scan(50.0, library.some(&["wheel.fl.speed", "wheel.fr.speed", "wheel.rl.speed", "wheel.rr.speed"])),
                    scan(
                        20.0,
                        library.some(&[
                            "damper.fl.position",
                            "damper.fr.position",
                            "damper.rl.position",
                            "damper.rr.position",
                            "brake.pressure.front",
                            "engine.oil.pressure",
                        ]),
                    ),
                    scan(
                        1.0,
                        library.some(&[
                            "tyre.fl.temp.middle",
                            "tyre.fr.temp.middle",
                            "tyre.rl.temp.middle",
                            "tyre.rr.temp.middle",
                            "brake.fl.temp",
                            "brake.fr.temp",
                            "brake.rl.temp",
                            "brake.rr.temp",
                            "tyre.fl.pressure",
                            "tyre.fr.pressure",
                        ]),
                    ),
                ],
            ),
            make(
                "gps",
                vec![
                    scan(
                        10.0,
                        library.some(&["gps.lat", "gps.lon", "gps.alt", "gps.speed", "gps.course", "lap.distance"]),
                    ),
                    scan(1.0, library.some(&["gps.satellites", "lap.number"])),
                ],
            ),
        ],
        Tier::Wide => {
            let full = |name, wanted: &[&str], place, count, library: &mut Library| {
                let defs = library.starting(wanted).chain_family(place, count, varied);
                build(name, vec![scan(100.0, defs)], rate_factor)
            };
            vec![
                full(
                    "ecu",
                    &["engine.", "gearbox.", "fuel.", "lap.", "battery.", "air."],
                    Place::Engine,
                    240,
                    &mut library,
                ),
                full(
                    "chassis",
                    &["chassis.", "wheel.", "damper.", "tyre.", "brake.", "steering.", "gps."],
                    Place::Chassis,
                    260,
                    &mut library,
                ),
                full("aero", &["aero."], Place::Aero, 150, &mut library),
                full("power", &["hybrid."], Place::Power, 132, &mut library),
            ]
        }
        Tier::F1 => {
            let full = |name, wanted: &[&str], place, count, library: &mut Library| {
                let defs = library.starting(wanted).chain_family(place, count, |_, def| def);
                build(name, vec![burst(3_667.0, defs)], rate_factor)
            };
            // What needs more than 16 bits is not sent thousands of times a second.
            library.0.retain(|def| def.kind == ValueKind::I16);
            vec![
                full(
                    "ecu",
                    &["engine.", "gearbox.", "fuel.", "battery.", "hybrid.", "lap."],
                    Place::Engine,
                    110,
                    &mut library,
                ),
                full(
                    "chassis",
                    &["chassis.", "wheel.", "damper.", "tyre.", "brake.", "steering.", "gps."],
                    Place::Chassis,
                    130,
                    &mut library,
                ),
                full("aero", &["aero.", "air."], Place::Aero, 60, &mut library),
            ]
        }
    }
}

#[cfg(test)]
mod tests;

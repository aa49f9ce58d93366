//! The library of channels: named ones, and families for the wide tiers.

use pitwire_wire::ValueKind;

use super::recipe::{Recipe, Ripple};
use crate::car::Signal;
use crate::car::signal::{CARCASS, CORNERS, DAMPER, DISC, LOAD, TREAD, WHEEL_SPEED};

use ValueKind::{F32, I16, I32};

/// A channel before it has an id and a rate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Def {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) kind: ValueKind,
    pub(super) scale: f64,
    pub(super) offset: f64,
    pub(super) recipe: Recipe,
}

impl Def {
    fn new(name: impl Into<String>, unit: &'static str, kind: ValueKind, scale: f64, main: (Signal, f64)) -> Self {
        Self {
            name: name.into(),
            unit,
            kind,
            scale,
            offset: 0.0,
            recipe: Recipe { main, second: None, bias: 0.0, noise: 0.0, ripple: None },
        }
    }

    fn offset(mut self, offset: f64) -> Self {
        self.offset = offset;
        self
    }

    fn plus(mut self, signal: Signal, gain: f64) -> Self {
        self.recipe.second = Some((signal, gain));
        self
    }

    fn bias(mut self, bias: f64) -> Self {
        self.recipe.bias = bias;
        self
    }

    fn noise(mut self, noise: f64) -> Self {
        self.recipe.noise = noise;
        self
    }

    fn ripple(mut self, turns: Signal, order: f64, phase: f64, amplitude: f64) -> Self {
        self.recipe.ripple = Some(Ripple { turns, order, phase, amplitude });
        self
    }
}

/// All named channels.
#[rustfmt::skip]
pub(super) fn named() -> Vec<Def> {
    use Signal as S;
    let mut all = vec![
        Def::new("engine.rpm", "1/min", I16, 0.5, (S::Rpm, 1.0)).noise(4.0),
        Def::new("engine.throttle", "%", I16, 0.01, (S::Throttle, 1.0)).noise(0.03),
        Def::new("engine.pedal", "%", I16, 0.01, (S::Throttle, 0.98)).bias(0.8).noise(0.03),
        Def::new("engine.torque", "Nm", I16, 0.1, (S::Torque, 1.0)).noise(0.8),
        Def::new("engine.power", "kW", F32, 1.0, (S::Power, 1.0)).noise(0.3),
        Def::new("engine.lambda", "", I16, 0.0001, (S::Lambda, 1.0)).noise(0.002),
        Def::new("engine.ignition", "deg", I16, 0.01, (S::Ignition, 1.0)).noise(0.02),
        Def::new("engine.map", "kPa", I16, 0.01, (S::IntakePressure, 1.0)).noise(0.15),
        Def::new("engine.oil.pressure", "bar", I16, 0.001, (S::OilPressure, 1.0)).noise(0.01),
        Def::new("engine.oil.temp", "°C", I16, 0.01, (S::OilTemp, 1.0)).offset(100.0).noise(0.03),
        Def::new("engine.water.temp", "°C", I16, 0.01, (S::WaterTemp, 1.0)).offset(100.0).noise(0.03),
        Def::new("engine.intake.temp", "°C", I16, 0.01, (S::IntakeTemp, 1.0)).offset(50.0).noise(0.04),
        Def::new("engine.exhaust.temp", "°C", I16, 0.05, (S::ExhaustTemp, 1.0)).offset(500.0).noise(0.4),
        Def::new("gearbox.gear", "", I16, 1.0, (S::Gear, 1.0)),
        Def::new("gearbox.oil.temp", "°C", I16, 0.01, (S::GearboxTemp, 1.0)).offset(100.0).noise(0.03),
        Def::new("fuel.pressure", "bar", I16, 0.001, (S::FuelPressure, 1.0)).noise(0.008),
        Def::new("fuel.flow", "kg/h", F32, 1.0, (S::FuelFlow, 1.0)).noise(0.05),
        Def::new("fuel.mass", "kg", I32, 0.001, (S::FuelMass, 1.0)).noise(0.01),
        Def::new("battery.voltage", "V", I16, 0.001, (S::Battery, 1.0)).noise(0.006),
        Def::new("hybrid.charge", "%", I16, 0.01, (S::Charge, 1.0)).noise(0.01),
        Def::new("hybrid.power", "kW", I16, 0.1, (S::ElectricPower, 1.0)).noise(0.3),
        Def::new("brake.pedal", "%", I16, 0.01, (S::Brake, 1.0)).noise(0.03),
        Def::new("brake.pressure.front", "bar", I16, 0.01, (S::BrakeFront, 1.0)).noise(0.05),
        Def::new("brake.pressure.rear", "bar", I16, 0.01, (S::BrakeRear, 1.0)).noise(0.05),
        Def::new("steering.angle", "deg", I16, 0.01, (S::Steering, 1.0)).noise(0.05),
        Def::new("chassis.speed", "km/h", I16, 0.02, (S::Speed, 3.6)).noise(0.03),
        Def::new("chassis.accel.long", "m/s2", I16, 0.005, (S::AccelLong, 1.0)).noise(0.06),
        Def::new("chassis.accel.lat", "m/s2", I16, 0.005, (S::AccelLat, 1.0)).noise(0.06),
        Def::new("chassis.accel.vert", "m/s2", I16, 0.005, (S::AccelVert, 1.0)).bias(9.81).noise(0.08),
        Def::new("chassis.yaw.rate", "deg/s", I16, 0.01, (S::YawRate, 57.295_779_513)).noise(0.08),
        Def::new("chassis.ride.front", "mm", I16, 0.01, (S::RideFront, 1.0)).noise(0.1),
        Def::new("chassis.ride.rear", "mm", I16, 0.01, (S::RideRear, 1.0)).noise(0.1),
        Def::new("aero.downforce", "N", I16, 1.0, (S::Downforce, 1.0)).noise(4.0),
        Def::new("aero.pitot", "Pa", I16, 0.25, (S::DynamicPressure, 1.0)).noise(4.0),
        Def::new("air.temp", "°C", I16, 0.01, (S::AirTemp, 1.0)).noise(0.02),
        Def::new("lap.number", "", I16, 1.0, (S::Lap, 1.0)),
        Def::new("lap.distance", "m", I32, 0.01, (S::LapDistance, 1.0)),
        Def::new("lap.time", "s", I32, 0.001, (S::LapTime, 1.0)),
        Def::new("gps.lat", "deg", I32, 1e-7, (S::Latitude, 1.0)).noise(2e-7),
        Def::new("gps.lon", "deg", I32, 1e-7, (S::Longitude, 1.0)).noise(2e-7),
        Def::new("gps.alt", "m", I32, 0.01, (S::Altitude, 1.0)).noise(0.05),
        Def::new("gps.speed", "km/h", F32, 1.0, (S::Speed, 3.6)).noise(0.05),
        Def::new("gps.course", "deg", I32, 0.001, (S::Course, 1.0)),
        Def::new("gps.satellites", "", I16, 1.0, (S::Satellites, 1.0)),
        Def::new("gps.east", "m", I16, 0.1, (S::East, 1.0)).noise(0.05),
        Def::new("gps.north", "m", I16, 0.1, (S::North, 1.0)).noise(0.05),
    ];
    for (i, corner) in CORNERS.iter().enumerate() {
        all.extend([
            Def::new(format!("wheel.{corner}.speed"), "km/h", I16, 0.02, (WHEEL_SPEED[i], 3.6)).noise(0.05),
            Def::new(format!("wheel.{corner}.load"), "N", I16, 1.0, (LOAD[i], 1.0)).noise(8.0),
            Def::new(format!("damper.{corner}.position"), "mm", I16, 0.01, (DAMPER[i], 1.0)).noise(0.05),
            Def::new(format!("tyre.{corner}.temp.inner"), "°C", I16, 0.01, (TREAD[i], 1.0)).plus(LOAD[i], 0.0008).offset(100.0).noise(0.08),
            Def::new(format!("tyre.{corner}.temp.middle"), "°C", I16, 0.01, (TREAD[i], 0.98)).offset(100.0).noise(0.08),
            Def::new(format!("tyre.{corner}.temp.outer"), "°C", I16, 0.01, (TREAD[i], 0.96)).plus(LOAD[i], 0.0004).offset(100.0).noise(0.08),
            Def::new(format!("tyre.{corner}.temp.carcass"), "°C", I16, 0.01, (CARCASS[i], 1.0)).offset(100.0).noise(0.03),
            Def::new(format!("tyre.{corner}.pressure"), "bar", I16, 0.0001, (CARCASS[i], 0.006)).plus(LOAD[i], 0.000_002).bias(1.1).noise(0.001),
            Def::new(format!("brake.{corner}.temp"), "°C", I16, 0.05, (DISC[i], 1.0)).offset(500.0).noise(0.5),
        ]);
    }
    all
}

/// Part of the car where a family of sensors sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Engine and gearbox.
    Engine,
    /// Suspension, wheels, body.
    Chassis,
    /// Wings and floor.
    Aero,
    /// Hybrid store and inverter.
    Power,
}

/// Sensor `i` (from 1) of a place's families, each a little different from the others.
#[rustfmt::skip]
pub(super) fn family(place: Place, i: usize) -> Def {
    use Signal as S;
    // The golden ratio spreads them evenly without repeating.
    let own = (i as f64 * 0.618_033_988_75).fract();
    let near = |gain: f64| gain * (0.85 + 0.3 * own);
    let corner = i % 4;
    let number = |name: &str, of: usize| format!("{name}.{:02}", (i - 1) / of + 1);
    match place {
        Place::Engine => match (i - 1) % 8 {
            0 => Def::new(number("cylinder.peak", 8), "bar", I16, 0.01, (S::Torque, near(0.09))).bias(18.0).noise(0.3),
            1 => Def::new(number("cylinder.exhaust", 8), "°C", I16, 0.05, (S::ExhaustTemp, near(1.0))).offset(500.0).noise(0.5),
            2 => Def::new(number("cylinder.knock", 8), "V", I16, 0.0005, (S::Torque, near(0.002))).plus(S::Rpm, 0.00008).noise(0.006)
                .ripple(S::EngineTurns, 0.5, own, 0.05),
            3 => Def::new(number("injector.time", 8), "ms", I16, 0.001, (S::Throttle, near(0.06))).bias(1.2).noise(0.004),
            4 => Def::new(number("block.vibration", 8), "m/s2", I16, 0.05, (S::Rpm, near(0.001))).noise(0.3)
                .ripple(S::EngineTurns, 0.5 * ((i - 1) / 8 % 6 + 1) as f64, own, near(14.0)),
            5 => Def::new(number("coolant.temp", 8), "°C", I16, 0.01, (S::WaterTemp, near(1.0))).offset(100.0).noise(0.03),
            6 => Def::new(number("oil.gallery", 8), "bar", I16, 0.001, (S::OilPressure, near(0.9))).noise(0.01)
                .ripple(S::EngineTurns, 2.0, own, 0.02),
            _ => Def::new(number("manifold.pressure", 8), "kPa", I16, 0.01, (S::IntakePressure, near(1.0))).noise(0.1)
                .ripple(S::EngineTurns, 1.5, own, 1.2),
        },
        Place::Chassis => match (i - 1) % 6 {
            0 => Def::new(number("strain", 6), "um/m", I16, 0.1, (LOAD[corner], near(0.12))).plus(S::AccelLat, near(4.0)).noise(0.8),
            1 => Def::new(number("pushrod.load", 6), "N", I16, 1.0, (LOAD[corner], near(1.3))).noise(9.0),
            2 => Def::new(number("hub.vibration", 6), "m/s2", I16, 0.05, (S::AccelVert, near(3.0))).noise(0.3)
                .ripple(S::WheelTurns, ((i - 1) / 6 % 5 + 1) as f64, own, near(4.0)),
            3 => Def::new(number("tyre.infrared", 6), "°C", I16, 0.01, (TREAD[corner], near(1.0))).offset(100.0).noise(0.1),
            4 => Def::new(number("upright.temp", 6), "°C", I16, 0.02, (DISC[corner], near(0.18))).bias(35.0).offset(100.0).noise(0.05),
            _ => Def::new(number("wishbone.strain", 6), "um/m", I16, 0.1, (S::AccelLat, near(28.0))).plus(S::AccelLong, near(11.0)).noise(0.8),
        },
        Place::Aero => match (i - 1) % 3 {
            0 => Def::new(number("floor.tap", 3), "Pa", I16, 0.5, (S::DynamicPressure, near(-1.9))).plus(S::RideRear, 6.0).noise(8.0),
            1 => Def::new(number("wing.tap", 3), "Pa", I16, 0.5, (S::DynamicPressure, near(-1.2))).noise(6.0),
            _ => Def::new(number("wing.load", 3), "N", I16, 0.25, (S::Downforce, near(0.05))).noise(1.0)
                .ripple(S::WheelTurns, 1.0, own, 2.0),
        },
        Place::Power => match (i - 1) % 3 {
            0 => Def::new(number("cell.voltage", 3), "V", I16, 0.0002, (S::Charge, near(0.006))).plus(S::ElectricPower, -0.0004).bias(3.35).noise(0.0008),
            1 => Def::new(number("cell.temp", 3), "°C", I16, 0.01, (S::WaterTemp, near(0.35))).plus(S::Charge, -0.05).bias(14.0).noise(0.03),
            _ => Def::new(number("inverter.current", 3), "A", I16, 0.05, (S::ElectricPower, near(1.4))).noise(0.4)
                .ripple(S::EngineTurns, 3.0, own, 0.8),
        },
    }
}

/// Some sensors have more bits, and some do the arithmetic themselves.
pub(super) fn varied(i: usize, def: Def) -> Def {
    match i % 11 {
        3 => Def { kind: F32, scale: 1.0, offset: 0.0, ..def },
        7 => Def { kind: I32, scale: def.scale / 50.0, ..def },
        _ => def,
    }
}

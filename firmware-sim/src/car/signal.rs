//! The quantities that the car's model yields, from which every channel is made.

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One quantity of the car's model.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Signal { $($(#[$doc])* $name,)* }

        /// How many there are.
        pub const SIGNALS: usize = [$(Signal::$name,)*].len();
    };
}

signals! {
    /// Distance from the line, m.
    LapDistance,
    /// Laps begun, the first is 1.
    Lap,
    /// Time since the line, s.
    LapTime,
    /// Road speed, m/s.
    Speed,
    /// Forward acceleration, m/s².
    AccelLong,
    /// Acceleration to the left, m/s².
    AccelLat,
    /// Upward acceleration, m/s², gravity not counted.
    AccelVert,
    /// Turning, rad/s, positive to the left.
    YawRate,
    /// Compass course, degrees.
    Course,
    /// Angle of the steering wheel, degrees, positive to the left.
    Steering,
    /// Throttle, %.
    Throttle,
    /// Brake pedal, %.
    Brake,
    /// Front brake pressure, bar.
    BrakeFront,
    /// Rear brake pressure, bar.
    BrakeRear,
    /// Gear, from 1.
    Gear,
    /// Engine speed, 1/min.
    Rpm,
    /// Turns of the engine since the start.
    EngineTurns,
    /// Torque at the crank, Nm.
    Torque,
    /// Power at the wheels, kW.
    Power,
    /// Oil pressure, bar.
    OilPressure,
    /// Oil temperature, °C.
    OilTemp,
    /// Coolant temperature, °C.
    WaterTemp,
    /// Gearbox oil temperature, °C.
    GearboxTemp,
    /// Exhaust gas temperature, °C.
    ExhaustTemp,
    /// Intake air temperature, °C.
    IntakeTemp,
    /// Intake pressure, kPa.
    IntakePressure,
    /// Air to fuel, as lambda.
    Lambda,
    /// Ignition advance, degrees.
    Ignition,
    /// Fuel pressure, bar.
    FuelPressure,
    /// Fuel flow, kg/h.
    FuelFlow,
    /// Fuel left, kg.
    FuelMass,
    /// Battery voltage, V.
    Battery,
    /// State of charge of the hybrid store, %.
    Charge,
    /// Power of the electric machine, kW, negative when it harvests.
    ElectricPower,
    /// Air temperature, °C.
    AirTemp,
    /// Dynamic pressure of the air, Pa.
    DynamicPressure,
    /// Downforce, N.
    Downforce,
    /// Front ride height, mm.
    RideFront,
    /// Rear ride height, mm.
    RideRear,
    /// Latitude, degrees.
    Latitude,
    /// Longitude, degrees.
    Longitude,
    /// Metres east of the line.
    East,
    /// Metres north of the line.
    North,
    /// Altitude, m.
    Altitude,
    /// Satellites in use.
    Satellites,
    /// Turns of the wheels since the start.
    WheelTurns,
    /// Wheel speed, m/s: front left.
    WheelSpeedFl,
    /// Wheel speed: front right.
    WheelSpeedFr,
    /// Wheel speed: rear left.
    WheelSpeedRl,
    /// Wheel speed: rear right.
    WheelSpeedRr,
    /// Load on the wheel, N: front left.
    LoadFl,
    /// Load: front right.
    LoadFr,
    /// Load: rear left.
    LoadRl,
    /// Load: rear right.
    LoadRr,
    /// Damper travel, mm: front left.
    DamperFl,
    /// Damper travel: front right.
    DamperFr,
    /// Damper travel: rear left.
    DamperRl,
    /// Damper travel: rear right.
    DamperRr,
    /// Tread temperature, °C: front left.
    TreadFl,
    /// Tread temperature: front right.
    TreadFr,
    /// Tread temperature: rear left.
    TreadRl,
    /// Tread temperature: rear right.
    TreadRr,
    /// Carcass temperature, °C: front left.
    CarcassFl,
    /// Carcass temperature: front right.
    CarcassFr,
    /// Carcass temperature: rear left.
    CarcassRl,
    /// Carcass temperature: rear right.
    CarcassRr,
    /// Brake disc temperature, °C: front left.
    DiscFl,
    /// Brake disc temperature: front right.
    DiscFr,
    /// Brake disc temperature: rear left.
    DiscRl,
    /// Brake disc temperature: rear right.
    DiscRr,
}

/// The four corners of the car in the order of all tables: front left, front right, rear left,
/// rear right.
pub const CORNERS: [&str; 4] = ["fl", "fr", "rl", "rr"];
/// Wheel speeds by corner.
pub const WHEEL_SPEED: [Signal; 4] =
    [Signal::WheelSpeedFl, Signal::WheelSpeedFr, Signal::WheelSpeedRl, Signal::WheelSpeedRr];
/// Wheel loads by corner.
pub const LOAD: [Signal; 4] = [Signal::LoadFl, Signal::LoadFr, Signal::LoadRl, Signal::LoadRr];
/// Damper travel by corner.
pub const DAMPER: [Signal; 4] = [Signal::DamperFl, Signal::DamperFr, Signal::DamperRl, Signal::DamperRr];
/// Tread temperatures by corner.
pub const TREAD: [Signal; 4] = [Signal::TreadFl, Signal::TreadFr, Signal::TreadRl, Signal::TreadRr];
/// Carcass temperatures by corner.
pub const CARCASS: [Signal; 4] = [Signal::CarcassFl, Signal::CarcassFr, Signal::CarcassRl, Signal::CarcassRr];
/// Disc temperatures by corner.
pub const DISC: [Signal; 4] = [Signal::DiscFl, Signal::DiscFr, Signal::DiscRl, Signal::DiscRr];

/// The car at one moment: a value for each signal.
#[derive(Debug, Clone, PartialEq)]
pub struct State([f64; SIGNALS]);

impl Default for State {
    fn default() -> Self {
        Self([0.0; SIGNALS])
    }
}

impl State {
    /// The value of a signal.
    #[inline]
    #[must_use]
    pub fn get(&self, signal: Signal) -> f64 {
        self.0[signal as usize]
    }

    /// Sets a signal.
    pub fn set(&mut self, signal: Signal, value: f64) {
        self.0[signal as usize] = value;
    }
}

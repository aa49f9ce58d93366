//! A plausible car: laps of one circuit, from which everything that its sensors see follows.
//!
//! The model moves in steps of [`STEP_S`]. It holds back with grip, power and drag, so speed,
//! pedals, gear and engine speed belong together; temperatures have inertia. Sensor noise is not
//! added here but by the channels ([`crate::tiers`]).
//!
//! It deliberately lacks other cars, weather, pit stops and driver's errors.

pub mod machine;
mod noise;
pub mod signal;
mod thermal;
pub mod track;

pub use machine::Machine;
pub use noise::Noise;
pub use signal::{Signal, State};
use thermal::Thermal;
use track::Track;

/// Seconds of one step of the model.
pub const STEP_S: f64 = 0.01;
/// The start is this far before the line, so that the first flying lap begins within seconds.
const RUN_UP_M: f64 = 380.0;
const GRAVITY: f64 = 9.81;
const STEERING_RATIO: f64 = 11.0;

/// Something that happened on the circuit.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The session began.
    Session,
    /// The line was crossed: number of the lap that ended (0 for the run-up) and its time, s.
    Lap {
        /// Number of the lap that ended.
        number: u32,
        /// How long it took, s.
        time_s: f64,
    },
}

/// The car on its laps.
#[derive(Debug, Clone)]
pub struct Car {
    machine: Machine,
    track: Track,
    speeds: Vec<f64>,
    chance: Noise,
    /// Metres since the line of lap 1.
    distance_m: f64,
    speed: f64,
    accel_long: f64,
    accel_lat: f64,
    throttle: f64,
    brake: f64,
    gear: usize,
    shift_hold_s: f64,
    rpm: f64,
    engine_turns: f64,
    wheel_turns: f64,
    fuel_kg: f64,
    charge: f64,
    lap: u32,
    lap_time_s: f64,
    pace: f64,
    pace_next: f64,
    air_c: f64,
    road_phase: f64,
    thermal: Thermal,
    state: State,
}

impl Car {
    /// A car of a kind; `seed` and `name` decide its pace and its day.
    #[must_use]
    pub fn new(machine: Machine, seed: u64, name: &str) -> Self {
        let track = Track::new();
        let speeds = machine.speeds(&track);
        let mut chance = Noise::new(seed, name);
        let distance_m = -RUN_UP_M - 60.0 * chance.unit();
        let (here, _, _) = track.locate(distance_m);
        let speed = 0.9 * speeds[here];
        let air_c = 18.0 + 8.0 * chance.unit();
        let pace = 0.965 + 0.03 * chance.unit();
        let pace_next = 0.965 + 0.03 * chance.unit();
        let road_phase = chance.unit() * 10.0;
        let mut car = Self {
            machine,
            track,
            speeds,
            chance,
            distance_m,
            speed,
            accel_long: 0.0,
            accel_lat: 0.0,
            throttle: 0.4,
            brake: 0.0,
            gear: 1,
            shift_hold_s: 0.0,
            rpm: 0.0,
            engine_turns: 0.0,
            wheel_turns: 0.0,
            fuel_kg: machine.fuel_kg,
            charge: 70.0,
            lap: 0,
            lap_time_s: 0.0,
            pace,
            pace_next,
            air_c,
            road_phase,
            thermal: Thermal::new(air_c),
            state: State::default(),
        };
        for _ in 0..car.machine.ratios.len() {
            car.gear = car.machine.next_gear(car.gear, speed);
        }
        car.rpm = car.machine.rpm_in(car.gear, speed);
        car.publish(0.0);
        car
    }

    /// The car as it is now.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What kind of car it is.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// One step of [`STEP_S`]; what happened in it, if anything.
    pub fn step(&mut self) -> Option<Happening> {
        let dt = STEP_S;
        let mass_kg = self.machine.mass_kg + self.fuel_kg;
        let drag = self.machine.drag_at(self.speed, mass_kg);
        let thrust = self.machine.thrust_at(self.speed, mass_kg);
        let braking = 0.95 * self.machine.grip_at(self.speed);

        let target = self.target_speed(self.distance_m + self.speed * dt);
        let before = self.speed;
        let wanted = (target - self.speed) / dt;
        let accel = wanted.clamp(-braking - drag, thrust - drag);
        self.speed = (self.speed + accel * dt).max(3.0);
        let accel = (self.speed - before) / dt;
        self.distance_m += (before + self.speed) / 2.0 * dt;

        let follow = |now: f64, goal: f64, tau_s: f64| now + (goal - now) * (dt / tau_s).min(1.0);
        self.accel_long = follow(self.accel_long, accel, 0.06);
        let push = self.accel_long + drag;
        let coasting = 0.6;
        let throttle = if push > 0.0 { 100.0 * push / thrust } else { 0.0 };
        let brake = if push < -coasting { 100.0 * (-push - coasting) / braking } else { 0.0 };
        self.throttle = follow(self.throttle, throttle.min(100.0), 0.04);
        self.brake = follow(self.brake, brake.min(100.0), 0.03);

        let point = self.track.at(self.distance_m);
        self.accel_lat = follow(self.accel_lat, self.speed * self.speed * point.curvature, 0.03);

        self.shift_hold_s -= dt;
        let next = self.machine.next_gear(self.gear, self.speed);
        if next != self.gear && self.shift_hold_s <= 0.0 {
            self.gear = next;
            self.shift_hold_s = 0.12;
        }
        self.rpm = follow(self.rpm, self.machine.rpm_in(self.gear, self.speed), 0.035);
        self.engine_turns += self.rpm / 60.0 * dt;
        self.wheel_turns += self.speed / (std::f64::consts::TAU * self.machine.wheel_radius_m) * dt;

        let power_kw = self.throttle / 100.0 * thrust * mass_kg * self.speed / 1_000.0;
        // 0.2 kg of fuel a kWh at the wheels, and something to keep turning.
        self.fuel_kg = (self.fuel_kg - (power_kw * 0.2 + 2.0) / 3_600.0 * dt).max(1.0);
        let electric_kw = 0.18 * power_kw * (self.charge / 60.0).min(1.0) - 2.2 * self.brake;
        // A store of 1.1 kWh.
        self.charge = (self.charge - electric_kw * dt / 3_600.0 / 1.1 * 100.0).clamp(5.0, 98.0);

        self.lap_time_s += dt;
        let lap = (self.distance_m / self.track.length_m()).floor() + 1.0;
        let happening = if lap > f64::from(self.lap) && lap >= 1.0 {
            let ended = Happening::Lap { number: self.lap, time_s: self.lap_time_s };
            self.lap += 1;
            self.lap_time_s = 0.0;
            self.pace = self.pace_next;
            self.pace_next = 0.965 + 0.03 * self.chance.unit();
            Some(ended)
        } else {
            None
        };
        self.publish(electric_kw);
        happening
    }

    /// What the driver aims at, m/s; the pace of a lap passes into that of the next one over its
    /// last 400 m.
    fn target_speed(&self, distance_m: f64) -> f64 {
        let (here, next, share) = self.track.locate(distance_m);
        let speed = self.speeds[here] + (self.speeds[next] - self.speeds[here]) * share;
        let left = self.track.length_m() - distance_m.rem_euclid(self.track.length_m());
        let pass = (1.0 - left / 400.0).clamp(0.0, 1.0);
        let wobble = 0.004 * (distance_m / 210.0).sin();
        speed * (self.pace + (self.pace_next - self.pace) * pass + wobble)
    }

    /// Writes all signals from the model's variables, and moves the slow ones.
    fn publish(&mut self, electric_kw: f64) {
        let machine = self.machine;
        let mass_kg = machine.mass_kg + self.fuel_kg;
        let point = self.track.at(self.distance_m);
        let (speed, long, lat) = (self.speed, self.accel_long, self.accel_lat);
        let down_n = machine.downforce * speed * speed * mass_kg;
        let bump = |shift: f64| {
            let at = self.distance_m + self.road_phase + shift;
            0.9 * (at / 1.7).sin() + 1.6 * (at / 5.3).sin() + 2.2 * (at / 23.0).sin()
        };
        let shake = (speed / 40.0).min(1.5);

        // Loads: a quarter each, moved by the accelerations; 0.3 m high, shared by the axles.
        let quarter_n = (mass_kg * GRAVITY + down_n) / 4.0;
        let pitch_n = mass_kg * long * 0.30 / machine.wheelbase_m / 2.0;
        let roll_n = mass_kg * lat * 0.30 / machine.track_width_m / 2.0;
        let half_m = machine.track_width_m / 2.0;
        let yaw = speed * point.curvature;
        let slip_drive = 0.035 * self.throttle / 100.0 * (30.0 / speed.max(15.0)).min(1.0);
        let slip_brake = 0.04 * self.brake / 100.0;
        let mut loads = [0.0; 4];
        for (corner, slot) in loads.iter_mut().enumerate() {
            let front = if corner < 2 { 1.0 } else { -1.0 };
            let left = if corner % 2 == 0 { 1.0 } else { -1.0 };
            let axle_m = if corner < 2 { 0.0 } else { -machine.wheelbase_m };
            let rough = bump(axle_m + 0.3 * left) * shake;
            let load = (quarter_n - front * pitch_n - left * roll_n + 90.0 * rough).max(50.0);
            *slot = load;
            let slip = if corner < 2 { -slip_brake } else { slip_drive - 0.6 * slip_brake };
            let wheel = (speed - left * yaw * half_m) * (1.0 + slip);
            self.state.set(signal::WHEEL_SPEED[corner], wheel.max(0.0));
            self.state.set(signal::LOAD[corner], load);
            self.state.set(signal::DAMPER[corner], (load - quarter_n) / 210.0 + down_n / 4.0 / 260.0 + rough);
        }
        self.thermal.step(&thermal::Heat {
            speed,
            brake: self.brake,
            tyre: machine.tyre_heat(),
            power_kw: self.throttle / 100.0 * machine.power_w / 1_000.0,
            rpm_share: self.rpm / machine.rpm_max,
            accel_long: long,
            accel_lat: lat,
            loads,
            air_c: self.air_c,
        });
        self.thermal.publish(&mut self.state);

        let rev_share = self.rpm / machine.rpm_max;
        let open = self.throttle / 100.0;
        let power_kw = open * machine.thrust_at(speed, mass_kg) * mass_kg * speed / 1_000.0;
        let torque = power_kw * 1_000.0 / (self.rpm / 60.0 * std::f64::consts::TAU).max(1.0);
        let hot = (self.thermal.oil_c() - 90.0) / 100.0;
        let surge = 0.35 * (lat.abs() / 25.0).powi(2);
        let course = (90.0 - point.heading.to_degrees()).rem_euclid(360.0);
        let steering = (machine.wheelbase_m * point.curvature + 0.0006 * lat).atan().to_degrees();
        let flow = power_kw * 0.2 + 2.0;
        let dynamic = 0.6 * speed * speed;
        let state = &mut self.state;
        for (signal, value) in [
            (Signal::LapDistance, self.distance_m.rem_euclid(self.track.length_m())),
            (Signal::Lap, f64::from(self.lap)),
            (Signal::LapTime, self.lap_time_s),
            (Signal::Speed, speed),
            (Signal::AccelLong, long),
            (Signal::AccelLat, lat),
            (Signal::AccelVert, 0.8 * shake * ((self.distance_m + self.road_phase) / 1.7).cos()),
            (Signal::YawRate, yaw),
            (Signal::Course, course),
            (Signal::Steering, steering * STEERING_RATIO),
            (Signal::Throttle, self.throttle),
            (Signal::Brake, self.brake),
            (Signal::BrakeFront, 0.88 * self.brake),
            (Signal::BrakeRear, 0.62 * self.brake),
            (Signal::Gear, self.gear as f64),
            (Signal::Rpm, self.rpm),
            (Signal::EngineTurns, self.engine_turns),
            (Signal::Torque, torque),
            (Signal::Power, power_kw),
            (Signal::OilPressure, 1.4 + 4.6 * rev_share - 1.2 * hot - surge),
            (Signal::IntakeTemp, self.air_c + 6.0 + 8.0 * open - speed * 0.03),
            (Signal::IntakePressure, 30.0 + 70.0 * open + dynamic / 1_000.0),
            (Signal::Lambda, if open > 0.05 { 1.0 - 0.12 * open } else { 1.18 }),
            (Signal::Ignition, 12.0 + 22.0 * rev_share - 9.0 * open),
            (Signal::FuelPressure, 5.2 - 0.25 * open),
            (Signal::FuelFlow, flow),
            (Signal::FuelMass, self.fuel_kg),
            (Signal::Battery, 13.4 + 0.7 * rev_share - 0.2 * open),
            (Signal::Charge, self.charge),
            (Signal::ElectricPower, electric_kw),
            (Signal::AirTemp, self.air_c),
            (Signal::DynamicPressure, dynamic),
            (Signal::Downforce, down_n),
            (Signal::RideFront, 48.0 - down_n / 900.0 + long * 0.25),
            (Signal::RideRear, 78.0 - down_n / 700.0 - long * 0.3),
            (Signal::Latitude, point.latitude_deg()),
            (Signal::Longitude, point.longitude_deg()),
            (Signal::East, point.east_m),
            (Signal::North, point.north_m),
            (Signal::Altitude, point.altitude_m),
            (Signal::Satellites, 14.0 + (self.distance_m / 900.0).sin().round()),
            (Signal::WheelTurns, self.wheel_turns),
        ] {
            state.set(signal, value);
        }
    }
}

#[cfg(test)]
mod tests;

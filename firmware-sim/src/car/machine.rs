//! What kind of car it is, and how fast it can take the circuit.

use super::track::Track;

/// The limits of a car, in SI units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Mass with driver, without fuel, kg.
    pub mass_kg: f64,
    /// Fuel at the start, kg.
    pub fuel_kg: f64,
    /// Power at the wheels, W.
    pub power_w: f64,
    /// Drag: 0.5 · ρ · cd · A, N per (m/s)².
    pub drag: f64,
    /// Acceleration that the tyres hold at rest, m/s².
    pub grip: f64,
    /// What downforce adds to it, m/s² per (m/s)².
    pub downforce: f64,
    /// Overall ratio of each gear: turns of the engine for one of the wheel.
    pub ratios: &'static [f64],
    /// Highest engine speed, 1/min.
    pub rpm_max: f64,
    /// Idle speed, 1/min.
    pub rpm_idle: f64,
    /// Radius of a wheel, m.
    pub wheel_radius_m: f64,
    /// Distance of the axles, m.
    pub wheelbase_m: f64,
    /// Distance of the wheels of an axle, m.
    pub track_width_m: f64,
}

/// A club racer on road-legal slicks.
pub const CLUB: Machine = Machine {
    mass_kg: 1_020.0,
    fuel_kg: 40.0,
    power_w: 175_000.0,
    drag: 0.48,
    grip: 12.0,
    downforce: 0.000_6,
    ratios: &[12.6, 8.6, 6.5, 5.2, 4.3, 3.45],
    rpm_max: 7_600.0,
    rpm_idle: 900.0,
    wheel_radius_m: 0.31,
    wheelbase_m: 2.45,
    track_width_m: 1.52,
};

/// A GT car.
pub const GT: Machine = Machine {
    mass_kg: 1_270.0,
    fuel_kg: 90.0,
    power_w: 395_000.0,
    drag: 0.72,
    grip: 14.5,
    downforce: 0.001_6,
    ratios: &[12.0, 8.9, 7.0, 5.7, 4.7, 3.85],
    rpm_max: 8_900.0,
    rpm_idle: 1_200.0,
    wheel_radius_m: 0.345,
    wheelbase_m: 2.6,
    track_width_m: 1.66,
};

/// A formula car with hybrid power.
pub const FORMULA: Machine = Machine {
    mass_kg: 798.0,
    fuel_kg: 100.0,
    power_w: 680_000.0,
    drag: 0.82,
    grip: 17.0,
    downforce: 0.004_2,
    ratios: &[14.9, 11.6, 9.5, 8.0, 6.9, 6.05, 5.4, 4.85],
    rpm_max: 12_800.0,
    rpm_idle: 4_000.0,
    wheel_radius_m: 0.36,
    wheelbase_m: 3.55,
    track_width_m: 1.6,
};

/// A turn tighter than this is no turn of a circuit: keeps the division finite.
const CURVATURE_MIN: f64 = 1e-6;

impl Machine {
    /// Acceleration in m/s² that the tyres hold at a speed.
    #[must_use]
    pub fn grip_at(&self, speed: f64) -> f64 {
        self.grip + self.downforce * speed * speed
    }

    /// Greatest acceleration by the engine at a speed, drag not counted, m/s².
    #[must_use]
    pub fn thrust_at(&self, speed: f64, mass_kg: f64) -> f64 {
        (self.power_w / (mass_kg * speed.max(1.0))).min(0.62 * self.grip_at(speed))
    }

    /// Deceleration by drag and rolling, m/s².
    #[must_use]
    pub fn drag_at(&self, speed: f64, mass_kg: f64) -> f64 {
        self.drag * speed * speed / mass_kg + 0.15
    }

    /// How much its tyres warm for the work they do: each class has tyres that suit its work, so
    /// that all of them run at about 90 °C.
    #[must_use]
    pub fn tyre_heat(&self) -> f64 {
        let usual = 0.65 * self.top_speed();
        18.0 / (self.grip_at(usual) * usual)
    }

    /// Speed at which drag takes all the power, m/s.
    #[must_use]
    pub fn top_speed(&self) -> f64 {
        let mass_kg = self.mass_kg;
        let (mut low, mut high) = (10.0, 150.0);
        for _ in 0..40 {
            let speed = (low + high) / 2.0;
            if self.power_w / (mass_kg * speed) > self.drag_at(speed, mass_kg) {
                low = speed;
            } else {
                high = speed;
            }
        }
        low
    }

    /// The fastest speed at each point of the circuit, m/s: what the corners allow, then what
    /// the brakes and the engine allow between them.
    #[must_use]
    pub fn speeds(&self, track: &Track) -> Vec<f64> {
        let top = self.top_speed();
        let mass_kg = self.mass_kg + self.fuel_kg;
        let mut speeds: Vec<f64> = track
            .points()
            .iter()
            .map(|point| {
                let curvature = point.curvature.abs().max(CURVATURE_MIN);
                // v² κ = grip + downforce v²
                let left = curvature - self.downforce;
                if left <= CURVATURE_MIN { top } else { (self.grip / left).sqrt().min(top) }
            })
            .collect();
        let count = speeds.len();
        let step = track.length_m() / count as f64;
        // Twice around, so that what happens across the line settles.
        for i in (0..2 * count).rev() {
            let (here, next) = (i % count, (i + 1) % count);
            let speed = speeds[next];
            let lateral = speed * speed * track.points()[next].curvature.abs();
            let free = (self.grip_at(speed).powi(2) - lateral * lateral).max(1.0).sqrt();
            let brake = 0.85 * free + self.drag_at(speed, mass_kg);
            speeds[here] = speeds[here].min((speed * speed + 2.0 * brake * step).sqrt());
        }
        for i in 0..2 * count {
            let (here, next) = (i % count, (i + 1) % count);
            let speed = speeds[here];
            let lateral = speed * speed * track.points()[here].curvature.abs();
            let free = (self.grip_at(speed).powi(2) - lateral * lateral).max(1.0).sqrt();
            let gain = self.thrust_at(speed, mass_kg).min(0.8 * free) - self.drag_at(speed, mass_kg);
            speeds[next] = speeds[next].min((speed * speed + 2.0 * gain * step).max(1.0).sqrt());
        }
        speeds
    }

    /// Engine speed in a gear (from 1) at a road speed, 1/min.
    #[must_use]
    pub fn rpm_in(&self, gear: usize, speed: f64) -> f64 {
        let turns = speed / (std::f64::consts::TAU * self.wheel_radius_m) * 60.0;
        let ratio = self.ratios.get(gear.saturating_sub(1)).copied().unwrap_or(1.0);
        (turns * ratio).max(self.rpm_idle)
    }

    /// The gear (from 1) that follows `gear` at a speed, one step at most.
    #[must_use]
    pub fn next_gear(&self, gear: usize, speed: f64) -> usize {
        if gear < self.ratios.len() && self.rpm_in(gear, speed) > 0.96 * self.rpm_max {
            gear + 1
        } else if gear > 1 && self.rpm_in(gear - 1, speed) < 0.84 * self.rpm_max {
            gear - 1
        } else {
            gear
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_car_laps_in_the_time_of_its_class() {
        let track = Track::new();
        for (machine, fastest_s, slowest_s) in [(CLUB, 120.0, 175.0), (GT, 100.0, 140.0), (FORMULA, 75.0, 105.0)] {
            let speeds = machine.speeds(&track);
            let step = track.length_m() / speeds.len() as f64;
            let lap_s: f64 = speeds.iter().map(|v| step / v).sum();
            assert!(lap_s > fastest_s && lap_s < slowest_s, "a lap of {lap_s} s, top {}", machine.top_speed());
        }
    }

    #[test]
    fn top_gear_reaches_the_top_speed_within_the_revs() {
        for machine in [CLUB, GT, FORMULA] {
            let rpm = machine.rpm_in(machine.ratios.len(), machine.top_speed());
            assert!(rpm < machine.rpm_max * 1.02 && rpm > machine.rpm_max * 0.8, "{rpm}");
        }
    }
}

//! What warms and cools: tyres, brakes, engine, oil. First-order bodies with their own inertia.

use super::STEP_S;
use super::signal::{CARCASS, DISC, Signal, State, TREAD};

/// What heats the car in one step.
pub(super) struct Heat {
    /// Road speed, m/s.
    pub(super) speed: f64,
    /// Brake, %.
    pub(super) brake: f64,
    /// What the tyres make of their work, K per J/kg and share of load.
    pub(super) tyre: f64,
    /// Engine power, kW.
    pub(super) power_kw: f64,
    /// Engine speed as a share of the highest.
    pub(super) rpm_share: f64,
    /// Accelerations, m/s².
    pub(super) accel_long: f64,
    /// To the left, m/s².
    pub(super) accel_lat: f64,
    /// Loads by corner, N.
    pub(super) loads: [f64; 4],
    /// Air, °C.
    pub(super) air_c: f64,
}

/// The temperatures, °C.
#[derive(Debug, Clone)]
pub(super) struct Thermal {
    tread: [f64; 4],
    carcass: [f64; 4],
    disc: [f64; 4],
    oil: f64,
    water: f64,
    gearbox: f64,
    exhaust: f64,
}

impl Thermal {
    /// A car that comes from its garage: warmed through, tyres from their blankets.
    pub(super) fn new(air_c: f64) -> Self {
        Self {
            tread: [72.0; 4],
            carcass: [76.0; 4],
            disc: [180.0 + air_c; 4],
            oil: 88.0,
            water: 82.0,
            gearbox: 84.0,
            exhaust: 520.0,
        }
    }

    /// Oil temperature, °C.
    pub(super) fn oil_c(&self) -> f64 {
        self.oil
    }

    /// One step of [`STEP_S`].
    pub(super) fn step(&mut self, heat: &Heat) {
        let toward = |now: &mut f64, goal: f64, tau_s: f64| *now += (goal - *now) * STEP_S / tau_s;
        let wind = 0.35 + heat.speed / 60.0;
        let total_n: f64 = heat.loads.iter().sum::<f64>().max(1.0);
        for corner in 0..4 {
            let share = heat.loads[corner] / total_n;
            let rear = if corner < 2 { 0.0 } else { heat.accel_long.max(0.0) };
            let work = share * (heat.accel_lat.abs() + 0.5 * heat.accel_long.abs() + rear) * heat.speed;
            // The tread rises by a few degrees in a corner and gives them away on the straight.
            let tread = self.tread[corner];
            self.tread[corner] += STEP_S
                * (heat.tyre * work
                    - 0.055 * wind * (tread - heat.air_c) * 0.35
                    - 0.16 * (tread - self.carcass[corner]));
            toward(&mut self.carcass[corner], self.tread[corner] + 2.0, 24.0);
            let bias = if corner < 2 { 1.0 } else { 0.72 };
            let disc = self.disc[corner];
            self.disc[corner] +=
                STEP_S * (bias * heat.brake / 100.0 * heat.speed * 6.5 - 0.055 * wind * (disc - heat.air_c));
        }
        let load = heat.power_kw / 500.0;
        toward(&mut self.oil, 84.0 + 26.0 * load + 14.0 * heat.rpm_share - 4.0 * wind, 75.0);
        toward(&mut self.water, 76.0 + 18.0 * load + 8.0 * heat.rpm_share - 5.0 * wind, 55.0);
        toward(&mut self.gearbox, 80.0 + 22.0 * load + 10.0 * heat.rpm_share, 110.0);
        toward(&mut self.exhaust, 480.0 + 330.0 * load.min(1.2) + 120.0 * heat.rpm_share, 1.8);
    }

    /// Writes the temperatures into the car's state.
    pub(super) fn publish(&self, state: &mut State) {
        for corner in 0..4 {
            state.set(TREAD[corner], self.tread[corner]);
            state.set(CARCASS[corner], self.carcass[corner]);
            state.set(DISC[corner], self.disc[corner]);
        }
        state.set(Signal::OilTemp, self.oil);
        state.set(Signal::WaterTemp, self.water);
        state.set(Signal::GearboxTemp, self.gearbox);
        state.set(Signal::ExhaustTemp, self.exhaust);
    }
}

//! How a channel follows the car: a line between two states, a ripple, a little noise.

use pitwire_wire::{Value, ValueKind};

use crate::car::{Noise, Signal, State};

/// A ripple that turns with something: engine orders, wheel imbalance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ripple {
    /// Counts turns: [`Signal::EngineTurns`] or [`Signal::WheelTurns`].
    pub turns: Signal,
    /// Ripples for one turn.
    pub order: f64,
    /// Where in the turn it begins, turns.
    pub phase: f64,
    /// Height, in the channel's unit.
    pub amplitude: f64,
}

/// How a channel follows the car, in its physical unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// What it measures, and how much of it.
    pub main: (Signal, f64),
    /// What else it sees.
    pub second: Option<(Signal, f64)>,
    /// Added to both.
    pub bias: f64,
    /// Standard deviation of the sensor's noise.
    pub noise: f64,
    /// See [`Ripple`].
    pub ripple: Option<Ripple>,
}

/// A recipe over one step of the car: value = start + slope × share, and so on.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    start: f64,
    slope: f64,
    noise: f64,
    amplitude: f64,
    angle: f64,
    angle_slope: f64,
}

impl Recipe {
    /// The recipe between two states of the car.
    #[must_use]
    pub fn between(&self, before: &State, now: &State) -> Segment {
        let (mut start, mut slope) = (self.bias, 0.0);
        for (signal, gain) in [Some(self.main), self.second].into_iter().flatten() {
            let (a, b) = (before.get(signal), now.get(signal));
            start += gain * a;
            if (b - a).abs() < holds_above(signal) {
                slope += gain * (b - a);
            }
        }
        let mut segment = Segment { start, slope, noise: self.noise, amplitude: 0.0, angle: 0.0, angle_slope: 0.0 };
        if let Some(ripple) = self.ripple {
            let (a, b) = (before.get(ripple.turns), now.get(ripple.turns));
            segment.amplitude = ripple.amplitude;
            segment.angle = (a * ripple.order + ripple.phase).fract() * std::f64::consts::TAU;
            segment.angle_slope = (b - a) * ripple.order * std::f64::consts::TAU;
        }
        segment
    }
}

impl Segment {
    /// The value at a share of the step, 0 to 1.
    #[inline]
    #[must_use]
    pub fn at(&self, share: f64, noise: &mut Noise) -> f64 {
        let mut value = self.start + self.slope * share;
        if self.amplitude != 0.0 {
            value += self.amplitude * f64::from(((self.angle + self.angle_slope * share) as f32).sin());
        }
        if self.noise != 0.0 {
            value += self.noise * noise.bell();
        }
        value
    }
}

/// A change of more than this within a step is a jump, not a slope: between states the signal
/// keeps its old value.
fn holds_above(signal: Signal) -> f64 {
    match signal {
        Signal::Gear | Signal::Lap | Signal::Satellites => 0.0,
        Signal::LapTime => 1.0,
        Signal::LapDistance => 50.0,
        Signal::Course => 90.0,
        _ => f64::INFINITY,
    }
}

/// The raw value that a sensor would send for a physical one. Out of range sticks at the end.
#[inline]
#[must_use]
pub fn raw(kind: ValueKind, scale: f64, offset: f64, physical: f64) -> Value {
    // Float to integer casts saturate.
    let steps = (physical - offset) / scale;
    match kind {
        ValueKind::I16 => Value::I16(steps.round() as i16),
        ValueKind::I32 => Value::I32(steps.round() as i32),
        ValueKind::F32 => Value::F32(steps as f32),
    }
}

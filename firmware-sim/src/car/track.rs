//! The circuit: straights and corners, laid out once into a table by distance.
//!
//! The table of elements is closed: its headings turn by one full circle and its ends meet within
//! a metre, which the tests hold it to. What is left of the gap is spread along the lap.

use std::f64::consts::{PI, TAU};

/// One element of the circuit.
enum Element {
    /// A straight of so many metres.
    Straight(f64),
    /// An arc: radius in metres, angle in degrees, positive to the left.
    Arc(f64, f64),
}

use Element::{Arc, Straight};

/// An invented circuit of 5.8 km, driven clockwise; the first straight holds the line.
const ELEMENTS: &[Element] = &[
    Straight(638.2),
    Arc(45.0, -95.0),
    Straight(336.6),
    Arc(90.0, 60.0),
    Straight(326.2),
    Arc(140.0, -50.0),
    Straight(390.1),
    Arc(28.0, -120.0),
    Straight(625.8),
    Arc(110.0, 75.0),
    Straight(378.9),
    Arc(75.0, -85.0),
    Straight(824.5),
    Arc(35.0, -110.0),
    Straight(55.2),
    Arc(60.0, 70.0),
    Straight(458.4),
    Arc(180.0, -65.0),
    Straight(239.7),
    Arc(55.0, -80.0),
    Straight(218.0),
    Arc(120.0, 40.0),
    Straight(198.2),
];

/// Metres between two points of the table.
const STEP_M: f64 = 2.0;
/// A corner is entered and left over this length: nobody turns the wheel in no time.
const EASE_M: f64 = 24.0;
/// Where the circuit lies.
const LATITUDE_DEG: f64 = 52.07;
const LONGITUDE_DEG: f64 = -1.01;
const METRES_PER_DEGREE: f64 = 111_195.0;

/// One point of the circuit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Curvature in 1/m, positive to the left.
    pub curvature: f64,
    /// Metres east of the line.
    pub east_m: f64,
    /// Metres north of the line.
    pub north_m: f64,
    /// Metres above the sea.
    pub altitude_m: f64,
    /// Heading in radians, counted on over the lap.
    pub heading: f64,
}

/// The circuit as a table by distance from the line.
#[derive(Debug, Clone)]
pub struct Track {
    points: Vec<Point>,
    length_m: f64,
}

impl Default for Track {
    fn default() -> Self {
        Self::new()
    }
}

impl Track {
    /// Lays the circuit out.
    #[must_use]
    pub fn new() -> Self {
        let raw_length: f64 = ELEMENTS.iter().map(length_of).sum();
        let count = (raw_length / STEP_M).round() as usize;
        let step = raw_length / count as f64;
        let raw: Vec<f64> = (0..count).map(|i| curvature_at(i as f64 * step)).collect();
        let reach = (EASE_M / 2.0 / step) as usize;
        let mut eased = ease(&ease(&raw, reach), reach);
        // Points a step apart miss a little of each arc: give it back, so that a lap is a full turn.
        let turned: f64 = eased.iter().map(|curvature| curvature * step).sum();
        eased.iter_mut().for_each(|curvature| *curvature *= TAU / turned.abs());

        let mut points = Vec::with_capacity(count);
        let (mut heading, mut east, mut north) = (PI / 2.0, 0.0_f64, 0.0_f64);
        for &curvature in &eased {
            let along = points.len() as f64 / count as f64 * TAU;
            points.push(Point {
                curvature,
                east_m: east,
                north_m: north,
                altitude_m: 140.0 + 9.0 * along.sin() + 4.0 * (2.0 * along + 0.7).sin(),
                heading,
            });
            let middle = heading + curvature * step / 2.0;
            east += step * middle.cos();
            north += step * middle.sin();
            heading += curvature * step;
        }
        for (i, point) in points.iter_mut().enumerate() {
            let share = i as f64 / count as f64;
            point.east_m -= east * share;
            point.north_m -= north * share;
        }
        Self { points, length_m: raw_length }
    }

    /// Length of a lap in metres.
    #[must_use]
    pub fn length_m(&self) -> f64 {
        self.length_m
    }

    /// The points, evenly spaced over the lap.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Index of the point at or before a distance, and the share of the way to the next.
    #[must_use]
    pub fn locate(&self, distance_m: f64) -> (usize, usize, f64) {
        let place = distance_m.rem_euclid(self.length_m) / self.length_m * self.points.len() as f64;
        let here = (place as usize).min(self.points.len() - 1);
        (here, (here + 1) % self.points.len(), place - here as f64)
    }

    /// The circuit at a distance, interpolated.
    #[must_use]
    pub fn at(&self, distance_m: f64) -> Point {
        let (here, next, share) = self.locate(distance_m);
        let (a, b) = (self.points[here], self.points[next]);
        let mix = |x: f64, y: f64| x + (y - x) * share;
        Point {
            curvature: mix(a.curvature, b.curvature),
            east_m: mix(a.east_m, b.east_m),
            north_m: mix(a.north_m, b.north_m),
            altitude_m: mix(a.altitude_m, b.altitude_m),
            heading: if next == 0 { a.heading } else { mix(a.heading, b.heading) },
        }
    }
}

impl Point {
    /// Latitude in degrees.
    #[must_use]
    pub fn latitude_deg(&self) -> f64 {
        LATITUDE_DEG + self.north_m / METRES_PER_DEGREE
    }

    /// Longitude in degrees.
    #[must_use]
    pub fn longitude_deg(&self) -> f64 {
        LONGITUDE_DEG + self.east_m / (METRES_PER_DEGREE * LATITUDE_DEG.to_radians().cos())
    }
}

fn length_of(element: &Element) -> f64 {
    match *element {
        Straight(length_m) => length_m,
        Arc(radius_m, angle_deg) => radius_m * angle_deg.to_radians().abs(),
    }
}

fn curvature_at(distance_m: f64) -> f64 {
    let mut left = distance_m;
    for element in ELEMENTS {
        let length_m = length_of(element);
        if left < length_m {
            return match *element {
                Straight(_) => 0.0,
                Arc(radius_m, angle_deg) => angle_deg.signum() / radius_m,
            };
        }
        left -= length_m;
    }
    0.0
}

/// The running mean over `reach` points to either side, around the lap.
fn ease(values: &[f64], reach: usize) -> Vec<f64> {
    let count = values.len();
    (0..count)
        .map(|i| {
            let sum: f64 = (0..=2 * reach).map(|k| values[(i + count + k - reach) % count]).sum();
            sum / (2 * reach + 1) as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lap_is_5_8_km_and_its_ends_meet() {
        let track = Track::new();
        assert!((track.length_m() - 5_800.0).abs() < 5.0, "{}", track.length_m());
        let turned: f64 = track.points().iter().map(|p| p.curvature * STEP_M).sum();
        assert!((turned + TAU).abs() < 0.02, "turned by {turned}");
        let (first, last) = (track.at(0.0), track.at(track.length_m() - 1.0));
        let gap = (first.east_m - last.east_m).hypot(first.north_m - last.north_m);
        assert!(gap < 3.0, "gap of {gap} m");
    }

    #[test]
    fn neighbouring_points_are_a_step_apart_everywhere() {
        let track = Track::new();
        for pair in track.points().windows(2) {
            let apart = (pair[1].east_m - pair[0].east_m).hypot(pair[1].north_m - pair[0].north_m);
            assert!((apart - STEP_M).abs() < 0.1, "{apart} m apart");
        }
    }
}

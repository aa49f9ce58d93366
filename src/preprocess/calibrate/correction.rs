//! Corrections that are not linear, on physical values.

use serde::{Deserialize, Serialize};

/// What a table says of a value outside of its points. It is counted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outside {
    /// The nearest point's value, flagged as out of range: a calibration says nothing of what it did not see.
    #[default]
    Flag,
    /// The nearest point's value.
    Clamp,
    /// The line through the two nearest points.
    Extrapolate,
}

/// A correction.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Curve {
    /// Coefficients, lowest power first.
    Polynomial(Vec<f64>),
    /// Lines between points.
    Table(Table),
}

/// Points, whose first numbers increase; at least two.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) points: Vec<[f64; 2]>,
    pub(super) outside: Outside,
}

impl Curve {
    /// The same curve followed by `× factor + offset`.
    pub(super) fn converted(mut self, factor: f64, offset: f64) -> Self {
        match &mut self {
            Self::Polynomial(coefficients) => {
                coefficients.iter_mut().for_each(|c| *c *= factor);
                if let Some(constant) = coefficients.first_mut() {
                    *constant += offset;
                }
            }
            Self::Table(table) => table.points.iter_mut().for_each(|point| point[1] = point[1] * factor + offset),
        }
        self
    }

    /// All values corrected, in their place.
    pub(super) fn all(&self, mut values: Vec<f64>) -> Vec<f64> {
        match self {
            Self::Polynomial(coefficients) => {
                values.iter_mut().for_each(|x| *x = coefficients.iter().rev().fold(0.0, |sum, c| sum * *x + c));
            }
            Self::Table(table) => {
                let mut segment = 0;
                values.iter_mut().for_each(|x| *x = table.at(*x, &mut segment));
            }
        }
        values
    }
}

impl Table {
    pub(super) fn is_outside(&self, x: f64) -> bool {
        x.is_finite() && (x < self.points[0][0] || x > self.points[self.points.len() - 1][0])
    }

    /// The corrected value; `segment` is where the last one was found, as the next is mostly near it.
    fn at(&self, x: f64, segment: &mut usize) -> f64 {
        if !x.is_finite() {
            // Clamped, an infinite value would become a plausible one.
            return f64::NAN;
        }
        let last = self.points.len() - 1;
        if self.outside != Outside::Extrapolate {
            if x <= self.points[0][0] {
                return self.points[0][1];
            }
            if x >= self.points[last][0] {
                return self.points[last][1];
            }
        }
        let [[x0, _], [x1, _]] = [self.points[*segment], self.points[*segment + 1]];
        if x < x0 || x >= x1 {
            *segment = self.points.partition_point(|point| point[0] <= x).clamp(1, last) - 1;
        }
        let [[x0, y0], [x1, y1]] = [self.points[*segment], self.points[*segment + 1]];
        y0 + (x - x0) / (x1 - x0) * (y1 - y0)
    }
}

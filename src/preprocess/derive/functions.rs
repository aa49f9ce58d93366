//! The functions that an expression may call.
//!
//! What is no number stays none, in the smallest and the largest too: a doubtful input must not vanish.

/// A function, by how many values it takes.
#[derive(Clone, Copy)]
pub(super) enum Function {
    One(fn(f64) -> f64),
    Two(fn(f64, f64) -> f64),
    Three(fn(f64, f64, f64) -> f64),
    /// Two or more, taken together from the left.
    Many(fn(f64, f64) -> f64),
}

/// All of them by name.
pub(super) const FUNCTIONS: [(&str, Function); 27] = [
    ("abs", Function::One(f64::abs)),
    ("acos", Function::One(f64::acos)),
    ("asin", Function::One(f64::asin)),
    ("atan", Function::One(f64::atan)),
    ("atan2", Function::Two(f64::atan2)),
    ("cbrt", Function::One(f64::cbrt)),
    ("ceil", Function::One(f64::ceil)),
    ("clamp", Function::Three(|x, low, high| lesser(greater(x, low), high))),
    ("cos", Function::One(f64::cos)),
    ("deg", Function::One(f64::to_degrees)),
    ("exp", Function::One(f64::exp)),
    ("floor", Function::One(f64::floor)),
    ("hypot", Function::Two(f64::hypot)),
    (
        "if",
        Function::Three(|test, yes, no| {
            if test.is_nan() {
                test
            } else if test != 0.0 {
                yes
            } else {
                no
            }
        }),
    ),
    ("ln", Function::One(f64::ln)),
    ("log10", Function::One(f64::log10)),
    ("log2", Function::One(f64::log2)),
    ("max", Function::Many(greater)),
    ("min", Function::Many(lesser)),
    ("rad", Function::One(f64::to_radians)),
    ("round", Function::One(f64::round)),
    ("sign", Function::One(|x| if x == 0.0 { 0.0 } else { x.signum() })),
    ("sin", Function::One(f64::sin)),
    ("sqrt", Function::One(f64::sqrt)),
    ("tan", Function::One(f64::tan)),
    ("tanh", Function::One(f64::tanh)),
    ("trunc", Function::One(f64::trunc)),
];

/// Unlike `f64::max`, no number stays none: a doubtful input must not vanish in a maximum.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

//! The car behaves like a car.

use super::machine::{CLUB, FORMULA, GT};
use super::signal::{CARCASS, DISC, TREAD, WHEEL_SPEED};
use super::*;

fn drive(machine: Machine, seconds: f64, mut look: impl FnMut(&Car, Option<Happening>)) {
    let mut car = Car::new(machine, 7, "44");
    for _ in 0..(seconds / STEP_S) as usize {
        let happened = car.step();
        look(&car, happened);
    }
}

#[test]
fn speed_and_accelerations_stay_within_the_limits_of_the_machine() {
    for machine in [CLUB, GT, FORMULA] {
        let (mut slowest, mut fastest) = (f64::MAX, 0.0_f64);
        drive(machine, 300.0, |car, _| {
            let state = car.state();
            let speed = state.get(Signal::Speed);
            slowest = slowest.min(speed);
            fastest = fastest.max(speed);
            let grip = machine.grip_at(speed);
            assert!(state.get(Signal::AccelLat).abs() < 1.15 * grip, "lateral at {speed}");
            assert!(state.get(Signal::AccelLong) > -1.15 * grip - 6.0, "braking at {speed}");
            assert!(state.get(Signal::AccelLong) < 0.7 * grip, "driving at {speed}");
        });
        assert!(fastest < machine.top_speed() * 1.01, "{fastest}");
        assert!(fastest > 45.0 && slowest > 10.0 && slowest < 30.0, "{slowest} to {fastest}");
    }
}

#[test]
fn pedals_gear_and_revs_belong_to_the_speed() {
    let mut gears = std::collections::BTreeSet::new();
    let mut worst = 0.0_f64;
    drive(FORMULA, 200.0, |car, _| {
        let state = car.state();
        let gear = state.get(Signal::Gear) as usize;
        gears.insert(gear);
        let rpm = state.get(Signal::Rpm);
        assert!((FORMULA.rpm_idle * 0.99..FORMULA.rpm_max * 1.05).contains(&rpm), "{rpm} in {gear}");
        if car.shift_hold_s <= 0.0 {
            worst = worst.max((rpm - FORMULA.rpm_in(gear, state.get(Signal::Speed))).abs());
        }
        let (throttle, brake) = (state.get(Signal::Throttle), state.get(Signal::Brake));
        assert!((0.0..=100.0).contains(&throttle) && (0.0..=100.0).contains(&brake));
        assert!(throttle < 40.0 || brake < 40.0, "both feet down: {throttle} {brake}");
    });
    assert!(gears.len() >= 6, "{gears:?}");
    assert!(worst < 1_500.0, "engine off the gear by {worst}");
}

#[test]
fn laps_happen_and_take_a_laps_time() {
    let mut laps = Vec::new();
    drive(FORMULA, 320.0, |_, happened| {
        if let Some(Happening::Lap { number, time_s }) = happened {
            laps.push((number, time_s));
        }
    });
    assert!(laps.len() >= 3, "{laps:?}");
    assert_eq!(laps.iter().map(|l| l.0).collect::<Vec<_>>(), (0..laps.len() as u32).collect::<Vec<_>>());
    assert!(laps[0].1 < 12.0, "the run-up takes {} s", laps[0].1);
    for (_, time_s) in &laps[1..] {
        assert!((75.0..115.0).contains(time_s), "{laps:?}");
    }
}

#[test]
fn temperatures_move_slowly_and_stay_sane() {
    for machine in [CLUB, FORMULA] {
        let mut last: Option<State> = None;
        let (mut disc_max, mut tread_max, mut tread_min) = (0.0_f64, 0.0_f64, 500.0_f64);
        let mut time_s = 0.0;
        drive(machine, 600.0, |car, _| {
            time_s += STEP_S;
            let now = car.state().clone();
            if let Some(last) = &last {
                for (signals, limit) in [(TREAD, 0.6), (CARCASS, 0.05), (DISC, 6.0)] {
                    for signal in signals {
                        let moved = (now.get(signal) - last.get(signal)).abs();
                        assert!(moved < limit, "{signal:?} jumped by {moved}");
                    }
                }
                for signal in [Signal::OilTemp, Signal::WaterTemp, Signal::GearboxTemp] {
                    assert!((now.get(signal) - last.get(signal)).abs() < 0.02, "{signal:?}");
                    assert!((60.0..145.0).contains(&now.get(signal)), "{signal:?} {}", now.get(signal));
                }
            }
            if time_s > 60.0 {
                for corner in 0..4 {
                    tread_max = tread_max.max(now.get(TREAD[corner]));
                    tread_min = tread_min.min(now.get(TREAD[corner]));
                    disc_max = disc_max.max(now.get(DISC[corner]));
                }
            }
            last = Some(now);
        });
        assert!(tread_max < 150.0 && tread_min > 35.0, "tread {tread_min} to {tread_max}");
        assert!(disc_max > 250.0 && disc_max < 1_100.0, "disc {disc_max}");
    }
}

#[test]
fn wheels_slip_a_little_and_the_inner_ones_turn_slower() {
    drive(GT, 120.0, |car, _| {
        let state = car.state();
        let speed = state.get(Signal::Speed);
        for signal in WHEEL_SPEED {
            let slip = state.get(signal) / speed - 1.0;
            assert!(slip.abs() < 0.12, "{signal:?} slips by {slip}");
        }
        if state.get(Signal::YawRate) > 0.3 {
            assert!(state.get(Signal::WheelSpeedFl) < state.get(Signal::WheelSpeedFr));
        }
    });
}

#[test]
fn position_moves_as_fast_as_the_speed_says() {
    let mut last: Option<(f64, f64)> = None;
    drive(GT, 150.0, |car, _| {
        let state = car.state();
        let here = (state.get(Signal::East), state.get(Signal::North));
        if let Some(there) = last {
            let moved = (here.0 - there.0).hypot(here.1 - there.1);
            let expected = state.get(Signal::Speed) * STEP_S;
            assert!((moved - expected).abs() < 0.25 * expected + 0.02, "{moved} m for {expected}");
        }
        last = Some(here);
    });
}

#[test]
fn same_seed_drives_the_same_laps_and_another_seed_others() {
    let run = |seed| {
        let mut car = Car::new(GT, seed, "44");
        (0..20_000).for_each(|_| {
            car.step();
        });
        car.state().clone()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

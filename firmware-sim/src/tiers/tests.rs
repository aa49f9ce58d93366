//! Tiers carry what they say.

use std::collections::HashSet;

use super::*;
use crate::car::{Car, Noise};

#[test]
fn each_tier_has_its_rate() {
    for (tier, expected) in [(Tier::Club, 400.0), (Tier::Can, 1_500.0), (Tier::Wide, 78_200.0), (Tier::F1, 1_100_100.0)]
    {
        let rate: f64 = devices(tier, 1.0).iter().map(DevicePlan::rate).sum();
        assert!((rate / expected - 1.0).abs() < 0.001, "{tier}: {rate}");
        let double: f64 = devices(tier, 2.0).iter().map(DevicePlan::rate).sum();
        assert!((double / rate - 2.0).abs() < 0.001, "{tier} twice: {double}");
    }
}

#[test]
fn catalogues_are_valid_and_names_are_unique_in_a_car() {
    for tier in Tier::ALL {
        let plans = devices(tier, 1.0);
        assert!(plans.len() >= 2, "{tier}");
        let mut names = HashSet::new();
        for plan in &plans {
            let entries: Vec<_> = plan.channels.iter().map(ChannelPlan::entry).collect();
            pitwire_wire::catalogue_revision(&entries).unwrap_or_else(|e| panic!("{tier} {}: {e}", plan.name));
            for channel in &plan.channels {
                assert!(names.insert(channel.name.clone()), "{tier}: {} twice", channel.name);
            }
            assert!(plan.lanes.len() <= crate::device::LANES_MAX, "{tier} {}", plan.name);
            assert_eq!(plan.lanes.iter().map(|l| l.channels.len()).sum::<usize>(), plan.channels.len());
        }
    }
}

#[test]
fn wide_has_782_channels_and_f1_300_each_of_16_bits() {
    let count = |tier| devices(tier, 1.0).iter().map(|p| p.channels.len()).sum::<usize>();
    assert_eq!(count(Tier::Wide), 782);
    assert_eq!(count(Tier::F1), 300);
    let f1 = devices(Tier::F1, 1.0);
    assert!(f1.iter().flat_map(|p| &p.channels).all(|c| c.kind == ValueKind::I16 && c.group == 0));
}

#[test]
fn all_kinds_occur_in_every_tier_but_f1() {
    for tier in [Tier::Club, Tier::Can, Tier::Wide] {
        let plans = devices(tier, 1.0);
        for kind in [ValueKind::I16, ValueKind::I32, ValueKind::F32] {
            assert!(plans.iter().flat_map(|p| &p.channels).any(|c| c.kind == kind), "{tier} {kind:?}");
        }
    }
}

/// Neither stuck at the end of the raw range, nor constant, nor mere noise: over two minutes of
/// driving each channel moves by more than its noise does.
#[test]
fn channels_follow_the_car_within_their_raw_range() {
    for tier in Tier::ALL {
        let mut car = Car::new(tier.machine(), 5, "44");
        let plans = devices(tier, 1.0);
        let channels: Vec<_> = plans.iter().flat_map(|p| &p.channels).collect();
        let mut range = vec![(f64::MAX, f64::MIN); channels.len()];
        let mut noise = Noise::new(1, "t");
        for step in 0..12_000 {
            let before = car.state().clone();
            car.step();
            if step % 20 != 0 {
                continue;
            }
            for (channel, range) in channels.iter().zip(&mut range) {
                let value = channel.recipe.between(&before, car.state()).at(0.5, &mut noise);
                *range = (range.0.min(value), range.1.max(value));
            }
        }
        for (channel, (low, high)) in channels.iter().zip(range) {
            let ends = match channel.kind {
                ValueKind::I16 => Some((f64::from(i16::MIN), f64::from(i16::MAX))),
                ValueKind::I32 => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
                ValueKind::F32 => None,
            };
            if let Some((first, last)) = ends {
                let physical = |raw: f64| raw * channel.scale + channel.offset;
                assert!(
                    low > physical(first) && high < physical(last),
                    "{tier} {}: {low} to {high} leaves the range",
                    channel.name
                );
            }
            let constant = matches!(channel.name.as_str(), "air.temp");
            let moved = high - low;
            assert!(
                constant || moved > 1.5 * channel.recipe.noise && moved > 0.0,
                "{tier} {}: {low} to {high}",
                channel.name
            );
        }
    }
}

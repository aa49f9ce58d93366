//! The anomaly step with its defaults on recordings of real cars, which are not part of the project: how often
//! it is wrong, what it finds of faults that are planted into them, and how long it takes.
//! `cargo test --test recordings -- --nocapture` prints the tables.

mod drive;
mod plant;
mod read;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use drive::{BATCH_US, Episode, Verdicts, drive};
use pitwire::sample::Quality;
use plant::{Planted, Seeded};
use read::Recording;

const DEFAULTS: &str = "[[anomaly]]\nchannel = '*'";
const DETECTORS: [(Quality, &str); 4] = [
    (Quality::SPIKE, "spike"),
    (Quality::FLATLINE, "flatline"),
    (Quality::DRIFT, "drift"),
    (Quality::RATE_DROP, "rate_drop"),
];

/// Flagged samples of 1,000, over all recordings: measured 0.06.
const FLAGGED_PER_1000_MAX: f64 = 0.15;
/// Stretches of flagged samples in an hour of one channel: measured 1.2.
const EPISODES_PER_HOUR_MAX: f64 = 3.0;
/// Events in an hour of one channel: measured 0.1.
const EVENTS_PER_HOUR_MAX: f64 = 0.2;

/// Where the recordings are, if they are.
fn data(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("PITWIRE_DATA").map_or(beside, PathBuf::from);
    if data.is_dir() {
        // From here on what cannot be read is a failure.
        return Some(data);
    }
    support::skip(test, &format!("no recordings in {}: set PITWIRE_DATA", data.display()));
    None
}

fn recordings(data: &Path) -> Vec<Recording> {
    let mut all = vec![read::can(data), read::csv(data, "csv_sample.csv"), read::csv(data, "accessport_sample.csv")];
    all.extend(["markers.json", "short.json"].map(|name| read::mlg(data, name)));
    all.extend(["telit-he910.log", "bundg_zeus_9.log", "skytraq-dgps.log"].map(|name| read::nmea(data, name)));
    all
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

fn channel_hours(recording: &Recording) -> f64 {
    recording.channels.iter().map(|c| seconds(c.times[c.times.len() - 1] - c.times[0]) / 3600.0).sum()
}

#[test]
fn recordings_of_sound_cars_are_hardly_ever_complained_of() {
    let Some(data) = data("recordings_of_sound_cars_are_hardly_ever_complained_of") else { return };
    println!("samples flagged (in stretches); the cars were sound, so each counts as false");
    println!(
        "{:22}{:>9}{:>9}{:>7}{:>11}{:>11}{:>11}{:>11}{:>10}{:>12}{:>8}",
        "recording",
        "channels",
        "samples",
        "hours",
        "spike",
        "flatline",
        "drift",
        "rate_drop",
        "of 1,000",
        "stretches/h",
        "events"
    );
    let (mut samples, mut hours, mut flagged, mut episodes, mut events) = (0, 0.0, 0, 0, 0);
    let mut all: Vec<(String, Episode)> = Vec::new();
    for recording in recordings(&data) {
        let verdicts = drive(&recording, DEFAULTS, BATCH_US);
        let own_flagged: u64 = verdicts.episodes.iter().map(|episode| episode.samples).sum();
        let own_hours = channel_hours(&recording);
        print!("{:22}{:>9}{:>9}{own_hours:>7.2}", recording.name, recording.channels.len(), verdicts.samples);
        for (quality, _) in DETECTORS {
            let of: Vec<u64> = verdicts.of(quality).map(|episode| episode.samples).collect();
            print!("{:>11}", format!("{} ({})", of.iter().sum::<u64>(), of.len()));
        }
        println!(
            "{:>10.3}{:>12.2}{:>8}",
            own_flagged as f64 * 1000.0 / verdicts.samples as f64,
            verdicts.episodes.len() as f64 / own_hours,
            verdicts.events.len()
        );
        verdicts.events.iter().for_each(|(t, text)| println!("    {:.2} s: {text}", seconds(*t)));
        samples += verdicts.samples;
        hours += own_hours;
        flagged += own_flagged;
        episodes += verdicts.episodes.len();
        events += verdicts.events.len();
        all.extend(verdicts.episodes.into_iter().map(|episode| (recording.name.clone(), episode)));
    }
    println!("all verdicts:");
    for (recording, Episode { channel, quality, from, to, samples, value }) in &all {
        let (_, name) = DETECTORS.iter().find(|(known, _)| known == quality).expect("one of four");
        println!(
            "    {recording} {channel}: {name} from {:.2} s to {:.2} s, {samples} samples from {value} on",
            seconds(*from),
            seconds(*to)
        );
    }
    let of_1000 = flagged as f64 * 1000.0 / samples as f64;
    let (per_hour, events_per_hour) = (f64::from(episodes as u32) / hours, f64::from(events as u32) / hours);
    println!(
        "together: {of_1000:.3} of 1,000 samples, {per_hour:.2} stretches and {events_per_hour:.2} events per channel and hour"
    );
    assert!(of_1000 < FLAGGED_PER_1000_MAX && per_hour < EPISODES_PER_HOUR_MAX, "{of_1000} {per_hour}");
    assert!(events_per_hour < EVENTS_PER_HOUR_MAX, "{events_per_hour}");
}

/// How many faults were found of each channel, and after how long.
struct Found {
    share: f64,
    line: String,
}

fn found(planted: &[Planted], quality: Quality, verdicts: &Verdicts) -> Found {
    let mut delays: Vec<i64> = Vec::new();
    let mut missed = std::collections::BTreeMap::<&str, usize>::new();
    for fault in planted {
        let meets = |e: &&Episode| e.channel == fault.channel && e.from <= fault.to && e.to >= fault.from;
        match verdicts.of(quality).filter(meets).map(|e| e.from.max(fault.from) - fault.from).min() {
            Some(delay) => delays.push(delay),
            None => *missed.entry(&fault.channel).or_default() += 1,
        }
    }
    delays.sort_unstable();
    let after = match (delays.get(delays.len() / 2), delays.last()) {
        (Some(median), Some(longest)) => format!("after {:.1} s, at most {:.1} s", seconds(*median), seconds(*longest)),
        _ => String::new(),
    };
    let share = delays.len() as f64 / planted.len() as f64;
    Found { share, line: format!("{:>4} of {:<4} {after:34} missed {missed:?}", delays.len(), planted.len()) }
}

/// Plants a fault, prints what is found of it, and holds it to `least`.
#[expect(clippy::print_stdout, reason = "the figures are what the test is for")]
fn check(
    recording: &Recording,
    what: &str,
    quality: Quality,
    least: f64,
    plant: impl Fn(&mut Recording) -> Vec<Planted>,
) {
    let mut faulty = recording.clone();
    let planted = plant(&mut faulty);
    let found = found(&planted, quality, &drive(&faulty, DEFAULTS, BATCH_US));
    println!("{:22}{what:36}{}", recording.name, found.line);
    assert!(found.share >= least, "{what}: {} found, at least {least} expected", found.share);
}

#[test]
fn faults_planted_into_recordings_are_found() {
    let Some(data) = data("faults_planted_into_recordings_are_found") else { return };
    let seed = 0x5EED;
    let recordings = [plant::moving(&read::can(&data)), plant::moving(&read::csv(&data, "accessport_sample.csv"))];
    // What is asserted is what was measured, with some room: fewer on the slow logger, where a pedal may go from one
    // end to the other between two samples, and where the car rests often.
    for (recording, spikes, freezes) in
        [(&recordings[0], [0.7, 0.75, 0.75], 0.9), (&recordings[1], [0.2, 0.2, 0.9], 0.6)]
    {
        for (size, least) in [0.5, 1.0, 2.0].into_iter().zip(spikes) {
            let what = format!("spike of {size} ranges");
            let plant = |faulty: &mut Recording| plant::spikes(faulty, size, &mut Seeded(seed));
            check(recording, &what, Quality::SPIKE, least, plant);
        }
        let count = if std::ptr::eq(recording, &recordings[0]) { 1 } else { 10 };
        let plant = |faulty: &mut Recording| plant::freezes(faulty, count, 25_000_000, &mut Seeded(seed));
        check(recording, "frozen for 25 s while moving", Quality::FLATLINE, freezes, plant);
        check(recording, "every other sample missing", Quality::RATE_DROP, 1.0, plant::halved);
    }
    for (size, least) in [(0.5, 0.0), (1.0, 0.2), (2.0, 0.6)] {
        let what = format!("drift of {size} ranges in 5 min");
        let plant = |faulty: &mut Recording| plant::drifts(faulty, size, 300_000_000);
        check(&recordings[1], &what, Quality::DRIFT, least, plant);
    }
}

#[test]
fn a_channel_that_stops_in_a_recording_is_told_of() {
    let Some(data) = data("a_channel_that_stops_in_a_recording_is_told_of") else { return };
    for mut recording in [read::can(&data), read::csv(&data, "accessport_sample.csv")] {
        let planted = plant::stops(&mut recording, 20_000_000);
        let verdicts = drive(&recording, DEFAULTS, BATCH_US);
        let silence = |name: &str, what: &str| {
            let start = format!("{what}: {name} ");
            verdicts.events.iter().find(|(_, text)| text.starts_with(&start)).map(|(t, _)| *t)
        };
        let told = planted.iter().filter(|fault| {
            let (onset, end) = (silence(&fault.channel, "silence"), silence(&fault.channel, "silence over"));
            onset.is_some_and(|t| t < fault.to) && end.is_some_and(|t| t >= fault.to)
        });
        let (told, planted) = (told.count(), planted.len());
        println!("{:22}silent for 20 s: {told} of {planted} told of, onset and end", recording.name);
        // `REVERSE` and `EBRAKE` come once a second: 20 samples have to be there before.
        assert_eq!(told, planted);
    }
}

#[test]
fn the_time_it_takes_is_told() {
    let Some(data) = data("the_time_it_takes_is_told") else { return };
    let recording = read::can(&data);
    for batch_us in [BATCH_US, 5_000_000] {
        let best = |config: &str| (0..5).map(|_| drive(&recording, config, batch_us).took).min().expect("five");
        let (without, with, samples) = (best(""), best(DEFAULTS), drive(&recording, "", batch_us).samples);
        let ns = with.saturating_sub(without).as_nanos() as f64 / samples as f64;
        println!("batches of {} s: {ns:.1} ns a sample for the step, as built for this test", seconds(batch_us));
    }
}

//! The anomaly step on recordings of real cars, which are not part of the project: how often it is wrong, and what it finds
//! of faults planted into them. `cargo test --test recordings -- --nocapture` prints the tables.

mod drive;
mod read;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;

use drive::drive;
use pitwire::sample::Quality;
use read::Recording;

const DEFAULTS: &str = "[[anomaly]]\nchannel = '*'";
const DETECTORS: [(Quality, &str); 4] = [
    (Quality::SPIKE, "spike"),
    (Quality::FLATLINE, "flatline"),
    (Quality::DRIFT, "drift"),
    (Quality::RATE_DROP, "rate_drop"),
];

/// Where the recordings are, if they are.
fn data(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("PITWIRE_DATA").map_or(beside, PathBuf::from);
    if data.join("can").is_dir() {
        return Some(data);
    }
    support::skip(test, &format!("no recordings in {}: set PITWIRE_DATA", data.display()));
    None
}

fn recordings(data: &std::path::Path) -> Vec<Recording> {
    let mut all = vec![read::can(data), read::csv(data, "csv_sample.csv"), read::csv(data, "accessport_sample.csv")];
    all.extend(["markers.json", "short.json"].map(|name| read::mlg(data, name)));
    all.extend(["telit-he910.log", "bundg_zeus_9.log"].map(|name| read::nmea(data, name)));
    all
}

#[test]
fn recordings_of_sound_cars_are_hardly_ever_complained_of() {
    let Some(data) = data("recordings_of_sound_cars_are_hardly_ever_complained_of") else { return };
    for recording in recordings(&data) {
        let verdicts = drive(&recording, DEFAULTS);
        let hours: f64 = recording.channels.iter().map(|c| (c.times[c.times.len() - 1] - c.times[0]) as f64 / 3.6e9).sum();
        println!("{:24} channels {} samples {} hours {hours:.2} ns {}", recording.name, recording.channels.len(), verdicts.samples, verdicts.took.as_nanos() as u64 / verdicts.samples.max(1));
        for (quality, name) in DETECTORS {
            let (e, s) = (verdicts.of(quality).count(), verdicts.of(quality).map(|e| e.samples).sum::<u64>());
            println!("   {name:10} episodes {e} samples {s}");
            for e in verdicts.of(quality).take(12) { println!("       {} {:.2}..{:.2} n {} value {}", e.channel, e.from as f64/1e6, e.to as f64/1e6, e.samples, e.value); }
        }
        for (t, text) in verdicts.events.iter().take(40) { println!("   event {:.2} {text}", *t as f64/1e6); }
    }
}

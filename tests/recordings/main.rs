//! The anomaly step on recordings of real cars, which are not part of the project: how often it is wrong, and what it finds
//! of faults planted into them. `cargo test --test recordings -- --nocapture` prints the tables.

mod drive;
mod plant;
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
        let hours: f64 =
            recording.channels.iter().map(|c| (c.times[c.times.len() - 1] - c.times[0]) as f64 / 3.6e9).sum();
        println!(
            "{:24} channels {} samples {} hours {hours:.2} ns {}",
            recording.name,
            recording.channels.len(),
            verdicts.samples,
            verdicts.took.as_nanos() as u64 / verdicts.samples.max(1)
        );
        for (quality, name) in DETECTORS {
            let (e, s) = (verdicts.of(quality).count(), verdicts.of(quality).map(|e| e.samples).sum::<u64>());
            println!("   {name:10} episodes {e} samples {s}");
            for e in verdicts.of(quality).take(12) {
                println!(
                    "       {} {:.2}..{:.2} n {} value {}",
                    e.channel,
                    e.from as f64 / 1e6,
                    e.to as f64 / 1e6,
                    e.samples,
                    e.value
                );
            }
        }
        for (t, text) in verdicts.events.iter().take(40) {
            println!("   event {:.2} {text}", *t as f64 / 1e6);
        }
    }
}

/// How many of `planted` were found, and after how many seconds: the median and the longest.
fn found(planted: &[plant::Planted], verdicts: &drive::Verdicts, quality: Quality) -> (usize, f64, f64) {
    let mut delays: Vec<f64> = planted
        .iter()
        .filter_map(|fault| {
            let of = |e: &&drive::Episode| e.channel == fault.channel && e.from <= fault.to && e.to >= fault.from;
            let first = verdicts.of(quality).filter(of).map(|e| e.from.max(fault.from)).min()?;
            Some((first - fault.from) as f64 / 1e6)
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays.get(((delays.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    (delays.len(), at(0.5), at(1.0))
}

#[test]
fn faults_planted_into_recordings_are_found() {
    let Some(data) = data("faults_planted_into_recordings_are_found") else { return };
    for recording in [read::can(&data), read::csv(&data, "accessport_sample.csv")] {
        let sound = plant::moving(&recording);
        println!("{} {:?}", sound.name, sound.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>());
        let mut seeded = plant::Seeded(0x5EED);
        let mut show = |what: &str, faulty: &Recording, planted: &[plant::Planted], quality: Quality, detail: bool| {
            let verdicts = drive(faulty, DEFAULTS);
            let (n, median, longest) = found(planted, &verdicts, quality);
            println!("  {what:30} planted {} found {n} delay {median:.1} {longest:.1}", planted.len());
            if detail {
                for c in &sound.channels {
                    let of: Vec<_> = planted.iter().filter(|p| p.channel == c.name).cloned().collect();
                    let (n, m, l) = found(&of, &verdicts, quality);
                    println!("        {:20} {n}/{} {m:.1} {l:.1}", c.name, of.len());
                }
            }
        };
        for size in [0.2, 0.5, 1.0, 2.0] {
            let mut faulty = sound.clone();
            let planted = plant::spikes(&mut faulty, size, &mut seeded);
            show(&format!("spike {size}"), &faulty, &planted, Quality::SPIKE, size == 1.0);
        }
        let mut faulty = sound.clone();
        let count = if sound.name.starts_with("can") { 1 } else { 10 };
        let planted = plant::freezes(&mut faulty, count, 25_000_000, &mut seeded);
        show("freeze", &faulty, &planted, Quality::FLATLINE, true);
        for size in [0.2, 0.5, 1.0] {
            let mut faulty = sound.clone();
            let planted = plant::drifts(&mut faulty, size, 480_000_000);
            show(&format!("drift {size}"), &faulty, &planted, Quality::DRIFT, size == 1.0);
        }
        let mut faulty = sound.clone();
        let planted = plant::halved(&mut faulty);
        show("halved", &faulty, &planted, Quality::RATE_DROP, false);
        let mut faulty = sound.clone();
        let planted = plant::stops(&mut faulty, 20_000_000);
        let v = drive(&faulty, DEFAULTS);
        println!("stops {planted:?}");
        for (t, text) in v.events.iter().filter(|e| e.1.starts_with("silence")) {
            println!("   {:.2} {text}", *t as f64 / 1e6);
        }
    }
}

#[test]
fn sweep() {
    let data = data("x").unwrap();
    let configs: Vec<String> =
        std::env::var("SWEEP").unwrap().split(';').map(|k| format!("{DEFAULTS}\n{}", k.replace(',', "\n"))).collect();
    let recs = [read::can(&data), read::csv(&data, "accessport_sample.csv")];
    for config in &configs {
        println!("== {}", config.replace('\n', " "));
        for recording in &recs {
            let v = drive(recording, config);
            print!("{:10} FP", &recording.name[..8]);
            for (q, n) in DETECTORS {
                print!(" {n} {}/{}", v.of(q).count(), v.of(q).map(|e| e.samples).sum::<u64>());
            }
            for e in v.of(Quality::FLATLINE).chain(v.of(Quality::DRIFT)) {
                print!(" [{} {:.0}-{:.0} {}]", e.channel, e.from as f64 / 1e6, e.to as f64 / 1e6, e.value);
            }
            print!(" EV {}", v.events.len());
            println!();
            let sound = plant::moving(recording);
            let mut seeded = plant::Seeded(0x5EED);
            for size in [0.5, 1.0, 2.0] {
                let mut f = sound.clone();
                let p = plant::spikes(&mut f, size, &mut seeded);
                print!("   spike{size} {:?}/{}", found(&p, &drive(&f, config), Quality::SPIKE).0, p.len());
            }
            let mut f = sound.clone();
            let count = if sound.name.starts_with("can") { 1 } else { 10 };
            let p = plant::freezes(&mut f, count, 25_000_000, &mut seeded);
            print!("   freeze {:?}/{}", found(&p, &drive(&f, config), Quality::FLATLINE), p.len());
            for size in [0.2, 0.5, 1.0] {
                let mut f = recording.clone();
                let p = plant::drifts(&mut f, size, 300_000_000);
                print!("   drift{size} {:?}/{}", found(&p, &drive(&f, config), Quality::DRIFT), p.len());
                for e in drive(&f, config).of(Quality::DRIFT) {
                    print!(" [{} {:.0}-{:.0}]", e.channel, e.from as f64 / 1e6, e.to as f64 / 1e6);
                }
            }
            println!();
        }
    }
}

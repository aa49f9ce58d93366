//! What `pitwire plan` says of an outage, against what one takes: on the disk, on the flash below it, and on the uplink
//! afterwards.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Agent, Bench, Broker, Disk, Setup, Sim, long, mqtt_source, number, pitwire, profile, turn};

fn plan(arguments: &[&str]) -> Value {
    let output = pitwire(&[&["plan", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `is` against `planned`, as a share; beyond a tenth it fails.
#[track_caller]
fn near(what: &str, is: f64, planned: f64) -> f64 {
    let share = is / planned;
    assert!((0.9..=1.1).contains(&share), "{what}: {is:.0} instead of {planned:.0} as planned");
    share
}

/// An outage of a wide car.
struct Outage {
    /// The car's pace, as a multiple of real time. All times of the agent go with it: each chunk closes with the samples
    /// that it would have, each commit takes what it would take.
    speed: f64,
    /// How long it lasts for the car; here, as much shorter as `speed` says.
    car_s: u32,
    /// For the spill and what its file system needs.
    room_bytes: u64,
}

/// An agent after an outage, with all of it in its spill.
struct Spilled {
    agent: Agent,
    sent: u64,
    rate: f64,
    status: Value,
    planned: Value,
    /// Shares of what was planned.
    disk: f64,
    flash: Option<f64>,
}

impl Outage {
    /// Lets it happen, and holds disk and flash to the plan. The store's folder is never made.
    fn happens(&self, bench: &Bench, broker: &Broker) -> Spilled {
        let rate = 78_200.0 * self.speed;
        let ms = |ms: f64| format!("\"{}ms\"", (ms / self.speed).round());
        let times = format!("[deliver]\nflush_after = {}\ndurable_within = {}\n", ms(200.0), ms(1_000.0));
        let flash = bench.disk(self.room_bytes);
        let spill = flash.as_ref().map_or_else(|| bench.path("spill"), |flash| flash.path().join("spill"));
        let store = format!("sqlite://{}", bench.path("not/yet/pitwire.db").display());
        let more = format!("{times}{}", mqtt_source("car", &broker.url()));
        let spill = format!("dir = {spill:?}\nfree_min = \"0B\"\ndisk_max = \"{}B\"\n", self.room_bytes);
        let agent = Agent::start(bench, &Setup { store, spill, more, ..Setup::default() });
        agent.until_subscribed();
        let before = flash.as_ref().map(Disk::written_bytes);
        let (length, speed) = (format!("{}s", self.car_s), self.speed.to_string());
        let car = ["--tier", "wide", "--speed", &speed, "--for", &length, "--mqtt", &broker.url()];
        let began = Instant::now();
        let expected_s = f64::from(self.car_s) / self.speed;
        let patience = Duration::from_secs_f64(expected_s * 2.0 + 60.0);
        let words = Sim::start_unlisted(bench, "sent", &car).finish_within(patience);
        let took_s = began.elapsed().as_secs_f64();
        // "sent 78200 samples in 300 frames"
        let sent = words.split("sent ").last().and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        let sent = sent.unwrap_or_else(|| panic!("{words}"));
        let status = agent.until("all is in the spill", |status| number(status, "/spill/backlog_samples") == sent);
        // All kept up: else there would be other chunks and fewer commits.
        assert!(took_s < expected_s * 1.05 + 1.0, "{took_s:.1} s instead of {expected_s:.1} s");

        let outage = format!("{}ms", (sent as f64 / rate * 1_000.0) as u64);
        let config = bench.path("pitwire.toml");
        let asked = ["--config", config.to_str().unwrap(), "--tier", "wide", "--rate", &rate.to_string()];
        let planned = plan(&[&asked[..], &["--outage", &outage, "--uplink", "1Gbit"]].concat());
        let of = |name: &str| planned["outage"][name].as_f64().unwrap();
        let disk = near("disk", number(&status, "/spill/disk_bytes") as f64, of("disk_bytes"));
        let flash = flash.as_ref().zip(before).map(|(flash, before)| {
            let written = flash.written_bytes() - before;
            near("flash", written as f64, of("flash_bytes"))
        });
        Spilled { agent, sent, rate, status, planned, disk, flash }
    }
}

#[test]
fn an_outage_of_a_wide_car_takes_the_disk_and_the_flash_that_the_plan_says() {
    // The short form goes at a quarter of the pace: a machine that does other things keeps up. It fills a segment and a
    // half: some commits more make no further segment.
    let (speed, car_s, room_bytes) = if long() { (1.0, 600, 2 << 30) } else { (0.25, 12, 256 << 20) };
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let outage = Outage { speed, car_s, room_bytes };
    let Spilled { mut agent, sent, rate, status, planned, disk, flash } = outage.happens(&bench, &broker);
    let measured = plan(&["--status", &agent.url(), "--rate", &rate.to_string()]);
    let bytes = |plan: &Value, which: &str| plan[which].as_f64().unwrap();
    let of_agent = bytes(&measured, "spill_bytes_per_sample");
    near("what the agent measured", of_agent, bytes(&planned, "spill_bytes_per_sample"));

    fs::create_dir_all(bench.path("not/yet")).unwrap();
    let drained = agent.until_home(Duration::from_secs(900));
    let uplink = number(&drained, "/store/bytes_written") as f64 / number(&drained, "/store/samples_written") as f64;
    near("uplink", uplink, bytes(&planned, "uplink_bytes_per_sample"));
    agent.terminate();
    bench.figure(&format!(
        "{sent} samples in {} records and {} commits; {of_agent:.3} B a sample in the spill, {uplink:.3} B on the \
         uplink; disk {disk:.3} and flash {flash:.3?} of what was planned ({} build)",
        number(&status, "/spill/backlog_records"),
        number(&status, "/spill/commits"),
        profile()
    ));
}

#[test]
fn two_hours_of_outage_go_faster_than_real_time_and_take_what_the_plan_says() {
    // Ten times as fast a build without optimisation does not keep up.
    let (speed, car_s, room_bytes) = match (long(), cfg!(debug_assertions)) {
        (false, _) => (1.0, 12, 256 << 20),
        (true, true) => (2.0, 600, 1 << 30),
        (true, false) => (10.0, 7_200, 8 << 30),
    };
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let outage = Outage { speed, car_s, room_bytes };
    let Spilled { mut agent, sent, status, disk, flash, .. } = outage.happens(&bench, &broker);
    bench.figure(&format!(
        "{:.1} min of outage in {:.0} s: {sent} samples in {} records and {} commits; {} B on the disk, {disk:.3}, and \
         flash {flash:.3?} of what was planned; memory at most {} MiB ({} build)",
        f64::from(car_s) / 60.0,
        f64::from(car_s) / speed,
        number(&status, "/spill/backlog_records"),
        number(&status, "/spill/commits"),
        number(&status, "/spill/disk_bytes"),
        agent.memory_peak() >> 20,
        profile()
    ));
    agent.kill();
}

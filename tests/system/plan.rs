//! What `pitwire plan` says of an outage, against what one takes: on the disk, on the flash below it, and on the uplink
//! afterwards.

use std::fs;

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

#[test]
fn an_outage_of_a_wide_car_takes_the_disk_and_the_flash_that_the_plan_says() {
    // The short form goes at a quarter of the pace, with all times four times as long: the rows are the same, and a
    // machine that does other things keeps up.
    let (speed, seconds, room) = if long() { (1.0, 600, 2 << 30) } else { (0.25, 10, 256 << 20) };
    let rate = 78_200.0 * speed;
    let times = if long() { "" } else { "[deliver]\nflush_after = \"800ms\"\ndurable_within = \"4s\"\n" };
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let flash = bench.disk(room);
    let spill = flash.as_ref().map_or_else(|| bench.path("spill"), |flash| flash.path().join("spill"));
    // The store's folder is made later: until then nothing is stored.
    let store = format!("sqlite://{}", bench.path("not/yet/pitwire.db").display());
    let more = format!("{times}{}", mqtt_source("car", &broker.url()));
    let setup = Setup { store, spill: format!("dir = {spill:?}\nfree_min = \"0B\"\n"), more, ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_subscribed();
    let before = flash.as_ref().map(Disk::written_bytes);
    let (length, speed) = (format!("{seconds}s"), speed.to_string());
    let sim =
        Sim::start(&bench, "sent", &["--tier", "wide", "--speed", &speed, "--for", &length, "--mqtt", &broker.url()]);
    let sent = sim.finish().sent();
    let spilled = agent.until("all is in the spill", |status| number(status, "/spill/backlog_samples") == sent);

    let outage = format!("{}ms", (sent as f64 / rate * 1_000.0) as u64);
    let (config, rate) = (bench.path("pitwire.toml"), rate.to_string());
    let config = config.to_str().unwrap();
    let asked = ["--config", config, "--tier", "wide", "--rate", &rate, "--outage", &outage];
    let planned = plan(&[&asked[..], &["--uplink", "100Mbit"]].concat());
    let of = |name: &str| planned["outage"][name].as_f64().unwrap();
    let disk = near("disk", number(&spilled, "/spill/disk_bytes") as f64, of("disk_bytes"));
    let on_flash = flash.as_ref().zip(before).map(|(flash, before)| {
        let written = flash.written_bytes() - before;
        println!("{written} bytes on the device, {} planned", of("flash_bytes"));
        near("flash", written as f64, of("flash_bytes"))
    });
    let measured = plan(&["--status", &agent.url(), "--rate", &rate]);
    let bytes = |plan: &Value, which: &str| plan[which].as_f64().unwrap();
    let of_agent = bytes(&measured, "spill_bytes_per_sample");
    near("what the agent measured", of_agent, bytes(&planned, "spill_bytes_per_sample"));

    fs::create_dir_all(bench.path("not/yet")).unwrap();
    let drained = agent.until_drained();
    let uplink = number(&drained, "/store/bytes_written") as f64 / number(&drained, "/store/samples_written") as f64;
    near("uplink", uplink, bytes(&planned, "uplink_bytes_per_sample"));
    agent.terminate();
    bench.figure(&format!(
        "{sent} samples in {} records and {} syncs; {of_agent:.3} B a sample in the spill, {uplink:.3} B on the uplink; \
         disk {disk:.3} and flash {on_flash:.3?} of what was planned ({} build)",
        number(&spilled, "/spill/backlog_records"),
        number(&spilled, "/spill/syncs"),
        profile()
    ));
}

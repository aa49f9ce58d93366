//! Devices and messages without UTC, on a gateway whose clock is not known yet.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;

use crate::support::{Agent, Bench, Broker, Setup, Sim, audit, eventually, mqtt_source, number, pitwire, source, turn};

/// Samples a second of the `can` tier.
const RATE: u64 = 1_500;
/// [`pitwire::sample::Quality`]: placed by a clock that was not known, and by the time of receipt.
const PROVISIONAL: u64 = 16;
const RECEIVE_TIME: u64 = 4;

/// A `timedatectl` that says yes once the file is there.
fn fake_timedatectl(bench: &Bench, yes: &Path) {
    let (bin, program) = (bench.path("bin"), bench.path("bin/timedatectl"));
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\n[ -e {yes:?} ] && echo yes || echo no\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// (device, boot, offset, provisional) of all mappings in the store.
fn mappings(bench: &Bench) -> Vec<(String, i64, i64, bool)> {
    let store = Connection::open(bench.path("pitwire.db")).unwrap();
    let sql = "SELECT device, boot, offset_us, provisional FROM clocks ORDER BY device, boot, from_us";
    let mut rows = store.prepare(sql).unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// The samples of the last hour that `pitwire export` finds, as JSON.
fn exported(bench: &Bench) -> Vec<serde_json::Value> {
    let store = bench.sqlite();
    let output = pitwire(&["export", "--store", &store, "--car", "44", "--from", "-60m", "--format", "jsonl"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_came_before_the_clock_was_known_is_corrected_once_though_the_agent_was_killed_meanwhile() {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return crate::support::skip("clocks", "this machine's clock is known to be synchronised");
    }
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let yes = bench.path("synchronised");
    fake_timedatectl(&bench, &yes);
    let json = format!(
        "[[source.mqtt]]\nname = \"box\"\nurl = {:?}\ntopics = [\"cars/44/#\"]\nformat = \"json\"\ncar = \"44\"\n\n",
        broker.url()
    );
    let more = mqtt_source("car", &broker.url()) + &json + "[clock]\ntrust = \"kernel\"\n";
    let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
    agent.until("subscribed", |status| {
        status["sources"].as_array().unwrap().iter().all(|source| source["state"] == "connected")
    });
    let url = broker.url();
    let arguments = ["--tier", "can", "--for", "12s", "--clock", "boot", "--mqtt", &url];
    let sim = Sim::start(&bench, "sent", &arguments);
    // No time in them at all.
    let untimed: Vec<Vec<u8>> = (0..50).map(|i| format!("{{\"values\": {{\"load\": {i}}}}}").into_bytes()).collect();
    broker.publish("cars/44/box", &untimed);
    agent.until("messages without a time", |status| {
        let devices = source(status, "box")["devices"].as_array().unwrap().clone();
        devices.iter().any(|device| device["samples"].as_u64() >= Some(50))
    });
    agent.until_received(2 * RATE);
    eventually("provisional mappings in the store", || mappings(&bench).len() >= 2);
    assert!(mappings(&bench).iter().all(|(.., provisional)| *provisional), "{:?}", mappings(&bench));
    agent.kill();
    agent.start_again();
    agent.until_received(RATE);
    std::fs::write(&yes, "").unwrap();

    let sent = sim.finish();
    let provisional = |rows: &[(String, i64, i64, bool)]| rows.iter().filter(|(.., provisional)| *provisional).count();
    eventually("each mapping has its correction", || {
        let rows = mappings(&bench);
        rows.len() == 2 * provisional(&rows)
    });
    agent.until_drained();
    let status = agent.status();
    agent.terminate();

    let found = audit(sent.path(), &bench.sqlite());
    found.assert_exact();
    let samples = exported(&bench);
    let flags = |sample: &serde_json::Value| sample["quality"].as_u64().unwrap();
    assert!(samples.iter().all(|sample| flags(sample) & PROVISIONAL == 0), "none is provisional any more");
    let loads: Vec<f64> = samples
        .iter()
        .filter(|sample| sample["channel"] == "load" && flags(sample) & RECEIVE_TIME != 0)
        .map(|sample| sample["value"].as_f64().unwrap())
        .collect();
    assert_eq!(loads, (0..50).map(f64::from).collect::<Vec<_>>(), "in the order in which they came");
    let rows = mappings(&bench);
    bench.figure(&format!(
        "{found:?}; {} mappings, {} of them provisional and corrected; {} samples found by their right time",
        rows.len(),
        provisional(&rows),
        samples.len()
    ));
    assert_eq!(samples.len() as u64, found.sent + 50);
    assert_eq!(number(&status, "/ledger/backlog"), 0);
}

//! A spill that is far too small for an outage, and channels that matter more than others; the power of its disk is cut
//! while some give way to others.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    Agent, Bench, Broker, MIB, Setup, Sim, audit, form, long, mqtt_source, number, pitwire, signal, turn,
};

const PRIORITIES: &str =
    "[priority]\nhigh = [\"brake.*\", \"gps.*\", \"lap.*\"]\nlow = [\"*.0?\", \"*.1?\", \"*.2?\"]\n";

fn is_high(channel: &str) -> bool {
    ["brake.", "gps.", "lap."].iter().any(|prefix| channel.starts_with(prefix))
}

fn is_low(channel: &str) -> bool {
    let numbered = channel.rsplit_once('.').is_some_and(|(_, last)| last.len() == 2 && last < "30");
    !is_high(channel) && numbered
}

#[test]
fn a_spill_that_is_too_small_gives_up_the_channels_of_low_priority_and_declares_each_sample() {
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(disk) = bench.disk(64 * MIB) else { return };
    let (length, cuts) = form(("12s", [5, 8].as_slice()), ("60s", &[5, 8, 10, 13, 17, 22, 28, 35, 43, 50]));
    // The store's folder is made later: until then nothing is stored.
    let store = format!("sqlite://{}", bench.path("not/yet/pitwire.db").display());
    let dir = disk.path().join("spill");
    let spill = format!("dir = {dir:?}\ndisk_max = \"4608KiB\"\nsegment_bytes = \"256KiB\"\nfree_min = \"0B\"\n");
    let more = PRIORITIES.to_owned() + &mqtt_source("car", &broker.url());
    let state = disk.path().join("state");
    let mut agent = Agent::start(&bench, &Setup { store: store.clone(), spill, more, state, ..Setup::default() });
    agent.until_subscribed();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    let began = Instant::now();
    let mut gave_way = 0;
    for cut in cuts {
        let before = agent.until_within(Duration::from_secs(90), "it is time for a cut", |_| {
            began.elapsed() > Duration::from_secs(*cut)
        });
        gave_way += u32::from(before["ledger"]["dropped"]["overflow"].as_u64() > Some(0));
        // The power of the gateway goes with that of its disk: nobody is told anything any more.
        signal("STOP", agent.pid());
        disk.cut_power();
        agent.kill();
        disk.power_on();
        agent.start_again();
    }
    let sent = sim.finish();
    agent.until_quiet();
    let full = agent.until("all of it is durable", |status| number(status, "/ledger/in_flight") == 0);
    let of = |priority: &str, what: &str| {
        let queues = full["spill"]["priorities"].as_array().unwrap();
        let queue = queues.iter().find(|queue| queue["priority"] == priority).unwrap();
        queue[what].as_u64().unwrap()
    };
    assert_eq!(of("high", "dropped_samples"), 0, "{full:#}");
    assert_eq!(number(&full, "/spill/undeclared_records"), 0, "{full:#}");
    assert!(of("low", "dropped_samples") > 0 && of("high", "backlog_samples") > 0, "{full:#}");
    assert!(number(&full, "/spill/disk_bytes") <= 4_608 << 10, "{full:#}");

    let config = bench.path("pitwire.toml");
    let listed = pitwire(&["spill", "ls", "--config", config.to_str().unwrap(), "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let files: Vec<&str> = listed["segments"].as_array().unwrap().iter().map(|s| s["file"].as_str().unwrap()).collect();
    for queue in ["high/", "low/", "0"] {
        assert!(files.iter().any(|file| file.starts_with(queue)), "{queue}: {files:?}");
    }
    assert_eq!(listed["samples"].as_u64(), Some(number(&full, "/spill/backlog_samples")), "{listed:#}");

    fs::create_dir_all(bench.path("not/yet")).unwrap();
    agent.until_drained();
    agent.terminate();
    let found = audit(sent.path(), &store);
    let manifest = sent.path().to_str().unwrap();
    let by_slot = pitwire(&["audit", "--manifest", manifest, "--store", &store, "--by-slot"]);
    let by_slot = String::from_utf8(by_slot.stdout).unwrap();
    let mut short = std::collections::BTreeMap::<&str, u64>::new();
    for slot in by_slot.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let channel = slot["channel"].as_str().unwrap();
        let class = if is_high(channel) {
            "high"
        } else if is_low(channel) {
            "low"
        } else {
            "normal"
        };
        *short.entry(class).or_default() += 1;
    }
    bench.figure(&format!(
        "4.5 MiB for {} samples, {} power cuts, {gave_way} of them while some gave way: {found:?}; seconds of channels that are short, by priority: {short:?}",
        sent.sent(),
        cuts.len()
    ));
    assert!(gave_way > 0, "no cut met a spill that gives something up");
    assert!(found.missing > 0 && found.missing == found.declared, "{found:?}");
    assert_eq!((found.extra, found.altered), (0, 0));
    assert_eq!(short.get("high"), None, "{short:?}");
    // A minute of what is not low is more than the spill holds.
    assert!(long() || !short.contains_key("normal"), "{short:?}");
    assert!(short.get("low").copied().unwrap_or_default() > 0, "{short:?}");
}

//! A disk of 16 MiB that is full while the store takes nothing, and gets room again while the car still drives.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Agent, Bench, Broker, Disk, MIB, Manifest, Setup, Sim, audit, mqtt_source, number, text, turn};

/// What the disk has left for the spill: the car of these tests fills it within a few seconds.
const ROOM_BYTES: u64 = MIB;
/// How long the disk stays full.
const FULL_FOR: Duration = Duration::from_secs(3);
/// How soon after there is room the spill takes all that comes.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);
/// How long it then has to go without a drop.
const STEADY_FOR: Duration = Duration::from_millis(1_500);

/// The store, in a folder that is made later: until then the agent holds, and no write is under way.
fn store(bench: &Bench) -> String {
    format!("sqlite://{}", bench.path("not/yet/pitwire.db").display())
}

/// What a disk that was full for a while showed.
struct Seen {
    sent: Manifest,
    /// Why the spill took nothing, in its own words; empty where it dropped the oldest.
    detail: String,
    /// From the room's return until nothing was in its way any more.
    recovered_after: Duration,
    /// The last status, all drained.
    last: Value,
}

/// Drives a wide car into an agent that has no store and whose disk is full for a while.
fn full(bench: &Bench, disk: &Disk, broker: &Broker, overflow: &str) -> Seen {
    let dir = disk.path().join("spill");
    let spill = format!(
        "dir = {dir:?}\noverflow = {overflow:?}\nsegment_bytes = \"256KiB\"\nfree_min = \"0B\"\ndisk_max = \"64MiB\"\n"
    );
    let more = mqtt_source("car", &broker.url()) + &format!("[quarantine]\ndir = {:?}\n", bench.path("quarantine"));
    let mut agent = Agent::start(bench, &Setup { store: store(bench), spill, more, ..Setup::default() });
    let held = agent.until("held, and subscribed", |status| {
        status["store"]["state"] == "holding" && status["sources"][0]["state"] == "connected"
    });
    assert!(text(&held, "/store/detail").contains("make the directory"), "{held:#}");
    disk.fill(ROOM_BYTES);
    let sim = Sim::start(bench, "sent", &["--tier", "wide", "--for", "13s", "--mqtt", &broker.url()]);
    // What gives way to what comes is dropped in the ledger alone; the others say why nothing is taken.
    let at_full = agent.until("the disk is full", |status| match overflow {
        "drop-oldest" => number(status, "/ledger/dropped/overflow") > 0,
        _ => text(status, "/spill/detail").contains("spill is full"),
    });
    let detail = text(&at_full, "/spill/detail").to_owned();
    let filled = Instant::now();
    agent.until("it is full for a while", |_| filled.elapsed() > FULL_FOR);

    disk.clear();
    let cleared = Instant::now();
    let (mut recovered, mut dropped_then) = (None, u64::MAX);
    agent.until("the spill takes all that comes", |status| {
        let dropped = number(status, "/ledger/dropped/overflow");
        if text(status, "/spill/state") != "spilling" || dropped != dropped_then {
            (recovered, dropped_then) = (None, dropped);
            return false;
        }
        recovered.get_or_insert_with(Instant::now).elapsed() > STEADY_FOR
    });
    let recovered_after = recovered.unwrap().duration_since(cleared);
    let sent = sim.finish();
    fs::create_dir_all(bench.path("not/yet")).unwrap();
    agent.until("everything has come", |status| {
        number(status, "/ledger/received") - number(status, "/ledger/duplicate") == sent.sent()
    });
    let last = agent.until_drained();
    agent.terminate();
    Seen { sent, detail, recovered_after, last }
}

/// Runs it, and holds it to what all policies have in common; returns the samples dropped, by the ledger.
fn check(overflow: &str) -> Option<(u64, String)> {
    let _turn = turn(false);
    let bench = Bench::new();
    let broker = Broker::start(&bench)?;
    let disk = bench.disk(16 * MIB)?;
    let Seen { sent, detail, recovered_after, last } = full(&bench, &disk, &broker, overflow);
    let dropped = number(&last, "/ledger/dropped/overflow");
    let found = audit(sent.path(), &store(&bench));
    bench.figure(&format!(
        "{overflow}: {found:?}; {dropped} dropped by the ledger; took all again {:.1} s after there was room; {detail:?}",
        recovered_after.as_secs_f64()
    ));
    found.assert_missing(dropped);
    assert_eq!(found.declared, dropped, "each is declared");
    assert_eq!(number(&last, "/ledger/stored") + dropped, sent.sent(), "{last:#}");
    assert!(recovered_after < RECOVERED_WITHIN, "{recovered_after:?}");
    if overflow != "drop-oldest" {
        for word in ["spill is full", disk.path().to_str().unwrap(), "free space", "spill.disk_max"] {
            assert!(detail.contains(word), "{word}: {detail}");
        }
    }
    Some((dropped, detail))
}

#[test]
fn a_full_disk_holds_a_broker_back_and_nothing_is_lost() {
    let Some((dropped, _)) = check("block") else { return };
    assert_eq!(dropped, 0);
}

#[test]
fn a_full_disk_drops_the_oldest_and_counts_it_exactly() {
    let Some((dropped, _)) = check("drop-oldest") else { return };
    assert!(dropped > 0);
}

#[test]
fn a_full_disk_drops_what_comes_and_counts_it_exactly() {
    let Some((dropped, _)) = check("drop-newest") else { return };
    assert!(dropped > 0);
}

//! What an outage costs the disk at the rate of a wide car: bytes that lie there, and bytes that its flash was told to
//! write, by the device's own counters.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Broker, Keyspace, MIB, Setup, Sim, audit, form, mqtt_source, number, profile, shared_node, turn,
};

/// Bytes that a device may be told to write for each byte of the spill. Small commits cost the file system's own
/// blocks; see the contract's fifth point.
const WRITTEN_FACTOR_MAX: f64 = 1.5;

#[test]
fn an_outage_takes_of_the_disk_what_it_spills_and_a_healthy_uplink_takes_nothing() {
    let (outage, disk_bytes) = form((Duration::from_secs(9), 128 * MIB), (Duration::from_secs(600), 1024 * MIB));
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(disk) = bench.disk(disk_bytes) else { return };
    let spill = format!("dir = {:?}\nfree_min = \"0B\"\n", disk.path().join("spill"));
    // The folder of the store is not there yet: that is the outage.
    let folder = bench.path("not/yet");
    let store = format!("sqlite://{}", folder.join("pitwire.db").display());
    let more = mqtt_source("car", &broker.url());
    let mut agent = Agent::start(&bench, &Setup { store: store.clone(), spill, more, ..Setup::default() });
    agent.until_subscribed();

    let empty = disk.written_bytes();
    let length = format!("{}s", outage.as_secs());
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", &length, "--mqtt", &broker.url()]);
    let began = Instant::now();
    let sent = {
        let patience = outage + Duration::from_secs(60);
        agent.until_within(patience, "the outage goes on", |_| began.elapsed() >= outage);
        sim.finish()
    };
    let spilled = agent.until("all of it in the spill", |status| {
        number(status, "/ledger/backlog") == sent.sent() && number(status, "/ledger/in_flight") == 0
    });
    let written = disk.written_bytes() - empty;
    let (used, told) = (number(&spilled, "/spill/disk_bytes"), number(&spilled, "/spill/written_bytes"));
    let syncs = number(&spilled, "/spill/syncs");

    // The outage ends; then the uplink is healthy, and the disk is left alone.
    fs::create_dir_all(&folder).unwrap();
    agent.until_within(form(Duration::from_secs(60), Duration::from_secs(900)), "the backlog is gone", |status| {
        number(status, "/spill/backlog_samples") == 0
    });
    agent.until("the last segment waits to be written again", |status| {
        number(status, "/spill/disk_bytes") == number(status, "/spill/reserve_bytes")
    });
    let (quiet, told_till) = (disk.written_bytes(), number(&agent.status(), "/spill/written_bytes"));
    let healthy = Sim::start(&bench, "healthy", &["--tier", "can", "--for", "4s", "--mqtt", &broker.url()]).finish();
    let last = agent.until_drained();
    let healthy_written = disk.written_bytes() - quiet;
    let healthy_told = number(&last, "/spill/written_bytes") - told_till;
    agent.terminate();

    let found = audit(sent.path(), &store);
    let each = |bytes: u64| bytes as f64 / sent.sent() as f64;
    bench.figure(&format!(
        "{} s of outage: {found:?}; on the disk {used} B, {:.3} B a sample; the spill wrote {told} B in {syncs} syncs, the \
         device {written} B, {:.3} B a sample, {:.3} for each of the spill's ({:.1} MB an hour); healthy, {} samples: the \
         spill wrote {healthy_told} B, the device {healthy_written} B ({} build)",
        outage.as_secs(),
        each(used),
        each(written),
        written as f64 / told as f64,
        written as f64 / outage.as_secs_f64() * 3600.0 / 1e6,
        healthy.sent(),
        profile()
    ));
    found.assert_exact();
    assert_eq!(healthy_told, 0, "{last:#}");
    assert!((written as f64) < told as f64 * WRITTEN_FACTOR_MAX, "{written} for {told}");
    // Segments are allocated whole.
    assert!(used <= told.next_multiple_of(8 * MIB), "{used} of {told}");
}

#[test]
fn a_wide_car_with_a_healthy_uplink_to_cassandra_writes_nothing_to_the_spill() {
    let (length, outlives) = form(("8s", Duration::from_secs(60)), ("60s", Duration::from_secs(120)));
    let _turn = turn(true);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(disk) = bench.disk(64 * MIB) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    let (spill, state) = (format!("dir = {:?}\n", disk.path().join("spill")), disk.path().join("state"));
    let more = mqtt_source("car", &broker.url());
    let mut agent = Agent::start(&bench, &Setup { store: keyspace.url(), spill, more, state, ..Setup::default() });
    agent.until_ready();
    let before = disk.written_bytes();
    let sent = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]).finish();
    let last = agent.until_home(outlives);
    let (told, written) = (number(&last, "/spill/written_bytes"), disk.written_bytes() - before);
    agent.terminate();
    let found = audit(sent.path(), &keyspace.url());
    bench.figure(&format!(
        "{length} of a wide car: {found:?}; the spill wrote {told} B, the device {written} B for spill and state ({} build)",
        profile()
    ));
    found.assert_exact();
    assert_eq!((told, number(&last, "/spill/commits")), (0, 0), "{last:#}");
}

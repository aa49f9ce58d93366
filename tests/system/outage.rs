//! A wide car over MQTT into Cassandra, whose only node stops answering for a while.

use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Broker, Keyspace, MIB, OwnNode, Setup, Sim, audit, form, mqtt_source, number, profile, turn,
};

/// What the agent may hold in memory at this rate.
const MEMORY_MAX: u64 = 100 * MIB;
/// By what it may grow while the backlog does: buffers that fill up.
const BACKLOG_MEMORY_MAX: u64 = 16 * MIB;

#[test]
fn a_store_that_hangs_costs_a_wide_car_nothing_and_the_backlog_drains() {
    let (length, frozen_for) = form(("14s", 8), ("80s", 60));
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(node) = OwnNode::start(&bench) else { return };
    let keyspace = Keyspace::new(node.address());
    keyspace.apply();
    let setup = Setup { store: keyspace.url(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();

    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    agent.until("rows in the store", |status| number(status, "/store/samples_written") > 100_000);
    node.freeze();
    let frozen_at = Instant::now();
    let grew = agent.until("the backlog grows", |status| {
        number(status, "/spill/backlog_samples") > 50_000 && status["store"]["state"] != "up"
    });
    assert_ne!(grew["store"]["detail"], "", "{grew:#}");
    let early = agent.memory();
    let mut backlog = 0;
    agent.until_within(Duration::from_secs(frozen_for + 30), "the node's time out is over", |status| {
        backlog = number(status, "/spill/backlog_samples").max(backlog);
        frozen_at.elapsed() >= Duration::from_secs(frozen_for)
    });
    let late = agent.memory();
    node.thaw();
    let thawed_at = Instant::now();
    agent.until_within(Duration::from_secs(120), "the backlog is gone", |status| {
        number(status, "/spill/backlog_samples") == 0
    });
    let took = thawed_at.elapsed();

    let sent = sim.finish();
    let drained = agent.until_drained();
    assert_eq!(number(&drained, "/ledger/received") - number(&drained, "/ledger/duplicate"), sent.sent());
    let memory = agent.memory_peak();
    agent.terminate();
    let found = audit(sent.path(), &keyspace.url());
    bench.figure(&format!(
        "{found:?}; backlog up to {backlog} samples, empty {:.1} s after the thaw; {} rows written; memory {:.1} MiB as the \
         backlog began, {:.1} at its end, peak {:.1} ({} build)",
        took.as_secs_f64(),
        number(&drained, "/store/rows_written"),
        early as f64 / MIB as f64,
        late as f64 / MIB as f64,
        memory as f64 / MIB as f64,
        profile()
    ));
    found.assert_exact();
    assert!(memory < MEMORY_MAX, "{memory}");
    assert!(late < early + BACKLOG_MEMORY_MAX, "the backlog is kept in memory: {early} to {late}");
}

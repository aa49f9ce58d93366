//! A store that is killed and started again, and one whose answers are lost on the way.

use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Broker, Gate, Keyspace, MIB, OwnNode, Setup, Sim, audit, form, mqtt_source, number, profile,
    shared_node, turn, utc_us,
};

#[test]
fn a_store_that_is_killed_and_started_again_has_every_row() {
    let (length, away_for) = form(("11s", 2), ("90s", 30));
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    // Every write that it acknowledges is on its disk: a node at its defaults forgets some when it is killed.
    let Some(mut node) = OwnNode::start_with(&bench, &[("COMMITLOG_SYNC", "group")]) else { return };
    let keyspace = Keyspace::new(node.address());
    keyspace.apply();
    let setup = Setup { store: keyspace.url(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    agent.until("rows in the store", |status| number(status, "/store/samples_written") > 100_000);
    node.kill();
    let killed = Instant::now();
    agent.until("the backlog grows", |status| number(status, "/spill/backlog_samples") > 50_000);
    let early = agent.memory();
    agent.until_within(Duration::from_secs(away_for + 30), "it is away for a while", |_| {
        killed.elapsed() >= Duration::from_secs(away_for)
    });
    node.start_again();
    let away = killed.elapsed();
    let late = agent.memory();
    agent.until_within(Duration::from_secs(120), "the backlog is gone", |status| {
        number(status, "/spill/backlog_samples") == 0
    });
    let sent = sim.finish();
    let last = agent.until_home(Duration::from_secs(90));
    assert_eq!(number(&last, "/ledger/received") - number(&last, "/ledger/duplicate"), sent.sent());
    let peak = agent.memory_peak();
    agent.terminate();
    let found = audit(sent.path(), &keyspace.url());
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    bench.figure(&format!(
        "away for {:.1} s: {found:?}; memory {:.1} MiB as the backlog began, {:.1} at its end, peak {:.1} ({} build)",
        away.as_secs_f64(),
        mib(early),
        mib(late),
        mib(peak),
        profile()
    ));
    found.assert_exact();
    assert!(late < early + 16 * MIB, "the backlog is kept in memory: {early} to {late}");
    assert!(peak < 100 * MIB, "{peak}");
}

#[test]
fn answers_of_the_store_that_are_lost_make_no_row_missing_or_double() {
    let (length, lost_for) = form(("10s", 4), ("60s", 30));
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    let mut gate = Gate::closed();
    gate.open(&node);
    let store = keyspace.url_through(&gate.address());
    let setup = Setup { store, more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    agent.until("rows in the store", |status| number(status, "/store/samples_written") > 100_000);
    gate.swallow();
    let from_us = utc_us();
    let acknowledged = number(&agent.status(), "/store/samples_written");
    let silent = Instant::now();
    agent.until("it spills", |status| number(status, "/spill/backlog_samples") > 50_000);
    let early = agent.memory();
    agent.until_within(Duration::from_secs(lost_for + 30), "answers are lost for a while", |_| {
        silent.elapsed() >= Duration::from_secs(lost_for)
    });
    let late = agent.memory();
    let unheard = number(&agent.status(), "/store/samples_written") - acknowledged;
    // Now: a row that is written again is as young as its last writing.
    let unheard_of = keyspace.arrived("44").iter().filter(|row| row.written > from_us).count();
    let swallowed = gate.let_go();
    let silent = silent.elapsed();
    agent.until("the backlog is gone", |status| number(status, "/spill/backlog_samples") == 0);
    let sent = sim.finish();
    let last = agent.until_home(Duration::from_secs(90));
    agent.terminate();
    let found = audit(sent.path(), &keyspace.url());
    let rows = keyspace.arrived("44");
    let samples: u64 = rows.iter().map(|row| row.n).sum();
    bench.figure(&format!(
        "answers lost for {:.1} s, {swallowed} B of them: {found:?}; the store took {unheard_of} rows meanwhile, and the \
         agent heard of {unheard} samples; in the end {samples} samples in {} rows; memory {:.1} to {:.1} MiB ({} build)",
        silent.as_secs_f64(),
        rows.len(),
        early as f64 / MIB as f64,
        late as f64 / MIB as f64,
        profile()
    ));
    assert!(swallowed > 0 && unheard_of > 0, "no answer was lost: {swallowed} B, {unheard_of} rows");
    found.assert_exact();
    assert_eq!(samples, sent.sent(), "what was written twice went under the same keys");
    assert_eq!(number(&last, "/ledger/stored"), sent.sent());
    assert!(late < early + 16 * MIB, "what is not acknowledged piles up in memory: {early} to {late}");
}

//! A wide car into a cluster of three that keeps three copies, of which one node, then two are lost.

use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Broker, Keyspace, MIB, OwnNode, Setup, Sim, audit, form, mqtt_source, number, profile, turn,
};

/// How long the store may take nothing when one of three nodes is lost: two are a quorum.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Looks for so long, and says for how long at most nothing new was stored.
fn longest_stall(agent: &Agent, looked_for: Duration) -> Duration {
    let (began, mut stored, mut since, mut longest) = (Instant::now(), 0, Instant::now(), Duration::ZERO);
    agent.until_within(looked_for + Duration::from_secs(30), "it was looked at for a while", |status| {
        let now = number(status, "/store/samples_written");
        longest = longest.max(since.elapsed());
        if now > stored {
            (stored, since) = (now, Instant::now());
        }
        began.elapsed() >= looked_for
    });
    longest
}

#[test]
fn a_cluster_that_loses_one_node_stores_on_and_one_that_loses_two_costs_nothing() {
    let (length, one_away_for, two_away_for) = form(("25s", 8, 6), ("120s", 30, 60));
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    // What a node acknowledged is on its disk when it is killed.
    let Some(nodes) = OwnNode::start_three(&bench, &[("COMMITLOG_SYNC", "group")]) else { return };
    let [first, mut second, mut third] = nodes;
    let keyspace = Keyspace::new(&[first.address(), second.address(), third.address()].join(","));
    keyspace.apply_copies(3);
    let setup = Setup { store: keyspace.url(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    agent.until("rows in the store", |status| number(status, "/store/samples_written") > 100_000);

    third.kill();
    let stall = longest_stall(&agent, Duration::from_secs(one_away_for));
    let status = agent.until("nothing waits in the spill", |status| number(status, "/spill/backlog_samples") == 0);
    let spilled_by_one = number(&status, "/spill/spilled_samples");

    second.kill();
    let killed = Instant::now();
    let grew = agent.until("the backlog grows", |status| {
        number(status, "/spill/backlog_samples") > 50_000 && status["store"]["state"] != "up"
    });
    assert_ne!(grew["store"]["detail"], "", "{grew:#}");
    let early = agent.memory();
    let mut backlog = 0;
    agent.until_within(Duration::from_secs(two_away_for + 30), "two are away for a while", |status| {
        backlog = number(status, "/spill/backlog_samples").max(backlog);
        killed.elapsed() >= Duration::from_secs(two_away_for)
    });
    let late = agent.memory();
    // One is enough for a quorum again; the other one comes later.
    second.start_again();
    let away = killed.elapsed();
    let back = Instant::now();
    agent.until_within(Duration::from_secs(120), "the backlog is gone", |status| {
        number(status, "/spill/backlog_samples") == 0
    });
    let drained_after = back.elapsed();
    third.start_again();

    let sent = sim.finish();
    let last = agent.until_home(Duration::from_secs(90));
    assert_eq!(number(&last, "/ledger/received") - number(&last, "/ledger/duplicate"), sent.sent());
    let peak = agent.memory_peak();
    agent.terminate();
    // Read from the two without the one that was there all the time: what was acknowledged was on a quorum.
    first.kill();
    let found = audit(sent.path(), &keyspace.url());
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    bench.figure(&format!(
        "one of three killed: at most {:.1} s without a row stored, {spilled_by_one} samples spilled; two killed for {:.1} s: \
         backlog up to {backlog} samples, empty {:.1} s after one was back; {found:?}, without the node that lived; memory {:.1} MiB as the backlog began, {:.1} at its end, peak {:.1} ({} build)",
        stall.as_secs_f64(),
        away.as_secs_f64(),
        drained_after.as_secs_f64(),
        mib(early),
        mib(late),
        mib(peak),
        profile()
    ));
    found.assert_exact();
    assert!(stall < STALL_MAX, "{stall:?} without a row stored while two of three were there");
    assert!(late < early + 16 * MIB, "the backlog is kept in memory: {early} to {late}");
    assert!(peak < 100 * MIB, "{peak}");
}

#[test]
fn a_cluster_whose_nodes_hang_stores_on_with_two_of_three_and_costs_nothing_with_one() {
    let (length, one_hangs_for, two_hang_for) = form(("25s", 8, 6), ("120s", 30, 60));
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some([first, second, third]) = OwnNode::start_three(&bench, &[]) else { return };
    let keyspace = Keyspace::new(&[first.address(), second.address(), third.address()].join(","));
    keyspace.apply_copies(3);
    let setup = Setup { store: keyspace.url(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    agent.until("rows in the store", |status| number(status, "/store/samples_written") > 100_000);

    // Its connections stay open, and nothing comes over them.
    third.freeze();
    let stall = longest_stall(&agent, Duration::from_secs(one_hangs_for));
    second.freeze();
    let mut backlog = 0;
    let froze = Instant::now();
    agent.until_within(Duration::from_secs(two_hang_for + 30), "two hang for a while", |status| {
        backlog = number(status, "/spill/backlog_samples").max(backlog);
        froze.elapsed() >= Duration::from_secs(two_hang_for) && backlog > 50_000
    });
    second.thaw();
    third.thaw();
    let back = Instant::now();
    agent.until_within(Duration::from_secs(120), "the backlog is gone", |status| {
        number(status, "/spill/backlog_samples") == 0
    });
    let drained_after = back.elapsed();
    let sent = sim.finish();
    agent.until_home(Duration::from_secs(90));
    agent.terminate();
    let found = audit(sent.path(), &keyspace.url());
    bench.figure(&format!(
        "one of three hung: at most {:.1} s without a row stored; two hung: backlog up to {backlog} samples, empty {:.1} s \
         after they went on; {found:?} ({} build)",
        stall.as_secs_f64(),
        drained_after.as_secs_f64(),
        profile()
    ));
    found.assert_exact();
    assert!(stall < STALL_MAX, "{stall:?} without a row stored while two of three answered");
}

//! A wide car over MQTT at QoS 1 into Cassandra, which hangs for a while, and the agent is killed outright every three
//! seconds; then the same with the power of its disk cut each time. Nothing may be missing, doubled or altered.
//!
//! The broker is at its default settings but for `max_queued_messages 0`: by default it drops by itself what it has
//! queued beyond a thousand messages while the agent is away.

use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Broker, Disk, Keyspace, MIB, OwnNode, Setup, Sim, audit, form, mqtt_source, number, profile, signal,
    turn,
};

/// Distance of two kills.
const EVERY: Duration = Duration::from_secs(3);
/// What it gets even if its start took longer than that.
const LIFE_MIN: Duration = Duration::from_millis(1_500);

/// Kills during a run, and the hang of the store within it.
struct Plan {
    length: &'static str,
    kills: u32,
    frozen_from: Duration,
    frozen_for: Duration,
}

fn plan() -> Plan {
    let seconds = Duration::from_secs;
    let short = Plan { length: "11s", kills: 3, frozen_from: seconds(4), frozen_for: seconds(4) };
    form(short, Plan { length: "124s", kills: 40, frozen_from: seconds(50), frozen_for: seconds(20) })
}

/// What a run of kills showed.
#[derive(Default)]
struct Seen {
    /// Samples found in the spill by the starts, all together.
    recovered: u64,
    /// Starts that found some.
    recoveries: u32,
    slowest_start: Duration,
}

/// Kills the agent as planned; with a disk, each time after a cut of its power.
fn kill_it(plan: &Plan, agent: &mut Agent, node: &OwnNode, disk: Option<&Disk>) -> Seen {
    let (began, mut seen) = (Instant::now(), Seen::default());
    let (mut next, mut frozen, mut thawed) = (began + EVERY, false, false);
    for _ in 0..plan.kills {
        while Instant::now() < next {
            let elapsed = began.elapsed();
            if !frozen && elapsed >= plan.frozen_from {
                node.freeze();
                frozen = true;
            } else if !thawed && elapsed >= plan.frozen_from + plan.frozen_for {
                node.thaw();
                thawed = true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(disk) = disk {
            // The power of the gateway goes with that of its disk: nobody is told anything any more. A sync that the
            // kernel's switch meets half-way may be answered with a yes that is none.
            signal("STOP", agent.pid());
            disk.cut_power();
        }
        let killed = Instant::now();
        agent.kill();
        if let Some(disk) = disk {
            disk.power_on();
        }
        let starts = Instant::now();
        agent.start_again();
        seen.slowest_start = seen.slowest_start.max(starts.elapsed());
        next = (killed + EVERY).max(Instant::now() + LIFE_MIN);
        let scanned = agent.until("the spill scanned", |status| status["spill"]["recovering"].is_null());
        let recovered = number(&scanned, "/ledger/recovered");
        seen.recovered += recovered;
        seen.recoveries += u32::from(recovered > 0);
    }
    if !thawed {
        node.thaw();
    }
    seen
}

/// The whole scenario; `on_a_disk` says whether its files lie on a file system that loses power.
fn run(on_a_disk: bool) {
    let plan = plan();
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let disk = if on_a_disk { bench.disk(512 * MIB) } else { None };
    if on_a_disk && disk.is_none() {
        return;
    }
    let Some(node) = OwnNode::start(&bench) else { return };
    let keyspace = Keyspace::new(node.address());
    keyspace.apply();
    let mut setup = Setup { store: keyspace.url(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    if let Some(disk) = &disk {
        setup.spill = format!("dir = {:?}\nfree_min = \"0B\"\ndisk_max = \"384MiB\"\n", disk.path().join("spill"));
        setup.state = disk.path().join("state");
    }
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", plan.length, "--mqtt", &broker.url()]);
    let seen = kill_it(&plan, &mut agent, &node, disk.as_ref());

    let sent = sim.finish();
    let last = agent.until_home(form(Duration::from_secs(90), Duration::from_secs(300)));
    agent.terminate();
    let found = audit(sent.path(), &keyspace.url());
    bench.figure(&format!(
        "{} kills{}, the store hung for {} s: {found:?}; {} starts recovered {} samples; slowest start {:.2} s; {} \
         samples came twice after the last ({} build)",
        plan.kills,
        if on_a_disk { " with power cuts" } else { "" },
        plan.frozen_for.as_secs(),
        seen.recoveries,
        seen.recovered,
        seen.slowest_start.as_secs_f64(),
        number(&last, "/ledger/duplicate"),
        profile()
    ));
    assert!(seen.recoveries > 0, "no kill met a spill with something in it");
    assert_eq!(number(&last, "/spill/quarantine_records"), 0, "{last:#}");
    found.assert_exact();
}

#[test]
fn killing_the_agent_every_three_seconds_costs_a_wide_car_nothing() {
    run(false);
}

#[test]
fn cutting_the_power_of_the_disk_with_each_kill_costs_a_wide_car_nothing() {
    run(true);
}

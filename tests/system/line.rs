//! A wide car on a serial line, which acknowledges nothing: what kills of the agent may cost there, and no more.

use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Keyspace, OwnNode, Setup, Sim, audit, form, number, profile, serial_source, source, turn,
};

/// Samples a second of the `wide` tier.
const RATE: u64 = 78_200;
/// D, the default of `durable_within`.
const DURABLE_WITHIN: Duration = Duration::from_secs(1);
/// A sync on a machine that does other things too.
const SYNC_MAX: Duration = Duration::from_millis(500);
/// Samples of the largest frame: 1 KiB of 16-bit values.
const FRAME_SAMPLES_MAX: u64 = 512;
const EVERY: Duration = Duration::from_secs(3);
/// What the agent gets after its last kill while the car still drives.
const LIFE_MIN: Duration = Duration::from_secs(1);

#[test]
fn kills_cost_a_serial_line_what_came_while_it_was_closed_and_what_was_not_durable_yet() {
    let (seconds, kills_max, frozen_at, frozen_for) = form((11, 3, 1, 1), (124, 40, 16, 7));
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(node) = OwnNode::start(&bench) else { return };
    let keyspace = Keyspace::new(node.address());
    keyspace.apply();
    let port = bench.path("ecu");
    let length = format!("{seconds}s");
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "wide", "--for", &length]);
    let setup = Setup { store: keyspace.url(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until("the store up, the port open", |status| {
        status["store"]["state"] == "up" && source(status, "ecu")["state"] == "connected"
    });

    // The port goes with the car: on a slow machine there are fewer kills.
    let last_kill = Instant::now() + Duration::from_secs(seconds) - EVERY - LIFE_MIN;
    let (mut closed, mut kills) = (Duration::ZERO, 0);
    while kills < kills_max && Instant::now() < last_kill {
        // The store hangs from one kill on: what is in memory then has nowhere to go but the spill.
        if kills == frozen_at {
            node.freeze();
        } else if kills == frozen_at + frozen_for {
            node.thaw();
        }
        std::thread::sleep(EVERY);
        let killed = Instant::now();
        agent.kill();
        agent.start_again();
        agent.until("the port is open", |status| source(status, "ecu")["state"] == "connected");
        closed += killed.elapsed();
        kills += 1;
    }
    node.thaw();
    let (sent, words) = sim.finish_lossy();
    let last = agent.until_home(form(Duration::from_secs(60), Duration::from_secs(240)));
    agent.terminate();

    let found = audit(sent.path(), &keyspace.url());
    let in_memory = DURABLE_WITHIN + SYNC_MAX;
    let of = |time: Duration| (time.as_secs_f64() * RATE as f64) as u64;
    let bound = of(closed) + of(in_memory) * kills + 2 * FRAME_SAMPLES_MAX * kills;
    let dropped = words.lines().find(|line| line.contains("dropped by full buffers")).unwrap_or("none dropped");
    bench.figure(&format!(
        "{kills} kills, the port closed for {:.1} s in all: {found:?}; missing {} of {bound} that the contract allows; \
         lost by sequence numbers in the last run {}; the line: {dropped} ({} build)",
        closed.as_secs_f64(),
        found.missing,
        number(&source(&last, "ecu")["devices"][0], "/samples_lost"),
        profile()
    ));
    found.assert_missing(found.missing);
    assert_eq!(found.declared, found.missing, "none is silent");
    assert!(kills > frozen_at, "the machine is too slow for this: {kills} kills");
    assert!(found.missing <= bound, "{} missing, {bound} allowed", found.missing);
}

//! A backlog drains while another car drives: live data is not held up by it, and it drains far faster than it grew.

use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Broker, Gate, Keyspace, MIB, Setup, Sim, audit, eventually, form, mqtt_source, number, profile,
    shared_node, turn, utc_us,
};

/// Samples a second of the `can` tier.
const CAN_RATE: f64 = 1_500.0;
/// Twice D, µs.
const LIVE_MAX_US: i64 = 2_000_000;

#[test]
fn a_backlog_drains_ten_times_as_fast_as_a_can_car_drives_and_never_holds_live_data_up() {
    // Few rows come during a short drain: a moment in which the machine does something else is more than one in 100.
    let (length, samples, live_for, live_share) = form(("3s", 200_000, "14s", 90), ("128s", 10_000_000, "120s", 99));
    let _turn = turn(true);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    let mut gate = Gate::closed();
    let more = mqtt_source("car", &broker.url()).replace("pitwire/44/#", "pitwire/#");
    let setup = Setup { store: keyspace.url_through(&gate.address()), more, ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_subscribed();
    let old = Sim::start(&bench, "old", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    let old = old.finish_by(Duration::from_secs(200));
    agent.until("all of it in the spill", |status| number(status, "/ledger/backlog") == old.sent());
    assert!(old.sent() >= samples, "{}", old.sent());
    let empty = agent.memory();

    let arguments = ["--tier", "can", "--car", "45", "--for", live_for, "--mqtt", &broker.url()];
    let mut live = Sim::start(&bench, "live", &arguments);
    agent.until_received(old.sent() + 3_000);
    gate.open(&node);
    // Until then one write is tried, and a server that begins, or begins again, may take seconds for its first.
    agent.until("the store takes writes", |status| number(status, "/store/rows_written") > 0);
    let (up, up_us) = (Instant::now(), utc_us());
    agent.until_within(Duration::from_secs(90), "the backlog is gone", |status| {
        number(status, "/spill/backlog_samples") == 0
    });
    let (took, down_us) = (up.elapsed(), utc_us());
    let lively = live.is_running();
    let grown = agent.memory_peak().saturating_sub(empty);
    let live_sent = live.finish_by(Duration::from_secs(200));
    agent.until_home(Duration::from_secs(60));
    agent.terminate();

    // How old a row's first sample was when the store took the row.
    let mut rows = Vec::new();
    eventually("the rows can be read", || {
        rows = keyspace.arrived("45");
        !rows.is_empty()
    });
    let mut ages: Vec<i64> =
        rows.iter().filter(|row| (up_us..down_us).contains(&row.t0)).map(|row| row.written - row.t0).collect();
    ages.sort_unstable();
    assert!(!ages.is_empty(), "no live row while it drained, in {took:?}");
    let age = |share: usize| ages[(ages.len() - 1) * share / 100];
    let rate = old.sent() as f64 / took.as_secs_f64();
    let found = [&old, &live_sent].map(|sent| audit(sent.path(), &keyspace.url()));
    bench.figure(&format!(
        "{} samples drained in {:.2} s, {rate:.0} a second, {:.0} times a can car; {} live rows meanwhile, from their \
         first sample to the store p50 {} ms, p99 {} ms; memory grew by {:.1} MiB; {found:?} ({} build)",
        old.sent(),
        took.as_secs_f64(),
        rate / CAN_RATE,
        ages.len(),
        age(50) / 1_000,
        age(99) / 1_000,
        grown as f64 / MIB as f64,
        profile()
    ));
    found.iter().for_each(|found| found.assert_exact());
    assert!(lively, "the live car stopped before the drain was over");
    assert!(rate >= 10.0 * CAN_RATE, "{rate}");
    assert!(age(live_share) < LIVE_MAX_US, "{} us", age(live_share));
}

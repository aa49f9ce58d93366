//! The agent is killed outright, in the middle of things, and started again.

use rusqlite::Connection;

use crate::support::{Agent, Bench, Broker, Setup, Sim, audit, mqtt_source, number, serial_source, turn};

/// Samples a second of the `can` tier.
const RATE: u64 = 1_500;

/// Keeps the store from being written, until dropped.
pub(crate) struct Locked(Connection);

impl Locked {
    pub(crate) fn new(bench: &Bench) -> Self {
        let connection = Connection::open(bench.path("pitwire.db")).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    pub(crate) fn unlock(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

#[test]
fn killing_the_agent_loses_no_message_of_a_broker() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let more = mqtt_source("car", &broker.url()) + "[deliver]\nflush_after = \"200ms\"\n";
    let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
    agent.until_subscribed();
    let sim = Sim::start(&bench, "sent", &["--tier", "can", "--for", "9s", "--mqtt", &broker.url()]);

    // While the store takes everything.
    agent.until_received(2 * RATE);
    agent.kill();
    agent.start_again();
    // While it takes nothing: some is in the spill, some in memory, some with the broker.
    agent.until_received(RATE);
    let locked = Locked::new(&bench);
    let spilling = agent.until("data in the spill", |status| number(status, "/spill/backlog_samples") > RATE);
    agent.kill();
    agent.start_again();
    let scanned = agent.until("the spill is scanned", |status| status["spill"]["recovering"].is_null());
    let recovered = number(&scanned, "/ledger/recovered");
    assert!(recovered >= number(&spilling, "/spill/backlog_samples"), "{recovered} for {spilling:#}");
    agent.until_received(RATE / 2);
    locked.unlock();

    let sent = sim.finish();
    let drained = agent.until_drained();
    agent.terminate();
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!(
        "two kills: {found:?}; {recovered} recovered from the spill, {} came twice after the last start",
        number(&drained, "/ledger/duplicate")
    ));
    found.assert_exact();
}

#[test]
fn killing_the_agent_costs_a_serial_port_what_was_not_durable_yet_and_no_more() {
    let _turn = turn(false);
    let bench = Bench::new();
    let port = bench.path("ecu");
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "can", "--for", "8s", "--block"]);
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_received(RATE);
    let locked = Locked::new(&bench);
    let before = agent.until("data in the spill", |status| number(status, "/spill/backlog_samples") > RATE);
    agent.kill();
    agent.start_again();
    let after = agent.until("the spill is scanned", |status| status["spill"]["recovering"].is_null());
    locked.unlock();

    let sent = sim.finish();
    agent.until_drained();
    agent.terminate();
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!(
        "{found:?}; {} samples were in flight just before the kill, {} in the spill, {} recovered",
        number(&before, "/ledger/in_flight"),
        number(&before, "/spill/backlog_samples"),
        number(&after, "/ledger/recovered"),
    ));
    assert!(number(&after, "/ledger/recovered") >= number(&before, "/spill/backlog_samples"), "{after:#}");
    // D is 1 s; a sync, a moment between the look and the kill, and the frame that was cut: half of that.
    found.assert_missing(found.missing);
    assert!(found.missing <= RATE * 3 / 2, "{found:?}");
}

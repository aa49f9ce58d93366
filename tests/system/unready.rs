//! No store to be reached at the start, then one without a schema.

use crate::support::{
    Agent, Bench, Gate, Keyspace, Setup, Sim, audit, eventually, number, serial_source, shared_node, source, text, turn,
};

#[test]
fn the_agent_takes_data_in_without_a_store_and_says_what_it_waits_for() {
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let keyspace = Keyspace::new(&node);
    let mut gate = Gate::closed();
    let port = bench.path("ecu");
    let store = keyspace.url_through(&gate.address());
    let setup = Setup { store, more: serial_source("ecu", &port, "44"), ..Setup::default() };

    // Nothing listens.
    let sim = Sim::start_on_ports(&bench, "first", &[&port], &["--tier", "can", "--for", "4s"]);
    let mut agent = Agent::start(&bench, &setup);
    agent.until_received(1_000);
    let (code, body) = agent.get("/readyz").unwrap();
    assert_eq!(code, 200, "ready needs no store: {body}");
    let first = sim.finish();
    let status = agent.until("everything in the spill", |status| {
        number(status, "/ledger/backlog") == number(status, "/ledger/received") && number(status, "/ledger/backlog") > 0
    });
    assert_eq!(number(&status, "/ledger/backlog"), first.sent());
    assert_eq!(text(&status, "/store/state"), "down");
    let unreachable = text(&status, "/store/detail").to_owned();
    assert!(unreachable.contains(&gate.address()), "where: {unreachable}");
    assert!(unreachable.to_lowercase().contains("refused"), "why: {unreachable}");
    assert!(unreachable.contains("store.url"), "what to do: {unreachable}");

    // The backlog outlives a restart.
    agent.terminate();
    agent.start_again();
    let status = agent.until("the spill is scanned", |status| status["spill"]["recovering"].is_null());
    assert_eq!(number(&status, "/ledger/recovered"), first.sent());
    assert_eq!(number(&status, "/spill/backlog_samples"), first.sent());

    // A node answers that has no such keyspace.
    gate.open(&node);
    let status = agent.until("held", |status| status["store"]["state"] == "holding");
    let hold = text(&status, "/store/detail").to_owned();
    for word in [keyspace.name(), "pitwire schema apply --store"] {
        assert!(hold.contains(word), "{word}: {hold}");
    }
    // The log says it as well, a little later: it repeats no state that flaps.
    eventually("the log names the remedy", || agent.log().contains("pitwire schema apply"));
    let sim = Sim::start_on_ports(&bench, "second", &[&port], &["--tier", "can", "--for", "3s"]);
    agent.until("the port is back", |status| source(status, "ecu")["state"] == "connected");
    let second = sim.finish();

    keyspace.apply();
    let drained = agent.until_drained();
    assert_eq!(number(&drained, "/ledger/stored"), first.sent() + second.sent());
    assert_eq!(text(&drained, "/store/state"), "up");
    agent.terminate();
    let found = [&first, &second].map(|sent| audit(sent.path(), &keyspace.url()));
    bench.figure(&format!("{found:?}; unreachable: {unreachable:?}; held: {hold:?}"));
    found.iter().for_each(|found| found.assert_exact());
}

//! One car over one serial port.

use crate::support::{Agent, Bench, Setup, Sim, audit, number, serial_source, turn};

#[test]
fn a_car_over_a_serial_port_arrives_whole_and_a_healthy_store_costs_the_spill_nothing() {
    let _turn = turn(true);
    let bench = Bench::new();
    let port = bench.path("ecu");
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "can", "--for", "6s"]);
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    let sent = sim.finish();

    // At once: what is still on its way has to be brought home by the stop.
    let before = agent.status();
    agent.terminate();
    let log = agent.log();
    let ending = log.lines().find(|line| line.starts_with("received")).unwrap_or_else(|| panic!("{log}"));
    bench.figure(&format!("in flight at the stop {}; {ending}", number(&before, "/ledger/in_flight")));
    let expected = format!("received {0} and recovered 0: stored {0}, backlog 0,", sent.sent());
    assert!(ending.starts_with(&expected), "{ending}");
    assert_eq!(number(&before, "/spill/written_bytes"), 0, "{before:#}");
    let segments = std::fs::read_dir(bench.path("spill")).unwrap().count();
    assert_eq!(segments, 0, "the spill was written to");

    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!("{found:?}"));
    found.assert_exact();
    assert!(found.sent > 7_000, "{found:?}");
    assert_eq!(found.unlisted, 0, "{found:?}");
}

//! What is wrong is named, with where and what to do, and the rest goes on.

use crate::support::{
    Agent, Bench, Broker, Gate, Setup, Sim, audit, mqtt_source, number, pitwire, serial_source, source, text, turn,
};

#[test]
fn a_missing_port_and_a_refused_broker_are_named_and_the_other_source_goes_on() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let mut gate = Gate::closed();
    let (port, absent) = (bench.path("ecu"), bench.path("no-such-port"));
    let more = serial_source("ecu", &port, "44")
        + &serial_source("absent", &absent, "46")
        + &mqtt_source("away", &format!("mqtt://{}", gate.address()));
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "can", "--for", "4s"]);
    let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
    let status = agent.until("both are down", |status| {
        source(status, "absent")["state"] == "down" && source(status, "away")["state"] == "down"
    });
    let missing = text(source(&status, "absent"), "/detail");
    for word in [absent.to_str().unwrap(), "No such file", "check the cable and source.serial.path"] {
        assert!(missing.contains(word), "{word}: {missing}");
    }
    let refused = text(source(&status, "away"), "/detail");
    for word in [gate.address().as_str(), "refused", "check that the broker runs and source.mqtt.url"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    for word in ["check the cable", "check that the broker runs"] {
        assert!(agent.log().contains(word), "{word}: {}", agent.log());
    }
    let (code, body) = agent.get("/readyz").unwrap();
    assert!(code == 503 && body.contains("absent") && body.contains("away"), "{code} {body}");

    // The broker comes, and the source with it.
    gate.open(broker.url().trim_start_matches("mqtt://"));
    agent.until("the broker is used", |status| source(status, "away")["state"] == "connected");
    let sent = sim.finish();
    agent.until_received(sent.sent());
    agent.terminate();
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!("{found:?}; {missing:?}; {refused:?}"));
    found.assert_exact();
}

#[test]
fn a_file_that_is_no_serial_port_is_named_and_the_other_source_goes_on() {
    let _turn = turn(false);
    let bench = Bench::new();
    let (port, file) = (bench.path("ecu"), bench.path("a-file"));
    std::fs::write(&file, "text").unwrap();
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "club", "--for", "2s"]);
    let more = serial_source("ecu", &port, "44") + &serial_source("file", &file, "46");
    let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
    let status = agent.until("it is down", |status| source(status, "file")["state"] == "down");
    let detail = text(source(&status, "file"), "/detail").to_owned();
    assert!(detail.contains(file.to_str().unwrap()), "{detail}");
    assert!(detail.contains("check that source.serial.path is a serial port"), "{detail}");
    let sent = sim.finish();
    agent.until_received(sent.sent());
    agent.terminate();
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!("{found:?}; {detail:?}"));
    found.assert_exact();
}

#[test]
fn an_unknown_key_is_named_with_file_and_line_and_nothing_starts() {
    let bench = Bench::new();
    let more = serial_source("ecu", &bench.path("ecu"), "44") + "[deliver]\nflush_afer = \"200ms\"\n";
    let config = Setup { store: bench.sqlite(), more, ..Setup::default() }.write(&bench);
    let line = 1 + std::fs::read_to_string(&config).unwrap().lines().position(|l| l.contains("flush_afer")).unwrap();
    let place = format!("{}:{line}: ", config.display());
    for command in ["check", "run"] {
        let output = pitwire(&[command, "--config", config.to_str().unwrap()]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {words}");
        for word in [place.as_str(), "flush_afer", "flush_after"] {
            assert!(words.contains(word), "{command}: {word}: {words}");
        }
        assert!(output.stdout.is_empty(), "stdout is for data");
    }
    assert!(!bench.path("spill").exists() && !bench.path("pitwire.db").exists(), "something was started");
}

#[test]
fn a_port_taken_by_another_agent_costs_the_page_and_nothing_else() {
    let _turn = turn(false);
    let bench = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let port = bench.path("ecu");
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "club", "--for", "2s"]);
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let config = setup.write(&bench);
    let text = std::fs::read_to_string(&config).unwrap().replace("127.0.0.1:0", &listen.to_string());
    std::fs::write(&config, text).unwrap();
    let mut agent = Agent::start_blind(&bench);
    let sent = sim.finish();
    agent.terminate();
    let log = agent.log();
    let expected = format!("open the monitor on {listen}: the address is in use");
    assert!(log.contains(&expected), "{log}");
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!("{found:?}"));
    found.assert_exact();
    assert!(number(&serde_json::json!({ "sent": found.sent }), "/sent") > 700);
}

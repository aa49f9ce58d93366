//! What is not there is declared: the agent is killed again and again while a serial car sends.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Agent, Bench, Broker, Setup, Sim, audit, mqtt_source, number, pitwire, serial_source, turn};

/// Samples a second of the `can` tier.
const RATE: u64 = 1_500;

/// `pitwire export --gaps`.
fn declared(bench: &Bench) -> Vec<Value> {
    let output = pitwire(&["export", "--store", &bench.sqlite(), "--car", "44", "--gaps"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Gaps that the agent has declared in this run.
fn events(status: &Value) -> u64 {
    status["gaps"].as_array().unwrap().iter().map(|gap| gap["events"].as_u64().unwrap()).sum()
}

#[test]
fn each_part_that_kills_take_from_a_serial_car_is_declared_by_sequence() {
    let _turn = turn(false);
    let bench = Bench::new();
    let port = bench.path("ecu");
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "can", "--for", "13s", "--block"]);
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    for _ in 0..3 {
        agent.until_received(3 * RATE);
        agent.kill();
        agent.start_again();
    }
    let sent = sim.finish();
    agent.until("the last gap declared and stored", |status| {
        let sources = status["sources"].as_array().unwrap();
        events(status) >= 1 && sources.iter().all(|source| source["quiet_for_s"].as_f64().is_some_and(|s| s > 0.5))
    });
    agent.until_drained();
    let last = agent.status();
    agent.terminate();

    let found = audit(sent.path(), &bench.sqlite());
    let gaps = declared(&bench);
    let frames: u64 = gaps.iter().map(|gap| gap["frames"].as_u64().unwrap()).sum();
    let spans = gaps.iter().map(|gap| gap["d_to"].as_i64().unwrap() - gap["d_from"].as_i64().unwrap());
    let span_s = spans.sum::<i64>() as f64 / 1e6;
    bench.figure(&format!("three kills: {found:?}; {} gaps of {frames} frames over {span_s:.2} s", gaps.len()));
    found.assert_missing(found.missing);
    assert!(found.missing > 0, "a kill takes what is in memory");
    assert_eq!(found.declared, found.missing, "silent: {gaps:#?}");
    for gap in &gaps {
        assert_eq!(gap["reason"], "restart", "{gap}");
        assert!(gap["seq_from"].is_u64() && gap["seq_to"].is_u64() && gap["may_be_stored"].is_null(), "{gap}");
    }
    // Of each kill: D is 1 s and what was in flight less, 0.1 s is noted late, and frames lag by a burst. More would
    // declare what is there.
    assert!(span_s < 3.0 * 2.5, "{span_s} s for {} missing samples", found.missing);
    assert_eq!(number(&last, "/spill/written_bytes"), 0, "a healthy store costs the flash nothing");
}

#[test]
fn a_broker_that_sends_again_leaves_no_gap_to_declare() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let setup = Setup { store: bench.sqlite(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_subscribed();
    let sim = Sim::start(&bench, "sent", &["--tier", "can", "--for", "7s", "--mqtt", &broker.url()]);
    for _ in 0..2 {
        agent.until_received(2 * RATE);
        agent.kill();
        agent.start_again();
    }
    let sent = sim.finish();
    agent.until_quiet();
    agent.until_drained();
    let last = agent.status();
    agent.terminate();
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!("two kills behind a broker: {found:?}, {} gaps declared", events(&last)));
    found.assert_exact();
    assert_eq!((events(&last), declared(&bench)), (0, Vec::new()));
}

#[test]
fn what_a_noisy_line_takes_is_declared_by_sequence_exactly() {
    let _turn = turn(false);
    let bench = Bench::new();
    let port = bench.path("ecu");
    let faults = ["--tier", "can", "--for", "6s", "--block", "--fault", "flip@every=41", "--fault", "cut@every=97"];
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &faults);
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    let sent = sim.finish();
    agent.until_quiet();
    // What was lost at the very end may be before no frame that came.
    let lost: u64 = agent.status()["sources"][0]["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["frames_lost"].as_u64().unwrap())
        .sum();
    agent.until("all of them declared", |status| {
        let gaps = status["gaps"].as_array().unwrap();
        gaps.iter().map(|gap| gap["frames"].as_u64().unwrap()).sum::<u64>() >= lost
    });
    agent.until_drained();
    agent.terminate();
    let gaps = declared(&bench);
    let missing: BTreeSet<(String, u64)> = gaps
        .iter()
        .flat_map(|gap| {
            let ranges: Vec<(u64, u64)> = match gap.get("seq_ranges") {
                Some(ranges) => serde_json::from_value(ranges.clone()).unwrap(),
                None => vec![(gap["seq_from"].as_u64().unwrap(), gap["seq_to"].as_u64().unwrap())],
            };
            let device = gap["device"].as_str().unwrap().to_owned();
            ranges.into_iter().flat_map(|(from, to)| from..=to).map(move |sequence| (device.clone(), sequence))
        })
        .collect();
    let touched: BTreeSet<(String, u64)> = sent
        .faults
        .iter()
        .flat_map(|fault| (fault.seq_from..=fault.seq_to).map(|sequence| (fault.device.clone(), sequence)))
        .collect();
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!(
        "{} frames lost of {} touched, {} gaps: {found:?}",
        missing.len(),
        touched.len(),
        gaps.len()
    ));
    assert!(lost > 0 && missing.len() as u64 == lost, "{} declared of {lost} lost", missing.len());
    assert!(missing.is_subset(&touched), "declared and not lost: {:?}", missing.difference(&touched));
    assert!(found.missing > 0 && found.declared == found.missing, "{found:?}");
}

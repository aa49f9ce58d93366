//! `pitwire spill`: looks into a running and a dead agent's directory, reads it out, mends it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Agent, Bench, Manifest, Setup, Sim, audit, number, pitwire, serial_source, turn};

/// What a command says: exit code, stdout, stderr.
#[track_caller]
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = pitwire(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr));
    assert!(!found.2.contains("panicked"), "{}", found.2);
    found
}

#[track_caller]
fn json(arguments: &[&str], code: i32) -> Value {
    let found = run(arguments);
    assert_eq!(found.0, code, "{found:?}");
    serde_json::from_str(&found.1).unwrap()
}

/// Every file below a directory, with its content.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(content(&path)),
            false => files.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}

/// An agent whose store is not there, with a car's samples in its spill in several segments, and a message that nobody
/// can decode in its quarantine.
fn spilled(bench: &Bench) -> (Agent, Manifest) {
    let port = bench.path("ecu");
    let sim = Sim::start_on_ports(bench, "sent", &[&port], &["--tier", "can", "--for", "8s"]);
    let store = format!("sqlite://{}", bench.path("not/yet/pitwire.db").display());
    let setup = Setup {
        store,
        spill: "segment_bytes = \"64KiB\"\n".into(),
        more: serial_source("ecu", &port, "44"),
        ..Setup::default()
    };
    let agent = Agent::start(bench, &setup);
    let sent = sim.finish();
    agent.until("all is in the spill", |status| number(status, "/spill/backlog_samples") == sent.sent());
    (agent, sent)
}

#[test]
fn a_running_agents_spill_is_listed_checked_and_read_out_without_touching_it() {
    let _turn = turn(false);
    let bench = Bench::new();
    let (mut agent, sent) = spilled(&bench);
    let config = bench.path("pitwire.toml");
    let config = config.to_str().unwrap();
    let before = content(&bench.path("spill"));

    let listed = json(&["spill", "ls", "--config", config, "--json"], 0);
    assert_eq!((listed["samples"].as_u64(), &listed["in_use"]), (Some(sent.sent()), &Value::Bool(true)), "{listed:#}");
    let segments = listed["segments"].as_array().unwrap();
    assert!(segments.len() > 2, "{listed:#}");
    let (last, first) = segments.split_last().unwrap();
    assert!(first.iter().all(|segment| segment["state"] == "sealed") && last["state"] == "open", "{listed:#}");
    let seconds = (listed["newest_us"].as_i64().unwrap() - listed["oldest_us"].as_i64().unwrap()) / 1_000_000;
    assert!((7..=9).contains(&seconds), "{seconds} s: {listed:#}");
    let (code, words, _) = run(&["spill", "ls", "--config", config]);
    assert!(code == 0 && words.contains("of 2.0 GiB") && words.contains("an agent has it"), "{words}");

    let verified = json(&["spill", "verify", "--config", config, "--json"], 0);
    assert_eq!((&verified["sound"], verified["samples"].as_u64()), (&Value::Bool(true), Some(sent.sent())));

    // Into a store: exactly what was sent.
    let rescued = format!("sqlite://{}", bench.path("rescued.db").display());
    let (code, _, words) = run(&["spill", "export", "--config", config, "--to", &rescued]);
    assert_eq!(code, 0, "{words}");
    audit(sent.path(), &rescued).assert_exact();
    // As a file: a line for each sample, in order.
    let lines = bench.path("lines.csv");
    let (code, _, words) =
        run(&["spill", "export", "--config", config, "--format", "csv", "-o", lines.to_str().unwrap()]);
    assert_eq!(code, 0, "{words}");
    let lines = fs::read_to_string(lines).unwrap();
    assert_eq!(lines.lines().count() as u64, 1 + sent.sent());
    let times: Vec<&str> = lines.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert!(times.is_sorted(), "in order");

    let (code, _, refusal) = run(&["spill", "repair", "--config", config]);
    assert!(code == 1 && refusal.contains("stop it first"), "{refusal}");
    assert!(content(&bench.path("spill")) == before, "nothing was changed");
    agent.terminate();
    bench.figure(&format!("{} samples in {} segments, listed, checked and read out", sent.sent(), segments.len()));
}

#[test]
fn a_dead_agents_damage_is_named_exactly_and_a_repair_keeps_the_rest() {
    let _turn = turn(false);
    let bench = Bench::new();
    let (mut agent, sent) = spilled(&bench);
    agent.kill();
    let dir = bench.path("spill");
    let dir = dir.to_str().unwrap();
    let target = bench.path("spill").join("000000000002.seg");
    let mut bytes = fs::read(&target).unwrap();
    bytes[200] ^= 0x55;
    fs::write(&target, &bytes).unwrap();

    let verified = json(&["spill", "verify", "--dir", dir, "--json"], 1);
    let gaps = verified["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{verified:#}");
    let gap = &gaps[0];
    assert_eq!(
        (&gap["segment"], &gap["offset"], &gap["reason"], &gap["records"]),
        (&Value::from(2), &Value::from(0), &Value::from("body"), &Value::from(1))
    );
    let lost = gap["weight"].as_u64().unwrap();
    assert_eq!(verified["samples"].as_u64().unwrap() + lost, sent.sent());
    let (code, words, why) = run(&["spill", "verify", "--dir", dir]);
    assert!(
        code == 1 && words.contains("does not match its checksum; 1 record") && why.contains("spill repair"),
        "{words}{why}"
    );
    let listed = json(&["spill", "ls", "--dir", dir, "--json"], 0);
    assert_eq!((&listed["segments"][1]["state"], &listed["in_use"]), (&"damaged".into(), &Value::Bool(false)));

    let before = content(&bench.path("spill"));
    let (code, words, _) = run(&["spill", "repair", "--dir", dir, "--dry-run"]);
    assert!(code == 0 && words.contains("segment 2 would be put aside"), "{words}");
    assert!(content(&bench.path("spill")) == before, "a dry run changes nothing");
    let repaired = json(&["spill", "repair", "--dir", dir, "--json"], 0);
    assert!(repaired["written"].as_u64().unwrap() > 0, "{repaired:#}");
    let clean = json(&["spill", "verify", "--dir", dir, "--json"], 0);
    assert_eq!(clean["samples"], verified["samples"], "every sound sample is kept");
    assert_eq!(fs::read(bench.path("spill").join("damaged/000000000002.seg")).unwrap(), bytes);

    // The agent goes on with what is there, and a reader misses what was damaged and nothing else.
    fs::create_dir_all(bench.path("not/yet")).unwrap();
    agent.start_again();
    agent.until_drained();
    agent.terminate();
    let found = audit(sent.path(), &format!("sqlite://{}", bench.path("not/yet/pitwire.db").display()));
    bench.figure(&format!("{found:?}; {lost} samples in the damaged record"));
    found.assert_missing(lost);
}

#[test]
fn what_is_asked_for_wrongly_is_answered_with_what_would_be_right() {
    let bench = Bench::new();
    let dir = bench.path("spill");
    fs::create_dir(&dir).unwrap();
    let (dir, absent) = (dir.to_str().unwrap(), bench.path("absent"));
    for (arguments, code, part) in [
        (&["spill", "ls", "--dir", absent.to_str().unwrap()][..], 1, "name the agent's with --dir"),
        (&["spill", "ls", "--config", absent.to_str().unwrap()], 2, "name the directory itself with --dir"),
        (&["spill", "export", "--dir", dir], 2, "--format csv|jsonl|parquet"),
        (&["spill", "export", "--dir", dir, "--format", "xml"], 2, "xml"),
        (&["spill", "ls", "--dir", dir, "--config", dir], 2, "cannot be used with"),
        (&["plan", "--rate", "fast"], 2, "100k"),
        (&["plan", "--uplink", "2M"], 2, "2Mbit"),
        (&["plan", "--status", absent.to_str().unwrap()], 1, "absent"),
    ] {
        let (exit, _, words) = run(arguments);
        assert!(exit == code && words.contains(part), "{arguments:?}: {exit} {words}");
    }
    let (code, words, _) = run(&["spill", "verify", "--dir", dir]);
    assert!(code == 0 && words.contains("sound"), "an empty one is sound: {words}");
    let (code, words, _) = run(&["plan", "--rate", "100k", "--uplink", "2Mbit", "--outage", "2h"]);
    assert!(code == 0 && words.contains("never") && words.contains("the uplink carries 2.00 Mbit/s of"), "{words}");
}

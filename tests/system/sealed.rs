//! A spill that only the holder of a key can read.

use std::fs;
use std::path::Path;

use crate::support::{Agent, Bench, Setup, Sim, audit, number, pitwire, serial_source, text, turn};

/// A key of its own for each number.
fn write_key(path: &Path, number: u8) {
    let key: Vec<u8> = (0..32).map(|at| number.wrapping_mul(37).wrapping_add(at * 7)).collect();
    fs::write(path, key).unwrap();
}

/// How often a text lies in the files of a folder.
fn occurrences(dir: &Path, text: &str) -> usize {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let contents = files.map(|path| fs::read(path).unwrap());
    contents.map(|content| content.windows(text.len()).filter(|window| *window == text.as_bytes()).count()).sum()
}

#[test]
fn a_sealed_backlog_is_unreadable_survives_a_wrong_key_and_is_stored_under_the_right_one() {
    let _turn = turn(false);
    let bench = Bench::new();
    let (port, key) = (bench.path("ecu"), bench.path("spill.key"));
    write_key(&key, 1);
    // A store in a folder that is made later: until then everything goes to the spill.
    let store = format!("sqlite://{}", bench.path("not/yet/pitwire.db").display());
    let spill = format!("key_file = {key:?}\n");
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &["--tier", "club", "--for", "3s", "--block"]);
    let mut agent = Agent::start(
        &bench,
        &Setup { store: store.clone(), spill, more: serial_source("ecu", &port, "44"), ..Setup::default() },
    );
    let sent = sim.finish();
    agent.until_received(sent.sent());
    let spilled = agent.until("all of it spilled", |status| number(status, "/ledger/backlog") == sent.sent());
    assert_eq!(spilled["spill"]["encrypted"], true);
    agent.terminate();
    let (dir, names) = (bench.path("spill"), ["engine.", "brake", "ecu"]);
    assert_eq!(names.map(|name| occurrences(&dir, name)), [0; 3], "{names:?} can be read");

    write_key(&key, 2);
    agent.start_again();
    let locked = agent.until("the spill scanned", |status| status["spill"]["recovering"].is_null());
    assert_eq!((number(&locked, "/ledger/recovered"), number(&locked, "/spill/locked_segments")), (0, 1), "{locked:#}");
    assert!(text(&locked, "/spill/detail").contains("start with the right spill.key_file"), "{locked:#}");
    agent.terminate();

    write_key(&key, 1);
    fs::create_dir_all(bench.path("not/yet")).unwrap();
    agent.start_again();
    agent.until("all of it stored", |status| number(status, "/ledger/stored") == sent.sent());
    agent.terminate();
    let found = audit(sent.path(), &store);
    bench.figure(&format!("{found:?}, from a sealed backlog after a start with a wrong key"));
    found.assert_exact();
}

#[test]
fn a_key_file_without_a_key_is_named_with_its_line_and_nothing_starts() {
    let bench = Bench::new();
    let key = bench.path("spill.key");
    let cases = [
        (format!("{key:?}"), Some("my dog's name"), "13 bytes that are no key"),
        (format!("{:?}", bench.path("absent")), None, "No such file"),
    ];
    for (value, content, why) in cases {
        content.into_iter().for_each(|content| fs::write(&key, content).unwrap());
        let (more, spill) = (serial_source("ecu", &bench.path("ecu"), "44"), format!("key_file = {value}\n"));
        let config = Setup { store: bench.sqlite(), spill, more, ..Setup::default() }.write(&bench);
        let line = 1 + fs::read_to_string(&config).unwrap().lines().position(|l| l.contains("key_file")).unwrap();
        let place = format!("{}:{line}: spill.key_file", config.display());
        for command in ["check", "run"] {
            let output = pitwire(&[command, "--config", config.to_str().unwrap()]);
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command}: {words}");
            for word in [place.as_str(), why, "head -c 32 /dev/urandom"] {
                assert!(words.contains(word), "{command}: {word}: {words}");
            }
            assert!(!words.contains("my dog"), "what is in the file is nobody's business: {words}");
        }
    }
    // A credential: the unit has it, this shell has not.
    let (more, spill) = (serial_source("ecu", &bench.path("ecu"), "44"), "key_file = \"spill.key\"\n".into());
    let config = Setup { store: bench.sqlite(), spill, more, ..Setup::default() }.write(&bench);
    for (command, code, word) in
        [("check", 0, "not checked here"), ("run", 2, "LoadCredential=spill.key:/etc/pitwire/spill.key")]
    {
        let output = pitwire(&[command, "--config", config.to_str().unwrap()]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command}: {words}");
        assert!(words.contains(word), "{command}: {words}");
    }
    assert!(!bench.path("spill").exists() && !bench.path("pitwire.db").exists(), "something was started");
}

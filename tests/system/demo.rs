//! `pitwire demo`: what a newcomer runs first.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::support::{Bench, PATIENCE, shared_node, turn};

/// A demo in a process group of its own, as a terminal would start it.
fn demo(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pitwire"))
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Waits for its end; what it printed has to be one line, exact and balanced.
fn exact(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {words}", output.status);
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    let report: Value = serde_json::from_str(&line).unwrap();
    for count in ["missing", "extra", "altered"] {
        assert_eq!(report[count], 0, "{report:#}");
    }
    assert_eq!(report["ledger"]["balanced"], true, "{report:#}");
    report
}

#[test]
fn a_demo_with_an_end_prints_one_line_and_everything_has_arrived() {
    let _turn = turn(false);
    let bench = Bench::new();
    let report = exact(demo(&["--for", "5s", "--json"]));
    bench.figure(&format!("sent {}, stored {}", report["sent"], report["ledger"]["stored"]));
    assert!(report["sent"].as_u64().unwrap() > 6_000, "{report:#}");
    assert_eq!(report["ledger"]["stored"], report["sent"], "{report:#}");
}

#[test]
fn a_demo_into_a_real_cassandra_writes_a_car_of_its_own() {
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let report = exact(demo(&["--for", "5s", "--json", "--cassandra", &node]));
    bench.figure(&format!("sent {}, found {}", report["sent"], report["found"]));
    assert!(report["found"].as_u64().unwrap() > 6_000, "{report:#}");
}

#[test]
fn ctrl_c_at_a_terminal_ends_a_demo_that_has_no_end_with_everything_home_and_a_taken_port_is_passed_over() {
    let _turn = turn(false);
    let bench = Bench::new();
    // Taken by us, or by somebody else before us: the demo finds another in both cases.
    let _taken = TcpListener::bind("127.0.0.1:8710");
    let mut child = demo(&["--no-browser"]);
    let words = BufReader::new(child.stderr.take().unwrap());
    let (said, hears) = mpsc::channel();
    std::thread::spawn(move || words.lines().map_while(Result::ok).for_each(|line| drop(said.send(line))));
    let mut heard = Vec::new();
    while !heard.iter().any(|line: &String| line.contains("first samples stored")) {
        heard.push(hears.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it only said {heard:?}")));
    }
    let address = heard.iter().find(|line| line.contains("http://127.0.0.1:")).unwrap();
    assert!(!address.contains(":8710"), "{address}");

    // A terminal tells the whole group, the demo's broker too if it is in it.
    let group = format!("-{}", child.id());
    let told = Command::new("kill").args(["-INT", "--", &group]).status().unwrap();
    assert!(told.success());
    let status = child.wait().unwrap();
    heard.extend(hears.iter());
    bench.figure(heard.last().unwrap());
    assert!(status.success(), "{status}: {heard:#?}");
    assert!(heard.iter().any(|line| line.contains("0 missing, 0 extra, 0 altered")), "{heard:#?}");
}

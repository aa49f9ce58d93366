//! The binary as a user meets it: stdout, stderr, exit codes, signals.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;

fn firmware_sim() -> Command {
    Command::new(env!("CARGO_BIN_EXE_firmware-sim"))
}

#[test]
fn prints_the_path_runs_for_its_time_and_says_what_it_sent() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = manifest_in(dir.path());
    let mut child = firmware_sim()
        .args(["run", "--tier", "can", "--for", "10s", "--speed", "max", "--block", "--pty", "--manifest"])
        .arg(&manifest)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut path = String::new();
    stdout.read_line(&mut path).unwrap();
    let reader = read_all(&PathBuf::from(path.trim()));
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{words}");
    let received = receive_line(&reader.join().unwrap());
    assert_eq!(received.missing(&Manifest::read(&manifest)), 0);
    assert_eq!(words.lines().count(), 1, "{words}");
    assert!(words.starts_with(&format!("sent {} samples", received.samples())), "{words}");
}

#[test]
fn sigterm_and_sigint_end_it_with_a_complete_manifest_and_exit_0() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let (manifest, link) = (manifest_in(dir.path()), dir.path().join("ecu"));
        let mut child = firmware_sim()
            .args(["run", "--tier", "wide", "--manifest"])
            .arg(&manifest)
            .arg(format!("--pty={}", link.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the link is made", || link.exists());
        let reader = read_all(&link);
        std::thread::sleep(Duration::from_millis(700));
        assert!(Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        let received = receive_line(&reader.join().unwrap());
        let manifest = Manifest::read(&manifest);
        // A reader on a busy machine may be late, and then frames are dropped whole: but whatever
        // arrived is in the manifest as it arrived.
        assert!(received.missing(&manifest) < manifest.samples(), "{signal}");
        assert!(manifest.samples() > 10_000, "{signal}: {}", manifest.samples());
        assert!(!link.exists(), "{signal}: the link is left behind");
    }
}

#[test]
fn usage_exits_2_failure_exits_1_and_help_0() {
    for (args, code, hint) in [
        (&["run", "--tier", "can"][..], 2, "give --pty"),
        (&["run", "--tier", "rally", "--pty"], 2, "expected club, can, wide or f1"),
        (&["run", "--tier", "can", "--pty", "--car", "4/4"], 2, "letters, digits"),
        (&["run", "--tier", "can", "--serial", "/nowhere/tty"], 1, "open serial port /nowhere/tty"),
        (&["run", "--tier", "can", "--pty", "--manifest", "/nowhere/m"], 1, "create manifest /nowhere/m"),
        (&["run", "--help"], 0, "unplug@5s:5s"),
        (&["--version"], 0, "firmware-sim"),
    ] {
        let output = firmware_sim().args(args).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        assert!(words.contains(hint), "{args:?}: {words}");
    }
}

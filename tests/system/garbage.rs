//! Bytes on a serial port that are no frames.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::support::{Agent, Bench, Manifest, Setup, Sim, audit, number, serial_source, source, turn};

const MIB: u64 = 1 << 20;

#[test]
fn a_mebibyte_of_noise_from_a_device_costs_no_frame_after_it() {
    let _turn = turn(false);
    let bench = Bench::new();
    let port = bench.path("ecu");
    let arguments = ["--tier", "can", "--for", "4s", "--block", "--fault", "garbage@0s:1MiB"];
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &arguments);
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    let sent = sim.finish();
    let status = agent.until_quiet();
    agent.terminate();

    let found = audit(sent.path(), &bench.sqlite());
    let garbage = source(&status, "ecu")["garbage_bytes"].as_u64().unwrap();
    bench.figure(&format!("{found:?}; {garbage} bytes of garbage"));
    found.assert_exact();
    assert_eq!(sent.of_kind("garbage").len(), 1);
    // Delimiters are not counted: one random byte in 256, within five standard deviations.
    let delimiters = MIB - garbage;
    assert!(delimiters.abs_diff(MIB / 256) < 5 * 64, "{delimiters}");
    assert_eq!(over(&status, "frames_lost"), 0);
}

#[test]
fn noise_of_a_foreign_writer_is_counted_to_the_byte() {
    let _turn = turn(false);
    let bench = Bench::new();
    let (frames, sent) = recorded(&bench);
    let (mut master, path) = terminal();
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &path, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until("the port open", |status| source(status, "ecu")["state"] == "connected");

    // The same garbage in each run: an LCG's high bytes.
    let mut state = 44_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(MIB as usize)
    .collect();
    master.write_all(&noise).unwrap();
    master.write_all(&frames).unwrap();
    let bytes = MIB + frames.len() as u64;
    agent.until("all bytes read", |status| source(status, "ecu")["bytes"].as_u64().unwrap() == bytes);
    let status = agent.until_quiet();
    agent.terminate();

    let found = audit(sent.path(), &bench.sqlite());
    let garbage = source(&status, "ecu")["garbage_bytes"].as_u64().unwrap();
    bench.figure(&format!("{found:?}; {garbage} bytes of garbage"));
    found.assert_exact();
    assert_eq!(garbage, noise.iter().filter(|&&byte| byte != 0).count() as u64);
    assert_eq!((over(&status, "frames_lost"), number(&status, "/ledger/duplicate")), (0, 0));
}

fn over(status: &serde_json::Value, count: &str) -> u64 {
    crate::support::over_devices(source(status, "ecu"), count)
}

/// What a car says in three seconds, as bytes on the line.
fn recorded(bench: &Bench) -> (Vec<u8>, Manifest) {
    let fifo = bench.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || {
            let mut bytes = Vec::new();
            File::open(fifo).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
    });
    let arguments = ["--tier", "can", "--for", "3s", "--speed", "max", "--block", "--serial", fifo.to_str().unwrap()];
    let sent = Sim::start(bench, "sent", &arguments).finish();
    (reader.join().unwrap(), sent)
}

/// A raw pseudo-terminal of our own: its device's end, and the path of the other.
fn terminal() -> (File, PathBuf) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
    // On Linux the master's modes are the slave's.
    let mut modes = tcgetattr(&master).unwrap();
    modes.make_raw();
    tcsetattr(&master, OptionalActions::Now, &modes).unwrap();
    (File::from(master), path)
}

//! Whole runs over pseudo-terminals: what arrives is what the manifest says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use common::*;
use firmware_sim::{ClockBase, Error, Options, Output, Simulator, Speed, Stop, Tier};

#[test]
fn everything_sent_arrives_as_the_manifest_says() {
    for (tier, seconds, expected) in
        [(Tier::Club, 30, 12_000), (Tier::Can, 30, 45_000), (Tier::Wide, 3, 234_600), (Tier::F1, 1, 1_100_100)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (summary, bytes) = run(quick(tier, seconds, dir.path()));
        let manifest = Manifest::read(&manifest_in(dir.path()));
        let received = receive_line(&bytes[0]);
        assert!(summary.problems.is_empty(), "{:?}", summary.problems);
        assert_eq!(received.missing(&manifest), 0, "{tier}");
        assert_eq!(received.slots, manifest.slots, "{tier}");
        assert_eq!(received.samples(), summary.samples(), "{tier}");
        assert_eq!(received.garbage_bytes, 0, "{tier}");
        assert!(received.samples().abs_diff(expected) * 50 < expected, "{tier}: {} samples", received.samples());
        assert!(summary.devices.len() >= 2 && summary.devices.iter().all(|d| d.samples > 0), "{tier}");
    }
}

#[test]
fn sequences_have_no_gap_and_times_increase_in_each_kind_of_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bytes) = run(quick(Tier::Can, 12, dir.path()));
    let received = receive_line(&bytes[0]);
    for device in ["ecu", "chassis", "gps"] {
        let frames: Vec<_> = received.frames.iter().filter(|f| f.device == device).collect();
        let sequences: Vec<u32> = frames.iter().map(|f| f.sequence).collect();
        assert_eq!(sequences, (0..frames.len() as u32).collect::<Vec<_>>(), "{device}");
        assert_eq!(frames[0].kind, "describe", "{device} says first what it is");
        let count = |kind| frames.iter().filter(|f| f.kind == kind).count();
        assert!((11..=13).contains(&count("status")), "{device}: {} statuses", count("status"));
        assert!(count("describe") >= 6, "{device}: {} describes", count("describe"));
    }
    assert!(received.frames.iter().any(|f| f.kind == "burst") && received.frames.iter().any(|f| f.kind == "scan"));
    assert!(received.events.contains(&(1, "practice".to_owned())), "{:?}", received.events);
    assert!(received.events.len() >= 2, "no lap within 12 s: {:?}", received.events);
}

#[test]
fn same_seed_and_start_give_the_same_frames_and_another_seed_others() {
    let dir = tempfile::tempdir().unwrap();
    let result = |seed| {
        let mut options = quick(Tier::Can, 10, dir.path());
        options.seed = seed;
        let (_, bytes) = run(options);
        // How the devices' frames take turns on the line depends on its reader.
        let mut frames: Vec<Vec<u8>> = bytes[0].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        frames.sort();
        (std::fs::read(manifest_in(dir.path())).unwrap(), frames)
    };
    let first = result(1);
    assert!(first.1.len() > 1_000);
    assert!(first == result(1), "two runs of one seed differ");
    assert!(first.0 != result(2).0);
}

#[test]
fn rate_factor_multiplies_and_the_clock_may_count_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = quick(Tier::Club, 10, dir.path());
    options.rate_factor = 3.0;
    options.clock = ClockBase::Boot;
    let (summary, bytes) = run(options);
    let received = receive_line(&bytes[0]);
    assert!(summary.samples().abs_diff(12_000) < 240, "{}", summary.samples());
    assert_eq!(received.slots, Manifest::read(&manifest_in(dir.path())).slots);
    assert!(received.bases.contains(&ClockBase::Boot) && received.bases.len() == 1);
    assert!(received.slots.keys().all(|(_, _, _, slot)| (0..=10).contains(slot)));
}

#[test]
fn devices_are_dealt_to_outputs_in_turn_and_cars_to_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = quick(Tier::Can, 3, dir.path());
    options.outputs = vec![Output::Pty { link: None }, Output::Pty { link: None }];
    let (_, bytes) = run(options.clone());
    let devices = |bytes: &[u8]| {
        let mut names: Vec<_> = receive_line(bytes).frames.iter().map(|f| f.device.clone()).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(devices(&bytes[0]), ["ecu", "gps"]);
    assert_eq!(devices(&bytes[1]), ["chassis"]);

    options.cars = vec!["44".to_owned(), "45".to_owned()];
    let (summary, bytes) = run(options.clone());
    for bytes in &bytes {
        assert_eq!(devices(bytes), ["chassis", "ecu", "gps"]);
    }
    assert_eq!(summary.devices.len(), 6);

    options.outputs.pop();
    let Err(Error::Usage(text)) = Simulator::prepare(options).map(drop) else { panic!("one line for two cars") };
    assert!(text.contains("carries one car only"), "{text}");
}

#[test]
fn nothing_is_sent_before_somebody_opens_the_port() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        speed: Speed::Times(1.0),
        run_for: Some(Duration::from_millis(500)),
        start_us: None,
        ..quick(Tier::Can, 1, dir.path())
    };
    let simulator = Simulator::prepare(options.clone()).unwrap();
    let path = simulator.ports()[0].clone();
    let running = std::thread::spawn(move || simulator.run(&Stop::new()));
    std::thread::sleep(Duration::from_millis(400));
    let opened_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    let bytes = read_all(&path).join().unwrap();
    running.join().unwrap().unwrap();
    let received = receive_line(&bytes);
    assert_eq!(received.missing(&Manifest::read(&manifest_in(dir.path()))), 0);
    assert!(received.frames.iter().all(|f| f.t0_us >= opened_us), "frames from before the port was opened");
    assert_eq!(bytes[0], 0, "one delimiter stands before the first frame");

    // And nobody is waited for who never comes.
    let simulator = Simulator::prepare(options).unwrap();
    let stop = Stop::new();
    stop.stop();
    assert_eq!(simulator.run(&stop).unwrap().samples(), 0);
}

#[test]
fn full_buffer_drops_whole_frames_which_count_as_sent() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { block: false, ..quick(Tier::Wide, 5, dir.path()) };
    let simulator = Simulator::prepare(options).unwrap();
    let path = simulator.ports()[0].clone();
    let running = std::thread::spawn(move || simulator.run(&Stop::new()));
    let mut port = OpenOptions::new().read(true).custom_flags(0o400).open(&path).unwrap();
    // By now five seconds of a wide car have met a buffer of a few KiB.
    std::thread::sleep(Duration::from_millis(1_500));
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = port.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..n]);
    }
    let summary = running.join().unwrap().unwrap();
    let received = receive_line(&bytes);
    let manifest = Manifest::read(&manifest_in(dir.path()));
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
    assert_eq!(received.garbage_bytes, 0, "a frame was torn");
    assert!(summary.samples_dropped() > 100_000, "{summary:?}");
    assert_eq!(manifest.samples(), summary.samples());
    assert_eq!(received.missing(&manifest), summary.samples_dropped());
}

#[test]
fn end_waits_until_the_reader_has_read() {
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::prepare(quick(Tier::Club, 5, dir.path())).unwrap();
    let path = simulator.ports()[0].clone();
    let start = Instant::now();
    let running = std::thread::spawn(move || (simulator.run(&Stop::new()), Instant::now()));
    let mut port = OpenOptions::new().read(true).custom_flags(0o400).open(&path).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let mut bytes = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(n @ 1..) = port.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..n]);
        std::thread::sleep(Duration::from_millis(2));
    }
    let (summary, ended) = running.join().unwrap();
    assert!(summary.unwrap().problems.is_empty());
    assert!(ended - start > Duration::from_secs(2));
    assert_eq!(receive_line(&bytes).missing(&Manifest::read(&manifest_in(dir.path()))), 0);
}

#[test]
fn reader_that_stops_reading_is_given_up_after_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::prepare(quick(Tier::Club, 2, dir.path())).unwrap();
    let path = simulator.ports()[0].clone();
    let stop = Stop::new();
    let running = std::thread::spawn({
        let stop = stop.clone();
        move || simulator.run(&stop)
    });
    let _port = OpenOptions::new().read(true).custom_flags(0o400).open(&path).unwrap();
    let start = Instant::now();
    let summary = running.join().unwrap().unwrap();
    assert!(
        start.elapsed() > Duration::from_secs(5) && start.elapsed() < Duration::from_secs(9),
        "{:?}",
        start.elapsed()
    );
    assert!(summary.problems[0].contains("not read"), "{:?}", summary.problems);
    assert_eq!(Manifest::read(&manifest_in(dir.path())).samples(), summary.samples());
}

#[test]
fn stop_ends_it_with_a_complete_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { run_for: None, speed: Speed::Times(2.0), ..quick(Tier::Wide, 1, dir.path()) };
    let simulator = Simulator::prepare(options).unwrap();
    let reader = read_all(&simulator.ports()[0]);
    let stop = Stop::new();
    let running = std::thread::spawn({
        let stop = stop.clone();
        move || simulator.run(&stop)
    });
    std::thread::sleep(Duration::from_millis(900));
    stop.stop();
    let summary = running.join().unwrap().unwrap();
    let received = receive_line(&reader.join().unwrap());
    assert!(summary.samples() > 10_000 && summary.problems.is_empty(), "{summary:?}");
    assert_eq!(received.missing(&Manifest::read(&manifest_in(dir.path()))), 0);
}

#[test]
fn link_leads_to_the_port_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ecu");
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    let mut options = quick(Tier::Club, 2, dir.path());
    options.outputs = vec![Output::Pty { link: Some(link.clone()) }];
    let simulator = Simulator::prepare(options.clone()).unwrap();
    assert_eq!(simulator.ports(), std::slice::from_ref(&link));
    assert!(std::fs::read_link(&link).unwrap().starts_with("/dev/pts"));
    let reader = read_all(&link);
    simulator.run(&Stop::new()).unwrap();
    assert_eq!(receive_line(&reader.join().unwrap()).missing(&Manifest::read(&manifest_in(dir.path()))), 0);
    assert!(std::fs::symlink_metadata(&link).is_err(), "the link outlived its port");

    std::fs::write(&link, "a file").unwrap();
    let Err(error) = Simulator::prepare(options).map(drop) else { panic!("a file was replaced") };
    assert!(error.to_string().contains("no symbolic link"), "{error}");
}

#[test]
fn serial_output_writes_to_an_existing_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut options = quick(Tier::Can, 5, dir.path());
    options.outputs = vec![Output::Serial { path: fifo.clone() }];
    let simulator = Simulator::prepare(options.clone()).unwrap();
    let reader = read_all(&fifo);
    let summary = simulator.run(&Stop::new()).unwrap();
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
    assert_eq!(receive_line(&reader.join().unwrap()).missing(&Manifest::read(&manifest_in(dir.path()))), 0);

    options.outputs = vec![Output::Serial { path: dir.path().join("absent") }];
    let Err(error) = Simulator::prepare(options).map(drop) else { panic!("opened nothing") };
    assert!(error.to_string().contains("absent at 921600 baud: No such file"), "{error}");
}

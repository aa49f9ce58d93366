//! Each fault does what it says, to the frames that the manifest names, and to nothing else.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashSet;
use std::path::Path;

use common::*;
use firmware_sim::{ClockBase, Error, Options, Output, Simulator, Speed, Stop, Tier};

/// A quick run with faults: what was sent and what arrived.
fn with_faults(tier: Tier, seconds: u64, faults: &[&str]) -> (Manifest, Received) {
    with_options(faults, |dir| quick(tier, seconds, dir))
}

fn with_options(faults: &[&str], options: impl Fn(&Path) -> Options) -> (Manifest, Received) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    let (summary, bytes) = run(options);
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
    let manifest = Manifest::read(&manifest_in(dir.path()));
    assert_eq!(manifest.samples(), summary.samples());
    (manifest, receive_line(&bytes[0]))
}

/// The frames that did not arrive are exactly those that the manifest names.
fn assert_lost_as_told(manifest: &Manifest, received: &Received, lossy: &[&str]) {
    let arrived: HashSet<_> = received.frames.iter().map(|f| (f.device.as_str(), f.boot, f.sequence)).collect();
    let mut told = 0;
    for fault in manifest.faults.iter().filter(|f| lossy.contains(&f.fault.as_str())) {
        for sequence in fault.seq_from..=fault.seq_to {
            assert!(!arrived.contains(&(fault.device.as_str(), fault.boot, sequence)), "{fault:?} arrived");
        }
        told += fault.samples;
    }
    assert!(told > 0, "nothing was hit");
    assert_eq!(received.missing(manifest), told);
}

#[test]
fn flipped_shortened_and_broken_frames_are_lost_and_no_others() {
    for fault in ["flip@every=20", "drop-bytes@every=20:3", "cut@every=20"] {
        let (manifest, received) = with_faults(Tier::Can, 30, &[fault]);
        let name = fault.split('@').next().unwrap();
        assert!(manifest.faults.len() > 100, "{fault}: {}", manifest.faults.len());
        assert_lost_as_told(&manifest, &received, &[name]);
        assert!(received.garbage_bytes > 1_000, "{fault}");
    }
}

#[test]
fn inserted_bytes_cost_nothing() {
    let (manifest, received) = with_faults(Tier::Can, 30, &["insert@every=10:64"]);
    assert!(manifest.faults.len() > 200);
    assert_eq!(received.missing(&manifest), 0);
    assert!(received.garbage_bytes > 60 * manifest.faults.len() as u64, "{} bytes", received.garbage_bytes);
}

#[test]
fn a_mebibyte_of_garbage_costs_nothing_even_without_waiting_for_the_reader() {
    let (manifest, received) = with_options(&["garbage@0s:1MiB"], |dir| Options {
        block: false,
        speed: Speed::Times(4.0),
        ..quick(Tier::Can, 4, dir)
    });
    assert_eq!(received.missing(&manifest), 0);
    assert!(received.garbage_bytes > 1_000_000, "{}", received.garbage_bytes);
    assert_eq!(manifest.faults.len(), 1, "once, not for each device");
}

#[test]
fn duplicates_come_twice_and_count_once() {
    let (manifest, received) = with_faults(Tier::Can, 30, &["duplicate@every=25"]);
    assert!(manifest.faults.len() > 80);
    assert_eq!(received.repeated, manifest.faults.len() as u64);
    assert_eq!(received.slots, manifest.slots);
}

#[test]
fn swapped_frames_change_places_and_nothing_is_lost() {
    let (manifest, received) = with_faults(Tier::Can, 30, &["swap@every=25,device=ecu"]);
    assert!(manifest.faults.len() > 20);
    assert_eq!(received.slots, manifest.slots);
    let order: Vec<u32> = received.frames.iter().filter(|f| f.device == "ecu").map(|f| f.sequence).collect();
    let swapped = order.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!(swapped, manifest.faults.len());
    assert!(manifest.faults.iter().all(|f| f.device == "ecu" && f.seq_to == f.seq_from + 1));
}

#[test]
fn faults_at_a_time_happen_once_to_each_device_concerned() {
    // Not as fast as possible: then frames would wait in queues and be hit long after they were made.
    let (manifest, received) = with_options(&["flip@4s", "cut@6s,device=gps"], |dir| Options {
        speed: Speed::Times(8.0),
        ..quick(Tier::Can, 10, dir)
    });
    let devices = |fault: &str| manifest.faults.iter().filter(|f| f.fault == fault).count();
    assert_eq!((devices("flip"), devices("cut")), (3, 1), "{:?}", manifest.faults);
    for fault in manifest.faults.iter().filter(|f| f.fault == "flip") {
        let next = received.frames.iter().find(|f| f.device == fault.device && f.sequence > fault.seq_to).unwrap();
        let at_us = next.t0_us - START_US;
        assert!((3_000_000..7_000_000).contains(&at_us), "{fault:?} at {at_us}");
    }
}

#[test]
fn reboot_gives_a_new_boot_whose_sequence_and_clock_begin_anew() {
    let (manifest, received) =
        with_options(&["reboot@4s,device=ecu"], |dir| Options { clock: ClockBase::Boot, ..quick(Tier::Can, 10, dir) });
    assert_eq!(received.slots, manifest.slots);
    let boots: Vec<u32> = received.frames.iter().filter(|f| f.device == "ecu").map(|f| f.boot).collect();
    let (first, last) = (boots[0], *boots.last().unwrap());
    assert_ne!(first, last);
    let again: Vec<_> = received.frames.iter().filter(|f| f.device == "ecu" && f.boot == last).collect();
    assert_eq!(again[0].sequence, 0);
    assert_eq!(again[0].kind, "describe");
    assert!(again[0].t0_us < 50_000 && again.last().unwrap().t0_us > 5_800_000);
    let fault = &manifest.faults[0];
    let before =
        received.frames.iter().filter(|f| f.device == "ecu" && f.boot == first).map(|f| f.sequence).max().unwrap();
    assert_eq!((fault.fault.as_str(), fault.boot, fault.seq_to, fault.samples), ("reboot", first, before, 0));
    assert!(
        received
            .frames
            .iter()
            .filter(|f| f.device == "gps")
            .all(|f| f.boot == received.frames.iter().find(|g| g.device == "gps").unwrap().boot)
    );
}

#[test]
fn steps_move_device_time_and_a_step_back_is_a_new_boot() {
    for (fault, boots, moved_us) in [("step@5s:+3600s", 1, 3_600_000_000_i64), ("step@5s:-2s", 2, -2_000_000)] {
        let (manifest, received) = with_faults(Tier::Can, 10, &[fault]);
        assert_eq!(received.slots, manifest.slots, "{fault}");
        for device in ["ecu", "chassis", "gps"] {
            let frames: Vec<_> = received.frames.iter().filter(|f| f.device == device).collect();
            let seen: HashSet<u32> = frames.iter().map(|f| f.boot).collect();
            assert_eq!(seen.len(), boots, "{fault} {device}");
            let end_us = frames.last().unwrap().t0_us - START_US;
            assert!((end_us - moved_us - 10_000_000).abs() < 1_100_000, "{fault} {device} ends at {end_us}");
        }
    }
}

#[test]
fn drift_makes_a_device_count_faster_than_the_others() {
    let (manifest, received) = with_faults(Tier::Can, 60, &["drift=2000,device=gps"]);
    assert_eq!(received.slots, manifest.slots);
    let last = |device: &str| {
        received.frames.iter().filter(|f| f.device == device && f.kind == "status").map(|f| f.t0_us).max().unwrap()
            - START_US
    };
    assert!((last("ecu") - 60_000_000).abs() < 20_000, "{}", last("ecu"));
    assert!((last("gps") - 60_120_000).abs() < 20_000, "{}", last("gps"));
}

#[test]
fn unplugged_line_comes_back_under_its_link_and_only_that_stretch_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ecu");
    let options = Options {
        speed: Speed::Times(1.0),
        block: false,
        start_us: None,
        outputs: vec![Output::Pty { link: Some(link.clone()) }],
        faults: vec!["unplug@1s:1s".parse().unwrap()],
        ..quick(Tier::Can, 4, dir.path())
    };
    let made_anew = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&made_anew);
    let simulator =
        Simulator::prepare(options).unwrap().on_new_port(move |path| told.lock().unwrap().push(path.to_owned()));
    let first = read_all(&link);
    let running = std::thread::spawn(move || simulator.run(&Stop::new()).unwrap());
    let mut bytes = first.join().unwrap();
    assert!(std::fs::symlink_metadata(&link).is_err(), "unplugged, and the link still there");
    eventually("the link is made anew", || link.exists());
    let again = read_all(&link).join().unwrap();
    assert_eq!(again[0], 0, "one delimiter stands before the first frame");
    bytes.extend(again);
    let summary = running.join().unwrap();

    let (manifest, received) = (Manifest::read(&manifest_in(dir.path())), receive_line(&bytes));
    assert_eq!(*made_anew.lock().unwrap(), [link]);
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
    let lost = manifest.fault_samples("unplug");
    let missing = received.missing(&manifest);
    // What lay unread in the terminal when it went is lost too: the frames cut at the end.
    assert!(missing >= lost && missing - lost < 200, "{missing} missing, {lost} told");
    assert!((1_300..2_000).contains(&lost), "{lost} samples in 1 s and a little");
    assert_eq!(summary.samples_hit(), lost);
    for fault in &manifest.faults {
        let holes: Vec<u32> = (fault.seq_from..=fault.seq_to).collect();
        assert!(received.frames.iter().filter(|f| f.device == fault.device).all(|f| !holes.contains(&f.sequence)));
    }
    assert_eq!(manifest.faults.len(), 3, "one line for each device: {:?}", manifest.faults);
}

#[test]
fn all_faults_at_once_still_leave_a_manifest_that_adds_up() {
    let faults = [
        "flip@every=31",
        "cut@every=47",
        "drop-bytes@every=53",
        "insert@every=13",
        "duplicate@every=17",
        "swap@every=19",
        "reboot@5s",
        "step@8s:-1s",
        "drift=100",
    ];
    let (manifest, received) = with_faults(Tier::Can, 20, &faults);
    assert_lost_as_told(&manifest, &received, &["flip", "cut", "drop-bytes"]);
}

#[test]
fn faults_that_hit_nothing_are_refused() {
    for (fault, hint) in [("flip@5s,car=99", "no such car"), ("reboot@5s,device=abs", "no such car or device")] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = quick(Tier::Can, 1, dir.path());
        options.faults = vec![fault.parse().unwrap()];
        let Err(Error::Usage(text)) = Simulator::prepare(options).map(drop) else { panic!("{fault}") };
        assert!(text.contains(hint), "{text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut options = quick(Tier::Can, 1, dir.path());
    options.outputs = vec![Output::Mqtt("mqtt://127.0.0.1:1".parse().unwrap())];
    options.faults = vec!["unplug@5s:1s".parse().unwrap()];
    let Err(error) = Simulator::prepare(options).map(drop) else { panic!("mqtt was unplugged") };
    assert!(error.to_string().contains("only a --pty"), "{error}");
}

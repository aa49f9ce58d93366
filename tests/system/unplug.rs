//! Two cars on two ports of one agent, one of them unplugged for a while.

use crate::support::{Agent, Bench, Setup, Sim, audit, over_devices, serial_source, source, turn};

/// Samples a second of the `can` tier.
const RATE: u64 = 1_500;

#[test]
fn a_port_that_is_unplugged_loses_only_its_own_samples_and_they_are_counted() {
    let _turn = turn(true);
    let bench = Bench::new();
    let (a, b) = (bench.path("a"), bench.path("b"));
    let arguments = ["--tier", "can", "--car", "44", "--car", "45", "--for", "14s", "--fault", "unplug@3s:5s,car=44"];
    let sim = Sim::start_on_ports(&bench, "sent", &[&a, &b], &arguments);
    let more = serial_source("a", &a, "44") + &serial_source("b", &b, "45");
    let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });

    // The other port is watched all along.
    let mut quietest: f64 = 0.0;
    let mut watch = |status: &serde_json::Value| {
        if let Some(quiet_s) = source(status, "b")["quiet_for_s"].as_f64() {
            quietest = quiet_s.max(quietest);
        }
    };
    let mut watched = |what: &str, holds: &dyn Fn(&serde_json::Value) -> bool| {
        agent.until(what, |status| {
            watch(status);
            holds(status)
        })
    };
    watched("both ports open", &|status| ["a", "b"].iter().all(|name| source(status, name)["state"] == "connected"));
    let down = watched("one is unplugged", &|status| source(status, "a")["state"] == "down");
    let detail = source(&down, "a")["detail"].as_str().unwrap().to_owned();
    let up = watched("it is back", &|status| source(status, "a")["connects"] == 2);
    let again = source(&up, "a")["bytes"].as_u64().unwrap();
    watched("its data comes again", &|status| source(status, "a")["bytes"].as_u64().unwrap() > again + 10_000);
    let (down_us, up_us) = (down["now_us"].as_i64().unwrap(), up["now_us"].as_i64().unwrap());
    let sent = sim.finish();
    let last = agent.until_quiet();
    agent.terminate();

    assert!(detail.contains("unplugged") || detail.contains("lost"), "{detail}");
    assert!(quietest < 1.0, "the other port was quiet for {quietest} s");
    let away_s = (up_us - down_us) as f64 / 1e6;
    assert!((4.0..8.0).contains(&away_s), "{away_s}");

    // The audit, the device's own count and the simulator's agree.
    let found = audit(sent.path(), &bench.sqlite());
    let counted = over_devices(source(&last, "a"), "samples_lost");
    let frames = over_devices(source(&last, "a"), "frames_lost");
    let unplugged = sent.touched_by("unplug");
    let unplugged_frames: u64 = sent.of_kind("unplug").iter().map(|fault| fault.seq_to - fault.seq_from + 1).sum();
    bench.figure(&format!(
        "{found:?}; by sequence numbers {counted} samples in {frames} frames; unplugged by the manifest {unplugged} in \
         {unplugged_frames}, so {} in {} at the cut ends; away for {away_s:.2} s; the other port quiet for {quietest:.2} s \
         at most",
        found.missing.saturating_sub(unplugged),
        frames.saturating_sub(unplugged_frames),
    ));
    found.assert_missing(counted);
    assert!(sent.of_kind("unplug").iter().all(|fault| fault.car == "44"));
    assert!(frames >= unplugged_frames, "{frames}");
    // What lay unread in the line when it went: the agent reads at once, so a moment's worth.
    assert!((unplugged..unplugged + RATE / 2).contains(&counted), "{counted}");
    assert_eq!(over_devices(source(&last, "b"), "samples_lost"), 0);
    assert_eq!(over_devices(source(&last, "b"), "frames_lost"), 0);

    // Nothing is missing of the other car, nor before and after; a frame holds less than a second.
    let others = sent.part("others.jsonl", |slot| slot.car == "45");
    let (first_bad, last_bad) = (down_us / 1_000_000 - 1, up_us / 1_000_000 + 1);
    let before = sent.part("before.jsonl", |slot| slot.car == "44" && slot.slot < first_bad);
    let after = sent.part("after.jsonl", |slot| slot.car == "44" && slot.slot > last_bad);
    for part in [&others, &before, &after] {
        audit(part.path(), &bench.sqlite()).assert_exact();
    }
    assert!(before.sent() > RATE && after.sent() > RATE);
}

//! A wide car with a derived channel, a thinning that acts while the uplink lags, and a look-out for anomalies: facts
//! stay facts, what was thinned is counted, and what was computed is what anybody else would compute.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{
    Agent, Bench, Broker, Keyspace, OwnNode, Setup, Sim, audit, long, mqtt_source, number, pitwire, profile, turn,
};

/// The new channel: how much faster a driven wheel turns than the free one beside it.
const SLIP: &str = "wheel.slip.left";
const DRIVEN: &str = "wheel.rl.speed";
const FREE: &str = "wheel.fl.speed";
/// What is thinned, to one sample in four: the cells of the battery.
const THINNED: &str = "cell.";
const EVERY: u64 = 4;

const STEPS: &str = r#"
[preprocess.lag]
low_after = "500ms"

[[preprocess.derive]]
name = "wheel.slip.left"
expression = "wheel.rl.speed / wheel.fl.speed - 1"
max_age = "100ms"

[[preprocess.decimate]]
channel = "cell.*"
every = 4
when = "lagging"
priority = "low"

[[preprocess.anomaly]]
channel = "*"
learn_for = "2s"
"#;

/// A channel's samples as a reader of the store sees them: device time (the simulator's is UTC) and value.
fn read(store: &str, channel: &str) -> BTreeMap<i64, f64> {
    let output = pitwire(&["export", "--store", store, "--car", "44", "--format", "csv", "--channel", channel]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut samples = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields[4], channel, "{line}");
        let before = samples.insert(fields[1].parse().unwrap(), fields[5].parse().unwrap());
        assert_eq!(before, None, "a reader sees each sample once: {line}");
    }
    samples
}

/// The channel computed anew from what is in the store: at each time of the driven wheel, with the free wheel's latest
/// speed at or before it, not older than 100 ms.
fn slip(driven: &BTreeMap<i64, f64>, free: &BTreeMap<i64, f64>) -> BTreeMap<i64, f64> {
    let at = |(&t, speed): (&i64, &f64)| {
        let (&since, free) = free.range(..=t).next_back()?;
        (t - since <= 100_000).then_some((t, speed / free - 1.0))
    };
    driven.iter().filter_map(at).collect()
}

#[test]
fn facts_stay_facts_beside_what_is_derived_thinned_and_flagged_while_the_uplink_lags() {
    let (length, frozen_for) = if long() { ("30s", 10) } else { ("14s", 4) };
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(node) = OwnNode::start(&bench) else { return };
    let keyspace = Keyspace::new(node.address());
    keyspace.apply();
    let more = mqtt_source("car", &broker.url()) + STEPS;
    let mut agent = Agent::start(&bench, &Setup { store: keyspace.url(), more, ..Setup::default() });
    agent.until_ready();

    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", length, "--mqtt", &broker.url()]);
    let before = agent.until("rows in the store", |status| number(status, "/store/samples_written") > 200_000);
    assert_eq!(number(&before, "/ledger/dropped/decimate"), 0, "nothing is thinned while all goes straight through");
    node.freeze();
    let frozen_at = Instant::now();
    agent.until("the time is over and cells are thinned", |status| {
        frozen_at.elapsed() >= Duration::from_secs(frozen_for) && number(status, "/ledger/dropped/decimate") > 0
    });
    node.thaw();
    let after = agent.until("the backlog is gone", |status| number(status, "/spill/backlog_samples") == 0);
    let thinned_until = number(&after, "/ledger/dropped/decimate");
    let sent = sim.finish();
    let drained = agent.until_drained();
    agent.until("derived ones are stored too", |status| {
        number(status, "/ledger/derived/in_flight") + number(status, "/ledger/derived/backlog") == 0
    });
    agent.terminate();

    let store = keyspace.url();
    let dropped = number(&drained, "/ledger/dropped/decimate");
    let whole = audit(sent.path(), &store);
    let facts = audit(sent.part("facts.jsonl", |slot| !slot.channel.starts_with(THINNED)).path(), &store);
    let thinned = audit(sent.part("thinned.jsonl", |slot| slot.channel.starts_with(THINNED)).path(), &store);
    let (driven, free, found) = (read(&store, DRIVEN), read(&store, FREE), read(&store, SLIP));
    let expected = slip(&driven, &free);
    let events = drained["preprocess"].as_array().unwrap();
    bench.figure(&format!(
        "{whole:?}; thinned {dropped} of {} ({thinned_until} by the end of the lag); {} derived; steps {events:?} ({} build)",
        thinned.sent,
        found.len(),
        profile()
    ));

    facts.assert_exact();
    thinned.assert_missing(dropped);
    whole.assert_missing(dropped);
    assert!(dropped > 0 && dropped < thinned.sent * (EVERY - 1) / EVERY, "it lagged for a part of the time: {dropped}");

    assert_eq!(whole.unlisted, found.len() as u64, "what is derived is no fact, so in no manifest");
    assert_eq!(number(&drained, "/ledger/derived/received"), found.len() as u64);
    assert!(!expected.is_empty() && driven.len() - expected.len() < 10, "{} of {}", expected.len(), driven.len());
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "a sample at each time, no other"
    );
    for (t, value) in &expected {
        assert!(found[t].to_bits() == value.to_bits(), "at {t}: {} in the store, {value} computed here", found[t]);
    }
}

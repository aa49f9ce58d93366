//! JSON messages over MQTT.

use std::io::Write as _;

use rusqlite::Connection;
use xxhash_rust::xxh3::xxh3_64;

use crate::faults::quarantined;
use crate::support::{Agent, Bench, Broker, Setup, audit, number, source, turn};

/// 2026-05-24T13:00:00Z, ms.
const START_MS: i64 = 1_779_627_600_000;
const TOPIC: &str = "cars/44/box";
const CLIENT: &str = "pitwire-system-json";

/// The manifest of samples that no simulator sent: per channel and second, as the audit expects it.
pub(crate) fn write_manifest(path: &std::path::Path, samples: &[(&str, i64, f64)]) {
    let mut slots = std::collections::BTreeMap::new();
    for &(channel, t_us, value) in samples {
        // As every physical value: raw × 1 + 0, which makes -0 a 0.
        let value = value + 0.0;
        let mut hashed = t_us.to_le_bytes().to_vec();
        hashed.extend(value.to_le_bytes());
        let (count, first, last, digest) =
            slots.entry((channel, t_us.div_euclid(1_000_000))).or_insert((0_u64, t_us, t_us, 0_u64));
        (*count, *first, *last) = (*count + 1, t_us.min(*first), t_us.max(*last));
        *digest = digest.wrapping_add(xxh3_64(&hashed));
    }
    let mut file = std::fs::File::create(path).unwrap();
    for ((channel, slot), (count, first, last, digest)) in slots {
        let line = serde_json::json!({
            "car": "44", "device": "box", "boot": 0, "channel": channel, "slot": slot, "samples": count,
            "t_first_us": first, "t_last_us": last, "digest": digest,
        });
        writeln!(file, "{line}").unwrap();
    }
}

#[test]
fn json_is_stored_malformed_messages_are_quarantined_and_the_broker_keeps_nothing() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let more = format!(
        "[[source.mqtt]]\nname = \"box\"\nurl = {:?}\ntopics = [\"cars/44/#\"]\nformat = \"json\"\nclient_id = {CLIENT:?}\n",
        broker.url()
    );
    let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
    agent.until("subscribed", |status| source(status, "box")["state"] == "connected");

    let (mut samples, mut messages) = (Vec::new(), Vec::new());
    for i in 0..200_i64 {
        let ts = START_MS + 25 * i;
        let (oil, load) = (90.0 + i as f64 / 3.0, -0.5 * i as f64);
        samples.extend([("oil", ts * 1_000, oil), ("load", ts * 1_000, load), ("drs", ts * 1_000, (i % 2) as f64)]);
        let values = serde_json::json!({"oil": oil, "load": load, "drs": i % 2 == 1, "none": null});
        messages.push(serde_json::json!({"ts": ts, "values": values}).to_string().into_bytes());
    }
    // In the middle: text, an array of messages, an integer no double can hold, and what is no message.
    let text = serde_json::json!({"ts": START_MS + 1, "values": {"gear": "N", "serial": 9_007_199_254_740_993_i64}});
    messages.insert(50, text.to_string().into_bytes());
    let many = serde_json::json!([
        {"ts": START_MS + 2, "values": {"oil": 1.5}},
        {"ts": START_MS + 3, "values": {"oil": 2.5}},
    ]);
    samples.extend([("oil", (START_MS + 2) * 1_000, 1.5), ("oil", (START_MS + 3) * 1_000, 2.5)]);
    messages.insert(60, many.to_string().into_bytes());
    let malformed: [&[u8]; 4] =
        [b"{\"ts\": 17796", b"[1, 2]", b"\xff\xfe\x00", br#"{"ts": 1, "values": {"oil": [1]}}"#];
    for (i, message) in malformed.iter().enumerate() {
        messages.insert(80 + 10 * i, message.to_vec());
    }
    broker.publish(TOPIC, &messages);
    // Twenty messages once more, as a broker delivers again what it saw no acknowledgement of.
    let again: Vec<Vec<u8>> = messages[..20].to_vec();
    broker.publish(TOPIC, &again);

    let sent = samples.len() as u64;
    let status = agent.until_received(sent + 60);
    agent.until("all stored", |status| number(status, "/ledger/in_flight") == 0);
    let status = agent.until("all bad ones quarantined", |now| {
        number(now, "/spill/quarantine_records") == malformed.len() as u64
            && number(now, "/ledger/received") == number(&status, "/ledger/received")
    });
    agent.terminate();
    assert_eq!(number(&status, "/ledger/received"), sent + 60);
    assert_eq!(number(&status, "/ledger/duplicate"), 60, "three samples in each of the twenty");
    assert_eq!(number(&status, "/ledger/stored"), sent);
    assert_eq!(number(source(&status, "box"), "/malformed"), malformed.len() as u64);

    let held = broker.held_for(CLIENT);
    assert!(held.is_empty(), "{} messages were not acknowledged", held.len());
    let quarantined = quarantined(&bench);
    let payloads: Vec<&[u8]> = quarantined.iter().map(|(_, _, payload)| payload.as_slice()).collect();
    assert_eq!(payloads, malformed);
    assert!(quarantined.iter().all(|(reason, topic, _)| !reason.is_empty() && topic == TOPIC), "{quarantined:?}");
    assert!(quarantined[3].0.contains("oil"), "{quarantined:?}");

    let store = Connection::open(bench.path("pitwire.db")).unwrap();
    let mut statement = store.prepare("SELECT text FROM events ORDER BY text").unwrap();
    let events: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(events, ["gear=N", "serial=9007199254740993"]);

    let manifest = bench.path("sent.jsonl");
    write_manifest(&manifest, &samples);
    let found = audit(&manifest, &bench.sqlite());
    let reasons: Vec<&str> = quarantined.iter().map(|(reason, ..)| reason.as_str()).collect();
    bench.figure(&format!("{found:?}; quarantined: {reasons:?}"));
    found.assert_exact();
    assert_eq!(found.unlisted, 0);
}

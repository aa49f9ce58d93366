//! Rows that a real Cassandra refuses for good, among many that it takes; and a schema that somebody drops.

use std::collections::BTreeSet;
use std::time::Duration;

use pitwire::deliver::record::{Content, Meta};
use pitwire::row::{ChunkRow, Rows};

use crate::json::write_manifest;
use crate::support::{
    Agent, Bench, Broker, Keyspace, OwnNode, Setup, Sim, audit, form, mqtt_source, number, profile, shared_node, text,
    turn, utc_us,
};

/// Of so many rows one is poison.
const ONE_IN: u64 = 1_000;
/// What the node takes at most, of one partition at once.
const MUTATION_MAX: &str = "max_mutation_size: 48KiB";
/// Samples of a row that is larger than that: values of 52 random bits each, which cannot be packed. In two messages, since
/// one may have 256 KiB.
const POISON_SAMPLES: i64 = 8_000;
/// Long enough that both are in one row, however busy the machine is.
const FLUSH_AFTER: &str = "[deliver]\nflush_after = \"500ms\"\n";
/// Cars whose flushes are all smaller.
const CARS: usize = 20;
const POISON: &str = "p";
const GOOD: &str = "g";

/// The rows in the quarantine of an agent that has ended.
fn quarantined_rows(bench: &Bench) -> Vec<(String, ChunkRow)> {
    let mut found = Vec::new();
    for segment in pitwire::spill::scan(&bench.path("quarantine")).unwrap() {
        for info in &segment.records {
            let record = segment.read(info).unwrap();
            let meta = Meta::decode(&record.meta).unwrap();
            assert_eq!(meta.content, Content::Rows, "{meta:?}");
            let rows = Rows::decode(&record.payload).unwrap();
            found.extend(rows.chunks.into_iter().map(|chunk| (meta.reason.clone(), chunk)));
        }
    }
    found
}

/// Messages of a device, for each other second from `start_ms`: a row that is too large, and beside it a good one.
struct Poisoner {
    start_ms: i64,
    sent: i64,
    chance: u64,
    good: Vec<(&'static str, i64, f64)>,
}

impl Poisoner {
    fn next(&mut self) -> Vec<Vec<u8>> {
        let second_ms = self.start_ms + 2_000 * self.sent;
        let mut records = Vec::new();
        for i in 0..POISON_SAMPLES {
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let us = 120 * i + (self.chance >> 58) as i64;
            let value = (self.chance >> 12) as f64 / (1_u64 << 52) as f64;
            records.push(format!(
                "{{\"ts\":{}.{:03},\"values\":{{\"{POISON}\":{value}}}}}",
                second_ms + us / 1_000,
                us % 1_000
            ));
        }
        let value = self.sent as f64;
        records.push(format!("{{\"ts\":{second_ms},\"values\":{{\"{GOOD}\":{value}}}}}"));
        self.good.push((GOOD, second_ms * 1_000, value));
        self.sent += 1;
        records.chunks(records.len().div_ceil(2)).map(|half| format!("[{}]", half.join(",")).into_bytes()).collect()
    }
}

#[test]
fn rows_that_a_real_node_refuses_are_quarantined_and_exactly_those() {
    let (length, poisons) = form(("9s", 10), ("75s", 120));
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(node) = OwnNode::start_with(&bench, &[("YAML", MUTATION_MAX)]) else { return };
    let keyspace = Keyspace::new(node.address());
    keyspace.apply();
    let more = FLUSH_AFTER.to_owned()
        + &mqtt_source("car", &broker.url()).replace("pitwire/44/#", "pitwire/#")
        + &format!(
            "[[source.mqtt]]\nname = \"box\"\nurl = {:?}\ntopics = [\"cars/44/#\"]\nformat = \"json\"\n",
            broker.url()
        );
    let mut agent = Agent::start(&bench, &Setup { store: keyspace.url(), more, ..Setup::default() });
    agent.until_ready();
    let names: Vec<String> = (0..CARS).map(|car| format!("car-{car}")).collect();
    let url = broker.url();
    let mut arguments = vec!["--tier", "can", "--for", length, "--mqtt", &url];
    names.iter().for_each(|name| arguments.extend(["--car", name]));
    let sim = Sim::start(&bench, "sent", &arguments);
    let mut poisoner = Poisoner { start_ms: utc_us() / 1_000_000 * 1_000, sent: 0, chance: 44, good: Vec::new() };
    for poison in 1..=poisons {
        agent.until("rows in the store", |status| number(status, "/store/rows_written") >= poison * ONE_IN);
        broker.publish("cars/44/box", &poisoner.next());
    }
    let sent = sim.finish();
    let last = agent.until_home(Duration::from_secs(60));
    agent.terminate();

    let found = audit(sent.path(), &keyspace.url());
    let beside = bench.path("beside.jsonl");
    write_manifest(&beside, &poisoner.good);
    let good = audit(&beside, &keyspace.url());
    let rows = quarantined_rows(&bench);
    let reasons: BTreeSet<&str> = rows.iter().map(|(reason, _)| reason.as_str()).collect();
    bench.figure(&format!(
        "{} poison rows among {}: {} in the quarantine, {} samples; the car {found:?}; beside them {good:?}; {:?} \
         ({} build)",
        poisons,
        number(&last, "/store/rows_written"),
        rows.len(),
        number(&last, "/ledger/quarantined"),
        reasons.first(),
        profile()
    ));
    found.assert_exact();
    good.assert_exact();
    assert_eq!(rows.len() as u64, poisons);
    let kinds: BTreeSet<(&str, i64)> = rows.iter().map(|(_, row)| (row.channel.as_str(), row.n.into())).collect();
    assert_eq!(kinds, [(POISON, POISON_SAMPLES)].into(), "others went too");
    let seconds: BTreeSet<i64> = rows.iter().map(|(_, row)| row.t0.div_euclid(1_000_000)).collect();
    assert_eq!(seconds.len() as u64, poisons, "each once");
    assert_eq!(number(&last, "/ledger/quarantined"), poisons * POISON_SAMPLES as u64);
    assert_eq!(number(&last, "/ledger/dropped/overflow"), 0);
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| reason.contains("mutation")), "{reasons:?}");
}

#[test]
fn a_schema_that_is_dropped_is_waited_for_and_nothing_is_dropped_with_it() {
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    let setup = Setup { store: keyspace.url(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", "11s", "--mqtt", &broker.url()]);
    agent.until("rows in the store", |status| number(status, "/store/samples_written") > 100_000);
    assert!(keyspace.drop_all());
    // What was acknowledged before is gone with the tables: that was not the agent's doing.
    let dropped_second = utc_us() / 1_000_000;
    let held = agent.until("it is held", |status| status["store"]["state"] == "holding");
    let hold = text(&held, "/store/detail").to_owned();
    agent.until("it spills", |status| number(status, "/spill/backlog_samples") > 100_000);
    keyspace.apply();
    let sent = sim.finish();
    let last = agent.until_home(Duration::from_secs(90));
    agent.terminate();

    let after = sent.part("after.jsonl", |slot| slot.slot > dropped_second);
    let found = audit(after.path(), &keyspace.url());
    bench.figure(&format!("after the drop {found:?}, of {} sent in all; held: {hold:?}", sent.sent()));
    for word in [keyspace.name(), "pitwire schema apply --store"] {
        assert!(hold.contains(word), "{word}: {hold}");
    }
    found.assert_exact();
    assert!(found.sent > 100_000, "{found:?}");
    assert_eq!(number(&last, "/ledger/stored"), sent.sent());
    for count in ["/ledger/quarantined", "/ledger/dropped/overflow", "/spill/quarantine_records"] {
        assert_eq!(number(&last, count), 0, "{count}");
    }
}

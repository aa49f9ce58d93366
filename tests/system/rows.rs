//! Channels whose samples are rows: the same care, and plain SQL.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;

use crate::support::{
    Agent, Bench, Broker, Keyspace, PATIENCE, Setup, Sim, audit, mqtt_source, number, shared_node, turn,
};

/// A car of which some channels are rows, and an agent that is killed while it drives.
fn drive(bench: &Bench, broker: &Broker, store: String) -> u64 {
    let more = mqtt_source("car", &broker.url()) + "[layout]\nrows = [\"engine.*\", \"*speed*\"]\n";
    let mut agent = Agent::start(bench, &Setup { store: store.clone(), more, ..Setup::default() });
    agent.until_ready();
    let sim = Sim::start(bench, "sent", &["--tier", "can", "--for", "6s", "--mqtt", &broker.url()]);
    agent.until("samples in the store", |status| number(status, "/store/samples_written") > 2_000);
    agent.kill();
    std::thread::sleep(Duration::from_millis(500));
    agent.start_again();
    let sent = sim.finish();
    agent.until_home(PATIENCE);
    agent.terminate();
    let found = audit(sent.path(), &store);
    bench.figure(&format!("{store}: {found:?}"));
    found.assert_exact();
    sent.sent()
}

#[test]
fn samples_that_are_rows_arrive_once_and_as_they_were_whatever_happens_to_the_agent() {
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    drive(&bench, &broker, keyspace.url());
    assert!(keyspace.drop_all());
}

#[test]
fn whoever_knows_sql_alone_sees_each_sample_of_such_a_channel() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let sent = drive(&bench, &broker, bench.sqlite());
    let file = Connection::open(bench.sqlite().strip_prefix("sqlite://").unwrap()).unwrap();
    let counts = |sql: &str| -> BTreeMap<String, u64> {
        let mut statement = file.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let rows = counts("SELECT channel, count(*) FROM samples GROUP BY channel");
    let chunks = counts("SELECT channel, sum(n) FROM chunks GROUP BY channel");
    let of_rows = |name: &str| name.starts_with("engine.") || name.contains("speed");
    assert!(rows.len() >= 3 && rows.keys().all(|name| of_rows(name)), "{rows:?}");
    assert!(!chunks.is_empty() && !chunks.keys().any(|name| of_rows(name)), "{chunks:?}");
    // Chunks that came twice count twice here; rows never do.
    assert!(rows.values().sum::<u64>() + chunks.values().sum::<u64>() >= sent, "{rows:?} {chunks:?}");
    let largest: i64 = file
        .query_row("SELECT max(n) FROM (SELECT count(*) n FROM samples GROUP BY car, channel, bucket)", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(largest <= 50_000);
}

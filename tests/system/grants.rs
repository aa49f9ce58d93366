//! A cluster that asks who one is: a right that is taken away in the middle of a run, and given back.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use scylla::client::session_builder::SessionBuilder;

use crate::support::{Agent, Bench, Broker, Keyspace, OwnNode, PATIENCE, Setup, Sim, mqtt_source, number, text, turn};

/// Rights hold at once, and the first user is there as soon as the node is.
const SETTINGS: [(&str, &str); 2] = [
    (
        "YAML",
        "authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\nrole_manager: CassandraRoleManager\n\
         permissions_validity: 100ms\nroles_validity: 100ms\ncredentials_validity: 100ms",
    ),
    ("JAVA_TOOL_OPTIONS", "-Dcassandra.superuser_setup_delay_ms=0"),
];

/// The node's first user, as every Cassandra has it.
const ADMIN: &str = "cassandra";

/// Says something to the node as its first user, who may take a moment to be there.
fn as_admin(node: &str, statements: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let until = Instant::now() + PATIENCE;
        let session = loop {
            let builder = SessionBuilder::new().known_node(node).user(ADMIN, ADMIN).driver_config_reporting(false);
            match builder.build().await {
                Ok(session) => break session,
                Err(error) => {
                    assert!(Instant::now() < until, "the node's first user: {error}");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        };
        for statement in statements {
            session.query_unpaged(statement.as_str(), ()).await.unwrap();
        }
    });
}

/// The program, with a user by environment.
fn pitwire_as(bench: &Bench, user: &str, arguments: &[&str]) -> Output {
    let password = bench.path(&format!("{user}.password"));
    std::fs::write(&password, user).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitwire"));
    command.args(arguments).env("PITWIRE_STORE_USER", user).env("PITWIRE_STORE_PASSWORD_FILE", password);
    command.output().unwrap()
}

#[test]
fn a_right_that_is_revoked_is_waited_for_and_costs_nothing() {
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(node) = OwnNode::start_with(&bench, &SETTINGS) else { return };
    let keyspace = Keyspace::new(node.address());
    let name = keyspace.name();
    as_admin(node.address(), &["CREATE ROLE pit WITH PASSWORD = 'pit' AND LOGIN = true".to_owned()]);

    // Without a right nothing is made, and the words say what to do.
    let apply = ["schema", "apply", "--store", &keyspace.url(), "--replication", "1"];
    let refused = pitwire_as(&bench, "pit", &apply);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("pit"), "{words}");
    let applied = pitwire_as(&bench, ADMIN, &apply);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let grant = format!("GRANT MODIFY ON KEYSPACE {name} TO pit");
    as_admin(node.address(), &[grant.clone(), format!("GRANT SELECT ON KEYSPACE {name} TO pit")]);

    let in_store = format!("user = \"pit\"\npassword_file = {:?}\n", bench.path("pit.password"));
    let setup = Setup { store: keyspace.url(), in_store, more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_ready();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", "11s", "--mqtt", &broker.url()]);
    agent.until("rows in the store", |status| number(status, "/store/samples_written") > 100_000);
    as_admin(node.address(), &[format!("REVOKE MODIFY ON KEYSPACE {name} FROM pit")]);
    let held = agent.until("it is held", |status| status["store"]["state"] == "holding");
    let hold = text(&held, "/store/detail").to_owned();
    agent.until("it spills", |status| number(status, "/spill/backlog_samples") > 100_000);
    as_admin(node.address(), &[grant]);
    let sent = sim.finish();
    let last = agent.until_home(Duration::from_secs(90));
    agent.terminate();

    let manifest = sent.path().to_str().unwrap();
    let audit = pitwire_as(&bench, "pit", &["audit", "--manifest", manifest, "--store", &keyspace.url(), "--json"]);
    let line = String::from_utf8_lossy(&audit.stdout).into_owned();
    bench.figure(&format!("a right revoked and granted again: {}; held: {hold:?}", line.trim()));
    assert!(audit.status.success(), "{line} {}", String::from_utf8_lossy(&audit.stderr));
    for word in ["MODIFY", name] {
        assert!(hold.contains(word), "{word}: {hold}");
    }
    for count in ["/ledger/quarantined", "/ledger/dropped/overflow", "/spill/quarantine_records"] {
        assert_eq!(number(&last, count), 0, "{count}");
    }
    assert_eq!(number(&last, "/ledger/stored"), sent.sent());
}

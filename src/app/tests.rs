//! The whole agent in one process, fed by the simulated car over a pseudo-terminal.

use std::path::Path;

use firmware_sim::{Options, Output, Simulator, Stop, Tier};
use tempfile::TempDir;

use super::*;
use crate::monitor::status::StoreState;

/// Nobody listens on port 1.
const NOWHERE: &str = "cassandra://127.0.0.1:1/pitwire";

fn config(dir: &TempDir, store: &str, port: &Path) -> Config {
    let (dir, port) = (dir.path().display(), port.display());
    let text = format!(
        "car = \"44\"\nstate_dir = \"{dir}/state\"\n[store]\nurl = \"{store}\"\n[spill]\ndir = \"{dir}/spill\"\n\
         free_min = \"0B\"\n[[source.serial]]\nname = \"ecu\"\npath = \"{port}\"\n"
    );
    Config::parse(&text).unwrap()
}

fn sqlite(dir: &TempDir) -> String {
    format!("sqlite://{}/pitwire.db", dir.path().display())
}

/// Drives a simulated car for a second into `link`, once the agent has opened it; answers what it sent.
async fn drive(link: &Path) -> u64 {
    let options = Options {
        tier: Tier::Can,
        run_for: Some(Duration::from_secs(1)),
        outputs: vec![Output::Pty { link: Some(link.into()) }],
        ..Options::default()
    };
    let simulator = Simulator::prepare(options).unwrap();
    let summary = tokio::task::spawn_blocking(move || simulator.run(&Stop::new()).unwrap()).await.unwrap();
    assert_eq!(summary.samples_dropped(), 0);
    summary.samples()
}

async fn until(app: &App, what: &str, holds: impl Fn(&monitor::Status) -> bool) {
    let began = Instant::now();
    loop {
        let status = app.status();
        assert!(status.ledger.balanced, "{:?}", status.ledger);
        assert!(app.alive(), "alive while waiting until {what}");
        if holds(&status) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "not {what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_any_store_it_starts_takes_all_and_the_next_run_recovers_and_stores_it() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ecu");
    let app = App::start(config(&dir, NOWHERE, &link), None).await.unwrap();
    assert!(!app.readiness().ready);
    let sent = drive(&link).await;
    assert!(sent > 1_000, "{sent}");
    until(&app, "spilled", |s| s.ledger.total.backlog == sent).await;
    assert!(app.readiness().ready, "no store is needed for that");
    let status = app.status();
    assert_eq!((status.store.state, status.spill.backlog_samples), (StoreState::Down, sent));
    assert!(!status.store.detail.is_empty());
    let outcome = app.stop().await;
    assert_eq!((outcome.undurable, outcome.failed_stages.len()), (0, 0));
    assert_eq!((outcome.ledger.total.received, outcome.ledger.total.backlog), (sent, sent));
    assert!(outcome.ledger.balanced);

    let app = App::start(config(&dir, &sqlite(&dir), &link), None).await.unwrap();
    until(&app, "scanned", |s| s.spill.recovering.is_none()).await;
    assert_eq!(app.status().ledger.sources["ecu"].recovered, sent);
    until(&app, "drained", |s| s.ledger.total.stored == sent && s.spill.backlog_records == 0).await;
    assert_eq!(app.status().store.samples_written, sent);
    let outcome = app.stop().await;
    assert_eq!((outcome.ledger.total.stored, outcome.ledger.total.backlog, outcome.undurable), (sent, 0, 0));
}

#[tokio::test]
async fn with_a_store_it_stores_all_and_writes_nothing_to_the_spill() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ecu");
    let app = App::start(config(&dir, &sqlite(&dir), &link), None).await.unwrap();
    let sent = drive(&link).await;
    until(&app, "stored", |s| s.ledger.total.stored == sent).await;
    assert_eq!(app.status().spill.written_bytes, 0);
    let outcome = app.stop().await;
    assert_eq!((outcome.ledger.total.received, outcome.ledger.total.stored), (sent, sent));
}

#[tokio::test]
async fn a_store_without_our_tables_is_held_for_with_what_to_do_and_all_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ecu");
    // Another program's file: its tables are not ours, and it is not touched.
    let other = rusqlite::Connection::open(dir.path().join("pitwire.db")).unwrap();
    other.execute_batch("PRAGMA application_id = 7; CREATE TABLE t (a)").unwrap();
    let app = App::start(config(&dir, &sqlite(&dir), &link), None).await.unwrap();
    let sent = drive(&link).await;
    until(&app, "spilled", |s| s.ledger.total.backlog == sent).await;
    let store = app.status().store;
    assert_eq!(store.state, StoreState::Holding);
    assert!(store.detail.contains("pitwire.db"), "{}", store.detail);
    assert_eq!(app.stop().await.undurable, 0);
    let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_monitor_whose_port_is_taken_says_so_and_the_agent_runs_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&dir, &sqlite(&dir), Path::new("/nowhere/ecu"));
    config.monitor.listen = taken.local_addr().unwrap().to_string().try_into().unwrap();
    let error = monitor::bind(&config.monitor).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    let app = App::start(config, None).await.unwrap();
    until(&app, "up", |s| s.store.state == StoreState::Up).await;
    assert_eq!(app.readiness().waiting_for, ["ecu"], "the port is not there");
    assert_eq!(app.stop().await.failed_stages.len(), 0);
}

#[tokio::test]
async fn a_second_agent_on_the_same_spill_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir, &sqlite(&dir), Path::new("/nowhere/ecu"));
    let first = App::start(config.clone(), None).await.unwrap();
    let error = App::start(config, None).await.err().expect("it has started twice").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    until(&first, "up", |s| s.store.state == StoreState::Up).await;
    let began = Instant::now();
    first.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2), "nothing to drain: {:?}", began.elapsed());
}

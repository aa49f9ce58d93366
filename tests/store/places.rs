//! Where the tests run: a fresh SQLite file, or a fresh keyspace of the Cassandra node that
//! `PITWIRE_CASSANDRA=127.0.0.1:PORT` names.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pitwire::store::{self, Config, Store, StoreUrl};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Statement;
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Held to read by every test of the node, to write by the one that stops it.
static NODE: RwLock<()> = RwLock::const_new(());
/// A node that makes tables for several tests at once takes its time.
const DDL_TIMEOUT: Duration = Duration::from_secs(60);

/// Where one test runs.
pub(crate) struct Place {
    pub(crate) config: Config,
    backend: Backend,
}

enum Backend {
    Sqlite(#[expect(dead_code, reason = "held: dropping it removes the directory")] TempDir),
    Cassandra(Box<Session>),
}

/// A test's share of the node.
#[expect(dead_code, reason = "held, not read")]
pub(crate) enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Waits for the node; `alone` to do something to it that others would feel.
pub(crate) async fn turn(alone: bool) -> Turn {
    if alone { Turn::Alone(NODE.write().await) } else { Turn::Shared(NODE.read().await) }
}

impl Place {
    /// A directory without a file.
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::for_url(StoreUrl::Sqlite { path: dir.path().join("pitwire.db") });
        Self { config, backend: Backend::Sqlite(dir) }
    }

    /// A name for a keyspace that is not there; none, said loudly, if there is no node.
    pub(crate) async fn cassandra(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let node = node(test)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let keyspace = format!("t_{now}_{}_{count}", std::process::id());
        let url = format!("cassandra://{node}/{keyspace}").parse().unwrap();
        let session = SessionBuilder::new()
            .known_node(node)
            .driver_config_reporting(false)
            .fetch_schema_metadata(false)
            .fetch_full_schema_metadata(false)
            .schema_agreement_interval(Duration::from_millis(20))
            .build()
            .await
            .unwrap();
        // Several tests share two cores with the node.
        let config = Config { request_timeout: Duration::from_secs(10), ..Config::for_url(url) };
        Some(Self { config, backend: Backend::Cassandra(Box::new(session)) })
    }

    /// A store whose tables are not applied.
    pub(crate) async fn bare(&self) -> Arc<dyn Store> {
        store::connect(&self.config).await.unwrap()
    }

    /// A store ready to write to.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        let store = self.bare().await;
        store.apply_schema().await.unwrap();
        store
    }

    /// The keyspace's name.
    pub(crate) fn keyspace(&self) -> &str {
        let StoreUrl::Cassandra { keyspace, .. } = &self.config.url else { panic!("only Cassandra has keyspaces") };
        keyspace
    }

    /// A statement past the store, `KS.` standing for the keyspace's name and a dot.
    pub(crate) async fn raw(&self, statement: &str) {
        match (&self.backend, &self.config.url) {
            (Backend::Sqlite(_), StoreUrl::Sqlite { path }) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.busy_timeout(DDL_TIMEOUT).unwrap();
                connection.execute_batch(&statement.replace("KS.", "")).unwrap();
            }
            (Backend::Cassandra(session), _) => {
                let mut statement = Statement::new(statement.replace("KS.", &format!("{}.", self.keyspace())));
                statement.set_request_timeout(Some(DDL_TIMEOUT));
                session.query_unpaged(statement, ()).await.unwrap();
            }
            _ => unreachable!("made together"),
        }
    }

    /// What Cassandra says of a table's options.
    pub(crate) async fn table_options(&self, table: &str) -> String {
        let Backend::Cassandra(session) = &self.backend else { panic!("only Cassandra has options") };
        let text = "SELECT compaction, default_time_to_live, gc_grace_seconds FROM system_schema.tables \
                    WHERE keyspace_name = ? AND table_name = ?";
        let found = session.query_unpaged(text, (self.keyspace(), table)).await.unwrap().into_rows_result().unwrap();
        let (compaction, ttl, gc_grace): (std::collections::BTreeMap<String, String>, i32, i32) =
            found.single_row().unwrap();
        format!("{compaction:?} ttl {ttl} gc_grace {gc_grace}")
    }

    /// How many rows a table of Cassandra has.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let Backend::Cassandra(session) = &self.backend else { panic!("asked of Cassandra only") };
        let text = format!("SELECT count(*) FROM {}.{table}", self.keyspace());
        let found = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
        found.single_row::<(i64,)>().unwrap().0
    }

    /// Removes what the test made.
    pub(crate) async fn clean(self) {
        if let Backend::Cassandra(_) = &self.backend {
            self.raw(&format!("DROP KEYSPACE IF EXISTS {}", self.keyspace())).await;
        }
    }
}

/// Where the node is; says loudly that `test` is skipped if nobody told.
pub(crate) fn node(test: &str) -> Option<String> {
    let node = std::env::var("PITWIRE_CASSANDRA").ok().filter(|node| !node.is_empty());
    if node.is_none() {
        skip(test, "set PITWIRE_CASSANDRA=127.0.0.1:PORT to a running node");
    }
    node
}

/// Says that `test` did not run.
pub(crate) fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    // Past the test harness's capture: a skipped test must be seen.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("PITWIRE_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "with CI=true nothing may be skipped: {line}");
}

/// Runs a test.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// Two tests of each behaviour, one for each store.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test]
            fn $name() {
                crate::places::run(async { super::$name(&crate::places::Place::sqlite()).await });
            })*
        }
        mod on_cassandra {
            $(#[test]
            fn $name() {
                crate::places::run(async {
                    let _turn = crate::places::turn(false).await;
                    let test = concat!(module_path!(), "::", stringify!($name));
                    if let Some(place) = crate::places::Place::cassandra(test).await {
                        super::$name(&place).await;
                        place.clean().await;
                    }
                });
            })*
        }
    };
}
pub(crate) use on_both;

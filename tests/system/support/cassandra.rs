//! Cassandra: a keyspace of the shared node, or a node of one's own that may be stopped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Statement;

use super::{Bench, pitwire, signal, skip};

/// The node that `PITWIRE_CASSANDRA` names; says loudly that the test is skipped if it names none.
pub(crate) fn shared_node() -> Option<String> {
    let node = std::env::var("PITWIRE_CASSANDRA").ok().filter(|node| !node.is_empty());
    if node.is_none() {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        skip(&test, "set PITWIRE_CASSANDRA=HOST:PORT to a running node");
    }
    node
}

/// A name for a keyspace, which is dropped at the end if it was made.
pub(crate) struct Keyspace {
    node: String,
    name: String,
}

impl Keyspace {
    pub(crate) fn new(node: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { node: node.to_owned(), name: format!("system_test_{now}_{}_{count}", std::process::id()) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        self.url_through(&self.node)
    }

    /// The same keyspace by another way to the node.
    pub(crate) fn url_through(&self, address: &str) -> String {
        format!("cassandra://{address}/{}", self.name)
    }

    /// `pitwire schema apply`.
    #[track_caller]
    pub(crate) fn apply(&self) {
        let output = pitwire(&["schema", "apply", "--store", &self.url()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let builder = SessionBuilder::new().known_node(&self.node).driver_config_reporting(false);
            // A scenario that fails because the node is gone must not fail twice.
            let Ok(session) = builder.build().await else { return };
            let mut statement = Statement::new(format!("DROP KEYSPACE IF EXISTS {}", self.name));
            statement.set_request_timeout(Some(Duration::from_secs(30)));
            let _ = session.query_unpaged(statement, ()).await;
        });
    }
}

/// A node that belongs to one scenario.
pub(crate) struct OwnNode {
    dir: PathBuf,
    address: String,
    pid: u32,
}

impl OwnNode {
    /// Starts one on free ports, which takes some seconds. `None`, said loudly, where the server's jars or
    /// Java are not here.
    pub(crate) fn start(bench: &Bench) -> Option<Self> {
        let dir = bench.path("node");
        let output =
            Command::new(script()).arg("start").arg(&dir).env("PORTS", "free").env("HEAP", "768M").output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            // Where there are jars the node has to start.
            assert!(!words.contains("the node"), "{words}");
            skip(std::thread::current().name().unwrap_or("?"), words.trim());
            return None;
        }
        let address = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let pid = std::fs::read_to_string(dir.join("pid")).unwrap().trim().parse().unwrap();
        Some(Self { dir, address, pid })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    pub(crate) fn freeze(&self) {
        signal("STOP", self.pid);
    }

    pub(crate) fn thaw(&self) {
        signal("CONT", self.pid);
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        // The script continues a frozen one; nothing of it is wanted any more, so it need not drain.
        let _ = Command::new("kill").arg("-KILL").arg(self.pid.to_string()).status();
        let _ = Command::new(script()).arg("stop").arg(&self.dir).status();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cassandra/node")
}

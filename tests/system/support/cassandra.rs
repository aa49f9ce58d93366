//! Cassandra: a keyspace of the shared node, or a node of one's own that may be stopped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Statement;

use super::{Bench, eventually, pitwire, signal, skip};

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
    /// `host:port`, of a cluster several with commas between.
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

    /// `pitwire schema apply`, with one copy of each row.
    #[track_caller]
    pub(crate) fn apply(&self) {
        self.apply_copies(1);
    }

    /// The same with as many copies of each row.
    #[track_caller]
    pub(crate) fn apply_copies(&self, replication: u32) {
        let copies = replication.to_string();
        let output = pitwire(&["schema", "apply", "--store", &self.url(), "--replication", &copies]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A row of `chunks` as it arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    /// UTC of its first sample, µs.
    pub(crate) t0: i64,
    /// Its samples.
    pub(crate) n: u64,
    /// When the node took it, by its own clock, µs.
    pub(crate) written: i64,
}

impl Keyspace {
    fn run<T>(&self, work: impl AsyncFnOnce(Session) -> T) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let builder = SessionBuilder::new().known_nodes(self.node.split(',')).driver_config_reporting(false);
            let session = builder.build().await.ok()?;
            Some(work(session).await)
        })
    }

    /// Drops it, as a person by mistake. True if the node took that.
    pub(crate) fn drop_all(&self) -> bool {
        let dropped = self.run(async |session| {
            let mut statement = Statement::new(format!("DROP KEYSPACE IF EXISTS {}", self.name));
            statement.set_request_timeout(Some(Duration::from_secs(30)));
            session.query_unpaged(statement, ()).await.is_ok()
        });
        dropped == Some(true)
    }

    /// When each row of a car arrived.
    pub(crate) fn arrived(&self, car: &str) -> Vec<Arrived> {
        let query = format!("SELECT car, t0, n, WRITETIME(n) FROM {}.chunks", self.name);
        let found = self.run(async |session| {
            let rows = session.query_iter(query, ()).await.unwrap().rows_stream::<(String, i64, i32, i64)>().unwrap();
            let all: Vec<_> = rows.map(Result::unwrap).collect().await;
            all.into_iter()
                .filter(|row| row.0 == car)
                .map(|(_, t0, n, written)| Arrived { t0, n: n as u64, written })
                .collect()
        });
        found.unwrap()
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        // A scenario that fails because the node is gone must not fail twice.
        let _ = self.drop_all();
    }
}

/// A node that belongs to one scenario.
pub(crate) struct OwnNode {
    dir: PathBuf,
    /// Which of how many it is, as the script takes it; nothing for one alone.
    place: Vec<String>,
    address: String,
    pid: u32,
    environment: Vec<(&'static str, String)>,
}

impl OwnNode {
    /// Starts one on free ports, which takes some seconds. `None`, said loudly, where the server's jars or
    /// Java are not here.
    pub(crate) fn start(bench: &Bench) -> Option<Self> {
        Self::start_with(bench, &[])
    }

    /// The same with settings of `tests/cassandra/node`, such as `YAML`.
    pub(crate) fn start_with(bench: &Bench, settings: &[(&'static str, &str)]) -> Option<Self> {
        Self::start_on_free_ports(bench.path("node"), &[], settings)
    }

    /// Three that are one cluster, with settings for each.
    pub(crate) fn start_three(bench: &Bench, settings: &[(&'static str, &str)]) -> Option<[Self; 3]> {
        let first = Self::start_on_free_ports(bench.path("node1"), &["1", "3"], settings)?;
        let further = |number: &str| {
            let (dir, place) = (bench.path(&format!("node{number}")), vec![number.to_owned(), "3".to_owned()]);
            let environment = first.environment.clone();
            let mut node = Self { dir, place, address: String::new(), pid: 0, environment };
            node.start_again();
            node
        };
        let (second, third) = (further("2"), further("3"));
        Some([first, second, third])
    }

    fn start_on_free_ports(dir: PathBuf, place: &[&str], settings: &[(&'static str, &str)]) -> Option<Self> {
        let mut environment: Vec<_> = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        environment.push(("HEAP", "768M".to_owned()));
        let place = place.iter().map(|word| (*word).to_owned()).collect();
        let mut node = Self { dir, place, address: String::new(), pid: 0, environment };
        node.launch(&[("PORTS", "free")]).then_some(())?;
        let ports = std::fs::read_to_string(node.dir.join("ports")).unwrap();
        let names = ["NATIVE_PORT", "STORAGE_PORT", "JMX_PORT"];
        node.environment.extend(names.into_iter().zip(ports.split_whitespace().skip(1).map(str::to_owned)));
        Some(node)
    }

    /// False, said loudly, where it cannot be started at all.
    fn launch(&mut self, further: &[(&str, &str)]) -> bool {
        let mut command = Command::new(script());
        command.arg("start").arg(&self.dir).args(&self.place);
        let output = command.envs(self.environment.iter().cloned()).envs(further.iter().copied()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            // Where there are jars the node has to start.
            assert!(!words.contains("the node"), "{words}");
            skip(std::thread::current().name().unwrap_or("?"), words.trim());
            return false;
        }
        self.address = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        self.pid = std::fs::read_to_string(self.dir.join("pid")).unwrap().trim().parse().unwrap();
        true
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

    /// SIGKILL. What it has acknowledged outlives this only with `COMMITLOG_SYNC=group`.
    pub(crate) fn kill(&self) {
        signal("KILL", self.pid);
        // Its parent is gone, and who inherited it may let it lie: the dead have no command line.
        let command = format!("/proc/{}/cmdline", self.pid);
        eventually("the node is gone", || {
            std::fs::read(&command).is_ok_and(|words| words.is_empty()) || !Path::new(&command).exists()
        });
    }

    /// Starts it on its ports, with what is on its disk.
    pub(crate) fn start_again(&mut self) {
        assert!(self.launch(&[]), "its jars are there");
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        // The script continues a frozen one; nothing of it is wanted any more, so it need not drain.
        if self.pid > 0 {
            let _ = Command::new("kill").arg("-KILL").arg(self.pid.to_string()).output();
        }
        let _ = Command::new(script()).arg("stop").arg(&self.dir).status();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cassandra/node")
}

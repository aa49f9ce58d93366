//! `pitwire run` as a process, looked at through its API.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Bench, LOOK_EVERY, PATIENCE, signal};

/// Runs a subcommand of the program to its end.
pub(crate) fn pitwire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pitwire")).args(arguments).output().unwrap()
}

/// What an agent is told: the keys that scenarios differ in.
#[derive(Default)]
pub(crate) struct Setup {
    /// The store's URL.
    pub(crate) store: String,
    /// Further lines of `[store]`.
    pub(crate) in_store: String,
    /// Further lines of `[spill]`; its directory is `spill` of the bench unless they name one.
    pub(crate) spill: String,
    /// Everything else: sources, further sections.
    pub(crate) more: String,
    /// Where it keeps what it remembers; `state` of the bench if it is empty.
    pub(crate) state: PathBuf,
}

impl Setup {
    /// Writes the configuration, which listens on a free port.
    pub(crate) fn write(&self, bench: &Bench) -> PathBuf {
        let Self { store, in_store, spill, more, state } = self;
        let state = if state.as_os_str().is_empty() { &bench.path("state") } else { state };
        let (run, dir) = (bench.path("run"), bench.path("spill"));
        let dir = if spill.contains("dir =") { String::new() } else { format!("dir = {dir:?}\n") };
        let text = format!(
            "car = \"44\"\nstate_dir = {state:?}\nruntime_dir = {run:?}\n\n[store]\nurl = {store:?}\n{in_store}\n[spill]\n{dir}{spill}\n\n\
             [monitor]\nlisten = \"127.0.0.1:0\"\n\n{more}\n"
        );
        let path = bench.path("pitwire.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A serial source that speaks the wire.
pub(crate) fn serial_source(name: &str, path: &Path, car: &str) -> String {
    format!("[[source.serial]]\nname = {name:?}\npath = {path:?}\ncar = {car:?}\n\n")
}

/// An MQTT source of the simulator's topics.
pub(crate) fn mqtt_source(name: &str, url: &str) -> String {
    format!("[[source.mqtt]]\nname = {name:?}\nurl = {url:?}\ntopics = [\"pitwire/44/#\"]\n\n")
}

/// A running agent, killed if the scenario fails.
pub(crate) struct Agent {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    port: u16,
}

impl Agent {
    /// Starts it, and waits until it serves its API.
    pub(crate) fn start(bench: &Bench, setup: &Setup) -> Self {
        let config = setup.write(bench);
        let log = bench.path("agent.log");
        let (child, port) = spawn(&config, &log);
        Self { child, config, log, port }
    }

    /// Starts it with the configuration that lies there, though it will serve no API.
    pub(crate) fn start_blind(bench: &Bench) -> Self {
        let (config, log) = (bench.path("pitwire.toml"), bench.path("agent.log"));
        let output = File::create(&log).unwrap();
        let child = command(&config, output).spawn().unwrap();
        Self { child, config, log, port: 0 }
    }

    /// Starts it once more after [`Self::kill`] or [`Self::terminate`].
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        (self.child, self.port) = spawn(&self.config, &self.log);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has logged, of earlier starts too.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The address of its page.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The status code and body of a page.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String), String> {
        get(self.port, path).map_err(|error| error.to_string())
    }

    /// The agent as its API shows it.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let (code, body) = self.get("/api/v1/status").unwrap_or_else(|error| {
            panic!("the agent does not answer: {error}; its log:\n{}", self.log());
        });
        assert_eq!(code, 200, "{body}");
        let status: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["ledger"]["balanced"], true, "the ledger does not balance: {}", status["ledger"]);
        status
    }

    /// Waits until the status shows something; returns that status.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl FnMut(&Value) -> bool) -> Value {
        self.until_within(PATIENCE, what, holds)
    }

    /// The same with a patience of its own.
    #[track_caller]
    pub(crate) fn until_within(&self, patience: Duration, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            let late = start.elapsed() > patience;
            assert!(!late, "not within {} s: {what}: {status:#}\nits log:\n{}", patience.as_secs(), self.log());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until each source is connected: its broker has confirmed the subscription, its port is open.
    #[track_caller]
    pub(crate) fn until_subscribed(&self) -> Value {
        self.until("each source connected", subscribed)
    }

    /// The same, and the store up.
    #[track_caller]
    pub(crate) fn until_ready(&self) -> Value {
        self.until("store up, each source connected", |status| status["store"]["state"] == "up" && subscribed(status))
    }

    /// Waits until its sources have been quiet for three seconds, longer than a broker waits to send again, and all
    /// that came is written; returns the last status.
    #[track_caller]
    pub(crate) fn until_home(&self, patience: Duration) -> Value {
        self.until_within(patience, "sources quiet, all of it in the store", |status| {
            let quiet = |source: &Value| source["quiet_for_s"].as_f64().is_none_or(|quiet_s| quiet_s > 3.0);
            status["sources"].as_array().unwrap().iter().all(quiet) && home(status)
        })
    }

    /// Waits until so many samples have come in.
    #[track_caller]
    pub(crate) fn until_received(&self, samples: u64) -> Value {
        self.until(&format!("{samples} samples received"), |status| number(status, "/ledger/received") >= samples)
    }

    /// Waits until nothing has come for half a second and all that came was decoded.
    #[track_caller]
    pub(crate) fn until_quiet(&self) -> Value {
        self.until("sources quiet, queues empty", |status| {
            let quiet = |source: &Value| source["quiet_for_s"].as_f64().is_none_or(|quiet_s| quiet_s > 0.5);
            status["sources"].as_array().unwrap().iter().all(quiet)
                && status["queues"].as_array().unwrap().iter().all(|queue| queue["items"] == 0)
        })
    }

    /// Waits until all that came in has been written to the store, or dropped by a policy.
    #[track_caller]
    pub(crate) fn until_drained(&self) -> Value {
        self.until("backlog and flight empty", home)
    }

    /// The most memory that it ever held, bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.memory_by("VmHWM:")
    }

    /// The memory that it holds, bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.memory_by("VmRSS:")
    }

    fn memory_by(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The files, sockets and pipes that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Ends it outright.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop and waits until it has drained; it must end well, and must not have panicked.
    #[track_caller]
    pub(crate) fn terminate(&mut self) {
        signal("TERM", self.pid());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it does not stop; its log:\n{}", self.log());
            std::thread::sleep(LOOK_EVERY);
        };
        let log = self.log();
        assert_eq!(status.code(), Some(0), "{log}");
        for word in ["panicked", "please report", "does not balance"] {
            assert!(!log.contains(word), "{word}: {log}");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(config: &Path, log: &Path) -> (Child, u16) {
    let mut output = OpenOptions::new().create(true).append(true).open(log).unwrap();
    writeln!(output, "--- started").unwrap();
    let before = output.metadata().unwrap().len();
    let mut child = command(config, output).spawn().unwrap();
    let start = Instant::now();
    let port = loop {
        let words = tail(log, before);
        if let Some(port) = words.split("page and API on http://127.0.0.1:").nth(1).and_then(|rest| {
            let (digits, _) = rest.split_once('\n')?;
            digits.trim().parse().ok()
        }) && get(port, "/healthz").is_ok()
        {
            break port;
        }
        assert!(child.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE, "it does not start: {words}");
        std::thread::sleep(LOOK_EVERY);
    };
    (child, port)
}

fn command(config: &Path, output: File) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitwire"));
    // Programs of the bench's own come first.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = [config.with_file_name("bin")];
    let paths = own.into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(paths).unwrap());
    command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    command
}

fn tail(log: &Path, from: u64) -> String {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::open(log).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let parts = answer.split_once("\r\n\r\n").zip(answer.get(9..12).and_then(|code| code.parse().ok()));
    let Some(((_, body), code)) = parts else { return Err(std::io::ErrorKind::InvalidData.into()) };
    Ok((code, body.to_owned()))
}

fn subscribed(status: &Value) -> bool {
    status["sources"].as_array().unwrap().iter().all(|source| source["state"] == "connected")
}

/// Whether nothing waits for the store any more.
fn home(status: &Value) -> bool {
    ["/ledger/backlog", "/ledger/in_flight", "/spill/backlog_samples"].iter().all(|count| number(status, count) == 0)
        && status["spill"]["recovering"].is_null()
}

/// A count in a status, by its JSON pointer.
#[track_caller]
pub(crate) fn number(status: &Value, pointer: &str) -> u64 {
    status.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no count at {pointer} of {status:#}"))
}

/// A text in a status.
#[track_caller]
pub(crate) fn text<'a>(status: &'a Value, pointer: &str) -> &'a str {
    status.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer} of {status:#}"))
}

/// A source by its name.
#[track_caller]
pub(crate) fn source<'a>(status: &'a Value, name: &str) -> &'a Value {
    let sources = status["sources"].as_array().unwrap();
    sources.iter().find(|source| source["name"] == name).unwrap_or_else(|| panic!("no source {name}: {status:#}"))
}

/// Sums one count over all devices of a source.
#[track_caller]
pub(crate) fn over_devices(source: &Value, count: &str) -> u64 {
    source["devices"].as_array().unwrap().iter().map(|device| device[count].as_u64().unwrap()).sum()
}

//! What the scenarios share: a place for files, the processes, the audit.

mod agent;
mod audit;
mod broker;
mod cassandra;
mod gate;
mod sim;
mod tap;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

pub(crate) use agent::{Agent, Setup, mqtt_source, number, over_devices, pitwire, serial_source, source, text};
pub(crate) use audit::{Manifest, audit};
pub(crate) use broker::Broker;
pub(crate) use cassandra::{Keyspace, OwnNode, shared_node};
pub(crate) use gate::Gate;
pub(crate) use sim::Sim;
pub(crate) use tap::Tap;

#[path = "../../support/mount.rs"]
mod mount;
#[path = "../../support/mod.rs"]
mod skips;
pub(crate) use mount::Disk;
pub(crate) use skips::skip;

pub(crate) const MIB: u64 = 1 << 20;

/// Long enough for anything that is going to happen at all, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
/// Distance of two looks at something that is waited for.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Held to read by scenarios that bear company, to write by those that measure time or memory.
static MACHINE: RwLock<()> = RwLock::new(());

/// A scenario's share of the machine.
#[expect(dead_code, reason = "held, not read")]
pub(crate) enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Waits for a share of the machine; a scenario that failed before hands it on all the same.
pub(crate) fn turn(alone: bool) -> Turn {
    if alone {
        Turn::Alone(MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    } else {
        Turn::Shared(MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// A folder of its own for one scenario.
pub(crate) struct Bench {
    dir: TempDir,
    began: Instant,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), began: Instant::now() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file system of so many bytes; `None`, said loudly, where that cannot be had.
    pub(crate) fn disk(&self, bytes: u64) -> Option<Disk> {
        Disk::new(self.dir.path(), bytes)
    }

    /// A store in a file.
    pub(crate) fn sqlite(&self) -> String {
        format!("sqlite://{}", self.path("pitwire.db").display())
    }

    /// Prints a figure, past the harness's capture.
    pub(crate) fn figure(&self, what: &str) {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        let line = format!("FIGURE {test}, after {:.1} s: {what}\n", self.began.elapsed().as_secs_f64());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

/// Whether the long forms are asked for.
pub(crate) fn long() -> bool {
    std::env::var("PITWIRE_SYSTEM_LONG").is_ok_and(|value| value == "1")
}

/// What the short form of a scenario takes, or its long form if that is asked for.
pub(crate) fn form<T>(short: T, in_long: T) -> T {
    if long() { in_long } else { short }
}

/// UTC, µs.
pub(crate) fn utc_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// How the program under test was built.
pub(crate) const fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(name: &str, pid: u32) {
    let status = std::process::Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

//! A disk that is full while the store takes nothing.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Agent, Bench, Broker, Manifest, Setup, Sim, audit, mqtt_source, number, skip, text, turn};

const MIB: u64 = 1 << 20;
/// What the disk has left for the spill: the car of these tests fills it within a few seconds.
const ROOM_BYTES: u64 = MIB;

/// A file system of 16 MiB, unmounted at the end.
struct Disk {
    mounted_at: PathBuf,
}

impl Disk {
    fn new(bench: &Bench) -> Option<Self> {
        let (image, mounted_at) = (bench.path("disk.img"), bench.path("disk"));
        fs::create_dir(&mounted_at).unwrap();
        fs::File::create(&image).unwrap().set_len(16 * MIB).unwrap();
        let run = |program: &str, arguments: &[&Path]| {
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
            let output = Command::new(program).env("PATH", path).args(arguments).output();
            output.map_err(|error| format!("{program}: {error}")).and_then(|output| {
                let words = format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
                if output.status.success() { Ok(()) } else { Err(words) }
            })
        };
        let made = run("mkfs.ext4", &["-q".as_ref(), "-m".as_ref(), "0".as_ref(), &image])
            .and_then(|()| run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mounted_at]));
        match made {
            Ok(()) => Some(Self { mounted_at }),
            Err(reason) => {
                let test = std::thread::current().name().unwrap_or("?").to_owned();
                skip(&test, &format!("a small file system needs root and loop devices here: {reason}"));
                None
            }
        }
    }

    /// Takes everything but a little.
    fn fill(&self) {
        let free = rustix::fs::statvfs(&self.mounted_at).unwrap();
        let bytes = (free.f_bavail * free.f_frsize).saturating_sub(ROOM_BYTES);
        let ballast = OpenOptions::new().create(true).truncate(true).write(true).open(self.ballast()).unwrap();
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    }

    fn clear(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.mounted_at.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted_at).status();
    }
}

/// The store, in a folder that is made later: until then the agent holds, and no write is under way.
fn store(bench: &Bench) -> String {
    format!("sqlite://{}", bench.path("not/yet/pitwire.db").display())
}

/// Drives a wide car into an agent that has no store and whose disk is full; returns what was sent, the
/// status once the disk was full, and the last one, all drained.
fn full(bench: &Bench, disk: &Disk, broker: &Broker, overflow: &str) -> (Manifest, Value, Value) {
    let spill = format!(
        "dir = {:?}\noverflow = {overflow:?}\nsegment_bytes = \"256KiB\"\nfree_min = \"0B\"\n",
        disk.mounted_at.join("spill")
    );
    let more = mqtt_source("car", &broker.url()) + &format!("[quarantine]\ndir = {:?}\n", bench.path("quarantine"));
    let mut agent = Agent::start(bench, &Setup { store: store(bench), spill, more });
    let held = agent.until("held, and subscribed", |status| {
        status["store"]["state"] == "holding" && status["sources"][0]["state"] == "connected"
    });
    assert!(text(&held, "/store/detail").contains("make the directory"), "{held:#}");
    disk.fill();
    let sim = Sim::start(bench, "sent", &["--tier", "wide", "--for", "8s", "--mqtt", &broker.url()]);
    let at_full = agent.until("the disk is full", |status| {
        status["spill"]["state"] == "full" || number(status, "/ledger/dropped/overflow") > 0
    });
    let sent = sim.finish();
    agent.until("everything has come", |status| {
        // Under `block` the rest waits with the broker.
        overflow == "block" || number(status, "/ledger/received") - number(status, "/ledger/duplicate") == sent.sent()
    });
    disk.clear();
    fs::create_dir_all(bench.path("not/yet")).unwrap();
    agent.until("everything has come", |status| {
        number(status, "/ledger/received") - number(status, "/ledger/duplicate") == sent.sent()
    });
    let last = agent.until_drained();
    agent.terminate();
    (sent, at_full, last)
}

#[test]
fn a_full_disk_holds_a_broker_back_and_nothing_is_lost() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(disk) = Disk::new(&bench) else { return };
    let (sent, at_full, last) = full(&bench, &disk, &broker, "block");
    let detail = text(&at_full, "/spill/detail");
    let found = audit(sent.path(), &store(&bench));
    bench.figure(&format!("{found:?}; {detail:?}"));
    for word in ["spill is full", disk.mounted_at.to_str().unwrap(), "free space", "spill.disk_max"] {
        assert!(detail.contains(word), "{word}: {detail}");
    }
    assert_eq!(number(&last, "/ledger/dropped/overflow"), 0);
    found.assert_exact();
}

#[test]
fn a_full_disk_drops_the_oldest_and_counts_it_exactly() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let Some(disk) = Disk::new(&bench) else { return };
    let (sent, _, last) = full(&bench, &disk, &broker, "drop-oldest");
    let dropped = number(&last, "/ledger/dropped/overflow");
    let found = audit(sent.path(), &store(&bench));
    bench.figure(&format!("{found:?}; {dropped} dropped; {:?}", text(&last, "/spill/detail")));
    assert!(dropped > 0, "{last:#}");
    found.assert_missing(dropped);
}

//! `firmware-sim` as a process.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bench, LOOK_EVERY, Manifest, PATIENCE, eventually};

/// A running simulator, killed if the scenario fails.
pub(crate) struct Sim {
    child: Child,
    words: PathBuf,
    manifest: PathBuf,
}

impl Sim {
    /// Starts `firmware-sim run ARGUMENTS --manifest NAME.jsonl`.
    pub(crate) fn start(bench: &Bench, name: &str, arguments: &[&str]) -> Self {
        let manifest = bench.path(&format!("{name}.jsonl"));
        let listed = ["--manifest", manifest.to_str().unwrap()];
        Self::start_unlisted(bench, name, &[arguments, &listed].concat())
    }

    /// The same without a manifest, which of some hours is larger than what was sent.
    pub(crate) fn start_unlisted(bench: &Bench, name: &str, arguments: &[&str]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_pitwire")).with_file_name("firmware-sim");
        assert!(binary.exists(), "{} is absent: run `cargo build --workspace --bins` first", binary.display());
        let (manifest, words) = (bench.path(&format!("{name}.jsonl")), bench.path(&format!("{name}.log")));
        let child = Command::new(binary)
            .args([OsStr::new("run")].into_iter().chain(arguments.iter().map(OsStr::new)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&words).unwrap())
            .spawn()
            .unwrap();
        Self { child, words, manifest }
    }

    /// The same with pseudo-terminals under these names; returns once they are there.
    pub(crate) fn start_on_ports(bench: &Bench, name: &str, ports: &[&Path], arguments: &[&str]) -> Self {
        let ptys: Vec<String> = ports.iter().map(|port| format!("--pty={}", port.display())).collect();
        let all: Vec<&str> = arguments.iter().copied().chain(ptys.iter().map(String::as_str)).collect();
        let mut sim = Self::start(bench, name, &all);
        eventually("the simulator makes its ports", || {
            assert!(sim.child.try_wait().unwrap().is_none(), "it ended: {}", sim.words());
            ports.iter().all(|port| port.exists())
        });
        sim
    }

    fn words(&self) -> String {
        std::fs::read_to_string(&self.words).unwrap()
    }

    /// Waits until it has sent everything and it was taken; returns what it sent.
    #[track_caller]
    pub(crate) fn finish(self) -> Manifest {
        self.finish_by(2 * PATIENCE)
    }

    /// The same, with that much patience.
    #[track_caller]
    pub(crate) fn finish_by(self, patience: Duration) -> Manifest {
        let manifest = self.manifest.clone();
        let words = self.finish_within(patience);
        assert!(!words.contains("dropped by full buffers"), "the machine is too slow for this: {words}");
        Manifest::read(&manifest)
    }

    /// The same where lines may be full, as nobody reads them; returns its words too, which say how much was dropped.
    #[track_caller]
    pub(crate) fn finish_lossy(self) -> (Manifest, String) {
        let manifest = self.manifest.clone();
        let words = self.finish_within(2 * PATIENCE);
        (Manifest::read(&manifest), words)
    }

    /// Waits until it has sent everything; returns its words, the last of which say how much that was.
    #[track_caller]
    pub(crate) fn finish_within(mut self, patience: Duration) -> String {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < patience, "it does not end: {}", self.words());
            std::thread::sleep(LOOK_EVERY);
        };
        let words = self.words();
        assert_eq!(status.code(), Some(0), "{words}");
        words
    }

    /// Whether it still sends.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

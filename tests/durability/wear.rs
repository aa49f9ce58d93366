//! What the flash is told to write, by the counters of the block device.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use pitwire::spill::{Config, Spill};

use crate::books::{Key, open_at_once};
use crate::life::{runtime, small, soon};
use crate::rig::{KIB, LoopFs, MIB, PATIENCE, figure, run};

/// A commit of 64 KiB on the disk is one record of this payload: its header takes 56 bytes, its meta 16.
const PAYLOAD_BYTES: usize = 64 * KIB as usize - 56 - 16;
const COMMITS: u64 = 160;

/// Device bytes for each byte of payload, over some commits.
async fn wear(fs: &LoopFs, spill: &Spill, life: u32) -> f64 {
    fs.flush();
    let before = fs.written_bytes();
    for number in 0..COMMITS {
        let record = Key { life, writer: 0, number }.record(PAYLOAD_BYTES);
        soon("an answer", spill.append(vec![record])).await.unwrap();
    }
    fs.flush();
    (fs.written_bytes() - before) as f64 / (COMMITS * PAYLOAD_BYTES as u64) as f64
}

#[test]
fn a_byte_is_written_to_the_flash_about_once() {
    let Some(fs) = LoopFs::new(64 * MIB) else { return };
    let config =
        Config { segment_bytes: ByteSize::mib(2), disk_max: ByteSize::mib(40), ..small(&fs.path().join("spill")) };
    runtime().block_on(async {
        let spill = open_at_once(&config);
        let first = wear(&fs, &spill, 0).await;
        while spill.stats().backlog_records > 0 {
            let batch = soon("the backlog", spill.next_batch(100, MIB)).await.unwrap();
            batch.iter().for_each(|(position, _)| assert!(spill.ack(*position)));
        }
        // The segment that takes appends is closed a second after it was drained.
        let start = Instant::now();
        while spill.stats().segments > 0 && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let again = wear(&fs, &spill, 1).await;
        figure(&format!(
            "{COMMITS} commits of 64 KiB: {first:.4} device bytes a payload byte on first use, {again:.4} on recycled \
             segments"
        ));
        assert!(first <= 1.5, "{first}");
        assert!(again <= 1.05, "{again}");
        soon("close", spill.close()).await;
    });
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &Path, arguments: &[&str], words: &Path) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(words).unwrap());
    Running(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

#[test]
fn a_healthy_agent_writes_nothing_to_the_flash() {
    let Some(fs) = LoopFs::new(32 * MIB) else { return };
    let place = crate::rig::folder();
    let path = |name: &str| place.path().join(name);
    let agent = Path::new(env!("CARGO_BIN_EXE_pitwire"));
    let simulator = agent.with_file_name("firmware-sim");
    assert!(simulator.exists(), "{} is absent: run `cargo build --workspace --bins` first", simulator.display());
    let flash = fs.path();
    let config = format!(
        "car = \"44\"\nstate_dir = {:?}\n[store]\nurl = \"sqlite://{}\"\n[spill]\ndir = {:?}\nfree_min = \"0B\"\n\
         [quarantine]\ndir = {:?}\n[monitor]\nlisten = \"127.0.0.1:0\"\n\
         [[source.serial]]\nname = \"ecu\"\npath = {:?}\ncar = \"44\"\n",
        flash.join("state"),
        path("store.db").display(),
        flash.join("spill"),
        flash.join("quarantine"),
        path("ecu"),
    );
    fs::write(path("pitwire.toml"), config).unwrap();
    let pty = format!("--pty={}", path("ecu").display());
    let _sim = start(&simulator, &["run", "--tier", "can", "--for", "60s", &pty], &path("sim.log"));
    let mut agent = start(agent, &["run", "--config", path("pitwire.toml").to_str().unwrap()], &path("agent.log"));
    let log = || fs::read_to_string(path("agent.log")).unwrap();
    // At first it makes its directories and remembers the devices' catalogues.
    std::thread::sleep(Duration::from_secs(6));
    assert!(agent.0.try_wait().unwrap().is_none(), "{}", log());
    fs.flush();
    let before = fs.written_bytes();
    std::thread::sleep(Duration::from_secs(8));
    fs.flush();
    let written = fs.written_bytes() - before;
    run("kill", &["-TERM", &agent.0.id().to_string()]).unwrap();
    let start = Instant::now();
    while agent.0.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "it does not end: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = log();
    let ending = log.lines().find(|line| line.starts_with("received")).unwrap_or_else(|| panic!("{log}"));
    figure(&format!("8 s of a healthy agent: {written} bytes on the device of its spill and state; {ending}"));
    assert!(!ending.starts_with("received 0 "), "{ending}");
    assert_eq!(written, 0, "{log}");
}

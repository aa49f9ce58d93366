//! What `pitwire plan` says of an outage, against what one takes: on the disk, on the flash below it, and on the uplink
//! afterwards.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::{Agent, Bench, Broker, Setup, Sim, long, mqtt_source, number, pitwire, profile, skip, turn};

/// A file system of its own, whose device counts what is written to it; unmounted at the end.
struct Flash {
    mounted_at: PathBuf,
}

impl Flash {
    fn new(bench: &Bench, bytes: u64) -> Option<Self> {
        let (image, mounted_at) = (bench.path("flash.img"), bench.path("flash"));
        fs::create_dir(&mounted_at).unwrap();
        fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).env("PATH", &path).args(arguments).output();
            output.map_err(|error| format!("{program}: {error}")).and_then(|output| {
                let words = format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
                if output.status.success() { Ok(()) } else { Err(words) }
            })
        };
        // Nothing may be left for the background to write.
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        let (image, at) = (image.to_str().unwrap(), mounted_at.to_str().unwrap());
        let made = run("mkfs.ext4", &["-q", "-m", "0", "-E", now, image])
            .and_then(|()| run("mount", &["-o", "loop", image, at]));
        match made {
            Ok(()) => Some(Self { mounted_at }),
            Err(reason) => {
                let test = std::thread::current().name().unwrap_or("?").to_owned();
                skip(&test, &format!("counting what is written to flash needs root and loop devices here: {reason}"));
                None
            }
        }
    }

    /// Bytes written to the device so far.
    fn written(&self) -> u64 {
        rustix::fs::syncfs(fs::File::open(&self.mounted_at).unwrap()).unwrap();
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let at = self.mounted_at.to_str().unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(at)).unwrap();
        let device = line.split(' ').next().unwrap().trim_start_matches("/dev/");
        let stat = fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
    }
}

impl Drop for Flash {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted_at).status();
    }
}

fn plan(arguments: &[&str]) -> Value {
    let output = pitwire(&[&["plan", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `is` against `planned`, as a share; beyond a tenth it fails.
#[track_caller]
fn near(what: &str, is: f64, planned: f64) -> f64 {
    let share = is / planned;
    assert!((0.9..=1.1).contains(&share), "{what}: {is:.0} instead of {planned:.0} as planned");
    share
}

#[test]
fn an_outage_of_a_wide_car_takes_the_disk_and_the_flash_that_the_plan_says() {
    // The short form goes at a quarter of the pace, with all times four times as long: the rows are the same, and a
    // machine that does other things keeps up.
    let (speed, seconds, room) = if long() { (1.0, 600, 2 << 30) } else { (0.25, 10, 256 << 20) };
    let rate = 78_200.0 * speed;
    let times = if long() { "" } else { "[deliver]\nflush_after = \"800ms\"\ndurable_within = \"4s\"\n" };
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let flash = Flash::new(&bench, room);
    let spill = flash.as_ref().map_or_else(|| bench.path("spill"), |flash| flash.mounted_at.join("spill"));
    // The store's folder is made later: until then nothing is stored.
    let store = format!("sqlite://{}", bench.path("not/yet/pitwire.db").display());
    let more = format!("{times}{}", mqtt_source("car", &broker.url()));
    let setup = Setup { store, spill: format!("dir = {spill:?}\nfree_min = \"0B\"\n"), more, ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until("subscribed", |status| status["sources"][0]["state"] == "connected");
    let before = flash.as_ref().map(Flash::written);
    let (length, speed) = (format!("{seconds}s"), speed.to_string());
    let sim =
        Sim::start(&bench, "sent", &["--tier", "wide", "--speed", &speed, "--for", &length, "--mqtt", &broker.url()]);
    let sent = sim.finish().sent();
    let spilled = agent.until("all is in the spill", |status| number(status, "/spill/backlog_samples") == sent);

    let outage = format!("{}ms", (sent as f64 / rate * 1_000.0) as u64);
    let (config, rate) = (bench.path("pitwire.toml"), rate.to_string());
    let config = config.to_str().unwrap();
    let asked = ["--config", config, "--tier", "wide", "--rate", &rate, "--outage", &outage];
    let planned = plan(&[&asked[..], &["--uplink", "100Mbit"]].concat());
    let of = |name: &str| planned["outage"][name].as_f64().unwrap();
    let disk = near("disk", number(&spilled, "/spill/disk_bytes") as f64, of("disk_bytes"));
    let on_flash = flash.as_ref().zip(before).map(|(flash, before)| {
        let written = flash.written() - before;
        println!("{written} bytes on the device, {} planned", of("flash_bytes"));
        near("flash", written as f64, of("flash_bytes"))
    });
    let measured = plan(&["--status", &agent.url(), "--rate", &rate]);
    let bytes = |plan: &Value, which: &str| plan[which].as_f64().unwrap();
    let of_agent = bytes(&measured, "spill_bytes_per_sample");
    near("what the agent measured", of_agent, bytes(&planned, "spill_bytes_per_sample"));

    fs::create_dir_all(bench.path("not/yet")).unwrap();
    let drained = agent.until_drained();
    let uplink = number(&drained, "/store/bytes_written") as f64 / number(&drained, "/store/samples_written") as f64;
    near("uplink", uplink, bytes(&planned, "uplink_bytes_per_sample"));
    agent.terminate();
    bench.figure(&format!(
        "{sent} samples in {} records and {} syncs; {of_agent:.3} B a sample in the spill, {uplink:.3} B on the uplink; \
         disk {disk:.3} and flash {on_flash:.3?} of what was planned ({} build)",
        number(&spilled, "/spill/backlog_records"),
        number(&spilled, "/spill/syncs"),
        profile()
    ));
}

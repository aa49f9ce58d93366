//! The unit, its user and the shipped example, judged by systemd itself in a root file system where they are installed.
//!
//! The root is a folder: our binary and files where a package puts them, and the machine's own targets, without which
//! no unit can be loaded. Nothing is started here.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod support;

/// The first release whose `verify` and `security` work on another root.
const SYSTEMD_VERSION_MIN: u32 = 250;
/// A stop by default: `drain_within` 8 s, spilling included, 2 s for closing disks that hang, 3 s for stages and 3 s
/// for a source that do not end. Each further source that hangs adds 3 s, when there is nothing left to save.
const DRAIN_S_MAX: u64 = 8 + 2 + 3 + 3;
/// Of `systemd-analyze security`, in tenths of its exposure level: 30 is what it still calls OK.
const EXPOSURE_MAX: u32 = 30;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn unit_text() -> String {
    fs::read_to_string(project("systemd/pitwire.service")).expect("the unit is there")
}

/// The last value of a directive of the unit, as systemd would take it.
fn directive(unit: &str, name: &str) -> Option<String> {
    unit.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
        .next_back()
}

/// The name of this machine's `systemd-analyze`'s release, if there is one that is new enough.
fn systemd_analyze_is_usable() -> Result<(), String> {
    let output = Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .map_err(|error| format!("systemd-analyze does not run here ({error}): install Debian's package systemd"))?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = words.split_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok());
    match version {
        Some(version) if version >= SYSTEMD_VERSION_MIN => Ok(()),
        _ => Err(format!("systemd {SYSTEMD_VERSION_MIN} or newer is needed, this is {:?}", words.lines().next())),
    }
}

/// A root file system with the agent installed in it and `unit` as its unit.
fn installed_root(unit: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let units = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units).expect("folders");
    fs::create_dir_all(root.path().join("usr/bin")).expect("folders");
    fs::create_dir_all(root.path().join("etc/pitwire")).expect("folders");
    let machine = ["/usr/lib/systemd/system", "/lib/systemd/system"]
        .into_iter()
        .find(|folder| Path::new(folder).is_dir())
        .expect("systemd keeps its units in one of the two");
    for entry in fs::read_dir(machine).expect("systemd's units").map(|entry| entry.expect("an entry").path()) {
        let kind = entry.extension().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_file() && ["target", "slice", "mount", "socket"].contains(&kind.as_str()) {
            fs::copy(&entry, units.join(entry.file_name().expect("an entry has a name"))).expect("a copy");
        }
    }
    fs::copy(env!("CARGO_BIN_EXE_pitwire"), root.path().join("usr/bin/pitwire")).expect("a copy of the binary");
    fs::copy(project("systemd/pitwire.toml"), root.path().join("etc/pitwire/pitwire.toml")).expect("a copy");
    fs::write(units.join("pitwire.service"), unit).expect("the unit");
    root
}

fn analyze(root: &Path, arguments: &[&str]) -> Output {
    let (verb, rest) = arguments.split_first().expect("a verb");
    Command::new("systemd-analyze")
        .arg(verb)
        .arg(format!("--root={}", root.display()))
        .args(rest)
        .arg("pitwire.service")
        .output()
        .expect("systemd-analyze runs")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn systemd_finds_nothing_to_say_about_the_installed_unit() {
    if let Err(reason) = systemd_analyze_is_usable() {
        return support::skip("systemd_finds_nothing_to_say_about_the_installed_unit", &reason);
    }
    let root = installed_root(&unit_text());
    let output = analyze(root.path(), &["verify"]);
    // An unknown directive is a mere warning with exit code 0: silence is what counts.
    assert_eq!(words(&output), "", "systemd-analyze verify complains");
    assert!(output.status.success(), "systemd-analyze verify ended with {}", output.status);
}

#[test]
fn systemd_would_complain_about_a_misspelt_directive_and_a_missing_binary() {
    if let Err(reason) = systemd_analyze_is_usable() {
        return support::skip("systemd_would_complain_about_a_misspelt_directive_and_a_missing_binary", &reason);
    }
    let misspelt = installed_root(&unit_text().replace("WatchdogSec=", "WatchDogSecs="));
    let said = words(&analyze(misspelt.path(), &["verify"]));
    assert!(said.contains("WatchDogSecs"), "verify let a misspelt directive pass: {said:?}");

    let elsewhere = installed_root(&unit_text().replace("/usr/bin/pitwire", "/usr/bin/pitwired"));
    let output = analyze(elsewhere.path(), &["verify"]);
    assert!(!output.status.success(), "verify let a missing binary pass: {:?}", words(&output));
}

#[test]
fn the_unit_leaves_the_agent_little_to_break() {
    if let Err(reason) = systemd_analyze_is_usable() {
        return support::skip("the_unit_leaves_the_agent_little_to_break", &reason);
    }
    let root = installed_root(&unit_text());
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let output = analyze(root.path(), &["security", "--offline=true", "--no-pager", &threshold]);
    assert!(output.status.success(), "the exposure is above {EXPOSURE_MAX} tenths:\n{}", words(&output));
}

#[test]
fn the_agents_user_can_be_made_and_reaches_serial_ports() {
    if let Err(reason) = systemd_analyze_is_usable() {
        return support::skip("the_agents_user_can_be_made_and_reaches_serial_ports", &reason);
    }
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(root.path().join("etc")).expect("a folder");
    let output = Command::new("systemd-sysusers")
        .arg(format!("--root={}", root.path().display()))
        .arg("--inline")
        .args(
            fs::read_to_string(project("systemd/sysusers.conf"))
                .expect("the users are there")
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#')),
        )
        .output()
        .expect("systemd-sysusers runs");
    assert!(output.status.success(), "systemd-sysusers: {}", words(&output));
    let users = fs::read_to_string(root.path().join("etc/passwd")).expect("users were written");
    assert!(users.lines().any(|line| line.starts_with("pitwire:")), "no user pitwire in {users:?}");
    let groups = fs::read_to_string(root.path().join("etc/group")).expect("groups were written");
    let dialout = groups.lines().find(|line| line.starts_with("dialout:")).expect("a group dialout");
    assert!(dialout.ends_with(":pitwire"), "pitwire is not in {dialout:?}");
}

#[test]
fn the_unit_restarts_watches_and_drains_the_agent_as_its_user() {
    let unit = unit_text();
    for (name, value) in [
        ("Type", "notify"),
        ("ExecStart", "/usr/bin/pitwire run --config /etc/pitwire/pitwire.toml"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("WatchdogSec", "30"),
        ("Restart", "always"),
        ("RestartPreventExitStatus", "2"),
        ("StartLimitIntervalSec", "0"),
        ("User", "pitwire"),
        ("SupplementaryGroups", "dialout"),
        ("StateDirectory", "pitwire"),
        ("RuntimeDirectory", "pitwire"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("WantedBy", "multi-user.target"),
    ] {
        assert_eq!(directive(&unit, name).as_deref(), Some(value), "{name}");
    }
    let stop_s: u64 = directive(&unit, "TimeoutStopSec").expect("a deadline").parse().expect("seconds");
    assert!(stop_s > DRAIN_S_MAX, "systemd would kill the agent while it drains");
    assert_eq!(directive(&unit, "PrivateDevices"), None, "it would hide serial ports");
}

#[test]
fn the_example_configuration_keeps_its_data_where_the_unit_lets_the_agent_write() {
    let example = fs::read_to_string(project("systemd/pitwire.toml")).expect("the example is there");
    let spill = example.lines().find(|line| line.starts_with("dir = ")).expect("a spill folder");
    assert_eq!(spill, "dir = \"/var/lib/pitwire/spill\"", "outside of StateDirectory, ProtectSystem=strict refuses it");
}

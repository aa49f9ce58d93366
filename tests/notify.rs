//! What systemd hears from the agent, over a real notification socket.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// Starts the agent with a port that is not there, and returns what it says within `within`. Each signal is sent
/// once a word that contains the text beside it has come after the signal before; the last has to end the agent.
fn heard(signals: &[(&str, Signal)], within: Duration) -> (Vec<String>, std::process::ExitStatus) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let at = dir.path().display();
    let config = format!(
        "car = \"44\"\nstate_dir = \"{at}/state\"\nruntime_dir = \"{at}/run\"\n[store]\nurl = \"sqlite://{at}/p.db\"\n[spill]\ndir = \"{at}/spill\"\n\
         [monitor]\nenabled = false\n[[source.serial]]\nname = \"ecu\"\npath = \"{at}/none\"\n"
    );
    let file = dir.path().join("pitwire.toml");
    std::fs::write(&file, config).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_pitwire"))
        .arg("run")
        .arg("--config")
        .arg(&file)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1500000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + within;
    let (mut words, mut buffer): (Vec<String>, _) = (Vec::new(), [0; 4096]);
    let (mut signals, mut seen) = (signals.iter(), 0);
    let mut next = signals.next();
    let status = loop {
        if let Ok(length) = socket.recv(&mut buffer) {
            words.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        if let Some((word, signal)) = next
            && words[seen..].iter().any(|said| said.contains(word))
        {
            (seen, next) = (words.len(), signals.next());
            let pid = rustix::process::Pid::from_raw(agent.id().try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, *signal).unwrap();
        }
        if let Some(status) = agent.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            agent.kill().unwrap();
            agent.wait().unwrap();
            panic!("the agent did not end in time; it said {words:?}");
        }
    };
    (words, status)
}

#[test]
fn the_agent_says_when_it_is_ready_feeds_the_watchdog_and_says_that_it_stops() {
    // An agent whose only port is absent is ready and alive: nobody near the car could plug it in anyway.
    let (words, status) = heard(&[("WATCHDOG=1", Signal::TERM)], Duration::from_secs(20));
    let place = |word: &str| words.iter().position(|said| said.contains(word));
    assert_eq!(place("READY=1"), Some(0), "{words:?}");
    assert!(place("WATCHDOG=1") < place("STOPPING=1"), "{words:?}");
    assert!(status.success(), "{status}");
}

#[test]
fn the_agent_says_when_it_reads_its_configuration_anew_and_that_it_is_ready_again() {
    let signals = [("READY=1", Signal::HUP), ("READY=1", Signal::TERM)];
    let (words, status) = heard(&signals, Duration::from_secs(20));
    let reloading = words.iter().position(|said| said.contains("RELOADING=1")).unwrap_or_else(|| panic!("{words:?}"));
    // systemd 253 and newer ends a service that leaves this out.
    assert!(words[reloading].contains("MONOTONIC_USEC="), "{words:?}");
    assert!(words[reloading..].iter().any(|said| said.contains("READY=1")), "{words:?}");
    assert!(status.success(), "a hangup does not end it: {status}");
}

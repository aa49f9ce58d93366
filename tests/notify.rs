//! What systemd hears from the agent, over a real notification socket.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts the agent with a port that is not there, and returns what it says within `within` after a signal
/// at the first word that contains `stop_at`.
fn heard(stop_at: &str, within: Duration) -> (Vec<String>, std::process::ExitStatus) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let at = dir.path().display();
    let config = format!(
        "car = \"44\"\nstate_dir = \"{at}/state\"\n[store]\nurl = \"sqlite://{at}/p.db\"\n[spill]\ndir = \"{at}/spill\"\n\
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
    let (mut words, mut told, mut buffer) = (Vec::new(), false, [0; 4096]);
    let status = loop {
        if let Ok(length) = socket.recv(&mut buffer) {
            words.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        if !told && words.iter().any(|word| word.contains(stop_at)) {
            told = true;
            let pid = rustix::process::Pid::from_raw(agent.id().try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
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
    let (words, status) = heard("WATCHDOG=1", Duration::from_secs(20));
    let place = |word: &str| words.iter().position(|said| said.contains(word));
    assert_eq!(place("READY=1"), Some(0), "{words:?}");
    assert!(place("WATCHDOG=1") < place("STOPPING=1"), "{words:?}");
    assert!(status.success(), "{status}");
}

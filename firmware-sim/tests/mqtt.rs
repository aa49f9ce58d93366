//! Publishing to a real mosquitto.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says loudly when it is skipped")]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use firmware_sim::{Options, Output, Simulator, Speed, Stop, Tier};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Event, MqttOptions};

/// A broker of our own, ended by its process id.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    /// `None` where mosquitto is not installed: then the test says loudly that it is skipped, and
    /// fails under `CI=true`.
    fn start(dir: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {}/\nmax_queued_messages 0\n",
            dir.display()
        );
        std::fs::write(dir.join("mosquitto.conf"), config).unwrap();
        match Self::spawn(dir) {
            Ok(child) => {
                let broker = Self { child, port };
                broker.await_port();
                Some(broker)
            }
            Err(e) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs mosquitto: {e}");
                eprintln!("SKIPPED: mosquitto cannot be started here: {e}");
                None
            }
        }
    }

    fn spawn(dir: &Path) -> std::io::Result<Child> {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        Command::new("mosquitto")
            .env("PATH", path)
            .arg("-c")
            .arg(dir.join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    fn await_port(&self) {
        eventually("mosquitto listens", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Ends it so that it saves its state, stays away for a while, and starts it again.
    fn restart(&mut self, dir: &Path, away: Duration) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap();
        std::thread::sleep(away);
        self.child = Self::spawn(dir).unwrap();
        self.await_port();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message: topic, payload, whether it was retained from before.
type Message = (String, Vec<u8>, bool);

/// Collects messages from now on; returns once it is subscribed.
fn subscribe(port: u16, id: &str, filter: &'static str) -> Arc<Mutex<Vec<Message>>> {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(600));
    options.set_receive_maximum(Some(65_535));
    let (client, mut connection) = Client::new(options, 64);
    client.subscribe(filter, QoS::AtLeastOnce).unwrap();
    let messages = Arc::new(Mutex::new(Vec::new()));
    let (ready, subscribed) = std::sync::mpsc::channel();
    let theirs = Arc::clone(&messages);
    std::thread::spawn(move || {
        let _client = client;
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let topic = String::from_utf8(message.topic.to_vec()).unwrap();
                    theirs.lock().unwrap().push((topic, message.payload.to_vec(), message.retain));
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    });
    subscribed.recv_timeout(Duration::from_secs(10)).unwrap();
    messages
}

fn frames_of(messages: &Mutex<Vec<Message>>) -> Vec<Vec<u8>> {
    messages.lock().unwrap().iter().map(|(_, payload, _)| payload.clone()).collect()
}

fn options(port: u16, dir: &Path, tier: Tier, seconds: u64) -> Options {
    Options {
        outputs: vec![Output::Mqtt(format!("mqtt://127.0.0.1:{port}").parse().unwrap())],
        block: false,
        ..quick(tier, seconds, dir)
    }
}

#[test]
fn every_frame_is_acknowledged_and_catalogues_are_retained_on_their_own_topics() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = Mosquitto::start(dir.path()) else { return };
    let messages = subscribe(broker.port, "all", "pitwire/#");
    let mut options = options(broker.port, dir.path(), Tier::Wide, 3);
    options.cars = vec!["44".to_owned(), "45".to_owned()];
    let summary = firmware_sim::run(options, &Stop::new()).unwrap();
    assert!(summary.problems.is_empty() && summary.samples_dropped() == 0, "{summary:?}");
    eventually("all frames arrive", || messages.lock().unwrap().len() as u64 >= summary.frames());

    let mut sent = 0;
    for car in ["44", "45"] {
        let of_car: Vec<_> =
            messages.lock().unwrap().iter().filter(|m| m.0.starts_with(&format!("pitwire/{car}/"))).cloned().collect();
        for (topic, payload, _) in &of_car {
            let (header, frame) = pitwire_wire::decode(payload).unwrap();
            let expected = match frame {
                pitwire_wire::Payload::Describe(part) => {
                    format!("pitwire/{car}/{}/describe/{}", header.device, part.part)
                }
                _ => format!("pitwire/{car}/{}", header.device),
            };
            assert_eq!(topic, &expected);
        }
        sent += receive(&of_car.into_iter().map(|m| m.1).collect::<Vec<_>>()).samples();
    }
    assert_eq!(sent, summary.samples());

    let late = subscribe(broker.port, "late", "pitwire/44/ecu/#");
    eventually("retained catalogues come", || late.lock().unwrap().len() > 5);
    assert!(
        late.lock()
            .unwrap()
            .iter()
            .all(|(topic, _, retained)| *retained && topic.starts_with("pitwire/44/ecu/describe/"))
    );
}

#[test]
fn broker_that_goes_away_and_comes_back_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = Mosquitto::start(dir.path()) else { return };
    let messages = subscribe(broker.port, "all", "pitwire/#");
    let mut options = options(broker.port, dir.path(), Tier::Can, 6);
    options.speed = Speed::Times(1.0);
    options.rate_factor = 10.0;
    let running = std::thread::spawn(move || firmware_sim::run(options, &Stop::new()).unwrap());
    std::thread::sleep(Duration::from_millis(1_500));
    broker.restart(dir.path(), Duration::from_millis(1_500));
    let summary = running.join().unwrap();
    assert!(summary.problems.is_empty() && summary.samples_dropped() == 0, "{summary:?}");
    let manifest = Manifest::read(&manifest_in(dir.path()));
    eventually("all samples arrive", || receive(&frames_of(&messages)).samples() >= manifest.samples());
    let received = receive(&frames_of(&messages));
    assert_eq!(received.slots, manifest.slots);
    assert!(manifest.samples() > 80_000, "{}", manifest.samples());
}

#[test]
fn faults_hit_messages_too_and_never_the_retained_catalogues() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = Mosquitto::start(dir.path()) else { return };
    let messages = subscribe(broker.port, "all", "pitwire/#");
    let mut options = options(broker.port, dir.path(), Tier::Can, 20);
    options.faults =
        ["flip@every=20", "duplicate@every=25", "garbage@1s:4KiB"].map(|fault| fault.parse().unwrap()).to_vec();
    let summary = firmware_sim::run(options, &Stop::new()).unwrap();
    let manifest = Manifest::read(&manifest_in(dir.path()));
    let duplicates = manifest.faults.iter().filter(|f| f.fault == "duplicate").count() as u64;
    let expected = summary.frames() + duplicates + 4;
    eventually("all messages arrive", || messages.lock().unwrap().len() as u64 >= expected);
    let (good, bad): (Vec<_>, Vec<_>) =
        frames_of(&messages).into_iter().partition(|frame| pitwire_wire::decode(frame).is_ok());
    let received = receive(&good);
    assert_eq!(received.missing(&manifest), manifest.fault_samples("flip"));
    assert_eq!(summary.samples_hit(), manifest.fault_samples("flip"));
    assert_eq!(received.repeated, duplicates);
    assert_eq!(bad.len(), manifest.faults.iter().filter(|f| f.fault == "flip").count() + 4);
    assert!(
        messages
            .lock()
            .unwrap()
            .iter()
            .filter(|m| m.0.contains("/describe/"))
            .all(|m| pitwire_wire::decode(&m.1).is_ok())
    );
}

#[test]
fn broker_that_is_not_there_is_given_up_at_once_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let simulator = Simulator::prepare(options(port, dir.path(), Tier::Club, 1)).unwrap();
    let stop = Stop::new();
    let running = std::thread::spawn({
        let stop = stop.clone();
        move || simulator.run(&stop).unwrap()
    });
    std::thread::sleep(Duration::from_millis(500));
    stop.abort();
    let summary = running.join().unwrap();
    assert!(summary.problems[0].contains("not acknowledged"), "{:?}", summary.problems);
    assert_eq!(Manifest::read(&manifest_in(dir.path())).samples(), summary.samples());
}

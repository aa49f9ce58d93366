//! A mosquitto of our own, ended by its process id, and a client to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Event, MqttOptions};

use super::{Bench, PATIENCE, eventually, signal, skip};

pub(crate) struct Broker {
    child: Child,
    config: PathBuf,
    port: u16,
}

impl Broker {
    /// At its default settings, but that it queues without bound for who is away. `None` where mosquitto is not
    /// installed, said loudly.
    pub(crate) fn start(bench: &Bench) -> Option<Self> {
        Self::start_with(bench, "")
    }

    /// One that keeps what it holds on disk, as soon as it holds it, so that it may be ended and started again.
    pub(crate) fn start_with_a_disk(bench: &Bench) -> Option<Self> {
        let dir = bench.path("mosquitto");
        std::fs::create_dir(&dir).unwrap();
        let place = format!("persistence true\npersistence_location {}/\n", dir.display());
        Self::start_with(bench, &(place + "autosave_on_changes true\nautosave_interval 1\n"))
    }

    /// One that writes down what it has when it is told to end, and only then: it stays fast.
    pub(crate) fn start_that_can_restart(bench: &Bench) -> Option<Self> {
        let dir = bench.path("mosquitto");
        std::fs::create_dir(&dir).unwrap();
        Self::start_with(bench, &format!("persistence true\npersistence_location {}/\n", dir.display()))
    }

    fn start_with(bench: &Bench, more: &str) -> Option<Self> {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = bench.path("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n{more}");
        std::fs::write(&config, text).unwrap();
        match spawn(&config) {
            Ok(child) => {
                let broker = Self { child, config, port };
                broker.until_it_listens();
                Some(broker)
            }
            Err(error) => {
                skip(&test, &format!("mosquitto does not start here ({error}): apt-get install mosquitto"));
                None
            }
        }
    }

    fn until_it_listens(&self) {
        eventually("mosquitto listens", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Ends it as a system that restarts would, and starts it again.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        signal("TERM", self.child.id());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "mosquitto ends with {status}");
        self.begin_anew();
    }

    /// Ends it outright, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.child = spawn(&self.config).unwrap();
        self.until_it_listens();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Takes the session of the client called so, receives what waits for it and acknowledges none.
    pub(crate) fn take_over(&self, client_id: &str, length: Duration) {
        let mut options = MqttOptions::new(client_id, "127.0.0.1", self.port);
        options.set_clean_start(false).set_session_expiry_interval(Some(600)).set_manual_acks(true);
        let (_client, mut connection) = Client::new(options, 64);
        let until = Instant::now() + length;
        // It ends with an error as soon as the agent takes its place back.
        while let Some(left) = until.checked_duration_since(Instant::now())
            && let Ok(Ok(_)) = connection.recv_timeout(left)
        {}
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Publishes at QoS 1, in order; returns when the broker has acknowledged all.
    pub(crate) fn publish(&self, topic: &str, payloads: &[Vec<u8>]) {
        let mut options = MqttOptions::new("publisher", "127.0.0.1", self.port);
        options.set_connection_timeout(PATIENCE.as_secs());
        let (client, mut connection) = Client::new(options, payloads.len() + 1);
        for payload in payloads {
            client.publish(topic, QoS::AtLeastOnce, false, payload.clone()).unwrap();
        }
        let mut acknowledged = 0;
        for event in connection.iter() {
            if let Event::Incoming(Packet::PubAck(_)) = event.unwrap() {
                acknowledged += 1;
                if acknowledged == payloads.len() {
                    return;
                }
            }
        }
    }

    /// What the broker still holds for a client that is away: takes its place, and asks for a message of
    /// our own, before which everything that waits is delivered.
    pub(crate) fn held_for(&self, client_id: &str) -> Vec<Vec<u8>> {
        const LAST: &str = "the last one";
        let mut options = MqttOptions::new(client_id, "127.0.0.1", self.port);
        options.set_clean_start(false).set_session_expiry_interval(Some(600)).set_receive_maximum(Some(65_535));
        let (client, mut connection) = Client::new(options, 64);
        let mut held = Vec::new();
        while let Ok(event) = connection.recv_timeout(Duration::from_secs(20)) {
            match event.unwrap() {
                Event::Incoming(Packet::ConnAck(ack)) => {
                    assert!(ack.session_present, "the agent's session is gone");
                    client.subscribe(LAST, QoS::AtLeastOnce).unwrap();
                    client.publish(LAST, QoS::AtLeastOnce, false, LAST).unwrap();
                }
                Event::Incoming(Packet::Publish(message)) if message.payload == LAST => return held,
                Event::Incoming(Packet::Publish(message)) => held.push(message.payload.to_vec()),
                _ => {}
            }
        }
        panic!("the broker does not deliver the last message");
    }
}

fn spawn(config: &Path) -> std::io::Result<Child> {
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("mosquitto");
    command.env("PATH", path).arg("-c").arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

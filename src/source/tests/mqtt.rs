//! MQTT sources against a real mosquitto on a port of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::task::JoinHandle;

use super::*;
use crate::receipt::Receipt;

mod busy;
mod rude;
mod versions;

/// Whatever is promised holds in both.
const PROTOCOLS: [Protocol; 2] = [Protocol::V5, Protocol::V311];

/// A broker of our own, ended by its process id.
struct Broker {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Broker {
    /// `None`, said loudly, where mosquitto is not installed.
    async fn start(test: &str, access: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = format!("listener {port} 127.0.0.1\n{access}\nuser root\nmax_queued_messages 0\n");
        let file = dir.path().join("mosquitto.conf");
        std::fs::write(&file, config).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let started = Command::new("mosquitto")
            .env("PATH", path)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match started {
            Ok(child) => child,
            Err(error) => {
                skip(test, &format!("mosquitto cannot be started ({error}): apt-get install mosquitto"));
                return None;
            }
        };
        let broker = Self { child, port, _dir: dir };
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(broker)
    }

    async fn open(test: &str) -> Option<Self> {
        Self::start(test, "allow_anonymous true").await
    }

    /// Publishes numbered messages and waits until the broker has them.
    async fn publish(&self, numbers: std::ops::Range<u32>) {
        self.publish_all(numbers.map(|number| number.to_string().into_bytes()).collect()).await;
    }

    async fn publish_all(&self, payloads: Vec<Vec<u8>>) {
        let mut options = MqttOptions::new("publisher", "127.0.0.1", self.port);
        options.set_keep_alive(Duration::from_secs(20));
        let (client, mut event_loop) = AsyncClient::new(options, 10_000);
        let mut left = payloads.len();
        for payload in payloads {
            client.try_publish("t/a", QoS::AtLeastOnce, false, payload).unwrap();
        }
        let acknowledged = async {
            while left > 0 {
                if let Event::Incoming(Packet::PubAck(_)) = event_loop.poll().await.unwrap() {
                    left -= 1;
                }
            }
            client.try_disconnect().unwrap();
            while event_loop.poll().await.is_ok_and(|e| !matches!(e, Event::Outgoing(rumqttc::Outgoing::Disconnect))) {}
        };
        tokio::time::timeout(PATIENCE, acknowledged).await.expect("the broker takes the messages");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A wire to the broker that can be cut.
struct Wire {
    port: u16,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: JoinHandle<()>,
}

impl Wire {
    async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listener.local_addr().unwrap().port();
        let connections: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let all = connections.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let copy = async move {
                    if let Ok(mut far) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                };
                all.lock().unwrap().push(tokio::spawn(copy));
            }
        });
        Self { port: ours, connections, accepting }
    }

    fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

fn speaking(protocol: Protocol, port: u16) -> MqttConfig {
    MqttConfig { protocol, ..config(port) }
}

fn config(port: u16) -> MqttConfig {
    MqttConfig::new("src", &format!("mqtt://127.0.0.1:{port}"), &["t/#".to_owned()])
}

/// A source that has subscribed.
async fn start(config: MqttConfig) -> (Ends, JoinHandle<()>) {
    let (outlet, ends) = ends("mqtt");
    let source = tokio::spawn(run_mqtt(config, "agent".into(), outlet));
    ends.until(SourceState::Connected, "").await;
    (ends, source)
}

fn number(message: &RawMessage) -> u32 {
    match &message.body {
        Body::Message { topic, payload } => {
            assert_eq!(&topic[..], b"t/a");
            std::str::from_utf8(payload).unwrap().parse().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

async fn take(ends: &mut Ends, count: usize) -> Vec<(u32, Receipt)> {
    let mut all = Vec::new();
    while all.len() < count {
        let message = ends.next().await;
        all.push((number(&message), message.receipt));
    }
    all
}

fn numbers(all: &[(u32, Receipt)]) -> Vec<u32> {
    all.iter().map(|(number, _)| *number).collect()
}

/// As a crash ends it: no word to the broker.
async fn kill(source: JoinHandle<()>) {
    source.abort();
    assert!(source.await.unwrap_err().is_cancelled());
}

/// What a fresh source is sent of what is still unacknowledged.
async fn left(protocol: Protocol, port: u16) -> Vec<u32> {
    let (mut ends, source) = start(speaking(protocol, port)).await;
    let mut all = Vec::new();
    while let Some(message) = ends.within(Duration::from_millis(500)).await {
        // Its receipt is kept, or the source would have it sent again.
        all.push((number(&message), message.receipt));
    }
    kill(source).await;
    numbers(&all)
}

/// Lets what was settled reach the broker.
async fn pass() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn acknowledgements_leave_in_order_of_arrival_and_a_crash_leaves_the_rest_with_the_broker() {
    for protocol in PROTOCOLS {
        let Some(broker) = Broker::open("acknowledgements_leave_in_order_of_arrival").await else { return };
        let (mut ends, source) = start(speaking(protocol, broker.port)).await;
        broker.publish(0..6).await;
        let mut all = take(&mut ends, 6).await;
        assert_eq!(numbers(&all), [0, 1, 2, 3, 4, 5]);
        for settled in [4, 1, 0] {
            all.remove(settled).1.settle();
        }
        pass().await;
        kill(source).await;
        drop(all);
        // Also what comes while nobody is there.
        broker.publish(6..8).await;
        assert_eq!(left(protocol, broker.port).await, [2, 3, 4, 5, 6, 7], "4 is settled, but 2 came before it");
    }
}

#[tokio::test]
async fn receive_maximum_lets_more_in_flight_than_the_brokers_own_window() {
    let Some(broker) = Broker::open("receive_maximum_lets_more_in_flight").await else { return };
    let (mut ends, source) = start(MqttConfig { receive_maximum: 150, ..config(broker.port) }).await;
    broker.publish(0..200).await;
    let mut all = take(&mut ends, 150).await;
    assert!(ends.is_quiet().await, "and no more than it says");
    all.remove(0).1.settle();
    all.extend(take(&mut ends, 1).await);
    assert_eq!(all.last().map(|(number, _)| *number), Some(150));
    kill(source).await;
}

#[tokio::test]
async fn what_settles_at_once_is_acknowledged_though_the_broker_has_sent_more_than_it_was_allowed() {
    let Some(broker) = Broker::open("what_settles_at_once_is_acknowledged").await else { return };
    let (mut ends, source) = start(MqttConfig { receive_maximum: 20, ..config(broker.port) }).await;
    broker.publish(0..2_000).await;
    let (mut seen, mut most) = (Vec::new(), 0);
    while seen.len() < 2_000 {
        // All that it sends by itself, settled together.
        let mut round = take(&mut ends, 1).await;
        while let Some(message) = ends.within(Duration::from_millis(100)).await {
            round.push((number(&message), message.receipt));
        }
        most = most.max(round.len());
        seen.extend(numbers(&round));
        round.into_iter().for_each(|(_, receipt)| receipt.settle());
    }
    assert!(seen.into_iter().eq(0..2_000));
    pass().await;
    kill(source).await;
    assert_eq!(left(Protocol::V5, broker.port).await, [0; 0], "up to {most} were sent ahead");
}

#[tokio::test]
async fn a_redelivery_after_a_cut_is_acknowledged_with_its_original() {
    for protocol in PROTOCOLS {
        let Some(broker) = Broker::open("a_redelivery_after_a_cut").await else { return };
        let wire = Wire::to(broker.port).await;
        let (mut ends, source) = start(speaking(protocol, wire.port)).await;
        broker.publish(0..2).await;
        let originals = take(&mut ends, 2).await;
        wire.cut();
        let again = take(&mut ends, 2).await;
        assert_eq!(numbers(&again), [0, 1]);
        for ((_, original), (_, repeat)) in originals.iter().zip(again) {
            assert!(original.watch().join(repeat).is_ok());
        }
        originals.into_iter().for_each(|(_, original)| original.settle());
        pass().await;
        kill(source).await;
        assert_eq!(left(protocol, broker.port).await, [0; 0]);
    }
}

#[tokio::test]
async fn a_receipt_of_an_old_connection_acknowledges_nothing() {
    for protocol in PROTOCOLS {
        let Some(broker) = Broker::open("a_receipt_of_an_old_connection").await else { return };
        let wire = Wire::to(broker.port).await;
        let (mut ends, source) = start(speaking(protocol, wire.port)).await;
        broker.publish(0..1).await;
        let old = take(&mut ends, 1).await;
        wire.cut();
        let again = take(&mut ends, 1).await;
        old.into_iter().for_each(|(_, receipt)| receipt.settle());
        pass().await;
        kill(source).await;
        drop(again);
        assert_eq!(left(protocol, broker.port).await, [0]);
    }
}

#[tokio::test]
async fn a_receipt_that_becomes_void_makes_the_broker_send_again_instead_of_stalling() {
    let Some(broker) = Broker::open("a_receipt_that_becomes_void").await else { return };
    let (mut ends, source) = start(MqttConfig { receive_maximum: 3, ..config(broker.port) }).await;
    broker.publish(0..4).await;
    let first = take(&mut ends, 3).await;
    drop(first);
    let again = take(&mut ends, 3).await;
    assert_eq!(numbers(&again), [0, 1, 2]);
    again.into_iter().for_each(|(_, receipt)| receipt.settle());
    let last = take(&mut ends, 1).await;
    assert_eq!(numbers(&last), [3]);
    last.into_iter().for_each(|(_, receipt)| receipt.settle());
    pass().await;
    kill(source).await;
    assert_eq!(left(Protocol::V5, broker.port).await, [0; 0]);
}

#[tokio::test]
async fn a_stop_acknowledges_what_settles_in_time_and_leaves_the_rest_with_the_broker() {
    for protocol in PROTOCOLS {
        let Some(broker) = Broker::open("a_stop_acknowledges_what_settles_in_time").await else { return };
        let (mut ends, source) = start(speaking(protocol, broker.port)).await;
        broker.publish(0..4).await;
        let mut all = take(&mut ends, 4).await;
        all.remove(0).1.settle();
        ends.stop.cancel();
        let closed =
            tokio::time::timeout(PATIENCE, ends.out.recv()).await.expect("the way into the pipeline is given up");
        assert!(closed.is_none());
        broker.publish(4..5).await;
        all.remove(0).1.settle();
        ends.settled.cancel();
        tokio::time::timeout(PATIENCE, source).await.expect("it ends").unwrap();
        drop(all);
        assert_eq!(left(protocol, broker.port).await, [2, 3, 4]);
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_with_what_to_do() {
    let port = free_port();
    let (outlet, ends) = ends("mqtt");
    let source = tokio::spawn(run_mqtt(config(port), "agent".into(), outlet));
    ends.until(SourceState::Down, "check that the broker runs and source.mqtt.url").await;
    assert!(ends.gauges.condition().detail.contains(&format!("mqtt://127.0.0.1:{port}")));
    assert!(!ends.gauges.was_connected());
    ends.stop.cancel();
    tokio::time::timeout(PATIENCE, source).await.expect("a stop ends the waiting").unwrap();
}

#[tokio::test]
async fn a_broker_that_wants_a_password_says_where_to_put_it() {
    let Some(broker) = Broker::start("a_broker_that_wants_a_password", "allow_anonymous false").await else { return };
    let (outlet, ends) = ends("mqtt");
    let source = tokio::spawn(run_mqtt(config(broker.port), "agent".into(), outlet));
    ends.until(SourceState::Down, "check user and password_file").await;
    ends.stop.cancel();
    tokio::time::timeout(PATIENCE, source).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_password_file_that_is_missing_is_named() {
    let (outlet, ends) = ends("mqtt");
    let mut config = config(1);
    (config.user, config.password_file) = (Some("pit".into()), Some("/nonexistent/secret".into()));
    let source = tokio::spawn(run_mqtt(config, "agent".into(), outlet));
    ends.until(SourceState::Down, "read /nonexistent/secret").await;
    ends.stop.cancel();
    tokio::time::timeout(PATIENCE, source).await.expect("it ends").unwrap();
}

#[test]
fn urls_are_understood_or_refused_with_what_would_be_right() {
    let of = |url: &str| MqttConfig { url: url.into(), ..config(1) }.address();
    assert_eq!(of("mqtt://h"), Ok(("h".into(), 1883, false)));
    assert_eq!(of("mqtts://h:99/"), Ok(("h".into(), 99, true)));
    assert_eq!(of("mqtt://[::1]:5"), Ok(("::1".into(), 5, false)));
    for wrong in ["h:1883", "mqtt://", "mqtt://h:x", "mqtt://h/topic", "http://h"] {
        assert!(of(wrong).unwrap_err().contains("mqtt://host:port"), "{wrong}");
    }
    assert!(of("mqtt://me:secret@h").unwrap_err().contains("password_file"));
}

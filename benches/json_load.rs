//! Load for `benches/cassandra`: JSON messages to a broker at QoS 1 as fast as it acknowledges them, and a subscriber that
//! only counts. It speaks MQTT by itself, so that what is measured is the broker and who is behind it, and not the load.
//!
//! ```text
//! json_load publish HOST:PORT TOPIC MESSAGES CHANNELS START_MS [PER_SECOND]
//!     each message has CHANNELS values; with one, the messages take turns at 100 channels
//! json_load subscribe HOST:PORT TOPIC MESSAGES
//! ```
//! Both print one line of JSON at their end: messages and seconds, from the first to the last.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark ends at the first fault, and its words are its result"
)]

use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Messages on their way to the broker.
const WINDOW: u64 = 2_000;
/// Messages that a broker may send before the first is acknowledged.
const RECEIVE_MAXIMUM: u16 = 4_096;
/// Messages of one write to the socket.
const GROUP: u64 = 50;
/// Channels of messages with one value each.
const CHANNELS: u64 = 100;

fn main() {
    // Cargo's own flag of benchmarks is none of ours.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["publish", address, topic, messages, channels, start_ms, ref rest @ ..] => {
            let per_s = rest.first().map(|per_s| per_s.parse().unwrap());
            let [messages, channels, start_ms] = [messages, channels, start_ms].map(|number| number.parse().unwrap());
            publish(address, topic, messages, channels, start_ms, per_s);
        }
        ["subscribe", address, topic, messages] => subscribe(address, topic, messages.parse().unwrap()),
        // `cargo bench` runs all benchmarks.
        _ => println!("json_load: a part of benches/cassandra; nothing to measure by itself"),
    }
}

fn report(messages: u64, took: Duration) {
    println!("{{\"messages\": {messages}, \"seconds\": {:.6}}}", took.as_secs_f64());
}

fn message(number: u64, channels: u64, start_ms: u64) -> String {
    let (turn, from, to) = if channels == 1 {
        (number / CHANNELS, number % CHANNELS, number % CHANNELS + 1)
    } else {
        (number, 0, channels)
    };
    let mut text = format!("{{\"ts\": {}, \"values\": {{", start_ms + turn);
    for channel in from..to {
        // Four digits that wander: neither constant nor noise.
        let value = ((turn as f64 * 0.01 + channel as f64).sin() * 5_000.0).round() / 10.0;
        let comma = if channel > from { ", " } else { "" };
        let _ = write!(text, "{comma}\"sensor.{channel:03}\": {value}");
    }
    text.push_str("}}");
    text
}

fn publish(address: &str, topic: &str, messages: u64, channels: u64, start_ms: u64, per_s: Option<f64>) {
    let mut socket = connect(address, "load-publisher", 4);
    let acknowledged = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let mut answers = BufReader::new(socket.try_clone().unwrap());
        let acknowledged = &acknowledged;
        scope.spawn(move || {
            for _ in 0..messages {
                let (kind, _) = packet(&mut answers);
                assert_eq!(kind >> 4, 4, "an acknowledgement");
                acknowledged.fetch_add(1, Ordering::Release);
            }
        });
        let mut out = Vec::new();
        for number in 0..messages {
            put_publish(&mut out, topic, (number % 65_535 + 1) as u16, message(number, channels, start_ms).as_bytes());
            if number % GROUP == GROUP - 1 || number + 1 == messages {
                socket.write_all(&out).unwrap();
                out.clear();
                if let Some(per_s) = per_s {
                    let due = began + Duration::from_secs_f64(number as f64 / per_s);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                while number + 1 - acknowledged.load(Ordering::Acquire) > WINDOW {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        }
    });
    report(messages, began.elapsed());
}

fn subscribe(address: &str, topic: &str, messages: u64) {
    let mut socket = connect(address, "load-subscriber", 5);
    let mut subscribe = vec![0, 1, 0];
    put_text(&mut subscribe, topic);
    subscribe.push(1);
    socket.write_all(&framed(0x82, &subscribe)).unwrap();
    let mut input = BufReader::with_capacity(1 << 16, socket.try_clone().unwrap());
    assert_eq!(packet(&mut input).0 >> 4, 9, "the answer to a subscription");
    println!("subscribed");
    let (mut began, mut seen, mut acks) = (Instant::now(), 0, Vec::new());
    while seen < messages {
        let (kind, body) = packet(&mut input);
        if kind >> 4 != 3 {
            continue;
        }
        if seen == 0 {
            began = Instant::now();
        }
        seen += 1;
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        acks.extend_from_slice(&[0x40, 2, body[2 + topic], body[3 + topic]]);
        // As many in one write as came together.
        if input.buffer().is_empty() || acks.len() > 4_096 {
            socket.write_all(&acks).unwrap();
            acks.clear();
        }
    }
    socket.write_all(&acks).unwrap();
    report(messages, began.elapsed());
}

fn connect(address: &str, client: &str, version: u8) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    // Clean start; kept alive for an hour.
    body.extend_from_slice(&[version, 2, 0x0E, 0x10]);
    if version == 5 {
        let [high, low] = RECEIVE_MAXIMUM.to_be_bytes();
        body.extend_from_slice(&[3, 0x21, high, low]);
    }
    put_text(&mut body, client);
    socket.write_all(&framed(0x10, &body)).unwrap();
    let (kind, body) = packet(&mut socket);
    assert_eq!((kind >> 4, body[1]), (2, 0), "the broker takes the connection");
    socket
}

fn put_publish(out: &mut Vec<u8>, topic: &str, id: u16, payload: &[u8]) {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    put_text(&mut body, topic);
    body.extend_from_slice(&id.to_be_bytes());
    body.extend_from_slice(payload);
    out.extend_from_slice(&framed(0x32, &body));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut left) = (vec![kind], body.len());
    loop {
        let byte = (left & 0x7F) as u8;
        left >>= 7;
        out.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// The next packet's first byte and what follows its length.
fn packet(input: &mut impl Read) -> (u8, Vec<u8>) {
    let mut byte = [0];
    input.read_exact(&mut byte).unwrap();
    let kind = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        input.read_exact(&mut byte).unwrap();
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).unwrap();
    (kind, body)
}

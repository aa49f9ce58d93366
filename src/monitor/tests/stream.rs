//! The live stream, as a browser sees it and by itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_core::Stream;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::Semaphore;

use super::*;
use crate::clock::SystemClock;
use crate::limits::{LIVE_BIN_US, LIVE_CLIENT_CHANNELS_MAX, LIVE_CLIENTS_MAX};
use crate::monitor::stream::LiveStream;

/// A client of the stream, past the head of its answer.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn open(monitor: &Running, query: &str) -> Self {
        let stream = monitor.send("GET", &format!("/api/v1/live{query}"), &[("host", "localhost")]).await;
        let mut client = Self(BufReader::new(stream));
        assert_eq!(client.line().await.as_deref(), Some("HTTP/1.1 200 OK"));
        let mut headers = Vec::new();
        while let Some(line) = client.line().await.filter(|line| !line.is_empty()) {
            headers.push(line);
        }
        assert!(headers.iter().any(|line| line == "content-type: text/event-stream"), "{headers:?}");
        client
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("the stream goes on").unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; an event is never split over chunks, so that lines with chunk sizes can be skipped.
    async fn event(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(name) = self.line().await?.strip_prefix("event: ") {
                let data = self.line().await?;
                let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{name} without data: {data}"));
                return Some((name.to_owned(), serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// The next event called `name`.
    async fn next(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.event().await.expect("the stream goes on");
            if found == name {
                return data;
            }
        }
    }

    /// The next points that bring something.
    async fn news(&mut self) -> Value {
        loop {
            let series = self.next("points").await["series"].take();
            if series != json!({}) {
                return series;
            }
        }
    }
}

#[tokio::test]
async fn the_first_points_carry_the_history_and_later_ones_only_news() {
    let monitor = Running::start().await;
    post(&monitor.board, "engine.rpm", 0, &[(0, 1.0), (LIVE_BIN_US, 2.0), (LIVE_BIN_US + 1, 4.0)]);
    post(&monitor.board, "not.asked.for", 0, &[(0, 1.0)]);
    let mut client = Client::open(&monitor, "?channels=44/ecu/engine.rpm,44%2Fecu%2Fcomes.later").await;
    let (name, first) = client.event().await.unwrap();
    assert_eq!(name, "points");
    assert_eq!(first["series"], json!({"44/ecu/engine.rpm": [[0, 1.0, 1.0], [LIVE_BIN_US, 2.0, 4.0]]}));
    assert!(first["now_us"].as_i64().unwrap() > 1_700_000_000_000_000);
    assert_eq!(client.next("points").await["series"], json!({}));

    post(&monitor.board, "engine.rpm", 0, &[(LIVE_BIN_US + 2, -1.0)]);
    assert_eq!(client.news().await, json!({"44/ecu/engine.rpm": [[LIVE_BIN_US, -1.0, 4.0]]}), "a bin that grew");
    post(&monitor.board, "comes.later", 0, &[(7 * LIVE_BIN_US, 3.0)]);
    assert_eq!(client.news().await, json!({"44/ecu/comes.later": [[7 * LIVE_BIN_US, 3.0, 3.0]]}));
}

#[tokio::test]
async fn values_of_all_channels_and_the_status_come_at_once_and_again() {
    let monitor = Running::start().await;
    post(&monitor.board, "engine.rpm", 0, &[(5, 11_250.0)]);
    post(&monitor.board, "gap", 0, &[(6, f64::NAN)]);
    let mut client = Client::open(&monitor, "").await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let (name, data) = client.event().await.unwrap();
        if name == "values" {
            assert_eq!(data["values"].as_object().unwrap().len(), 2);
            let rpm = data["values"]["44/ecu/engine.rpm"].as_array().unwrap();
            assert_eq!(rpm[..3], [json!(5), json!(11_250.0), json!(0)]);
            assert!(rpm[3].as_f64().is_some_and(|age_s| (0.0..20.0).contains(&age_s)), "{rpm:?}");
            assert_eq!(data["values"]["44/ecu/gap"][1], Value::Null);
        }
        if name == "status" {
            assert_eq!(data["ledger"]["received"], json!(100));
        }
        names.push(name);
    }
    assert_eq!(names, ["points", "values", "status"]);
    let begun = Instant::now();
    client.next("values").await;
    client.next("status").await;
    assert!(begun.elapsed() > Duration::from_millis(700), "the status came again after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_cannot_follow_gets_one_event_of_now_instead_of_those_it_missed() {
    let board = LiveBoard::new();
    post(&board, "a", 0, &[(0, 1.0)]);
    let ready = Arc::new(|| Readiness { ready: true, waiting_for: vec![] });
    let view = View { status: Arc::new(status), ready, live: board.clone(), clock: SystemClock::shared() };
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let mut stream = LiveStream::new(view, &["44/ecu/a"], CancellationToken::new(), place);
    let mut next = async || {
        let item = timeout(PATIENCE, poll_fn(|cx| Pin::new(&mut stream).poll_next(cx))).await.unwrap();
        String::from_utf8(item.unwrap().unwrap().to_vec()).unwrap()
    };
    assert_eq!(next().await.matches("event: ").count(), 3);
    for bin in 1..=12 {
        post(&board, "a", 0, &[(bin * LIVE_BIN_US, 1.0)]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let events = next().await;
    assert_eq!(events.matches("event: points").count(), 1, "{events}");
    assert_eq!(events.matches("event: values").count(), 1);
    assert_eq!(events.matches("event: status").count(), 1);
    assert_eq!(events.matches(",1.0,1.0]").count(), 12, "all bins in between: {events}");
    let at_once = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_next(cx).is_pending())).await;
    assert!(at_once, "nothing is made up for");
}

#[tokio::test]
async fn one_client_too_many_is_told_so_and_a_place_that_is_left_is_free_again() {
    let monitor = Running::start().await;
    let mut clients = Vec::new();
    for _ in 0..LIVE_CLIENTS_MAX {
        clients.push(Client::open(&monitor, "").await);
    }
    let refused = monitor.get("/api/v1/live").await;
    refused.assert_error(503, "32 clients");
    assert!(refused.headers.contains_key("retry-after"));
    let metrics = monitor.get("/metrics").await;
    assert!(metrics.body.contains("\npitwire_live_clients 32\n"), "{}", metrics.body);

    drop(clients.pop());
    let left = Instant::now();
    while monitor.get("/metrics").await.body.contains("\npitwire_live_clients 32\n") {
        assert!(left.elapsed() < PATIENCE, "the place of a client that left stays taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Client::open(&monitor, "").await.next("status").await;
}

#[tokio::test]
async fn more_channels_than_a_stream_takes_are_refused() {
    let monitor = Running::start().await;
    let keys = |count: usize| (0..count).map(|key| format!("44/ecu/{key}")).collect::<Vec<_>>().join(",");
    let many = monitor.get(&format!("/api/v1/live?channels={}", keys(LIVE_CLIENT_CHANNELS_MAX + 1))).await;
    many.assert_error(400, "one stream takes 64");
    let query = format!("?channels={}", keys(LIVE_CLIENT_CHANNELS_MAX));
    Client::open(&monitor, &query).await.next("points").await;
}

#[tokio::test]
async fn the_end_of_the_agent_ends_streams_and_the_server() {
    let monitor = Running::start().await;
    let mut client = Client::open(&monitor, "").await;
    client.next("status").await;
    let idle = TcpStream::connect(monitor.addr).await.unwrap();
    monitor.shutdown.cancel();
    while client.event().await.is_some() {}
    timeout(PATIENCE, monitor.server).await.expect("the server ends").unwrap();
    drop(idle);
    assert!(TcpStream::connect(monitor.addr).await.is_err(), "the port is closed");
}

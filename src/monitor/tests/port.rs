//! The port: where it may be, who has it, and how many may come.

use super::*;
use crate::limits::MONITOR_CONNECTIONS_MAX;

#[test]
fn the_default_is_the_loopback_port_of_the_page() {
    let config: Config = toml::from_str("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!((config.enabled, config.listen.addr()), (true, "127.0.0.1:8710".parse().unwrap()));
    let config: Config = toml::from_str("enabled = false\nlisten = \"[::1]:80\"").unwrap();
    assert_eq!((config.enabled, config.listen.addr()), (false, "[::1]:80".parse().unwrap()));
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn an_address_that_others_could_reach_is_refused_with_the_line_and_the_way_out() {
    for (line, says) in [
        ("listen = \"0.0.0.0:8710\"", "not a loopback address"),
        ("listen = \"192.168.1.5:80\"", "write \"127.0.0.1:80\""),
        ("listen = \"[::]:8710\"", "ssh -L"),
        ("listen = \"localhost:8710\"", "write for example \"127.0.0.1:8710\""),
        ("listen = \"127.0.0.1\"", "no address with a port"),
        ("listen = 8710", "expected a string"),
        ("port = 8710", "unknown field `port`"),
    ] {
        let error = toml::from_str::<Config>(line).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("line 1"), "{line}: {error}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_key_to_change() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = holder.local_addr().unwrap();
    let error = bind(&Config { listen: Listen(addr), ..Config::default() }).await.unwrap_err();
    assert!(matches!(error, MonitorError::InUse { .. }));
    let error = error.to_string();
    for part in [addr.to_string().as_str(), "in use", "another pitwire", "`listen` in [monitor]"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn the_demo_takes_the_next_port_that_is_free() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    let next = bind_first_free(taken).await.unwrap().local_addr().unwrap();
    assert!(next.ip().is_loopback());
    assert!(next.port() > taken && next.port() <= taken.saturating_add(100), "{taken} {next}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_stay() {
    let monitor = Running::start().await;
    let mut held = Vec::new();
    for _ in 0..MONITOR_CONNECTIONS_MAX {
        held.push(TcpStream::connect(monitor.addr).await.unwrap());
    }
    let mut refused = TcpStream::connect(monitor.addr).await.unwrap();
    let mut nothing = Vec::new();
    let _ = timeout(PATIENCE, refused.read_to_end(&mut nothing)).await.expect("it is closed");
    assert_eq!(nothing, b"");

    let mut last = held.pop().unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, last.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    assert_eq!(Answer::parse(&answer).status, 200);
}

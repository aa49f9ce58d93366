//! Each route, and what guards them.

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_status_is_the_contracts_word_for_word() {
    let monitor = Running::start().await;
    let answer = monitor.get("/api/v1/status").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let mut account = json!({
        "received": 100, "recovered": 10, "stored": 80, "backlog": 15, "in_flight": 5, "quarantined": 3,
        "dropped": {"damaged": 0, "decimate": 0, "memory": 0, "overflow": 0, "validate": 4}, "duplicate": 3, "balanced": true
    });
    let source_account = account.clone();
    account["derived"] = json!({
        "received": 9, "recovered": 0, "stored": 9, "backlog": 0, "in_flight": 0, "quarantined": 0,
        "dropped": {"damaged": 0, "decimate": 0, "memory": 0, "overflow": 0, "validate": 0}, "duplicate": 0, "balanced": true
    });
    account["sources"] = json!({"ecu \"front\"": source_account});
    let device = |boot: u32| {
        json!({"car": "44", "device": "ecu", "boot": boot, "frames": 50, "frames_lost": 2, "samples": 100,
               "samples_lost": 4, "duplicate_frames": 1})
    };
    let expected = json!({
        "version": "0.1.0", "agent": "a1b2", "car": "44", "uptime_s": 12.5, "now_us": 1_790_000_000_000_000_i64,
        "state": "running",
        "ledger": account,
        "sources": [{
            "name": "ecu \"front\"", "kind": "serial", "target": "/dev/ttyACM0", "state": "connected", "detail": "",
            "state_for_s": 3.25, "connects": 1, "bytes": 4096, "messages": 7, "frames": 50, "malformed": 1,
            "garbage_bytes": 9, "held_frames": 2, "quiet_for_s": 0.5, "devices": [device(7), device(8)]
        }],
        "queues": [{"name": "decode", "items": 1, "items_max": 1024, "bytes": 100, "bytes_max": 8_388_608,
                    "items_peak": 3, "blocked_ms": 1500, "empty": 0.75, "full": 0.0}],
        "pipeline": {
            "verdict": {"kind": "stage", "stage": "chunk", "text": "it limits"},
            "stages": [{"name": "chunk", "concurrency": 1, "order": "input", "taken": 12, "given": 6, "failed": 0,
                        "skipped": 0, "busy": 0.75, "starved": 0.25, "blocked": 0.0, "pool_wait": 0.0,
                        "latency_ms": {"p50": 0.25, "p99": null}, "stands_still_for_s": null}]
        },
        "spill": {"state": "draining", "detail": "", "encrypted": true, "locked_segments": 2, "backlog_samples": 15,
                  "backlog_records": 1, "spilled_samples": 115, "disk_bytes": 512, "reserve_bytes": 128,
                  "disk_max_bytes": 2_147_483_648_u64, "segment_bytes": 8_388_608, "written_bytes": 1024, "commits": 1, "syncs": 2, "oldest_age_s": null,
                  "drain": {"done": 85, "total": 100, "rate_per_s": 42.5, "shrinks_per_s": 30.0, "left_s": 0.5},
                  "priorities": [
                      {"priority": "normal", "backlog_samples": 5, "dropped_samples": 0, "disk_bytes": 256},
                      {"priority": "low", "backlog_samples": 10, "dropped_samples": 3, "disk_bytes": 256}],
                  "undeclared_records": 0, "quarantine_records": 1, "quarantine_lost_messages": 2,
                  "recovering": {"segments_done": 1, "segments": 2, "bytes_done": 8, "bytes": 24}},
        "store": {"kind": "sqlite", "url": "sqlite:///var/lib/pitwire/pitwire.db", "state": "up", "detail": "",
                  "rows_written": 8, "samples_written": 80, "bytes_written": 640, "in_flight": 1, "in_flight_limit": 8,
                  "latency_ms": {"p50": 0.5, "p99": 2.0}},
        "deliver": {"mode": "draining", "durable_within_ms": 1000, "flush_after_ms": 200, "alarm": ""},
        "process": {"resident_bytes": 1_048_576, "cpu_s": 0.25},
        "channels": 1,
        "preprocess": [{"step": "validate", "rule": "brake.*", "reason": "out_of_range", "samples": 4,
                        "last": "brake.front 512 bar"}],
        "gaps": [{"reason": "restart", "events": 2, "frames": 30, "samples": 0}],
        "config": {"revision": 2, "since_us": 1_790_000_000_000_000_i64, "refused": 1, "refusal": ""}
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn channels_show_their_last_value_and_null_where_there_is_none() {
    let monitor = Running::start().await;
    assert_eq!(monitor.get("/api/v1/channels").await.json(), json!([]));
    post(&monitor.board, "engine.rpm", 50_000, &[(1_000_000, 11_000.0), (1_020_000, 11_250.0)]);
    post(&monitor.board, "gap", 0, &[(5, f64::NAN)]);
    post(&monitor.board, "never.sampled", 0, &[]);
    let mut channels = monitor.get("/api/v1/channels").await.json();
    for channel in channels.as_array_mut().unwrap() {
        let age_s = channel.as_object_mut().unwrap().remove("age_s").unwrap();
        assert!((0.0..20.0).contains(&age_s.as_f64().unwrap()), "{age_s}");
    }
    let expected = json!([
        {"key": "44/ecu/engine.rpm", "car": "44", "device": "ecu", "channel": "engine.rpm", "derived": false, "unit": "rpm",
         "rate_hz": 50.0, "t_us": 1_020_000, "value": 11_250.0, "quality": 0, "samples": 2},
        {"key": "44/ecu/gap", "car": "44", "device": "ecu", "channel": "gap", "derived": false, "unit": "rpm",
         "rate_hz": null, "t_us": 5, "value": null, "quality": 0, "samples": 1}
    ]);
    assert_eq!(channels, expected);
}

#[tokio::test]
async fn readiness_says_what_it_waits_for() {
    let monitor = Running::start().await;
    assert_eq!(monitor.get("/healthz").await.status, 200);
    let waiting = monitor.get("/readyz").await;
    waiting.assert_error(503, "source ecu: open /dev/ttyACM0");
    assert_eq!(waiting.json()["waiting_for"], json!(["source ecu: open /dev/ttyACM0"]));
    assert_eq!(waiting.json()["ready"], json!(false));
    monitor.ready.store(true, Ordering::Relaxed);
    let ready = monitor.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"ready": true, "waiting_for": []})));
}

#[tokio::test]
async fn the_embedded_page_is_whole_and_keeps_its_own_policy() {
    let monitor = Running::start().await;
    let page = monitor.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers["cache-control"], "no-cache");
    assert!(page.body.contains("Pitwire"));
    assert!(!page.body.contains("<style") && !page.body.contains(" style="), "inline styles are refused by the policy");
    assert!(!page.body.contains("javascript:") && !page.body.contains("<script>"), "so are inline scripts");
    assert!(!page.body.contains("\"data:"), "and embedded data");
    for attribute in ["src=\"", "href=\""] {
        for after in page.body.split(attribute).skip(1) {
            let (link, _) = after.split_once('"').unwrap();
            let outside = link.starts_with('#') || link.contains("://");
            if !outside {
                let path = format!("/{}", link.trim_start_matches("./").trim_start_matches('/'));
                assert_eq!(monitor.get(&path).await.status, 200, "the page refers to {link}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_the_client_has_is_not_sent_again() {
    let monitor = Running::start().await;
    let tag = monitor.get("/index.html").await.headers["etag"].clone();
    for (known, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", {tag}"), 304),
        ("*".into(), 304),
        ("\"other\"".into(), 200),
    ] {
        let answer = monitor.ask("GET", "/", &[("host", "localhost"), ("if-none-match", &known)]).await;
        assert_eq!((answer.status, answer.body.is_empty()), (status, status == 304), "{known}");
        assert_eq!(answer.headers["etag"], tag);
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let monitor = Running::start().await;
    for path in ["/api", "/api/v1/nothing", "/api/v2/status", "/nothing.js", "/../Cargo.toml", "/%2e%2e/Cargo.toml"] {
        monitor.get(path).await.assert_error(404, "here");
    }
    let host = [("host", "localhost")];
    for path in ["/api/v1/status", "/", "/metrics"] {
        monitor.ask("POST", path, &host).await.assert_error(405, "only GET");
    }
    let head = monitor.ask("HEAD", "/api/v1/status", &host).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_name_that_only_resolves_to_this_machine_is_refused() {
    let monitor = Running::start().await;
    let port = monitor.addr.port();
    for host in ["localhost", "LOCALHOST:8710", "127.0.0.1", "127.0.0.2:1", "[::1]:8710", &format!("127.0.0.1:{port}")]
    {
        for path in ["/", "/api/v1/status"] {
            assert_eq!(monitor.ask("GET", path, &[("host", host)]).await.status, 200, "{host}");
        }
    }
    for host in ["evil.example", "evil.example:8710", "localhost.evil.example", "192.168.1.5", "[::2]", "", "[::1"] {
        for path in ["/", "/api/v1/status", "/api/v1/live", "/metrics", "/healthz"] {
            monitor.ask("GET", path, &[("host", host)]).await.assert_error(403, "localhost");
        }
    }
    monitor.ask("GET", "/api/v1/status", &[]).await.assert_error(403, "localhost");
    let host = [("host", "localhost")];
    monitor.ask("GET", "http://evil.example/api/v1/status", &host).await.assert_error(403, "evil.example");
}

#[tokio::test]
async fn every_answer_carries_the_policy() {
    let monitor = Running::start().await;
    let refused = monitor.ask("GET", "/", &[("host", "evil.example")]).await;
    let mut answers = vec![refused];
    for path in ["/", "/api/v1/status", "/api/v1/channels", "/metrics", "/healthz", "/readyz", "/nothing"] {
        answers.push(monitor.get(path).await);
    }
    for answer in answers {
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert!(!answer.headers.keys().any(|name| name.starts_with("access-control")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_snapshot_that_panics_costs_one_connection() {
    let monitor = Running::start().await;
    monitor.broken.store(true, Ordering::Relaxed);
    let mut stream = monitor.send("GET", "/api/v1/status", &[("host", "localhost")]).await;
    let mut nothing = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut nothing)).await.expect("the connection ends");
    assert_eq!(nothing, b"");
    monitor.broken.store(false, Ordering::Relaxed);
    assert_eq!(monitor.get("/api/v1/status").await.status, 200);
}

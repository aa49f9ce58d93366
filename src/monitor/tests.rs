//! A real server on a port of its own, a made-up agent behind it, and a client that knows nothing of ours.

mod metrics;
mod names;
mod port;
mod routes;
mod stream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::status::*;
use super::*;
use crate::clock::SystemClock;
use crate::gap::{self, Declared};
use crate::ledger::{Counts, Policy, Snapshot};
use crate::pipeline::Order;
use crate::preprocess::{Deed, Reason, StepName};
use crate::priority::Priority;
use crate::sample::{ChannelMeta, Quality, Scaling, ValueKind};

/// What every wait is bounded by: generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn status() -> Status {
    let counts = Counts {
        received: 100,
        recovered: 10,
        stored: 80,
        backlog: 15,
        in_flight: 5,
        quarantined: 3,
        dropped: BTreeMap::from([(Policy::Validate, 4)]),
        duplicate: 3,
    };
    let device = |boot| DeviceStatus {
        car: "44".into(),
        device: "ecu".into(),
        boot,
        frames: 50,
        frames_lost: 2,
        samples: 100,
        samples_lost: 4,
        duplicate_frames: 1,
    };
    Status {
        version: "0.1.0".into(),
        agent: "a1b2".into(),
        car: "44".into(),
        uptime_s: 12.5,
        now_us: 1_790_000_000_000_000,
        state: AgentState::Running,
        ledger: Snapshot {
            total: counts.clone(),
            derived: Counts { received: 9, stored: 9, ..Counts::default() },
            balanced: true,
            sources: BTreeMap::from([("ecu \"front\"".into(), counts)]),
        },
        sources: vec![SourceStatus {
            name: "ecu \"front\"".into(),
            kind: "serial".into(),
            target: "/dev/ttyACM0".into(),
            state: SourceState::Connected,
            detail: String::new(),
            state_for_s: 3.25,
            connects: 1,
            bytes: 4096,
            messages: 7,
            frames: 50,
            malformed: 1,
            garbage_bytes: 9,
            held_frames: 2,
            quiet_for_s: Some(0.5),
            devices: vec![device(7), device(8)],
        }],
        queues: vec![QueueStatus {
            name: "decode".into(),
            items: 1,
            items_max: 1024,
            bytes: 100,
            bytes_max: 8_388_608,
            items_peak: 3,
            blocked_ms: 1500,
            empty: 0.75,
            full: 0.0,
        }],
        pipeline: PipelineStatus {
            verdict: VerdictStatus { kind: VerdictKind::Stage, stage: Some("chunk".into()), text: "it limits".into() },
            stages: vec![StageStatus {
                name: "chunk".into(),
                concurrency: 1,
                order: Some(Order::Input),
                taken: 12,
                given: 6,
                failed: 0,
                skipped: 0,
                busy: 0.75,
                starved: 0.25,
                blocked: 0.0,
                pool_wait: 0.0,
                latency_ms: Latency { p50: Some(0.25), p99: None },
                stands_still_for_s: None,
            }],
        },
        spill: SpillStatus {
            state: SpillState::Draining,
            detail: String::new(),
            encrypted: true,
            locked_segments: 2,
            backlog_samples: 15,
            backlog_records: 1,
            spilled_samples: 115,
            disk_bytes: 512,
            reserve_bytes: 128,
            disk_max_bytes: 2_147_483_648,
            segment_bytes: 8_388_608,
            written_bytes: 1024,
            commits: 1,
            syncs: 2,
            oldest_age_s: None,
            drain: Some(DrainStatus {
                done: 85,
                total: 100,
                rate_per_s: 42.5,
                shrinks_per_s: Some(30.0),
                left_s: Some(0.5),
            }),
            priorities: vec![
                PriorityStatus { priority: Priority::Normal, backlog_samples: 5, dropped_samples: 0, disk_bytes: 256 },
                PriorityStatus { priority: Priority::Low, backlog_samples: 10, dropped_samples: 3, disk_bytes: 256 },
            ],
            undeclared_records: 0,
            quarantine_records: 1,
            quarantine_lost_messages: 2,
            recovering: Some(RecoveringStatus { segments_done: 1, segments: 2, bytes_done: 8, bytes: 24 }),
        },
        store: StoreStatus {
            kind: "sqlite".into(),
            url: "sqlite:///var/lib/pitwire/pitwire.db".into(),
            state: StoreState::Up,
            detail: String::new(),
            rows_written: 8,
            samples_written: 80,
            bytes_written: 640,
            in_flight: 1,
            in_flight_limit: 8,
            latency_ms: Latency { p50: Some(0.5), p99: Some(2.0) },
        },
        deliver: DeliverStatus { mode: DeliverMode::Draining, durable_within_ms: 1000, flush_after_ms: 200, alarm: "" },
        process: ProcessStatus { resident_bytes: Some(1 << 20), cpu_s: Some(0.25) },
        channels: 1,
        gaps: vec![Declared { reason: gap::Reason::Restart, events: 2, frames: 30, samples: 0 }],
        preprocess: vec![Deed {
            step: StepName::Validate,
            rule: "brake.*".into(),
            reason: Reason::OutOfRange,
            samples: 4,
            last: "brake.front 512 bar".into(),
        }],
        config: ConfigStatus { revision: 2, since_us: 1_790_000_000_000_000, refused: 1, refusal: String::new() },
    }
}

fn post(board: &LiveBoard, channel: &str, rate_mhz: u32, samples: &[(i64, f64)]) {
    let meta = ChannelMeta {
        name: channel.into(),
        unit: "rpm".into(),
        kind: ValueKind::F32,
        scaling: Scaling::IDENTITY,
        rate_mhz,
        derived: false,
    };
    let samples = samples.iter().map(|&(t_us, value)| (t_us, value, Quality::GOOD));
    board.post(&"44".into(), &"ecu".into(), &Arc::new(meta), Instant::now(), samples);
}

/// A running monitor.
struct Running {
    addr: SocketAddr,
    board: Arc<LiveBoard>,
    ready: Arc<AtomicBool>,
    /// Makes the agent's snapshot panic.
    broken: Arc<AtomicBool>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let config = Config { listen: Listen("127.0.0.1:0".parse().unwrap()), ..Config::default() };
        let listener = bind(&config).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (board, ready, broken) = (LiveBoard::new(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (is_ready, is_broken) = (ready.clone(), broken.clone());
        let view = View {
            status: Arc::new(move || {
                assert!(!is_broken.load(Ordering::Relaxed), "this test breaks the snapshot on purpose");
                status()
            }),
            ready: Arc::new(move || match is_ready.load(Ordering::Relaxed) {
                true => Readiness { ready: true, waiting_for: vec![] },
                false => Readiness { ready: false, waiting_for: vec!["source ecu: open /dev/ttyACM0".into()] },
            }),
            live: board.clone(),
            clock: SystemClock::shared(),
        };
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, view, shutdown.clone()));
        Self { addr, board, ready, broken, shutdown, server }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[("host", "localhost:8710")]).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = self.send(method, path, headers).await;
        let mut bytes = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
        Answer::parse(&String::from_utf8(bytes).unwrap())
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> TcpStream {
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
        stream
    }
}

/// An answer whose end was the connection's end.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let (first, headers) = head.split_once("\r\n").unwrap();
        let status = first.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let headers = headers.lines().map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        });
        Self { status, headers: headers.collect(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    fn assert_error(&self, status: u16, says: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let json = self.json();
        let message = json["error"].as_str().unwrap_or_else(|| panic!("no error in {json}"));
        assert!(message.contains(says), "{message:?} does not say {says:?}");
    }
}

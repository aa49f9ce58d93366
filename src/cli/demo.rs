//! `pitwire demo`: a simulated car, the agent, a store and the page, and in the end an audit.

use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firmware_sim::{Broker, Options, Output, Simulator, Stop, Summary, Tier};
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::audit::in_words;
use super::{Failure, Outcome, Stops, hangups, print, say, told_to_stop};
use crate::app::App;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Sources};
use crate::export::{AuditReport, audit};
use crate::item::FormatName;
use crate::ledger::Snapshot;
use crate::monitor;
use crate::source::{MqttConfig, SerialConfig};
use crate::store::{self, StoreUrl};

/// How long the agent may take to open the port and to subscribe.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// Without anything arriving or being stored for so long, what is left is given up.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// The car has stopped when nothing more arrives for this long.
const QUIET_FOR: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// End after so much time, e.g. 20s; without it Ctrl-C ends.
    #[arg(long = "for", value_parser = humantime::parse_duration)]
    run_for: Option<Duration>,
    /// One JSON line on stdout at the end: the audit, and the ledger.
    #[arg(long)]
    json: bool,
    /// Write to this Cassandra, HOST:PORT, instead of the embedded store; the schema is applied.
    #[arg(long)]
    cassandra: Option<String>,
    /// How much the car sends: club, can, wide or f1.
    #[arg(long, default_value = "can")]
    tier: Tier,
    /// Only print the page's address.
    #[arg(long)]
    no_browser: bool,
    /// Keep the files of the demo (store, spill, manifest) in this directory.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What the demo prints with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    audit: &'a AuditReport,
    ledger: &'a Snapshot,
}

/// Where the demo's files are: kept if the user named the place.
enum Place {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Place {
    fn new(dir: Option<&Path>) -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("make the demo's directory: {error}"));
        match dir {
            None => TempDir::with_prefix("pitwire-demo-").map(Self::Temporary).map_err(failed),
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(failed)?;
                // A manifest of an earlier demo would be compared with this one's store.
                dir.canonicalize().map(Self::Kept).map_err(failed)
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let began = Instant::now();
    let place = Place::new(arguments.dir.as_deref())?;
    let dir = place.path();
    let started = SystemClock.now_utc().0 / 1_000_000;
    // A kept or shared store holds other runs: each has a car of its own.
    let shared = arguments.cassandra.is_some() || arguments.dir.is_some();
    let car = if shared { format!("demo-{started}") } else { "44".to_owned() };
    let store = store_config(arguments.cassandra.as_deref(), dir).await?;
    let manifest = dir.join(format!("manifest-{started}.jsonl"));

    let broker = Mosquitto::start(dir).await;
    let tty = dir.join("tty");
    let mut outputs = vec![Output::Pty { link: Some(tty.clone()) }];
    outputs.extend(broker.as_ref().map(|broker| Output::Mqtt(broker.address.clone())));
    let simulator = Simulator::prepare(Options {
        tier: arguments.tier,
        cars: vec![car.clone()],
        run_for: arguments.run_for,
        outputs,
        manifest: Some(manifest.clone()),
        // A busy desk must not look like a lossy agent: a full buffer is waited for.
        block: true,
        ..Options::default()
    })
    .map_err(Failure::failed)?;

    let config = config(&car, dir, &tty, broker.as_ref(), store.clone());
    let listener = monitor::bind_first_free(monitor::PORT_DEFAULT).await.map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let app = App::start(config, Some(listener)).await.map_err(Failure::failed)?;
    say(&format!("a car of the tier {} drives; its page: http://{address}", arguments.tier));
    if !arguments.json && !arguments.no_browser && std::io::stdout().is_terminal() {
        open_browser(&format!("http://{address}"));
    }

    let summary = drive(simulator, &app, began).await?;
    settle(&app).await;
    let outcome = app.stop().await;
    drop(broker);
    let file = File::open(&manifest).map_err(|error| Failure::failed(format!("open the manifest: {error}")))?;
    let reader = store::connect_to_read(&store).await.map_err(Failure::failed)?;
    let report = audit(BufReader::new(file), &*reader).await.map_err(Failure::failed)?;
    tell(&arguments, &summary, &report, &outcome.ledger, &store, &car)?;
    if !report.is_exact() {
        return Err(Failure::failed("the store does not hold exactly what was sent"));
    }
    if !outcome.ledger.balanced || outcome.undurable > 0 {
        return Err(Failure::failed("the ledger does not balance: please report this"));
    }
    Ok(())
}

async fn store_config(cassandra: Option<&str>, dir: &Path) -> Result<store::Config, Failure> {
    let Some(node) = cassandra else {
        return Ok(store::Config::for_url(StoreUrl::Sqlite { path: dir.join("pitwire.db") }));
    };
    let config = super::store_config(&format!("cassandra://{node}/pitwire"))?;
    let store = store::connect(&config).await.map_err(Failure::failed)?;
    store.apply_schema().await.map_err(Failure::failed)?;
    Ok(config)
}

fn config(car: &str, dir: &Path, tty: &Path, broker: Option<&Mosquitto>, store: store::Config) -> Config {
    let serial = SerialConfig {
        name: "serial".into(),
        path: tty.into(),
        baud: 921_600,
        format: FormatName::Wire,
        car: None,
        device_prefix: String::new(),
    };
    let mqtt = broker.map(|broker| MqttConfig::new("mqtt", &broker.address.to_string(), &[format!("pitwire/{car}/#")]));
    let spill = crate::spill::Config { dir: dir.join("spill"), ..crate::spill::Config::default() };
    Config {
        car: car.into(),
        agent: None,
        state_dir: dir.join("state"),
        runtime_dir: dir.join("run"),
        store,
        spill,
        priority: crate::priority::Config::default(),
        layout: crate::layout::Config::default(),
        quarantine: crate::config::Quarantine::default(),
        deliver: crate::deliver::Config::default(),
        preprocess: crate::preprocess::Config::default(),
        monitor: monitor::Config::default(),
        clock: crate::clock::Config::default(),
        source: Sources { serial: vec![serial], mqtt: mqtt.into_iter().collect() },
    }
}

/// Lets the car drive until its time is over or somebody says stop.
async fn drive(simulator: Simulator, app: &App, began: Instant) -> Result<Summary, Failure> {
    let ready_by = Instant::now() + READY_WITHIN;
    while !app.readiness().ready {
        if Instant::now() > ready_by {
            let waiting = app.readiness().waiting_for.join(", ");
            return Err(Failure::failed(format!("the agent did not connect to {waiting} within {READY_WITHIN:?}")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stop = Stop::new();
    let running = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || simulator.run(&stop)
    });
    let watch = async {
        while app.status().ledger.total.stored == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Before anybody is told that it ends the demo: until then it would end the process outright.
        let (mut stops, mut hangup) = (Stops::listen()?, hangups()?);
        say(&format!("first samples stored {:.1} s after the start; Ctrl-C ends", began.elapsed().as_secs_f64()));
        tokio::select! {
            _ = hangup.recv() => {}
            () = stops.told() => {}
        }
        Ok::<(), Failure>(())
    };
    tokio::pin!(running);
    let done = tokio::select! {
        done = &mut running => done,
        told = watch => {
            told?;
            say("the car stops; what it sent is brought home");
            stop.stop();
            tokio::select! {
                done = &mut running => done,
                told = told_to_stop() => {
                    told?;
                    say("at once, then");
                    stop.abort();
                    running.await
                }
            }
        }
    };
    let summary = done.map_err(Failure::failed)?.map_err(Failure::failed)?;
    summary.problems.iter().for_each(|problem| say(&format!("pitwire: {problem}")));
    Ok(summary)
}

/// Waits until what was sent has arrived and is stored, as long as it gets on.
async fn settle(app: &App) {
    let (mut before, mut since, mut said) = ((0, 0), Instant::now(), Instant::now());
    loop {
        let total = app.status().ledger.total;
        let (now, left) = ((total.received, total.stored), total.in_flight + total.backlog);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        if (left == 0 && since.elapsed() > QUIET_FOR) || since.elapsed() > STUCK_AFTER {
            return;
        }
        if said.elapsed() > Duration::from_secs(2) {
            said = Instant::now();
            say(&format!("{left} samples are still on their way to the store"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tell(
    arguments: &Arguments,
    summary: &Summary,
    report: &AuditReport,
    ledger: &Snapshot,
    store: &store::Config,
    car: &str,
) -> Outcome {
    if arguments.json {
        return print(&serde_json::to_string(&Report { audit: report, ledger }).map_err(Failure::failed)?);
    }
    let devices = summary.devices.len();
    say(&format!("the car sent {} samples in {} frames from {devices} devices", summary.samples(), summary.frames()));
    if summary.samples_dropped() > 0 {
        say(&format!("of these the simulator itself dropped {}, its buffer being full", summary.samples_dropped()));
    }
    let total = &ledger.total;
    let dropped: u64 = total.dropped.values().sum();
    say(&format!(
        "the agent received {} and stored {}: {} dropped, {} duplicate, {} left in the spill",
        total.received, total.stored, dropped, total.duplicate, total.backlog
    ));
    say(&format!("the audit: {}", in_words(report)));
    if arguments.dir.is_some() || arguments.cassandra.is_some() {
        say(&format!("read it back: pitwire export --store {} --car {car} --format csv", store.url));
    }
    Ok(())
}

/// Opens the page where there is a desktop; the address was printed anyway.
fn open_browser(url: &str) {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if desktop {
        let quiet = std::process::Stdio::null;
        let opened = Command::new("xdg-open").arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
        drop(opened);
    }
}

/// A broker of our own on a free port, ended with the demo.
struct Mosquitto {
    address: Broker,
    _child: Child,
}

impl Mosquitto {
    /// `None` where mosquitto is not installed or does not come up: then the demo has a serial port only.
    async fn start(dir: &Path) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let program = places.map(|place| place.join("mosquitto")).find(|program| program.is_file())?;
        // Free now, and nobody else asks in the next moment.
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let file = dir.join("mosquitto.conf");
        // As root mosquitto would become another user, who cannot read this directory.
        let settings = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n");
        std::fs::write(&file, settings).ok()?;
        let quiet = std::process::Stdio::null;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).stdin(quiet()).stdout(quiet()).stderr(quiet()).kill_on_drop(true);
        // Ctrl-C goes to everything in the terminal's group: the broker has to outlive the drain.
        command.process_group(0);
        let mut child = command.spawn().ok()?;
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(Self { address: Broker { host: "127.0.0.1".into(), port }, _child: child });
            }
            if !matches!(child.try_wait(), Ok(None)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        say("mosquitto did not start: the demo goes on with the serial port only");
        None
    }
}

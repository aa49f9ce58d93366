//! Composition: what is built, in which order it starts, and how it drains.
//!
//! Start: state, spill (its backlog enters the ledger) and quarantine, pipeline, delivery, sources, monitor.
//! No store is needed: delivery looks for it by itself.
//!
//! Stop: sources take nothing more and give up their way into the pipeline; end-of-stream walks down and
//! flushes what is gathered; delivery makes it durable, within `deliver.drain_within`, whatever hangs; all
//! the while the brokers are told what is settled; then the sources and the monitor end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::chunk::{Chunk, Outgoing, Setup};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError};
use crate::decode::{Decode, SourceSpec};
use crate::deliver::{Connect, Deliver, Mode, Parts, SpillLedger, StatsHandle};
use crate::gauges::SourceGauges;
use crate::item::{FormatName, Item, RawMessage};
use crate::ledger::{Ledger, Snapshot};
use crate::limits::{FLUSHES_BYTES_MAX, FLUSHES_MAX, ITEMS_BYTES_MAX, ITEMS_MAX, RAW_BYTES_MAX, RAW_ITEMS_MAX};
use crate::live::LiveBoard;
use crate::monitor::{self, Readiness, View};
use crate::pipeline::{Bounds, Pipeline, QueueGauges, Sender};
use crate::preprocess::{self, Preprocess};
use crate::row::AgentRow;
use crate::source::{self, Outlet};
use crate::spill::{RealFs, Recovery, Spill, SpillError};
use crate::state::{StateDir, fill_random};
use crate::store;

mod look;
mod reload;
#[cfg(test)]
mod tests;
mod watch;

use look::Looker;
use reload::Reload;
pub use reload::Reloads;

/// What stages and sources may take to end once delivery has.
const END_WITHIN: Duration = Duration::from_secs(3);

/// A running agent.
pub struct App {
    looker: Arc<Looker>,
    stop: CancellationToken,
    settled: CancellationToken,
    monitor_stop: CancellationToken,
    sources: Vec<JoinHandle<()>>,
    pipeline: Pipeline,
    deliver: JoinHandle<u64>,
    monitor: Option<JoinHandle<()>>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The ledger at the end.
    pub ledger: Snapshot,
    /// Samples that could be made durable nowhere.
    pub undurable: u64,
    /// Stages that failed; empty after a clean run.
    pub failed_stages: Vec<String>,
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spill or the quarantine cannot be opened.
    #[error(transparent)]
    Spill(#[from] SpillError),
}

impl App {
    /// Starts everything. `listener` is where the monitor serves, if anywhere.
    ///
    /// # Errors
    /// If the directory of the spill or of the quarantine cannot be used at all, or another agent has it.
    pub async fn start(config: Config, listener: Option<TcpListener>) -> Result<Self, StartError> {
        let clock = SystemClock::shared();
        let ledger = Ledger::new();
        let state = StateDir::open(&config.state_dir);
        let agent = config.agent.clone().unwrap_or_else(|| state.agent());
        let (spill, quarantine) = open_spills(&config, &ledger).await?;

        let live = LiveBoard::new();
        let gauges = source_gauges(&config, clock.now());
        let mut pipeline = Pipeline::new();
        let setup = Setup {
            flush_after: config.deliver.flush_after,
            writer: writer(),
            live: live.clone(),
            clocks: state.clocks(),
            remember: Arc::new({
                let state = state.clone();
                move |clock| state.remember_clock(clock)
            }),
        };
        let decode = decode(&config, &ledger, &gauges, &state);
        let deliver_stats = StatsHandle::default();
        let steps = preprocess::Setup { ledger: ledger.clone(), counts: Arc::default(), lag: lag(&deliver_stats) };
        let counts = steps.counts.clone();
        let swap = preprocess::Swap::default();
        let (sender, chain) = pipeline.input("raw", raw_bounds());
        let output = chain
            .stage(decode, item_bounds())
            .stage(Preprocess::new(&config.preprocess, steps, swap.clone()), item_bounds())
            .stage(Chunk::new(setup), outgoing_bounds())
            .sink();

        let (stop, settled) = (CancellationToken::new(), CancellationToken::new());
        let looker = Arc::new(Looker {
            config: config.clone(),
            agent: agent.clone(),
            started: clock.now(),
            clock: clock.clone(),
            draining: AtomicBool::new(false),
            ledger: ledger.clone(),
            sources: gauges.clone(),
            queues: pipeline.queues(),
            spill: spill.clone(),
            quarantine: quarantine.clone(),
            deliver: deliver_stats.clone(),
            live: live.clone(),
            watch: Mutex::default(),
            counts,
            reload: Reload::new(config.clone(), swap, clock.now_utc()),
        });
        let deliver = Deliver::new(Parts {
            config: config.deliver.clone(),
            clock,
            ledger,
            spill,
            spill_bytes_max: config.spill.disk_max.as_u64(),
            overflow: config.spill.overflow,
            quarantine,
            connect: connect(config.store.clone()),
            heartbeat: {
                let looker = looker.clone();
                Arc::new(move || looker.heartbeat())
            },
            stats: deliver_stats,
            stop: stop.clone(),
        });
        let deliver = tokio::spawn(deliver.run(output));

        // The sources hold the only senders: when they have given them up, end-of-stream walks down.
        let sources = Ends { sender, stop: stop.clone(), settled: settled.clone() }.start_sources(&looker);
        let monitor_stop = CancellationToken::new();
        let monitor = listener.map(|listener| {
            let view = looker.clone().view();
            tokio::spawn(monitor::serve(listener, view, monitor_stop.clone()))
        });
        Ok(Self { looker, stop, settled, monitor_stop, sources, pipeline, deliver, monitor })
    }

    /// The agent as the API shows it.
    #[must_use]
    pub fn status(&self) -> monitor::Status {
        self.looker.status()
    }

    /// Whether each source has connected, and which have not.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.looker.readiness()
    }

    /// Whether data moves, or has no reason to: what the watchdog is told. Call it at intervals.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.looker.alive() && !self.deliver.is_finished()
    }

    /// Takes over the steps of a configuration that was read anew, and says what changed.
    ///
    /// # Errors
    /// Why it is refused as a whole: it is faulty, or differs in more than `[preprocess]`. The agent goes on as
    /// before, and its status says so.
    pub fn reload(&self, loaded: Result<Config, ConfigError>) -> Result<String, String> {
        self.looker.reload.take(loaded, self.looker.clock.now_utc())
    }

    /// Stops and drains. Takes at most `deliver.drain_within` and some seconds.
    pub async fn stop(self) -> Outcome {
        self.looker.draining.store(true, Ordering::Relaxed);
        self.stop.cancel();
        let ledger = &self.looker.ledger;
        let mut failed_stages = Vec::new();
        // It ends by itself when the pipeline has, or when its time is over; in both cases the stages end.
        let undurable = self.deliver.await.unwrap_or_else(|error| {
            tracing::error!(%error, "delivery failed: please report this");
            failed_stages.push("deliver".into());
            ledger.snapshot().total.in_flight
        });
        match tokio::time::timeout(END_WITHIN, self.pipeline.join()).await {
            Ok(ended) => failed_stages.extend(ended.err().unwrap_or_default()),
            Err(_) => failed_stages.push("one that does not end".into()),
        }
        // Every receipt that will fire has fired.
        self.settled.cancel();
        for source in self.sources {
            // A source that does not end is left to the runtime; aborting it would lose acknowledgements.
            if tokio::time::timeout(END_WITHIN, source).await.is_err() {
                tracing::warn!("a source does not end; the agent ends without it");
            }
        }
        self.monitor_stop.cancel();
        if let Some(monitor) = self.monitor {
            let _ = monitor.await;
        }
        Outcome { ledger: ledger.snapshot(), undurable, failed_stages }
    }
}

/// How long the uplink has lagged: what the steps that thin go by.
fn lag(stats: &StatsHandle) -> preprocess::Lag {
    let stats = stats.clone();
    Arc::new(move || stats.lag())
}

/// 128 random bits of this process.
fn writer() -> [u8; 16] {
    let mut writer = [0; 16];
    fill_random(&mut writer);
    writer
}

async fn open_spills(config: &Config, ledger: &Arc<Ledger>) -> Result<(Spill, Spill), SpillError> {
    let quarantine = crate::spill::Config {
        dir: config.quarantine_dir(),
        disk_max: config.quarantine.disk_max,
        segment_bytes: bytesize::ByteSize::mib(1),
        free_min: config.spill.free_min,
        ..crate::spill::Config::default()
    };
    let (spill, ledger) = (config.spill.clone(), ledger.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let (spill, found) = Spill::open(spill, Arc::new(RealFs), Arc::new(SpillLedger(ledger)))?;
        report("spill", &found);
        let (quarantine, found) = Spill::open(quarantine, Arc::new(RealFs), Arc::new(()))?;
        report("quarantine", &found);
        Ok((spill, quarantine))
    });
    opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn report(what: &str, found: &Recovery) {
    if found.records > 0 {
        tracing::info!(what, records = found.records, samples = found.weight, "found from an earlier run");
    }
    for gap in &found.gaps {
        tracing::error!(what, ?gap, "damaged on disk; a copy is kept aside");
    }
}

fn source_gauges(config: &Config, now: Instant) -> Vec<Arc<SourceGauges>> {
    let serial = config.source.serial.iter();
    let serial = serial.map(|s| SourceGauges::new(&s.name, "serial", &s.path.to_string_lossy(), now));
    let mqtt = config.source.mqtt.iter().map(|s| SourceGauges::new(&s.name, "mqtt", &s.url, now));
    serial.chain(mqtt).collect()
}

fn decode(config: &Config, ledger: &Arc<Ledger>, gauges: &[Arc<SourceGauges>], state: &Arc<StateDir>) -> Decode {
    let remember = Arc::new({
        let state = state.clone();
        move |record: &_| state.remember_catalogue(record)
    });
    let serial = config.source.serial.iter().map(|s| (&s.name, &s.car, &s.device_prefix, s.format));
    let mqtt = config.source.mqtt.iter().map(|s| (&s.name, &s.car, &s.device_prefix, s.format));
    let mut decode = Decode::new(state.catalogues(), remember, config.deliver.durable_within);
    let sources: Vec<(&String, &Option<String>, &String, FormatName)> = serial.chain(mqtt).collect();
    for ((name, car, device_prefix, format), gauges) in sources.into_iter().zip(gauges) {
        let spec = SourceSpec {
            id: ledger.source(name),
            name: name.as_str().into(),
            car: car.as_ref().unwrap_or(&config.car).as_str().into(),
            car_is_fixed: car.is_some(),
            device_prefix: device_prefix.clone(),
            gauges: gauges.clone(),
            ledger: ledger.clone(),
        };
        decode = decode.source(spec, format);
    }
    decode
}

fn connect(config: store::Config) -> Connect {
    Arc::new(move || {
        let config = config.clone();
        Box::pin(async move {
            let store = store::connect(&config).await?;
            store.check().await?;
            Ok(store)
        })
    })
}

/// What ties the sources to the rest: where data goes in, and how they are told of the end.
struct Ends {
    sender: Sender<RawMessage>,
    stop: CancellationToken,
    settled: CancellationToken,
}

impl Ends {
    fn start_sources(self, agent: &Looker) -> Vec<JoinHandle<()>> {
        let outlet = |gauges: &Arc<SourceGauges>| Outlet {
            id: agent.ledger.source(&gauges.name),
            sender: Some(self.sender.clone()),
            gauges: gauges.clone(),
            clock: agent.clock.clone(),
            stop: self.stop.clone(),
            settled: self.settled.clone(),
        };
        let sources = &agent.config.source;
        let (of_serial, of_mqtt) = agent.sources.split_at(sources.serial.len());
        let serial = sources.serial.iter().zip(of_serial);
        let serial = serial.map(|(source, gauges)| tokio::spawn(source::run_serial(source.clone(), outlet(gauges))));
        let mqtt = sources.mqtt.iter().zip(of_mqtt);
        let mqtt = mqtt.map(|(source, gauges)| {
            tokio::spawn(source::run_mqtt(source.clone(), agent.agent.clone(), outlet(gauges)))
        });
        serial.chain(mqtt).collect()
    }
}

fn raw_bounds() -> Bounds<RawMessage> {
    Bounds { items: RAW_ITEMS_MAX, bytes: RAW_BYTES_MAX, weigh: RawMessage::bytes }
}

fn item_bounds() -> Bounds<Item> {
    Bounds { items: ITEMS_MAX, bytes: ITEMS_BYTES_MAX, weigh: Item::bytes }
}

fn outgoing_bounds() -> Bounds<Outgoing> {
    Bounds { items: FLUSHES_MAX, bytes: FLUSHES_BYTES_MAX, weigh: Outgoing::bytes }
}

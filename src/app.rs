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

use crate::chunk::Setup;
use crate::clock::{Clock, Gateway, SystemClock, watch_kernel};
use crate::config::{Config, ConfigError};
use crate::decode::Gaps;
use crate::deliver::{Connect, Deliver, Mode, Parts, SpillLedger, StatsHandle};
use crate::gauges::SourceGauges;
use crate::layout::Layouts;
use crate::ledger::{Ledger, Snapshot};
use crate::live::LiveBoard;
use crate::monitor::{self, Readiness, View};
use crate::pipeline::{BuildError, Pipeline, Watchdog};
use crate::preprocess::{self, Swap};
use crate::priority::{Priorities, Priority};
use crate::row::AgentRow;
use crate::source::{self, Outlet};
use crate::spill::{GapReason, Opened, Queues, RealFs, Spill, SpillError};
use crate::state::{StateDir, fill_random};
use crate::store;

mod flow;
mod look;
mod reload;
mod runtime;
mod stages;
#[cfg(test)]
mod tests;

use flow::Flow;
use look::Looker;
use reload::Reload;
pub use reload::Reloads;
use runtime::Runtime;
pub use stages::explain;
use stages::{Ends, Given, Stages, source_gauges};

/// How long nothing may move before the watchdog speaks: a stage takes milliseconds for an item, and a disk that
/// hangs is waited for in tasks of their own.
const STUCK_AFTER: Duration = Duration::from_secs(10);

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
    runtime: (Arc<Runtime>, JoinHandle<()>),
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
    /// The pipeline cannot be built: two sources of one name, for instance.
    #[error(transparent)]
    Pipeline(#[from] BuildError),
}

impl App {
    /// Starts everything. `listener` is where the monitor serves, if anywhere.
    ///
    /// # Errors
    /// If the directory of the spill or of the quarantine cannot be used at all, or another agent has it.
    pub async fn start(config: Config, listener: Option<TcpListener>) -> Result<Self, StartError> {
        Self::start_with(config, listener, SystemClock::shared()).await
    }

    /// [`Self::start`] by a clock of one's own. Its monotonic time has to be the system's: timers go by that.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        config: Config,
        listener: Option<TcpListener>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let gateway = Gateway::new(clock, config.clock.trust);
        let clock: Arc<dyn Clock> = gateway.clone();
        let ledger = Ledger::new();
        let state = StateDir::open(&config.state_dir);
        let agent = config.agent.clone().unwrap_or_else(|| state.agent());
        let runtime = Arc::new(Runtime::open(&config.runtime_dir, &agent));
        let gaps = Gaps { book: runtime.book.clone(), ..Gaps::default() };
        let books = SpillLedger {
            ledger: ledger.clone(),
            car: config.car.clone(),
            gateway: gateway.clone(),
            gaps: gaps.counts.clone(),
            declared_bytes_max: config.spill.notes_bytes_max(),
        };
        let (spill, quarantine) = open_spills(&config, books).await?;

        let live = LiveBoard::new();
        let gauges = source_gauges(&config, clock.now());
        let setup = Setup {
            flush_after: config.deliver.flush_after,
            writer: writer(),
            live: live.clone(),
            clocks: state.clocks(),
            remember: Arc::new({
                let state = state.clone();
                move |clock| state.remember_clock(clock)
            }),
            gateway: gateway.clone(),
            priorities: Priorities::new(&config.priority),
            layouts: Layouts::new(&config.layout),
        };
        let remember = Arc::new({
            let state = state.clone();
            move |record: &_| state.remember_catalogue(record)
        });
        let deliver_stats = StatsHandle::default();
        let steps = preprocess::Setup { ledger: ledger.clone(), counts: Arc::default(), lag: lag(&deliver_stats) };
        let (counts, swap) = (steps.counts.clone(), Swap::default());
        let known = state.catalogues();
        let given = Given {
            ledger: &ledger,
            gauges: &gauges,
            known,
            remember,
            gaps: gaps.clone(),
            steps,
            swap: swap.clone(),
            chunk: setup,
        };
        let described = Stages::new(&config, given).describe(&config)?;

        let (stop, settled) = (CancellationToken::new(), CancellationToken::new());
        let looker = Arc::new(Looker {
            config: config.clone(),
            agent: agent.clone(),
            started: clock.now(),
            clock: clock.clone(),
            draining: AtomicBool::new(false),
            ledger: ledger.clone(),
            sources: gauges.clone(),
            flow: Flow::new(described.plan.observer()),
            spill: spill.clone(),
            quarantine: quarantine.clone(),
            deliver: deliver_stats.clone(),
            live: live.clone(),
            watch: Mutex::new((Watchdog::new(described.plan.observer(), STUCK_AFTER), None)),
            counts,
            gaps: gaps.counts.clone(),
            reload: Reload::new(config.clone(), swap, clock.now_utc()),
        });
        let deliver = Deliver::new(Parts {
            config: config.deliver.clone(),
            gateway: gateway.clone(),
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
            gaps: gaps.counts,
            stop: stop.clone(),
        });
        let pipeline = described.plan.start();
        let deliver = tokio::spawn(deliver.run(described.outlet));

        // The sources hold the only senders: when they have given them up, end-of-stream walks down.
        let ends = Ends { senders: described.senders, stop: stop.clone(), settled: settled.clone() };
        let sources = ends.start_sources(&looker);
        tokio::spawn(watch_kernel(gateway, stop.clone()));
        let monitor_stop = CancellationToken::new();
        let monitor = listener.map(|listener| {
            let view = looker.clone().view();
            tokio::spawn(monitor::serve(listener, view, monitor_stop.clone()))
        });
        let keep = tokio::spawn(runtime.clone().run(settled.clone()));
        let runtime = (runtime, keep);
        Ok(Self { looker, stop, settled, monitor_stop, sources, pipeline, deliver, monitor, runtime })
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
        let ended = self.pipeline.join_within(END_WITHIN).await;
        failed_stages.extend(ended.result.err().map(|error| error.to_string()));
        if !ended.in_time {
            failed_stages.push("one that does not end".into());
        }
        for (after, items) in ended.leftovers.counts() {
            tracing::warn!(after, items, "left in the pipeline, as delivery ended before");
        }
        // Every receipt that will fire has fired.
        self.settled.cancel();
        for source in self.sources {
            // A source that does not end is left to the runtime; aborting it would lose acknowledgements.
            if tokio::time::timeout(END_WITHIN, source).await.is_err() {
                tracing::warn!("a source does not end; the agent ends without it");
            }
        }
        let (runtime, keep) = self.runtime;
        let _ = keep.await;
        runtime.keep().await;
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

async fn open_spills(config: &Config, books: SpillLedger) -> Result<(Queues, Spill), SpillError> {
    let quarantine = crate::spill::Config {
        dir: config.quarantine_dir(),
        disk_max: config.quarantine.disk_max,
        key_file: config.spill.key_file.clone(),
        segment_bytes: bytesize::ByteSize::mib(1),
        reserve_bytes: bytesize::ByteSize::mib(1),
        free_min: config.spill.free_min,
        ..crate::spill::Config::default()
    };
    if let Some(warning) = config.spill.key_warning() {
        tracing::warn!("spill.key_file: {warning}");
    }
    let (spill, given) = (config.spill.clone(), config.priority.given());
    let opened = tokio::task::spawn_blocking(move || {
        let spill = Queues::open(&spill, &given, Arc::new(RealFs), Arc::new(books))?;
        let quarantine = Spill::open(quarantine, Arc::new(RealFs), Arc::new(()))?;
        Ok::<_, SpillError>((spill, quarantine))
    });
    let ((spill, found), (kept, found_kept)) =
        opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    for ((priority, queue), found) in spill.each().zip(found) {
        let what = match priority {
            Priority::Normal => "spill",
            Priority::High => "spill of high priority",
            Priority::Low => "spill of low priority",
        };
        report(what, queue.clone(), found);
    }
    report("quarantine", kept.clone(), found_kept);
    Ok((spill, kept))
}

/// Tells what lies there, and once it was scanned, what is in it.
fn report(what: &'static str, spill: Spill, opened: Opened) {
    if opened.segments == 0 {
        return;
    }
    tracing::info!(what, segments = opened.segments, bytes = opened.bytes, "scanning what an earlier run left");
    tokio::spawn(async move {
        let found = spill.recovered().await;
        tracing::info!(what, records = found.records, samples = found.weight, "scanned what an earlier run left");
        for gap in &found.gaps {
            if gap.reason == GapReason::Locked {
                let (segment, records, samples) = (gap.segment, gap.records, gap.weight);
                let remedy = "start with the right spill.key_file to store it";
                tracing::error!(what, segment, records, samples, remedy, "written under another key, and left alone");
            } else if gap.reason == GapReason::Torn {
                tracing::warn!(what, ?gap, "the last commit is not complete: power went before it was promised");
            } else {
                tracing::error!(what, ?gap, "damaged or missing on disk: `pitwire spill verify` says more");
            }
        }
    });
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

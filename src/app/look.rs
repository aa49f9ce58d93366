//! How the agent is looked at: snapshots of its parts, put together for the monitor.

use super::*;
use crate::deliver::{DeliverSnapshot, Drain, LinkState};
use crate::gap::GapCounts;
use crate::monitor::ProcessStatus;
use crate::monitor::status::{
    AgentState, ConfigStatus, DeliverMode, DeliverStatus, DrainStatus, Latency, PriorityStatus, RecoveringStatus,
    SourceStatus, SpillState, SpillStatus, Status, StoreState, StoreStatus,
};
use crate::pipeline::{Progress, Still};
use crate::preprocess::StepCounts;
use crate::store::StoreUrl;

/// Everything that is looked at. It holds no way into the pipeline.
pub(super) struct Looker {
    pub(super) config: Config,
    pub(super) agent: String,
    pub(super) started: Instant,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) draining: AtomicBool,
    pub(super) ledger: Arc<Ledger>,
    pub(super) sources: Vec<Arc<SourceGauges>>,
    pub(super) flow: Flow,
    pub(super) spill: Queues,
    pub(super) quarantine: Spill,
    pub(super) deliver: StatsHandle,
    pub(super) live: Arc<LiveBoard>,
    pub(super) watch: Mutex<(Watchdog, Option<Still>)>,
    pub(super) counts: Arc<StepCounts>,
    pub(super) gaps: Arc<GapCounts>,
    pub(super) reload: Reload,
}

impl Looker {
    pub(super) fn view(self: Arc<Self>) -> View {
        let (status, ready) = (self.clone(), self.clone());
        View {
            status: Arc::new(move || status.status()),
            ready: Arc::new(move || ready.readiness()),
            live: self.live.clone(),
            clock: self.clock.clone(),
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        let waiting = self.sources.iter().filter(|source| !source.was_connected());
        let waiting_for: Vec<String> = waiting.map(|source| source.name.clone()).collect();
        Readiness { ready: waiting_for.is_empty(), waiting_for }
    }

    /// Whether delivery's loop turns and every stage that could work does; see [`Watchdog`].
    pub(super) fn alive(&self) -> bool {
        let (now, deliver) = (self.clock.now(), self.deliver.snapshot());
        let turns = now.duration_since(deliver.turned_at.unwrap_or(self.started)) < STUCK_AFTER;
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let still = watch.0.look(deliver.holding_back, now);
        if let Some(still) = &still {
            tracing::error!(%still, "the watchdog is told");
        }
        watch.1 = still;
        turns && watch.1.is_none()
    }

    /// A row for each car that is heard, as seen now.
    pub(super) fn heartbeat(&self) -> Vec<AgentRow> {
        let (snapshot, deliver) = (self.ledger.snapshot(), self.deliver.snapshot());
        let mut cars: BTreeMap<String, ()> = BTreeMap::from([(self.config.car.clone(), ())]);
        for source in &self.sources {
            cars.extend(source.devices().into_keys().map(|(car, _, _)| (car, ())));
        }
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let row = |car: String| AgentRow {
            car,
            agent: self.agent.clone(),
            at_us: self.clock.now_utc().0,
            version: env!("CARGO_PKG_VERSION").into(),
            in_flight: signed(snapshot.total.in_flight),
            backlog: signed(snapshot.total.backlog),
            stored: signed(snapshot.total.stored),
            mode: deliver.mode.as_str().into(),
        };
        cars.into_keys().map(row).collect()
    }

    pub(super) fn status(&self) -> Status {
        let now = self.clock.now();
        let deliver = self.deliver.snapshot();
        let still = self.watch.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        let (pipeline, queues) = self.flow.status(now, still.as_ref());
        // Before the ledger: what is scanned by now is in it.
        let spill = self.spill_status(&deliver, now);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            agent: self.agent.clone(),
            car: self.config.car.clone(),
            uptime_s: now.duration_since(self.started).as_secs_f64(),
            now_us: self.clock.now_utc().0,
            state: if self.draining.load(Ordering::Relaxed) { AgentState::Draining } else { AgentState::Running },
            ledger: self.ledger.snapshot(),
            sources: self.sources.iter().map(|source| SourceStatus::of(source, now)).collect(),
            queues,
            pipeline,
            spill,
            store: StoreStatus {
                kind: match &self.config.store.url {
                    StoreUrl::Sqlite { .. } => "sqlite".into(),
                    StoreUrl::Cassandra { .. } => "cassandra".into(),
                },
                url: self.config.store.url.to_string(),
                state: match deliver.link {
                    LinkState::Connecting => StoreState::Connecting,
                    LinkState::Up => StoreState::Up,
                    LinkState::Stalled => StoreState::Stalled,
                    LinkState::Down => StoreState::Down,
                    LinkState::Holding => StoreState::Holding,
                },
                detail: deliver.detail.clone(),
                rows_written: deliver.rows_written,
                samples_written: deliver.samples_written,
                bytes_written: deliver.bytes_written,
                in_flight: deliver.writes_in_flight as u64,
                in_flight_limit: deliver.writes_in_flight_limit as u64,
                latency_ms: Latency { p50: deliver.latency_ms(0.5), p99: deliver.latency_ms(0.99) },
            },
            deliver: DeliverStatus {
                mode: match deliver.mode {
                    Mode::Direct => DeliverMode::Direct,
                    Mode::Spilling => DeliverMode::Spilling,
                    Mode::Draining => DeliverMode::Draining,
                },
                durable_within_ms: millis(self.config.deliver.durable_within),
                flush_after_ms: millis(self.config.deliver.flush_after),
                alarm: deliver.alarm,
            },
            process: ProcessStatus::read(),
            channels: self.live.len(),
            preprocess: self.counts.snapshot(),
            gaps: self.gaps.snapshot(),
            config: self.config_status(),
        }
    }

    fn config_status(&self) -> ConfigStatus {
        let Reloads { revision, since_us, refused, refusal } = self.reload.shown();
        ConfigStatus { revision, since_us, refused, refusal }
    }

    /// How far a drain has come. The total grows with what is spilled meanwhile.
    fn drain(backlog: u64, deliver: &DeliverSnapshot, now: Instant) -> Option<DrainStatus> {
        let Drain { since, done, shrinks_per_s, left } = deliver.drain?;
        let progress = Progress::at("backlog", done, Some(done + backlog), now.duration_since(since));
        let left_s = left.map(|left| left.as_secs_f64());
        Some(DrainStatus { done, total: done + backlog, rate_per_s: progress.rate_per_s, shrinks_per_s, left_s })
    }

    fn quarantine_fault(&self, fault: Option<String>) -> Option<String> {
        let dir = self.config.quarantine_dir();
        Some(format!("quarantine {}: {}; check the disk where it lies", dir.display(), fault?))
    }

    fn spill_status(&self, deliver: &DeliverSnapshot, now: Instant) -> SpillStatus {
        let (spill, quarantine) = (self.spill.stats(), self.quarantine.stats());
        let mut priorities: Vec<PriorityStatus> = self.spill.each().map(priority_status).collect();
        if priorities.len() == 1 {
            priorities.clear();
        }
        let locked_segments = spill.locked_segments + quarantine.locked_segments;
        let fault = deliver.spill_fault.clone();
        let state = match (fault.is_some(), spill.backlog_records, deliver.mode) {
            (true, ..) if deliver.spill_full => SpillState::Full,
            (true, ..) => SpillState::Failed,
            (false, 0, _) => SpillState::Idle,
            (false, _, Mode::Draining) => SpillState::Draining,
            (false, ..) => SpillState::Spilling,
        };
        SpillStatus {
            state,
            detail: fault
                // What the disk once refused matters as long as something lies there.
                .or(spill.last_error.filter(|_| spill.backlog_records > 0))
                .map(|fault| format!("{}: {fault}", self.config.spill.dir.display()))
                .or_else(|| quarantine.failing.then(|| self.quarantine_fault(quarantine.last_error)).flatten())
                .or_else(|| locked(locked_segments))
                .unwrap_or_default(),
            encrypted: spill.encrypted,
            locked_segments,
            backlog_samples: spill.backlog_weight,
            backlog_records: spill.backlog_records,
            spilled_samples: deliver.samples_spilled,
            disk_bytes: spill.disk_bytes,
            reserve_bytes: spill.reserve_bytes,
            disk_max_bytes: spill.disk_max_bytes,
            segment_bytes: spill.segment_bytes,
            written_bytes: spill.written_bytes,
            commits: spill.commits,
            syncs: spill.syncs,
            drain: Self::drain(spill.backlog_weight, deliver, now),
            oldest_age_s: spill.oldest.map(|age| age.as_secs_f64()),
            priorities,
            undeclared_records: spill.lost_notes,
            quarantine_records: quarantine.backlog_records,
            quarantine_lost_messages: deliver.quarantine_lost,
            recovering: spill.recovering.map(|scan| RecoveringStatus {
                segments_done: scan.segments_done,
                segments: scan.segments,
                bytes_done: scan.bytes_done,
                bytes: scan.bytes,
            }),
        }
    }
}

fn priority_status((priority, queue): (Priority, &Spill)) -> PriorityStatus {
    let stats = queue.stats();
    PriorityStatus {
        priority,
        backlog_samples: stats.backlog_weight,
        dropped_samples: stats.dropped_weight,
        disk_bytes: stats.disk_bytes,
    }
}

/// What to do about segments under another key.
fn locked(segments: u64) -> Option<String> {
    let what = "of spill and quarantine are under another key: start with the right spill.key_file to store them";
    (segments > 0).then(|| format!("{segments} segment(s) {what}"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

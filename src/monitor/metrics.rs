//! `GET /metrics`: the status as OpenMetrics text, which Prometheus and its kin read.
//!
//! One snapshot makes one answer, so the ledger's identity holds within a scrape. Samples are counted per
//! source, loss per device. Times are in seconds, sizes in bytes, as the names say.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::status::{
    ConfigStatus, DeliverMode, DeviceStatus, POLICIES, PriorityStatus, SourceState, SourceStatus, SpillState,
    SpillStatus, Status, StoreState, StoreStatus,
};
use crate::gap::Declared;
use crate::ledger::{Counts, Snapshot};
use crate::preprocess::Deed;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of `status`, as text.
pub(super) fn text(status: Status, live_clients: usize) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { status, live_clients }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape {
    status: Status,
    live_clients: usize,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        self.agent(&mut out)?;
        ledger(&self.status.ledger, &mut out)?;
        sources(&self.status.sources, &mut out)?;
        devices(&self.status.sources, &mut out)?;
        self.queues(&mut out)?;
        spill(&self.status.spill, &mut out)?;
        store(&self.status.store, &mut out)?;
        steps(&self.status.preprocess, &mut out)?;
        gaps(&self.status.gaps, &mut out)?;
        config(&self.status.config, &mut out)?;
        self.process(&mut out)
    }
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

const SECONDS: Option<Unit> = Some(Unit::Seconds);
const BYTES: Option<Unit> = Some(Unit::Bytes);

/// Writes families; a name gets its unit and `_total` appended.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge<'a, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a, N>, V)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            match N {
                0 => metric.encode_gauge(&value)?,
                _ => metric.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn counter<'a, const N: usize, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a, N>, V)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in rows {
            match N {
                0 => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                _ => metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            }
        }
        Ok(())
    }

    /// One row for each of `states`, 1 for the one that holds.
    fn state<const N: usize>(&mut self, name: &str, help: &str, states: [&'static str; N], now: &str) -> fmt::Result {
        self.gauge(name, None, help, states.map(|state| ([("state", state)], u64::from(state == now))))
    }
}

impl Scrape {
    fn agent(&self, out: &mut Out) -> fmt::Result {
        let status = &self.status;
        let mut info = out.0.encode_descriptor("pitwire", "The agent.", None, MetricType::Info)?;
        let labels: Labels<3> = [("version", &status.version), ("agent", &status.agent), ("car", &status.car)];
        info.encode_info(&labels)?;
        out.gauge("pitwire_uptime", SECONDS, "Time since the agent's start.", [([], status.uptime_s)])?;
        out.gauge("pitwire_channels", None, "Channels that the live board follows.", [([], status.channels)])?;
        out.gauge("pitwire_live_clients", None, "Clients that follow the live stream.", [([], self.live_clients)])?;
        let modes = DeliverMode::ALL.map(DeliverMode::as_str);
        out.state("pitwire_deliver_mode", "Which way the data takes.", modes, status.deliver.mode.as_str())?;
        let nowhere = [([], u64::from(!status.deliver.alarm.is_empty()))];
        out.gauge("pitwire_nothing_writable", None, "1 while neither the store nor the spill takes data.", nowhere)
    }

    fn queues(&self, out: &mut Out) -> fmt::Result {
        let rows = || self.status.queues.iter().map(|queue| ([("queue", queue.name.as_str())], queue));
        let items = rows().map(|(labels, queue)| (labels, queue.items));
        out.gauge("pitwire_queue_items", None, "Items in the queue.", items)?;
        let items_max = rows().map(|(labels, queue)| (labels, queue.items_max));
        out.gauge("pitwire_queue_items_limit", None, "Items that the queue may hold.", items_max)?;
        let peak = rows().map(|(labels, queue)| (labels, queue.items_peak));
        out.gauge("pitwire_queue_items_peak", None, "The most items that were in the queue.", peak)?;
        let bytes = rows().map(|(labels, queue)| (labels, queue.bytes));
        out.gauge("pitwire_queue", BYTES, "Bytes in the queue.", bytes)?;
        let bytes_max = rows().map(|(labels, queue)| (labels, queue.bytes_max));
        out.gauge("pitwire_queue_limit", BYTES, "Bytes that the queue may hold.", bytes_max)?;
        let blocked = rows().map(|(labels, queue)| (labels, queue.blocked_ms as f64 / 1000.0));
        out.counter("pitwire_queue_blocked", SECONDS, "Time that senders waited for room in the queue.", blocked)
    }

    fn process(&self, out: &mut Out) -> fmt::Result {
        let process = &self.status.process;
        let resident = process.resident_bytes.map(|bytes| ([], bytes));
        out.gauge("process_resident_memory", BYTES, "Resident memory of the process.", resident)?;
        let cpu = process.cpu_s.map(|seconds| ([], seconds));
        out.counter("process_cpu", SECONDS, "User and system processor time of the process.", cpu)
    }
}

fn ledger(ledger: &Snapshot, out: &mut Out) -> fmt::Result {
    type Line = (&'static str, &'static str, fn(&Counts) -> u64);
    let counters: [Line; 5] = [
        ("pitwire_samples_received", "Samples decoded from frames.", |counts| counts.received),
        ("pitwire_samples_recovered", "Samples found in the spill at start.", |counts| counts.recovered),
        ("pitwire_samples_stored", "Samples acknowledged by the store.", |counts| counts.stored),
        ("pitwire_samples_quarantined", "Samples put into the quarantine.", |counts| counts.quarantined),
        ("pitwire_samples_duplicate", "Samples of frames that had come before.", |counts| counts.duplicate),
    ];
    let gauges: [Line; 2] = [
        ("pitwire_samples_backlog", "Samples in the spill, still to be stored.", |counts| counts.backlog),
        ("pitwire_samples_in_flight", "Samples on their way through memory.", |counts| counts.in_flight),
    ];
    let rows = || ledger.sources.iter().map(|(source, counts)| ([("source", source.as_str())], counts));
    for (name, help, count) in counters {
        out.counter(name, None, help, rows().map(|(labels, counts)| (labels, count(counts))))?;
    }
    for (name, help, count) in gauges {
        out.gauge(name, None, help, rows().map(|(labels, counts)| (labels, count(counts))))?;
    }
    let dropped = ledger.sources.iter().flat_map(|(source, counts)| {
        POLICIES.map(|(policy, name)| {
            let labels = [("source", source.as_str()), ("policy", name)];
            (labels, counts.dropped.get(&policy).copied().unwrap_or(0))
        })
    });
    out.counter("pitwire_samples_dropped", None, "Samples dropped, by policy.", dropped)?;
    let derived = &ledger.derived;
    out.counter("pitwire_derived_samples_made", None, "Samples that steps computed.", [([], derived.received)])?;
    let stored = [([], derived.stored)];
    out.counter("pitwire_derived_samples_stored", None, "Of these, acknowledged by the store.", stored)?;
    let help = "1 if every sample that came in is accounted for.";
    out.gauge("pitwire_ledger_balanced", None, help, [([], u64::from(ledger.balanced))])
}

fn steps(deeds: &[Deed], out: &mut Out) -> fmt::Result {
    let rows = deeds.iter().map(|deed| {
        let labels = [("step", deed.step.as_str()), ("rule", deed.rule.as_str()), ("reason", deed.reason.as_str())];
        (labels, deed.samples)
    });
    out.counter("pitwire_preprocess_samples", None, "Samples that a step did something about.", rows)
}

fn gaps(gaps: &[Declared], out: &mut Out) -> fmt::Result {
    let rows = || gaps.iter().map(|gap| ([("reason", gap.reason.as_str())], gap));
    let events = rows().map(|(labels, gap)| (labels, gap.events));
    out.counter("pitwire_gaps", None, "Gaps that were declared as events.", events)?;
    let frames = rows().map(|(labels, gap)| (labels, gap.frames));
    out.counter("pitwire_gap_frames", None, "Missing frames in them, where the sequence tells.", frames)?;
    let samples = rows().map(|(labels, gap)| (labels, gap.samples));
    out.counter("pitwire_gap_samples", None, "Missing samples in them, where that is known.", samples)
}

fn config(config: &ConfigStatus, out: &mut Out) -> fmt::Result {
    let revision = [([], config.revision)];
    out.gauge("pitwire_config_revision", None, "Configurations that came to hold; 1 from the start.", revision)?;
    out.counter("pitwire_config_refused", None, "Reloads that were refused.", [([], config.refused)])
}

fn sources(sources: &[SourceStatus], out: &mut Out) -> fmt::Result {
    let rows = || sources.iter().map(|source| ([("source", source.name.as_str())], source));
    let up = sources.iter().map(|source| {
        let labels = [("source", source.name.as_str()), ("kind", source.kind.as_str())];
        (labels, u64::from(source.state == SourceState::Connected))
    });
    out.gauge("pitwire_source_up", None, "1 if the source is connected.", up)?;
    let quiet = rows().filter_map(|(labels, source)| Some((labels, source.quiet_for_s?)));
    out.gauge("pitwire_source_quiet", SECONDS, "Time since the source's last byte.", quiet)?;
    let held = rows().map(|(labels, source)| (labels, source.held_frames));
    out.gauge("pitwire_source_held_frames", None, "Frames that wait for their catalogue.", held)?;

    type Line = (&'static str, Option<Unit>, &'static str, fn(&SourceStatus) -> u64);
    let counters: [Line; 6] = [
        ("pitwire_source_connects", None, "Times that the source has connected.", |source| source.connects),
        ("pitwire_source_received", BYTES, "Bytes read from the source.", |source| source.bytes),
        ("pitwire_source_messages", None, "Messages read from the source.", |source| source.messages),
        ("pitwire_source_frames", None, "Frames decoded from the source.", |source| source.frames),
        ("pitwire_source_malformed", None, "Frames that could not be decoded.", |source| source.malformed),
        ("pitwire_source_garbage", BYTES, "Bytes that belonged to no frame.", |source| source.garbage_bytes),
    ];
    for (name, unit, help, count) in counters {
        out.counter(name, unit, help, rows().map(|(labels, source)| (labels, count(source))))?;
    }
    Ok(())
}

fn devices(sources: &[SourceStatus], out: &mut Out) -> fmt::Result {
    // One row for a device whatever its boots, or a series would start with each and the rows be endless.
    let mut devices: BTreeMap<(&str, &str, &str), [u64; 5]> = BTreeMap::new();
    let all = sources.iter().flat_map(|source| source.devices.iter().map(|device| (source.name.as_str(), device)));
    for (source, device) in all {
        let DeviceStatus { frames, frames_lost, samples, samples_lost, duplicate_frames, .. } = *device;
        let sums = devices.entry((source, &device.car, &device.device)).or_default();
        for (sum, count) in sums.iter_mut().zip([frames, frames_lost, samples, samples_lost, duplicate_frames]) {
            *sum += count;
        }
    }
    let families = [
        ("pitwire_device_frames", "Frames that came from the device."),
        ("pitwire_device_frames_lost", "Frames that the device's sequence numbers show as lost on the way."),
        ("pitwire_device_samples", "Samples that came from the device."),
        ("pitwire_device_samples_lost", "Samples that the device says it dropped."),
        ("pitwire_device_duplicate_frames", "Frames of the device that came more than once."),
    ];
    for (index, (name, help)) in families.into_iter().enumerate() {
        let rows = devices.iter().map(|(&(source, car, device), sums)| {
            ([("source", source), ("car", car), ("device", device)], sums[index])
        });
        out.counter(name, None, help, rows)?;
    }
    Ok(())
}

fn spill(spill: &SpillStatus, out: &mut Out) -> fmt::Result {
    let states = SpillState::ALL.map(SpillState::as_str);
    out.state("pitwire_spill_state", "What the spill is about.", states, spill.state.as_str())?;
    let samples = [([], spill.backlog_samples)];
    out.gauge("pitwire_spill_backlog_samples", None, "Samples in the spill, still to be stored.", samples)?;
    let each = |of: fn(&PriorityStatus) -> u64| {
        spill.priorities.iter().map(move |queue| ([("priority", queue.priority.as_str())], of(queue)))
    };
    let help = "Samples in the spill by priority, where channels have several.";
    out.gauge("pitwire_spill_priority_backlog_samples", None, help, each(|queue| queue.backlog_samples))?;
    let help = "Samples that the full spill gave up, by priority, where channels have several.";
    out.counter("pitwire_spill_priority_dropped_samples", None, help, each(|queue| queue.dropped_samples))?;
    let undeclared = [([], spill.undeclared_records)];
    let help = "Records about what is gone that could not be kept: it is declared in the log only.";
    out.counter("pitwire_spill_undeclared_records", None, help, undeclared)?;
    let records = [([], spill.backlog_records)];
    out.gauge("pitwire_spill_backlog_records", None, "Records in the spill, still to be stored.", records)?;
    let quarantine = [([], spill.quarantine_records)];
    out.gauge("pitwire_spill_quarantine_records", None, "Records in the quarantine.", quarantine)?;
    let lost = [([], spill.quarantine_lost_messages)];
    let help = "Undecodable messages of serial ports that are lost: the quarantine could not be written.";
    out.counter("pitwire_spill_quarantine_lost_messages", None, help, lost)?;
    out.gauge("pitwire_spill_disk", BYTES, "What the spill takes on the disk.", [([], spill.disk_bytes)])?;
    let limit = [([], spill.disk_max_bytes)];
    out.gauge("pitwire_spill_disk_limit", BYTES, "What the spill may take on the disk.", limit)?;
    let encrypted = [([], u64::from(spill.encrypted))];
    out.gauge("pitwire_spill_encrypted", None, "Whether what is written to the spill is encrypted.", encrypted)?;
    let locked = [([], spill.locked_segments)];
    let help = "Segments of spill and quarantine under another key, left alone.";
    out.gauge("pitwire_spill_locked_segments", None, help, locked)?;
    let unscanned = spill.recovering.map_or(0, |scan| scan.bytes.saturating_sub(scan.bytes_done));
    let help = "What an earlier run left in the spill and is not scanned yet.";
    out.gauge("pitwire_spill_unscanned", BYTES, help, [([], unscanned)])?;
    let age = spill.oldest_age_s.map(|age| ([], age));
    out.gauge("pitwire_spill_oldest_age", SECONDS, "Age of the oldest record in the spill.", age)?;
    out.counter("pitwire_spill_written", BYTES, "Bytes written to the spill.", [([], spill.written_bytes)])?;
    out.counter("pitwire_spill_syncs", None, "Syncs of the spill to its disk.", [([], spill.syncs)])
}

fn store(store: &StoreStatus, out: &mut Out) -> fmt::Result {
    let states = StoreState::ALL.map(StoreState::as_str);
    out.state("pitwire_store_state", "Whether the store takes data.", states, store.state.as_str())?;
    out.counter("pitwire_store_rows", None, "Rows that the store acknowledged.", [([], store.rows_written)])?;
    let samples = [([], store.samples_written)];
    out.counter("pitwire_store_samples", None, "Samples in the rows that the store acknowledged.", samples)?;
    let in_flight = [([], store.in_flight)];
    out.gauge("pitwire_store_writes_in_flight", None, "Writes that wait for the store's answer.", in_flight)?;
    let limit = [([], store.in_flight_limit)];
    out.gauge("pitwire_store_writes_in_flight_limit", None, "Writes that may, as the store's latency allows.", limit)?;
    let quantiles = [("0.5", store.latency_ms.p50), ("0.99", store.latency_ms.p99)];
    let latency = quantiles.into_iter().filter_map(|(at, ms)| Some(([("quantile", at)], ms? / 1000.0)));
    out.gauge("pitwire_store_write_latency", SECONDS, "Quantiles of how long recent writes took.", latency)
}

//! Frames made by the wire's own encoder, and what becomes of them. By subject: `held`, `identity`, `faults`.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use pitwire_wire::{
    self as wire, Burst, ChannelEntry, Describe, DeviceName, EventKind, Header, Payload, Scan, ScanWriter, Status,
    Value, catalogue_revision, describe_parts,
};

use super::*;
use crate::clock::{SystemClock, Trust};
use crate::gauges::DeviceGauges;
use crate::item::Batch;
use crate::item::Body;
use crate::ledger::{Counts, Fate};
use crate::sample::{ClockBase, DeviceTime, Times, Values};

mod faults;
mod held;
mod identity;
mod missing;

const DURABLE_WITHIN: Duration = Duration::from_secs(1);
const RECEIVED: UnixMicros = UnixMicros(1_770_000_000_000_000);

const fn entry(id: u16, kind: wire::ValueKind, group: u8, name: &'static str) -> ChannelEntry<'static> {
    ChannelEntry { id, kind, group, scale: 0.5, offset: 1.0, rate_mhz: 100_000, name, unit: "V" }
}

/// The catalogue that most tests use: a burst channel of each kind and a group of three.
const CHANNELS: [ChannelEntry<'static>; 6] = [
    entry(1, wire::ValueKind::I16, 0, "b.i16"),
    entry(2, wire::ValueKind::I32, 0, "b.i32"),
    entry(3, wire::ValueKind::F32, 0, "b.f32"),
    entry(10, wire::ValueKind::I16, 1, "s.i16"),
    entry(11, wire::ValueKind::F32, 1, "s.f32"),
    entry(12, wire::ValueKind::I32, 1, "s.i32"),
];

fn revision() -> u32 {
    catalogue_revision(&CHANNELS).unwrap()
}

/// A device that numbers its frames.
#[derive(Clone)]
struct Device {
    name: &'static str,
    boot: u32,
    sequence: u32,
    catalogue: u32,
}

impl Device {
    fn new(name: &'static str) -> Self {
        Self { name, boot: 7, sequence: 0, catalogue: revision() }
    }

    fn frame(&mut self, t0_us: i64, payload: &Payload<'_>) -> Vec<u8> {
        let header = Header {
            catalogue: self.catalogue,
            boot: self.boot,
            sequence: self.sequence,
            t0_us,
            device: DeviceName::new(self.name).unwrap(),
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = vec![0; wire::limits::FRAME_BYTES_MAX];
        let length = wire::encode(&header, payload, &mut out).unwrap();
        out.truncate(length);
        out
    }

    fn describe(&mut self, base: wire::ClockBase) -> Vec<u8> {
        self.frame(0, &Payload::Describe(Describe::new(0, 1, base, CHANNELS.len() as u16, &CHANNELS)))
    }

    fn burst(&mut self, t0_us: i64, values: &[i16]) -> Vec<u8> {
        let values = wire::Values::I16(values);
        self.frame(t0_us, &Payload::Burst(Burst { channel: 1, period_ns: 10_000_000, values }))
    }

    fn status(&mut self, samples_before: u64, samples_dropped: u64) -> Vec<u8> {
        self.frame(0, &Payload::Status(Status { samples_before, samples_dropped, resets: 0 }))
    }
}

/// The stage with one source, and everything that it tells anybody.
struct Bench {
    stage: Decode,
    ledger: Arc<Ledger>,
    gauges: Arc<SourceGauges>,
    source: SourceId,
    remembered: Arc<Mutex<Vec<CatalogueRecord>>>,
    /// Numbers of the messages that were settled, in order.
    settled: Arc<Mutex<Vec<u32>>>,
    messages: u32,
    began: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(Vec::new(), FormatName::Wire, |_| ())
    }

    fn with(known: Vec<CatalogueRecord>, format: FormatName, change: impl FnOnce(&mut SourceSpec)) -> Self {
        let (ledger, began) = (Ledger::new(), Instant::now());
        let gauges = SourceGauges::new("src", "mqtt", "", began);
        let source = ledger.source("src");
        let mut spec = SourceSpec {
            id: source,
            name: "src".into(),
            car: "44".into(),
            car_is_fixed: false,
            device_prefix: String::new(),
            gauges: gauges.clone(),
            ledger: ledger.clone(),
        };
        change(&mut spec);
        let remembered: Arc<Mutex<Vec<CatalogueRecord>>> = Arc::default();
        let remember = remembered.clone();
        let remember: Remember = Arc::new(move |record: &_| remember.lock().unwrap().push(record.clone()));
        let gateway = Gateway::new(SystemClock::shared(), Trust::System);
        let stage = Decode::new(known, remember, DURABLE_WITHIN, gateway).source(spec, format);
        let settled = Arc::default();
        Self { stage, ledger, gauges, source, remembered, settled, messages: 0, began }
    }

    fn push(&mut self, body: Body, receipt: Receipt, accepted_at: Instant) -> Vec<Item> {
        let mut out = Vec::new();
        let message = RawMessage { body, accepted_at, received: RECEIVED, receipt };
        self.stage.process(RawBatch::one(self.source, message), &mut out);
        out
    }

    /// A message with a receipt; its number, and what was made of it.
    fn message_on(&mut self, topic: &str, payload: &[u8]) -> (u32, Vec<Item>) {
        let (number, settled) = (self.messages, self.settled.clone());
        self.messages += 1;
        let receipt = Receipt::new(move || settled.lock().unwrap().push(number));
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        let body = Body::Message { topic, payload: Bytes::copy_from_slice(payload) };
        (number, self.push(body, receipt, self.began))
    }

    fn message(&mut self, payload: &[u8]) -> Vec<Item> {
        self.message_on("pitwire/44/ecu", payload).1
    }

    fn stream(&mut self, bytes: &[u8]) -> Vec<Item> {
        self.push(Body::Stream(Bytes::copy_from_slice(bytes)), Receipt::none(), self.began)
    }

    fn settled(&self) -> Vec<u32> {
        self.settled.lock().unwrap().clone()
    }

    fn counts(&self) -> Counts {
        let now = self.ledger.snapshot();
        assert!(now.balanced, "{now:?}");
        now.total
    }

    fn device(&self, device: &str, boot: u32) -> DeviceGauges {
        self.gauges.devices()[&("44".to_owned(), device.to_owned(), boot)].clone()
    }

    fn malformed(&self) -> u64 {
        self.gauges.malformed.load(Ordering::Relaxed)
    }
}

/// What the stages behind do in the end.
fn settle(items: Vec<Item>) {
    for item in items {
        match item {
            Item::Batch(batch) => {
                batch.custody.tally.settle(Fate::Stored);
                batch.custody.receipt.settle();
            }
            Item::Event(event) => event.receipt.settle(),
            Item::Malformed(malformed) => malformed.receipt.settle(),
            Item::Catalogue(_) | Item::Flush(_) => {}
        }
    }
}

fn batches(items: &[Item]) -> Vec<&Batch> {
    items.iter().filter_map(|item| if let Item::Batch(batch) = item { Some(batch) } else { None }).collect()
}

fn reasons(items: &[Item]) -> Vec<&str> {
    items.iter().filter_map(|i| if let Item::Malformed(m) = i { Some(m.reason.as_str()) } else { None }).collect()
}

fn to_stream(frame: &[u8]) -> Vec<u8> {
    let mut out = vec![0; wire::limits::STREAM_BYTES_MAX];
    let length = wire::frame_to_stream(frame, &mut out).unwrap();
    out.truncate(length);
    out
}

#[test]
fn a_burst_becomes_a_column_of_its_own_kind_with_the_wires_times() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let payloads = [
        (wire::Values::I16(&[1, -2, i16::MIN]), 1, Values::I16(vec![1, -2, i16::MIN])),
        (wire::Values::I32(&[i32::MAX, 0, 5]), 2, Values::I32(vec![i32::MAX, 0, 5])),
        (wire::Values::F32(&[1.5, f32::INFINITY, -0.0]), 3, Values::F32(vec![1.5, f32::INFINITY, -0.0])),
    ];
    for (sent, channel, expected) in payloads {
        let burst = Burst { channel, period_ns: 272_727, values: sent };
        let items = bench.message(&device.frame(1_000, &Payload::Burst(burst)));
        let batch = batches(&items)[0];
        assert_eq!((&*batch.origin.car, &*batch.origin.device, batch.origin.boot), ("44", "ecu", 7));
        let column = &batch.columns[0];
        assert_eq!(column.values, expected);
        assert_eq!(column.times.iter().collect::<Vec<_>>(), [1_000, 1_272, 1_545]);
        assert_eq!((column.channel.scaling.scale, &*column.channel.unit), (0.5, "V"));
        settle(items);
    }
    assert_eq!((bench.counts().received, bench.counts().stored), (9, 9));
    assert_eq!(bench.settled(), [0, 1, 2, 3]);
}

#[test]
fn a_scan_becomes_one_column_for_each_channel_of_its_group() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let mut buffer = [0; 64];
    let mut rows = ScanWriter::new(&mut buffer);
    for row in 0..2 {
        for value in [Value::I16(row), Value::F32(f32::from(row) + 0.5), Value::I32(-i32::from(row))] {
            rows.push(value).unwrap();
        }
    }
    let scan = Scan { group: 1, period_ns: 1_000_000, count: 2, data: rows.data() };
    let items = bench.message(&device.frame(50, &Payload::Scan(scan)));
    let columns = &batches(&items)[0].columns;
    let names: Vec<&str> = columns.iter().map(|c| &*c.channel.name).collect();
    assert_eq!(names, ["s.i16", "s.f32", "s.i32"]);
    assert_eq!(columns[0].values, Values::I16(vec![0, 1]));
    assert_eq!(columns[1].values, Values::F32(vec![0.5, 1.5]));
    assert_eq!(columns[2].values, Values::I32(vec![0, -1]));
    assert_eq!(columns[2].times, Times::Regular { t0: DeviceTime(50), period_ns: 1_000_000, count: 2 });
    assert_eq!(bench.device("ecu", 7).samples, 6);
    settle(items);
    assert_eq!(bench.counts().stored, 6);
}

#[test]
fn frames_of_no_samples_are_no_fault_and_settle() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    settle(bench.message(&device.burst(0, &[])));
    let scan = Scan { group: 1, period_ns: 0, count: 0, data: &[] };
    settle(bench.message(&device.frame(0, &Payload::Scan(scan))));
    assert_eq!((bench.malformed(), bench.counts().received), (0, 0));
    assert_eq!(bench.settled(), [0, 1, 2]);
}

#[test]
fn an_event_keeps_its_place_and_its_receipt() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let event = wire::Event { kind: EventKind::Lap, number: 12, text: "lap 12" };
    let items = bench.message(&device.frame(77, &Payload::Event(event)));
    let Some(Item::Event(event)) = items.last() else { panic!("{items:?}") };
    assert_eq!(
        (event.kind, event.number, &*event.text, event.t, event.sequence),
        ("lap", 12, "lap 12", DeviceTime(77), 1)
    );
    assert_eq!(bench.settled(), [0], "not before the event is durable");
    settle(items);
    assert_eq!(bench.settled(), [0, 1]);
}

#[test]
fn a_status_tells_what_is_missing_and_makes_nothing() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    settle(bench.message(&device.burst(0, &[1, 2, 3])));
    let _lost = device.burst(30_000, &[4, 5]);
    assert!(bench.message(&device.status(5, 1)).is_empty());
    let seen = bench.device("ecu", 7);
    assert_eq!((seen.frames, seen.frames_lost, seen.samples_lost, seen.dropped_by_device), (3, 1, 2, 1));
    assert_eq!(bench.settled(), [0, 1, 2]);
}

#[test]
fn what_a_frame_says_of_undeclared_channels_is_quarantined_with_its_receipt() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let wrong = [
        Payload::Burst(Burst { channel: 99, period_ns: 0, values: wire::Values::I16(&[1]) }),
        Payload::Burst(Burst { channel: 1, period_ns: 0, values: wire::Values::F32(&[1.0]) }),
        Payload::Scan(Scan { group: 9, period_ns: 0, count: 1, data: &[0; 4] }),
        Payload::Scan(Scan { group: 1, period_ns: 0, count: 1, data: &[0; 4] }),
    ];
    let says = ["channel 99 is not declared", "declared as i16", "group 9 is not declared", "whose row has 10"];
    for (index, (payload, says)) in wrong.iter().zip(says).enumerate() {
        let items = bench.message(&device.frame(0, payload));
        assert!(reasons(&items)[0].contains(says), "{items:?}");
        assert!(batches(&items).is_empty());
        assert_eq!(bench.settled().len(), index + 1, "not before it is in the quarantine");
        settle(items);
        assert_eq!(bench.settled().len(), index + 2);
    }
    assert_eq!((bench.malformed(), bench.counts().received), (4, 0));
}

#[test]
fn a_catalogue_in_parts_is_complete_with_its_last_part_in_any_order() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    let parts: Vec<_> = describe_parts(&CHANNELS, wire::ClockBase::Utc, 110, 3).unwrap().collect();
    assert!(parts.len() > 2, "{}", parts.len());
    for part in parts.iter().rev().chain(&parts) {
        settle(bench.message(&device.frame(0, &Payload::Describe(*part))));
    }
    assert_eq!(bench.remembered.lock().unwrap().len(), 1, "told once, when it is complete");
    let items = bench.message(&device.burst(0, &[1]));
    let Item::Catalogue(catalogue) = &items[0] else { panic!("{items:?}") };
    let names: Vec<&str> = catalogue.channels.iter().map(|meta| &*meta.name).collect();
    assert_eq!(names, ["b.i16", "b.i32", "b.f32", "s.i16", "s.f32", "s.i32"]);
    let again = bench.message(&device.burst(10_000, &[1]));
    assert_eq!(again.len(), 1, "announced once for a boot");
    settle(items);
    settle(again);
}

#[test]
fn a_describe_that_contradicts_itself_is_refused() {
    let mut bench = Bench::new();
    let mut device = Device::new("ecu");
    let twice = [entry(1, wire::ValueKind::I16, 0, "a"), entry(2, wire::ValueKind::I16, 0, "a")];
    let items =
        bench.message(&device.frame(0, &Payload::Describe(Describe::new(0, 1, wire::ClockBase::Utc, 2, &twice))));
    assert_eq!(reasons(&items), ["describe names channel a twice"]);
    settle(items);
    let first = [entry(1, wire::ValueKind::I16, 0, "a")];
    let second = [entry(1, wire::ValueKind::I16, 0, "b")];
    settle(bench.message(&device.frame(0, &Payload::Describe(Describe::new(0, 2, wire::ClockBase::Utc, 2, &first)))));
    let items =
        bench.message(&device.frame(0, &Payload::Describe(Describe::new(1, 2, wire::ClockBase::Utc, 2, &second))));
    assert_eq!(reasons(&items), ["describe numbers two channels 1"]);
    settle(items);
    let items =
        bench.message(&device.frame(0, &Payload::Describe(Describe::new(0, 1, wire::ClockBase::Utc, 2, &first))));
    assert_eq!(reasons(&items), ["describe lists 1 channels and names 2"]);
    settle(items);
    settle(bench.message(&device.describe(wire::ClockBase::Utc)));
    let items = bench.message(&device.burst(0, &[1]));
    assert_eq!(batches(&items).len(), 1, "a good one counts afterwards");
    settle(items);
}

//! JSON messages, and what becomes of them.

use std::sync::atomic::Ordering;

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, Scripted, Trust};
use crate::item::Batch;
use crate::item::{Body, Event};
use crate::ledger::{Counts, Fate};
use crate::limits::{CHANNELS_PER_DEVICE_MAX, JSON_TEXT_BYTES_MAX};
use crate::sample::{ClockBase, Quality};

const RECEIVED_US: i64 = 1_770_000_000_000_000;

struct Bench {
    stage: Decode,
    ledger: Arc<Ledger>,
    gauges: Arc<SourceGauges>,
    source: SourceId,
    settled: Arc<Mutex<Vec<u32>>>,
    messages: u32,
    clock: Arc<Scripted>,
}

impl Bench {
    fn new() -> Self {
        let ledger = Ledger::new();
        let gauges = SourceGauges::new("gps", "mqtt", "", Instant::now());
        let source = ledger.source("gps");
        let spec = SourceSpec {
            id: source,
            name: "gps".into(),
            car: "44".into(),
            car_is_fixed: false,
            device_prefix: "x.".into(),
            gauges: gauges.clone(),
            ledger: ledger.clone(),
        };
        let clock = Scripted::manual(UnixMicros(RECEIVED_US));
        let gateway = Gateway::new(clock.clone(), Trust::System);
        let stage = Decode::new(Vec::new(), Arc::new(|_| ()), Duration::from_secs(1), gateway);
        let stage = stage.source(spec, FormatName::Json);
        Self { stage, ledger, gauges, source, settled: Arc::default(), messages: 0, clock }
    }

    /// Of the next message.
    fn receipt(&mut self) -> Receipt {
        let (number, settled) = (self.messages, self.settled.clone());
        self.messages += 1;
        Receipt::new(move || settled.lock().unwrap().push(number))
    }

    fn raw(&mut self, topic: &str, text: &str) -> RawMessage {
        let receipt = self.receipt();
        let body = Body::Message {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            payload: Bytes::copy_from_slice(text.as_bytes()),
        };
        let (accepted_at, received) = (self.clock.now(), self.clock.now_utc());
        RawMessage { body, accepted_at, received, receipt }
    }

    fn on(&mut self, topic: &str, text: &str) -> Vec<Item> {
        let (message, mut out) = (self.raw(topic, text), Vec::new());
        self.stage.process(RawBatch::one(self.source, message), &mut out);
        out
    }

    fn at_once(&mut self, texts: &[String]) -> Vec<Item> {
        let messages = texts.iter().map(|text| self.raw("pitwire/44/gps", text)).collect();
        let mut out = Vec::new();
        self.stage.process(RawBatch { source: self.source, messages }, &mut out);
        out
    }

    fn message(&mut self, text: &str) -> Vec<Item> {
        self.on("pitwire/44/gps", text)
    }

    fn counts(&self) -> Counts {
        let now = self.ledger.snapshot();
        assert!(now.balanced, "{now:?}");
        now.total
    }

    fn settled(&self) -> Vec<u32> {
        self.settled.lock().unwrap().clone()
    }
}

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

fn batch(items: &[Item]) -> &Batch {
    let found = items.iter().find_map(|item| if let Item::Batch(batch) = item { Some(batch) } else { None });
    found.unwrap_or_else(|| panic!("no batch in {items:?}"))
}

fn samples(items: &[Item]) -> Vec<(String, i64, f64, u16)> {
    let of = |c: &crate::sample::Column| -> Vec<_> {
        let flags = c.flags.iter(c.len()).enumerate();
        flags.map(|(i, flags)| (c.channel.name.to_string(), c.times.at(i), c.values.raw(i), flags.0)).collect()
    };
    batch(items).columns.iter().flat_map(of).collect()
}

fn events(items: &[Item]) -> Vec<&Event> {
    items.iter().filter_map(|item| if let Item::Event(event) = item { Some(event) } else { None }).collect()
}

fn reason(items: &[Item]) -> &str {
    match items {
        [Item::Malformed(malformed)] => &malformed.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_and_booleans_become_samples_at_the_messages_time() {
    let mut bench = Bench::new();
    let items =
        bench.message(r#"{"ts": 1700000000123.5, "values": {"lat": 52.5, "lon": -0.0, "fix": true, "x": null}}"#);
    let t = 1_700_000_000_123_500;
    let expected = [("lat", t, 52.5, 0), ("lon", t, -0.0, 0), ("fix", t, 1.0, 0)];
    assert_eq!(samples(&items), expected.map(|(name, t, v, q)| (name.to_owned(), t, v, q)));
    let origin = &batch(&items).origin;
    assert_eq!((&*origin.car, &*origin.device, origin.boot), ("44", "x.gps", 0));
    assert_eq!(bench.settled(), [0; 0]);
    settle(items);
    assert_eq!((bench.settled(), bench.counts().stored), (vec![0], 3));
}

#[test]
fn an_array_holds_several_times_and_has_one_receipt() {
    let mut bench = Bench::new();
    let items = bench.message(r#"[{"ts": 1, "values": {"a": 1}}, {"ts": 2, "values": {"a": 2, "t": "hi"}}]"#);
    assert_eq!(samples(&items), [("a".to_owned(), 1_000, 1.0, 0), ("a".to_owned(), 2_000, 2.0, 0)]);
    assert_eq!(events(&items)[0].text, "t=hi");
    let (mut batches, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|i| matches!(i, Item::Batch(_)));
    settle(std::mem::take(&mut batches));
    assert_eq!(bench.settled(), [0; 0], "the event is not durable yet");
    settle(others);
    assert_eq!(bench.settled(), [0]);
}

#[test]
fn without_a_time_that_of_receipt_is_taken_by_the_gateways_counter_flagged_and_never_twice() {
    let mut bench = Bench::new();
    let first = bench.message(r#"[{"values": {"a": 1}}, {"values": {"a": 2}}]"#);
    let uptime_us = bench.clock.uptime_us();
    let second = bench.message(r#"{"values": {"a": 1}}"#);
    // Whatever becomes of the wall clock.
    bench.clock.step_us(-50 * 31_557_600_000_000);
    bench.clock.pass(Duration::from_millis(3));
    let third = bench.message(r#"{"values": {"a": 1}}"#);
    let all = [first, second, third];
    let times: Vec<_> = all.iter().flat_map(|items| samples(items)).map(|s| (s.1 - uptime_us, s.3)).collect();
    let flag = Quality::RECEIVE_TIME.0;
    assert_eq!(times, [(0, flag), (1, flag), (2, flag), (3_000, flag)]);
    let origin = batch(&all[0]).origin.clone();
    assert_eq!((origin.boot, origin.base), (bench.clock.boot(), ClockBase::Boot));
    all.into_iter().for_each(settle);
    assert_eq!((bench.counts().stored, bench.counts().duplicate), (4, 0), "it cannot be told from a repetition");
}

#[test]
fn one_message_may_hold_records_with_a_time_and_without() {
    let mut bench = Bench::new();
    let items = bench.message(r#"[{"ts": 1, "values": {"a": 1}}, {"values": {"a": 2, "t": "box"}}]"#);
    let batches: Vec<&Batch> =
        items.iter().filter_map(|item| if let Item::Batch(batch) = item { Some(batch) } else { None }).collect();
    let made: Vec<_> = batches.iter().map(|b| (b.origin.boot, b.origin.base, b.columns[0].values.raw(0))).collect();
    assert_eq!(made, [(0, ClockBase::Utc, 1.0), (bench.clock.boot(), ClockBase::Boot, 2.0)]);
    assert_eq!(events(&items)[0].origin.base, ClockBase::Boot);
    settle(items);
    assert_eq!((bench.settled(), bench.counts().stored), (vec![0], 2));
}

#[test]
fn integers_beyond_what_f64_holds_and_texts_become_events() {
    let mut bench = Bench::new();
    let items = bench.message(
        r#"{"ts": 5, "values": {"a": 9007199254740992, "b": 9007199254740993, "c": -9007199254740993, "d": "pit"}}"#,
    );
    assert_eq!(samples(&items), [("a".to_owned(), 5_000, 9_007_199_254_740_992.0, 0)]);
    let mut texts: Vec<&str> = events(&items).iter().map(|event| &*event.text).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["b=9007199254740993", "c=-9007199254740993", "d=pit"]);
    settle(items);
    assert_eq!(bench.settled(), [0]);
}

#[test]
fn an_event_has_the_same_key_after_a_restart_and_another_one_for_other_words() {
    let key = |text: &str| {
        let mut bench = Bench::new();
        settle(bench.message(r#"{"ts": 1, "values": {"m": "before"}}"#));
        let items = bench.message(&format!(r#"{{"ts": 5, "values": {{"m": "{text}"}}}}"#));
        let key = (events(&items)[0].t, events(&items)[0].sequence);
        settle(items);
        key
    };
    assert_eq!(key("box"), key("box"));
    assert_ne!(key("box"), key("stay out"));
}

#[test]
fn a_message_that_came_before_joins_the_first() {
    let mut bench = Bench::new();
    let text = r#"{"ts": 1, "values": {"a": 1, "b": 2}}"#;
    let first = bench.message(text);
    assert!(bench.message(text).is_empty());
    assert_eq!(bench.settled(), [0; 0]);
    settle(first);
    assert_eq!(bench.settled(), [0, 1]);
    assert!(bench.message(text).is_empty());
    assert_eq!((bench.counts().stored, bench.counts().duplicate), (2, 4));
    let other = bench.on("pitwire/44/other", text);
    assert_eq!(samples(&other).len(), 2, "on another topic it is another message");
    settle(other);
}

#[test]
fn the_topic_names_the_car() {
    let mut bench = Bench::new();
    let (ours, theirs) = (r#"{"ts": 1, "values": {"a": 1}}"#, r#"{"ts": 1, "values": {"a": 2}}"#);
    let (a, b) = (bench.on("pitwire/44/gps", ours), bench.on("pitwire/7/gps", theirs));
    assert_eq!((&*batch(&a).origin.car, &*batch(&b).origin.car), ("44", "7"));
    settle(a);
    settle(b);
    let bad = bench.on("pitwire/*/gps", ours);
    assert!(reason(&bad).contains("names the car"));
    settle(bad);
    assert_eq!(bench.settled(), [0, 1, 2]);
}

#[test]
fn messages_that_come_at_once_leave_as_one_batch_and_settle_together() {
    let mut bench = Bench::new();
    let text = |t: u32, values: &str| format!(r#"{{"ts": {t}, "values": {{{values}}}}}"#);
    let texts = [
        text(1, r#""a": 1, "b": 10"#),
        text(2, r#""b": 20, "a": 2, "note": "box""#),
        // Wrong in its middle: nothing of it is left behind.
        text(3, r#""a": 3, "b": [1]"#),
        text(1, r#""a": 1, "b": 10"#),
        r#"{"values": {"a": 4}}"#.to_owned(),
        text(5, r#""c": 5"#),
    ];
    let items = bench.at_once(&texts);
    let kinds = |item: &Item| match item {
        Item::Batch(_) => "batch",
        Item::Event(_) => "event",
        Item::Malformed(_) => "malformed",
        Item::Catalogue(_) | Item::Flush(_) => "?",
    };
    assert_eq!(items.iter().map(kinds).collect::<Vec<_>>(), ["event", "malformed", "batch", "batch"]);
    let of = |name: &str, t, v| (name.to_owned(), t, v, 0);
    assert_eq!(
        samples(&items),
        [of("a", 1_000, 1.0), of("a", 2_000, 2.0), of("b", 1_000, 10.0), of("b", 2_000, 20.0), of("c", 5_000, 5.0)]
    );
    assert_eq!(bench.counts().duplicate, 2);
    let mut items = items.into_iter();
    settle(items.by_ref().take(2).collect());
    assert_eq!(bench.settled(), [2], "the malformed one is kept");
    settle(items.next().into_iter().collect());
    let mut settled = bench.settled();
    settled.sort_unstable();
    assert_eq!(settled, [0, 1, 2, 3, 5], "the repetition with its original; the one without a time waits");
    settle(items.collect());
    assert_eq!((bench.settled().len(), bench.counts().stored), (6, 6));
}

#[test]
fn a_batch_of_which_one_is_void_is_void_as_a_whole_and_one_without_a_receipt_settles_nobody() {
    let mut bench = Bench::new();
    let texts = [1, 2].map(|t| format!(r#"{{"ts": {t}, "values": {{"a": {t}}}}}"#));
    drop(bench.at_once(&texts));
    assert_eq!(bench.settled(), [0; 0]);
    // They come again, and are no repetitions then.
    let again = bench.at_once(&texts);
    assert_eq!(samples(&again).len(), 2);
    settle(again);
    assert_eq!(bench.settled(), [2, 3]);

    let body = |text: &str| Body::Message {
        topic: Bytes::from_static(b"pitwire/44/gps"),
        payload: Bytes::copy_from_slice(text.as_bytes()),
    };
    let (accepted_at, received) = (bench.clock.now(), bench.clock.now_utc());
    let receipt = bench.receipt();
    let none =
        RawMessage { body: body(r#"{"ts": 8, "values": {"a": 8}}"#), accepted_at, received, receipt: Receipt::none() };
    let owed = RawMessage { body: body(r#"{"ts": 9, "values": {"a": 9}}"#), accepted_at, received, receipt };
    let mut out = Vec::new();
    bench.stage.process(RawBatch { source: bench.source, messages: vec![none, owed] }, &mut out);
    assert_eq!((samples(&out).len(), bench.settled().len()), (2, 2), "not before it is stored");
    settle(out);
    assert_eq!(bench.settled(), [2, 3, 4]);
}

#[test]
fn of_a_channel_that_is_named_twice_the_last_value_counts() {
    let mut bench = Bench::new();
    let items = bench
        .message(r#"[{"ts": 1, "values": {"a": 1, "b": 2, "a": 3}}, {"ts": 2, "values": {"a\u0062": 4, "a": 5}}]"#);
    let of = |name: &str, t, v| (name.to_owned(), t, v, 0);
    assert_eq!(samples(&items), [of("a", 1_000, 3.0), of("a", 2_000, 5.0), of("b", 1_000, 2.0), of("ab", 2_000, 4.0)]);
    settle(items);
}

#[test]
fn what_is_wrong_is_quarantined_whole_with_the_reason_and_settles_then() {
    let mut bench = Bench::new();
    let long = "x".repeat(JSON_TEXT_BYTES_MAX + 1);
    let cases = [
        ("{", "not json"),
        ("", "not json"),
        ("[1]", "expected {"),
        (r#"{"ts": "now", "values": {}}"#, "expected {"),
        (r#"{"ts": 1}"#, "expected {"),
        (r#"{"ts": 1e30, "values": {"a": 1}}"#, "is not a time in ms"),
        (r#"{"ts": 1, "values": {"a": [1]}}"#, "neither a number nor a text"),
        (r#"{"ts": 1, "values": {"": 1}}"#, "a channel's name"),
        (r#"{"ts": 1, "values": {"a": 1}, "ts": 2}"#, "ts is named twice"),
        (r#"{"ts": 1, "values": {"a": 1}, "values": {}}"#, "values is named twice"),
        (r#"{"ts": 1, "values": {"a\n": "x"}}"#, "a channel's name"),
        (&format!(r#"{{"ts": 1, "values": {{"a": 1, "t": "{long}"}}}}"#), "at most 4096"),
    ];
    for (index, (text, says)) in cases.iter().enumerate() {
        let items = bench.message(text);
        assert!(reason(&items).contains(says), "{text}: {}", reason(&items));
        assert_eq!(bench.settled().len(), index);
        settle(items);
        assert_eq!(bench.settled().len(), index + 1);
    }
    assert_eq!(bench.gauges.malformed.load(Ordering::Relaxed), cases.len() as u64);
    assert_eq!(bench.counts(), Counts::default(), "no sample was ever counted");
}

#[test]
fn channels_are_bounded() {
    let mut bench = Bench::new();
    for start in (0..CHANNELS_PER_DEVICE_MAX).step_by(512) {
        let values: Vec<String> = (start..start + 512).map(|n| format!(r#""c{n}": 1"#)).collect();
        settle(bench.message(&format!(r#"{{"ts": {start}, "values": {{{}}}}}"#, values.join(","))));
    }
    assert_eq!(bench.counts().stored, CHANNELS_PER_DEVICE_MAX as u64);
    let items = bench.message(r#"{"ts": 1, "values": {"one.more": 1}}"#);
    assert!(reason(&items).contains("different channels"));
    settle(items);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_never_panics_and_every_message_settles_once(
        texts in prop::collection::vec(
            prop_oneof![
                "[\\[\\]{}:,\"a-c0-9.eE+ -]{0,60}",
                ("-?[0-9]{1,22}(\\.[0-9]{1,4})?(e-?[0-9]{1,3})?", "[a-c]{0,2}", "-?[0-9]{1,22}(e[0-9]{1,3})?|true|null|\"x\"|\\[\\]")
                    .prop_map(|(ts, name, value)| format!(r#"{{"ts":{ts},"values":{{"{name}":{value}}}}}"#)),
            ],
            1..40,
        ),
    ) {
        let mut bench = Bench::new();
        let mut made = Vec::new();
        for text in &texts {
            made.extend(bench.message(text));
        }
        settle(made);
        let counts = bench.counts();
        prop_assert_eq!(counts.received, counts.stored + counts.duplicate);
        let mut settled = bench.settled();
        settled.sort_unstable();
        prop_assert_eq!(settled, (0..bench.messages).collect::<Vec<_>>());
    }
}

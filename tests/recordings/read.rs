//! Recordings of real cars and receivers, channel by channel.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One channel of a recording.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) name: String,
    /// µs from the recording's start, strictly increasing.
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// What one logger wrote.
#[derive(Clone)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) channels: Vec<Channel>,
}

#[derive(Default)]
struct Columns(BTreeMap<String, (Vec<i64>, Vec<f64>)>);

impl Columns {
    fn push(&mut self, name: &str, t: i64, value: f64) {
        let (times, values) = self.0.entry(name.into()).or_default();
        // Loggers round their times: what comes twice within a µs is one sample.
        if times.last().is_none_or(|last| *last < t) {
            times.push(t);
            values.push(value);
        }
    }

    fn recording(self, name: &str) -> Recording {
        let channel = |(name, (times, values))| Channel { name, times, values };
        Recording { name: name.into(), channels: self.0.into_iter().map(channel).collect() }
    }
}

fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A signal of a DBC: `SG_ NAME : START|LENGTH@1SIGN (SCALE, OFFSET) …`, little-endian.
struct Signal {
    name: String,
    start: u32,
    length: u32,
    signed: bool,
    scale: f64,
    offset: f64,
}

fn signals(dbc: &str) -> BTreeMap<u32, Vec<Signal>> {
    let (mut all, mut id) = (BTreeMap::<u32, Vec<Signal>>::new(), 0);
    for line in dbc.lines() {
        let parts: Vec<&str> =
            line.split([' ', ':', '|', '@', '(', ',', ')']).filter(|part| !part.is_empty()).collect();
        match parts[..] {
            ["BO_", number, ..] => id = number.parse().expect("an id"),
            ["SG_", name, start, length, order, scale, offset, ..] => all.entry(id).or_default().push(Signal {
                name: name.into(),
                start: start.parse().expect("a bit"),
                length: length.parse().expect("a length"),
                signed: order == "1-",
                scale: scale.parse().expect("a factor"),
                offset: offset.parse().expect("a summand"),
            }),
            _ => {}
        }
    }
    all
}

/// The 20 signals of `can_sample.log`, checked against what cantools made of it.
pub(crate) fn can(data: &Path) -> Recording {
    let signals = signals(&text(&data.join("can/sample_can_spec.dbc")));
    let (mut columns, mut sums, mut first) = (Columns::default(), BTreeMap::<String, (usize, f64)>::new(), None);
    for line in text(&data.join("can/can_sample.log")).lines() {
        let mut parts = line.split([' ', '(', ')', '#']).filter(|part| !part.is_empty());
        let (Some(time), _, Some(id), payload) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            panic!("{line}")
        };
        let (seconds, micros) = time.split_once('.').expect("a time");
        let t = seconds.parse::<i64>().expect("seconds") * 1_000_000 + micros.parse::<i64>().expect("µs");
        let t = t - *first.get_or_insert(t);
        let payload = payload.unwrap_or("");
        let byte = |at: usize| u64::from_str_radix(payload.get(at * 2..at * 2 + 2).unwrap_or("0"), 16).expect("hex");
        let bits = (0..8).fold(0, |bits, at| bits | byte(at) << (8 * at));
        for signal in signals.get(&u32::from_str_radix(id, 16).expect("an id")).into_iter().flatten() {
            let raw = (bits >> signal.start) & ((1 << signal.length) - 1);
            let negative = signal.signed && raw >> (signal.length - 1) == 1;
            let raw = if negative { raw as i64 - (1 << signal.length) } else { raw as i64 };
            let value = raw as f64 * signal.scale + signal.offset;
            let (count, sum) = sums.entry(signal.name.clone()).or_default();
            (*count, *sum) = (*count + 1, *sum + value);
            columns.push(&signal.name, t, value);
        }
    }
    let expected = text(&data.join("can/can_sample.expected.csv"));
    assert_eq!(sums.len(), expected.lines().count() - 1);
    for line in expected.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (count, sum) = sums[fields[1]];
        let told: f64 = fields[3].parse().expect("a sum");
        assert_eq!(count, fields[2].parse::<usize>().expect("a count"), "{line}");
        assert!((sum - told).abs() <= told.abs() * 1e-9 + 1e-6, "{line}: {sum}");
    }
    columns.recording("can_sample.log")
}

/// A logger's export: seconds in the first column, a channel in each other.
pub(crate) fn csv(data: &Path, name: &str) -> Recording {
    let text = text(&data.join("can").join(name));
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().expect("a head").split(',').collect();
    let mut columns = Columns::default();
    for line in lines {
        let fields: Vec<f64> = line.split(',').map(|field| field.parse().expect("a number")).collect();
        assert_eq!(fields.len(), names.len());
        for (name, value) in names.iter().zip(&fields).skip(1) {
            columns.push(name.split(" (").next().expect("a name"), (fields[0] * 1e6).round() as i64, *value);
        }
    }
    columns.recording(name)
}

/// An engine's log as its converter wrote it: every number of a record is a channel, `Time` in s.
pub(crate) fn mlg(data: &Path, name: &str) -> Recording {
    let all: serde_json::Value = serde_json::from_str(&text(&data.join("mlg").join(name))).expect("JSON");
    let mut columns = Columns::default();
    for record in all["records"].as_array().expect("records") {
        let Some(seconds) = record["Time"].as_f64() else { continue };
        for (channel, value) in record.as_object().expect("a record") {
            if let Some(value) = value.as_f64().filter(|_| channel != "Time" && channel != "timestamp") {
                columns.push(channel, (seconds * 1e6).round() as i64, value);
            }
        }
    }
    columns.recording(name)
}

/// Speed, course and position of a receiver's valid RMC sentences.
pub(crate) fn nmea(data: &Path, name: &str) -> Recording {
    let mut columns = Columns::default();
    for line in text(&data.join("nmea").join(name)).lines() {
        let Some((body, checksum)) = line.strip_prefix('$').and_then(|line| line.split_once('*')) else { continue };
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        let fields: Vec<&str> = body.split(',').collect();
        if u8::from_str_radix(checksum.trim(), 16) != Ok(sum) || fields.len() < 9 || &fields[0][2..] != "RMC" {
            continue;
        }
        let Ok(time) = fields[1].parse::<f64>() else { continue };
        let (hours, minutes, seconds) = ((time / 1e4).floor(), (time / 1e2).floor() % 100.0, time % 100.0);
        let t = ((hours * 3600.0 + minutes * 60.0 + seconds) * 1e6).round() as i64;
        for (channel, field) in [("latitude", 3), ("longitude", 5), ("speed", 7), ("course", 8)] {
            if let (Ok(value), "A") = (fields[field].parse::<f64>(), fields[2]) {
                let degrees = (value / 100.0).floor() + value % 100.0 / 60.0;
                columns.push(channel, t, if field < 7 { degrees } else { value });
            }
        }
    }
    columns.recording(name)
}

//! What the tests of whole ports share: a reader of a line, and an audit of its own.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmware_sim::{ClockBase, Options, Output, Simulator, Speed, Stop, Summary, Tier};
use pitwire_wire::{Deframer, Payload, Piece, ValueKind, decode};

/// 2026-01-01T00:00:00Z.
pub const START_US: i64 = 1_767_225_600_000_000;
const O_NOCTTY: i32 = 0o400;

/// Reads a terminal until its other end is gone.
pub fn read_all(path: &Path) -> JoinHandle<Vec<u8>> {
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut port = OpenOptions::new().read(true).custom_flags(O_NOCTTY).open(&path).unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 65_536];
        while let Ok(n @ 1..) = port.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..n]);
        }
        bytes
    })
}

/// Options for a quick and repeatable run over one pseudo-terminal.
pub fn quick(tier: Tier, seconds: u64, dir: &Path) -> Options {
    Options {
        tier,
        run_for: Some(Duration::from_secs(seconds)),
        speed: Speed::Max,
        block: true,
        outputs: vec![Output::Pty { link: None }],
        manifest: Some(dir.join("manifest.jsonl")),
        start_us: Some(START_US),
        ..Options::default()
    }
}

/// Runs to the end with a reader on each pseudo-terminal.
pub fn run(options: Options) -> (Summary, Vec<Vec<u8>>) {
    let simulator = Simulator::prepare(options).unwrap();
    let readers: Vec<_> = simulator.ports().iter().map(|path| read_all(path)).collect();
    let summary = simulator.run(&Stop::new()).unwrap();
    (summary, readers.into_iter().map(|reader| reader.join().unwrap()).collect())
}

pub type Key = (String, u32, String, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub samples: u64,
    pub first_us: i64,
    pub last_us: i64,
    pub digest: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSeen {
    pub fault: String,
    pub device: String,
    pub boot: u32,
    pub seq_from: u32,
    pub seq_to: u32,
    pub samples: u64,
}

/// A manifest, as a reader of its own understands it.
#[derive(Debug, Default)]
pub struct Manifest {
    pub slots: BTreeMap<Key, Slot>,
    pub faults: Vec<FaultSeen>,
}

impl Manifest {
    pub fn read(path: &Path) -> Self {
        let mut manifest = Self::default();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| value[key].as_str().unwrap().to_owned();
            let number = |key: &str| value[key].as_u64().unwrap();
            let time = |key: &str| value[key].as_i64().unwrap();
            if value.get("fault").is_some() {
                manifest.faults.push(FaultSeen {
                    fault: text("fault"),
                    device: text("device"),
                    boot: number("boot") as u32,
                    seq_from: number("seq_from") as u32,
                    seq_to: number("seq_to") as u32,
                    samples: number("samples"),
                });
                continue;
            }
            let key = (text("device"), number("boot") as u32, text("channel"), time("slot"));
            let slot = Slot {
                samples: number("samples"),
                first_us: time("t_first_us"),
                last_us: time("t_last_us"),
                digest: number("digest"),
            };
            assert!(manifest.slots.insert(key.clone(), slot).is_none(), "{key:?} stands twice");
        }
        manifest
    }

    pub fn samples(&self) -> u64 {
        self.slots.values().map(|slot| slot.samples).sum()
    }

    pub fn fault_samples(&self, fault: &str) -> u64 {
        self.faults.iter().filter(|f| f.fault == fault).map(|f| f.samples).sum()
    }
}

/// One frame that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    pub device: String,
    pub boot: u32,
    pub sequence: u32,
    pub t0_us: i64,
    pub kind: &'static str,
    pub samples: u64,
}

#[derive(Debug, Default)]
pub struct Received {
    pub frames: Vec<Arrived>,
    pub slots: BTreeMap<Key, Slot>,
    pub repeated: u64,
    pub garbage_bytes: u64,
    pub events: Vec<(i64, String)>,
    pub dropped_by_device: u64,
    pub bases: HashSet<ClockBase>,
}

struct Channel {
    kind: ValueKind,
    group: u8,
    scale: f64,
    offset: f64,
    name: String,
}

/// Takes a line's bytes apart.
pub fn receive_line(bytes: &[u8]) -> Received {
    let mut deframer = Deframer::new();
    let (mut frames, mut garbage, mut rest) = (Vec::new(), 0, bytes);
    loop {
        let (taken, piece) = deframer.push(rest);
        rest = &rest[taken..];
        match piece {
            Some(Piece::Frame(frame)) => frames.push(frame.to_vec()),
            Some(Piece::Garbage { bytes, .. }) => garbage += bytes as u64,
            None if rest.is_empty() => break,
            None => {}
        }
    }
    let mut received = receive(&frames);
    received.garbage_bytes = garbage;
    received
}

/// Takes frames apart: catalogues first, then the samples, each frame once.
pub fn receive(frames: &[Vec<u8>]) -> Received {
    let mut received = Received::default();
    let mut catalogues: HashMap<String, BTreeMap<u16, Channel>> = HashMap::new();
    for frame in frames {
        let (header, Payload::Describe(part)) = decode(frame).unwrap() else { continue };
        received.bases.insert(part.clock_base);
        for c in part.channels() {
            let channel =
                Channel { kind: c.kind, group: c.group, scale: c.scale, offset: c.offset, name: c.name.to_owned() };
            catalogues.entry(header.device.to_string()).or_default().insert(c.id, channel);
        }
    }
    let mut seen = HashSet::new();
    for frame in frames {
        let (header, payload) = decode(frame).unwrap();
        let device = header.device.to_string();
        if !seen.insert((device.clone(), header.boot, header.sequence)) {
            received.repeated += 1;
            continue;
        }
        let mut samples = Vec::new();
        match &payload {
            Payload::Burst(burst) => {
                let channel = &catalogues[&device][&burst.channel];
                for (i, value) in burst.values.iter().enumerate() {
                    samples.push((channel, burst.time_us(header.t0_us, i), value.as_f64()));
                }
            }
            Payload::Scan(scan) => {
                let mut offset = 0;
                for channel in catalogues[&device].values().filter(|c| c.group == scan.group) {
                    for (i, value) in scan.column(offset, channel.kind).unwrap().iter().enumerate() {
                        samples.push((channel, scan.time_us(header.t0_us, i), value.as_f64()));
                    }
                    offset += channel.kind.bytes();
                }
                assert_eq!(offset, scan.row_bytes(), "a row is the group's channels");
            }
            Payload::Event(event) => received.events.push((event.number, event.text.to_owned())),
            Payload::Status(status) => received.dropped_by_device += status.samples_dropped,
            Payload::Describe(_) => {}
        }
        received.frames.push(Arrived {
            device: device.clone(),
            boot: header.boot,
            sequence: header.sequence,
            t0_us: header.t0_us,
            kind: payload.kind().as_str(),
            samples: samples.len() as u64,
        });
        for (channel, t_us, raw) in samples {
            let mut hashed = t_us.to_le_bytes().to_vec();
            hashed.extend((raw * channel.scale + channel.offset).to_le_bytes());
            let digest = xxhash_rust::xxh3::xxh3_64(&hashed);
            let key = (device.clone(), header.boot, channel.name.clone(), t_us.div_euclid(1_000_000));
            let slot = received.slots.entry(key).or_insert(Slot {
                samples: 0,
                first_us: i64::MAX,
                last_us: i64::MIN,
                digest: 0,
            });
            slot.samples += 1;
            slot.first_us = slot.first_us.min(t_us);
            slot.last_us = slot.last_us.max(t_us);
            slot.digest = slot.digest.wrapping_add(digest);
        }
    }
    received
}

impl Received {
    pub fn samples(&self) -> u64 {
        self.slots.values().map(|slot| slot.samples).sum()
    }

    /// Samples that did not arrive; panics if anything arrived that was not sent, or altered.
    pub fn missing(&self, manifest: &Manifest) -> u64 {
        for (key, found) in &self.slots {
            let sent = manifest.slots.get(key).unwrap_or_else(|| panic!("{key:?} was never sent"));
            assert!(found.samples <= sent.samples, "{key:?}: more than was sent");
            assert!(found.samples < sent.samples || found == sent, "{key:?}: {found:?} for {sent:?}");
        }
        manifest.samples() - self.samples()
    }
}

/// Waits until something holds, at most 10 s.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The manifest that [`quick`] asks for.
pub fn manifest_in(dir: &Path) -> PathBuf {
    dir.join("manifest.jsonl")
}

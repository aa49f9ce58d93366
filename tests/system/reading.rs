//! What others read without our program: `tools/read_chunks.py`, and every block of `docs/reading.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pitwire::codec::{self, RunTimes};
use pitwire::row::{ChunkRow, ExtentRow, Layout, Rows, day_of};
use pitwire::sample::{Flags, Quality, Scaling, Values};
use pitwire::store;

use crate::support::{
    Agent, Bench, Broker, Keyspace, PATIENCE, Setup, Sim, audit, mqtt_source, number, pitwire, shared_node, skip, turn,
    utc_us,
};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python that has what `tools/requirements.txt` names; says loudly that the test is skipped without.
fn python() -> Option<PathBuf> {
    let python = project(".cache/python/bin/python");
    if !python.exists() {
        skip(std::thread::current().name().unwrap_or("?"), "no .cache/python: run tests/setup test, with Python 3.10");
        return None;
    }
    Some(python)
}

#[track_caller]
fn succeeded(what: &str, output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}\n{out}\n{err}");
    out.into_owned()
}

/// An agent that stores every car of `broker`.
fn agent_of_all_cars(bench: &Bench, broker: &Broker, store: String) -> Agent {
    let more = mqtt_source("car", &broker.url()).replace("pitwire/44/#", "pitwire/#")
        + "[layout]\nrows = [\"engine.oil.temp\", \"*.pressure\"]\n";
    let agent = Agent::start(bench, &Setup { store, more, ..Setup::default() });
    agent.until_subscribed();
    agent
}

/// Samples by (device, channel): (UTC µs, value's bits, flags), in order.
type Seen = BTreeMap<(String, String), Vec<(i64, u64, u16)>>;

fn seen(csv: &str, columns: [&str; 5]) -> Seen {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let at = columns.map(|column| header.iter().position(|name| *name == column).unwrap());
    let mut seen = Seen::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [t_us, device, channel, value, quality] = at.map(|at| fields[at]);
        let value: f64 = value.parse().unwrap();
        let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        let of = seen.entry((device.to_owned(), channel.to_owned())).or_default();
        of.push((t_us.parse().unwrap(), bits, quality.parse().unwrap()));
    }
    seen.values_mut().for_each(|of| of.sort_unstable());
    seen
}

/// What `pitwire export` and `tools/read_chunks.py` see of a car: the same, and how many samples that is.
#[track_caller]
fn compare(python: &Path, store: &str, car: &str) -> u64 {
    const COLUMNS: [&str; 5] = ["t_us", "device", "channel", "value", "quality"];
    let ours = pitwire(&["export", "--store", store, "--car", car, "--format", "csv"]);
    let ours = seen(&succeeded("export", ours), COLUMNS);
    let tool = project("tools/read_chunks.py");
    let theirs = Command::new(python).arg(tool).args([store, "--car", car]).output().unwrap();
    let theirs = seen(&succeeded("read_chunks.py", theirs), COLUMNS);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (key, of) in &ours {
        let first = of.iter().zip(&theirs[key]).position(|(a, b)| a != b);
        assert_eq!(first.map(|at| (of[at], theirs[key][at])), None, "{key:?}");
        assert_eq!(of.len(), theirs[key].len(), "{key:?}");
    }
    ours.values().map(|of| of.len() as u64).sum()
}

#[test]
fn a_reader_in_python_sees_what_the_export_sees() {
    let Some(python) = python() else { return };
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    for (folder, store) in [("c", keyspace.url()), ("s", bench.sqlite())] {
        let inner = Bench::new();
        let mut agent = agent_of_all_cars(&inner, &broker, store.clone());
        let cars = [("wide", "7", "1s"), ("can", "44", "3s")];
        let sent = cars.map(|(tier, car, length)| {
            let arguments = ["--tier", tier, "--car", car, "--for", length, "--mqtt", &broker.url()];
            (car, Sim::start(&inner, &format!("{folder}{car}"), &arguments).finish())
        });
        agent.until_home(PATIENCE);
        agent.terminate();
        for (car, sent) in &sent {
            audit(sent.path(), &store).assert_exact();
            assert_eq!(compare(&python, &store, car), sent.sent(), "{store} {car}");
        }
        bench.figure(&format!("{} samples of {store} alike", sent.iter().map(|(_, sent)| sent.sent()).sum::<u64>()));
    }
}

/// A number that follows from its index: the same in each run, and without a pattern.
fn mixed(index: u64) -> u64 {
    let mut x = index.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

/// Values of each kind that go each way: constant, straight, bent, noisy, decimal, any pattern of bits.
fn ways(n: usize, seed: u64) -> Vec<Values> {
    let noise = |i: usize, bits: u32| (mixed(seed * 10_000 + i as u64) >> (64 - bits)) as i32;
    let i32s = |of: &dyn Fn(usize) -> i32| Values::I32((0..n).map(of).collect());
    let f64s = |of: &dyn Fn(usize) -> f64| Values::F64((0..n).map(of).collect());
    vec![
        Values::I16(vec![-7; n]),
        Values::I16((0..n).map(|i| (i * i) as i16).collect()),
        Values::I16((0..n).map(|i| noise(i, 16) as i16).collect()),
        Values::I16((0..n).map(|i| ((i as f64 * 0.03).sin() * 9_000.0) as i16 + noise(i, 3) as i16).collect()),
        i32s(&|i| 70_000 + 3 * i as i32),
        i32s(&|i| noise(i, 32)),
        i32s(&|i| if i % 2 == 0 { i32::MIN } else { i32::MAX }),
        Values::F32((0..n).map(|i| 1.5 + (i / 3) as f32).collect()),
        Values::F32((0..n).map(|i| f32::from_bits(noise(i, 32) as u32)).collect()),
        f64s(&|i| f64::from(noise(i, 9)) / 10.0),
        f64s(&|i| (i as f64 * 0.01).sin()),
        f64s(&|i| f64::from_bits(mixed(seed + i as u64))),
        f64s(&|i| [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0][i % 5]),
    ]
}

fn times(d0: i64, n: usize, way: u64) -> RunTimes {
    let mut times = RunTimes::new();
    match if n < 2 { 0 } else { way % 3 } {
        0 => times.push_run(d0, 272_727, n as u32),
        1 => {
            times.push_run(d0, 1_000_000, (n / 2) as u32);
            times.push_run(d0 + 400_000, 1_333_333, (n - n / 2) as u32);
        }
        _ => (0..n as i64)
            .for_each(|i| times.push(d0 + i * 900 + if i > 0 { (mixed(i as u64) % 700) as i64 } else { 0 })),
    }
    times
}

#[test]
fn a_reader_in_python_reads_every_way_that_a_chunk_may_go() {
    let Some(python) = python() else { return };
    let _turn = turn(false);
    let bench = Bench::new();
    let bucket = utc_us() / 60_000_000 * 60_000_000;
    let mut rows = Rows::default();
    let scalings = [(1.0, 0.0), (0.01, -40.0), (1.0 / 3.0, 1e300), (0.0078125, 0.5)]
        .map(|(scale, offset)| Scaling { scale, offset });
    for (n, seed) in [1, 2, 3, 4, 20, 73, 300, 700].into_iter().zip(1..) {
        for (values, index) in ways(n, seed).into_iter().zip(0..) {
            let (d0, way) = (bucket + 1_000_000 * seed as i64, seed + index);
            let mut flags = Flags::default();
            if way % 4 == 0 {
                (0..n).for_each(|i| flags.push(Quality((i / 3 % 2) as u16 * 0x2001), 1, i));
            }
            let times = times(d0, n, way);
            let data = codec::encode(d0, &times, &values, scalings[way as usize % scalings.len()], &flags);
            rows.chunks.push(ChunkRow {
                car: "44".into(),
                device: "ecu".into(),
                bucket,
                channel: format!("c{seed}_{index}"),
                t0: d0,
                writer: [1; 16],
                seq: rows.chunks.len() as i64,
                boot: 1,
                d0,
                t1: times.last().unwrap(),
                n: n as i32,
                v_min: None,
                v_max: None,
                v_mean: None,
                v_last: None,
                quality: 0,
                codec: codec::CODEC,
                data,
                layout: Layout::Chunks,
            });
        }
    }
    let (car, device, layout) = ("44".into(), "ecu".into(), Layout::Chunks.as_str().into());
    let extent =
        ExtentRow { car, day: day_of(bucket), layout, device, channel: String::new(), bucket, length_us: 60_000_000 };
    rows.extents.push(extent);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = store::Config { url: bench.sqlite().parse().unwrap(), ..store::Config::default() };
        store::connect(&config).await.unwrap().write(&rows).await.unwrap();
    });
    let samples: u64 = rows.chunks.iter().map(|row| row.n as u64).sum();
    // Samples at the same device time are told apart by nothing.
    let alike = compare(&python, &bench.sqlite(), "44");
    assert_eq!(alike, samples);
    bench.figure(&format!("{alike} samples of {} chunks alike", rows.chunks.len()));
}

/// Samples of an exported CSV by car, each identity once and in order of time.
fn identities(csv: &str) -> BTreeMap<String, BTreeSet<(i64, String, String)>> {
    let mut found = BTreeMap::<String, BTreeSet<_>>::new();
    let mut last_us = i64::MIN;
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let t_us: i64 = fields[1].parse().unwrap();
        assert!(t_us >= last_us, "in order of time: {line}");
        last_us = t_us;
        let fresh = found.entry(fields[2].into()).or_default().insert((t_us, fields[3].into(), fields[4].into()));
        assert!(fresh, "twice: {line}");
    }
    found
}

/// Reads the same from a Parquet, in another program.
const PARQUET_AS_CSV: &str = "
import duckdb, sys
duckdb.sql(f\"COPY (SELECT 'x' AS x, epoch_us(t_us) AS t_us, car, device, channel FROM '{sys.argv[1]}') TO '{sys.argv[2]}' (HEADER)\")
";

#[test]
fn an_export_of_two_cars_that_drive_is_killed_again_and_again_and_has_each_sample_once() {
    let Some(python) = python() else { return };
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    let mut agent = agent_of_all_cars(&bench, &broker, keyspace.url());
    let from_us = utc_us();
    let mut cars = ["7", "44"].map(|car| {
        let arguments = ["--tier", "wide", "--car", car, "--for", "30s", "--mqtt", &broker.url()];
        (car, Sim::start(&bench, &format!("sent{car}"), &arguments))
    });
    agent.until_received(10 * 78_200);
    // Up to a time that has come, and whose samples are stored by now.
    let to_us = utc_us() - 2_000_000;
    let sent_by_then = (2.0 * 78_200.0 * ((to_us - from_us) as f64 / 1e6 + 1.0)) as u64;
    agent.until("what was sent by then is stored", |status| {
        number(status, "/ledger/stored") >= sent_by_then && number(status, "/ledger/backlog") == 0
    });
    let (parquet, csv) = (bench.path("two.parquet"), bench.path("two.csv"));
    let start = |format: &str, path: &Path| {
        let (store, to) = (keyspace.url(), to_us.to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_pitwire"));
        command.args(["export", "--store", &store, "--car", "7,44", "--to", &to, "--format", format]);
        command.args(["--checkpoint", "50ms", "-o"]).arg(path);
        command
    };
    let mut kills = 0;
    for (format, path) in [("parquet", &parquet), ("csv", &csv)] {
        // Each time a little longer, so that some kills meet it early and some late, whatever the machine.
        for wait_ms in [100, 250, 450, 700, 1_000, 1_300] {
            let mut child = start(format, path).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(wait_ms));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                kills += 1;
            }
            child.wait().unwrap();
            if path.exists() {
                // Under the final name lies the whole, as is compared below.
                break;
            }
        }
        if format == "parquet" {
            assert!(cars.iter_mut().all(|(_, car)| car.is_running()), "both are still being written");
        }
        if !path.exists() {
            succeeded("export", start(format, path).output().unwrap());
        }
    }
    let again = bench.path("again.csv");
    succeeded("duckdb", Command::new(python).args(["-c", PARQUET_AS_CSV]).args([&parquet, &again]).output().unwrap());
    let sent = cars.map(|(car, sim)| (car, sim.finish()));
    agent.until_home(PATIENCE);
    agent.terminate();

    let (from_csv, from_parquet) = [&csv, &again].map(|path| identities(&fs::read_to_string(path).unwrap())).into();
    assert_eq!(from_csv, from_parquet);
    let all = format!("export --store {} --car 7 --car 44 --format csv --to {to_us}", keyspace.url());
    let all: Vec<&str> = all.split(' ').collect();
    assert_eq!(from_csv, identities(&succeeded("export", pitwire(&all))), "as one that was left alone");
    let mut samples = 0;
    for (car, sent) in &sent {
        audit(sent.path(), &keyspace.url()).assert_exact();
        // 78,200 a second from its start, which lies within the first second after `from_us`.
        let of = from_csv[*car].len();
        let most = (to_us - from_us) as f64 / 1e6 * 78_200.0;
        assert!((of as f64) <= most && of as f64 > most - 1.5 * 78_200.0, "{of} of {most}");
        samples += of;
    }
    assert!(kills >= 2, "{kills} kills");
    bench.figure(&format!("{samples} samples of two cars, {kills} kills, each once"));
}

/// Code blocks of a page, as (language, text).
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fences = page.split("\n```").collect::<Vec<_>>();
    // Text, block, text, block, … text.
    fences.iter().skip(1).step_by(2).map(|block| block.split_once('\n').unwrap()).collect()
}

/// Runs statements of CQL as `cqlsh` would, and fails where one finds nothing.
const RUN_CQL: &str = "
import sys
from read_chunks import open_store
store = open_store(sys.argv[1])
for statement in sys.argv[2].split(';'):
    if statement.strip():
        rows = list(store.session.execute(statement))
        print(rows[:3])
        assert rows, statement
";

#[test]
fn every_block_of_the_page_about_reading_runs() {
    let Some(python) = python() else { return };
    let _turn = turn(false);
    let Some(node) = shared_node() else { return };
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let keyspace = Keyspace::new(&node);
    keyspace.apply();
    let mut agent = agent_of_all_cars(&bench, &broker, keyspace.url());
    let sent = Sim::start(&bench, "car", &["--tier", "club", "--for", "5s", "--mqtt", &broker.url()]).finish();
    agent.until_home(PATIENCE);
    agent.terminate();
    audit(sent.path(), &keyspace.url()).assert_exact();

    // The page's times are those of the car that it was written with.
    let bucket = keyspace.arrived("44").iter().map(|row| row.t0).min().unwrap() / 60_000_000 * 60_000_000;
    let page = fs::read_to_string(project("docs/reading.md")).unwrap();
    let here = [
        ("cassandra://127.0.0.1:9042/pitwire".to_owned(), keyspace.url()),
        ("1795262400000000".into(), bucket.to_string()),
        ("1795258800000000".into(), (bucket / 3_600_000_000 * 3_600_000_000).to_string()),
        ("20778".into(), day_of(bucket).to_string()),
        (
            "python tools/read_chunks.py".into(),
            format!("{} {}", python.display(), project("tools/read_chunks.py").display()),
        ),
        ("pitwire export".into(), format!("{} export", env!("CARGO_BIN_EXE_pitwire"))),
        (r#""pitwire", "export""#.into(), format!(r#""{}", "export""#, env!("CARGO_BIN_EXE_pitwire"))),
        ("pitwire sessions".into(), format!("{} sessions", env!("CARGO_BIN_EXE_pitwire"))),
    ];
    let folder = bench.path("reading");
    fs::create_dir(&folder).unwrap();
    let in_folder = |program: &Path, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).current_dir(&folder).env("PYTHONPATH", project("tools")).output();
        output.unwrap()
    };
    let mut ran = BTreeMap::<String, u32>::new();
    for (language, text) in blocks(&page) {
        let text = here.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here));
        let output = match language {
            "cql" => in_folder(&python, &["-c", RUN_CQL, &keyspace.url(), &text]),
            "python" => in_folder(&python, &["-W", "error::FutureWarning", "-c", &text]),
            "sh" => in_folder(Path::new("bash"), &["-euc", &text]),
            other => panic!("a block in {other}, which nobody runs:\n{text}"),
        };
        let printed = succeeded(&text, output);
        assert!(
            language != "python" || !printed.trim().is_empty() || text.contains("assert "),
            "prints nothing:\n{text}"
        );
        *ran.entry(language.to_owned()).or_default() += 1;
    }
    assert!(["cql", "python", "sh"].iter().all(|language| ran[*language] >= 2), "{ran:?}");
    assert!(fs::read_to_string(folder.join("engine.csv")).unwrap().lines().count() > 100);
    let practice = fs::read_to_string(folder.join("practice.csv")).unwrap().lines().count() as u64;
    // What came before the session's event was sent is not of it.
    assert!(practice > sent.sent() / 2 && practice <= sent.sent() + 1, "{practice} of {}", sent.sent());
    bench.figure(&format!("blocks that ran: {ran:?}"));
}

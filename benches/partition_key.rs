//! Which partition key for `chunks`? The device's, with all channels of a flush in one single-partition batch,
//! against the channel's, with one statement for each row.
//!
//! The same rows go into both, slice by slice in alternating order (device first, channel first, …), so that what
//! else the machine does meets both alike. Rows come from the simulated car and from the agent's own stage; making
//! them is not timed. Both tables have the columns and the options of `schema.cql`; automatic compaction is off, so
//! that the server's CPU can be told apart, and a full one follows at the end.
//!
//! `make bench-partition-key` starts a node and runs it. By hand, against a node that holds nothing of value:
//!
//! ```text
//! PITWIRE_CASSANDRA=127.0.0.1:9042 cargo bench --bench partition_key
//! PITWIRE_CASSANDRA_PID=N        the server's process, for its CPU and what it reads
//! PITWIRE_NODETOOL="nodetool"    for flush, compaction and space on disk
//! PITWIRE_BENCH_SHARE=0.05       less of everything, to try it out
//! ```
//!
//! Deliberately absent: several nodes, and readers while it writes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its result is what it prints")]

#[path = "partition_key/flushes.rs"]
mod flushes;
#[path = "partition_key/key.rs"]
mod key;
#[path = "partition_key/machine.rs"]
mod machine;
#[path = "partition_key/report.rs"]
mod report;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use firmware_sim::Tier;
use pitwire::store::{Config, schema_script};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Statement;

use flushes::{Flush, START_US, Source};
use key::{Key, Statements};
use machine::Server;
use report::{Measured, Reads, Slice};

const KEYSPACE: &str = "pitwire_bench_partition_key";
/// What is driven, in minutes: `wide` writes 14 M rows in an hour, too many for a bench of minutes.
const TIERS: [(Tier, u64); 3] = [(Tier::Club, 60), (Tier::Can, 60), (Tier::Wide, 6)];
/// Even, so that each key is first as often as the other.
const SLICES: u32 = 4;
/// Driven before anything is measured: the server compiles what it runs often.
const WARM_UP: Duration = Duration::from_secs(600);
/// Channels read for an hour, evenly spread over the tier's.
const CHANNELS_READ: usize = 7;
const MINUTE: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let Ok(node) = std::env::var("PITWIRE_CASSANDRA") else {
        eprintln!(
            "SKIPPED bench partition_key: no PITWIRE_CASSANDRA=HOST:PORT; `make bench-partition-key` starts a node"
        );
        return Ok(());
    };
    // `cargo test --benches` runs this too, without the word: it takes minutes and asserts nothing about speed.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("SKIPPED bench partition_key: it runs under `cargo bench` only");
        return Ok(());
    }
    let share: f64 = match std::env::var("PITWIRE_BENCH_SHARE") {
        Ok(text) => text.parse().context("PITWIRE_BENCH_SHARE is not a number")?,
        Err(_) => 1.0,
    };
    ensure!(share > 0.0 && share <= 1.0, "PITWIRE_BENCH_SHARE is {share}; it lies above 0 and at most at 1");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&node, share))
}

/// The node, and a table for each key.
struct Bench {
    session: Arc<Session>,
    server: Server,
    keys: Vec<(Key, Arc<Statements>)>,
}

async fn run(node: &str, share: f64) -> Result<()> {
    let (start, machine, client) = (Instant::now(), machine::machine_cpu(), machine::own_cpu()?);
    let server = Server::from_env()?;
    let (server_cpu, load) = (server.cpu(), machine::load());
    let bench = Bench::open(node, server).await?;
    bench.warm_up(share).await?;
    let mut tiers = Vec::new();
    for (tier, minutes) in TIERS {
        eprintln!("{tier}, {:.0} s in", start.elapsed().as_secs_f64());
        bench.truncate().await?;
        tiers.push(bench.measure(tier, MINUTE.mul_f64(minutes as f64 * share)).await?);
    }
    println!("{}\n{}", report::table(&tiers), report::notes(&tiers));
    let repeated: u64 = bench.keys.iter().map(|(_, key)| key.repeated.load(Ordering::Relaxed)).sum();
    println!("- {repeated} writes timed out and were repeated.");
    let own = bench.server.cpu().zip(server_cpu).map(|(now, then)| now.saturating_sub(then));
    let own = own.map(|server| server + machine::own_cpu().unwrap_or_default().saturating_sub(client));
    let all = machine::machine_cpu().zip(machine).map(|(now, then)| now.saturating_sub(then));
    let others = all.zip(own).map(|(all, own)| all.saturating_sub(own).as_secs_f64() / start.elapsed().as_secs_f64());
    println!(
        "- {} cores; load {load} before, {} after; processes other than client and server used {} cores on average \
         (nodetool among them); {:.0} s in all.",
        std::thread::available_parallelism()?,
        machine::load(),
        others.map_or("an unknown number of".into(), |cores| format!("{cores:.2}")),
        start.elapsed().as_secs_f64()
    );
    bench.ddl(format!("DROP KEYSPACE {KEYSPACE}")).await
}

impl Bench {
    async fn open(node: &str, server: Server) -> Result<Self> {
        let session = SessionBuilder::new()
            .known_node(node)
            .keyspaces_to_fetch([KEYSPACE])
            .fetch_full_schema_metadata(false)
            .schema_agreement_interval(Duration::from_millis(50))
            .driver_config_reporting(false)
            .default_execution_profile_handle(
                scylla::client::execution_profile::ExecutionProfile::builder()
                    .consistency(scylla::statement::Consistency::LocalQuorum)
                    .request_timeout(Some(REQUEST_TIMEOUT))
                    .build()
                    .into_handle(),
            )
            .build()
            .await
            .with_context(|| format!("connect to {node}"))?;
        let mut this = Self { session: Arc::new(session), server, keys: Vec::new() };
        let config = Config::for_url(format!("cassandra://{node}/{KEYSPACE}").parse()?);
        let schema = schema_script(&config);
        this.ddl(format!("DROP KEYSPACE IF EXISTS {KEYSPACE}")).await?;
        let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
        this.ddl(format!("CREATE KEYSPACE {KEYSPACE} WITH replication = {replication}")).await?;
        for key in Key::ALL {
            this.ddl(key.create(&schema)?).await?;
            this.server.nodetool(&["disableautocompaction", KEYSPACE, key.table()])?;
            this.keys.push((key, Arc::new(Statements::prepare(&this.session, KEYSPACE, key).await?)));
        }
        Ok(this)
    }

    async fn ddl(&self, text: String) -> Result<()> {
        let mut statement = Statement::new(text);
        statement.set_request_timeout(Some(REQUEST_TIMEOUT));
        self.session.query_unpaged(statement, ()).await?;
        Ok(())
    }

    async fn truncate(&self) -> Result<()> {
        for key in Key::ALL {
            self.ddl(format!("TRUNCATE {KEYSPACE}.{}", key.table())).await?;
        }
        Ok(())
    }

    async fn warm_up(&self, share: f64) -> Result<()> {
        let mut source = Source::new(Tier::Can);
        let flushes = Arc::new(source.drive(WARM_UP.mul_f64(share)));
        for (key, statements) in &self.keys {
            statements.write(&self.session, &flushes).await?;
            self.server.nodetool(&["flush", KEYSPACE, key.table()])?;
        }
        for (device, channel) in source.channels() {
            for (_, statements) in &self.keys {
                let length_us = source.bucket_length_us(&device);
                let span = (START_US, source.now_us());
                statements.read_channel(&self.session, (&device, &channel), length_us, span).await?;
            }
        }
        Ok(())
    }

    async fn measure(&self, tier: Tier, span: Duration) -> Result<report::Tier> {
        let mut source = Source::new(tier);
        let make = |&(key, _): &(Key, _)| Measured {
            key,
            slices: Vec::new(),
            compact_cpu: None,
            disk_bytes: None,
            one: Reads::default(),
            all: Reads::default(),
        };
        let mut measured: Vec<Measured> = self.keys.iter().map(make).collect();
        for slice in 0..SLICES {
            let flushes = Arc::new(source.drive(span / SLICES));
            for at in order(slice) {
                measured[at].slices.push(self.write(at, &flushes).await?);
            }
        }
        for (at, measured) in measured.iter_mut().enumerate() {
            let table = self.keys[at].0.table();
            let before = self.server.cpu();
            self.server.nodetool(&["compact", KEYSPACE, table])?;
            measured.compact_cpu = since(before, self.server.cpu());
            measured.disk_bytes = self.server.space(KEYSPACE, table)?;
        }
        self.read_one(&source, &mut measured).await?;
        self.read_all(&source, &mut measured).await?;
        let hours = (source.now_us() - START_US) as f64 / 3.6e9;
        Ok(report::Tier { name: tier.as_str(), channels: source.channels().len(), hours, measured })
    }

    /// Writes under one key, then empties the table's memory onto disk.
    async fn write(&self, at: usize, flushes: &Arc<Vec<Flush>>) -> Result<Slice> {
        let (key, statements) = &self.keys[at];
        let rows = flushes.iter().flatten();
        let samples = rows.clone().map(|row| u64::from(row.n.unsigned_abs())).sum();
        let (start, client, server) = (Instant::now(), machine::own_cpu()?, self.server.cpu());
        statements.write(&self.session, flushes).await?;
        let (took, written) = (start.elapsed(), self.server.cpu());
        let client_cpu = machine::own_cpu()?.saturating_sub(client);
        self.server.nodetool(&["flush", KEYSPACE, key.table()])?;
        Ok(Slice {
            rows: rows.count() as u64,
            samples,
            took,
            client_cpu,
            server_cpu: since(server, written),
            flush_cpu: since(written, self.server.cpu()),
        })
    }

    /// One channel, over all that was written; several, one after another.
    async fn read_one(&self, source: &Source, measured: &mut [Measured]) -> Result<()> {
        let channels = source.channels();
        // From the middle of equal parts, so that the first and the last are no special case.
        let chosen = (0..CHANNELS_READ).map(|i| &channels[(2 * i + 1) * channels.len() / (2 * CHANNELS_READ)]);
        for (turn, (device, channel)) in (0..).zip(chosen) {
            let length_us = source.bucket_length_us(device);
            let mut seen = None;
            for at in order(turn) {
                let (before, start) = (self.server.bytes_read(), Instant::now());
                let span = (START_US, source.now_us());
                let found = self.keys[at].1.read_channel(&self.session, (device, channel), length_us, span).await?;
                let reads = &mut measured[at].one;
                reads.took.push(start.elapsed());
                reads.found.add(found);
                if let Some((before, now)) = before.zip(self.server.bytes_read()) {
                    *reads.server_bytes.get_or_insert(0) += now - before;
                }
                let brought = (found.rows, found.samples);
                ensure!(found.rows > 0, "nothing of {device}/{channel} was read by the key {}", self.keys[at].0.name());
                ensure!(
                    seen.replace(brought).is_none_or(|seen| seen == brought),
                    "the keys disagree on {device}/{channel}: {seen:?} and {brought:?} rows and samples"
                );
            }
        }
        Ok(())
    }

    /// Every channel, over each of some minutes.
    async fn read_all(&self, source: &Source, measured: &mut [Measured]) -> Result<()> {
        let channels = source.channels();
        let minute_us = MINUTE.as_micros() as i64;
        let minutes = (source.now_us() - START_US) / minute_us;
        for minute in 0..minutes.min(i64::from(SLICES)) {
            let from = START_US + minute * minute_us;
            let mut seen = None;
            for at in order(minute as u32) {
                let (start, mut rows) = (Instant::now(), 0);
                for device in source.devices() {
                    let names = channels.iter().filter(|(of, _)| of == device).map(|(_, name)| name.as_str());
                    let names: Vec<&str> = names.collect();
                    let (length_us, span) = (source.bucket_length_us(device), (from, from + minute_us));
                    let statements = &self.keys[at].1;
                    let found = statements.read_all(&self.session, (device, &names), length_us, span).await?;
                    rows += found.rows;
                    measured[at].all.found.add(found);
                }
                measured[at].all.took.push(start.elapsed());
                ensure!(
                    seen.replace(rows).is_none_or(|seen| seen == rows),
                    "the keys disagree on minute {minute}: {seen:?} and {rows} rows"
                );
            }
        }
        Ok(())
    }
}

/// Which key comes first: by turns.
fn order(turn: u32) -> [usize; 2] {
    if turn.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

fn since(then: Option<Duration>, now: Option<Duration>) -> Option<Duration> {
    now.zip(then).map(|(now, then)| now.saturating_sub(then))
}

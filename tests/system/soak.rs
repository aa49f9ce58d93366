//! Faults of all kinds in random order and on top of each other, for as long as wanted, with a wide car that drives all
//! the while; in the end nothing is missing, doubled or altered, and the agent is as small as it was.
//!
//! By environment: `PITWIRE_SOAK_SECONDS` (how long), `PITWIRE_SOAK_SEED` (the seed of an earlier run, which it printed:
//! the same faults in the same order), `PITWIRE_SOAK_TIER` (the car; `wide` if it is not set).
//! `tests/soak system SECONDS` calls this.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{
    Agent, Bench, Broker, Disk, Keyspace, MIB, OwnNode, Setup, Sim, audit, form, mqtt_source, number, profile, turn,
};

/// A run is long enough for a drift of memory to show, and for the allocator to have settled.
const DRIFT_SECONDS_MIN: u64 = 600;
/// What memory may grow by between a fifth of the run and its end, of 1.
const DRIFT_MAX: f64 = 0.02;
/// Descriptors that come and go with the driver's connections and the spill's files.
const DESCRIPTORS_SLACK: usize = 8;
/// Longest that the store hangs, or the disk is full, before it is put right.
const FAULT_MAX: Duration = Duration::from_secs(6);

/// Three queues under one budget.
const PRIORITY: &str = "[priority]\nhigh = [\"brake.*\", \"gps.*\"]\nlow = [\"*.0?\", \"*.1?\"]\n";

/// Random numbers by a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The agent's size at a moment without a backlog.
struct Look {
    at: Duration,
    memory: u64,
    descriptors: usize,
}

/// All that can be made to fail.
struct World {
    agent: Agent,
    broker: Broker,
    node: OwnNode,
    disk: Disk,
    began: Instant,
    frozen: Option<Instant>,
    filled: Option<Instant>,
    done: BTreeMap<&'static str, u32>,
    looks: Vec<Look>,
}

impl World {
    /// One fault, or the end of one.
    fn step(&mut self, chance: &mut Chance, may_kill: bool) {
        let deed = match chance.below(6) {
            0 | 1 if self.frozen.is_none() => {
                self.node.freeze();
                self.frozen = Some(Instant::now());
                "store hangs"
            }
            2 if self.filled.is_none() => {
                self.disk.fill(0);
                self.filled = Some(Instant::now());
                "disk full"
            }
            3 => {
                self.broker.restart();
                "broker restarts"
            }
            4 | 5 if may_kill => {
                self.agent.kill();
                self.agent.start_again();
                "agent killed"
            }
            _ => {
                self.mend();
                "mended"
            }
        };
        *self.done.entry(deed).or_default() += 1;
    }

    /// Ends what has lasted as long as it may.
    fn end_old_ones(&mut self) {
        let old = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() > FAULT_MAX);
        if old(self.frozen) || old(self.filled) {
            self.mend();
        }
    }

    fn mend(&mut self) {
        if self.frozen.take().is_some() {
            self.node.thaw();
        }
        if self.filled.take().is_some() {
            self.disk.clear();
        }
    }

    /// Looks at the agent for a while. Its API answers whatever is broken, and its ledger balances.
    fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let status = self.agent.status();
            if status["deliver"]["mode"] == "direct" && status["spill"]["backlog_samples"] == 0 {
                let (memory, descriptors) = (self.agent.memory(), self.agent.descriptors());
                self.looks.push(Look { at: self.began.elapsed(), memory, descriptors });
            }
            self.end_old_ones();
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Median of its memory and most of its descriptors within a part of the run.
    fn size(&self, from: Duration, to: Duration) -> Option<(u64, usize)> {
        let looks: Vec<&Look> = self.looks.iter().filter(|look| (from..=to).contains(&look.at)).collect();
        let mut memory: Vec<u64> = looks.iter().map(|look| look.memory).collect();
        memory.sort_unstable();
        Some((*memory.get(memory.len() / 2)?, looks.iter().map(|look| look.descriptors).max()?))
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}; a whole number is expected")))
}

#[test]
fn soak_with_random_faults_leaves_nothing_missing_and_the_agent_as_small_as_it_was() {
    let seconds = from_environment("PITWIRE_SOAK_SECONDS").unwrap_or_else(|| form(20, 600)).max(10);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_environment("PITWIRE_SOAK_SEED").unwrap_or(now.as_nanos() as u64 % 1_000_000);
    let _turn = turn(true);
    let bench = Bench::new();
    bench.figure(&format!("{seconds} s, PITWIRE_SOAK_SEED={seed}"));
    let Some(broker) = Broker::start_that_can_restart(&bench) else { return };
    let Some(disk) = bench.disk(32 * MIB) else { return };
    let Some(node) = OwnNode::start(&bench) else { return };
    let keyspace = Keyspace::new(node.address());
    keyspace.apply();
    let dir = disk.path().join("spill");
    let spill = format!("dir = {dir:?}\noverflow = \"block\"\nsegment_bytes = \"1MiB\"\nfree_min = \"0B\"\n");
    let quarantine = format!("[quarantine]\ndir = {:?}\n", bench.path("quarantine"));
    let more = mqtt_source("car", &broker.url()) + PRIORITY + &quarantine;
    let agent = Agent::start(&bench, &Setup { store: keyspace.url(), spill, more, ..Setup::default() });
    agent.until_ready();
    let length = format!("{seconds}s");
    let tier = std::env::var("PITWIRE_SOAK_TIER").unwrap_or_else(|_| "wide".to_owned());
    let sim = Sim::start(&bench, "sent", &["--tier", &tier, "--for", &length, "--mqtt", &broker.url()]);

    let (looks, done) = (Vec::new(), BTreeMap::new());
    let mut world = World { agent, broker, node, disk, began: Instant::now(), frozen: None, filled: None, done, looks };
    let (mut chance, run) = (Chance(seed), Duration::from_secs(seconds));
    while world.began.elapsed() + Duration::from_secs(2) < run {
        // The process whose memory is measured is the one that lives from the first fifth to the end.
        let may_kill = world.began.elapsed() < run / 5;
        world.step(&mut chance, may_kill);
        let pause = Duration::from_millis(500 + chance.below(2_500));
        world.watch(pause);
    }
    world.mend();
    // Restarts of the broker put it behind the car's time.
    let sent = sim.finish_by(Duration::from_secs(300));
    let last = world.agent.until_home(Duration::from_secs(300));
    let calm = Instant::now();
    while calm.elapsed() < Duration::from_secs(2) {
        world.watch(Duration::from_secs(1));
    }
    let ended = world.began.elapsed();
    world.agent.terminate();

    let found = audit(sent.path(), &keyspace.url());
    let early = world.size(run / 5, run * 2 / 5);
    let late = world.size(run * 4 / 5, ended).expect("it was calm at the end");
    let (memory, descriptors) = early.unwrap_or(late);
    let tenths = (0..10).map(|tenth| world.size(run * tenth / 10, run * (tenth + 1) / 10));
    let course: Vec<String> = tenths
        .map(|size| size.map_or("-".to_owned(), |(memory, _)| format!("{:.1}", memory as f64 / MIB as f64)))
        .collect();
    let drift = late.0 as f64 / memory as f64 - 1.0;
    bench.figure(&format!(
        "{seconds} s of {tier}, PITWIRE_SOAK_SEED={seed}: {:?}; {found:?}; {} samples came twice after the last kill; \
         memory {:.1} MiB early, {:.1} at the end, {:+.1} % (by tenths of the run {}); descriptors {descriptors} and {} ({} build)",
        world.done,
        number(&last, "/ledger/duplicate"),
        memory as f64 / MIB as f64,
        late.0 as f64 / MIB as f64,
        drift * 100.0,
        course.join(" "),
        late.1,
        profile()
    ));
    found.assert_exact();
    assert_eq!(number(&last, "/ledger/dropped/overflow"), 0, "{last:#}");
    assert!(late.1 <= descriptors + DESCRIPTORS_SLACK, "descriptors: {descriptors} early, {} at the end", late.1);
    assert!(seconds < DRIFT_SECONDS_MIN || drift < DRIFT_MAX, "memory grew by {:.1} %", drift * 100.0);
}

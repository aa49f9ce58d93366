//! What limits a pipeline, in one line, from the times of an interval.
//!
//! A stage's load is the share of its slots' time that is spent in operations, waiting for the pool, or waiting
//! behind a slower item: waiting for items, or for room, is no load, whoever waits. What has the highest load
//! limits. At a load of u, a stage would go 1/u times as fast; so the second highest load says how far raising the
//! first would lead.

use std::fmt;

use serde::Serialize;

use crate::graph::NodeKind;
use crate::snapshot::{PoolSnapshot, Snapshot, StageSnapshot};

/// Below this load nothing is said to limit.
const LOADED: f64 = 0.7;
/// From this share of its threads' time on, a pool is what its stages wait for.
const POOL_BUSY: f64 = 0.85;
/// Or from this share of a stage's load on that is spent waiting for one of them.
const POOL_WAITED_FOR: f64 = 0.25;

/// What limits.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No times were kept, or no time has passed.
    Unknown,
    /// Nothing moved.
    Idle,
    /// Nothing is loaded by more than 70 %; the most loaded is named.
    Nothing {
        /// Its name.
        busiest: String,
        /// Its load, 0 to 1.
        load: f64,
    },
    /// Something limits.
    Limits(Limiting),
}

/// What limits, and what would help.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limiting {
    /// A stage: all its slots are in use.
    Stage {
        /// Its name.
        name: String,
        /// Its concurrency.
        slots: usize,
        /// Its load, 0 to 1.
        load: f64,
        /// Of that, the share of the time spent waiting behind a slower item.
        hol_wait: f64,
        /// What one slot more would give; for a stage that does one thing at a time, what making it faster would.
        gain: Gain,
        /// Whether it can have more slots.
        can_grow: bool,
    },
    /// A pool: its threads are in use, and stages wait for them.
    Pool {
        /// Its name.
        name: String,
        /// Its threads.
        threads: usize,
        /// The share of their time in use, 0 to 1.
        load: f64,
        /// The stage that waits for it most.
        stage: String,
        /// What one thread more would give.
        gain: Gain,
    },
    /// Those that feed it: the stages wait for items.
    Input {
        /// The sources that are pulled, or whoever sends.
        names: Vec<String>,
        /// The share of the time spent waiting for them, 0 to 1.
        load: f64,
        /// How many times as much the stages could take.
        gain: Gain,
    },
    /// Whoever takes from an outlet.
    Outlet {
        /// Its name.
        name: String,
        /// The share of the time in which the last queue was full, 0 to 1.
        load: f64,
    },
}

/// How many times as fast the whole would be at most, and what would limit then.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gain {
    /// Times as fast, at most; `None` if nothing else is loaded.
    pub up_to: Option<f64>,
    /// What limits beyond that, if it is known.
    pub then: Option<String>,
    /// How many times as fast the next one would allow.
    pub next_limits_at: Option<f64>,
}

/// Something that may limit.
struct Load<'s> {
    name: String,
    /// Several, where it is several.
    names: Vec<String>,
    load: f64,
    stage: Option<&'s StageSnapshot>,
    /// Whether its load says what it could do: a full outlet or an empty input does not.
    is_demand: bool,
    limiting: fn(&Load<'_>, &Snapshot, Gain) -> Limiting,
}

impl Verdict {
    /// Judges an interval, that is [`Snapshot::since`] an earlier one, or the whole run.
    #[must_use]
    pub fn of(interval: &Snapshot) -> Self {
        if !interval.timed || interval.wall_ns == 0 {
            return Self::Unknown;
        }
        if interval.queues.iter().all(|queue| queue.taken == 0)
            && interval.stages.iter().all(|stage| stage.in_progress == 0)
        {
            return Self::Idle;
        }
        let mut loads = stages(interval);
        loads.extend(inputs(interval));
        loads.extend(outlets(interval));
        loads.sort_by(|a, b| b.load.total_cmp(&a.load));
        let Some(first) = loads.first() else { return Self::Unknown };
        if first.load < LOADED {
            return Self::Nothing { busiest: first.name.clone(), load: first.load };
        }
        let next = loads[1..].iter().find(|load| load.is_demand && load.load > 0.0);
        let gain = Gain {
            up_to: None,
            then: next.map(|next| next.name.clone()),
            next_limits_at: next.map(|next| first.load / next.load),
        };
        Self::Limits((first.limiting)(first, interval, gain))
    }
}

fn stages(interval: &Snapshot) -> Vec<Load<'_>> {
    let load = |stage: &StageSnapshot| stage.busy() + stage.pool_wait() + stage.hol_wait();
    let stages = interval.stages.iter();
    stages
        .map(|stage| Load {
            name: stage.name.clone(),
            names: Vec::new(),
            load: load(stage),
            stage: Some(stage),
            is_demand: true,
            limiting: stage_or_pool,
        })
        .collect()
}

fn stage_or_pool(load: &Load<'_>, interval: &Snapshot, mut gain: Gain) -> Limiting {
    let stage = load.stage.expect("only stages are given this function");
    let grown = |n: usize, gain: &Gain| {
        let more = (n as f64 + 1.0) / n as f64;
        Some(gain.next_limits_at.map_or(more, |next| next.min(more)))
    };
    let pool = interval.pools.iter().find(|pool| Some(&pool.name) == stage.pool.as_ref());
    // Threads that are taken, or operations that wait for one of fewer threads: a machine that is busy with other things
    // keeps the threads from being all taken, and the operations waiting all the same.
    let limits = |pool: &&PoolSnapshot| {
        let on_it = interval.stages.iter().filter(|stage| stage.pool.as_ref() == Some(&pool.name));
        let scheduled: usize = on_it.map(|stage| stage.concurrency).sum();
        let waits = scheduled > pool.threads && stage.pool_wait() >= load.load * POOL_WAITED_FOR;
        waits || (pool.busy() >= POOL_BUSY && scheduled >= pool.threads)
    };
    if let Some(pool) = pool.filter(limits) {
        gain.up_to = grown(pool.threads, &gain);
        let (name, stage) = (pool.name.clone(), stage.name.clone());
        return Limiting::Pool { name, threads: pool.threads, load: pool.busy(), stage, gain };
    }
    let can_grow = !matches!(stage.kind, NodeKind::Serial | NodeKind::Aggregate);
    gain.up_to = if can_grow { grown(stage.concurrency, &gain) } else { gain.next_limits_at };
    Limiting::Stage {
        name: stage.name.clone(),
        slots: stage.concurrency,
        load: load.load,
        hol_wait: stage.hol_wait(),
        gain,
        can_grow,
    }
}

/// For each queue that is filled from outside, those that fill it.
fn inputs(interval: &Snapshot) -> Vec<Load<'_>> {
    let filled_by_stages: Vec<&String> = interval.stages.iter().filter_map(|stage| stage.output.as_ref()).collect();
    let inputs = interval.queues.iter().filter(|queue| !filled_by_stages.contains(&&queue.name));
    let load = |queue: &String| {
        let sources: Vec<_> = interval.sources.iter().filter(|source| source.queue == *queue).collect();
        let going: Vec<_> = sources.iter().filter(|source| !source.ended).collect();
        if sources.is_empty() {
            // Somebody sends: what is seen of it is that its stage waits.
            let starved = interval.stages.iter().find(|stage| stage.input == *queue).map(StageSnapshot::starved);
            return (vec![queue.clone()], starved.unwrap_or_default(), false);
        }
        // If one of them waits for room, it is not they who limit.
        let busy = going.iter().map(|source| source.busy_ns as f64 / source.wall_ns.max(1) as f64);
        let names = going.iter().map(|source| source.name.clone()).collect();
        (names, busy.fold(if going.is_empty() { 0.0 } else { 1.0 }, f64::min), true)
    };
    inputs
        .map(|queue| {
            let (names, load, is_demand) = load(&queue.name);
            Load { name: names.join(", "), names, load, stage: None, is_demand, limiting: input }
        })
        .collect()
}

fn input(load: &Load<'_>, _interval: &Snapshot, mut gain: Gain) -> Limiting {
    gain.up_to = gain.next_limits_at;
    Limiting::Input { names: load.names.clone(), load: load.load, gain }
}

fn outlets(interval: &Snapshot) -> Vec<Load<'_>> {
    let full = |name: &String| interval.queue(name).map_or(0.0, |queue| queue.full);
    let outlets = interval.outlets.iter();
    outlets
        .map(|outlet| Load {
            name: outlet.name.clone(),
            names: Vec::new(),
            load: full(&outlet.queue),
            stage: None,
            is_demand: false,
            limiting: |load, _, _| Limiting::Outlet { name: load.name.clone(), load: load.load },
        })
        .collect()
}

fn percent(share: f64) -> f64 {
    (share * 100.0).round()
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(up_to) = self.up_to else { return write!(f, "as far as that goes") };
        write!(f, "up to {up_to:.1} ×")?;
        match (&self.then, self.next_limits_at) {
            (Some(then), Some(at)) if at <= up_to * 1.05 => write!(f, ", then {then:?} limits"),
            (Some(then), Some(at)) if at < 20.0 => write!(f, "; {then:?} limits at {at:.1} ×"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Limiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { name, slots: 1, load, gain, can_grow: false, .. } => {
                let load = percent(*load);
                write!(f, "stage {name:?} limits: it does one thing at a time, and is busy {load} % of the time; ")?;
                write!(f, "making it faster would give {gain}")
            }
            Self::Stage { name, slots, load, hol_wait, gain, .. } => {
                let (load, more) = (percent(*load), slots + 1);
                let are = if *slots == 1 { "slot is" } else { "slots are" };
                write!(f, "stage {name:?} limits: its {slots} {are} busy {load} % of the time")?;
                if *hol_wait > 0.1 {
                    write!(f, ", {} % behind a slower item", percent(*hol_wait))?;
                }
                write!(f, "; {more} would give {gain}")
            }
            Self::Pool { name, threads, load, stage, gain } => {
                let (load, more) = (percent(*load), threads + 1);
                let are = if *threads == 1 { "thread is" } else { "threads are" };
                write!(
                    f,
                    "pool {name:?} limits: its {threads} {are} busy {load} % of the time, and {stage:?} waits for "
                )?;
                write!(f, "them; {more} would give {gain}, if there are cores for them")
            }
            Self::Input { names, load, gain } => {
                let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                let (names, load) = (names.join(" and "), percent(*load));
                write!(
                    f,
                    "the input {names} limits: it is waited for {load} % of the time; more input would give {gain}"
                )
            }
            Self::Outlet { name, load } => {
                let load = percent(*load);
                write!(f, "{name:?}, who takes from the outlet, limits: its queue is full {load} % of the time")
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "no verdict: no times were kept"),
            Self::Idle => write!(f, "idle: nothing moved"),
            Self::Nothing { busiest, load } => {
                write!(f, "nothing limits: {busiest:?} is loaded most, {} % of the time", percent(*load))
            }
            Self::Limits(limiting) => limiting.fmt(f),
        }
    }
}

//! A bounded async pipeline: sources → stages with their own concurrency → a sink, stitched with back-pressure.
//!
//! ```text
//!  source ─┐                  ┌ worker ┐                  ┌ worker ┐
//!  source ─┼─▶ [queue] ─▶ stage worker ├─▶ [queue] ─▶ stage worker ├─▶ [queue] ─▶ outlet, or a sink stage
//!  sender ─┘   items,         └ worker ┘   items,         └───┬────┘
//!              bytes            N tasks    bytes         pool of threads
//! ```
//! It knows nothing of what it moves. A pipeline is put together by a [`Builder`], checked and shown as a [`Plan`],
//! and started. `README.md` beside this crate says how to read what it shows.
//!
//! # Semantics, each a test in `tests/semantics`
//! - **Concurrency is exact.** A stage of concurrency N is N long-lived tasks. Whoever has an item has a slot: while it
//!   operates, while it waits for its turn, and while it waits for room.
//! - **Order is a choice**: [`Order::Input`], [`Order::Completion`], or by a key. What waits behind a slower item is
//!   measured (`hol_wait`).
//! - **CPU work has threads of its own** ([`Builder::pool`]). A pool holds so many operations; stages that schedule
//!   more are refused when the pipeline is built. Sources never use a pool.
//! - **Queues are bounded in items and in bytes.** When nothing is taken at the end, sources stop after at most
//!   [`Plan::run_ahead_max`] items. One item that is larger than the bound in bytes passes when it is alone.
//! - **Batches** are complete by items, bytes or age ([`Aggregate`]); the age needs no new input.
//! - **Nothing relies on being polled.** Every worker and source is a task; work goes on up to the bounds whatever the
//!   consumer does.
//! - **A failure policy is always named** ([`Policy`]): fail the pipeline, skip and count, quarantine, each after
//!   retries if need be. A stage without one does not compile. A panic is a failure of its item, never the end of the
//!   stream.
//! - **Nothing that was accepted is lost.** [`Pipeline::stop`] ends sources at an item, end-of-stream walks down,
//!   batches are flushed. After a deadline, or a failure, what is left is handed back, typed ([`Leftovers`]).
//! - **Sources share an input in turn**; one that stalls or ends changes nothing for the others.
//! - **Times sum up**: busy + starved + blocked + pool wait = concurrency × the clock's time, by construction.
//!   [`Snapshot::since`] makes an interval, [`Verdict::of`] says in one line what limits it.
//! - **A [`Watchdog`]** names who stands still, and not those who wait for it.
//! - **The [`Graph`]** of what is built is printed before anything runs, as text or as Mermaid.
//!
//! # Invariants
//! An item is in exactly one place. What a worker holds lies in guards, so an abort hands it back. No lock is held while
//! anything of the user's runs, but for the key of an item. In steady state the engine allocates nothing for an item.
//!
//! # Deliberately absent
//! Fan-out and cycles: a pipeline is a chain with many ways in. Work that moves between stages, and concurrency that
//! adapts itself: the verdict says what to change. Persistence: what is handed back is the caller's to keep. `unsafe`.

mod builder;
mod clock;
mod control;
mod failure;
mod give;
mod graph;
mod histogram;
mod line;
mod meter;
mod observer;
mod operation;
mod plan;
mod pool;
mod progress;
mod queue;
mod serial;
mod snapshot;
mod source;
mod spec;
mod stage;
mod sync;
mod turn;
mod verdict;
mod watchdog;
mod window;
mod worker;

#[cfg(test)]
mod model_tests;

pub use builder::{BuildError, Builder, Chain, Input, Pool};
pub use failure::{
    Backoff, Error, Limit, OnSourceError, PipelineError, Policy, Quarantine, Quarantined, WINDOW, quarantine,
};
pub use graph::{Edge, Graph, Node, NodeKind, Order, PoolNode, RunAhead};
pub use histogram::Histogram;
pub use observer::Observer;
pub use operation::{ByClone, Operation, Stage, by_clone};
pub use plan::{Ended, Leftovers, OtherType, Pipeline, Plan, Stopper};
pub use progress::Progress;
pub use queue::{Bounds, QueueSnapshot, Receiver, Room, SendError, Sender, queue};
pub use serial::Aggregate;
pub use snapshot::{OutletSnapshot, PoolSnapshot, Snapshot, SourceSnapshot, StageSnapshot};
pub use source::{FromIter, Source, from_iter};
pub use spec::{NoPolicy, StageSpec};
pub use verdict::{Gain, Limiting, Verdict};
pub use watchdog::{Still, StillWhy, Watchdog};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeCompiles;

//! The engine.

mod builder;
mod clock;
mod control;
mod failure;
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

#[cfg(all(test, feature = "model"))]
mod model;

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

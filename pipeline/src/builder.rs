//! How a pipeline is put together.
//!
//! Mistakes in types do not compile: a stage takes what the one before it gives, and names its policy before
//! it can be added. All other mistakes are told by [`Builder::build`], all at once. Building starts nothing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::control::Control;
use crate::failure::OnSourceError;
use crate::graph::{Edge, Graph, Hold, Node, NodeKind, PoolNode};
use crate::observer::{AnyQueue, Inner, SourceEntry, StageEntry};
use crate::operation::Stage;
use crate::plan::Plan;
use crate::pool::{Crew, Lease};
use crate::queue::{Bounds, Receiver, Sender, Shared};
use crate::serial::{self, Aggregate};
use crate::source::{Source, SourceSeat, pull};
use crate::spec::StageSpec;
use crate::stage::StageMeter;
use crate::sync::Arc;
use crate::worker::Seat;

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A pool of a pipeline: its builder gives it, stages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub(crate) builder: u64,
    pub(crate) index: usize,
}

/// A pipeline under construction.
///
/// ```
/// use pitwire_pipeline::{Bounds, Builder, Order, Policy};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let mut builder = Builder::new("squares");
/// let (numbers, chain) = builder.push_input("numbers", "main", Bounds::items(16));
/// let mut squares = chain
///     .stage("square")
///     .concurrency(4)
///     .order(Order::Input)
///     .on_failure(Policy::fail())
///     .map(|n: u64| async move { Ok(n * n) }, Bounds::items(16))
///     .outlet("printer");
/// let pipeline = builder.build()?.start();
///
/// numbers.send(3).await.unwrap();
/// drop(numbers); // the end of the stream
/// assert_eq!(squares.recv().await, Some(9));
/// assert_eq!(squares.recv().await, None);
/// pipeline.join().await.result?;
/// # Ok::<_, pitwire_pipeline::Error>(())
/// # }).unwrap();
/// ```
/// A stage without a named policy does not compile:
/// ```compile_fail
/// use pitwire_pipeline::{Bounds, Builder};
///
/// let mut builder = Builder::new("squares");
/// let (numbers, chain) = builder.push_input("numbers", "main", Bounds::items(16));
/// let outlet = chain.stage("square").map(|n: u64| async move { Ok(n * n) }, Bounds::items(16)).outlet("printer");
/// ```
pub struct Builder {
    pub(crate) id: u64,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<Control>,
    pub(crate) graph: Graph,
    pub(crate) faults: Vec<String>,
    pub(crate) crews: Vec<(Arc<Crew>, Arc<Lease>)>,
    pub(crate) queues: Vec<Arc<dyn AnyQueue>>,
    /// Whether each queue is still without somebody who fills it, or who takes from it.
    ends: Vec<(bool, bool)>,
    pub(crate) stages: Vec<StageEntry>,
    sources: Vec<SourceEntry>,
    outlets: Vec<(usize, String)>,
    pub(crate) way: Vec<(String, Hold)>,
    pub(crate) tasks: Vec<(String, Task)>,
}

/// Why a pipeline cannot be built: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// The pipeline's name.
    pub pipeline: String,
    /// Each mistake, with what would be right.
    pub faults: Vec<String>,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipeline {:?} cannot be built: {}", self.pipeline, self.faults.join("; "))
    }
}

impl std::error::Error for BuildError {}

impl Builder {
    /// An empty pipeline called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            clock: Clock::new(true),
            control: Arc::default(),
            graph: Graph { name: name.into(), ..Graph::default() },
            faults: Vec::new(),
            crews: Vec::new(),
            queues: Vec::new(),
            ends: Vec::new(),
            stages: Vec::new(),
            sources: Vec::new(),
            outlets: Vec::new(),
            way: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Whether times are kept: they are unless this says no. Counts are kept always. To be said before any
    /// input is added.
    #[must_use]
    pub fn statistics(mut self, on: bool) -> Self {
        self.clock = Clock::new(on);
        self
    }

    /// A pool of `threads` for CPU stages, which `holds` so many operations, running or waiting: the sum of
    /// the concurrencies of the stages on it must not exceed that.
    pub fn pool(&mut self, name: &str, threads: usize, holds: usize) -> Pool {
        if threads == 0 || holds < threads {
            let fault = format!(
                "pool {name:?} has {threads} threads and holds {holds} operations: give it one thread or more, and let it hold as many operations at least"
            );
            self.faults.push(fault);
        }
        if name.is_empty() || self.graph.pools.iter().any(|pool| pool.name == name) {
            self.faults.push(format!("a pool is called {name:?}: give each a name of its own"));
        }
        self.graph.pools.push(PoolNode { name: name.into(), threads, holds, scheduled: 0 });
        let crew = Crew::new();
        self.crews.push((crew.clone(), Arc::new(Lease(crew))));
        Pool { builder: self.id, index: self.crews.len() - 1 }
    }

    /// A way in, with a queue called `name`, which several senders and sources may share.
    pub fn input<T: Send + 'static>(&mut self, name: &str, bounds: Bounds<T>) -> Input<'_, T> {
        let (shared, queue) = self.queue(name, bounds);
        self.check_name("input", name);
        Input { builder: self, shared, queue }
    }

    /// A way in for one who sends, called `from` in the graph.
    pub fn push_input<T: Send + 'static>(
        &mut self,
        name: &str,
        from: &str,
        bounds: Bounds<T>,
    ) -> (Sender<T>, Chain<'_, T>) {
        let mut input = self.input(name, bounds);
        (input.sender(from), input.chain())
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn build(mut self) -> Result<Plan, BuildError> {
        for (edge, (unfilled, untaken)) in self.graph.edges.iter().zip(&self.ends) {
            let queue = &edge.queue;
            if *unfilled {
                self.faults.push(format!("input {queue:?} has neither a sender nor a source: give it one"));
            }
            if *untaken {
                let fault = format!("what comes out of {queue:?} goes nowhere: add a stage, a sink or an outlet");
                self.faults.push(fault);
            }
        }
        for (index, pool) in self.graph.pools.iter().enumerate().filter(|(_, pool)| pool.scheduled > pool.holds) {
            let on_it = self.stages.iter().filter(|stage| stage.pool == Some(index));
            let stages: Vec<String> =
                on_it.map(|stage| format!("{:?} {}", stage.meter.name, stage.meter.workers.len())).collect();
            self.faults.push(format!(
                "pool {:?} holds {} operations, and its stages schedule {}: {}; lower their concurrency, or let it \
                 hold more",
                pool.name,
                pool.holds,
                pool.scheduled,
                stages.join(", ")
            ));
        }
        if !self.faults.is_empty() {
            return Err(BuildError { pipeline: self.graph.name, faults: self.faults });
        }
        let in_hand = self.sources.len();
        self.way.insert(0, ("the sources' hands".into(), Hold::InHand(in_hand)));
        let inner = Inner {
            name: self.graph.name.clone(),
            clock: self.clock,
            control: self.control,
            started: AtomicU64::new(0),
            queues: self.queues,
            stages: self.stages,
            sources: self.sources,
            pools: self.graph.pools.clone(),
            outlets: self.outlets,
        };
        Ok(Plan { graph: self.graph, way: self.way, inner: Arc::new(inner), crews: self.crews, tasks: self.tasks })
    }

    fn check_name(&mut self, kind: &str, name: &str) {
        let inputs = self.graph.edges.iter().filter(|edge| edge.queue == name).count();
        let nodes = self.graph.nodes.iter().filter(|node| node.name == name);
        // A stage and the queue behind it are of one name, so an input's own queue is the one that may be there.
        let known = inputs.saturating_sub(1) + nodes.count();
        if name.is_empty() {
            self.faults.push(format!("a {kind} has no name: give it one"));
        } else if known > 0 {
            self.faults.push(format!("{kind} {name:?}: the name is taken; give each a name of its own"));
        }
    }

    pub(crate) fn add_node(&mut self, kind: &str, node: Node) {
        let name = &node.name;
        let taken = self.graph.nodes.iter().any(|other| other.name == *name)
            || self.graph.edges.iter().any(|edge| edge.queue == *name);
        if name.is_empty() {
            self.faults.push(format!("a {kind} has no name: give it one"));
        } else if taken {
            self.faults.push(format!("{kind} {name:?}: the name is taken; give each a name of its own"));
        }
        self.graph.nodes.push(node);
    }

    /// Adds a queue.
    pub(crate) fn queue<T: Send + 'static>(&mut self, name: &str, bounds: Bounds<T>) -> (Arc<Shared<T>>, usize) {
        if bounds.items == 0 || bounds.bytes == 0 {
            let (items, bytes) = (bounds.items, bounds.bytes);
            self.faults.push(format!("queue {name:?} is bounded at {items} items and {bytes} bytes: nothing passes 0"));
        }
        let shared = Shared::new(name, bounds, self.clock);
        self.queues.push(shared.clone());
        self.ends.push((true, true));
        self.way.push((format!("queue {name:?}"), Hold::Queue { items: bounds.items, bytes: bounds.bytes }));
        let (items_max, bytes_max) = (bounds.items, bounds.bytes);
        self.graph.edges.push(Edge { queue: name.into(), from: Vec::new(), to: None, items_max, bytes_max });
        (shared, self.queues.len() - 1)
    }

    /// `node` fills a queue.
    pub(crate) fn fills(&mut self, queue: usize, node: &str) {
        self.graph.edges[queue].from.push(node.into());
        self.ends[queue].0 = false;
    }

    /// `node` takes from a queue.
    pub(crate) fn takes(&mut self, queue: usize, node: &str) {
        self.graph.edges[queue].to = Some(node.into());
        self.ends[queue].1 = false;
    }
}

impl Node {
    pub(crate) fn new(name: &str, kind: NodeKind) -> Self {
        Self {
            name: name.into(),
            kind,
            concurrency: 1,
            order: None,
            on_failure: None,
            pool: None,
            total: None,
            notes: Vec::new(),
        }
    }
}

/// A way in, to which senders and sources are added.
#[must_use = "an input is the beginning of a chain"]
pub struct Input<'b, T> {
    builder: &'b mut Builder,
    shared: Arc<Shared<T>>,
    queue: usize,
}

impl<'b, T: Send + 'static> Input<'b, T> {
    /// A sender for whoever is called `from` in the graph. The stream ends once all senders are dropped and
    /// all sources have ended.
    #[must_use]
    pub fn sender(&mut self, from: &str) -> Sender<T> {
        self.builder.add_node("sender", Node::new(from, NodeKind::External));
        self.builder.fills(self.queue, from);
        Sender::new(&self.shared)
    }

    /// A source, pulled by a task of its own: one that stalls holds up no other.
    pub fn source<S: Source<Item = T>>(self, name: &str, source: S, on_error: OnSourceError) -> Self {
        let builder = &mut *self.builder;
        let total = source.total();
        let on_failure = match on_error {
            OnSourceError::FailPipeline => "fail the pipeline",
            OnSourceError::EndSource => "end this source",
        };
        let node = Node { total, on_failure: Some(on_failure.into()), ..Node::new(name, NodeKind::Source) };
        builder.add_node("source", node);
        builder.fills(self.queue, name);
        let meter = Arc::new(StageMeter::new(name, 1, builder.clock));
        builder.sources.push(SourceEntry { meter: meter.clone(), total, queue: self.queue });
        let seat = SourceSeat { stage: meter, clock: builder.clock, control: builder.control.clone(), on_error };
        builder.tasks.push((name.into(), Box::pin(pull(source, Sender::new(&self.shared), seat))));
        self
    }

    /// All that comes in here, to be taken by stages.
    pub fn chain(self) -> Chain<'b, T> {
        Chain { builder: self.builder, shared: self.shared, queue: self.queue }
    }
}

/// The open end of a pipeline: what comes out of it is to be taken by a stage, a sink or an outlet.
#[must_use = "what comes out of a chain has to go somewhere"]
pub struct Chain<'b, T> {
    pub(crate) builder: &'b mut Builder,
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) queue: usize,
}

impl<'b, T: Send + 'static> Chain<'b, T> {
    /// A stage of operations: say how many at once, in which order, and what happens on failure.
    pub fn stage(self, name: &str) -> StageSpec<'b, T> {
        StageSpec::new(self, name)
    }

    /// A stage with a state of its own. A panic of it costs the item, and is counted.
    pub fn stateful<S: Stage<In = T>>(self, stage: S, bounds: Bounds<S::Out>) -> Chain<'b, S::Out> {
        let name = stage.name().to_owned();
        let on_failure = Some("skip and count".into());
        let node = Node { on_failure, ..Node::new(&name, NodeKind::Serial) };
        self.serial(node, Hold::Anything, bounds, |seat, sender| Box::pin(serial::run(stage, seat, sender)))
    }

    /// Gathers items into batches.
    pub fn aggregate(self, name: &str, rule: Aggregate<T>, bounds: Bounds<Vec<T>>) -> Chain<'b, Vec<T>> {
        let some_bound = rule.items.is_some() || rule.bytes.is_some() || rule.age.is_some();
        let zero = rule.items == Some(0) || rule.bytes.is_some_and(|(bytes, _)| bytes == 0);
        if !some_bound || zero {
            let fault = format!("aggregate {name:?} has no bound above 0: say items, bytes or age");
            self.builder.faults.push(fault);
        }
        let node = Node { notes: vec![format!("batches of {rule}")], ..Node::new(name, NodeKind::Aggregate) };
        self.serial(node, Hold::Batch(rule.items), bounds, |seat, sender| {
            Box::pin(serial::aggregate(rule, seat, sender))
        })
    }

    fn serial<U: Send + 'static>(
        self,
        node: Node,
        hold: Hold,
        bounds: Bounds<U>,
        task: impl FnOnce(Seat<T>, Sender<U>) -> Task,
    ) -> Chain<'b, U> {
        let Self { builder, shared, queue } = self;
        let (name, kind) = (node.name.clone(), node.kind);
        builder.add_node("stage", node);
        builder.takes(queue, &name);
        builder.way.push((name.clone(), hold));
        let (out, out_queue) = builder.queue(&name, bounds);
        builder.fills(out_queue, &name);
        let meter = Arc::new(StageMeter::new(&name, 1, builder.clock));
        let seat = Seat::new(&shared, &meter, 0, builder.clock);
        builder.tasks.push((name, task(seat, Sender::new(&out))));
        let clock = builder.clock;
        builder.stages.push(StageEntry { meter, clock, kind, order: None, pool: None, queue, output: Some(out_queue) });
        Chain { builder, shared: out, queue: out_queue }
    }

    /// Adds a line to what the graph says of the stage just added, for instance a step of it.
    pub fn note(self, note: &str) -> Self {
        if let Some(node) = self.builder.graph.nodes.last_mut() {
            node.notes.push(note.into());
        }
        self
    }

    /// Ends the chain: whoever holds the receiver, called `to` in the graph, takes what comes out.
    #[must_use]
    pub fn outlet(self, to: &str) -> Receiver<T> {
        self.builder.add_node("outlet", Node::new(to, NodeKind::Outlet));
        self.builder.takes(self.queue, to);
        self.builder.outlets.push((self.queue, to.into()));
        Receiver::new(&self.shared)
    }
}

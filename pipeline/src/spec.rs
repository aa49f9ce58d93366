//! What is said of a stage of operations before it is added.

use std::future::Future;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::builder::{Chain, Pool};
use crate::failure::{Error, Policy};
use crate::give::Output;
use crate::graph::{Hold, Node, NodeKind, Order};
use crate::line::KeyOf;
use crate::observer::StageEntry;
use crate::operation::{Operation, by_clone};
use crate::pool::{CpuFn, OnPool, Slot};
use crate::queue::{Bounds, Sender};
use crate::stage::StageMeter;
use crate::sync::Arc;
use crate::turn::Turn;
use crate::worker::{ByItself, Exec, Rules, Seat, work};

/// A stage whose policy is still to be named; see [`StageSpec::on_failure`].
#[derive(Debug)]
pub struct NoPolicy;

/// A stage of operations that is being described: one operation at once, in the order of input, unless said
/// otherwise. What happens on failure has to be said.
#[must_use = "a stage is added by the operation that it is given"]
pub struct StageSpec<'b, In, P = NoPolicy> {
    chain: Chain<'b, In>,
    node: Node,
    order: Order,
    key_of: Option<KeyOf<In>>,
    policy: P,
}

impl<'b, In: Send + 'static> StageSpec<'b, In> {
    pub(crate) fn new(chain: Chain<'b, In>, name: &str) -> Self {
        let node = Node::new(name, NodeKind::Stage);
        Self { chain, node, order: Order::Input, key_of: None, policy: NoPolicy }
    }

    /// What happens when the operation fails on an item. There is no default.
    pub fn on_failure(self, policy: Policy<In>) -> StageSpec<'b, In, Policy<In>> {
        let Self { chain, node, order, key_of, .. } = self;
        StageSpec { chain, node, order, key_of, policy }
    }
}

impl<'b, In: Send + 'static, P> StageSpec<'b, In, P> {
    /// Operations in progress at most, those done that wait for their turn or for room among them.
    pub fn concurrency(mut self, operations_max: usize) -> Self {
        self.node.concurrency = operations_max;
        self
    }

    /// In which order results are given; [`Order::Key`] is said by [`Self::order_by_key`].
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Results of items of one key are given, and their operations done, one after the other; those of other
    /// keys pass. What waits for its key stays in the bounds of the queue.
    pub fn order_by_key<K: Hash>(mut self, key_of: impl Fn(&In) -> K + Send + Sync + 'static) -> Self {
        let hasher = RandomState::new();
        self.key_of = Some(Arc::new(move |item| hasher.hash_one(key_of(item))));
        self.order = Order::Key;
        self
    }

    /// Adds a line to what the graph says of it.
    pub fn note(mut self, note: &str) -> Self {
        self.node.notes.push(note.into());
        self
    }
}

impl<'b, In: Send + 'static> StageSpec<'b, In, Policy<In>> {
    /// Adds the stage, with a queue behind it.
    pub fn run<Op: Operation<In>>(self, operation: Op, bounds: Bounds<Op::Out>) -> Chain<'b, Op::Out> {
        let operation = Arc::new(operation);
        self.add(bounds, None, |_| ByItself(operation.clone()))
    }

    /// Adds the stage with a closure that takes the item itself: a clone of it, see [`by_clone`].
    pub fn map<Out, F, Fut>(self, run: F, bounds: Bounds<Out>) -> Chain<'b, Out>
    where
        In: Clone,
        Out: Send + 'static,
        F: Fn(In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, Error>> + Send + 'static,
    {
        self.run(by_clone(run), bounds)
    }

    /// Adds the stage as CPU work on `pool`: `run` may take its time, and block.
    pub fn cpu<Out: Send + 'static>(
        mut self,
        pool: Pool,
        run: impl Fn(&mut In) -> Result<Out, Error> + Send + Sync + 'static,
        bounds: Bounds<Out>,
    ) -> Chain<'b, Out> {
        let exec = self.on_pool(pool, Arc::new(run));
        self.add(bounds, Some(pool), exec)
    }

    /// Ends the chain with this stage: what it makes is dropped.
    pub fn sink<Op: Operation<In>>(self, operation: Op) {
        let operation = Arc::new(operation);
        self.end(None, |_| ByItself(operation.clone()));
    }

    /// Ends the chain with a closure that takes the item itself: a clone of it, see [`by_clone`].
    pub fn for_each<F, Fut>(self, run: F)
    where
        In: Clone,
        F: Fn(In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.sink(by_clone(run));
    }

    /// Ends the chain with CPU work on `pool`.
    pub fn cpu_sink(mut self, pool: Pool, run: impl Fn(&mut In) -> Result<(), Error> + Send + Sync + 'static) {
        let exec = self.on_pool(pool, Arc::new(run));
        self.end(Some(pool), exec);
    }

    /// How workers of a CPU stage reach the pool. A pool of another pipeline is a fault, told by `build`.
    fn on_pool<Out: Send + 'static>(
        &mut self,
        pool: Pool,
        run: CpuFn<In, Out>,
    ) -> impl Fn(&Seat<In>) -> OnPool<In, Out> + use<In, Out> {
        self.node.kind = NodeKind::Cpu;
        let crews = &self.chain.builder.crews;
        let known = if pool.builder == self.chain.builder.id { crews.get(pool.index).cloned() } else { None };
        let (crew, lease) = known.unwrap_or_else(|| {
            let crew = crate::pool::Crew::new();
            (crew.clone(), Arc::new(crate::pool::Lease(crew)))
        });
        move |seat: &Seat<In>| {
            let slot = Slot::new(run.clone(), &crew, seat);
            OnPool { slot, crew: crew.clone(), _lease: lease.clone() }
        }
    }

    fn add<E: Exec<In>>(
        self,
        bounds: Bounds<E::Out>,
        pool: Option<Pool>,
        exec: impl Fn(&Seat<In>) -> E,
    ) -> Chain<'b, E::Out> {
        let (name, order, workers) = (self.node.name.clone(), self.order, self.node.concurrency);
        let (mut chain, starting) = self.enter(pool);
        let (out, out_queue) = chain.builder.queue(&name, bounds);
        chain.builder.fills(out_queue, &name);
        let turn = (order == Order::Input && workers > 1).then(|| Arc::new(Turn::new(workers)));
        let output = || Output { sender: Some(Sender::new(&out)), turn: turn.clone() };
        starting.seat_workers(&mut chain, pool, Some(out_queue), exec, output);
        Chain { builder: chain.builder, shared: out, queue: out_queue }
    }

    fn end<E: Exec<In>>(self, pool: Option<Pool>, exec: impl Fn(&Seat<In>) -> E) {
        let (mut chain, starting) = self.enter(pool);
        starting.seat_workers(&mut chain, pool, None, exec, || Output { sender: None, turn: None });
    }

    /// Enters the stage into the graph.
    fn enter(self, pool: Option<Pool>) -> (Chain<'b, In>, Starting<In>) {
        let Self { chain, mut node, order, key_of, policy } = self;
        let (name, workers) = (node.name.clone(), node.concurrency);
        let builder = &mut *chain.builder;
        if workers == 0 {
            builder.faults.push(format!("stage {name:?} has concurrency 0: nothing would ever be done; say 1 or more"));
        }
        if order == Order::Key && key_of.is_none() {
            builder.faults.push(format!("stage {name:?} keeps order by key and has none: say order_by_key"));
        }
        if let Some(pool) = pool {
            if pool.builder == builder.id {
                let pool = &mut builder.graph.pools[pool.index];
                pool.scheduled += workers;
                node.pool = Some(pool.name.clone());
            } else {
                builder
                    .faults
                    .push(format!("stage {name:?} is on a pool of another pipeline: make one by this builder"));
            }
        }
        node.order = Some(order);
        node.on_failure = Some(policy.to_string());
        let kind = node.kind;
        builder.add_node("stage", node);
        builder.takes(chain.queue, &name);
        builder.way.push((name.clone(), Hold::Operations(workers)));
        let mut clock = builder.clock;
        // A limit is over a window of time.
        clock.timed |= policy.limit.is_some();
        let meter = Arc::new(StageMeter::new(&name, workers, clock));
        if let Some(key_of) = key_of.filter(|_| order == Order::Key) {
            chain.shared.key_by(key_of);
        }
        let rules = Arc::new(Rules { policy, control: builder.control.clone() });
        (chain, Starting { meter, clock, kind, order, rules })
    }
}

/// What the workers of a stage are made with.
struct Starting<In> {
    meter: Arc<StageMeter>,
    clock: crate::clock::Clock,
    kind: NodeKind,
    order: Order,
    rules: Arc<Rules<In>>,
}

impl<In: Send + 'static> Starting<In> {
    fn seat_workers<E: Exec<In>>(
        self,
        chain: &mut Chain<'_, In>,
        pool: Option<Pool>,
        output: Option<usize>,
        exec: impl Fn(&Seat<In>) -> E,
        out: impl Fn() -> Output<E::Out>,
    ) {
        let Self { meter, clock, kind, order, rules } = self;
        for index in 0..meter.workers.len() {
            let seat = Seat::new(&chain.shared, &meter, index, clock);
            let exec = exec(&seat);
            let task = Box::pin(work(seat, exec, out(), rules.clone()));
            chain.builder.tasks.push((meter.name.clone(), task));
        }
        let pool = pool.filter(|pool| pool.builder == chain.builder.id).map(|pool| pool.index);
        let (queue, order) = (chain.queue, Some(order));
        chain.builder.stages.push(StageEntry { meter, clock, kind, order, pool, queue, output });
    }
}

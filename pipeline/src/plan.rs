//! From a plan to a running pipeline, and to its end.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::builder::Task;
use crate::failure::PipelineError;
use crate::graph::{Graph, Hold, RunAhead};
use crate::observer::{Inner, Observer};
use crate::pool::{Crew, Lease};
use crate::snapshot::Snapshot;
use crate::sync::Arc;

/// How long the end waits, after its deadline, for CPU operations that run: a thread cannot be aborted.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// A pipeline that is built and not started.
#[must_use = "a plan does nothing until it is started"]
pub struct Plan {
    pub(crate) graph: Graph,
    pub(crate) way: Vec<(String, Hold)>,
    pub(crate) inner: Arc<Inner>,
    pub(crate) crews: Vec<(Arc<Crew>, Arc<Lease>)>,
    pub(crate) tasks: Vec<(String, Task)>,
}

impl Plan {
    /// What was built.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many items all sources together may have given at most when nothing is taken at the end: the sum of
    /// the queues and the operations, and one in the hand of each source.
    #[must_use]
    pub fn run_ahead_max(&self) -> RunAhead {
        RunAhead::of(&self.way, 0)
    }

    /// The same where every item, in every queue, weighs `item_bytes` at least: bounds in bytes count then.
    #[must_use]
    pub fn run_ahead_max_of(&self, item_bytes: usize) -> RunAhead {
        RunAhead::of(&self.way, item_bytes)
    }

    /// What the running pipeline will show of itself.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer { inner: self.inner.clone() }
    }

    /// Starts everything.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or if the system gives no thread for a pool.
    pub fn start(self) -> Pipeline {
        let Self { graph, inner, crews, tasks, .. } = self;
        inner.begin();
        let handle = Handle::current();
        for ((crew, _), pool) in crews.iter().zip(&inner.pools) {
            for index in 0..pool.threads {
                let (crew, handle) = (crew.clone(), handle.clone());
                std::thread::Builder::new()
                    .name(format!("{}-{index}", pool.name))
                    .spawn(move || {
                        // So that a test that pauses the clock pauses it for operations too.
                        let _inside = handle.enter();
                        crew.work();
                    })
                    .expect("the system has threads left");
            }
        }
        let tasks = tasks.into_iter().map(|(name, task)| (name, tokio::spawn(task))).collect();
        let crews = crews.into_iter().map(|(crew, _)| crew).collect();
        Pipeline { graph, inner, crews, tasks }
    }
}

/// A running pipeline. If it is dropped, it runs on by itself until its sources end.
pub struct Pipeline {
    graph: Graph,
    inner: Arc<Inner>,
    crews: Vec<Arc<Crew>>,
    tasks: Vec<(String, JoinHandle<()>)>,
}

impl Pipeline {
    /// What was built.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A view for whoever looks on.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer { inner: self.inner.clone() }
    }

    /// Everything since the start.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.observer().snapshot()
    }

    /// Makes the pulled sources end at the next item boundary: what is in the pipeline walks down. Whoever
    /// pushes ends by dropping its sender.
    pub fn stop(&self) {
        self.inner.control.stop();
    }

    /// A way to stop it from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { inner: self.inner.clone() }
    }

    /// Waits until end-of-stream has walked through every stage, or the pipeline has failed and what could be
    /// finished is finished.
    ///
    /// # Cancel safety
    /// If dropped, the pipeline runs on by itself.
    pub async fn join(self) -> Ended {
        self.join_by(None).await
    }

    /// The same, but after `deadline` all tasks are aborted, and what was accepted and not delivered is handed
    /// back. What computes without a pause, in a task or on a pool, cannot be aborted: it is waited for up to a
    /// second more; see [`Ended::still_running`].
    pub async fn join_within(self, deadline: Duration) -> Ended {
        self.join_by(Some(deadline)).await
    }

    async fn join_by(mut self, deadline: Option<Duration>) -> Ended {
        let mut died = Vec::new();
        let all = wait(&mut self.tasks, &mut died);
        let in_time = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, all).await.is_ok(),
            None => {
                all.await;
                true
            }
        };
        let mut still_running = 0;
        if !in_time {
            self.inner.control.stop();
            self.tasks.iter().for_each(|(_, task)| task.abort());
            // What computes without a pause cannot be aborted, wherever it runs.
            let _ = tokio::time::timeout(SETTLE_WITHIN, wait(&mut self.tasks, &mut died)).await;
            still_running += self.tasks.len();
            for crew in &self.crews {
                still_running += crew.settle(SETTLE_WITHIN).await;
            }
        }
        let error = self.inner.control.take_error();
        let error = error.or_else(|| died.pop().map(|name| PipelineError::Task { name }));
        let snapshot = self.observer().snapshot();
        let left = self.inner.queues.iter().map(|queue| {
            let (items, count) = queue.take_left_any();
            Left { name: queue.name().to_owned(), items, count }
        });
        Ended {
            result: error.map_or(Ok(()), Err),
            in_time,
            leftovers: Leftovers { queues: left.filter(|left| left.count > 0).collect() },
            still_running,
            snapshot,
        }
    }
}

/// Waits for every task, and names those that died; an aborted one has not died.
async fn wait(tasks: &mut Vec<(String, JoinHandle<()>)>, died: &mut Vec<String>) {
    while let Some((name, task)) = tasks.last_mut() {
        if task.await.is_err_and(|error| error.is_panic()) {
            died.push(std::mem::take(name));
        }
        tasks.pop();
    }
}

/// Stops a pipeline from elsewhere.
#[derive(Clone)]
pub struct Stopper {
    inner: Arc<Inner>,
}

impl Stopper {
    /// As [`Pipeline::stop`].
    pub fn stop(&self) {
        self.inner.control.stop();
    }
}

/// How a pipeline ended.
#[must_use = "what is left over was accepted and not delivered"]
pub struct Ended {
    /// The first failure, if any.
    pub result: Result<(), PipelineError>,
    /// Whether it ended by itself before the deadline.
    pub in_time: bool,
    /// What was accepted and not delivered.
    pub leftovers: Leftovers,
    /// CPU operations and tasks that still ran when it was given up; their items are with them.
    pub still_running: usize,
    /// The statistics at the end.
    pub snapshot: Snapshot,
}

struct Left {
    name: String,
    items: Box<dyn Any + Send>,
    count: usize,
}

/// What was accepted and not delivered, by the last boundary that it passed: items that passed an input or a
/// stage, and on which the next stage did not finish, are kept under the name of that input or stage. So an item in
/// operation is here as its operation left it, and one that waited in a batch is here by itself.
pub struct Leftovers {
    queues: Vec<Left>,
}

impl Leftovers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.iter().map(|left| left.count).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Where there are any, and how many.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.queues.iter().map(|left| (&*left.name, left.count))
    }

    /// Takes out what passed `name`, an input or a stage, and got no further, oldest first; nothing if there is
    /// nothing.
    ///
    /// # Errors
    /// If what is there is of another type than `T`; it stays.
    pub fn take<T: 'static>(&mut self, name: &str) -> Result<Vec<T>, OtherType> {
        let Some(index) = self.queues.iter().position(|left| left.name == name) else { return Ok(Vec::new()) };
        if !self.queues[index].items.is::<Vec<T>>() {
            return Err(OtherType { name: name.into(), asked: std::any::type_name::<T>() });
        }
        let items = self.queues.remove(index).items.downcast::<Vec<T>>();
        Ok(items.map(|items| *items).unwrap_or_default())
    }
}

/// Leftovers were asked for as a type that they are not of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherType {
    name: String,
    asked: &'static str,
}

impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what is left of {:?} is not of the type {}", self.name, self.asked)
    }
}

impl std::error::Error for OtherType {}

//! tokio's own channels, and what one writes by hand around them.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Peer;
use crate::task::{CONCURRENCY, CPU_SCHEDULED, Payload, Probe, QUEUE_ITEMS, Tally, no_op, work};

/// A task for each stage, one item at a time: no concurrency, so it is what the queues cost and not a peer. Its CPU
/// stage deals the items to `threads` such tasks in turn and collects them in turn.
pub(crate) struct Chain;

impl Peer for Chain {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let mut queue = source(items, P::make);
        for _ in 0..3 {
            queue = stage(queue, no_op);
        }
        let mut tally = Tally::default();
        while let Some(item) = queue.recv().await {
            tally.take(&item);
        }
        tally
    }

    async fn cpu(items: u64, threads: usize) -> Tally {
        let mut dealt = Vec::new();
        let mut collected = Vec::new();
        for _ in 0..threads {
            let (to_worker, worker) = mpsc::channel(QUEUE_ITEMS / threads);
            dealt.push(to_worker);
            collected.push(stage(worker, async |index| work(index)));
        }
        tokio::spawn(async move {
            for index in 0..items {
                if dealt[index as usize % threads].send(index).await.is_err() {
                    break;
                }
            }
        });
        let mut tally = Tally::default();
        for turn in (0..threads).cycle() {
            match collected[turn].recv().await {
                Some(item) => tally.take_worked(&item),
                None => break,
            }
        }
        tally
    }

    async fn probed(_: Arc<Probe>) -> Tally {
        unreachable!("it has no concurrency to look into")
    }
}

/// A task for each stage that spawns each operation as a task of its own and keeps the last four in a row.
pub(crate) struct Window;

impl Peer for Window {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let mut queue = source(items, P::make);
        for _ in 0..3 {
            queue = window(queue, CONCURRENCY, |item| tokio::spawn(no_op(item)));
        }
        let mut tally = Tally::default();
        while let Some(item) = queue.recv().await {
            tally.take(&item);
        }
        tally
    }

    async fn cpu(items: u64, _: usize) -> Tally {
        let source = source(items, |index| index);
        let mut queue = window(source, CPU_SCHEDULED, |index| tokio::task::spawn_blocking(move || work(index)));
        let mut tally = Tally::default();
        while let Some(item) = queue.recv().await {
            tally.take_worked(&item);
        }
        tally
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        let source = source(Probe::ITEMS, |index| index);
        let mut queue = window(source, CONCURRENCY, move |item| tokio::spawn(Arc::clone(&probe).operation(item)));
        let mut tally = Tally::default();
        while let Some(item) = queue.recv().await {
            tally.take(&item);
        }
        tally
    }
}

/// The items in a queue, sent by a task.
pub(crate) fn source<T: Send + 'static>(items: u64, make: fn(u64) -> T) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel(QUEUE_ITEMS);
    tokio::spawn(async move {
        for index in 0..items {
            if sender.send(make(index)).await.is_err() {
                break;
            }
        }
    });
    receiver
}

fn stage<T, U, F, Fut>(mut input: mpsc::Receiver<T>, operation: F) -> mpsc::Receiver<U>
where
    T: Send + 'static,
    U: Send + 'static,
    F: Fn(T) -> Fut + Send + 'static,
    Fut: Future<Output = U> + Send,
{
    let (sender, receiver) = mpsc::channel(QUEUE_ITEMS);
    tokio::spawn(async move {
        while let Some(item) = input.recv().await {
            if sender.send(operation(item).await).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// A stage that starts an operation for each item, has at most `started_max` of them started, and hands over what is done in the
/// order in which it was started.
pub(crate) fn window<T, U, E, Fut>(
    mut input: mpsc::Receiver<T>,
    started_max: usize,
    mut start: impl FnMut(T) -> Fut + Send + 'static,
) -> mpsc::Receiver<U>
where
    T: Send + 'static,
    U: Send + 'static,
    E: Send,
    Fut: Future<Output = Result<U, E>> + Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE_ITEMS);
    tokio::spawn(async move {
        let mut started = VecDeque::with_capacity(started_max);
        let mut ended = false;
        while !ended || !started.is_empty() {
            let full = started.len() == started_max;
            tokio::select! {
                biased;
                item = input.recv(), if !ended && !full => match item {
                    Some(item) => started.push_back(start(item)),
                    None => ended = true,
                },
                done = async { started.front_mut().expect("the branch is on").await }, if !started.is_empty() => {
                    started.pop_front();
                    let Ok(item) = done else { break };
                    if sender.send(item).await.is_err() {
                        break;
                    }
                }
            }
        }
    });
    receiver
}

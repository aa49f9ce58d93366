//! `buffered` of the futures crate. A stream does nothing while nobody polls it, so each stage is polled by a task of
//! its own that fills the queue behind it.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Peer;
use super::by_hand::source;
use crate::task::{CONCURRENCY, CPU_SCHEDULED, Payload, Probe, QUEUE_ITEMS, Tally, no_op, work};

pub(crate) struct Buffered;

impl Peer for Buffered {
    async fn no_ops<P: Payload>(items: u64) -> Tally {
        let mut queue = ReceiverStream::new(source(items, P::make));
        for _ in 0..3 {
            queue = spawned(queue.map(no_op).buffered(CONCURRENCY));
        }
        let mut tally = Tally::default();
        while let Some(item) = queue.next().await {
            tally.take(&item);
        }
        tally
    }

    async fn cpu(items: u64, _: usize) -> Tally {
        let worked = ReceiverStream::new(source(items, |index| index))
            .map(|index| tokio::task::spawn_blocking(move || work(index)))
            .buffered(CPU_SCHEDULED);
        let mut queue = spawned(worked);
        let mut tally = Tally::default();
        while let Some(Ok(item)) = queue.next().await {
            tally.take_worked(&item);
        }
        tally
    }

    async fn probed(probe: Arc<Probe>) -> Tally {
        let source = ReceiverStream::new(source(Probe::ITEMS, |index| index));
        let mut queue = spawned(source.map(move |item| Arc::clone(&probe).operation(item)).buffered(CONCURRENCY));
        let mut tally = Tally::default();
        while let Some(item) = queue.next().await {
            tally.take(&item);
        }
        tally
    }
}

fn spawned<T: Send + 'static>(stream: impl Stream<Item = T> + Send + 'static) -> ReceiverStream<T> {
    let (sender, receiver) = mpsc::channel(QUEUE_ITEMS);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = stream.next().await {
            if sender.send(item).await.is_err() {
                break;
            }
        }
    });
    ReceiverStream::new(receiver)
}

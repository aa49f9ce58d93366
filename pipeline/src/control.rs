//! What ends a pipeline: a stop, or the first failure.

use std::task::Waker;

use crate::failure::PipelineError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// Shared by everything that runs in one pipeline.
#[derive(Default)]
pub(crate) struct Control {
    stopping: AtomicBool,
    sources: Mutex<Vec<Waker>>,
    error: Mutex<Option<PipelineError>>,
}

impl Control {
    /// Sources are to end at the next item boundary.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut *lock(&self.sources));
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Whether it stops; else `waker` is told when it does.
    pub(crate) fn is_stopping_or_tell(&self, waker: &Waker) -> bool {
        if self.is_stopping() {
            return true;
        }
        {
            let mut sources = lock(&self.sources);
            if !sources.iter().any(|known| known.will_wake(waker)) {
                sources.push(waker.clone());
            }
        }
        self.is_stopping()
    }

    /// The pipeline has failed: the first error is kept, the sources stop.
    pub(crate) fn fail(&self, error: PipelineError) {
        tracing::error!(%error, "the pipeline fails");
        lock(&self.error).get_or_insert(error);
        self.stop();
    }

    pub(crate) fn take_error(&self) -> Option<PipelineError> {
        lock(&self.error).take()
    }
}

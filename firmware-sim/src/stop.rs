//! How a running simulator is told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a simulation from another thread. Clones tell the same one.
///
/// The simulator looks at it at least every 50 ms.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    stop: Arc<AtomicBool>,
    abort: Arc<AtomicBool>,
}

impl Stop {
    /// Nobody has said anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends no more; what was sent is still delivered, within the bounds of a normal end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends at once, without waiting for readers or brokers. The manifest is complete all the same.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether it is to end at once.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }
}

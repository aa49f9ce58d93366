//! The uplink's state: whether the store takes writes, and when to ask again if not.
//!
//! ```text
//!            connected            a write fails
//!  Down ───────────────▶ Up ────────────────────▶ Stalled
//!   ▲                     ▲                          │
//!   │ never connected     └──── a probe succeeds ────┘
//! ```
//! While it is not up, one probe at a time is made: enough to notice the end of an outage, too few to
//! pile requests up on a store that hangs.

use std::sync::Arc;
use std::time::Instant;

use super::decide::{Decision, decide};
use crate::store::{Store, StoreError};

/// What the uplink does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// The first connection is being made.
    #[default]
    Connecting,
    /// Takes writes.
    Up,
    /// Connected once, and fails now.
    Stalled,
    /// Cannot be reached.
    Down,
    /// A person has to act.
    Holding,
}

/// The uplink.
pub(super) struct Link {
    store: Option<Arc<dyn Store>>,
    state: LinkState,
    detail: String,
    attempt: u32,
    probe_at: Instant,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self { store: None, state: LinkState::Connecting, detail: String::new(), attempt: 0, probe_at: now }
    }

    pub(super) fn state(&self) -> LinkState {
        self.state
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The store, once it was connected.
    pub(super) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// The store, if it takes writes.
    pub(super) fn up(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref().filter(|_| self.state == LinkState::Up)
    }

    /// When to probe; `None` while it is up.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        (self.state != LinkState::Up).then_some(self.probe_at)
    }

    pub(super) fn connected(&mut self, store: Arc<dyn Store>) {
        self.store = Some(store);
        self.succeeded();
    }

    /// Something was written.
    pub(super) fn succeeded(&mut self) {
        if self.state != LinkState::Up {
            tracing::info!(after = ?self.state, "store takes writes");
            self.detail.clear();
        }
        (self.state, self.attempt) = (LinkState::Up, 0);
    }

    /// Something failed with `error`; poison says nothing of the link.
    pub(super) fn failed(&mut self, error: &StoreError, now: Instant, jitter: f64) {
        let (state, pause) = match decide(error, self.attempt, jitter) {
            Decision::Poison => return,
            Decision::Hold(pause) => (LinkState::Holding, pause),
            Decision::Retry(pause) if self.store.is_some() => (LinkState::Stalled, pause),
            Decision::Retry(pause) => (LinkState::Down, pause),
        };
        let detail = error.to_string();
        // One line for each change, not for each attempt: an outage may last for hours.
        if state != self.state {
            tracing::warn!(error = detail, "store does not take writes; what comes is kept and goes to the spill");
        }
        (self.state, self.detail) = (state, detail);
        self.attempt = self.attempt.saturating_add(1);
        self.probe_at = now + pause;
    }
}

//! The uplink's state: whether the store takes writes, and when to ask again if not.
//!
//! ```text
//!            connected            a write fails
//!  Down ───────────────▶ Up ────────────────────▶ Stalled
//!   ▲                     ▲                          │
//!   │ never connected     └──── a probe succeeds ────┘
//! ```
//! While it is not up, one probe at a time is made: enough to notice the end of an outage, too few to
//! pile requests up on a store that hangs. A probe only reads, so after it a single write is tried: only
//! a write that succeeds opens the window and ends the backing off. A store that answers probes and
//! refuses writes is so asked less and less often, not as fast as it can fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decide::{Decision, decide};
use super::tasks::Took;
use super::window::Window;
use crate::store::{Store, StoreError};

/// Distance of two lines in the log about the link, whatever it does: an outage may last, or flap, for hours.
const SAY_EVERY: Duration = Duration::from_secs(5);

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
    since: Instant,
    detail: String,
    /// Failures since the last write that succeeded.
    attempt: u32,
    probe_at: Instant,
    /// Whether a write has succeeded since it came up.
    proven: bool,
    writes: Window,
    /// When a write was answered last, and how long the last ones took, smoothed.
    answered: Option<(Instant, Duration)>,
    /// What the log was told last, and when.
    said: Option<(LinkState, Instant)>,
}

impl Link {
    pub(super) fn new(now: Instant, writes: Window) -> Self {
        Self {
            store: None,
            state: LinkState::Connecting,
            since: now,
            detail: String::new(),
            attempt: 0,
            probe_at: now,
            proven: false,
            writes,
            answered: None,
            said: None,
        }
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

    /// How many writes may be in flight.
    pub(super) fn window(&self) -> usize {
        match (self.state, self.proven) {
            (LinkState::Up, true) => self.writes.limit(),
            (LinkState::Up, false) => 1,
            _ => 0,
        }
    }

    /// When to probe; `None` while it is up.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        (self.state != LinkState::Up).then_some(self.probe_at)
    }

    pub(super) fn connected(&mut self, store: Arc<dyn Store>, now: Instant) {
        self.store = Some(store);
        self.probed(now);
    }

    /// A probe was answered.
    pub(super) fn probed(&mut self, now: Instant) {
        self.proven = false;
        self.enter(LinkState::Up, now);
    }

    /// Something was written, which took so long. If the link has stalled meanwhile, the next probe finds out.
    pub(super) fn wrote(&mut self, took: Took, now: Instant) {
        let smooth = self.answered.map_or(took.whole, |(_, before)| (before * 7 + took.whole) / 8);
        self.answered = Some((now, smooth));
        if self.state == LinkState::Up {
            if self.proven {
                self.writes.answered(took.each(), now);
            } else {
                self.writes.restart(now);
            }
            (self.proven, self.attempt) = (true, 0);
            self.detail.clear();
        }
    }

    /// Something waits that the limit of writes in flight keeps back.
    pub(super) fn kept_back(&mut self) {
        self.writes.kept_back();
    }

    /// A write was given up after so long, though the store answers others.
    pub(super) fn unanswered(&mut self, took: Duration, now: Instant) {
        self.writes.unanswered(took, now);
    }

    /// How long a write takes as a rule.
    pub(super) fn write_takes(&self) -> Duration {
        self.answered.map_or(Duration::ZERO, |(_, took)| took)
    }

    /// Whether a write that began at `began` is known to have met a store that answers others.
    pub(super) fn answered_since(&self, began: Instant) -> bool {
        self.answered.is_some_and(|(at, _)| at > began)
    }

    /// A write failed with `error`. Writes begin only while it is up, so one that fails later belongs to a
    /// failure that is known already.
    pub(super) fn write_failed(&mut self, error: &StoreError, now: Instant, jitter: f64) {
        if self.state == LinkState::Up {
            self.probe_failed(error, now, jitter);
            // A single write that was tried says nothing of how many are too many.
            if self.state != LinkState::Up && self.proven {
                self.writes.failed(now);
            }
        }
    }

    /// A connection or a probe failed with `error`; poison says nothing of the link.
    pub(super) fn probe_failed(&mut self, error: &StoreError, now: Instant, jitter: f64) {
        let (state, pause) = match decide(error, self.attempt, jitter) {
            Decision::Poison => return,
            Decision::Hold(pause) => (LinkState::Holding, pause),
            Decision::Retry(pause) if self.store.is_some() => (LinkState::Stalled, pause),
            Decision::Retry(pause) => (LinkState::Down, pause),
        };
        self.detail = error.to_string();
        self.attempt = self.attempt.saturating_add(1);
        self.probe_at = now + pause;
        self.enter(state, now);
    }

    fn enter(&mut self, state: LinkState, now: Instant) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    /// Logs the state if it is another one than was logged last; answers what it said. To be called often.
    pub(super) fn report(&mut self, now: Instant) -> Option<LinkState> {
        let said = self.said.map(|(state, _)| state);
        let quiet = self.said.is_some_and(|(_, at)| now.duration_since(at) < SAY_EVERY);
        // After an outage, a probe alone is no news: as a rule a write follows at once.
        let doubtful = said.is_some() && self.window() == 1 && now.duration_since(self.since) < SAY_EVERY;
        if self.state == LinkState::Connecting || said == Some(self.state) || quiet || doubtful {
            return None;
        }
        if self.state == LinkState::Up {
            tracing::info!("store takes writes");
        } else {
            let error = &self.detail;
            tracing::warn!(error, "store does not take writes; what comes is kept and goes to the spill");
        }
        self.said = Some((self.state, now));
        Some(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Took = Took { whole: Duration::ZERO, requests: 1 };
    /// In flight at the start: half of the most.
    const WRITES: usize = 8;

    fn broken() -> StoreError {
        StoreError::Unavailable { what: "write".into(), reason: "broken".into() }
    }

    fn stalled_at(now: Instant) -> Link {
        let mut link = Link::new(now, Window::new(2 * WRITES, Duration::from_secs(1), now));
        link.connected(crate::deliver::tests::Scripted::new(crate::deliver::tests::Script::Refuses), now);
        link.wrote(AT_ONCE, now);
        link.write_failed(&broken(), now, 1.0);
        link
    }

    #[test]
    fn a_store_that_answers_probes_and_refuses_writes_is_asked_less_and_less_often() {
        let mut now = Instant::now();
        let mut link = stalled_at(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let at = link.probe_at().unwrap();
            pauses.push(at.duration_since(now).as_millis());
            now = at;
            link.probed(now);
            assert_eq!(link.window(), 1, "one write is tried");
            link.write_failed(&broken(), now, 1.0);
            assert_eq!(link.window(), 0);
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        link.probed(now);
        link.wrote(AT_ONCE, now);
        assert_eq!(link.window(), WRITES / 2, "halved once, however often one write was tried");
        link.write_failed(&broken(), now, 1.0);
        assert_eq!(link.probe_at().unwrap().duration_since(now).as_millis(), 50, "from the start again");
    }

    #[test]
    fn a_store_that_could_not_cope_gets_fewer_writes_when_it_is_back() {
        let mut now = Instant::now();
        let mut link = stalled_at(now);
        for limit in [4, 2, 2] {
            now += Duration::from_secs(1);
            link.probed(now);
            link.wrote(AT_ONCE, now);
            assert_eq!(link.window(), limit);
            link.write_failed(&broken(), now, 1.0);
        }
    }

    #[test]
    fn writes_that_fail_together_count_as_one_failure() {
        let now = Instant::now();
        let mut link = stalled_at(now);
        let at = link.probe_at();
        (0..15).for_each(|_| link.write_failed(&broken(), now, 1.0));
        assert_eq!(link.probe_at(), at);
        link.wrote(AT_ONCE, now);
        assert_eq!(link.state(), LinkState::Stalled, "one late success does not end it");
    }

    #[test]
    fn a_link_that_flaps_for_an_hour_writes_few_lines_and_the_last_one_is_true() {
        let mut now = Instant::now();
        let mut link = stalled_at(now);
        let mut lines = 0;
        for turn in 0..36_000 {
            now += Duration::from_millis(100);
            if turn % 2 == 0 {
                link.probed(now);
                link.wrote(AT_ONCE, now);
            } else {
                link.write_failed(&broken(), now, 0.0);
            }
            lines += usize::from(link.report(now).is_some());
        }
        assert!((1..=720).contains(&lines), "{lines} lines");
        now += SAY_EVERY;
        link.report(now);
        assert_eq!(link.said.map(|(state, _)| state), Some(link.state()));
    }

    #[test]
    fn a_probe_that_no_write_follows_is_no_news_and_a_quiet_link_is() {
        let mut now = Instant::now();
        let mut link = stalled_at(now);
        assert_eq!(link.report(now), Some(LinkState::Stalled));
        now += 3 * SAY_EVERY;
        link.probed(now);
        assert_eq!(link.report(now), None);
        now += SAY_EVERY;
        assert_eq!(link.report(now), Some(LinkState::Up), "nothing to write: the probe is all there is");
        assert_eq!(link.report(now + SAY_EVERY), None);
    }
}

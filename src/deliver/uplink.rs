//! Connecting and probing, and the small things that go to the store beside the data.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::run::Deliver;
use super::tasks::{Done, before};
use crate::sample::UnixMicros;
use crate::store::{Store, StoreError};
use std::sync::Arc;

/// How long a request that has no deadline of its own may take: more than the store's own
/// `write_request_timeout` of 2 s.
pub(super) const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take, the driver's look at the whole cluster included.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Distance of two heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Distance of two looks for rows that are too old, and how long one may take.
const EXPIRE_EVERY: Duration = Duration::from_secs(5 * 60);
const EXPIRE_WITHIN: Duration = Duration::from_secs(30);
/// Pause while there are more of them: the embedded store has one writer, and live data waits for it.
const EXPIRE_MORE_AFTER: Duration = Duration::from_secs(1);

/// What goes to the store beside the data. Neither says anything of the link: the table `agents` may be in
/// trouble where the data is not.
pub(super) struct Chores {
    heartbeat_at: Instant,
    heartbeating: bool,
    expire_at: Instant,
    expiring: bool,
    age: Option<Age>,
}

/// What deleted too old rows, and how many.
pub(super) struct Expired {
    rows: u64,
    age: Age,
}

/// By what time rows are too old: UTC, but no later than the newest that is stored (as [`Store::newest_before`] tells it:
/// nothing that a wrong clock placed) plus how long this run has lasted. A clock that is fifty years ahead, set by mistake, would delete all there is; so an hour's run makes no
/// more than an hour's data too old. A store that was not written for long is caught up with by the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age {
    /// The newest stored UTC less the gateway's counter, µs.
    ahead_us: i64,
}

impl Age {
    fn since(newest: UnixMicros, uptime_us: i64) -> Self {
        Self { ahead_us: newest.0.saturating_sub(uptime_us) }
    }

    fn now(self, utc: UnixMicros, uptime_us: i64) -> UnixMicros {
        utc.min(UnixMicros(uptime_us.saturating_add(self.ahead_us)))
    }
}

impl Chores {
    pub(super) fn new(now: Instant) -> Self {
        Self { heartbeat_at: now, heartbeating: false, expire_at: now + EXPIRE_MORE_AFTER, expiring: false, age: None }
    }

    pub(super) fn beaten(&mut self) {
        self.heartbeating = false;
    }

    pub(super) fn expired(&mut self, outcome: Result<Expired, StoreError>, now: Instant) {
        self.expiring = false;
        let more = match outcome {
            Ok(Expired { rows, age }) => {
                self.age = Some(age);
                rows > 0
            }
            Err(error) => {
                tracing::debug!(%error, "rows that are too old are not deleted yet");
                false
            }
        };
        self.expire_at = now + if more { EXPIRE_MORE_AFTER } else { EXPIRE_EVERY };
    }
}

impl Deliver {
    /// Connects or probes when it is time, one attempt at a time.
    pub(super) fn connect(&mut self, now: Instant) {
        if self.connecting || self.probing || self.link.probe_at().is_none_or(|at| now < at) {
            return;
        }
        match self.link.store().cloned() {
            None => {
                self.connecting = true;
                let connect = self.parts.connect.clone();
                let connect = async move { connect().await };
                self.tasks
                    .spawn(async move { Done::Connected(before(now + CONNECT_WITHIN, "connect", connect).await) });
            }
            Some(store) => {
                self.probing = true;
                self.tasks.spawn(async move {
                    Done::Probed(before(now + REQUEST_WITHIN, "check the store", store.check()).await)
                });
            }
        }
    }

    pub(super) fn connected(&mut self, outcome: Result<Arc<dyn Store>, StoreError>, now: Instant) {
        self.connecting = false;
        match outcome {
            Ok(store) => self.link.connected(store, now),
            Err(error) => self.link.probe_failed(&error, now, jitter()),
        }
    }

    pub(super) fn probed(&mut self, outcome: Result<(), StoreError>, now: Instant) {
        self.probing = false;
        match outcome {
            Ok(()) => self.link.probed(now),
            Err(error) => self.link.probe_failed(&error, now, jitter()),
        }
    }

    pub(super) fn do_chores(&mut self, now: Instant) {
        if self.stopping() {
            return;
        }
        let Some(store) = self.link.up().cloned() else { return };
        if !self.chores.heartbeating && now >= self.chores.heartbeat_at {
            self.chores.heartbeat_at = now + HEARTBEAT_EVERY;
            self.chores.heartbeating = true;
            let (store, rows) = (store.clone(), (self.parts.heartbeat)());
            self.tasks.spawn(async move {
                let beat = async {
                    for row in rows {
                        store.heartbeat(&row).await?;
                    }
                    Ok(())
                };
                let _ = before(now + REQUEST_WITHIN, "write the heartbeat", beat).await;
                Done::Heartbeat
            });
        }
        if !self.chores.expiring && now >= self.chores.expire_at {
            let Some(utc) = self.parts.gateway.utc() else {
                // Nobody knows what is too old.
                self.chores.expire_at = now + EXPIRE_EVERY;
                return;
            };
            self.chores.expiring = true;
            let (age, uptime_us) = (self.chores.age, self.parts.gateway.uptime_at_us(now));
            self.tasks.spawn(async move {
                let expire = async {
                    let age = match age {
                        Some(age) => age,
                        None => Age::since(store.newest_before(utc).await?.unwrap_or(utc), uptime_us),
                    };
                    Ok(Expired { rows: store.expire(age.now(utc, uptime_us)).await?, age })
                };
                Done::Expired(before(now + EXPIRE_WITHIN, "delete what is too old", expire).await)
            });
        }
    }

    pub(super) fn chores_wake_at(&self) -> Option<Instant> {
        let Chores { heartbeat_at, heartbeating, expire_at, expiring, .. } = self.chores;
        let due = [(heartbeat_at, heartbeating), (expire_at, expiring)];
        let next = due.into_iter().filter(|(_, busy)| !busy).map(|(at, _)| at).min();
        next.filter(|_| !self.stopping() && self.link.up().is_some())
    }
}

/// A random number in 0..1: enough chance to keep agents apart.
pub(super) fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random % 1024) as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_fifty_years_ahead_makes_no_more_too_old_than_the_run_has_lasted() {
        const HOUR_US: i64 = 3_600_000_000;
        let (newest, uptime_us) = (UnixMicros(1_780_000_000_000_000), 5_000_000);
        let age = Age::since(newest, uptime_us);
        let ahead = UnixMicros(newest.0 + 50 * 8_766 * HOUR_US);
        assert_eq!(age.now(ahead, uptime_us), newest);
        assert_eq!(age.now(ahead, uptime_us + HOUR_US), UnixMicros(newest.0 + HOUR_US));
        let behind = UnixMicros(newest.0 - HOUR_US);
        assert_eq!(age.now(behind, uptime_us + HOUR_US), behind);
    }
}

//! The gateway's UTC: read from the wall clock once it is known to be right, then counted by the gateway's own
//! counter.
//!
//! Invariants: an estimate is replaced only by one of a higher [`Certainty`], so at most twice in a run; no step of
//! the wall clock moves it otherwise, by an hour or by fifty years. Whoever sets a clock by hand restarts the agent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Certainty, Clock, EARLIEST_PLAUSIBLE, Trust};
use crate::sample::UnixMicros;

/// Distance of two looks at whether the wall clock is synchronised.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Two readings of clocks that lie further apart were interrupted, and say nothing.
const AT_ONCE: Duration = Duration::from_millis(1);
/// The counter has gone on without monotonic time by more than this: the gateway slept.
const SLEPT_US: i64 = 5_000;
/// A wall clock that is off by more than this is told of.
const STEP_TOLD_US: i64 = 1_000_000;

/// What UTC the gateway's counter stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// µs to add to the gateway's counter.
    pub offset_us: i64,
    /// How good the reading was.
    pub certainty: Certainty,
}

/// The gateway's time, shared by whoever needs it.
pub struct Gateway {
    clock: Arc<dyn Clock>,
    trust: Trust,
    /// Somebody has asked the kernel, and it said that the clock is synchronised.
    told: AtomicBool,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    /// The counter when `began` was, as if it had run on since without a sleep.
    began_us: i64,
    estimate: Option<Estimate>,
    looked_at: Option<Instant>,
    /// How far off the wall clock was when that was told, µs.
    step_us: i64,
}

impl Gateway {
    /// The time of a gateway with `clock`, whose wall clock counts as `trust` says.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, trust: Trust) -> Arc<Self> {
        let began = clock.now();
        let state = State { began_us: clock.uptime_us(), estimate: None, looked_at: None, step_us: 0 };
        let gateway = Self { clock, trust, told: AtomicBool::new(false), began, state: Mutex::new(state) };
        Arc::new(gateway)
    }

    /// What has to be known of the wall clock until it counts.
    #[must_use]
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    /// The kernel was asked and says that the wall clock is synchronised.
    pub fn tell_synchronised(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// The counter at `at`, a moment not long ago: µs since the gateway started, time asleep included.
    #[must_use]
    pub fn uptime_at_us(&self, at: Instant) -> i64 {
        let mut state = self.lock();
        self.follow_sleep(&mut state);
        state.began_us.saturating_add(signed_us(at, self.began))
    }

    /// What UTC the counter stands for, if that is known. Cheap.
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        let mut state = self.lock();
        let best = state.estimate.map_or(Certainty::Unknown, |estimate| estimate.certainty);
        if best < Certainty::Synchronised {
            self.look(&mut state, best);
        }
        state.estimate
    }

    /// UTC now, if it is known.
    #[must_use]
    pub fn utc(&self) -> Option<UnixMicros> {
        let estimate = self.estimate()?;
        Some(UnixMicros(self.uptime_at_us(self.clock.now()).saturating_add(estimate.offset_us)))
    }

    fn look(&self, state: &mut State, best: Certainty) {
        let (now, wall) = (self.clock.now(), self.clock.now_utc());
        let due = state.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_EVERY);
        if wall < EARLIEST_PLAUSIBLE || (best >= Certainty::Plausible && !due) {
            return;
        }
        let mut certainty = Certainty::Plausible;
        if due {
            state.looked_at = Some(now);
            if self.told.load(Ordering::Relaxed) || self.clock.synchronised() {
                certainty = Certainty::Synchronised;
            }
        }
        self.follow_sleep(state);
        let uptime_us = state.began_us.saturating_add(signed_us(now, self.began));
        let offset_us = wall.0.saturating_sub(uptime_us);
        if certainty > best && certainty >= self.trust.requires() {
            let moved_us = state.estimate.map(|before| offset_us.saturating_sub(before.offset_us));
            tracing::info!(?certainty, utc_us = wall.0, moved_us, "the gateway's clock is known");
            state.estimate = Some(Estimate { offset_us, certainty });
            state.step_us = 0;
        } else if let Some(estimate) = state.estimate {
            let step_us = offset_us.saturating_sub(estimate.offset_us);
            if step_us.saturating_sub(state.step_us).saturating_abs() > STEP_TOLD_US {
                state.step_us = step_us;
                tracing::warn!(
                    step_us,
                    "the wall clock was stepped; times go on as before it: restart the agent if it \
                    is right only now"
                );
            }
        }
    }

    /// Monotonic time stands still while the gateway sleeps; its counter does not.
    fn follow_sleep(&self, state: &mut State) {
        let before = self.clock.now();
        let uptime_us = self.clock.uptime_us();
        let after = self.clock.now();
        let began_us = uptime_us.saturating_sub(signed_us(after, self.began));
        let apart = after.saturating_duration_since(before);
        if apart < AT_ONCE && began_us.saturating_sub(state.began_us).saturating_abs() > SLEPT_US {
            state.began_us = began_us;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same clock for everybody: UTC as estimated once that is known, until then what the wall clock says.
impl Clock for Gateway {
    fn now_utc(&self) -> UnixMicros {
        self.utc().unwrap_or_else(|| self.clock.now_utc())
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn uptime_us(&self) -> i64 {
        self.clock.uptime_us()
    }

    fn boot(&self) -> u32 {
        self.clock.boot()
    }

    fn synchronised(&self) -> bool {
        self.estimate().is_some_and(|estimate| estimate.certainty == Certainty::Synchronised)
    }
}

/// `at - from` in µs, negative if it lies before.
fn signed_us(at: Instant, from: Instant) -> i64 {
    let us = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match at.checked_duration_since(from) {
        Some(after) => us(after),
        None => -us(from.duration_since(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Scripted;

    const HOUR_US: i64 = 3_600_000_000;
    const YEARS_50_US: i64 = 50 * 31_557_600 * 1_000_000;
    /// A day in 2026.
    const TODAY: UnixMicros = UnixMicros(EARLIEST_PLAUSIBLE.0 + 30 * 86_400_000_000);

    fn gateway(trust: Trust, utc: UnixMicros) -> (Arc<Scripted>, Arc<Gateway>) {
        let clock = Scripted::manual(utc);
        (clock.clone(), Gateway::new(clock, trust))
    }

    #[test]
    fn a_clock_of_1970_is_not_known_and_once_it_is_set_all_moments_of_the_boot_are() {
        let (clock, gateway) = gateway(Trust::System, UnixMicros(60_000_000));
        let then = clock.now();
        assert_eq!((gateway.estimate(), gateway.now_utc()), (None, UnixMicros(60_000_000)));
        clock.pass(Duration::from_secs(5));
        clock.set_utc(TODAY);
        let estimate = gateway.estimate().unwrap();
        assert_eq!(estimate.certainty, Certainty::Plausible);
        assert_eq!(gateway.uptime_at_us(then) + estimate.offset_us, TODAY.0 - 5_000_000);
        assert_eq!(gateway.now_utc(), TODAY);
    }

    #[test]
    fn no_step_moves_it_and_only_a_synchronised_clock_betters_it_once() {
        let (clock, gateway) = gateway(Trust::System, TODAY);
        assert_eq!(gateway.utc(), Some(TODAY));
        for step_us in [HOUR_US, -HOUR_US, YEARS_50_US, -YEARS_50_US, -YEARS_50_US] {
            clock.step_us(step_us);
            clock.pass(Duration::from_secs(2));
        }
        assert_eq!(gateway.utc(), Some(UnixMicros(TODAY.0 + 10_000_000)));
        clock.set_utc(UnixMicros(TODAY.0 + HOUR_US));
        clock.set_synchronised(true);
        clock.pass(Duration::from_secs(2));
        assert_eq!(gateway.utc(), Some(UnixMicros(TODAY.0 + HOUR_US + 2_000_000)));
        assert!(gateway.synchronised());
        clock.step_us(YEARS_50_US);
        clock.pass(Duration::from_secs(2));
        assert_eq!(gateway.utc(), Some(UnixMicros(TODAY.0 + HOUR_US + 4_000_000)));
    }

    #[test]
    fn under_trust_in_the_kernel_a_plausible_clock_is_not_enough_nor_is_a_synchronised_1970() {
        let (clock, gateway) = gateway(Trust::Kernel, TODAY);
        assert_eq!((gateway.utc(), gateway.now_utc()), (None, TODAY));
        clock.set_utc(UnixMicros(0));
        gateway.tell_synchronised();
        clock.pass(Duration::from_secs(2));
        assert_eq!(gateway.utc(), None);
        clock.set_utc(TODAY);
        assert_eq!(gateway.utc(), Some(TODAY));
    }

    #[test]
    fn time_asleep_counts() {
        let (clock, gateway) = gateway(Trust::System, TODAY);
        let (before, uptime_us) = (gateway.utc().unwrap(), gateway.uptime_at_us(clock.now()));
        clock.sleep(Duration::from_secs(100));
        assert_eq!(gateway.uptime_at_us(clock.now()) - uptime_us, 100_000_000);
        assert_eq!(gateway.utc().unwrap().0 - before.0, 100_000_000);
    }
}

//! A clock that tests set: by hand altogether, or running with monotonic time and stepped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Clock;
use crate::sample::UnixMicros;

pub(crate) struct Scripted {
    began: Instant,
    state: Mutex<State>,
}

struct State {
    /// Whether time passes by itself.
    runs: bool,
    passed: Duration,
    asleep: Duration,
    utc_at_start: i64,
    synchronised: bool,
    boot: u32,
}

impl Scripted {
    /// Stands still but for [`Self::pass`] and [`Self::sleep`].
    pub(crate) fn manual(utc: UnixMicros) -> Arc<Self> {
        Arc::new(Self::new(utc, false))
    }

    /// Runs as real time does.
    pub(crate) fn running(utc: UnixMicros) -> Arc<Self> {
        Arc::new(Self::new(utc, true))
    }

    fn new(utc: UnixMicros, runs: bool) -> Self {
        let (passed, asleep) = (Duration::ZERO, Duration::ZERO);
        let state = State { runs, passed, asleep, utc_at_start: utc.0, synchronised: false, boot: 77 };
        Self { began: Instant::now(), state: Mutex::new(state) }
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.lock().passed += time;
    }

    pub(crate) fn sleep(&self, time: Duration) {
        self.lock().asleep += time;
    }

    pub(crate) fn set_utc(&self, utc: UnixMicros) {
        let now = self.now_utc().0;
        self.step_us(utc.0 - now);
    }

    pub(crate) fn step_us(&self, by_us: i64) {
        self.lock().utc_at_start += by_us;
    }

    pub(crate) fn set_synchronised(&self, synchronised: bool) {
        self.lock().synchronised = synchronised;
    }

    pub(crate) fn set_boot(&self, boot: u32) {
        self.lock().boot = boot;
    }

    fn since(&self) -> Duration {
        let state = self.lock();
        if state.runs { self.began.elapsed() + state.passed } else { state.passed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Scripted {
    fn now_utc(&self) -> UnixMicros {
        UnixMicros(self.uptime_us() - 1_000_000 + self.lock().utc_at_start)
    }

    fn now(&self) -> Instant {
        self.began + self.since()
    }

    fn uptime_us(&self) -> i64 {
        // The gateway started a second before.
        1_000_000 + (self.since() + self.lock().asleep).as_micros() as i64
    }

    fn boot(&self) -> u32 {
        self.lock().boot
    }

    fn synchronised(&self) -> bool {
        self.lock().synchronised
    }
}

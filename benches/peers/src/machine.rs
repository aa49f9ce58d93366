//! What the process and the rest of the machine use of its cores.

use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// Taken before and after what is measured.
pub(crate) struct Clocks {
    wall: Instant,
    own: Duration,
    /// All cores together, without what they stood idle.
    busy: Option<Duration>,
}

pub(crate) struct Used {
    pub(crate) wall: Duration,
    /// By this process, all its threads together.
    pub(crate) own: Duration,
    /// By everybody else, the hypervisor's other guests too: cores on average.
    pub(crate) others_cores: Option<f64>,
}

impl Clocks {
    pub(crate) fn now() -> Self {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let nanoseconds = u32::try_from(own.tv_nsec).expect("below a second");
        let own = Duration::new(own.tv_sec.unsigned_abs(), nanoseconds);
        Self { busy: busy(), own, wall: Instant::now() }
    }

    pub(crate) fn used(&self) -> Used {
        let now = Self::now();
        let (wall, own) = (now.wall - self.wall, now.own - self.own);
        let others = |busy: Duration| busy.saturating_sub(own).as_secs_f64() / wall.as_secs_f64();
        let busy = now.busy.zip(self.busy).map(|(now, then)| now.saturating_sub(then));
        Used { wall, own, others_cores: busy.map(others) }
    }
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
fn busy() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    let busy = ticks.iter().take(3).chain(ticks.iter().skip(5).take(3)).sum::<u64>();
    Some(Duration::from_secs_f64(busy as f64 / clock_ticks_per_second() as f64))
}

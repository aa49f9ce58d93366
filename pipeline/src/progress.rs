//! How far a source has come, as a line of a log and as a bar.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::snapshot::SourceSnapshot;

/// How far a source has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// The source.
    pub name: String,
    /// Items given.
    pub done: u64,
    /// Items in all, if it knows.
    pub total: Option<u64>,
    /// Items a second, over the interval.
    pub rate_per_s: f64,
    /// How long the rest will take at this rate; `None` if that is not known.
    pub left: Option<Duration>,
}

impl Progress {
    /// How far it is `now`, at the rate since `earlier`; without one, since the start.
    #[must_use]
    pub fn of(now: &SourceSnapshot, earlier: Option<&SourceSnapshot>) -> Self {
        let (done_before, wall_before) = earlier.map_or((0, 0), |earlier| (earlier.done, earlier.wall_ns));
        let seconds = now.wall_ns.saturating_sub(wall_before) as f64 / 1e9;
        let rate_per_s = if seconds > 0.0 { now.done.saturating_sub(done_before) as f64 / seconds } else { 0.0 };
        let rest = now.total.map(|total| total.saturating_sub(now.done) as f64);
        let left = match rest {
            _ if now.ended => Some(Duration::ZERO),
            Some(0.0) => Some(Duration::ZERO),
            Some(rest) if rate_per_s > 0.0 => Duration::try_from_secs_f64(rest / rate_per_s).ok(),
            _ => None,
        };
        Self { name: now.name.clone(), done: now.done, total: now.total, rate_per_s, left }
    }

    /// The share that is done, 0 to 1, if the total is known.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        self.total.map(|total| if total == 0 { 1.0 } else { (self.done as f64 / total as f64).min(1.0) })
    }

    /// A bar of `width` characters, such as `[####----]`; without a total it is all `-`.
    #[must_use]
    pub fn bar(&self, width: usize) -> String {
        let inside = width.saturating_sub(2);
        let full = (self.share().unwrap_or(0.0) * inside as f64) as usize;
        format!("[{}{}]", "#".repeat(full), "-".repeat(inside - full))
    }
}

/// One line for a log.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, done, total, rate_per_s, left } = self;
        write!(f, "{name}: {done}")?;
        if let (Some(total), Some(share)) = (total, self.share()) {
            write!(f, " of {total} ({} %)", (share * 100.0).floor())?;
        }
        write!(f, ", {rate_per_s:.*}/s", usize::from(*rate_per_s < 10.0))?;
        match left {
            Some(Duration::ZERO) => write!(f, ", done"),
            Some(left) => write!(f, ", {} left", rounded(*left)),
            None => Ok(()),
        }
    }
}

fn rounded(left: Duration) -> String {
    let seconds = left.as_secs_f64().ceil() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Histogram;

    fn source(done: u64, total: Option<u64>, seconds: u64) -> SourceSnapshot {
        SourceSnapshot {
            name: "files".into(),
            queue: "in".into(),
            done,
            total,
            ended: false,
            failed: false,
            busy_ns: 0,
            blocked_ns: 0,
            wall_ns: seconds * 1_000_000_000,
            latency: Histogram::default(),
        }
    }

    fn check(now: &SourceSnapshot, earlier: Option<&SourceSnapshot>, line: &str, bar: &str) {
        let progress = Progress::of(now, earlier);
        assert_eq!((progress.to_string().as_str(), progress.bar(10).as_str()), (line, bar));
    }

    #[test]
    fn a_finite_source_shows_items_done_rate_and_time_left() {
        let half = source(500, Some(1_000), 10);
        check(&half, None, "files: 500 of 1000 (50 %), 50/s, 10 s left", "[####----]");
        let later = source(600, Some(1_000), 60);
        check(&later, Some(&half), "files: 600 of 1000 (60 %), 2.0/s, 4 min left", "[####----]");
        check(&source(1_000, Some(1_000), 60), None, "files: 1000 of 1000 (100 %), 17/s, done", "[########]");
        check(&source(0, Some(0), 0), None, "files: 0 of 0 (100 %), 0.0/s, done", "[########]");
    }

    #[test]
    fn an_endless_source_shows_what_is_known() {
        check(&source(30, None, 10), None, "files: 30, 3.0/s", "[--------]");
        check(&source(0, Some(9), 10), None, "files: 0 of 9 (0 %), 0.0/s", "[--------]");
    }
}

//! How far a reading has come: a bar on a terminal, else a line in the log now and then.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::reader::Reading;
use crate::pipeline::Progress;

/// Distance of two lines in a log.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Shows how far a reading has come.
pub(super) struct Shown {
    bar: ProgressBar,
    began: Instant,
    /// When a line is due, where lines are wanted.
    due: Option<Instant>,
}

impl Shown {
    /// Shows it if it is `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} buckets · {msg} · {eta} left");
        let bar = if wanted { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let began = Instant::now();
        // A bar draws nothing where stderr is no terminal.
        let due = (wanted && bar.is_hidden()).then(|| began + TOLD_EVERY);
        Self { bar, began, due }
    }

    /// Takes note of how far `reading` is.
    pub(super) fn at(&mut self, reading: &Reading<'_>) {
        let (done, all) = reading.progress();
        let samples = reading.counts().samples;
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        let elapsed = self.began.elapsed();
        let per_s = (samples as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
        self.bar.set_message(format!("{} samples, {}/s", HumanCount(samples), HumanCount(per_s)));
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = Some(Instant::now() + TOLD_EVERY);
            let progress = Progress::at("buckets", done as u64, Some(all as u64), elapsed);
            tracing::info!(samples, "{progress}");
        }
    }

    /// It is over, well or not.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

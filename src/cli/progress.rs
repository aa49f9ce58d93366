//! How far a command has come through so many bytes: a bar on a terminal, else a line now and then; nothing at all
//! where it is soon done.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::say;
use crate::limits::MIB;
use crate::pipeline::Progress;

/// What has fewer bytes is done before anybody reads a bar: 0.1 s at 500 MB/s.
const SHOWN_FROM_BYTES: u64 = 64 * MIB as u64;
/// Distance of two lines where there is no terminal.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Shows how far it is.
pub(super) struct Shown {
    what: &'static str,
    bar: ProgressBar,
    bytes: u64,
    began: Instant,
    /// When a line is due, where lines are wanted.
    due: Option<Instant>,
}

impl Shown {
    /// Shows how far `bytes` are `what`, such as "checked".
    pub(super) fn new(what: &'static str, bytes: u64) -> Self {
        let wanted = bytes >= SHOWN_FROM_BYTES;
        let style = ProgressStyle::with_template("{bar:30} {msg} · {eta} left");
        let bar = if wanted { ProgressBar::new(bytes) } else { ProgressBar::hidden() };
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let began = Instant::now();
        // A bar draws nothing where stderr is no terminal.
        let due = (wanted && bar.is_hidden()).then(|| began + TOLD_EVERY);
        Self { what, bar, bytes, began, due }
    }

    /// So many bytes are done.
    pub(super) fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        self.bar.set_message(format!("{} of {} {}", HumanBytes(done), HumanBytes(self.bytes), self.what));
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = Some(Instant::now() + TOLD_EVERY);
            let progress = Progress::at(self.what, done, Some(self.bytes), self.began.elapsed());
            say(&format!("pitwire: bytes {progress}"));
        }
    }

    /// It is over, well or not.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

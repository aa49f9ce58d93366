//! What is settled, kept where a process's end does not reach and no flash is worn: in `runtime_dir`.
//!
//! Written whole beside and renamed, on change only, at most every [`KEEP_EVERY`], never synced: after a power cut
//! nothing of it is there, or an older one, and then a gap is declared too wide.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::settled::Book;

/// What is settled shortly before an end may be declared missing: so much of it.
const KEEP_EVERY: Duration = Duration::from_millis(100);

/// The file.
pub(super) struct Runtime {
    path: PathBuf,
    pub(super) book: Arc<Book>,
    refused: AtomicBool,
}

impl Runtime {
    /// Reads what an earlier run of `agent` left. What cannot be read is passed over.
    pub(super) fn open(dir: &Path, agent: &str) -> Self {
        let path = dir.join(format!("settled-{agent}"));
        let book = match std::fs::read(&path) {
            Ok(bytes) => Book::decode(&bytes).unwrap_or_else(|| {
                tracing::warn!(path = %path.display(), "damaged and passed over: gaps will be declared too wide");
                Book::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot be read: gaps will be declared too wide");
                }
                Book::default()
            }
        };
        Self { path, book: Arc::new(book), refused: AtomicBool::new(false) }
    }

    /// Keeps what is new, until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        while tokio::time::timeout(KEEP_EVERY, stop.cancelled()).await.is_err() {
            self.keep().await;
        }
    }

    /// Keeps what is new.
    pub(super) async fn keep(self: &Arc<Self>) {
        if self.book.take_changed() {
            let this = self.clone();
            let _ = tokio::task::spawn_blocking(move || this.write()).await;
        }
    }

    fn write(&self) {
        let Err(error) = replace(&self.path, &self.book.encode()) else { return };
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(path = %self.path.display(), %error,
                "cannot be written: after a crash gaps are declared too wide; set runtime_dir to a directory in RAM \
                 that the agent's user can write");
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, bytes).or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(dir)) => {
            std::fs::create_dir_all(dir)?;
            std::fs::write(&beside, bytes)
        }
        _ => Err(error),
    });
    written.and_then(|()| std::fs::rename(&beside, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_settled_is_known_to_the_next_run_of_the_same_agent() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("run");
        let key = ("44".to_owned(), "ecu".to_owned(), 1);
        let runtime = Arc::new(Runtime::open(&place, "a1"));
        runtime.keep().await;
        assert!(!place.exists(), "nothing is new");
        runtime.book.boot(&key).settle(3, 9, 5);
        runtime.keep().await;
        let ranges = |agent: &str| Runtime::open(&place, agent).book.boot(&key).ranges();
        assert_eq!(ranges("a1"), runtime.book.boot(&key).ranges());
        assert_eq!(ranges("a2"), []);
        std::fs::write(place.join("settled-a1"), "pitwire").unwrap();
        assert_eq!(ranges("a1"), []);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_costs_the_memory_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let runtime = Arc::new(Runtime::open(&file, "a1"));
        for place in 0..2 {
            runtime.book.boot(&("44".into(), "ecu".into(), 1)).settle(place, place, 0);
            runtime.keep().await;
        }
        assert!(runtime.refused.load(Ordering::Relaxed));
    }
}

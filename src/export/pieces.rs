//! An export to a file, in pieces, so that one that was interrupted goes on where it was.
//!
//! ```text
//! NAME.part/lock            held while an export writes here
//! NAME.part/state.json      what is exported, and the pieces that are whole
//! NAME.part/0, 1, …         pieces: each a file of the format by itself, but for the text formats' header
//! NAME                      all of them, once everything is there
//! ```
//! A piece ends between two blocks, at a time (UTC) before which everything is in it or in an earlier one. So an export
//! that goes on reads from there, and no sample is in two pieces or in none; what the store got meanwhile with times
//! before that is not looked for, as an export that was not interrupted would not have seen it either.
//!
//! Invariants: the final name never holds half an export. A piece is synced before the state names it, the state is
//! replaced by renaming, and the whole is synced before it is renamed to the final name, so a kill or a power cut at any
//! moment costs the piece that was being written, and nothing else.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::merge::{Block, ReadCounts};
use super::sink::{Format, Sink, sink};
use super::{ExportError, ExportOptions, parquet};

/// Of the state's fields and their meaning.
const VERSION: u32 = 1;

/// What is on the disk of an export that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// What is exported, in words; nothing goes on with it without.
    of: Option<String>,
    /// The range, as it was understood at first: `-10m` stays what it was.
    pub(super) from_us: Option<i64>,
    /// See `from_us`.
    pub(super) to_us: Option<i64>,
    /// How many pieces are whole.
    pub(super) pieces: u32,
    /// All samples before this, UTC µs, are in them.
    pub(super) until_us: Option<i64>,
    /// Whether there are no others.
    pub(super) complete: bool,
    /// What was met for them.
    pub(super) counts: ReadCounts,
}

/// A file that is being exported to.
pub(super) struct Pieces {
    path: PathBuf,
    dir: PathBuf,
    /// Held until it is dropped.
    _lock: File,
    format: Format,
    pub(super) state: State,
    open: Option<Piece>,
    /// How long a piece takes: what a kill costs at most.
    every: Duration,
}

struct Piece {
    sink: Box<dyn Sink<BufWriter<File>>>,
    samples: usize,
    began: Instant,
}

impl Pieces {
    /// Begins an export to `path`, or goes on with what an earlier one of the same left.
    ///
    /// # Errors
    /// If the folder cannot be written, another export is writing there, or left something other there.
    pub(super) fn open(path: &Path, options: &ExportOptions) -> Result<Self, ExportError> {
        let ExportOptions { format, from, to, of, checkpoint, .. } = options;
        let (format, of, every) = (*format, of.as_deref(), *checkpoint);
        let mut dir = path.as_os_str().to_owned();
        dir.push(".part");
        let dir = PathBuf::from(dir);
        let failed = |source| ExportError::Output { target: dir.display().to_string(), source };
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let lock = File::create(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ExportError::Busy { part: dir }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let [from_us, to_us] = [from, to].map(|at| at.map(|at| at.0));
        let fresh = State {
            version: VERSION,
            of: of.map(str::to_owned),
            from_us,
            to_us,
            pieces: 0,
            until_us: None,
            complete: false,
            counts: ReadCounts::default(),
        };
        let state = match fs::read(dir.join("state.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh,
            Err(error) => return Err(failed(error)),
            Ok(text) => match serde_json::from_slice::<State>(&text) {
                _ if of.is_none() => fresh,
                Ok(state) if state.version == VERSION && state.of.as_deref() == of => {
                    // Its file was put in place, and only the folder is left of it.
                    let over = state.pieces > 0 && !dir.join("0").exists();
                    if over { fresh } else { state }
                }
                Ok(state) => {
                    let of = state.of.unwrap_or_else(|| "something without a name".into());
                    return Err(ExportError::Another { part: dir, of });
                }
                Err(error) => {
                    return Err(ExportError::Another { part: dir, of: format!("something unreadable ({error})") });
                }
            },
        };
        Ok(Self { path: path.to_owned(), dir, _lock: lock, format, state, open: None, every })
    }

    /// The folder with what is not over.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn piece(&self, index: u32) -> PathBuf {
        self.dir.join(index.to_string())
    }

    /// Writes `block`; `counts` is what was met up to it, earlier runs included.
    pub(super) fn write(&mut self, block: Block, counts: &ReadCounts) -> io::Result<()> {
        let until_us = block.until_us;
        let (file, format, first) = (self.piece(self.state.pieces), self.format, self.state.pieces == 0);
        let open = match &mut self.open {
            Some(open) => open,
            open => {
                let sink = sink(format, BufWriter::new(File::create(file)?), first)?;
                open.insert(Piece { sink, samples: 0, began: Instant::now() })
            }
        };
        open.samples += block.samples.len();
        open.sink.write(block)?;
        if open.samples > 0 && open.began.elapsed() >= self.every {
            self.end_piece(Some(until_us), counts)?;
        }
        Ok(())
    }

    /// Makes durable what was written, as a piece with everything before `until_us`.
    fn end_piece(&mut self, until_us: Option<i64>, counts: &ReadCounts) -> io::Result<()> {
        let mut state = State { until_us, counts: counts.clone(), ..self.state.clone() };
        if let Some(open) = self.open.take() {
            open.sink.finish()?.into_inner()?.sync_all()?;
            state.pieces += 1;
        }
        state.complete = until_us.is_none();
        let (temporary, name) = (self.dir.join("state.new"), self.dir.join("state.json"));
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&state)?)?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        fs::rename(temporary, name)?;
        File::open(&self.dir)?.sync_all()?;
        self.state = state;
        Ok(())
    }

    /// Everything was read, and `counts` was met: makes it final.
    pub(super) fn commit(mut self, counts: &ReadCounts) -> io::Result<()> {
        if !self.state.complete {
            if self.state.pieces == 0 && self.open.is_none() {
                // Nothing was there: a file of the format without samples.
                let file = BufWriter::new(File::create(self.piece(0))?);
                self.open = Some(Piece { sink: sink(self.format, file, true)?, samples: 0, began: Instant::now() });
            }
            self.end_piece(None, counts)?;
        }
        let whole = if self.state.pieces == 1 { self.piece(0) } else { self.joined()? };
        fs::rename(whole, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        fs::remove_dir_all(&self.dir)
    }

    fn joined(&self) -> io::Result<PathBuf> {
        let whole = self.dir.join("whole");
        let mut out = BufWriter::new(File::create(&whole)?);
        let pieces = (0..self.state.pieces).map(|index| File::open(self.piece(index)));
        if self.format == Format::Parquet {
            out = parquet::join(out, pieces)?;
        } else {
            for piece in pieces {
                let mut piece = piece?;
                piece.rewind()?;
                io::copy(&mut piece, &mut out)?;
            }
        }
        out.into_inner()?.sync_all()?;
        Ok(whole)
    }

    /// Ends without an end: answers whether something is left to go on with.
    pub(super) fn leave(mut self) -> bool {
        self.open = None;
        if self.state.pieces > 0 && self.state.of.is_some() {
            return true;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(part = %self.dir.display(), %error, "remove the unfinished export");
        }
        false
    }
}

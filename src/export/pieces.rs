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
//! Where a device's clock was corrected between the two, times that were exported are others now: then it begins anew.
//!
//! Invariants: the final name never holds half an export. A piece is synced before the state names it, the state is
//! replaced by renaming, and the whole is synced before it is renamed to the final name; then the state goes first. So a
//! kill or a power cut at any moment costs the piece that was being written, and nothing else. What is complete is never
//! read again, only joined. Nothing is removed that is not of an export.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::mapping::ClockDigests;
use super::merge::{Block, ReadCounts};
use super::shape::Shape;
use super::sink::{Format, Sink};
use super::wide::Column;
use super::{ExportError, ExportOptions, arrow, parquet};

/// Of the state's fields and their meaning.
const VERSION: u32 = 1;
const LOCK: &str = "lock";
const STATE: &str = "state.json";
const STATE_NEW: &str = "state.new";
const WHOLE: &str = "whole";
/// `-10m` means another time with each moment; one that is so far off is another export.
const NEAR_US: u64 = 15 * 60 * 1_000_000;

/// Whether an export makes files of this name in its folder.
fn is_own(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    [LOCK, STATE, STATE_NEW, WHOLE].contains(&&*name) || name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_near(then_us: Option<i64>, now_us: Option<i64>) -> bool {
    match (then_us, now_us) {
        (Some(then_us), Some(now_us)) => then_us.abs_diff(now_us) <= NEAR_US,
        (then_us, now_us) => then_us == now_us,
    }
}

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
    /// By what clocks they were placed: a digest for each boot that was known.
    pub(super) clocks: ClockDigests,
    /// The columns of a wide table: pieces that are joined have the same.
    columns: Option<Vec<Column>>,
}

impl State {
    /// Of an export that has nothing yet.
    fn fresh(of: Option<String>, from_us: Option<i64>, to_us: Option<i64>) -> Self {
        let (counts, clocks) = (ReadCounts::default(), ClockDigests::new());
        Self {
            version: VERSION,
            of,
            from_us,
            to_us,
            pieces: 0,
            until_us: None,
            complete: false,
            counts,
            clocks,
            columns: None,
        }
    }

    /// What `dir` holds to go on with, for an export of the same as `fresh`; otherwise what it is of, in words.
    fn load(dir: &Path, fresh: &Self) -> io::Result<Result<Option<Self>, String>> {
        let text = match fs::read(dir.join(STATE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
            text => text?,
        };
        let state: Self = match serde_json::from_slice(&text) {
            Ok(state) => state,
            Err(error) => return Ok(Err(format!("something unreadable ({error})"))),
        };
        if (state.version, &state.of) != (VERSION, &fresh.of) {
            return Ok(Err(state.of.unwrap_or_else(|| "something without a name".into())));
        }
        let Some(of) = &fresh.of else { return Ok(Ok(None)) };
        let mut state = state;
        if state.to_us.is_none() {
            // The session that was open has ended since; `--to` itself is among the words.
            state.to_us = fresh.to_us;
            if state.until_us.zip(fresh.to_us).is_some_and(|(until, to)| until > to) {
                return Ok(Ok(None));
            }
        }
        if !is_near(state.from_us, fresh.from_us) || !is_near(state.to_us, fresh.to_us) {
            return Ok(Err(format!("{of} as it was meant then")));
        }
        // Without its first piece its file was put in place, and only the folder is left.
        Ok(Ok(Some(state).filter(|state| state.pieces == 0 || dir.join("0").exists())))
    }
}

/// A file that is being exported to. Dropped before it is made final, it leaves what the next one goes on with, or nothing.
pub(super) struct Pieces {
    path: PathBuf,
    dir: PathBuf,
    /// Held until it is dropped.
    _lock: File,
    format: Format,
    shape: Shape,
    pub(super) state: State,
    open: Option<Piece>,
    /// How long a piece takes: what a kill costs at most.
    every: Duration,
    /// Its file is in place.
    over: bool,
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
        let (format, every) = (*format, *checkpoint);
        let mut dir = path.as_os_str().to_owned();
        dir.push(".part");
        let dir = PathBuf::from(dir);
        let failed = |source| ExportError::Output { target: dir.display().to_string(), source };
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                for entry in fs::read_dir(&dir).map_err(failed)? {
                    if !is_own(&entry.map_err(failed)?.file_name()) {
                        return Err(ExportError::Another { part: dir, of: "something else".into() });
                    }
                }
            }
            made => made.map_err(failed)?,
        }
        let lock = File::create(dir.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ExportError::Busy { part: dir }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let [from_us, to_us] = [from, to].map(|at| at.map(|at| at.0));
        let fresh = State::fresh(of.clone(), from_us, to_us);
        let left = match State::load(&dir, &fresh).map_err(failed)? {
            Ok(left) => left,
            Err(of) => return Err(ExportError::Another { part: dir, of }),
        };
        let goes_on = left.is_some();
        let (path, state) = (path.to_owned(), left.unwrap_or(fresh));
        let pieces = Self { path, dir, _lock: lock, format, shape: Shape::Long, state, open: None, every, over: false };
        if !goes_on {
            // Nothing may go on with an old state and new pieces.
            let cleared = pieces.clear_files();
            cleared.map_err(|source| ExportError::Output { target: pieces.dir.display().to_string(), source })?;
        }
        Ok(pieces)
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
                let sink = self.shape.sink(format, BufWriter::new(File::create(file)?), first)?;
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

    /// What the rows are, before the first is written.
    pub(super) fn begin(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// The columns that it began with, or those that are `found` if it has none yet.
    pub(super) fn columns_or<E>(&mut self, found: impl FnOnce() -> Result<Vec<Column>, E>) -> Result<Vec<Column>, E> {
        let columns = match self.state.columns.take() {
            Some(columns) => columns,
            None => found()?,
        };
        Ok(self.state.columns.insert(columns).clone())
    }

    /// Makes durable what was written, as a piece with everything before `until_us`.
    fn end_piece(&mut self, until_us: Option<i64>, counts: &ReadCounts) -> io::Result<()> {
        let mut state = State { until_us, counts: counts.clone(), ..self.state.clone() };
        if let Some(open) = self.open.take() {
            open.sink.finish(until_us.is_none())?.into_inner()?.sync_all()?;
            state.pieces += 1;
        }
        state.complete = until_us.is_none();
        let (temporary, name) = (self.dir.join(STATE_NEW), self.dir.join(STATE));
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
            // A table's last rows may wait behind the last piece; and nothing at all is a file of the format too.
            if self.open.is_none() && (self.state.pieces == 0 || matches!(self.shape, Shape::Wide(_))) {
                let first = self.state.pieces == 0;
                let file = BufWriter::new(File::create(self.piece(self.state.pieces))?);
                let sink = self.shape.sink(self.format, file, first)?;
                self.open = Some(Piece { sink, samples: 0, began: Instant::now() });
            }
            self.end_piece(None, counts)?;
        }
        let whole = if self.state.pieces == 1 { self.piece(0) } else { self.joined()? };
        fs::rename(whole, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        self.over = true;
        Ok(())
    }

    /// From here on samples are placed by these clocks. False if what is there was placed by others, which cannot stand
    /// beside what comes: it begins anew.
    pub(super) fn placed_by(&mut self, clocks: ClockDigests) -> bool {
        let agrees = self.state.clocks.iter().all(|(boot, digest)| clocks.get(boot) == Some(digest));
        if !agrees {
            let State { of, from_us, to_us, .. } = self.state.clone();
            self.state = State::fresh(of, from_us, to_us);
            self.tell(self.clear_files());
        }
        self.state.clocks = clocks;
        agrees
    }

    /// Removes the files of an export, whatever run made them. The state goes first, durably: nothing goes on with what is
    /// left of them.
    fn clear_files(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(STATE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => File::open(&self.dir)?.sync_all()?,
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if is_own(&entry.file_name()) && entry.file_name() != LOCK {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn tell(&self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(part = %self.dir.display(), %error, "remove what an export left");
        }
    }

    fn joined(&self) -> io::Result<PathBuf> {
        let whole = self.dir.join(WHOLE);
        let mut out = BufWriter::new(File::create(&whole)?);
        let pieces = (0..self.state.pieces).map(|index| File::open(self.piece(index)));
        match self.format {
            Format::Parquet => out = parquet::join(out, pieces)?,
            Format::Arrow => out = arrow::join(out, pieces)?,
            Format::Csv | Format::Jsonl => {
                for piece in pieces {
                    let mut piece = piece?;
                    piece.rewind()?;
                    io::copy(&mut piece, &mut out)?;
                }
            }
        }
        out.into_inner()?.sync_all()?;
        Ok(whole)
    }

    /// Whether the next one has something to go on with, if this one ended here.
    pub(super) fn keeps(&self) -> bool {
        !self.over && self.state.pieces > 0 && self.state.of.is_some()
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.open = None;
        if !self.keeps() {
            let cleared = self.clear_files().and_then(|()| fs::remove_file(self.dir.join(LOCK)));
            self.tell(cleared.and_then(|()| fs::remove_dir(&self.dir)));
        }
    }
}

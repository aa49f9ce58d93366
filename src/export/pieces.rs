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

use std::collections::BTreeMap;
use std::ffi::OsStr;
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
const LOCK: &str = "lock";
const STATE: &str = "state.json";
const STATE_NEW: &str = "state.new";
const WHOLE: &str = "whole";
/// `-10m` means another time with each moment; one that is so far off is another export.
const NEAR_US: u64 = 15 * 60 * 1_000_000;

/// By car, device and boot, a digest of the mapping by which its samples are placed.
pub(super) type ClockDigests = BTreeMap<String, u64>;

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
        let fresh = State {
            version: VERSION,
            of: of.map(str::to_owned),
            from_us,
            to_us,
            pieces: 0,
            until_us: None,
            complete: false,
            counts: ReadCounts::default(),
            clocks: ClockDigests::new(),
        };
        let another = |of: String| Err(ExportError::Another { part: dir.clone(), of });
        let state = match fs::read(dir.join(STATE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh,
            Err(error) => return Err(failed(error)),
            Ok(text) => match serde_json::from_slice::<State>(&text) {
                Ok(State { version: VERSION, of: None, .. }) if of.is_none() => fresh,
                Ok(state) if state.version == VERSION && of.is_some() && state.of.as_deref() == of => {
                    if !is_near(state.from_us, from_us) || !is_near(state.to_us, to_us) {
                        return another(format!("{} as it was meant then", of.unwrap_or_default()));
                    }
                    // Its file was put in place, and only the folder is left of it.
                    let over = state.pieces > 0 && !dir.join("0").exists();
                    if over { fresh } else { state }
                }
                Ok(state) => return another(state.of.unwrap_or_else(|| "something without a name".into())),
                Err(error) => return another(format!("something unreadable ({error})")),
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
        self.clear();
        Ok(())
    }

    /// Begins anew: what was placed by other clocks cannot stand beside what comes.
    pub(super) fn begin_anew(&mut self) {
        self.clear_files();
        let State { version, of, from_us, to_us, .. } = self.state.clone();
        let (counts, clocks) = (ReadCounts::default(), ClockDigests::new());
        self.state = State { version, of, from_us, to_us, pieces: 0, until_us: None, complete: false, counts, clocks };
    }

    /// Removes the files of an export: the state first, so that nothing goes on with what is left of them.
    fn clear_files(&self) {
        let mut names = vec![self.dir.join(STATE), self.dir.join(STATE_NEW), self.dir.join(WHOLE)];
        names.extend((0..=self.state.pieces).map(|index| self.piece(index)));
        for name in names {
            match fs::remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(name = %name.display(), %error, "remove what an export left");
                }
                _ => {}
            }
        }
    }

    fn clear(&self) {
        self.clear_files();
        let removed = fs::remove_file(self.dir.join(LOCK)).and_then(|()| fs::remove_dir(&self.dir));
        if let Err(error) = removed {
            tracing::warn!(part = %self.dir.display(), %error, "remove the folder of an export");
        }
    }

    fn joined(&self) -> io::Result<PathBuf> {
        let whole = self.dir.join(WHOLE);
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
        self.clear();
        false
    }
}

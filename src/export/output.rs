//! Where an export goes: stdout, or a file that appears whole or not at all.
//!
//! Invariant: the final name never holds half an export. The bytes go to `NAME.part`, which is synced and
//! renamed when all are there and removed otherwise, also when the export is dropped.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// An output.
pub(super) enum Output {
    Stdout(BufWriter<io::Stdout>),
    File(PartFile),
}

impl Output {
    /// Opens `path`, or stdout.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        match path {
            Some(path) => PartFile::create(path).map(Self::File),
            None => Ok(Self::Stdout(BufWriter::new(io::stdout()))),
        }
    }

    /// Makes what was written final.
    pub(super) fn commit(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush(),
            Self::File(file) => file.commit(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.out.flush(),
        }
    }
}

/// A file under its temporary name.
pub(super) struct PartFile {
    out: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl PartFile {
    fn create(path: &Path) -> io::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let out = BufWriter::new(File::create(&part)?);
        Ok(Self { out, part, path: path.to_owned(), committed: false })
    }

    fn commit(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)?;
        self.committed = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = fs::remove_file(&self.part)
        {
            tracing::warn!(part = %self.part.display(), %error, "remove the unfinished export");
        }
    }
}

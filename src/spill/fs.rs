//! The file system as the queue uses it, and every rule about syncing.
//!
//! # Rules
//! 1. **A commit is durable after `fdatasync` said yes, once.** The size of the
//!    file is metadata that `fdatasync` does write, because the data could not
//!    be read without it.
//! 2. **A sync that failed is never asked again.** Linux marks the pages clean
//!    after reporting the error, so the second answer is yes and the data is
//!    gone. The segment gets no further commit; the records are still in memory
//!    and go to another one.
//! 3. **A name is durable before the first byte under it is written**: create
//!    or rename, sync the directory, then write, sync the file, and answer. POSIX
//!    does not promise the name otherwise, whatever ext4 does. And a recycled
//!    file whose new name is lost in a cut must not hold frames of that name:
//!    the number would be given again, and they would pass for its own.
//! 4. **Deleting needs no sync to be safe**: a segment that comes back after a
//!    power cut is handed out again, and writing rows again is harmless. The
//!    directory is synced once after a round of deletions all the same, so that
//!    a deletion lost costs one round and no more. The same is true of a rename
//!    to `.free`.
//! 5. **A rename within a directory is atomic**: one of both names, never both,
//!    never none. Between two directories (a damaged segment is put aside) both
//!    are synced, target first: a cut in between leaves the file under both
//!    names or under one.
//! 6. **Nothing durable is written again** while it counts. A commit starts on a
//!    fresh block of 4 KiB, so a torn write cannot reach into the one before. A
//!    file is recycled only after its records are done, or after what is said
//!    of them is durable elsewhere, and after both blocks of the checkpoint
//!    have stopped listing it.
//! 7. **A checkpoint is one block in place, in turn**: a torn write hits the
//!    block that does not count. One that cannot be written is removed, its
//!    directory synced, before anything that it lists is.
//! 8. **No size changes on a recycled file**, so `fdatasync` has data to write
//!    and nothing else. A file is cut only when it takes no more commits: one
//!    that is retired, and one that was kept for notes.
//! 9. **No symbolic link is followed** below the directory, files are 0600 and
//!    directories 0700.
//! 10. **The lock is `flock` on the directory itself**: it needs no file, so it
//!     works on a full or read-only file system, and it ends with the process.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// What the queue asks of a file system. Replaced in tests by one that tears,
/// fails and lies.
pub trait Filesystem: Send + Sync + 'static {
    /// Makes a directory (and its parents) with mode 0700, durable; fine if it
    /// is there.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks a directory for as long as the answer lives.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// The plain files in a directory.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes a file that must not exist yet, for reading and writing, 0600.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a file that is there for reading and writing.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;
    /// Gives a file another name.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed or removed in a directory durable.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that an ordinary user may still write.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// An open segment.
pub trait SegmentFile: Send + Sync {
    /// Reads at a place; fewer bytes than asked for mean the end of the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes everything at a place.
    ///
    /// # Errors
    /// Whatever the file system says; part of it may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable. Never asked again after an error.
    ///
    /// # Errors
    /// Whatever the file system says: what was written since the last success
    /// is then lost or not, nobody knows.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes room for so many bytes from the start; they read as zeros.
    ///
    /// # Errors
    /// Whatever the file system says, `Unsupported` among it: the file may then
    /// have any length up to that.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn bytes(&self) -> io::Result<u64>;
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

/// `O_NOFOLLOW`: rule 9.
fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

impl Filesystem for RealFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if let Ok(there) = fs::metadata(dir) {
            if !there.is_dir() {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("{} is not a directory", dir.display()),
                ));
            }
            // A service manager may have made it wider. Failing to narrow it
            // (not ours, read-only) is no reason to lose data.
            if there.mode() & 0o077 != 0
                && let Err(error) = fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            {
                tracing::warn!(dir = %dir.display(), %error, "cannot make the directory private");
            }
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            if fs::metadata(parent).is_err() {
                self.create_dir(parent)?;
            }
            DirBuilder::new().mode(0o700).create(dir)?;
            return self.sync_dir(parent);
        }
        DirBuilder::new().mode(0o700).create(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = File::open(dir)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A running agent may remove a file between the two calls.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                let bytes = metadata.len();
                entries.push(DirEntry { name, bytes });
            }
        }
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(no_follow()).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct RealFile(File);

impl SegmentFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes)?)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

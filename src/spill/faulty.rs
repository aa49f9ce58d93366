//! A file system in memory that tears, fails and lies; for tests.
//!
//! # Fault model
//! - Without a sync, any subset of the 512-byte sectors written may be on the
//!   disk after a cut, and the length may be anything between the old and the
//!   new one.
//! - Names created, renamed or removed since the last sync of their directory
//!   survive a cut up to some point in their order.
//! - A sync that failed drops what it should have written: later syncs say yes
//!   and the bytes are not on the disk.
//! - It may say that more is free than is.
//! - A write may fail halfway (no room, or told to), and the power may go
//!   between any two calls: from then on each call fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::fs::{DirEntry, Filesystem, SegmentFile};

const SECTOR: usize = 512;

#[derive(Default, Clone)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync: offset and bytes.
    pending: Vec<(usize, Vec<u8>)>,
    /// Dropped by a sync that failed; sectors of it may be on the disk.
    doubtful: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
    /// Within a directory: atomic.
    Move(PathBuf, PathBuf, usize),
}

#[derive(Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    capacity: usize,
    /// It says that so many bytes more are free than are.
    boast: u64,
    skip_syncs: u32,
    fail_syncs: u32,
    fail_writes: u32,
    fail_reads: u32,
    /// Calls until the power goes.
    power: Option<u32>,
    /// Directories that somebody has.
    locked: BTreeSet<PathBuf>,
    /// Grows with each cut, so that handles from before are dead.
    boot: u32,
    written: u64,
    calls: Vec<String>,
}

impl Disk {
    fn call(&mut self, boot: u32, what: String) -> io::Result<()> {
        if self.boot != boot || self.power == Some(0) {
            return Err(io::Error::other("the power is off"));
        }
        if let Some(left) = &mut self.power {
            *left -= 1;
        }
        self.calls.push(what);
        Ok(())
    }

    fn used(&self) -> usize {
        self.names.values().map(|&i| self.inodes[i].cached.len()).sum()
    }
}

impl Disk {
    fn sync_fails(&mut self) -> bool {
        if self.skip_syncs > 0 {
            self.skip_syncs -= 1;
            return false;
        }
        fails(&mut self.fail_syncs)
    }
}

fn fails(count: &mut u32) -> bool {
    let fail = *count > 0;
    *count = count.saturating_sub(1);
    fail
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[derive(Default)]
struct Gate {
    held: Mutex<bool>,
    opened: Condvar,
}

/// Syncs wait as long as it lives.
pub(super) struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

/// The file system; clones are the same one.
#[derive(Clone)]
pub(super) struct FaultyFs {
    disk: Arc<Mutex<Disk>>,
    gate: Arc<Gate>,
    boot: u32,
}

impl FaultyFs {
    pub(super) fn new(capacity: usize) -> Self {
        let disk = Disk { capacity, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)), gate: Arc::default(), boot: 0 }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    pub(super) fn fail_syncs(&self, count: u32) {
        self.disk().fail_syncs = count;
    }

    /// So many syncs succeed, the one after them fails.
    pub(super) fn skip_then_fail_sync(&self, skip: u32) {
        let mut disk = self.disk();
        disk.skip_syncs = skip;
        disk.fail_syncs = 1;
    }

    pub(super) fn fail_writes(&self, count: u32) {
        self.disk().fail_writes = count;
    }

    pub(super) fn fail_reads(&self, count: u32) {
        self.disk().fail_reads = count;
    }

    pub(super) fn set_capacity(&self, bytes: usize) {
        self.disk().capacity = bytes;
    }

    /// It says from now on that so many bytes more are free than are, as with a quota.
    pub(super) fn boast(&self, bytes: u64) {
        self.disk().boast = bytes;
    }

    /// The power goes after so many further calls.
    pub(super) fn cut_after(&self, calls: u32) {
        self.disk().power = Some(calls);
    }

    pub(super) fn written(&self) -> u64 {
        self.disk().written
    }

    /// Syncs of files wait until the answer is dropped.
    pub(super) fn hold(&self) -> Held {
        *self.gate.held.lock().unwrap() = true;
        Held(self.gate.clone())
    }

    /// What was called since the last look.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.disk().calls)
    }

    /// Names as a reader sees them now.
    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// Names and contents as a reader sees them now.
    pub(super) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let disk = self.disk();
        let file = |(path, &inode): (&PathBuf, &usize)| (path.clone(), disk.inodes[inode].cached.clone());
        disk.names.iter().map(file).collect()
    }

    /// Puts a file on the disk, durable.
    pub(super) fn put(&self, path: &Path, content: Vec<u8>) {
        let mut disk = self.disk();
        let inode = disk.inodes.len();
        disk.inodes.push(Inode { cached: content.clone(), durable: content, ..Inode::default() });
        disk.names.insert(path.to_owned(), inode);
        disk.durable_names.insert(path.to_owned(), inode);
    }

    /// Cuts the power and starts again; `random(n)` gives a number below `n`.
    pub(super) fn crash(&self, mut random: impl FnMut(usize) -> usize) -> Self {
        let mut disk = self.disk();
        let changes = std::mem::take(&mut disk.changes);
        let survive = random(changes.len() + 1);
        let mut names = disk.durable_names.clone();
        for change in changes.into_iter().take(survive) {
            apply(&mut names, change);
        }
        disk.names.clone_from(&names);
        disk.durable_names = names;
        for inode in &mut disk.inodes {
            let mut content = std::mem::take(&mut inode.durable);
            let mut writes = std::mem::take(&mut inode.doubtful);
            writes.append(&mut inode.pending);
            for (offset, bytes) in writes {
                let end = offset + bytes.len();
                if content.len() < end {
                    let grown = content.len() + random(end - content.len() + 1);
                    content.resize(grown, 0);
                }
                for (sector, piece) in (offset..).step_by(SECTOR).zip(bytes.chunks(SECTOR)) {
                    if random(2) == 0 && sector + piece.len() <= content.len() {
                        content[sector..sector + piece.len()].copy_from_slice(piece);
                    }
                }
            }
            inode.cached.clone_from(&content);
            inode.durable = content;
        }
        disk.power = None;
        disk.fail_syncs = 0;
        disk.fail_writes = 0;
        disk.fail_reads = 0;
        disk.locked.clear();
        disk.boot += 1;
        Self { disk: self.disk.clone(), gate: Arc::default(), boot: disk.boot }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: NameChange) {
    match change {
        NameChange::Add(path, inode) => {
            names.insert(path, inode);
        }
        NameChange::Remove(path) => {
            names.remove(&path);
        }
        NameChange::Move(from, to, inode) => {
            names.remove(&from);
            names.insert(to, inode);
        }
    }
}

struct FaultyLock(FaultyFs, PathBuf);

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut disk = self.0.disk();
        if disk.boot == self.0.boot {
            disk.locked.remove(&self.1);
        }
    }
}

impl Filesystem for FaultyFs {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.disk().call(self.boot, "create_dir".into())
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut disk = self.disk();
        disk.call(self.boot, "lock".into())?;
        if !disk.locked.insert(dir.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FaultyLock(self.clone(), dir.to_owned())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut disk = self.disk();
        disk.call(self.boot, "list".into())?;
        let inside = disk.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, &inode): (&PathBuf, &usize)| DirEntry {
            name: name_of(path),
            bytes: disk.inodes[inode].cached.len() as u64,
        };
        Ok(inside.map(entry).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let mut disk = self.disk();
        disk.call(self.boot, format!("create {}", name_of(path)))?;
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if disk.used() >= disk.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.names.insert(path.to_owned(), inode);
        disk.changes.push(NameChange::Add(path.to_owned(), inode));
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let mut disk = self.disk();
        disk.call(self.boot, format!("open {}", name_of(path)))?;
        let inode = disk.names.get(path).copied();
        Ok(self.file(inode.ok_or(io::ErrorKind::NotFound)?))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(self.boot, format!("rename {}", name_of(from)))?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        if from.parent() == to.parent() {
            disk.changes.push(NameChange::Move(from.to_owned(), to.to_owned(), inode));
        } else {
            disk.changes.push(NameChange::Add(to.to_owned(), inode));
            disk.changes.push(NameChange::Remove(from.to_owned()));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(self.boot, format!("remove {}", name_of(path)))?;
        disk.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        disk.changes.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.call(self.boot, "sync_dir".into())?;
        if disk.sync_fails() {
            return Err(io::Error::other("told to fail the sync"));
        }
        for change in std::mem::take(&mut disk.changes) {
            apply(&mut disk.durable_names, change);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let disk = self.disk();
        Ok(disk.capacity.saturating_sub(disk.used()) as u64 + disk.boast)
    }
}

impl FaultyFs {
    fn file(&self, inode: usize) -> Arc<dyn SegmentFile> {
        Arc::new(FaultyFile { fs: self.clone(), inode })
    }
}

struct FaultyFile {
    fs: FaultyFs,
    inode: usize,
}

impl SegmentFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.disk();
        disk.call(self.fs.boot, "read".into())?;
        if fails(&mut disk.fail_reads) {
            return Err(io::Error::other("told to fail the read"));
        }
        let content = &disk.inodes[self.inode].cached;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.call(self.fs.boot, format!("write {}", buf.len()))?;
        let offset = offset as usize;
        let fail = fails(&mut disk.fail_writes);
        let length = disk.inodes[self.inode].cached.len();
        let grown = (offset + buf.len()).saturating_sub(length);
        let room = disk.capacity.saturating_sub(disk.used());
        let (take, error) = if fail {
            let error = io::Error::other("told to fail the write");
            (buf.len() / 2, Some(error))
        } else if grown > room {
            let fits = buf.len() - (grown - room);
            (fits, Some(io::ErrorKind::StorageFull.into()))
        } else {
            (buf.len(), None)
        };
        let piece = &buf[..take];
        disk.written += take as u64;
        let inode = &mut disk.inodes[self.inode];
        if inode.cached.len() < offset + take {
            inode.cached.resize(offset + take, 0);
        }
        inode.cached[offset..offset + take].copy_from_slice(piece);
        inode.pending.push((offset, piece.to_vec()));
        error.map_or(Ok(()), Err)
    }

    fn sync_data(&self) -> io::Result<()> {
        let gate = &self.fs.gate;
        drop(gate.opened.wait_while(gate.held.lock().unwrap(), |held| *held).unwrap());
        let mut disk = self.fs.disk();
        disk.call(self.fs.boot, "sync".into())?;
        let fail = disk.sync_fails();
        let inode = &mut disk.inodes[self.inode];
        let pending = std::mem::take(&mut inode.pending);
        if fail {
            // The pages are clean from now on; on the disk is who knows what.
            inode.doubtful.extend(pending);
            return Err(io::Error::other("told to fail the sync"));
        }
        for (offset, bytes) in pending {
            let end = (offset + bytes.len()).min(inode.cached.len());
            if inode.durable.len() < end {
                inode.durable.resize(end, 0);
            }
            if offset < end {
                inode.durable[offset..end].copy_from_slice(&bytes[..end - offset]);
            }
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.call(self.fs.boot, format!("allocate {bytes}"))?;
        let length = disk.inodes[self.inode].cached.len();
        let grown = (bytes as usize).saturating_sub(length);
        if grown > disk.capacity.saturating_sub(disk.used()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = &mut disk.inodes[self.inode];
        inode.cached.resize(length + grown, 0);
        inode.pending.push((length, vec![0; grown]));
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.call(self.fs.boot, "set_len".into())?;
        // Not synced, so the durable length stays: the harder case.
        disk.inodes[self.inode].cached.truncate(bytes as usize);
        disk.inodes[self.inode].pending.clear();
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        let mut disk = self.fs.disk();
        disk.call(self.fs.boot, "bytes".into())?;
        Ok(disk.inodes[self.inode].cached.len() as u64)
    }
}

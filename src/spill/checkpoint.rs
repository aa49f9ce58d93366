//! Which segments there must be: a small file that is written in place.
//!
//! It lists the segments that are known to hold a durable commit, so that one
//! that vanished between two processes is noticed, and the next number, so that
//! none is given twice. It is a witness, never a reason to lose or refuse
//! anything: what it does not list is used all the same.
//!
//! ```text
//! checkpoint: two blocks of 4096 bytes, written in turn, each by one write and
//! one sync; the sound one of the higher generation counts
//!
//!    0  4  magic "PwCk"
//!    4  1  version, 1; three zeros
//!    8  8  generation
//!   16  8  next number of a segment
//!   24  4  number of ranges; four zeros
//!   32 16  first and last number of a range of segments, at most 253 times
//! 4092  4  CRC-32 of bytes 0..4092
//! ```
//!
//! It is written after the first commit of a segment, and before a segment is
//! renamed or removed: then into both blocks, so that no block that rots can
//! bring back one that lists what is gone. It is made under another name and
//! renamed when it is whole. If it cannot be written it is removed: without it
//! nothing is missed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::config::{BLOCK_BYTES, LISTED_MAX};
use super::fs::{Filesystem, SegmentFile};
use super::writer::Writer;

pub(super) const CHECKPOINT_FILE: &str = "checkpoint";
pub(super) const NEW_FILE: &str = "checkpoint.new";
const BLOCK: usize = BLOCK_BYTES as usize;
const MAGIC: [u8; 4] = *b"PwCk";
const VERSION: u8 = 1;
const RANGES_AT: usize = 32;
const RANGE_BYTES: usize = 16;
const CRC_AT: usize = BLOCK - 4;
const RANGES_MAX: usize = (CRC_AT - RANGES_AT) / RANGE_BYTES;

/// What one block says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checkpoint {
    pub(super) generation: u64,
    pub(super) next_id: u64,
    pub(super) listed: BTreeSet<u64>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) checkpoint: Option<Checkpoint>,
    /// The block that it is in.
    slot: usize,
    /// There is a file, and nothing sound in it.
    pub(super) damaged: bool,
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        // Of too many, the youngest: what is not listed is not missed.
        for &id in self.listed.iter().rev().take(LISTED_MAX) {
            let full = ranges.len() == RANGES_MAX;
            match ranges.last_mut() {
                Some((first, _)) if *first == id + 1 => *first = id,
                _ if full => break,
                _ => ranges.push((id, id)),
            }
        }
        let mut out = Vec::with_capacity(BLOCK);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.next_id.to_le_bytes());
        out.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
        for (first, last) in ranges.iter().rev() {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        out.resize(CRC_AT, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(block: &[u8]) -> Option<Self> {
        let (content, crc) = block.split_at_checked(CRC_AT)?;
        let sound = content.starts_with(&MAGIC) && content.get(4) == Some(&VERSION);
        if !sound || crc != crc32fast::hash(content).to_le_bytes() {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(*content.get(at..)?.first_chunk()?));
        let mut listed = BTreeSet::new();
        for range in 0..usize::try_from(number(24)?).ok().filter(|count| *count <= RANGES_MAX)? {
            let at = RANGES_AT + range * RANGE_BYTES;
            let (first, last) = (number(at)?, number(at + 8)?);
            if last.checked_sub(first)? >= (LISTED_MAX - listed.len()) as u64 {
                return None;
            }
            listed.extend(first..=last);
        }
        Some(Self { generation: number(8)?, next_id: number(16)?, listed })
    }
}

/// Reads the checkpoint of a directory, if there is one.
pub(super) fn read(fs: &dyn Filesystem, dir: &Path) -> Found {
    let mut bytes = vec![0; 2 * BLOCK];
    let read = fs.open(&dir.join(CHECKPOINT_FILE)).and_then(|file| file.read_at(&mut bytes, 0));
    match read {
        Ok(length) => bytes.truncate(length),
        Err(error) => return Found { damaged: error.kind() != io::ErrorKind::NotFound, ..Found::default() },
    }
    let blank = bytes.iter().all(|&byte| byte == 0);
    let blocks = bytes.chunks(BLOCK).enumerate().filter_map(|(slot, block)| Some((slot, Checkpoint::decode(block)?)));
    match blocks.max_by_key(|(_, checkpoint)| checkpoint.generation) {
        Some((slot, checkpoint)) => Found { checkpoint: Some(checkpoint), slot, damaged: false },
        // Made, and the power went before anything was written.
        None => Found { damaged: !blank, ..Found::default() },
    }
}

/// The writer's side of it.
#[derive(Default)]
pub(super) struct Book {
    file: Option<Arc<dyn SegmentFile>>,
    generation: u64,
    /// The block that holds the last durable generation.
    slot: usize,
    /// A sync of the file failed and it could not be removed: it is not written
    /// again, only replaced.
    distrusted: bool,
}

impl Book {
    pub(super) fn new(found: &Found) -> Self {
        let generation = found.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.generation);
        Self { file: None, generation, slot: found.slot, distrusted: false }
    }
}

impl Writer {
    /// Writes down what there must be. Answers whether segments that are not
    /// listed may go; never a reason to fail an append.
    pub(super) fn checkpoint(&mut self, removing: bool) -> bool {
        let blocks = if removing { 2 } else { 1 };
        for _ in 0..blocks {
            if let Err(error) = self.write_checkpoint() {
                self.shared.fault("write the checkpoint", &error);
                tracing::warn!(%error, "cannot write the spill's checkpoint: it is removed, and made anew later");
                return self.remove_checkpoint();
            }
        }
        true
    }

    fn write_checkpoint(&mut self) -> io::Result<()> {
        let (file, made) = self.checkpoint_file()?;
        let dir = &self.shared.config.dir;
        let listed = self.shared.state().listed.clone();
        let checkpoint = Checkpoint { generation: self.book.generation + 1, next_id: self.next_id, listed };
        let slot = 1 - self.book.slot;
        let mut block = checkpoint.encode();
        let mut at = slot as u64 * BLOCK_BYTES;
        if made {
            // Whole from the start: later writes change no size.
            let mut whole = vec![0; 2 * BLOCK];
            whole.splice(slot * BLOCK..(slot + 1) * BLOCK, block);
            (block, at) = (whole, 0);
        }
        file.write_all_at(&block, at).inspect_err(|_| self.count_failed_write())?;
        self.shared.state().counts.written_bytes += block.len() as u64;
        self.sync(|| file.sync_data())?;
        if made {
            self.shared.fs.rename(&dir.join(NEW_FILE), &dir.join(CHECKPOINT_FILE))?;
            self.sync(|| self.shared.fs.sync_dir(dir))?;
            self.book.distrusted = false;
        }
        (self.book.generation, self.book.slot, self.book.file) = (checkpoint.generation, slot, Some(file));
        Ok(())
    }

    fn checkpoint_file(&self) -> io::Result<(Arc<dyn SegmentFile>, bool)> {
        if let Some(file) = &self.book.file {
            return Ok((file.clone(), false));
        }
        let dir = &self.shared.config.dir;
        if !self.book.distrusted {
            match self.shared.fs.open_to_write(&dir.join(CHECKPOINT_FILE)) {
                Ok(file) if file.bytes()? >= 2 * BLOCK_BYTES => return Ok((file, false)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // Not there, or cut: made anew.
                _ => {}
            }
        }
        let path = dir.join(NEW_FILE);
        let made = self.shared.fs.create(&path).or_else(|error| {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            // Left by a process that was killed.
            self.shared.fs.remove(&path)?;
            self.shared.fs.create(&path)
        });
        Ok((made.inspect_err(|_| self.count_failed_write())?, true))
    }

    fn remove_checkpoint(&mut self) -> bool {
        // The generation goes on: what is still there must not win.
        (self.book.file, self.book.distrusted) = (None, true);
        match self.shared.fs.remove(&self.shared.config.dir.join(CHECKPOINT_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.shared.fault("remove the checkpoint", &error);
                false
            }
            _ => {
                self.book.distrusted = false;
                self.sync(|| self.shared.fs.sync_dir(&self.shared.config.dir)).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_what_was_written_and_nothing_when_any_byte_changed() {
        let listed: BTreeSet<u64> = [3, 4, 5, 9].into();
        let checkpoint = Checkpoint { generation: 7, next_id: 10, listed };
        let block = checkpoint.encode();
        assert_eq!(block.len(), BLOCK);
        // By hand from the table above, but for the checksum.
        assert_eq!(&block[..32], b"PwCk\x01\0\0\0\x07\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        assert_eq!(&block[32..64], b"\x03\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0");
        assert_eq!(Checkpoint::decode(&block), Some(checkpoint));
        for at in 0..BLOCK {
            let mut bad = block.clone();
            bad[at] ^= 0x10;
            assert_eq!(Checkpoint::decode(&bad), None, "byte {at}");
        }
        for length in 0..BLOCK {
            assert_eq!(Checkpoint::decode(&block[..length]), None);
        }
    }

    #[test]
    fn of_more_ranges_than_fit_the_youngest_are_listed() {
        let listed: BTreeSet<u64> = (0..600).map(|n| 2 * n).collect();
        let block = Checkpoint { generation: 1, next_id: 1200, listed: listed.clone() }.encode();
        let read = Checkpoint::decode(&block).unwrap().listed;
        assert_eq!(read.len(), RANGES_MAX);
        assert!(read.is_subset(&listed) && read.contains(&1198));
    }
}

//! The settings of one disk queue, and every bound with its arithmetic.

use std::path::PathBuf;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The unit of writing, in bytes: the page of ext4 and of most flash
/// translation layers. Each commit starts on a fresh one.
pub const BLOCK_BYTES: u64 = 4096;

/// Longest `meta` of a record, in bytes. It is held in memory once per record
/// while a segment is scanned: 8 MiB / (56 + 4096) ≈ 2 k of them a segment.
pub const META_BYTES_MAX: usize = 4096;

/// Largest single append (headers and padding included), in bytes. One append
/// is one commit, so this bounds the write buffer and, with the rule that a
/// commit never straddles segments, the largest segment file:
/// max(`segment_bytes`, 64 MiB) < 4 GiB, so offsets are 32 bits.
pub const APPEND_BYTES_MAX: u64 = 64 << 20;

/// Appends that wait are joined into one commit up to this size, in bytes.
/// 1 MiB takes about 10 ms on the slowest eMMC worth having (100 MB/s), which
/// is below the cost of the sync itself.
pub const GROUP_BYTES_MAX: u64 = 1 << 20;

/// Bytes of records that may wait for the writer before `append` itself waits.
pub const WAITING_BYTES_MAX: u64 = 16 << 20;

/// Payloads of one dropped segment that are read for the observer, in bytes.
/// Eight segments of the default size; what is beyond is told without.
pub const GONE_BYTES_MAX: u64 = 64 << 20;

/// Gaps reported one by one for a segment; further ones are joined to the last.
/// 256 × 48 B = 12 KiB a segment.
pub const GAPS_MAX: usize = 256;

/// Share of `disk_max` that damaged segments kept aside may take: an eighth.
pub const DAMAGED_SHARE: u64 = 8;

/// Most records of one append, and of one segment: 128 Ki × 24 B of index =
/// 3 MiB. The default segment holds as many of 64 bytes.
pub const SEGMENT_RECORDS_MAX: usize = 128 << 10;

/// Closed segments whose records are in the index although nobody reads them
/// yet. With one that takes appends, one that is read and two that wait:
/// 4 × 3 MiB = 12 MiB at most, however large the backlog is.
pub const LOADED_MAX: usize = 2;

/// Segments that the checkpoint lists at most: 64 GiB of the smallest.
pub const LISTED_MAX: usize = 1 << 20;

/// Memory that the index takes for one record, in bytes: offset, two lengths,
/// weight and state. While a segment is still open its list may be half empty,
/// so the bound is twice this for at most one segment.
pub const INDEX_BYTES_PER_RECORD: usize = 24;

/// Segments that each of several queues of one budget is sure of: one that
/// takes appends, one in reserve.
pub const SURE_SEGMENTS: u64 = 2;

const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const _: () = assert!(SEGMENT_BYTES_MAX + BLOCK_BYTES < u32::MAX as u64);
const _: () = assert!(APPEND_BYTES_MAX + BLOCK_BYTES < u32::MAX as u64);
const _: () = assert!(META_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(GROUP_BYTES_MAX <= APPEND_BYTES_MAX);

/// What happens when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Whole segments are removed, oldest first, and their records reported to
    /// the observer. Segments with a record in flight stay.
    #[default]
    DropOldest,
    /// `append` answers [`super::AppendError::Full`]; the caller drops and counts.
    DropNewest,
    /// `append` answers [`super::AppendError::Full`]; the caller keeps the
    /// records and holds back its sources.
    Block,
}

/// The settings of one disk queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the segments lie; created with mode 0700 when absent.
    pub dir: PathBuf,
    /// The file with the key under which what is written is sealed; a relative
    /// path is one of systemd's credentials. Without it nothing is.
    pub key_file: Option<PathBuf>,
    /// Hard cap on the bytes in `dir`: segments, recycled ones that wait and
    /// damaged ones kept aside. On top come, for each queue, the checkpoint and
    /// twice [`Self::notes_bytes_max`] for what is said of dropped data: the file
    /// that is kept for it, and one that is being filled.
    pub disk_max: ByteSize,
    /// Size of a segment, allocated when it is made: what `drop-oldest` loses at a time,
    /// and the most that is handed out again after a crash. 8 MiB is 0.4 % of
    /// the default `disk_max`, and half a minute of 300 kB/s.
    pub segment_bytes: ByteSize,
    /// Free space of the file system that the queue leaves to others.
    pub free_min: ByteSize,
    /// Bytes of finished segments that are kept to be written again, at least
    /// one segment: 64 MiB is eight of the default size. A commit to one of
    /// these writes data only, a new file's metadata as well.
    pub reserve_bytes: ByteSize,
    /// What happens when one of the caps is met.
    pub overflow: Overflow,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/pitwire/spill"),
            key_file: None,
            disk_max: ByteSize::gib(2),
            segment_bytes: ByteSize::mib(8),
            free_min: ByteSize::mib(64),
            reserve_bytes: ByteSize::mib(64),
            overflow: Overflow::DropOldest,
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: {expected}")]
pub struct ConfigError {
    /// The key within the section.
    pub key: &'static str,
    /// The value it has.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl Config {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first key that cannot work, with what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fault = |key, value: String, expected: String| Err(ConfigError { key, value, expected });
        if self.dir.as_os_str().is_empty() {
            return fault("dir", "\"\"".into(), "must name a directory".into());
        }
        if self.key_file.as_deref().is_some_and(|path| path.as_os_str().is_empty()) {
            return fault("key_file", "\"\"".into(), "must name a file; leave the key out to write plain".into());
        }
        let segment = self.segment_bytes.as_u64();
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment) || !segment.is_multiple_of(BLOCK_BYTES) {
            return fault(
                "segment_bytes",
                self.segment_bytes.to_string(),
                "must be a multiple of 4 KiB between 64 KiB and 1 GiB".into(),
            );
        }
        if self.disk_max.as_u64() < 2 * segment {
            return fault(
                "disk_max",
                self.disk_max.to_string(),
                format!("must hold at least two segments, {}", ByteSize::b(2 * segment)),
            );
        }
        Ok(())
    }

    /// Largest append that can ever be accepted, in bytes on disk.
    #[must_use]
    pub fn append_bytes_max(&self) -> u64 {
        APPEND_BYTES_MAX.min(self.disk_max.as_u64())
    }

    /// Bytes of records about what is gone that wait for a commit: 1 MiB, or a
    /// quarter of a segment, so that what is dropped is always more than what is
    /// said of it.
    #[must_use]
    pub fn notes_bytes_max(&self) -> u64 {
        GROUP_BYTES_MAX.min(self.segment_bytes.as_u64() / 4)
    }

    /// Size of the file in which there is always a place for them. With `block` nothing goes for want of room.
    pub(super) fn notes_file_bytes(&self) -> u64 {
        match self.overflow {
            Overflow::Block => 0,
            Overflow::DropOldest | Overflow::DropNewest => self.notes_bytes_max().next_multiple_of(BLOCK_BYTES),
        }
    }

    pub(super) fn reserve_bytes_max(&self) -> u64 {
        self.reserve_bytes.as_u64().max(self.segment_bytes.as_u64())
    }

    pub(super) fn damaged_bytes_max(&self) -> u64 {
        self.disk_max.as_u64() / DAMAGED_SHARE
    }
}

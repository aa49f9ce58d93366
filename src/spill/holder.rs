//! Whether a process has a queue's directory, found out without taking the lock: a tool that tried the lock would keep
//! an agent from starting at that moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a process holds the lock of the queue in `dir`; `None` if the system does not tell.
#[must_use]
pub fn in_use(dir: &Path) -> Option<bool> {
    let dir = fs::metadata(dir).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    Some(names(&locks, dir.dev(), dir.ino()))
}

/// Whether `locks`, as the kernel lists them, has an flock of this file:
/// `1: FLOCK ADVISORY WRITE 812 fe:01:131075 0 EOF`.
fn names(locks: &str, device: u64, inode: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    // A line of a process that waits has an arrow after its number.
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some("FLOCK") && words.any(|word| word == place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::fs::{Filesystem, RealFs};

    #[test]
    fn a_lock_is_seen_while_it_is_held_and_not_taken_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_use(dir.path()), Some(false));
        let lock = RealFs.lock(dir.path()).unwrap();
        assert_eq!(in_use(dir.path()), Some(true));
        drop(lock);
        assert_eq!(in_use(dir.path()), Some(false));
        assert_eq!(in_use(&dir.path().join("absent")), None);
    }

    #[test]
    fn only_the_lock_of_this_directory_counts() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:01:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 fe:01:100 0 EOF\n";
        let device = rustix::fs::makedev(0xfe, 1);
        assert_eq!([99, 100, 10].map(|inode| names(locks, device, inode)), [false, true, false]);
    }
}

//! A file system of a test's own, on a loop device: it can be filled, cut off from power, and its device counts what is
//! written to it.
//!
//! Needs root and loop devices; says so loudly where they are missing. Whoever takes this in has `skip` beside it.
//!
//! A *power cut* is ext4's shutdown without a flush of its log: what was synced is there after the next mount, what
//! was only written is not, and until then every write fails. It is a call of the file system that std does not know,
//! so perl makes it.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::skip;

/// `FS_IOC_SHUTDOWN` with the flag `NOLOGFLUSH`.
const CUT_POWER: &str = r#"open(my $dir, "<", $ARGV[0]) or die "open: $!";
my $flag = pack("L", 2); ioctl($dir, 0x8004587d, $flag) or die "ioctl: $!";"#;
/// How long somebody may keep the file system busy who has just been killed.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Looks at what is free, until nothing is.
const FILL_ATTEMPTS_MAX: usize = 8;
/// The unit of the kernel's counters, bytes, whatever the device's own is.
const SECTOR_BYTES: u64 = 512;

/// A file system, unmounted at the end.
pub(crate) struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
}

impl Disk {
    /// Makes `folder/disk.img` of so many bytes and mounts it at `folder/disk`. `None`, said loudly, where that
    /// cannot be done.
    pub(crate) fn new(folder: &Path, bytes: u64) -> Option<Self> {
        let disk = Self { image: folder.join("disk.img"), mounted_at: folder.join("disk") };
        fs::create_dir(&disk.mounted_at).unwrap();
        fs::File::create(&disk.image).unwrap().set_len(bytes).unwrap();
        // Blocks as on a real disk: a small file system would get smaller ones. What is made lazily would be written
        // in the middle of what is measured.
        let options = ["-q", "-m", "0", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        let made = run("mkfs.ext4", &options, &[&disk.image]).and_then(|()| disk.mount());
        match made {
            Ok(()) => Some(disk),
            Err(reason) => {
                let test = std::thread::current().name().unwrap_or("?").to_owned();
                let may = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
                assert!(!may || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{reason}");
                skip(&test, &format!("a file system of its own needs root and loop devices here: {reason}"));
                None
            }
        }
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop"], &[&self.image, &self.mounted_at])
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mounted_at
    }

    /// Takes everything but `room` bytes, while others may take some too.
    pub(crate) fn fill(&self, room: u64) {
        let ballast = OpenOptions::new().create(true).truncate(true).write(true).open(self.ballast()).unwrap();
        for _ in 0..FILL_ATTEMPTS_MAX {
            let free = rustix::fs::statvfs(&self.mounted_at).unwrap();
            let bytes = (free.f_bavail * free.f_frsize).saturating_sub(room);
            if bytes == 0 {
                return;
            }
            let end = ballast.metadata().unwrap().len();
            match rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), end, bytes) {
                // Somebody was quicker: less is free than was seen.
                Err(rustix::io::Errno::NOSPC) => {}
                done => done.unwrap(),
            }
        }
    }

    /// Gives back what [`Self::fill`] took.
    pub(crate) fn clear(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.mounted_at.join("ballast")
    }

    /// The power goes. Whoever uses it is to be killed before [`Self::power_on`].
    #[track_caller]
    pub(crate) fn cut_power(&self) {
        run("perl", &["-e", CUT_POWER], &[&self.mounted_at]).unwrap();
        let refused = fs::write(self.mounted_at.join("after-the-cut"), "x");
        assert!(refused.is_err(), "the power is not off");
    }

    /// Power is back: what was synced is there.
    #[track_caller]
    pub(crate) fn power_on(&self) {
        let began = Instant::now();
        while let Err(reason) = run("umount", &[], &[&self.mounted_at]) {
            assert!(began.elapsed() < BUSY_MAX, "{reason}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.mount().unwrap();
    }

    /// Bytes that the device was told to write since it was made; what is in memory only is written first.
    pub(crate) fn written_bytes(&self) -> u64 {
        rustix::fs::syncfs(fs::File::open(&self.mounted_at).unwrap()).unwrap();
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let at = self.mounted_at.to_str().unwrap();
        let device = mounts.lines().find_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            rest.starts_with(&format!("{at} ")).then(|| device.trim_start_matches("/dev/"))
        });
        let counters = fs::read_to_string(format!("/sys/block/{}/stat", device.unwrap())).unwrap();
        let sectors: u64 = counters.split_whitespace().nth(6).unwrap().parse().unwrap();
        sectors * SECTOR_BYTES
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &[], &[&self.mounted_at]);
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).env("PATH", path).args(options).args(paths).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let words = format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(words) }
}

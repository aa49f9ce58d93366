//! File systems to be broken: an ext4 image on a loop device, with its power switch.
//!
//! The power cut is the shutdown ioctl of ext4 (`FS_IOC_SHUTDOWN`, without flushing the log): what was synced stays,
//! unsynced data and names are gone after the next mount, and until then every call that would write gives EIO. Its
//! blind spot: a new file that was synced survives without a sync of its directory (see `order.rs`).

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "../support/mod.rs"]
mod support;
pub(crate) use support::skip;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const KIB: u64 = 1 << 10;

/// Long enough for anything that is going to happen at all, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the folders of this battery are called, followed by the process that made them.
const PREFIX: &str = "pitwire-durability-";

/// Prints the figure of the test that runs, past the harness's capture.
pub(crate) fn figure(what: &str) {
    let line = format!("battery | {} | {what}\n", test_name());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Says the seed before anything can fail; the harness shows it if something does.
#[expect(clippy::print_stderr, reason = "captured, and shown with a failure")]
pub(crate) fn say_seed(seed: u64) {
    eprintln!("PITWIRE_SOAK_SEED={seed}");
}

pub(crate) fn test_name() -> String {
    std::thread::current().name().unwrap_or("?").to_owned()
}

/// Says that the test that runs cannot run here. With `CI=true` and the means at hand that is a failure.
pub(crate) fn cannot(means_are_here: bool, reason: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!(ci && means_are_here), "CI=true and the means are here, but: {reason}");
    skip(&test_name(), reason);
}

/// A folder in memory if there is room, so that a sync costs what the code costs and not what this disk does.
pub(crate) fn folder() -> TempDir {
    sweep();
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if free > 2048 * MIB { builder.tempdir_in(memory) } else { builder.tempdir() }.unwrap()
}

/// Unmounts and removes what processes left that were killed.
fn sweep() {
    static ONCE: Once = Once::new();
    // Whether a path is of a process that is no more.
    let is_left = |path: &str| {
        let owner = path.split_once(PREFIX).and_then(|(_, rest)| rest.split('-').next());
        owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists())
    };
    ONCE.call_once(|| {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for at in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|at| is_left(at)) {
            let _ = run("umount", &["-l", at]);
        }
        for place in [PathBuf::from("/dev/shm"), std::env::temp_dir()] {
            let entries = fs::read_dir(place).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()).filter(|path| path.to_str().is_some_and(is_left)) {
                let _ = fs::remove_dir_all(path);
            }
        }
    });
}

/// Runs a program of the system to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).env("PATH", path).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let status = output.status;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if status.success() { Ok(said) } else { Err(format!("{program} {}: {status}: {words}", arguments.join(" "))) }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Mounts a tmpfs of so many bytes, or says why not.
fn mount_memory(at: &Path, bytes: u64) -> Result<(), String> {
    run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs", text(at)]).map(drop)
}

/// An ext4 file system in a file, unmounted and gone in the end.
pub(crate) struct LoopFs {
    folder: TempDir,
    /// `sdX` or `loopN`.
    device: String,
    /// The image lies on a tmpfs of its own, which may be too small for it.
    on_memory: bool,
}

impl LoopFs {
    /// One of so many bytes; `None`, and the test is skipped, where that cannot be had.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        Self::make(bytes, None)
    }

    /// One that promises `bytes` and has room for `really` only: writes give EIO when that is used up.
    pub(crate) fn overpromised(bytes: u64, really: u64) -> Option<Self> {
        Self::make(bytes, Some(really))
    }

    fn make(bytes: u64, really: Option<u64>) -> Option<Self> {
        let mut made = Self { folder: folder(), device: String::new(), on_memory: false };
        for name in ["image", "mounted"] {
            fs::create_dir(made.folder.path().join(name)).unwrap();
        }
        let outcome = really.map_or(Ok(()), |really| mount_memory(&made.folder.path().join("image"), really));
        made.on_memory = really.is_some() && outcome.is_ok();
        let outcome = outcome.and_then(|()| {
            fs::File::create(made.image()).unwrap().set_len(bytes).unwrap();
            // Lazily made, the kernel would write the rest some time later, and the wear meter would count it.
            let lazy = u8::from(really.is_some());
            let options = format!("nodiscard,lazy_itable_init={lazy},lazy_journal_init={lazy}");
            run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", &options, text(&made.image())])?;
            made.mount()
        });
        match outcome {
            Ok(()) => Some(made),
            Err(reason) => {
                let root = rustix::process::geteuid().is_root();
                let here = root && Path::new("/dev/loop-control").exists();
                cannot(here, &format!("an ext4 image needs root, mkfs.ext4 and loop devices here: {reason}"));
                None
            }
        }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image/ext4")
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop,noatime", text(&self.image()), text(&self.path())])?;
        let source = run("findmnt", &["-n", "-o", "SOURCE", text(&self.path())])?;
        self.device = source.trim().trim_start_matches("/dev/").to_owned();
        Ok(())
    }

    fn unmount(&self) -> Result<(), String> {
        // A thread that was told to end may hold a file for a moment.
        let start = Instant::now();
        loop {
            match run("umount", &[text(&self.path())]) {
                Err(_) if start.elapsed() < PATIENCE / 4 => std::thread::sleep(Duration::from_millis(5)),
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Unmounts and mounts again.
    #[track_caller]
    pub(crate) fn power_on(&mut self) {
        self.unmount().unwrap();
        self.mount().unwrap();
    }

    /// Gives an overpromised one the room that it promised, unmounts it and mounts it again.
    #[track_caller]
    pub(crate) fn repair(&mut self) {
        let memory = self.folder.path().join("image");
        self.unmount().unwrap();
        run("mount", &["-o", "remount,size=50%", text(&memory)]).unwrap();
        self.mount().unwrap();
    }

    /// Makes it read-only, or writable again.
    pub(crate) fn set_read_only(&self, read_only: bool) -> Result<(), String> {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        run("mount", &["-o", option, text(&self.path())]).map(drop)
    }

    /// Bytes that the device was told to write since it was made.
    pub(crate) fn written_bytes(&self) -> u64 {
        let stat = fs::read_to_string(format!("/sys/block/{}/stat", self.device)).unwrap();
        // Documentation/block/stat.rst: the seventh field, in sectors of 512 bytes whatever the device's are.
        512 * stat.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap()
    }

    /// Brings everything that waits in the page cache to the device.
    pub(crate) fn flush(&self) {
        run("sync", &["-f", text(&self.path())]).unwrap();
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path().as_path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes all room but so many bytes.
    pub(crate) fn fill(&self, but: u64) -> io::Result<()> {
        let bytes = self.free_bytes().saturating_sub(but);
        let ballast = fs::File::create(self.ballast())?;
        if bytes > 0 {
            rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        }
        Ok(())
    }

    /// Gives the room of [`Self::fill`] back.
    pub(crate) fn clear(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        if !self.device.is_empty() && self.unmount().is_err() {
            let _ = run("umount", &["-l", text(&self.path())]);
        }
        if self.on_memory {
            let _ = run("umount", &["-l", text(&self.folder.path().join("image"))]);
        }
    }
}

/// A finger on the power switch of a file system. `unsafe` is forbidden here, so perl makes the call.
pub(crate) struct Switch {
    perl: Child,
}

impl Switch {
    /// Gets everything ready, so that the cut itself takes no time.
    #[track_caller]
    pub(crate) fn new(mounted_at: &Path) -> Self {
        const PROGRAM: &str = r#"open(my $dir, "<", $ARGV[0]) or die "open: $!"; my $flag = pack("L", 2);
            syswrite(STDOUT, "."); sysread(STDIN, my $word, 1) or exit 0;
            ioctl($dir, 0x8004587d, $flag) or die "ioctl: $!";"#;
        let mut perl = Command::new("perl")
            .args(["-e", PROGRAM, text(mounted_at)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl is part of every Debian");
        let ready = perl.stdout.as_mut().unwrap().read_exact(&mut [0]);
        ready.expect("perl opens the directory");
        Self { perl }
    }

    /// Calls `before` and cuts the power at once.
    #[track_caller]
    pub(crate) fn cut(mut self, before: impl FnOnce()) {
        let mut word = self.perl.stdin.take().unwrap();
        before();
        word.write_all(b"!").unwrap();
        assert!(self.perl.wait().unwrap().success(), "the power stays");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // Without a word it ends; after a cut it has ended.
        self.perl.stdin.take();
        let _ = self.perl.wait();
    }
}

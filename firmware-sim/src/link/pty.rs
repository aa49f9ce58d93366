//! A pseudo-terminal of our own: we are the device, whoever opens it is the gateway.

use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, ioctl_tiocnxcl, tcgetattr, tcsetattr};

use crate::error::{Error, Result};

/// A pseudo-terminal, raw from the start.
///
/// We keep its slave open ourselves: then bytes survive a reader that comes and goes, and what is
/// still unread can be asked for. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Pty {
    master: OwnedFd,
    slave: OwnedFd,
    watch: OwnedFd,
    path: PathBuf,
    link: Option<PathBuf>,
    opened: bool,
}

impl Pty {
    /// Makes one, and a symbolic link to it if wanted. An old link of that name is replaced.
    pub(crate) fn create(link: Option<&Path>) -> Result<Self> {
        let (master, slave, path) = make().map_err(|e| Error::failed("make a pseudo-terminal", e))?;
        let watch = watch(&path).map_err(|e| Error::failed(format!("watch {}", path.display()), e))?;
        if let Some(link) = link {
            replace_link(link, &path)?;
        }
        Ok(Self { master, slave, watch, path, link: link.map(Path::to_owned), opened: false })
    }

    /// What to open: the link if it has one.
    pub(crate) fn path(&self) -> &Path {
        self.link.as_deref().unwrap_or(&self.path)
    }

    /// Our end.
    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Whether somebody else has opened it since it was made.
    pub(crate) fn was_opened(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(&self.watch, &mut buffer);
        while let Ok(event) = events.next() {
            self.opened |= event.events().contains(ReadFlags::OPEN);
            if event.events().intersects(ReadFlags::CLOSE_WRITE | ReadFlags::CLOSE_NOWRITE) {
                // The reader may have asked for exclusive use. That would outlive it, because we
                // keep the slave open, and shut it out when it comes back.
                let _ = ioctl_tiocnxcl(&self.slave);
            }
        }
        self.opened
    }

    /// Bytes that wait for a reader in the line discipline. The kernel may hold more behind them,
    /// so that zero counts only if it stays.
    pub(crate) fn unread(&self) -> u64 {
        ioctl_fionread(&self.slave).unwrap_or(0)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if let Some(link) = &self.link
            && fs::read_link(link).is_ok_and(|target| target == self.path)
        {
            let _ = fs::remove_file(link);
        }
    }
}

fn make() -> std::result::Result<(OwnedFd, OwnedFd, PathBuf), Errno> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let path = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let slave = rustix::fs::open(&path, flags, Mode::empty())?;
    let mut modes = tcgetattr(&slave)?;
    modes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    rustix::fs::fcntl_setfl(&master, rustix::fs::fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
    Ok((master, slave, path))
}

fn watch(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, path, WatchFlags::OPEN | WatchFlags::CLOSE)?;
    Ok(watch)
}

fn replace_link(link: &Path, target: &Path) -> Result<()> {
    let what = || format!("link {} to {}", link.display(), target.display());
    match fs::symlink_metadata(link) {
        Ok(meta) if meta.is_symlink() => fs::remove_file(link).map_err(|e| Error::failed(what(), e))?,
        Ok(_) => {
            return Err(Error::usage(format!(
                "{} exists and is no symbolic link: choose another name for --pty",
                link.display()
            )));
        }
        Err(_) => {}
    }
    std::os::unix::fs::symlink(target, link).map_err(|e| Error::failed(what(), e))
}

//! A line of bytes that does not wait: a pseudo-terminal's master, a serial port, a fifo.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, ioctl_fionread};
use rustix::termios::{OptionalActions, isatty, tcgetattr, tcsetattr};

use super::pty::Pty;
use crate::error::{Error, Result};

/// What the bytes go into.
#[derive(Debug)]
enum End {
    Pty(Pty),
    Port(OwnedFd),
}

/// A line, and what it has not taken yet of the last thing that was sent.
#[derive(Debug)]
pub(crate) struct Line {
    end: End,
    pending: Vec<u8>,
    written: usize,
}

impl Line {
    /// A line over a pseudo-terminal of ours.
    pub(crate) fn pty(pty: Pty) -> Self {
        Self::over(End::Pty(pty))
    }

    /// Opens a serial port, raw, at a speed in baud; also a pseudo-terminal or a fifo.
    pub(crate) fn open(path: &Path, baud: u32) -> Result<Self> {
        let open = || {
            // For reading too: a fifo opens so without waiting for its reader.
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let port = rustix::fs::open(path, flags, Mode::empty())?;
            // A file by mistake would be overwritten.
            let fifo = FileType::from_raw_mode(rustix::fs::fstat(&port)?.st_mode) == FileType::Fifo;
            if !fifo && !isatty(&port) {
                return Err(Errno::NOTTY);
            }
            if isatty(&port) {
                let mut modes = tcgetattr(&port)?;
                modes.make_raw();
                modes.set_speed(baud)?;
                tcsetattr(&port, OptionalActions::Now, &modes)?;
            }
            Ok::<_, Errno>(port)
        };
        let port =
            open().map_err(|e| Error::failed(format!("open serial port {} at {baud} baud", path.display()), e))?;
        Ok(Self::over(End::Port(port)))
    }

    fn over(end: End) -> Self {
        Self { end, pending: Vec::new(), written: 0 }
    }

    /// The pseudo-terminal, if it is one of ours.
    pub(crate) fn as_pty(&mut self) -> Option<&mut Pty> {
        match &mut self.end {
            End::Pty(pty) => Some(pty),
            End::Port(_) => None,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.end {
            End::Pty(pty) => pty.master(),
            End::Port(port) => port.as_fd(),
        }
    }

    /// Takes bytes whole: what the kernel does not take now is kept, and the line is not
    /// [ready](Line::ready) until it has.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        self.ready().map(drop)
    }

    /// Whether all was taken; tries to hand over what was not.
    pub(crate) fn ready(&mut self) -> Result<bool> {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(self.fd(), rest) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(false),
                Ok(taken) => self.written += taken,
                Err(Errno::INTR) => {}
                Err(e) => {
                    self.pending.clear();
                    self.written = 0;
                    return Err(Error::failed("write to the serial line", e));
                }
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(true)
    }

    /// Waits until the line may take more, at most so long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let fd = self.fd();
        let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
        let timeout = Timespec { tv_sec: at_most.as_secs().cast_signed(), tv_nsec: i64::from(at_most.subsec_nanos()) };
        // A line that is gone polls as ready for ever: the pause keeps the caller from spinning.
        match poll(&mut fds, Some(&timeout)) {
            Ok(n) if n > 0 && !fds[0].revents().contains(PollFlags::OUT) => std::thread::sleep(at_most),
            _ => {}
        }
    }

    /// Bytes that are known not to have been read yet.
    pub(crate) fn unread(&self) -> u64 {
        let kernel = match &self.end {
            End::Pty(pty) => pty.unread(),
            // A fifo tells; on a serial port this is what came in, which is nobody's business.
            End::Port(port) if !isatty(port) => ioctl_fionread(port).unwrap_or(0),
            End::Port(_) => 0,
        };
        kernel + (self.pending.len() - self.written) as u64
    }

    /// Waits until a serial port has sent what it was given, at most so long; whether it has.
    pub(crate) fn drain(&self, at_most: Duration) -> bool {
        let End::Port(port) = &self.end else { return true };
        if !isatty(port) {
            return true;
        }
        let Ok(port) = port.try_clone() else { return true };
        let (done, drained) = std::sync::mpsc::channel();
        // The call cannot be interrupted; if it hangs, the thread ends with the process.
        std::thread::spawn(move || {
            let _ = rustix::termios::tcdrain(&port);
            let _ = done.send(());
        });
        drained.recv_timeout(at_most).is_ok()
    }
}

//! Descriptors of any kind: the null device, and whether something can be read.

use std::os::fd::{BorrowedFd, OwnedFd};

use pidone_config::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// The host's null device. The init opens the container's own in its place.
pub fn open_null() -> Result<OwnedFd> {
    const PATH: &str = "/dev/null";
    openat(CWD, PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno: Errno| Error::path("open", PATH, errno))
}

/// Whether one of some descriptors can be read now: the process of a pidfd has ended, reaped or
/// not, or a socket has something to say or is closed.
pub fn any_readable<const N: usize>(files: [BorrowedFd<'_>; N]) -> rustix::io::Result<bool> {
    let mut fds = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN));
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).map(|ready| ready != 0)
}

//! Descriptors of any type: the null device, and whether something can be read.

use std::os::fd::{BorrowedFd, OwnedFd};

use pidone_config::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// Opens the host's null device. The init replaces it with the container's own.
pub fn open_null() -> Result<OwnedFd> {
    const PATH: &str = "/dev/null";
    openat(CWD, PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno: Errno| Error::path("open", PATH, errno))
}

/// Whether any of the descriptors is readable now, without waiting. A pidfd is readable once its
/// process has ended, reaped or not; a socket if a message has arrived or the peer has closed it.
pub fn any_readable<const N: usize>(files: [BorrowedFd<'_>; N]) -> rustix::io::Result<bool> {
    let mut fds = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN));
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).map(|ready| ready != 0)
}

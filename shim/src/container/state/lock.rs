//! The lock of a container, which serializes changes.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;

/// How long to wait for another holder.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An exclusive lock on a container, held until it is dropped or the process dies.
///
/// It is a lock on the container's directory, not on a file in it. To remove the container, such a
/// file would have to go before the directory, and another process could create it again in
/// between.
#[derive(Debug)]
pub(crate) struct Lock {
    _directory: OwnedFd,
}

impl Lock {
    /// Locks a container by its directory, waiting up to 10 s.
    ///
    /// # Errors
    /// [`Code::ContainerNotExists`] if the container has been destroyed; [`Code::SystemError`] if
    /// another holder keeps the lock.
    pub(crate) fn take(directory: BorrowedFd<'_>, id: &str) -> Result<Self> {
        let gone =
            || Error::reason(Code::ContainerNotExists, "lock", id, "container does not exist");
        // The lock belongs to an open file description, so each lock needs its own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let locked = match openat(directory, c".", flags, Mode::empty()) {
            Ok(locked) => locked,
            Err(Errno::NOENT) => return Err(gone()),
            Err(errno) => return Err(Error::system("open", id, errno)),
        };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match flock(&locked, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::system("lock", id, errno)
                        .with_hint("another process works on the container"));
                }
            }
        }
        // The previous holder may have removed the container.
        let stat = fstat(directory).map_err(|errno| Error::system("stat", id, errno))?;
        if stat.st_nlink == 0 { Err(gone()) } else { Ok(Self { _directory: locked }) }
    }
}

//! One process at a time changes a container.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;

/// How long another process may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A container that nobody else changes, until dropped. It is released by the kernel when the
/// process dies.
///
/// What is locked is the container's directory, and not a file in it: who removes the container
/// would have to remove that file before the directory, and somebody else could make it again.
#[derive(Debug)]
pub(crate) struct Lock {
    _directory: OwnedFd,
}

impl Lock {
    /// Locks the container whose directory this is.
    ///
    /// # Errors
    /// [`Code::ContainerNotExists`] if the container was destroyed meanwhile;
    /// [`Code::SystemError`] if another process does not let it go.
    pub(crate) fn take(directory: BorrowedFd<'_>, id: &str) -> Result<Self> {
        let gone =
            || Error::reason(Code::ContainerNotExists, "lock", id, "container does not exist");
        // An open file of its own, which a lock belongs to.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = match openat(directory, c".", flags, Mode::empty()) {
            Ok(own) => own,
            Err(Errno::NOENT) => return Err(gone()),
            Err(errno) => return Err(Error::system("open", id, errno)),
        };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match flock(&own, FlockOperation::NonBlockingLockExclusive) {
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
        // The one who had it may have removed the container.
        let stat = fstat(directory).map_err(|errno| Error::system("stat", id, errno))?;
        if stat.st_nlink == 0 { Err(gone()) } else { Ok(Self { _directory: own }) }
    }
}

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
    directory: OwnedFd,
    id: String,
}

impl Lock {
    /// Locks a container by its directory, waiting up to 10 s.
    ///
    /// # Errors
    /// [`Code::ContainerNotExists`] if the container has been destroyed; [`Code::SystemError`] if
    /// another holder keeps the lock.
    pub(crate) fn take(directory: BorrowedFd<'_>, id: &str) -> Result<Self> {
        // The lock belongs to an open file description, so each lock needs its own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat(directory, c".", flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Err(gone(id, "container does not exist")),
            Err(errno) => return Err(Error::system("open", id, errno)),
        };
        let lock = Self { directory, id: id.to_owned() };
        lock.acquire("container does not exist")?;
        Ok(lock)
    }

    /// Runs programs that are not part of this one, such as hooks, while the lock is released: they
    /// may work on the container themselves, or wait for a process that does. Then takes the lock
    /// again.
    ///
    /// # Errors
    /// The error of `run`; else [`Code::ContainerNotExists`] if the container was destroyed
    /// meanwhile, and [`Code::SystemError`] if another holder keeps the lock. It is not held then.
    pub(crate) fn released_for<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        flock(&self.directory, FlockOperation::Unlock)
            .map_err(|errno| Error::system("unlock", &self.id, errno))?;
        let outcome = run();
        let locked = self.acquire("container was deleted while its hooks ran");
        outcome.and_then(|done| locked.map(|()| done))
    }

    /// Takes the lock; `reason` is the one of the error if the container has been destroyed.
    fn acquire(&self, reason: &'static str) -> Result<()> {
        let Self { directory, id } = self;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match flock(directory, FlockOperation::NonBlockingLockExclusive) {
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
        if stat.st_nlink == 0 { Err(gone(id, reason)) } else { Ok(()) }
    }
}

/// Returns the error for a container that has been destroyed.
fn gone(id: &str, reason: &'static str) -> Error {
    Error::reason(Code::ContainerNotExists, "lock", id, reason)
}

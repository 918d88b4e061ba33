//! A network namespace that is made beside the clone.
//!
//! Making one is the longest piece of a start, longer than all other namespaces and the mounts
//! together, and nothing of the rest needs it before sysfs and the loopback interface. So a thread
//! makes it while the host prepares the start and the init its root; the init enters it when it is
//! there. That costs two wake-ups, and gains where another processor is free.

use std::cell::{OnceCell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::worker::{Answer, Pool, processors};
use crate::error::{Error, Result};

/// A network namespace that is there, or about to be.
pub(crate) struct Network {
    coming: RefCell<Option<Answer<OwnedFd>>>,
    made: OnceCell<Result<OwnedFd>>,
}

impl Network {
    /// Begins to make one, owned by the caller's user namespace.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn begin() -> Result<Self> {
        // No thread of these clones: that one has made a network namespace must not keep it from
        // ending, and one that ends gives its children their parent-death signal.
        static MAKERS: LazyLock<Pool> = LazyLock::new(|| Pool::new("pidone-network", None));
        let coming = MAKERS.run(make)?;
        Ok(Self { coming: RefCell::new(Some(coming)), made: OnceCell::new() })
    }

    /// The namespace, when it is there.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn namespace(&self) -> Result<BorrowedFd<'_>> {
        self.made.get_or_init(|| self.wait()).as_ref().map(AsFd::as_fd).map_err(Clone::clone)
    }

    fn wait(&self) -> Result<OwnedFd> {
        match self.coming.borrow_mut().take() {
            Some(coming) => coming.wait(),
            None => Err(Error::system("unshare", "network", Errno::CANCELED)),
        }
    }
}

impl Drop for Network {
    /// Leaves no namespace that is about to come behind a start that failed before it was needed.
    fn drop(&mut self) {
        let _ = self.wait();
    }
}

/// Whether a thread could work beside the caller's.
pub(crate) fn has_other_processor() -> bool {
    processors() > 1
}

/// Makes a namespace that the descriptor keeps; answers whether this thread has left it again.
fn make() -> (Result<OwnedFd>, bool) {
    let own = match current() {
        Ok(own) => own,
        Err(error) => return (Err(error), true),
    };
    let made = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Error::system("unshare", "network", errno))
        .and_then(|()| current());
    (made, setns(own, CloneFlags::CLONE_NEWNET).is_ok())
}

/// This thread's network namespace.
fn current() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path("open", path, errno))
}

//! A network namespace that is made beside the clone.
//!
//! Making one is the longest piece of a start, longer than all other namespaces and the mounts
//! together, and nothing of the rest needs it before sysfs and the loopback interface. So a thread
//! makes it while the host prepares the start and the init its root; the init enters it when it is
//! there. That costs a thread, and gains where another processor is free.

use std::cell::{OnceCell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;
use pidone_config::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::sched_getaffinity;

/// A network namespace that is there, or about to be.
pub(crate) struct Network {
    maker: RefCell<Option<JoinHandle<Result<OwnedFd>>>>,
    made: OnceCell<Result<OwnedFd>>,
}

impl Network {
    /// Begins to make one, owned by the caller's user namespace.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start() -> Result<Self> {
        let name = "pidone-network";
        // One of its own, which leaves the namespace to the container by ending.
        let maker = thread::Builder::new()
            .name(name.into())
            .spawn(make_namespace)
            .map_err(|error| Error::system("start a thread", name, error))?;
        Ok(Self { maker: RefCell::new(Some(maker)), made: OnceCell::new() })
    }

    /// The namespace, when it is there.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn namespace(&self) -> Result<BorrowedFd<'_>> {
        self.made.get_or_init(|| self.wait()).as_ref().map(AsFd::as_fd).map_err(Clone::clone)
    }

    fn wait(&self) -> Result<OwnedFd> {
        let maker = self.maker.borrow_mut().take();
        maker
            .and_then(|maker| maker.join().ok())
            .unwrap_or_else(|| Err(Error::system("unshare", "network", Errno::CANCELED)))
    }
}

impl Drop for Network {
    /// Leaves no thread behind a start that failed before the namespace was needed.
    fn drop(&mut self) {
        let _ = self.wait();
    }
}

/// Whether a thread could work beside the caller's: it may run on several processors. The language's
/// own count reads all limits of cgroups above it as well.
pub(crate) fn has_other_processor() -> bool {
    static SEVERAL: LazyLock<bool> =
        LazyLock::new(|| sched_getaffinity(None).is_ok_and(|set| set.count() > 1));
    *SEVERAL
}

/// Makes the namespace of a thread that ends behind it: the descriptor keeps it.
fn make_namespace() -> Result<OwnedFd> {
    // No signal of the caller's is handled here.
    let _ = SigSet::all().thread_block();
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Error::system("unshare", "network", errno))?;
    let path = "/proc/thread-self/ns/net";
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path("open", path, errno))
}

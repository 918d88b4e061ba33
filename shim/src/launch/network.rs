//! Creates a network namespace in parallel to the clone.
//!
//! Creating one is the longest step of a start, longer than all other namespaces and the mounts
//! together, and only sysfs and the loopback interface need it. So a thread creates it while the
//! host prepares the start and the init its root, and the init enters it when it exists. This costs
//! a thread, and saves time if another processor is free.

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

use super::clone::no_thread;

/// A network namespace that a thread creates or has created.
pub(crate) struct Network {
    thread: RefCell<Option<JoinHandle<Result<OwnedFd>>>>,
    namespace: OnceCell<Result<OwnedFd>>,
}

impl Network {
    /// Starts to create one, which the caller's user namespace owns.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if no thread can be started.
    pub(crate) fn start() -> Result<Self> {
        let name = "pidone-network";
        // A separate thread, which leaves the namespace to the container when it ends.
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(make_namespace)
            .map_err(|error| no_thread(name, error))?;
        Ok(Self { thread: RefCell::new(Some(thread)), namespace: OnceCell::new() })
    }

    /// Waits until the namespace exists, and returns it.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if it cannot be created.
    pub(crate) fn namespace(&self) -> Result<BorrowedFd<'_>> {
        self.namespace.get_or_init(|| self.wait()).as_ref().map(AsFd::as_fd).map_err(Clone::clone)
    }

    fn wait(&self) -> Result<OwnedFd> {
        let thread = self.thread.borrow_mut().take();
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_else(|| Err(Error::system("unshare", "network", Errno::CANCELED)))
    }
}

impl Drop for Network {
    /// Waits for the thread, in case a start failed before it needed the namespace.
    fn drop(&mut self) {
        let _ = self.wait();
    }
}

/// Whether another thread can run in parallel: the caller may use several processors.
///
/// `std::thread::available_parallelism` would also read the limits of all cgroups above it.
pub(crate) fn has_other_processor() -> bool {
    static SEVERAL: LazyLock<bool> =
        LazyLock::new(|| sched_getaffinity(None).is_ok_and(|set| set.count() > 1));
    *SEVERAL
}

/// Moves the thread to a new network namespace and returns its descriptor, which keeps the
/// namespace when the thread ends.
fn make_namespace() -> Result<OwnedFd> {
    // The caller's signals must not be handled in this thread.
    let _ = SigSet::all().thread_block();
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Error::system("unshare", "network", errno))?;
    let path = "/proc/thread-self/ns/net";
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path("open", path, errno))
}

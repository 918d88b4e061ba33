//! What a handle stores about a running first process, to start further ones quickly.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pidone_config::Result;
use pidone_host::cgroup::{Cgroups, Freezer};
use pidone_host::descriptor::any_readable;
use pidone_host::user;
use pidone_plan::{self as plan, Plan};

use crate::container::children::Connection;
use crate::container::exec::cache::ExecCache;
use crate::container::state::{Identity, State};

/// A running first process.
#[derive(Debug)]
pub(crate) struct RunningInit {
    identity: Identity,
    pidfd: OwnedFd,
    freezer: Option<Freezer>,
    /// Plans for processes that the init starts; `None` for processes that it cannot start.
    pub(crate) plans: ExecCache<Option<Arc<Plan>>>,
    /// Resolved processes that join the container.
    pub(crate) joining: ExecCache<Arc<plan::Process>>,
    /// A connection to a supervising init.
    pub(crate) connection: Connection,
    /// Whether a further process has been requested before.
    was_used: AtomicBool,
}

impl RunningInit {
    /// Stores a running first process by its pidfd, and opens the freezer of its cgroups.
    pub(crate) fn new(
        identity: Identity,
        pidfd: OwnedFd,
        cgroups: Option<&Cgroups>,
    ) -> Result<Self> {
        let freezer = cgroups.map(Cgroups::freezer_files).transpose()?.flatten();
        let connection = Connection::to_init(&identity);
        Ok(Self {
            identity,
            pidfd,
            freezer,
            plans: ExecCache::default(),
            joining: ExecCache::default(),
            connection,
            was_used: AtomicBool::new(false),
        })
    }

    /// Whether the process is the first one of `state` and still runs.
    pub(crate) fn is_current(&self, state: &State) -> bool {
        self.identity.matches(state) && any_readable([self.pidfd.as_fd()]) == Ok(false)
    }

    /// Returns the versions of the user files below the container's root, for use with the caches.
    ///
    /// Returns `None` for the first request: often there is no other, and filling a cache would be
    /// wasted.
    pub(crate) fn users(&self, root: BorrowedFd<'_>) -> Option<user::Versions> {
        self.was_used.swap(true, Ordering::Relaxed).then(|| user::versions(root))
    }

    /// Returns the pidfd of the process.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether the processes of the container are suspended or being suspended. If the freezer
    /// cannot be read, they are not.
    pub(crate) fn is_frozen(&self) -> bool {
        self.freezer.as_ref().is_some_and(|freezer| freezer.is_frozen().unwrap_or(false))
    }
}

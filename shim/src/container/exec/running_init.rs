//! What is kept of a container while its first process runs, for those that come later.

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

/// A first process that runs.
#[derive(Debug)]
pub(crate) struct RunningInit {
    identity: Identity,
    pidfd: OwnedFd,
    freezer: Option<Freezer>,
    /// The plans of those that its init starts; none for those that it cannot start.
    pub(crate) plans: ExecCache<Option<Arc<Plan>>>,
    /// Those that join it, by numbers.
    pub(crate) joining: ExecCache<Arc<plan::Process>>,
    /// A connection to its init.
    pub(crate) connection: Connection,
    /// Whether a further process was asked for.
    was_asked: AtomicBool,
}

impl RunningInit {
    /// Keeps a first process that runs, by its pidfd.
    pub(crate) fn new(
        identity: Identity,
        pidfd: OwnedFd,
        cgroups: Option<&Cgroups>,
    ) -> Result<Self> {
        let freezer = cgroups.map(Cgroups::freezer_files).transpose()?.flatten();
        Ok(Self {
            identity,
            pidfd,
            freezer,
            plans: ExecCache::default(),
            joining: ExecCache::default(),
            connection: Connection::default(),
            was_asked: AtomicBool::new(false),
        })
    }

    /// Whether it is the one of a state, and still runs.
    pub(crate) fn is_current(&self, state: &State) -> bool {
        self.identity.matches(state) && any_readable([self.pidfd.as_fd()]) == Ok(false)
    }

    /// The versions of the files of users below the container's root, by which is found and kept what
    /// was made for a process; none at the first request, behind which there may be no other.
    pub(crate) fn users(&self, root: BorrowedFd<'_>) -> Option<user::Versions> {
        self.was_asked.swap(true, Ordering::Relaxed).then(|| user::versions(root))
    }

    /// Its pidfd.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether the processes of the container stand still, or are being stopped. What cannot be
    /// read does not say so.
    pub(crate) fn is_frozen(&self) -> bool {
        self.freezer.as_ref().is_some_and(|freezer| freezer.is_frozen().unwrap_or(false))
    }
}

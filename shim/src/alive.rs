//! What is kept of a container while its first process runs, for those that come later.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cgroup::{Cgroups, Freezer};
use crate::error::Result;
use crate::known::Known;
use crate::launch::channel::Channel;
use crate::pid::any_readable;
use crate::plan::{self, Plan};
use crate::state::{Identity, State};
use crate::user;

/// A first process that runs.
#[derive(Debug)]
pub(crate) struct Alive {
    identity: Identity,
    pidfd: OwnedFd,
    freezer: Option<Freezer>,
    /// The plans of those that its init starts; none for those that it cannot start.
    pub(crate) plans: Known<Option<Arc<Plan>>>,
    /// Those that join it, by numbers.
    pub(crate) joining: Known<Arc<plan::Process>>,
    /// A connection to its init.
    pub(crate) connection: Connection,
    /// Whether a further process was asked for.
    was_asked: AtomicBool,
}

impl Alive {
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
            plans: Known::default(),
            joining: Known::default(),
            connection: Connection::default(),
            was_asked: AtomicBool::new(false),
        })
    }

    /// Whether it is the one of a state, and still runs.
    pub(crate) fn is_of(&self, state: &State) -> bool {
        self.identity.is_of(state) && any_readable([self.pidfd.as_fd()]) == Ok(false)
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

/// A connection to an init that stays, on which nothing is under way, kept for the next request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection(Arc<Mutex<Option<Channel>>>);

impl Connection {
    /// Takes what is kept, if the init still listens to it and has nothing to say.
    pub(crate) fn take(&self) -> Option<Channel> {
        self.place().take().filter(|channel| any_readable([channel.as_fd()]) == Ok(false))
    }

    /// Keeps a connection whose last request is done with.
    pub(crate) fn keep(&self, channel: Channel) {
        *self.place() = Some(channel);
    }

    fn place(&self) -> MutexGuard<'_, Option<Channel>> {
        // There is nothing in it that could be half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

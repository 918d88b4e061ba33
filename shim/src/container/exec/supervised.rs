//! Processes that a container's own init starts, where it stays process 1.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use pidone_config::{Config, Result};
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::{self as plan, Plan};

use crate::container::children;
use crate::container::children::Connection;
use crate::container::running::Running;
use crate::launch::channel::Channel;
use crate::launch::stdio::Descriptors;
use crate::launch::{Lent, Spawn, Spawned};
use crate::trace;

/// What an init is asked to start, beside its plan.
pub(crate) struct SpawnRequest<'a> {
    pub(crate) descriptors: Descriptors<'a>,
    /// Files of cgroups that it moves itself to.
    pub(crate) cgroups: Vec<OwnedFd>,
    /// Whether the container ends with it.
    pub(crate) main: bool,
    /// The socket on which it waits for the start; none if it comes at once.
    pub(crate) listener: Option<BorrowedFd<'a>>,
    pub(crate) timeout: Duration,
}

impl SpawnRequest<'_> {
    /// Compiles what the child does to become a process, by numbers.
    pub(crate) fn compile_plan(
        &self,
        config: &Config,
        process: &plan::Process,
        dropped: DroppedPrivileges,
    ) -> Result<Plan> {
        let spawn = plan::spawn::Spawn {
            descriptors: self.descriptors.all().len(),
            cgroups: self.cgroups.len(),
            waits: self.listener.is_some(),
            dropped,
        };
        trace::span("compile the plan", || plan::spawn::compile(config, process, spawn))
    }

    /// Has it started by the init with a pid and a pidfd.
    pub(crate) fn spawn(
        &self,
        plan: &Plan,
        init: (i32, BorrowedFd<'_>),
        channel: &mut Channel,
    ) -> Result<Spawned> {
        let mut lent = self.descriptors.all();
        lent.extend(self.cgroups.iter().map(OwnedFd::as_fd));
        Spawn {
            plan,
            main: self.main,
            lent: Lent { listener: self.listener, others: &lent, ..Lent::default() },
            init,
            timeout: self.timeout,
        }
        .start(channel)
    }

    /// The process, whose end is told on the connection, which is kept behind it.
    pub(crate) fn running(self, spawned: Spawned, channel: Channel, kept: Connection) -> Running {
        let Spawned { number, pid, pidfd, console } = spawned;
        let child = children::Child::spawned(pidfd, channel, number, kept);
        Running::new(pid, child, self.descriptors.kept, console)
    }
}

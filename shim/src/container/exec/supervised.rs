//! Processes that a container's supervising init starts.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use pidone_config::{Config, Error, Result};
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::{self as plan, Plan};
use rustix::io::Errno;

use crate::container::children;
use crate::container::children::Connection;
use crate::container::running::Running;
use crate::launch::channel::Channel;
use crate::launch::stdio::Descriptors;
use crate::launch::{Lent, Spawn, Spawned, Started};
use crate::trace;

/// A request to a supervising init to start a process, without the plan.
pub(crate) struct SpawnRequest<'a> {
    pub(crate) descriptors: Descriptors<'a>,
    /// `cgroup.procs` files by which the process moves itself into cgroups.
    pub(crate) cgroups: Vec<OwnedFd>,
    /// Whether the container ends with the process.
    pub(crate) main: bool,
    /// The socket on which the program waits for the start; `None` to execute it at once.
    pub(crate) listener: Option<BorrowedFd<'a>>,
    /// Whether line feeds to its terminal stay as they are.
    pub(crate) keep_newlines: bool,
    /// How long the init may be silent.
    pub(crate) timeout: Duration,
}

impl<'a> SpawnRequest<'a> {
    /// Makes the request for the container's first program, which is executed at once.
    pub(crate) fn main(descriptors: Descriptors<'a>, timeout: Duration) -> Self {
        Self {
            descriptors,
            cgroups: Vec::new(),
            main: true,
            listener: None,
            keep_newlines: false,
            timeout,
        }
    }

    /// Compiles the operations by which the init's child becomes the resolved process.
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
            make_directory: false,
            dropped,
        };
        trace::span("compile the plan", || plan::spawn::compile(config, process, spawn))
    }

    /// Sends the request to the init with this pid and pidfd, and waits until the process runs.
    /// Returns `None` if the init does not take it.
    pub(crate) fn spawn(
        &self,
        plan: &Plan,
        init: (i32, BorrowedFd<'_>),
        channel: &mut Channel,
    ) -> Result<Option<Spawned>> {
        let mut lent = self.descriptors.all();
        lent.extend(self.cgroups.iter().map(OwnedFd::as_fd));
        Spawn {
            plan,
            main: self.main,
            lent: Lent { listener: self.listener, others: &lent, ..Lent::default() },
            init,
            keep_newlines: self.keep_newlines,
            timeout: self.timeout,
        }
        .start(channel)
    }

    /// Has the init start the container's first program, for a [main](Self::main) request.
    ///
    /// The returned process is the init, which forwards signals to the program and exits as it
    /// does. It has ended if this fails.
    pub(crate) fn start_main(self, plan: &Plan, init: Started) -> Result<Running> {
        let Started { child, mut channel, .. } = init;
        let none = || Error::system("spawn", "the init takes no request", Errno::AGAIN);
        let spawned = self.spawn(plan, child.ids(), &mut channel);
        match spawned.and_then(|spawned| spawned.ok_or_else(none)) {
            Ok(spawned) => {
                let (pid, init) = (child.pid, children::Child::new(child.pidfd));
                Ok(Running::new(pid, init, self.descriptors.kept, spawned.console))
            }
            Err(error) => {
                child.end();
                Err(error)
            }
        }
    }

    /// Makes a handle for the process. The init reports its exit on `channel`, which is then stored
    /// in `connection`.
    pub(crate) fn running(
        self,
        spawned: Spawned,
        channel: Channel,
        connection: Connection,
    ) -> Running {
        let Spawned { number, pid, pidfd, console } = spawned;
        let child = children::Child::spawned(pidfd, channel, number, connection);
        Running::new(pid, child, self.descriptors.kept, console)
    }
}

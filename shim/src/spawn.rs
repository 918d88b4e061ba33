//! Processes that a container's own init starts, where it stays process 1.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::child;
use crate::config::Config;
use crate::error::Result;
use crate::launch::channel::Channel;
use crate::launch::{Child, Lent, Spawn, Spawned};
use crate::plan::{self, Plan};
use crate::process::Running;
use crate::stdio::Descriptors;
use crate::trace;

/// What an init is asked to start.
pub(crate) struct Program<'a> {
    pub(crate) config: &'a Config,
    /// The process, by numbers.
    pub(crate) process: &'a plan::Process,
    pub(crate) descriptors: Descriptors<'a>,
    /// Files of cgroups that it moves itself to.
    pub(crate) cgroups: Vec<OwnedFd>,
    /// Whether the container ends with it.
    pub(crate) main: bool,
    /// The socket on which it waits for the start; none if it comes at once.
    pub(crate) listener: Option<BorrowedFd<'a>>,
    pub(crate) patience: Duration,
}

impl Program<'_> {
    /// Has it started; the plan is what the child does.
    pub(crate) fn spawn(&self, init: &Child, channel: &mut Channel) -> Result<(Spawned, Plan)> {
        let mut lent = self.descriptors.all();
        let spawn = plan::spawn::Spawn {
            descriptors: lent.len(),
            cgroups: self.cgroups.len(),
            waits: self.listener.is_some(),
        };
        lent.extend(self.cgroups.iter().map(OwnedFd::as_fd));
        let compile = || plan::spawn::compile(self.config, self.process, spawn);
        let plan = trace::span("compile the plan", compile)?;
        let spawned = Spawn {
            plan: &plan,
            main: self.main,
            lent: Lent { listener: self.listener, others: &lent, ..Lent::default() },
            init,
            patience: self.patience,
        }
        .run(channel)?;
        Ok((spawned, plan))
    }

    /// The process, whose end is told on the connection.
    pub(crate) fn running(self, spawned: Spawned, channel: Channel) -> Running {
        let Spawned { number, pid, pidfd, console } = spawned;
        let child = child::Child::spawned(pidfd, channel, number);
        Running::new(pid, child, self.descriptors.kept, console)
    }
}

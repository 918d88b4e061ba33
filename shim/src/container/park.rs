//! A container that is made before its program is known.

use std::os::fd::AsFd;

use pidone_config::{Config, Process, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::lsm;
use pidone_plan::Plan;
use pidone_plan::parked::with_descriptors;

use super::{Container, network};
use crate::container::children::FirstProcess;
use crate::container::running::Running;
use crate::container::start::facts::{Compilation, Compiled, Stage};
use crate::container::start::{ParkedFirst, ReleaseHostSide};
use crate::container::state::lock::Lock;
use crate::launch::stdio::Descriptors;
use crate::launch::{self, Lent};

/// The init of a container that waits for its program.
#[derive(Debug)]
pub(crate) struct Parked {
    init: launch::Parked,
    /// What is killed with it: all of a container without a pid namespace.
    cgroups: Option<Cgroups>,
    /// What waits for processes that join it.
    first: Option<FirstProcess>,
}

impl Container {
    /// Makes the first half of the container; the other comes by [`Container::assign`], or
    /// [`Container::configure`]. What it has of a process is the given one's. For those that find the
    /// container by its id it runs from here on.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub(crate) fn park(&mut self, stage: Stage<'_>, process: &Process) -> Result<Parked> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        let (waiting, cgroups) = self.set_up(process, None, false, |start| start.park(stage))?;
        let ParkedFirst { parked, identity } = waiting;
        if let Err(error) = self.write_started(&identity) {
            parked.end();
            // The first error is the one that is told.
            let _ = self.clean_failed_start();
            return Err(error);
        }
        let first = FirstProcess::new(identity.pid).ok();
        Ok(Parked { init: parked, cgroups, first })
    }

    /// Lets the program of a parked container come, by the second half of its plan. Nothing is
    /// read or written on the host meanwhile.
    ///
    /// # Errors
    /// As [`Container::start`]; the first process is gone then, and the container can be destroyed.
    pub(crate) fn assign(
        &mut self,
        parked: Parked,
        process: &Process,
        rest: &Plan,
    ) -> Result<Running> {
        let behind = process.extra_files.len();
        let descriptors = if behind == 0 {
            Descriptors::without_null(process)?
        } else {
            Descriptors::open(process)?
        };
        let plan = with_descriptors(rest, descriptors.opened_stdio(), behind);
        self.finish(parked, descriptors, &plan)
    }

    /// Sends the second half of the plan, with descriptors.
    fn finish(
        &mut self,
        parked: Parked,
        descriptors: Descriptors<'_>,
        plan: &Plan,
    ) -> Result<Running> {
        let all = descriptors.all();
        let lent = Lent { others: &all, ..Lent::default() };
        let mut host = ReleaseHostSide { hooks: self.hooks(parked.cgroups.as_ref()), plan };
        let started = parked.init.finish(plan, lent, self.options.timeout, &mut host)?;
        drop(all);
        let mut running = Running::from_started(started, descriptors);
        running.cgroups = parked.cgroups;
        running.first = parked.first;
        if let Err(error) = self.poststart() {
            self.discard(&mut running);
            return Err(error);
        }
        Ok(running)
    }

    /// Gives a container of which the namespaces were parked alone its root and its program. The
    /// configuration must be the one that it was parked with in all that those are made of.
    ///
    /// # Errors
    /// As [`Container::assign`].
    pub(crate) fn configure(
        &mut self,
        parked: Parked,
        config: Config,
        process: &Process,
    ) -> Result<Running> {
        self.state.config = config;
        let compiled = self.compile_rest(process);
        let Compiled { plan, .. } = match compiled {
            Ok(compiled) => compiled,
            Err(error) => {
                parked.end();
                return Err(error);
            }
        };
        let descriptors = match Descriptors::open(process) {
            Ok(descriptors) => descriptors,
            Err(error) => {
                parked.end();
                return Err(error);
            }
        };
        let mut running = self.finish(parked, descriptors, &plan)?;
        // The program is there already: others find the root that they join.
        if let Err(error) = self.write_state() {
            self.discard(&mut running);
            return Err(error);
        }
        Ok(running)
    }

    /// Compiles what a container lacks of which the namespaces were parked.
    fn compile_rest(&self, process: &Process) -> Result<Compiled> {
        let config = &self.state.config;
        lsm::relabel(config)?;
        let cgroups = self.cgroups()?;
        let network = network(config, &self.path)?;
        Compilation {
            config,
            process,
            strategy: self.options.strategy,
            cgroups: cgroups.as_ref(),
            parallel_netns: false,
            network: &network,
            keyring: self.hooks(None).keyring(),
            waits: false,
            stage: Stage::Rest,
        }
        .compile()
    }

    /// Makes the cgroups of a container that stays without processes.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub(crate) fn hold(&self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        match &self.state.config.cgroups {
            Some(limits) => {
                let mut cgroups = Cgroups::from_paths(self.state.cgroup_paths.clone())?;
                self.make_cgroups(&mut cgroups, limits)
            }
            None => Ok(()),
        }
    }

    /// Whether what the container has on the host is still there.
    pub(crate) fn is_whole(&self) -> bool {
        rustix::fs::fstat(&self.directory).is_ok_and(|stat| stat.st_nlink > 0)
            && self.state.cgroup_paths.values().all(|path| path.is_dir())
    }
}

impl Parked {
    /// Whether the init still waits.
    pub(crate) fn waits(&self) -> bool {
        self.init.waits()
    }

    /// Ends the init, and reaps it.
    pub(crate) fn end(self) {
        self.init.end();
    }
}

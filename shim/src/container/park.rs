//! Containers that are set up before their program is known, for a pool.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::{Config, Process, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::descriptor::any_readable;
use pidone_host::lsm;
use pidone_plan::Plan;
use pidone_plan::parked::{become_later, with_descriptors};
use pidone_plan::resolve::Nameless;

use super::{Container, network};
use crate::container::children::FirstProcess;
use crate::container::exec::supervised::SpawnRequest;
use crate::container::running::Running;
use crate::container::start::facts::{Compilation, Compiled, Program, Stage};
use crate::container::start::{ParkedFirst, ReleaseHostSide, refuse_closed_numbers, users};
use crate::container::state::lock::Lock;
use crate::launch::stdio::Descriptors;
use crate::launch::{self, Child, Lent, Owner, Rest, Started};

/// An init that waits for its program.
#[derive(Debug)]
pub(crate) struct Parked {
    init: ParkedInit,
    /// The cgroups to kill when it ends: those of a container without a pid namespace.
    cgroups: Option<Cgroups>,
    /// Its registration as a first process.
    first: Option<FirstProcess>,
}

/// What an init that waits for its program does when it gets it.
#[derive(Debug)]
pub(crate) enum ParkedInit {
    /// It becomes the program.
    Plain(launch::Parked),
    /// It starts the program, and stays.
    Supervisor(Started),
}

impl Container {
    /// Runs the first part of the container's plan. [`Container::assign`] or
    /// [`Container::configure`] runs the second part.
    ///
    /// `process` is the model for the part of the plan that depends on a process. A program that
    /// loads the container by its id sees it as running from now on.
    ///
    /// # Errors
    /// As for [`Container::start`].
    pub(crate) fn park(&self, stage: Stage<'_>, process: &Process) -> Result<Parked> {
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        let (waiting, cgroups) =
            self.set_up(process, None, &lock, false, |start| start.park(stage))?;
        let ParkedFirst { parked, identity, dropped } = waiting;
        self.change_state(|state| state.dropped = dropped);
        if let Err(error) = self.write_started(&identity) {
            parked.end();
            // The error of the write is reported, not one of the cleanup.
            let _ = self.clean_failed_start();
            return Err(error);
        }
        let first = FirstProcess::new(identity.pid).ok();
        Ok(Parked { init: parked, cgroups, first })
    }

    /// Starts a program in a parked container, with `rest` as the second part of the plan. Nothing
    /// is read or written on the host, except by `poststart` hooks.
    ///
    /// # Errors
    /// As for [`Container::start`]. The init has ended then, and the container can be destroyed.
    pub(crate) fn assign(&self, parked: Parked, process: &Process, rest: &Plan) -> Result<Running> {
        if let Err(error) = refuse_closed_numbers(process) {
            parked.end();
            return Err(error);
        }
        let extra = process.extra_files.len();
        let becomes_it = matches!(parked.init, ParkedInit::Plain(_));
        let opened = if becomes_it && extra == 0 {
            Descriptors::without_null(process)
        } else {
            Descriptors::open(process)
        };
        let descriptors = match opened {
            Ok(descriptors) => descriptors,
            Err(error) => {
                parked.end();
                return Err(error);
            }
        };
        if becomes_it {
            let plan = with_descriptors(rest, descriptors.opened_stdio(), extra);
            self.finish(parked, descriptors, (&plan, None))
        } else {
            self.finish(parked, descriptors, (rest, None))
        }
    }

    /// Sends the second part of the plan with its descriptors, and waits for the exec. A process
    /// whose user is found only then is completed meanwhile. Afterwards the `poststart` hooks run.
    fn finish(
        &self,
        parked: Parked,
        descriptors: Descriptors<'_>,
        (plan, nameless): (&Plan, Option<(&Nameless, &Process)>),
    ) -> Result<Running> {
        let state = self.known();
        let config = &state.config;
        let owner = |uid| Owner { descriptors: &descriptors, config, uid };
        let whole = OnceCell::new();
        let compile = |child: &Child, root: Option<BorrowedFd<'_>>| {
            let mut plan = plan.clone();
            let Some((nameless, process)) = nameless else { return Ok(plan) };
            let process = users::complete(nameless, config, process, (child.pid, root))?;
            owner(process.uid).take(child.ids())?;
            become_later(&mut plan, config, &process)?;
            Ok(plan)
        };
        let rest = nameless.is_some().then_some(Rest { compile: &compile, whole: &whole });
        if rest.is_none() {
            // Only a model that is root sets its user in the first stage.
            let uid = plan.user().unwrap_or_default();
            if let Err(error) = owner(uid).take(parked.init.ids()) {
                parked.end();
                return Err(error);
            }
        }
        let Parked { init, cgroups, first } = parked;
        let mut running = match init {
            ParkedInit::Plain(init) => {
                let all = descriptors.all();
                let lent = Lent { others: &all, ..Lent::default() };
                // This program holds no lock of a container that it keeps ready.
                let hooks = self.hooks(&state, cgroups.as_ref());
                let mut host = ReleaseHostSide::new(hooks, plan, None);
                host.rest = rest;
                let started = init.finish((plan, rest), lent, self.options.timeout, &mut host)?;
                drop(all);
                Running::from_started(started, descriptors)
            }
            ParkedInit::Supervisor(init) => {
                let timeout = self.options.timeout;
                SpawnRequest::main(descriptors, timeout).start_main(plan, init)?
            }
        };
        (running.cgroups, running.first) = (cgroups, first);
        if let Err(error) = self.hooks(&state, None).poststart(state.init_process_pid) {
            self.discard(&mut running);
            return Err(error);
        }
        Ok(running)
    }

    /// Sets up the root and starts a program in a container whose namespaces alone were parked.
    ///
    /// The configuration must agree with the one of [`Container::park`] in everything that was made
    /// then.
    ///
    /// # Errors
    /// As for [`Container::assign`].
    pub(crate) fn configure(
        &self,
        parked: Parked,
        config: Config,
        process: &Process,
    ) -> Result<Running> {
        self.change_state(|state| state.config = config);
        let compiled = refuse_closed_numbers(process).and_then(|()| self.compile_rest(process));
        let Compiled { plan, program, .. } = match compiled {
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
        let nameless = match &program {
            Some(Program::Nameless(nameless)) => Some((nameless, process)),
            _ => None,
        };
        let mut running = self.finish(parked, descriptors, (&plan, nameless))?;
        // Written last: only processes that join the container need the root, and the program runs.
        if let Err(error) = self.write_state() {
            self.discard(&mut running);
            return Err(error);
        }
        Ok(running)
    }

    /// Compiles the second part of the plan of a container whose namespaces alone were parked.
    fn compile_rest(&self, process: &Process) -> Result<Compiled> {
        let state = self.known();
        let config = &state.config;
        lsm::relabel(config)?;
        let cgroups = self.cgroups()?;
        let network = network(config, &self.path)?;
        Compilation {
            config,
            process,
            strategy: self.options.strategy,
            cgroups: cgroups.as_ref(),
            awaits_cgroup: false,
            parallel_netns: false,
            network: &network,
            keyring: self.hooks(&state, None).keyring(),
            waits: false,
            stage: Stage::Rest,
        }
        .compile()
    }

    /// Creates the cgroups of a container that gets no process. A pool holds them so that their
    /// parent directories stay in existence.
    ///
    /// # Errors
    /// As for [`Container::start`].
    pub(crate) fn hold(&self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        let state = self.known();
        match (self.cgroups()?, &state.config.cgroups) {
            (Some(mut cgroups), Some(limits)) => self.make_cgroups(&mut cgroups, limits).map(drop),
            _ => Ok(()),
        }
    }

    /// Whether the container's directory and cgroups still exist.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.exists(), Ok(true))
            && self.known().cgroup_paths.values().all(|path| path.is_dir())
    }
}

impl Parked {
    /// Opens the root of the container, as the init has set it up.
    pub(crate) fn root(&self) -> Result<OwnedFd> {
        users::root_of(self.init.ids().0)
    }

    /// Whether the init still waits for its program.
    pub(crate) fn waits(&self) -> bool {
        self.init.waits()
    }

    /// Ends the init and reaps it.
    pub(crate) fn end(self) {
        self.init.end();
    }
}

impl ParkedInit {
    /// Returns the pid and the pidfd of the init.
    fn ids(&self) -> (i32, BorrowedFd<'_>) {
        match self {
            Self::Plain(init) => init.ids(),
            Self::Supervisor(init) => init.child.ids(),
        }
    }

    /// Whether the init waits: it has neither ended nor reported anything.
    fn waits(&self) -> bool {
        match self {
            Self::Plain(init) => init.waits(),
            Self::Supervisor(Started { child, channel, .. }) => {
                any_readable([child.pidfd.as_fd(), channel.as_fd()]) == Ok(false)
            }
        }
    }

    fn end(self) {
        match self {
            Self::Plain(init) => init.end(),
            Self::Supervisor(init) => init.child.end(),
        }
    }
}

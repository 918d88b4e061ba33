//! Starting the first process of a container, and setting up what it needs on the host.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pidone_config::config::{self, NamespaceType};
use pidone_config::{Code, Config, Error, Process, Result};
use pidone_host::cgroup::{self, Cgroups};
use pidone_host::pidfd;
use pidone_host::resctrl::{self, Group};
use pidone_host::unix::path_in;
use pidone_plan::container::has_commands;
use rustix::process::Signal;

use super::{Container, network};
use crate::container::running::Running;
use crate::container::start::facts::can_make_netns_in_parallel;
use crate::container::start::{ReleaseHostSide, Start, StartedFirst, delegate};
use crate::container::state::journal::{Entry, Journal};
use crate::container::state::lock::Lock;
use crate::container::state::sockets::{RemainingPlan, START, SUPERVISOR};
use crate::container::state::{Identity, State, sockets};
use crate::launch::image::EMBEDDED;
use crate::launch::{Child, Network, Resume};
use crate::trace;

/// Why a first program was not released.
pub(super) struct Unreleased {
    pub(super) error: Error,
    /// Whether it is the error of a hook.
    pub(super) hook_failed: bool,
}

impl From<Error> for Unreleased {
    fn from(error: Error) -> Self {
        Self { error, hook_failed: false }
    }
}

impl Container {
    /// Whether [`Container::start`] has to prepare and release the first program separately.
    ///
    /// A supervised program has no connection to the host until it is released, and the host needs
    /// one to run `startContainer` hooks or to receive the listener of a seccomp filter.
    pub(super) fn starts_in_two_steps(&self, process: &Process) -> bool {
        let state = self.known();
        let Config { supervise, hooks, seccomp_profile, .. } = &state.config;
        let listens =
            seccomp_profile.as_ref().is_some_and(|profile| !profile.listener_path.is_empty());
        *supervise && (listens || process.keep_newlines || !hooks.start_container.is_empty())
    }

    /// Sets up the container with a first program that waits for [`Container::release`].
    pub(super) fn prepare_first(&self, process: &Process, lock: &Lock) -> Result<Running> {
        let listener = sockets::listen(self.directory.as_fd(), START)?;
        self.start_first(process, Some(listener.as_fd()), lock)
            .inspect_err(|_| sockets::remove(self.directory.as_fd(), START))
    }

    /// Releases the first program, which waits since [`Container::prepare_first`].
    pub(super) fn release_first(&self, lock: &Lock) -> std::result::Result<(), Unreleased> {
        let init = self.running_init("start")?;
        self.check_created("start")?;
        if !sockets::is_waiting(self.directory.as_fd()) {
            let reason = "container is not in the created state";
            return Err(self.error(Code::ContainerNotStopped, "start", reason).into());
        }
        let rest = RemainingPlan::read(self.directory.as_fd())?;
        let cgroups = self.cgroups()?;
        let state = self.known();
        let hooks = self.hooks(&state, cgroups.as_ref());
        let child = Child { pid: state.init_process_pid, pidfd: init };
        let directory = self.directory.as_fd();
        let codec = self.options.image.as_ref().map_or(EMBEDDED, |image| *image).codec();
        let mut host = ReleaseHostSide::new(hooks, &rest.plan, Some((lock, directory)));
        let runs_hooks = !state.config.hooks.start_container.is_empty();
        let started = Resume {
            plan: &rest.plan,
            before: rest.first.saturating_sub(1),
            socket: (&path_in(directory, START), codec),
            timeout: self.options.timeout,
        }
        .start(child, &mut host, || {
            if runs_hooks {
                sockets::mark_starting(directory)?;
            }
            sockets::remove(directory, START);
            Ok(())
        });
        if let Err(error) = started {
            return Err(Unreleased { error, hook_failed: host.hook_failed });
        }
        if let Err(error) = self.poststart(lock) {
            let init = self.open_init()?;
            let _ = self.signal(Signal::KILL.as_raw());
            if let Some(init) = init {
                let _ = pidfd::wait_for_end(init.as_fd(), state.init_process_pid);
            }
            return Err(Unreleased { error, hook_failed: true });
        }
        Ok(())
    }

    /// Starts the first process. With a listener, its program waits for a connection to it.
    pub(super) fn start_first(
        &self,
        process: &Process,
        listener: Option<BorrowedFd<'_>>,
        lock: &Lock,
    ) -> Result<Running> {
        let (StartedFirst { mut running, identity, rest, dropped }, cgroups) =
            self.set_up(process, listener, lock, true, |start| start.start())?;
        running.cgroups = cgroups;
        if let Err(error) = self.adopt_changes() {
            self.discard(&mut running);
            return Err(error);
        }
        self.change_state(|state| state.dropped = dropped);
        let rest = rest.map_or(Ok(()), |(first, rest)| {
            RemainingPlan::write(self.directory.as_fd(), first, &rest)
        });
        if let Err(error) = rest.and_then(|()| self.write_started(&identity)) {
            self.discard(&mut running);
            return Err(error);
        }
        Ok(running)
    }

    /// Sets up cgroups, network and sockets on the host, and calls `run` to start the init.
    ///
    /// Returns what `run` started, and the cgroups to kill when the first process ends, if the
    /// container has no pid namespace. With `priority`, the start is as fast as possible: a second
    /// processor makes the network namespace. If anything fails, the host is cleaned up.
    pub(super) fn set_up<T>(
        &self,
        process: &Process,
        listener: Option<BorrowedFd<'_>>,
        lock: &Lock,
        priority: bool,
        run: impl FnOnce(&Start<'_>) -> Result<T>,
    ) -> Result<(T, Option<Cgroups>)> {
        let state = self.known();
        let config = &state.config;
        let network = network(config, &self.path)?;
        let in_parallel = priority && can_make_netns_in_parallel(config, &network);
        let begin = || trace::span("begin the network namespace", Network::start);
        let parallel_netns = in_parallel.then(begin).transpose()?;
        let mut cgroups = self.cgroups()?;
        let mut scope = None;
        let supervisor = config
            .supervise
            .then(|| sockets::listen(self.directory.as_fd(), SUPERVISOR))
            .transpose()?;
        if !state.host_links.is_empty() {
            let links = [Entry::HostLinks(state.host_links.clone())];
            trace::span("journal", || Journal::append(self.directory.as_fd(), &links))?;
        }
        if let (Some(cgroups), Some(limits)) = (&mut cgroups, &config.cgroups) {
            scope = self.make_cgroups(cgroups, limits)?;
        }
        let resctrl = config.intel_rdt.as_ref().map(|rdt| self.make_resctrl(rdt)).transpose()?;
        let started = run(&Start {
            state: &state,
            lock,
            config,
            process,
            options: &self.options,
            image: self.image.as_ref(),
            directory: self.directory.as_fd(),
            cgroups: cgroups.as_ref(),
            scope: RefCell::new(scope),
            network: &network,
            resctrl: resctrl.as_ref(),
            parallel_netns: parallel_netns.as_ref(),
            listener,
            supervisor: supervisor.as_ref().map(AsFd::as_fd),
        });
        match started {
            // In a pid namespace, the kernel kills all processes when the first one ends.
            Ok(started) if config.namespace(NamespaceType::Pid).is_none() => Ok((started, cgroups)),
            Ok(started) => Ok((started, None)),
            Err(error) => {
                // The error of the start is reported, not one of the cleanup.
                let _ = self.clean_failed_start();
                Err(error)
            }
        }
    }

    /// Kills a first process whose start failed after it was running, and cleans up the host.
    pub(super) fn discard(&self, running: &mut Running) {
        let _ = running.signal(Signal::KILL.as_raw());
        let _ = running.wait();
        let _ = self.clean_failed_start();
    }

    /// Creates the cgroups with their limits, recording each step in the journal. A cgroup that
    /// systemd makes is only announced: the returned scope still needs its process.
    ///
    /// Until the journal says that they were made, they may belong to another container.
    pub(super) fn make_cgroups(
        &self,
        cgroups: &mut Cgroups,
        limits: &config::Cgroup,
    ) -> Result<Option<cgroup::Starting>> {
        let directory = self.directory.as_fd();
        let paths = Entry::Cgroups(cgroups.paths().clone());
        let announced = match cgroups.scope() {
            Some(scope) => [paths, Entry::Scope(scope.unit().to_owned())],
            None => [paths, Entry::CgroupsMissing(cgroups.missing_parents())],
        };
        trace::span("journal", || Journal::append(directory, &announced))?;
        let none = || Entry::Cgroups(BTreeMap::new());
        if let Some(scope) = cgroups.scope() {
            let begun = trace::span("connect to systemd", || scope.begin(limits));
            if begun.is_err() {
                Journal::append(directory, &[none()])?;
            }
            return begun.map(Some);
        }
        let made = trace::span("make cgroups", || cgroups.create(limits));
        let entry = match &made {
            Ok(()) => Entry::CgroupsMade(cgroups.made_parents().to_owned()),
            Err(_) => none(),
        };
        let written = trace::span("journal", || Journal::append(directory, &[entry]));
        made.and(written)?;
        delegate(&self.known().config, cgroups).inspect_err(|_| {
            // The error of the delegation is reported, not one of the cleanup.
            let _ = self.clean_failed_start();
        })?;
        Ok(None)
    }

    /// Makes the group of resctrl, and records what was made: a group of others must stay.
    fn make_resctrl(&self, config: &config::IntelRdt) -> Result<Group> {
        let directory = self.directory.as_fd();
        let mut made = Vec::new();
        let record = |path: &Path| {
            made.push(path.to_owned());
            Journal::append(directory, &[Entry::ResctrlMade(made.clone())]).inspect_err(|_| {
                // Nothing else knows of it.
                let _ = resctrl::remove(&made);
            })
        };
        let group = Group::locate(config, self.id());
        let group = group.and_then(|group| group.create(config, record).map(|()| group));
        group.inspect_err(|_| {
            // The error of the group is reported, not one of the cleanup.
            let _ = self.clean_failed_start();
        })
    }

    /// Removes what a failed start has made, and records that the cgroups are no longer this
    /// container's.
    pub(super) fn clean_failed_start(&self) -> Result<()> {
        // Another process has removed the container, and its id may be another container's by now.
        if matches!(self.exists(), Ok(false)) {
            return Ok(());
        }
        self.clean()?;
        Journal::append(self.directory.as_fd(), &[Entry::Cgroups(BTreeMap::new())])
    }

    /// Takes over what others have changed in the configuration while hooks ran, and the lock was
    /// released.
    fn adopt_changes(&self) -> Result<()> {
        let state = self.known();
        let Config { hooks, mounts, .. } = &state.config;
        let released = hooks.need_host_mounts()
            || !hooks.start_container.is_empty()
            || mounts.iter().any(has_commands);
        if released && let Some(stored) = State::read(self.directory.as_fd())? {
            self.change_state(|state| state.config = stored.config);
            self.drop_caches();
        }
        Ok(())
    }

    /// Writes the state with the identity and the namespaces of the running first process.
    pub(super) fn write_started(&self, identity: &Identity) -> Result<()> {
        self.change_state(|state| {
            state.set_first(identity);
            state.creating = false;
        });
        self.write_state()
    }
}

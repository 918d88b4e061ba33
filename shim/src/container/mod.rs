//! A container: its processes, limits and end.

mod children;
mod control;
mod end;
pub(crate) mod exec;
pub(crate) mod factory;
mod first;
mod hook;
mod park;
pub(crate) mod running;
pub(crate) mod start;
pub(crate) mod state;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pidone_config::{Code, Config, Error, Process, Result};
use pidone_host::cgroup::{self, Cgroups};
use pidone_host::net;
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::resolve::Filter;
use serde::Serialize;

use crate::container::exec::join::Join;
use crate::container::exec::running_init::RunningInit;
use crate::container::hook::Hooks;
use crate::container::running::Running;
use crate::container::state::journal::Journal;
use crate::container::state::lock::Lock;
use crate::container::state::{State, Version, sockets};
use crate::launch::image::Sealed;
use crate::launch::options::Options;
use crate::trace;

pub(crate) use park::Parked;

/// A container.
///
/// A value of this type is a handle: several processes may have one for the same container. What
/// changes the container is done under a lock of the container.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    directory: OwnedFd,
    state: State,
    /// The version of the file that `state` was read from, or written to.
    version: Option<Version>,
    filter: Filter,
    /// What is kept of its first process, for further ones.
    init: Option<RunningInit>,
    options: Options,
    /// The init of [`Options::image`], sealed.
    image: Option<Sealed>,
    /// What failed behind the end of the container.
    poststop: Vec<Error>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is made, and its first process waits for the start.
    Created,
    /// Its first process runs.
    Running,
    /// Its processes stand still.
    Paused,
    /// No process of it runs: it ended, or was not started.
    Destroyed,
}

/// What a container uses.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The interfaces, as the container sees them.
    #[serde(rename = "Interfaces")]
    pub interfaces: Vec<net::InterfaceStats>,
    /// What its cgroup counts.
    #[serde(rename = "CgroupStats")]
    pub cgroup: Option<cgroup::Stats>,
}

impl Container {
    /// Writes down a new container in its new directory.
    pub(crate) fn create(
        id: &str,
        path: PathBuf,
        directory: OwnedFd,
        config: Config,
        options: Options,
    ) -> Result<Self> {
        let _lock = Lock::take(directory.as_fd(), id)?;
        // The empty directory was taken for the rest of a container, removed, and made again by
        // somebody who was faster.
        if State::version(directory.as_fd()).is_some() {
            return Err(Error::in_use(id));
        }
        let network = network(&config, &path)?;
        let host_links: Vec<String> = network.host_links().map(str::to_owned).collect();
        let locate = || config.cgroups.as_ref().map(Cgroups::locate).transpose();
        let cgroups = trace::span("locate cgroups", locate)?;
        let cgroup_paths = cgroups.map(|cgroups| cgroups.paths().clone()).unwrap_or_default();
        let state = State {
            id: id.to_owned(),
            init_process_pid: 0,
            init_process_start: 0,
            boot_id: String::new(),
            cgroup_paths,
            namespace_paths: BTreeMap::new(),
            created: now(),
            host_links,
            dropped: DroppedPrivileges::default(),
            config,
        };
        let version = trace::span("write the state", || state.write_first(directory.as_fd()))?;
        Self::from_parts(path, directory, state, Some(version), options)
    }

    /// Finds a container by its directory.
    pub(crate) fn load(
        id: &str,
        path: PathBuf,
        directory: OwnedFd,
        options: Options,
    ) -> Result<Self> {
        // Before the state: one that is written in between is then read again.
        let version = State::version(directory.as_fd());
        let state = read_state(directory.as_fd(), id)?;
        Self::from_parts(path, directory, state, version, options)
    }

    fn from_parts(
        path: PathBuf,
        directory: OwnedFd,
        state: State,
        version: Option<Version>,
        options: Options,
    ) -> Result<Self> {
        let image = options.image.as_ref().map(Sealed::new).transpose()?;
        Ok(Self {
            path,
            directory,
            state,
            version,
            filter: Filter::default(),
            init: None,
            options,
            image,
            poststop: Vec::new(),
        })
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// The state, as in `state.json`.
    ///
    /// # Errors
    /// [`Code::ContainerNotExists`] if no process of the container runs.
    pub fn state(&self) -> Result<&State> {
        match self.status()? {
            Status::Destroyed => {
                Err(self.error(Code::ContainerNotExists, "state", "container destroyed"))
            }
            _ => Ok(&self.state),
        }
    }

    /// What the container does.
    ///
    /// # Errors
    /// [`Code::SystemError`] if the kernel cannot be asked.
    pub fn status(&self) -> Result<Status> {
        if self.open_init()?.is_none() {
            return Ok(Status::Destroyed);
        }
        let frozen = self.cgroups()?.map(|cgroups| cgroups.is_frozen()).transpose()?;
        Ok(match frozen {
            Some(true) => Status::Paused,
            _ if sockets::is_waiting(self.directory.as_fd()) => Status::Created,
            _ => Status::Running,
        })
    }

    /// The id of the first process in the caller's pid namespace; 0 if none was started. It may have
    /// ended.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.state.init_process_pid
    }

    /// When the container was made.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.state.created)
    }

    /// Starts a process: the first one if none runs, else a further one, which joins it.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] for what is wrong in the process, [`Code::ContainerPaused`], or
    /// [`Code::SystemError`] with the step that failed. Nothing is left behind then.
    pub fn start(&mut self, process: &Process) -> Result<Running> {
        if self.has_current_init() {
            return self.join(process);
        }
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        match self.open_init()? {
            Some(init) => {
                self.remember_init(init)?;
                // Others may join at the same time.
                drop(lock);
                self.join(process)
            }
            None if self.starts_in_two_steps() => {
                let mut running = self.prepare_first(process)?;
                if let Err(error) = self.release_first() {
                    let _ = running.wait();
                    let _ = self.clean_failed_start();
                    return Err(error);
                }
                Ok(running)
            }
            None => {
                let mut running = self.start_first(process, None)?;
                if let Err(error) = self.poststart() {
                    self.discard(&mut running);
                    return Err(error);
                }
                Ok(running)
            }
        }
    }

    /// Starts a further process, in a container that runs or was prepared.
    ///
    /// # Errors
    /// As [`Container::start`]; [`Code::ContainerNotRunning`] instead of a first process.
    pub fn exec(&mut self, process: &Process) -> Result<Running> {
        if !self.has_current_init() {
            let _lock = Lock::take(self.directory.as_fd(), self.id())?;
            self.refresh()?;
            let init = self.running_init("exec")?;
            self.remember_init(init)?;
        }
        self.join(process)
    }

    /// Whether the first process that is kept runs, as the state says that did not change. What is
    /// written down is written as a whole, so that this needs no lock.
    fn has_current_init(&self) -> bool {
        self.init.as_ref().is_some_and(|init| {
            let version = State::version(self.directory.as_fd());
            version.is_some() && version == self.version && init.is_current(&self.state)
        })
    }

    /// Keeps the first process, which runs.
    fn remember_init(&mut self, init: OwnedFd) -> Result<()> {
        let init = self
            .state
            .identity()
            .map(|identity| RunningInit::new(identity, init, self.cgroups()?.as_ref()));
        self.init = init.transpose()?;
        Ok(())
    }

    /// Makes everything of the container, its first process among it, whose program waits for
    /// [`Container::release`].
    ///
    /// # Errors
    /// As [`Container::start`]; [`Code::IdInUse`] if a process of the container runs.
    pub fn prepare(&mut self, process: &Process) -> Result<Running> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        if self.open_init()?.is_some() {
            return Err(self.error(Code::IdInUse, "create", "container is running"));
        }
        self.prepare_first(process)
    }

    /// Lets the program of a container's first process come.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if nothing waits; else the step that failed: the program cannot
    /// be executed, or a hook failed. The first process is gone then.
    pub fn release(&mut self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        self.release_first()
    }

    /// Runs the hooks behind the start.
    fn poststart(&self) -> Result<()> {
        self.hooks(None).poststart(self.state.init_process_pid)
    }

    /// The hooks of the container.
    fn hooks<'a>(&'a self, cgroups: Option<&'a Cgroups>) -> Hooks<'a> {
        Hooks {
            config: &self.state.config,
            id: self.id(),
            options: &self.options,
            image: self.image.as_ref(),
            cgroups,
        }
    }

    /// Starts a further process, where the first one is kept.
    fn join(&self, process: &Process) -> Result<Running> {
        let init = self.init.as_ref().ok_or_else(|| {
            self.error(Code::ContainerNotRunning, "exec", "container is not running")
        })?;
        let cgroups = self.cgroups()?;
        if !process.ignore_paused && init.is_frozen() {
            return Err(self.error(Code::ContainerPaused, "start", "container is paused"));
        }
        Join {
            config: &self.state.config,
            filter: &self.filter,
            process,
            options: &self.options,
            image: self.image.as_ref(),
            cgroups: cgroups.as_ref(),
            hooks: self.hooks(cgroups.as_ref()),
            pid: self.state.init_process_pid,
            init,
            dropped: self.state.dropped,
            directory: self.directory.as_fd(),
        }
        .start()
    }

    /// Writes the state.
    fn write_state(&mut self) -> Result<()> {
        let write = || self.state.write(self.directory.as_fd());
        self.version = Some(trace::span("write the state", write)?);
        Ok(())
    }

    /// Reads again what another process may have written.
    fn refresh(&mut self) -> Result<()> {
        let version = State::version(self.directory.as_fd());
        if version.is_none() || version != self.version {
            self.state = read_state(self.directory.as_fd(), self.id())?;
            self.version = version;
            self.drop_caches();
        }
        Ok(())
    }

    /// Forgets what was made of the configuration.
    fn drop_caches(&mut self) {
        self.filter = Filter::default();
        self.init = None;
    }

    /// The first process, if it runs.
    fn open_init(&self) -> Result<Option<OwnedFd>> {
        match self.state.identity() {
            Some(identity) => identity.open(),
            None => Ok(None),
        }
    }

    /// The first process, which must run.
    fn running_init(&self, verb: &'static str) -> Result<OwnedFd> {
        self.open_init()?
            .ok_or_else(|| self.error(Code::ContainerNotRunning, verb, "container is not running"))
    }

    /// The container's cgroups, if it has any.
    fn cgroups(&self) -> Result<Option<Cgroups>> {
        if self.state.cgroup_paths.is_empty() {
            return Ok(None);
        }
        Cgroups::from_paths(self.state.cgroup_paths.clone()).map(Some)
    }

    /// The container's cgroups, without which something cannot be done.
    fn cgroups_for(&self, verb: &'static str) -> Result<Cgroups> {
        self.cgroups()?
            .ok_or_else(|| self.error(Code::SystemError, verb, "container has no cgroup"))
    }

    fn error(&self, code: Code, verb: &'static str, reason: &'static str) -> Error {
        Error::reason(code, verb, self.id(), reason)
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Whom an interface on the host belongs to: ids are unique below one directory only.
fn owner(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// What is done to interfaces for the container in a directory.
fn network(config: &Config, path: &Path) -> Result<net::Plan> {
    let Config { networks, net_devices, routes, .. } = config;
    net::Plan::new(networks, net_devices, routes, &owner(path))
}

/// Reads a container's state; what it lacks comes from the journal, which is written first.
fn read_state(directory: BorrowedFd<'_>, id: &str) -> Result<State> {
    let state = State::read(directory).ok().flatten();
    let state = match state {
        Some(state) if state.init_process_pid > 0 => return Ok(state),
        state => state,
    };
    let journal = Journal::read(directory)?;
    // Without a state, or with a damaged one, enough is known to clean up.
    let mut state = state.unwrap_or_else(|| State {
        id: id.to_owned(),
        init_process_pid: 0,
        init_process_start: 0,
        boot_id: String::new(),
        cgroup_paths: journal.cgroups.unwrap_or_default(),
        namespace_paths: BTreeMap::new(),
        created: 0,
        host_links: journal.host_links,
        dropped: DroppedPrivileges::default(),
        config: Config::default(),
    });
    // A start that was interrupted may have left its process.
    if let Some(process) = journal.process {
        state.init_process_pid = process.pid;
        state.init_process_start = process.start;
        state.boot_id = process.boot;
    }
    Ok(state)
}

impl AsFd for Container {
    /// The directory of the container's state.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

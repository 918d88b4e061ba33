//! Containers: their creation, processes, limits and end.
//!
//! A [`Container`] is a handle for a directory below that of its [`Factory`](factory::Factory). The
//! directory holds `state.json`, a journal of what the container has on the host, and the sockets
//! of its init; its lock serializes changes.
//!
//! ```text
//! factory   creates, loads and lists containers       control   pause, signal, update, statistics
//! first     sets up the host for the first process    end       kill, destroy
//! start     compiles its plan and launches it         state     state.json, journal, lock, sockets
//! park      the same in two parts, for a pool         hook      OCI hooks, commands around mounts
//! exec      starts further processes                  children  waits for processes, reaps them
//! ```

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
use crate::container::first::Unreleased;
use crate::container::hook::Hooks;
use crate::container::running::Running;
use crate::container::state::journal::Journal;
use crate::container::state::lock::Lock;
use crate::container::state::{State, Version, is_containers, sockets};
use crate::launch::image::Sealed;
use crate::launch::options::Options;
use crate::trace;

pub(crate) use park::Parked;

/// A handle for a container.
///
/// [`Factory::create`](crate::Factory::create) and [`Factory::load`](crate::Factory::load) return
/// one. Several processes may have handles for the same container: methods that change it take its
/// lock. Dropping a handle neither stops nor removes the container.
///
/// ```no_run
/// use pidone::{Config, Factory, Options, Process};
///
/// # fn main() -> pidone::Result<()> {
/// let factory = Factory::new("/run/example", Options::default())?;
/// let mut container = factory.create("job", &Config::template("/srv/busybox".into()))?;
/// let args = ["/bin/sleep", "60"].map(String::from).into();
/// let mut running = container.start(&Process { args, ..Process::default() })?;
///
/// println!("processes {:?}", container.processes()?);
/// container.pause()?;
/// container.resume()?;
///
/// container.kill()?;
/// running.wait()?;
/// container.destroy()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    /// The directory of the state, at `path`.
    directory: OwnedFd,
    state: State,
    /// The version of the file that `state` was read from or written to.
    version: Option<Version>,
    /// The compiled seccomp filter, cached for further processes.
    filter: Filter,
    /// The first process, with caches for further ones, if this handle has used it.
    init: Option<RunningInit>,
    options: Options,
    /// The init of [`Options::image`] in a sealed memory file.
    image: Option<Sealed>,
    /// Errors of `poststop` hooks.
    poststop: Vec<Error>,
    /// Whether neither the state nor the journal says what there is on the host.
    is_damaged: bool,
}

/// The status of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its first process exists, but is not set up: hooks may run, and no process can join it.
    Creating,
    /// Its first process is set up and waits for [`Container::release`], or for `startContainer`
    /// hooks.
    Created,
    /// Its first process runs.
    Running,
    /// Its processes are suspended.
    Paused,
    /// Its first process has ended, or was not started.
    Destroyed,
}

/// The resource usage of a container.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Counters of its interfaces on the host, from the container's point of view.
    #[serde(rename = "Interfaces")]
    pub interfaces: Vec<net::InterfaceStats>,
    /// Counters of its cgroup; `None` without one.
    #[serde(rename = "CgroupStats")]
    pub cgroup: Option<cgroup::Stats>,
}

impl Container {
    /// Writes the state of a new container into its new directory.
    pub(crate) fn create(
        id: &str,
        path: PathBuf,
        directory: OwnedFd,
        config: Config,
        options: Options,
    ) -> Result<Self> {
        let _lock = Lock::take(directory.as_fd(), id)?;
        // Another process may have mistaken the empty directory for the remains of a container,
        // removed it, and created its own under the same id.
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
            creating: false,
            config,
        };
        let version = trace::span("write the state", || state.write_first(directory.as_fd()))?;
        Self::from_parts(path, directory, state, Some(version), options)
    }

    /// Reads the state of a container from its directory.
    pub(crate) fn load(
        id: &str,
        path: PathBuf,
        directory: OwnedFd,
        options: Options,
    ) -> Result<Self> {
        // Taken before the state is read: a state that is written in between is then read again.
        let version = State::version(directory.as_fd());
        if version.is_none() && !is_containers(directory.as_fd(), &path)? {
            // [`Container::destroy`] removes everything in the directory of a container.
            let reason = "container does not exist, and the directory is another's";
            return Err(Error::reason(Code::ContainerNotExists, "load", id, reason));
        }
        let (state, is_damaged) = read_state(directory.as_fd(), id)?;
        let container = Self::from_parts(path, directory, state, version, options)?;
        Ok(Self { is_damaged, ..container })
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
            is_damaged: false,
        })
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Whether the files that say which processes and cgroups the container has are damaged. Then
    /// [`Container::destroy`] removes nothing but them.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// Returns the state, as in `state.json`.
    ///
    /// # Errors
    /// [`Code::ContainerNotExists`] if the first process has ended or was not started.
    pub fn state(&self) -> Result<&State> {
        match self.status()? {
            Status::Destroyed => {
                Err(self.error(Code::ContainerNotExists, "state", "container destroyed"))
            }
            _ => Ok(&self.state),
        }
    }

    /// Returns the status, from the first process and the freezer of the cgroup.
    ///
    /// # Errors
    /// [`Code::SystemError`] if either cannot be read.
    pub fn status(&self) -> Result<Status> {
        if self.open_init()?.is_none() {
            return Ok(Status::Destroyed);
        }
        if self.is_being_created()? {
            return Ok(Status::Creating);
        }
        let frozen = self.cgroups()?.map(|cgroups| cgroups.is_frozen()).transpose()?;
        Ok(match frozen {
            Some(true) => Status::Paused,
            _ if self.waits_for_start() => Status::Created,
            _ => Status::Running,
        })
    }

    /// Returns the id of the first process in the caller's pid namespace, or 0 if none was started.
    /// The process may have ended.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.state.init_process_pid
    }

    /// Returns when the container was created.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.state.created)
    }

    /// Starts a process: the first one if none runs, otherwise a further one in the container.
    ///
    /// The first process gets new namespaces, a root and cgroups according to the configuration,
    /// and the container ends with it. The call returns when the program has been executed.
    ///
    /// ```no_run
    /// # use pidone::{Config, Factory, Options, Process, Stdio};
    /// # fn main() -> pidone::Result<()> {
    /// # let factory = Factory::new("/run/example", Options::default())?;
    /// # let mut container = factory.create("job", &Config::template("/srv/busybox".into()))?;
    /// let process = Process {
    ///     args: ["/bin/sh", "-c", "exec cat /etc/hostname"].map(String::from).into(),
    ///     env: vec!["PATH=/bin:/usr/bin".into()],
    ///     stdin: Stdio::Null,
    ///     stdout: Stdio::Pipe,
    ///     ..Process::default()
    /// };
    /// let mut running = container.start(&process)?;
    /// if let Some(stdout) = running.stdout.take() {
    ///     println!("{:?}", std::io::read_to_string(stdout));
    /// }
    /// println!("status {}", running.wait()?.status());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] for an invalid field of the process; [`Code::ContainerPaused`];
    /// [`Code::SystemError`] with the step that failed. A start that fails leaves nothing on the
    /// host.
    pub fn start(&mut self, process: &Process) -> Result<Running> {
        if self.has_current_init() {
            return self.join(process);
        }
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        match self.open_init()? {
            Some(init) => {
                self.check_created("start")?;
                self.remember_init(init)?;
                // Processes may join at the same time.
                drop(lock);
                self.join(process)
            }
            None if self.starts_in_two_steps(process) => {
                let mut running = self.prepare_first(process, &lock)?;
                if let Err(Unreleased { error, .. }) = self.release_first(&lock) {
                    let _ = running.wait();
                    let _ = self.clean_failed_start();
                    return Err(error);
                }
                Ok(running)
            }
            None => {
                let mut running = self.start_first(process, None, &lock)?;
                if let Err(error) = self.poststart(&lock) {
                    self.discard(&mut running);
                    return Err(error);
                }
                Ok(running)
            }
        }
    }

    /// Starts a further process in a container that runs or was prepared.
    ///
    /// A supervising init ([`Config::supervise`]) starts the process, if it can; otherwise a child
    /// of the caller joins the container's namespaces.
    ///
    /// ```no_run
    /// # use pidone::{Factory, Options, Process};
    /// # fn main() -> pidone::Result<()> {
    /// # let factory = Factory::new("/run/example", Options::default())?;
    /// let mut container = factory.load("web")?;
    /// let args = ["/bin/ps", "-ef"].map(String::from).into();
    /// let exit = container.exec(&Process { args, ..Process::default() })?.wait()?;
    /// assert_eq!(exit.status(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Container::start`], but [`Code::ContainerNotRunning`] if there is no first process.
    pub fn exec(&mut self, process: &Process) -> Result<Running> {
        if !self.has_current_init() {
            let _lock = Lock::take(self.directory.as_fd(), self.id())?;
            self.refresh()?;
            let init = self.running_init("exec")?;
            self.check_created("exec")?;
            self.remember_init(init)?;
        }
        self.join(process)
    }

    /// Whether `init` still runs and is the first process of the unchanged state.
    ///
    /// The state file is replaced as a whole, so no lock is needed.
    fn has_current_init(&self) -> bool {
        self.init.as_ref().is_some_and(|init| {
            let version = State::version(self.directory.as_fd());
            version.is_some() && version == self.version && init.is_current(&self.state)
        })
    }

    /// Stores the running first process, by its pidfd.
    fn remember_init(&mut self, init: OwnedFd) -> Result<()> {
        let init = self
            .state
            .identity()
            .map(|identity| RunningInit::new(identity, init, self.cgroups()?.as_ref()));
        self.init = init.transpose()?;
        Ok(())
    }

    /// Sets up the container and its first process, whose program waits for
    /// [`Container::release`]. This is `create` of the OCI runtime specification.
    ///
    /// # Errors
    /// As for [`Container::start`]; [`Code::IdInUse`] if the first process runs.
    pub fn prepare(&mut self, process: &Process) -> Result<Running> {
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        if self.open_init()?.is_some() {
            return Err(self.error(Code::IdInUse, "create", "container is running"));
        }
        self.prepare_first(process, &lock)
    }

    /// Executes the program of a first process that was set up by [`Container::prepare`]. This is
    /// `start` of the OCI runtime specification.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if the first process has ended; [`Code::ContainerNotStopped`]
    /// its program has been released before; otherwise the step that failed, such as a hook or
    /// the execution of the program. The first process has been killed then. If it was a hook, the
    /// container has been destroyed as by [`Container::destroy`]: OCI runtime specification,
    /// "Lifecycle", steps 7 and 9.
    pub fn release(&mut self) -> Result<()> {
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        self.release_first(&lock).map_err(|Unreleased { error, hook_failed }| {
            if !hook_failed || self.is_gone() {
                return error;
            }
            match self.destroy_locked() {
                Ok(()) => error,
                Err(left) => error.with_hint(format!("not cleaned up: {left}")),
            }
        })
    }

    /// Runs the `poststart` hooks.
    fn poststart(&self, lock: &Lock) -> Result<()> {
        let hooks = self.hooks(None);
        if hooks.config.hooks.poststart.is_empty() {
            return Ok(());
        }
        lock.released_for(|| hooks.poststart(self.state.init_process_pid))
    }

    /// Refuses what needs a container that is set up: until its root is entered, a process that
    /// joins it would see the host's.
    fn check_created(&self, verb: &'static str) -> Result<()> {
        if self.state.creating {
            let reason = "container is being created";
            return Err(self.error(Code::ContainerNotRunning, verb, reason));
        }
        Ok(())
    }

    /// Whether the first process exists but is not set up.
    fn is_being_created(&self) -> Result<bool> {
        // The creation may have ended since the state was read.
        Ok(self.state.creating && read_state(self.directory.as_fd(), self.id())?.0.creating)
    }

    /// Whether the program waits for the start, or for hooks that come before it.
    fn waits_for_start(&self) -> bool {
        let directory = self.directory.as_fd();
        sockets::is_waiting(directory) || sockets::is_starting(directory)
    }

    /// Whether the container's directory has been removed, and with it the container.
    fn is_gone(&self) -> bool {
        rustix::fs::fstat(&self.directory).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Returns the hooks of the container.
    fn hooks<'a>(&'a self, cgroups: Option<&'a Cgroups>) -> Hooks<'a> {
        Hooks {
            config: &self.state.config,
            id: self.id(),
            options: &self.options,
            image: self.image.as_ref(),
            cgroups,
        }
    }

    /// Starts a further process. The first one must be stored in `init`.
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

    /// Writes the state file.
    fn write_state(&mut self) -> Result<()> {
        let write = || self.state.write(self.directory.as_fd());
        self.version = Some(trace::span("write the state", write)?);
        Ok(())
    }

    /// Reads the state again if another process has written it.
    fn refresh(&mut self) -> Result<()> {
        let version = State::version(self.directory.as_fd());
        if version.is_none() || version != self.version {
            (self.state, self.is_damaged) = read_state(self.directory.as_fd(), self.id())?;
            self.version = version;
            self.drop_caches();
        }
        Ok(())
    }

    /// Drops what was derived from the configuration and the state.
    fn drop_caches(&mut self) {
        self.filter = Filter::default();
        self.init = None;
    }

    /// Returns a pidfd of the first process, if it runs.
    fn open_init(&self) -> Result<Option<OwnedFd>> {
        match self.state.identity() {
            Some(identity) => identity.open(),
            None => Ok(None),
        }
    }

    /// Returns a pidfd of the first process, or an error if it does not run.
    fn running_init(&self, verb: &'static str) -> Result<OwnedFd> {
        self.open_init()?
            .ok_or_else(|| self.error(Code::ContainerNotRunning, verb, "container is not running"))
    }

    /// Returns the container's cgroups, if it has any.
    fn cgroups(&self) -> Result<Option<Cgroups>> {
        if self.state.cgroup_paths.is_empty() {
            return Ok(None);
        }
        Cgroups::from_paths(self.state.cgroup_paths.clone()).map(Some)
    }

    /// Returns the container's cgroups, or an error if it has none.
    fn cgroups_for(&self, verb: &'static str) -> Result<Cgroups> {
        self.cgroups()?
            .ok_or_else(|| self.error(Code::SystemError, verb, "container has no cgroup"))
    }

    /// Returns an error about this container.
    fn error(&self, code: Code, verb: &'static str, reason: &'static str) -> Error {
        Error::reason(code, verb, self.id(), reason)
    }
}

/// Returns the current time in nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the owner that interfaces on the host are marked with: the path of the container's
/// directory, since ids are unique only below one factory's directory.
fn owner(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// Returns what has to be done to interfaces for the container in the directory `path`.
fn network(config: &Config, path: &Path) -> Result<net::Plan> {
    let Config { networks, net_devices, routes, .. } = config;
    net::Plan::new(networks, net_devices, routes, &owner(path))
}

/// Reads a container's state. What it lacks comes from the journal, which is written first. Returns
/// too whether neither of them says which processes and cgroups the container has.
fn read_state(directory: BorrowedFd<'_>, id: &str) -> Result<(State, bool)> {
    let read = State::read(directory);
    let state = match read {
        Ok(Some(state)) if state.init_process_pid > 0 => return Ok((state, false)),
        Ok(state) => state,
        Err(_) => None,
    };
    let whole = state.is_some();
    let journal = Journal::read(directory)?;
    let is_damaged = journal.is_damaged() && state.is_none();
    // A missing or damaged state is replaced by one that suffices to clean up.
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
        creating: false,
        config: Config::default(),
    });
    // An interrupted start may have left its process running.
    if let Some(process) = journal.process {
        state.set_first(&process);
        // The process is in the state once the container is created.
        state.creating = whole;
    }
    Ok((state, is_damaged))
}

impl AsFd for Container {
    /// Returns the directory of the container's state.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

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
//! running   handles for processes                     snapshot  what a handle knows
//! asynchronous   the handles for tokio
//! ```

#[cfg(feature = "tokio")]
pub(crate) mod asynchronous;
mod children;
mod control;
mod end;
pub(crate) mod exec;
pub(crate) mod factory;
mod first;
mod hook;
mod park;
pub(crate) mod running;
mod snapshot;
pub(crate) mod start;
pub(crate) mod state;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use pidone_config::{Code, Config, Error, Process, Result};
use pidone_host::cgroup::{self, Cgroups};
use pidone_host::net;
use pidone_plan::dropped::DroppedPrivileges;
use serde::Serialize;

use crate::container::exec::join::Join;
use crate::container::exec::running_init::RunningInit;
use crate::container::first::Unreleased;
use crate::container::hook::Hooks;
use crate::container::running::Running;
use crate::container::snapshot::{Snapshot, read_state};
use crate::container::state::lock::Lock;
use crate::container::state::{State, is_containers, sockets};
use crate::launch::image::Sealed;
use crate::launch::options::Options;
use crate::trace;

pub(crate) use park::Parked;
pub use snapshot::ConfigRef;

/// A handle for a container.
///
/// [`Factory::create`](crate::Factory::create) and [`Factory::load`](crate::Factory::load) return
/// one. Several threads may share a handle, and several processes may have handles for the same
/// container: methods that change it take its lock. Dropping a handle neither stops nor removes the
/// container.
///
/// ```no_run
/// use pidone::{Config, Factory, Options, Process};
///
/// # fn main() -> pidone::Result<()> {
/// let factory = Factory::new("/run/example", Options::default())?;
/// let mut container = factory.create("job", &Config::template("/srv/busybox".into()))?;
/// let args = ["/bin/sleep", "60"].map(Into::into).into();
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
    id: String,
    /// The directory of the state, at `path`.
    directory: OwnedFd,
    snapshot: Mutex<Snapshot>,
    options: Options,
    /// The init of [`Options::image`] in a sealed memory file.
    image: Option<Sealed>,
    /// Errors of `poststop` hooks.
    poststop: Mutex<Vec<Error>>,
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
        Self::from_parts(path, directory, Snapshot::new((state, false), Some(version)), options)
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
        let snapshot = Snapshot::new(read_state(directory.as_fd(), id)?, version);
        Self::from_parts(path, directory, snapshot, options)
    }

    fn from_parts(
        path: PathBuf,
        directory: OwnedFd,
        snapshot: Snapshot,
        options: Options,
    ) -> Result<Self> {
        let image = options.image.as_ref().map(Sealed::new).transpose()?;
        let id = snapshot.state.id.clone();
        Ok(Self {
            path,
            id,
            directory,
            snapshot: Mutex::new(snapshot),
            options,
            image,
            poststop: Mutex::default(),
        })
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the files that say which processes and cgroups the container has are damaged. Then
    /// [`Container::destroy`] removes nothing but them.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.snapshot().is_damaged
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> ConfigRef {
        ConfigRef::new(self.known())
    }

    /// Returns the state, as in `state.json`, at the time of the call.
    ///
    /// # Errors
    /// [`Code::ContainerNotExists`] if the first process has ended or was not started.
    pub fn state(&self) -> Result<Arc<State>> {
        match self.status()? {
            Status::Destroyed => {
                Err(self.error(Code::ContainerNotExists, "state", "container destroyed"))
            }
            _ => Ok(self.known()),
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
        self.known().init_process_pid
    }

    /// Returns when the container was created.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.known().created)
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
    /// # let container = factory.create("job", &Config::template("/srv/busybox".into()))?;
    /// let process = Process {
    ///     args: ["/bin/sh", "-c", "exec cat /etc/hostname"].map(Into::into).into(),
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
    pub fn start(&self, process: &Process) -> Result<Running> {
        if let Some(snapshot) = self.with_current_init() {
            return self.join(&snapshot, process);
        }
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        match self.open_init()? {
            Some(init) => {
                self.check_created("start")?;
                let snapshot = self.remember_init(init)?;
                // Processes may join at the same time.
                drop(lock);
                self.join(&snapshot, process)
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
    /// let container = factory.load("web")?;
    /// let args = ["/bin/ps", "-ef"].map(Into::into).into();
    /// let exit = container.exec(&Process { args, ..Process::default() })?.wait()?;
    /// assert_eq!(exit.status(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Container::start`], but [`Code::ContainerNotRunning`] if there is no first process.
    pub fn exec(&self, process: &Process) -> Result<Running> {
        if let Some(snapshot) = self.with_current_init() {
            return self.join(&snapshot, process);
        }
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        let init = self.running_init("exec")?;
        self.check_created("exec")?;
        let snapshot = self.remember_init(init)?;
        // Processes may join at the same time.
        drop(lock);
        self.join(&snapshot, process)
    }

    /// Returns the snapshot if its first process still runs and the state is unchanged.
    ///
    /// The state file is replaced as a whole, so no lock is needed.
    fn with_current_init(&self) -> Option<Snapshot> {
        let snapshot = self.snapshot().clone();
        let init = snapshot.init.as_ref()?;
        let version = State::version(self.directory.as_fd());
        let is_current =
            version.is_some() && version == snapshot.version && init.is_current(&snapshot.state);
        is_current.then_some(snapshot)
    }

    /// Stores the running first process, by its pidfd.
    fn remember_init(&self, init: OwnedFd) -> Result<Snapshot> {
        let identity = self.known().identity();
        let init = identity
            .map(|identity| RunningInit::new(identity, init, self.cgroups()?.as_ref()))
            .transpose()?;
        let mut snapshot = self.snapshot();
        snapshot.init = init.map(Arc::new);
        Ok(snapshot.clone())
    }

    /// Sets up the container and its first process, whose program waits for
    /// [`Container::release`]. This is `create` of the OCI runtime specification.
    ///
    /// # Errors
    /// As for [`Container::start`]; [`Code::IdInUse`] if the first process runs.
    pub fn prepare(&self, process: &Process) -> Result<Running> {
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
    /// if its program has been released before; otherwise the step that failed, such as a hook or
    /// the execution of the program. The first process has been killed then. If it was a hook, the
    /// container has been destroyed as by [`Container::destroy`]: OCI runtime specification,
    /// "Lifecycle", steps 7 and 9.
    pub fn release(&self) -> Result<()> {
        let lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        self.release_first(&lock).map_err(|Unreleased { error, hook_failed }| {
            if !hook_failed || matches!(self.exists(), Ok(false)) {
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
        let state = self.known();
        if state.config.hooks.poststart.is_empty() {
            return Ok(());
        }
        let run = || self.hooks(&state, None).poststart(state.init_process_pid);
        lock.released_for(run)
    }

    /// Refuses what needs a container that is set up: until its root is entered, a process that
    /// joins it would see the host's.
    fn check_created(&self, verb: &'static str) -> Result<()> {
        if self.known().creating {
            let reason = "container is being created";
            return Err(self.error(Code::ContainerNotRunning, verb, reason));
        }
        Ok(())
    }

    /// Whether the first process exists but is not set up.
    fn is_being_created(&self) -> Result<bool> {
        // The creation may have ended since the state was read.
        Ok(self.known().creating && read_state(self.directory.as_fd(), self.id())?.0.creating)
    }

    /// Whether the program waits for the start, or for hooks that come before it.
    fn waits_for_start(&self) -> bool {
        let directory = self.directory.as_fd();
        sockets::is_waiting(directory) || sockets::is_starting(directory)
    }

    /// Whether the container has not been destroyed: its directory is removed last.
    fn exists(&self) -> Result<bool> {
        rustix::fs::fstat(&self.directory)
            .map(|stat| stat.st_nlink > 0)
            .map_err(|errno| Error::system("stat", self.id(), errno))
    }

    /// Returns the hooks of the container.
    fn hooks<'a>(&'a self, state: &'a State, cgroups: Option<&'a Cgroups>) -> Hooks<'a> {
        Hooks {
            config: &state.config,
            id: self.id(),
            options: &self.options,
            image: self.image.as_ref(),
            cgroups,
        }
    }

    /// Starts a further process. The first one must be stored in `snapshot`.
    fn join(&self, snapshot: &Snapshot, process: &Process) -> Result<Running> {
        let Snapshot { state, filter, .. } = snapshot;
        let init = snapshot.init.as_deref().ok_or_else(|| {
            self.error(Code::ContainerNotRunning, "exec", "container is not running")
        })?;
        let cgroups = self.cgroups()?;
        if !process.ignore_paused && init.is_frozen() {
            return Err(self.error(Code::ContainerPaused, "start", "container is paused"));
        }
        Join {
            config: &state.config,
            filter,
            process,
            options: &self.options,
            image: self.image.as_ref(),
            cgroups: cgroups.as_ref(),
            hooks: self.hooks(state, cgroups.as_ref()),
            pid: state.init_process_pid,
            init,
            dropped: state.dropped,
            directory: self.directory.as_fd(),
        }
        .start()
    }

    /// Changes the state in memory. The caller must hold the lock.
    fn change_state(&self, change: impl FnOnce(&mut State)) {
        change(Arc::make_mut(&mut self.snapshot().state));
    }

    /// Writes the state file. The caller must hold the lock.
    fn write_state(&self) -> Result<()> {
        let state = self.known();
        let write = || state.write(self.directory.as_fd());
        let version = trace::span("write the state", write)?;
        self.snapshot().version = Some(version);
        Ok(())
    }

    /// Reads the state again if another process has written it. The caller must hold the lock.
    fn refresh(&self) -> Result<()> {
        let version = State::version(self.directory.as_fd());
        if version.is_none() || version != self.snapshot().version {
            let read = read_state(self.directory.as_fd(), self.id())?;
            *self.snapshot() = Snapshot::new(read, version);
        }
        Ok(())
    }

    /// Drops what was derived from the configuration and the state.
    fn drop_caches(&self) {
        let mut snapshot = self.snapshot();
        (snapshot.filter, snapshot.init) = (Arc::default(), None);
    }

    /// Returns the state as this handle knows it.
    fn known(&self) -> Arc<State> {
        Arc::clone(&self.snapshot().state)
    }

    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        // Each field is consistent between statements, so a panic in another thread does no harm.
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a pidfd of the first process, if it runs.
    fn open_init(&self) -> Result<Option<OwnedFd>> {
        match self.known().identity() {
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
        let state = self.known();
        if state.cgroup_paths.is_empty() {
            return Ok(None);
        }
        let scope = state.config.cgroups.as_ref().map_or(Ok(None), cgroup::Scope::of)?;
        Ok(Some(Cgroups::from_paths(state.cgroup_paths.clone())?.with_scope(scope)))
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

impl AsFd for Container {
    /// Returns the directory of the container's state.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

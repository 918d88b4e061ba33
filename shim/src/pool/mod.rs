//! Keeps containers ready and runs programs in them.
//!
//! Most of a start does not depend on the program: namespaces, cgroup, mounts, root, devices,
//! masks, the seccomp filter. A [`Pool`] does this in advance, for one configuration. A start takes
//! a ready container, sends its init the rest of the plan with the program's descriptors in one
//! message, and waits for the exec. It reads and writes nothing on the host. Each container runs
//! one program and is then removed.
//!
//! Nothing that a program writes comes to the next one. Where the root is writable, each container
//! has a private layer over it in memory ([`Config::volatile_root`]), which ends with the container
//! and counts as its memory. An ordinary user, who cannot make one, needs a read-only root. Mounts
//! of the configuration are as it says: a writable directory of the host is shared.
//!
//! With an init that stays ([`Config::supervise`]), a ready container has its init, which starts
//! the program as a child when it comes, and further processes later.
//!
//! A ready container is recorded like any other, before anything is created for it: it is in the
//! factory's directory under an id that begins with `pool-`, and its status is running. Its init
//! ends when its owner does, and so does the program that it has become. What a killed owner leaves
//! on the host is removed by the next pool in the same directory, or by
//! [`Container::destroy`](crate::Container::destroy).

mod key;
mod lease;
mod manager;
mod owner;
mod program;
mod ready_queue;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use lease::Lease;
pub use ready_queue::Status;

use crate::container::factory::Factory;
use manager::PoolManager;
use pidone_config::config::{Cgroup, Config};
use pidone_config::error::{Error, Result};
use pidone_config::process::Process;

/// The most containers that a pool keeps ready. Each takes three descriptors, a few dozen KiB for
/// the init, and the kernel's memory for its namespaces.
pub const LARGEST: usize = 1024;

/// The number of containers that a pool keeps ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The number of containers after a refill: 1 to [`LARGEST`].
    pub size: usize,
    /// A refill begins when fewer are ready: 1 to `size`. With a value far below `size`, refills
    /// are rarer and come in bursts.
    pub low: usize,
}

impl Sizes {
    /// Returns a size of `size`, with a refill when half of the containers are taken.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { size, low: size.div_ceil(2) }
    }

    fn check(self) -> Result<()> {
        let Self { size, low } = self;
        if !(1..=LARGEST).contains(&size) {
            return Err(Error::config("size", size, "must be from 1 to 1024"));
        }
        if !(1..=size).contains(&low) {
            return Err(Error::config("low", low, "must be from 1 to the size"));
        }
        Ok(())
    }
}

/// Ready containers of one configuration.
///
/// Many threads may use a pool at a time. When it is dropped, the ready containers are removed;
/// programs that run are not affected.
///
/// ```no_run
/// use std::path::Path;
///
/// use pidone::pool::{Pool, Sizes};
/// use pidone::{Config, Factory, Options, Process};
///
/// # fn main() -> pidone::Result<()> {
/// let factory = Factory::new("/run/example", Options::default())?;
/// let config = Config::embedded(Path::new("/"))?;
/// let pool = Pool::new(&factory, &config, Process::default(), Sizes::new(8))?;
/// let args = ["/bin/sh", "-c", "echo hello from $$"].map(Into::into).into();
/// let mut lease = pool.start(&Process { args, ..Process::default() })?;
/// println!("warm: {}, status {}", lease.is_warm(), lease.wait()?.status());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    manager: Arc<PoolManager>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Creates a pool and begins to fill it in the background.
    ///
    /// All containers have the configuration `config`, except that the last component of the
    /// cgroup's path is the container's id, and that the parent-death signal is `SIGKILL` if it has
    /// none. `model` is a process like those that will be started: its capabilities, labels,
    /// terminal and OOM score adjustment are set in advance, and also its user and groups if it is
    /// root. Its program and its descriptors are not used. An image of
    /// [`Options::image`](crate::Options::image) must implement
    /// [`Op::Stdio`](pidone_proto::Op::Stdio) and [`Op::Descriptor`](pidone_proto::Op::Descriptor).
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) for an invalid configuration,
    /// for one that several containers cannot share, since it names addresses or interfaces of the
    /// host or has a writable root that an ordinary user can put no layer over;
    /// [`Code::SystemError`](pidone_config::Code::SystemError) if the host refuses a thread or a
    /// cgroup, or if the containers of the factory cannot be listed.
    pub fn new(factory: &Factory, config: &Config, model: Process, sizes: Sizes) -> Result<Self> {
        Self::with_manager(PoolManager::new(factory, config, Some(model), sizes)?, sizes)
    }

    /// Creates a pool of containers that only have their namespaces, cgroup and network. The root
    /// comes with the program: [`Pool::start_in`].
    ///
    /// A start takes longer than with a root that is set up in advance. But one pool serves all
    /// configurations with the same namespaces, id maps, network, labels, and cgroup parent and
    /// limits.
    ///
    /// # Errors
    /// As [`Pool::new`], and [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) for one
    /// with [`Config::supervise`].
    pub fn without_root(factory: &Factory, config: &Config, sizes: Sizes) -> Result<Self> {
        Self::with_manager(PoolManager::new(factory, config, None, sizes)?, sizes)
    }

    fn with_manager(manager: PoolManager, sizes: Sizes) -> Result<Self> {
        let manager = Arc::new(manager);
        let mut pool = Self { manager, threads: Vec::new() };
        // One processor is left to the threads that start programs.
        let processors = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors.saturating_sub(1).clamp(1, sizes.size) {
            pool.spawn("pidone-refill", PoolManager::refill)?;
        }
        pool.spawn("pidone-remove", PoolManager::remove_used)?;
        Ok(pool)
    }

    fn spawn(&mut self, name: &'static str, work: fn(&PoolManager)) -> Result<()> {
        let manager = Arc::clone(&self.manager);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&manager))
            .map_err(|error| Error::system("start a thread", name, error))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Starts a program in a ready container. If none is ready, or if none would be like a new
    /// container for this process, it is started in a new one. [`Lease::is_warm`] has which.
    ///
    /// A ready container does not suit a process that differs from the model in what was set in
    /// advance: labels, a larger bounding set, another OOM score adjustment; with a seccomp filter
    /// also a terminal or scheduling; with an init that stays also a terminal with
    /// [`Process::keep_newlines`], an agent of the filter, or a `startContainer` hook.
    ///
    /// # Errors
    /// As [`Container::start`](crate::Container::start).
    pub fn start(&self, process: &Process) -> Result<Lease> {
        PoolManager::start(&self.manager, process)
    }

    /// Starts a program with this configuration, whose root and other settings a pool of
    /// [`Pool::without_root`] leaves open. In a pool of [`Pool::new`], the configuration must be
    /// the pool's.
    ///
    /// The program is started in a new container if hooks or commands around mounts must run, or if
    /// the process has an OOM score adjustment.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) with the field that differs from
    /// the pool's; otherwise as [`Pool::start`].
    pub fn start_in(&self, config: &Config, process: &Process) -> Result<Lease> {
        PoolManager::start_in(&self.manager, config, process)
    }

    /// Starts a program as [`Pool::start`], with other limits of the cgroup than those of the
    /// pool's configuration, which `change` gets.
    ///
    /// ```no_run
    /// # use pidone::pool::{Lease, Pool};
    /// # use pidone::{Process, Result};
    /// fn run(pool: &Pool, process: &Process) -> Result<Lease> {
    ///     pool.start_with_limits(process, |limits| limits.max_memory(64 << 20).max_pids(8))
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) if a limit is invalid, if the
    /// pool's containers have no cgroup, or if it is one of [`Pool::without_root`], to which
    /// limits belong; otherwise as [`Pool::start`].
    pub fn start_with_limits(
        &self,
        process: &Process,
        change: impl FnOnce(Cgroup) -> Cgroup,
    ) -> Result<Lease> {
        PoolManager::start_with_limits(&self.manager, process, change)
    }

    /// Starts several programs, about as many at a time as there are processors. The results are in
    /// the order of `processes`.
    pub fn start_all(&self, processes: &[Process]) -> Vec<Result<Lease>> {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut started = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(process) = processes.get(index) else { return started };
                started.push((index, self.start(process)));
            }
        };
        let mut all = thread::scope(|scope| {
            let others: Vec<_> =
                (1..processors.min(processes.len())).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for other in others {
                all.extend(other.join().unwrap_or_default());
            }
            all
        });
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, started)| started).collect()
    }

    /// Refills the pool, and waits until it is full.
    ///
    /// # Errors
    /// The error of a container that could not be created;
    /// [`Code::SystemError`](pidone_config::Code::SystemError) with `ETIMEDOUT` if the pool is not
    /// full after `timeout`.
    pub fn wait_until_full(&self, timeout: Duration) -> Result<()> {
        self.manager.wait_until_full(timeout)
    }

    /// Returns the state and the counters of the pool.
    #[must_use]
    pub fn status(&self) -> Status {
        self.manager.status()
    }

    /// Removes all ready containers, and stops refilling. Until [`Pool::resume`], programs are
    /// started in new containers.
    ///
    /// # Errors
    /// The error of the first container that could not be removed. The next pool in the directory
    /// tries again.
    pub fn drain(&self) -> Result<()> {
        self.manager.drain()
    }

    /// Refills a drained pool again.
    pub fn resume(&self) {
        self.manager.resume();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.manager.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // Containers that cannot be removed stay for the next pool.
        let _ = self.manager.drain();
    }
}

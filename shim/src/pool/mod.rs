//! A warm pool: containers whose inits wait for their program.
//!
//! Nearly all of a start does not depend on the program: namespaces, cgroup, mounts, root, devices,
//! masks, the seccomp filter. A [`Pool`] has done that ahead, for one configuration, as often as it
//! has room for; a start takes one of those containers, sends its init the rest of the plan with the
//! program's descriptors in one message, and waits for the exec. Nothing is read or written on the
//! host meanwhile. A container is used once, with its namespaces, and never given back.
//!
//! What a parked container has is written down as for any other, before it is made: it is in the
//! factory's directory under an id that begins with `pool-`, and runs for those who look there. Its
//! init ends when its owner does, and so does the program that it became. What a killed owner has
//! left on the host is removed by the next pool in the same directory, or by
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
use pidone_config::config::Config;
use pidone_config::error::{Error, Result};
use pidone_config::process::Process;

/// The most containers that a pool keeps ready. Each has three descriptors and an init of a few
/// dozen KiB, and the kernel's part of its namespaces.
pub const LARGEST: usize = 1024;

/// How many containers a pool keeps ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// As many are ready after a refill: 1 to [`LARGEST`].
    pub size: usize,
    /// A refill begins when fewer are ready: 1 to `size`. Far below it, refills are rarer and come
    /// in bursts.
    pub low: usize,
}

impl Sizes {
    /// So many, refilled when half of them are taken.
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

/// Containers of one configuration that wait for their programs.
///
/// A handle may be used by many threads at a time. Dropped, it ends what waits, and leaves alone
/// what runs.
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
/// let args = ["/bin/sh", "-c", "echo hello from $$"].map(String::from).into();
/// let mut lease = pool.start(&Process { args, ..Process::default() })?;
/// println!("warm: {}, status {}", lease.is_warm(), lease.wait()?.status());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    keeper: Arc<PoolManager>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Makes a pool and begins to fill it in the background.
    ///
    /// `config` is that of every container, but for the last component of the cgroup's path, which
    /// is the container's id, and the parent-death signal, which is `SIGKILL` if there is none.
    /// `model` is a process like those that will be started: what its capabilities, labels,
    /// terminal and OOM score are is done ahead, and its user and groups if they are root's. Its
    /// program is not looked at, nor are its descriptors. An image of [`Options::image`](crate::Options::image) must know
    /// [`Op::Stdio`](pidone_proto::Op::Stdio) and [`Op::Descriptor`](pidone_proto::Op::Descriptor).
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) for a configuration of which there can
    /// be one container only, since it names interfaces of the host or addresses;
    /// [`Code::SystemError`](pidone_config::Code::SystemError).
    pub fn new(factory: &Factory, config: &Config, model: Process, sizes: Sizes) -> Result<Self> {
        Self::of(PoolManager::new(factory, config, Some(model), sizes)?, sizes)
    }

    /// Makes a pool of containers that have their namespaces, cgroup and network, and nothing
    /// inside: the root is told with the program, by [`Pool::start_in`]. A start costs more than with
    /// a root that is known, and one pool does for all configurations that agree in what was made
    /// ahead: namespaces, id maps, network, place and limits of the cgroup, labels.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn without_root(factory: &Factory, config: &Config, sizes: Sizes) -> Result<Self> {
        Self::of(PoolManager::new(factory, config, None, sizes)?, sizes)
    }

    fn of(keeper: PoolManager, sizes: Sizes) -> Result<Self> {
        let keeper = Arc::new(keeper);
        let mut pool = Self { keeper, threads: Vec::new() };
        // One processor is left to those who start programs.
        let processors = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors.saturating_sub(1).clamp(1, sizes.size) {
            pool.spawn("pidone-refill", PoolManager::refill)?;
        }
        pool.spawn("pidone-remove", PoolManager::remove)?;
        Ok(pool)
    }

    fn spawn(&mut self, name: &'static str, work: fn(&PoolManager)) -> Result<()> {
        let keeper = Arc::clone(&self.keeper);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&keeper))
            .map_err(|error| Error::system("start a thread", name, error))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Starts a program in a container that waits, or in a new one if none does or none that does
    /// would be like a new one: [`Lease::is_warm`] tells.
    ///
    /// What differs from the model in a way that was done ahead is such a reason: labels, more in
    /// the bounding set, another OOM score; with a seccomp filter also a terminal or scheduling.
    ///
    /// # Errors
    /// As [`Container::start`](crate::Container::start).
    pub fn start(&self, process: &Process) -> Result<Lease> {
        PoolManager::start(&self.keeper, process)
    }

    /// Starts a program with a root and all else that the pool left open. In a pool whose containers
    /// have their root, the configuration must be the pool's.
    ///
    /// Where hooks or commands around mounts have to run, or the OOM score is another, the start is
    /// cold.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) with the field that is not the same as
    /// the pool's; else as [`Pool::start`].
    pub fn start_in(&self, config: &Config, process: &Process) -> Result<Lease> {
        PoolManager::start_in(&self.keeper, config, process)
    }

    /// Starts several programs, about as many at a time as there are processors; the results are in
    /// the order of the processes.
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
    /// Why a container could not be made; `ETIMEDOUT` if it takes longer than that.
    pub fn wait_until_full(&self, timeout: Duration) -> Result<()> {
        self.keeper.wait_until_full(timeout)
    }

    /// What the pool has, and had.
    #[must_use]
    pub fn status(&self) -> Status {
        self.keeper.status()
    }

    /// Ends all containers that wait, and refills no more: starts are cold from here on, until
    /// [`Pool::resume`].
    ///
    /// # Errors
    /// The first container that could not be removed: the next pool in the directory tries it
    /// again.
    pub fn drain(&self) -> Result<()> {
        self.keeper.drain()
    }

    /// Refills a drained pool again.
    pub fn resume(&self) {
        self.keeper.resume();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.keeper.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // What cannot be removed stays for the next pool.
        let _ = self.keeper.drain();
    }
}

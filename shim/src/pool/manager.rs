//! The work of a pool: it starts programs, refills, checks the ready containers, and removes the
//! used ones.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pidone_config::config::{Cgroup, NamespaceType};
use pidone_config::{Config, Error, Process, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::deadline::after;
use pidone_host::{lsm, privilege};
use pidone_plan::Plan;
use rustix::io::Errno;
use rustix::process::{Signal, getpriority_process, setpriority_process};

use super::key::{Key, needs_host};
use super::lease::{Lease, UsedContainer};
use super::owner::Owner;
use super::program::Programs;
use super::ready_queue::{ReadyContainer, ReadyQueue};
use super::{Sizes, Status};
use crate::container::Container;
use crate::container::factory::Factory;
use crate::container::running::Running;
use crate::container::start::facts::Stage;
use crate::launch;
use crate::launch::options::Strategy;

/// The time between two checks of the ready containers.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How much the nice value of the pool's threads is above the caller's: `setpriority(2)`.
const NICER: i32 = 10;

/// The most used containers that may wait for their removal. Callers with further ones remove them
/// themselves.
const MAX_WAITING: usize = 256;

/// The state of a pool, which its threads and leases share.
#[derive(Debug)]
pub(super) struct PoolManager {
    factory: Factory,
    config: Config,
    process: Process,
    owner: Owner,
    /// Compiles the second stages of plans; `None` if the root is not known ahead either.
    programs: Option<Programs>,
    /// The key of the containers. Other configurations must have the same one.
    key: Key,
    /// A container without processes, if directories above the cgroups were missing. It creates
    /// them, so that they exist as long as the pool does, and are removed with its last container.
    anchor: Option<Container>,
    queue: Mutex<ReadyQueue>,
    /// Notified when the queue changes.
    changed: Condvar,
    removals: Mutex<Removals>,
    /// Notified when a container waits for its removal, and when the pool ends.
    removal_wanted: Condvar,
}

/// The used containers that are not removed yet.
#[derive(Debug, Default)]
struct Removals {
    waiting: VecDeque<UsedContainer>,
    /// The number of containers that are being removed.
    removing: usize,
    /// Whether the pool ends, and no thread removes containers any more.
    closed: bool,
    /// Why the last container could not be removed.
    error: Option<Error>,
}

impl PoolManager {
    pub(super) fn new(
        factory: &Factory,
        config: &Config,
        model: Option<Process>,
        sizes: Sizes,
    ) -> Result<Self> {
        sizes.check()?;
        let config = pool_config(config)?;
        if config.supervise && model.is_none() {
            let reason = "an init that waits for its root becomes the program, and cannot stay";
            return Err(Error::config("supervise", true, reason));
        }
        let owner = Owner::current()?;
        owner.sweep(factory)?;
        // The threads of the pool have a low priority, which the clone threads must not inherit.
        launch::start_clone_threads(factory.options().strategy != Strategy::Host);
        let mut manager = Self {
            anchor: None,
            factory: factory.clone(),
            programs: model.as_ref().map(|model| Programs::new(&config, model)).transpose()?,
            key: Key::new(&config),
            config,
            process: model.unwrap_or_default(),
            owner,
            queue: Mutex::new(ReadyQueue::new(sizes)),
            changed: Condvar::new(),
            removals: Mutex::default(),
            removal_wanted: Condvar::new(),
        };
        let (_, config) = manager.new_container_config();
        if config.cgroups.as_ref().is_some_and(|cgroup| cgroup.systemd) {
            let reason = "a pool makes its cgroups itself, below the cgroup of its caller";
            return Err(Error::config("cgroups.systemd", true, reason)
                .with_hint("start the pool in a scope, by systemd-run --scope -p Delegate=yes"));
        }
        let cgroups = config.cgroups.as_ref().map(Cgroups::locate).transpose()?;
        if cgroups.is_some_and(|cgroups| !cgroups.missing_parents().is_empty()) {
            let (id, config) = manager.new_container_config();
            manager.anchor.insert(factory.create(&id, &config)?).hold()?;
        }
        Ok(manager)
    }

    /// Starts a program, in a ready container if there is one and it suits the program.
    pub(super) fn start(this: &Arc<Self>, process: &Process) -> Result<Lease> {
        let Some(programs) = &this.programs else {
            return Self::start_in(this, &this.config, process);
        };
        if let Some((ReadyContainer { container, parked }, plan)) =
            this.take_for(programs, process)?
        {
            let started = container.assign(parked, process, &plan);
            return Self::lend(this, container, started);
        }
        Self::start_cold(this, &this.config, process)
    }

    /// Starts a program, with other limits than those of the configuration.
    pub(super) fn start_with_limits(
        this: &Arc<Self>,
        process: &Process,
        change: impl FnOnce(Cgroup) -> Cgroup,
    ) -> Result<Lease> {
        let mut config = this.config.clone();
        let refuse = |reason| Error::config("cgroups", "", reason);
        let limits = config.cgroups.take().ok_or_else(|| refuse("the pool's have none"))?;
        config.cgroups = Some(change(limits));
        config.validate()?;
        let programs = this.programs.as_ref();
        let programs = programs.ok_or_else(|| refuse("are those of the pool"))?;
        if let Some((ReadyContainer { mut container, parked }, plan)) =
            this.take_for(programs, process)?
        {
            let config = with_id(&config, container.id());
            if let Err(error) = container.set(&config) {
                this.discard(ReadyContainer { container, parked });
                return Err(error);
            }
            let started = container.assign(parked, process, &plan);
            return Self::lend(this, container, started);
        }
        Self::start_cold(this, &config, process)
    }

    /// Starts a program in a container with the root of this configuration.
    pub(super) fn start_in(this: &Arc<Self>, config: &Config, process: &Process) -> Result<Lease> {
        let config = pool_config(config)?;
        if this.programs.is_some() {
            if config == this.config {
                return Self::start(this, process);
            }
            let reason = "not the same as the pool's, whose containers have their root";
            return Err(Error::config("the whole configuration", "", reason));
        }
        this.key.check(&Key::new(&config))?;
        config.check_host()?;
        lsm::check_host(&config)?;
        if !needs_host(&config, process)
            && let Some(ReadyContainer { container, parked }) = this.take()
        {
            let config = with_id(&config, container.id());
            let started = container.configure(parked, config, process);
            return Self::lend(this, container, started);
        }
        Self::start_cold(this, &config, process)
    }

    /// Takes a ready container whose init can become a process, and returns the plan for that.
    fn take_for(
        &self,
        programs: &Programs,
        process: &Process,
    ) -> Result<Option<(ReadyContainer, Arc<Plan>)>> {
        if let Some(root) = programs.root() {
            let Some(plan) = programs.plan(process, root)? else { return Ok(None) };
            return Ok(self.take().map(|ready| (ready, plan)));
        }
        let Some(ready) = self.take() else { return Ok(None) };
        // Without the right to look there, a new container is as good: the host has its root.
        let plan = match ready.parked.root() {
            Ok(root) => programs.plan(process, root.as_fd()),
            Err(_) => Ok(None),
        };
        if let Ok(Some(plan)) = plan {
            return Ok(Some((ready, plan)));
        }
        if let Some(unwanted) = self.queue().put_back(ready)
            && let Err(error) = unwanted.end()
        {
            self.removals().error = Some(error);
        }
        plan.map(|_| None)
    }

    /// Takes a ready container whose init still waits.
    fn take(&self) -> Option<ReadyContainer> {
        loop {
            let ready = self.queue().take()?;
            if ready.parked.waits() {
                return Some(ready);
            }
            self.discard(ready);
        }
    }

    /// Returns the lease of a container that was ready, if its program was started.
    fn lend(this: &Arc<Self>, mut container: Container, started: Result<Running>) -> Result<Lease> {
        this.queue().warm += u64::from(started.is_ok());
        this.refill_if_low();
        match started {
            Ok(running) => Ok(Lease::new(container, running, true, None, this)),
            Err(error) => {
                // The error of the start is reported, not one of the cleanup.
                let _ = container.destroy();
                Err(error)
            }
        }
    }

    /// Starts a program in a new container.
    fn start_cold(this: &Arc<Self>, config: &Config, process: &Process) -> Result<Lease> {
        let error = {
            let mut queue = this.queue();
            queue.cold += 1;
            queue.error().cloned()
        };
        this.refill_if_low();
        let id = this.owner.new_id();
        let mut container = this.factory.create(&id, &with_id(config, &id))?;
        match container.start(process) {
            Ok(running) => Ok(Lease::new(container, running, false, error, this)),
            Err(error) => {
                let _ = container.destroy();
                Err(error)
            }
        }
    }

    /// Returns the id and the configuration of a new container.
    fn new_container_config(&self) -> (String, Config) {
        let id = self.owner.new_id();
        let config = with_id(&self.config, &id);
        (id, config)
    }

    /// Creates a container whose init waits for its program.
    fn make_container(&self) -> Result<ReadyContainer> {
        let (id, config) = self.new_container_config();
        let mut container = self.factory.create(&id, &config)?;
        let stage = match &self.programs {
            Some(programs) => Stage::Model(programs.model()),
            None => Stage::Entrance,
        };
        match container.park(stage, &self.process) {
            Ok(parked) => Ok(ReadyContainer { container, parked }),
            Err(error) => {
                let _ = container.destroy();
                Err(error)
            }
        }
    }

    /// Creates containers whenever they are wanted, and checks the ready ones. Runs in a thread,
    /// until the pool ends.
    pub(super) fn refill(&self) {
        lower_priority();
        let mut checked = Instant::now();
        loop {
            let mut queue = self.queue();
            if queue.stopped {
                return;
            }
            if queue.begin() {
                drop(queue);
                let made = self.make_container();
                let unwanted = self.queue().made(made);
                self.changed.notify_all();
                if let Some(Err(error)) = unwanted.map(ReadyContainer::end) {
                    self.removals().error = Some(error);
                }
            } else if checked.elapsed() >= CHECK_INTERVAL {
                drop(queue);
                self.check_health();
                checked = Instant::now();
            } else {
                let waited = self.changed.wait_timeout(queue, CHECK_INTERVAL);
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                drop(queue);
            }
        }
    }

    /// Checks the ready containers, one at a time, and discards the broken ones.
    fn check_health(&self) {
        let count = self.queue().len();
        for _ in 0..count {
            let Some(ready) = self.queue().take() else { return };
            if !(ready.parked.waits() && ready.container.is_whole()) {
                self.discard(ready);
            } else if let Some(unwanted) = self.queue().put_back(ready)
                && let Err(error) = unwanted.end()
            {
                self.removals().error = Some(error);
            }
        }
    }

    /// Removes a container that cannot be used.
    fn discard(&self, ready: ReadyContainer) {
        self.queue().discarded += 1;
        self.changed.notify_all();
        if let Err(error) = ready.end() {
            self.removals().error = Some(error);
        }
    }

    /// Wakes the threads that refill, if a refill must begin.
    fn refill_if_low(&self) {
        if self.queue().is_low() {
            self.changed.notify_all();
        }
    }

    /// Takes a used container. It is removed in the background, or right away if too many others
    /// wait or the pool ends.
    pub(super) fn reap(&self, used: UsedContainer) {
        let mut removals = self.removals();
        if removals.closed || removals.waiting.len() >= MAX_WAITING {
            drop(removals);
            if let Err(error) = used.remove() {
                self.removals().error = Some(error);
            }
            return;
        }
        removals.waiting.push_back(used);
        drop(removals);
        self.removal_wanted.notify_all();
    }

    /// Removes used containers. Runs in a thread, until the pool ends.
    pub(super) fn remove_used(&self) {
        lower_priority();
        let mut removals = self.removals();
        loop {
            if let Some(used) = removals.waiting.pop_front() {
                removals.removing += 1;
                drop(removals);
                let removed = used.remove();
                removals = self.removals();
                removals.removing -= 1;
                removals.error = removed.err().or(removals.error.take());
            } else if removals.closed {
                return;
            } else {
                removals =
                    self.removal_wanted.wait(removals).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    pub(super) fn wait_until_full(&self, timeout: Duration) -> Result<()> {
        let deadline = after(timeout);
        let mut queue = self.queue();
        queue.want_all();
        self.changed.notify_all();
        while !queue.is_full() {
            if let Some(error) = queue.error() {
                return Err(error.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::system("fill the pool", "", Errno::TIMEDOUT));
            }
            let waited = self.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    pub(super) fn status(&self) -> Status {
        let (ended, error) = {
            let removals = self.removals();
            (removals.waiting.len() + removals.removing, removals.error.clone())
        };
        self.queue().status(ended, error.as_ref())
    }

    pub(super) fn drain(&self) -> Result<()> {
        let containers = self.queue().close();
        let mut result = Ok(());
        for ready in containers {
            let ended = ready.end();
            result = result.and(ended);
        }
        result
    }

    pub(super) fn resume(&self) {
        self.queue().open();
        self.changed.notify_all();
    }

    /// Ends the threads.
    pub(super) fn stop(&self) {
        self.queue().stopped = true;
        self.changed.notify_all();
        self.removals().closed = true;
        self.removal_wanted.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, ReadyQueue> {
        // The queue is consistent at any time, so a panic under the lock does no harm.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn removals(&self) -> MutexGuard<'_, Removals> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PoolManager {
    fn drop(&mut self) {
        if let Some(anchor) = &mut self.anchor {
            // If it cannot be removed, it stays for the next pool.
            let _ = anchor.destroy();
        }
    }
}

/// Returns the configuration of a pool's containers: the given one with a parent-death signal.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for an invalid configuration, and for one that a pool
/// does not support.
fn pool_config(config: &Config) -> Result<Config> {
    check(config)?;
    let mut config = config.clone();
    if config.parent_death_signal == 0 {
        config.parent_death_signal = Signal::KILL.as_raw();
    }
    // Programs must not see what others wrote before them.
    let shared = !config.readonlyfs && !config.tmpfs_root && config.rootfs != Path::new("/");
    config.volatile_root |= shared && config.has_new(NamespaceType::Mount);
    if config.volatile_root && !privilege::can_copy_mounts() {
        let reason =
            "containers of an ordinary user's pool would share the root: make it read-only";
        return Err(Error::config("readonlyfs", false, reason));
    }
    config.validate()?;
    Ok(config)
}

/// Returns the configuration of the container with this id, which is the name of its cgroup.
fn with_id(config: &Config, id: &str) -> Config {
    let mut config = config.clone();
    if let Some(cgroup) = &mut config.cgroups {
        id.clone_into(&mut cgroup.name);
    }
    config
}

/// Refuses a configuration that only one container at a time can have.
fn check(config: &Config) -> Result<()> {
    let reason = "is of one container; a pool has several";
    if let Some(network) = config.networks.iter().find(|network| network.kind != "loopback") {
        return Err(Error::config("networks", &network.name, reason));
    }
    match config.net_devices.keys().next() {
        Some(device) => Err(Error::config("net_devices", device, reason)),
        None => Ok(()),
    }
}

/// Lowers the priority of the calling thread, in favour of the threads that start programs. On
/// Linux, `setpriority(2)` changes a single thread.
///
/// The inits still have the caller's priority, since other threads clone them. The programs that
/// they become keep it, so it must be right from the beginning: an ordinary user could not raise it
/// again, and a privileged one would have to do so while a program is being started, or would leave
/// a program with the wrong priority if the pool ends at that time.
fn lower_priority() {
    if let Ok(priority) = getpriority_process(None) {
        let _ = setpriority_process(None, priority.saturating_add(NICER));
    }
}

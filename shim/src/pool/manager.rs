//! What a pool does: start, refill, look after what waits, remove what has ended.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pidone_config::{Config, Error, Process, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::lsm;
use rustix::io::Errno;
use rustix::process::{Signal, getpriority_process, setpriority_process};

use super::key::{Key, needs_host};
use super::lease::{Ended, Lease};
use super::owner::Owner;
use super::program::Programs;
use super::ready_queue::{Place, ReadyQueue};
use super::{Sizes, Status};
use crate::container::Container;
use crate::container::factory::Factory;
use crate::container::running::Running;
use crate::container::start::facts::Stage;
use crate::launch;
use crate::launch::options::Strategy;

/// How often what waits is looked at.
const ROUND: Duration = Duration::from_secs(1);

/// How much nicer than the caller the background is: `setpriority(2)`.
const NICER: i32 = 10;

/// How many containers that have ended may wait to be removed: who ends more removes them.
const BURIED: usize = 256;

/// A pool without its threads.
#[derive(Debug)]
pub(super) struct PoolManager {
    factory: Factory,
    config: Config,
    process: Process,
    owner: Owner,
    /// What is known of programs; none if even the root is told later.
    programs: Option<Programs>,
    /// What must be the same of all configurations.
    key: Key,
    /// A container without processes, where directories above the cgroups were missing: it has made
    /// them, so that they are there as long as another one may come, and go with the last.
    anchor: Option<Container>,
    shelf: Mutex<ReadyQueue>,
    /// The shelf is not what it was.
    changed: Condvar,
    ended: Mutex<Buried>,
    /// Something has ended, or nothing will any more.
    died: Condvar,
}

/// Containers that have ended and are not removed.
#[derive(Debug, Default)]
struct Buried {
    waiting: VecDeque<Ended>,
    /// How many are being removed.
    removing: usize,
    /// No thread will come.
    closed: bool,
    /// Why one could not be removed.
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
        let config = of_pool(config)?;
        let owner = Owner::current()?;
        owner.sweep(factory)?;
        // Not by the threads of the pool, whose priority is low.
        launch::start_clone_threads(factory.options().strategy != Strategy::Host);
        let mut keeper = Self {
            anchor: None,
            factory: factory.clone(),
            programs: model.as_ref().map(|model| Programs::new(&config, model)).transpose()?,
            key: Key::of(&config),
            config,
            process: model.unwrap_or_default(),
            owner,
            shelf: Mutex::new(ReadyQueue::new(sizes)),
            changed: Condvar::new(),
            ended: Mutex::default(),
            died: Condvar::new(),
        };
        let cgroups = keeper.config.cgroups.as_ref().map(Cgroups::locate).transpose()?;
        if cgroups.is_some_and(|cgroups| !cgroups.missing_parents().is_empty()) {
            let (id, config) = keeper.next();
            keeper.anchor.insert(factory.create(&id, &config)?).hold()?;
        }
        Ok(keeper)
    }

    /// Starts a program, in a container that waits if one does and the program fits into it.
    pub(super) fn start(this: &Arc<Self>, process: &Process) -> Result<Lease> {
        let Some(programs) = &this.programs else {
            return Self::start_in(this, &this.config, process);
        };
        let plan = programs.plan(process)?;
        if let Some(plan) = &plan
            && let Some(Place { mut container, parked }) = this.take()
        {
            let started = container.assign(parked, process, plan);
            return Self::lend(this, container, started);
        }
        Self::start_cold(this, &this.config, process)
    }

    /// Starts a program in a container with a root of its own.
    pub(super) fn start_in(this: &Arc<Self>, config: &Config, process: &Process) -> Result<Lease> {
        let config = of_pool(config)?;
        if this.programs.is_some() {
            if config == this.config {
                return Self::start(this, process);
            }
            let reason = "not the same as the pool's, whose containers have their root";
            return Err(Error::config("the whole configuration", "", reason));
        }
        this.key.check(&Key::of(&config))?;
        config.check_host()?;
        lsm::check_host(&config)?;
        if !needs_host(&config, process)
            && let Some(Place { mut container, parked }) = this.take()
        {
            let config = named(&config, container.id());
            let started = container.configure(parked, config, process);
            return Self::lend(this, container, started);
        }
        Self::start_cold(this, &config, process)
    }

    /// Takes a container whose init waits.
    fn take(&self) -> Option<Place> {
        loop {
            let place = self.shelf().take()?;
            if place.parked.waits() {
                return Some(place);
            }
            self.discard(place);
        }
    }

    /// Lends a container that had waited, if its program runs.
    fn lend(this: &Arc<Self>, mut container: Container, started: Result<Running>) -> Result<Lease> {
        this.shelf().warm += u64::from(started.is_ok());
        this.refill_if_low();
        match started {
            Ok(running) => Ok(Lease::new(container, running, true, None, this)),
            Err(error) => {
                // The first error is the one that is told.
                let _ = container.destroy();
                Err(error)
            }
        }
    }

    /// Starts a program in a new container.
    fn start_cold(this: &Arc<Self>, config: &Config, process: &Process) -> Result<Lease> {
        let error = {
            let mut shelf = this.shelf();
            shelf.cold += 1;
            shelf.error().cloned()
        };
        this.refill_if_low();
        let id = this.owner.id();
        let mut container = this.factory.create(&id, &named(config, &id))?;
        match container.start(process) {
            Ok(running) => Ok(Lease::new(container, running, false, error, this)),
            Err(error) => {
                let _ = container.destroy();
                Err(error)
            }
        }
    }

    /// The id and the configuration of another container.
    fn next(&self) -> (String, Config) {
        let id = self.owner.id();
        let config = named(&self.config, &id);
        (id, config)
    }

    /// Makes a container whose init waits for its program.
    fn make(&self) -> Result<Place> {
        let (id, config) = self.next();
        let mut container = self.factory.create(&id, &config)?;
        let half = match &self.programs {
            Some(programs) => Stage::Model(programs.model()),
            None => Stage::Entrance,
        };
        match container.park(half, &self.process) {
            Ok(parked) => Ok(Place { container, parked }),
            Err(error) => {
                let _ = container.destroy();
                Err(error)
            }
        }
    }

    /// Makes containers whenever they are wanted, until the pool ends: the work of a thread.
    pub(super) fn refill(&self) {
        lower_priority();
        let mut looked = Instant::now();
        loop {
            let mut shelf = self.shelf();
            if shelf.stopped {
                return;
            }
            if shelf.begin() {
                drop(shelf);
                let made = self.make();
                let unwanted = self.shelf().made(made);
                self.changed.notify_all();
                if let Some(Err(error)) = unwanted.map(Place::end) {
                    self.ended().error = Some(error);
                }
            } else if looked.elapsed() >= ROUND {
                drop(shelf);
                self.check_health();
                looked = Instant::now();
            } else {
                let waited = self.changed.wait_timeout(shelf, ROUND);
                shelf = waited.unwrap_or_else(PoisonError::into_inner).0;
                drop(shelf);
            }
        }
    }

    /// Looks at everything that waits, one after the other, and throws away what is broken.
    fn check_health(&self) {
        let count = self.shelf().len();
        for _ in 0..count {
            let Some(place) = self.shelf().take() else { return };
            if !(place.parked.waits() && place.container.is_whole()) {
                self.discard(place);
            } else if let Some(unwanted) = self.shelf().put_back(place)
                && let Err(error) = unwanted.end()
            {
                self.ended().error = Some(error);
            }
        }
    }

    /// Throws away what cannot be used.
    fn discard(&self, place: Place) {
        self.shelf().discarded += 1;
        self.changed.notify_all();
        if let Err(error) = place.end() {
            self.ended().error = Some(error);
        }
    }

    /// Wakes those who refill, if there is something for them.
    fn refill_if_low(&self) {
        if self.shelf().is_low() {
            self.changed.notify_all();
        }
    }

    /// Takes a container that was used. It is removed in the background, or at once where too many
    /// are or nobody does it.
    pub(super) fn reap(&self, ended: Ended) {
        let mut buried = self.ended();
        if buried.closed || buried.waiting.len() >= BURIED {
            drop(buried);
            if let Err(error) = ended.remove() {
                self.ended().error = Some(error);
            }
            return;
        }
        buried.waiting.push_back(ended);
        drop(buried);
        self.died.notify_all();
    }

    /// Removes what has ended, until the pool ends: the work of a thread.
    pub(super) fn remove(&self) {
        lower_priority();
        let mut buried = self.ended();
        loop {
            if let Some(ended) = buried.waiting.pop_front() {
                buried.removing += 1;
                drop(buried);
                let removed = ended.remove();
                buried = self.ended();
                buried.removing -= 1;
                buried.error = removed.err().or(buried.error.take());
            } else if buried.closed {
                return;
            } else {
                buried = self.died.wait(buried).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    pub(super) fn wait_until_full(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut shelf = self.shelf();
        shelf.want_all();
        self.changed.notify_all();
        while !shelf.is_full() {
            if let Some(error) = shelf.error() {
                return Err(error.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::system("fill the pool", "", Errno::TIMEDOUT));
            }
            let waited = self.changed.wait_timeout(shelf, left);
            shelf = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    pub(super) fn status(&self) -> Status {
        let (ended, error) = {
            let buried = self.ended();
            (buried.waiting.len() + buried.removing, buried.error.clone())
        };
        self.shelf().status(ended, error.as_ref())
    }

    pub(super) fn drain(&self) -> Result<()> {
        let places = self.shelf().close();
        let mut result = Ok(());
        for place in places {
            let ended = place.end();
            result = result.and(ended);
        }
        result
    }

    pub(super) fn resume(&self) {
        self.shelf().open();
        self.changed.notify_all();
    }

    /// Lets the threads end.
    pub(super) fn stop(&self) {
        self.shelf().stopped = true;
        self.changed.notify_all();
        self.ended().closed = true;
        self.died.notify_all();
    }

    fn shelf(&self) -> MutexGuard<'_, ReadyQueue> {
        // What is kept is whole at any time, so that a panic elsewhere does no harm.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, Buried> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PoolManager {
    fn drop(&mut self) {
        if let Some(anchor) = &mut self.anchor {
            // What cannot be removed stays for the next pool.
            let _ = anchor.destroy();
        }
    }
}

/// The configuration of a container as it is in a pool.
fn of_pool(config: &Config) -> Result<Config> {
    check(config)?;
    let mut config = config.clone();
    if config.parent_death_signal == 0 {
        config.parent_death_signal = Signal::KILL.as_raw();
    }
    config.validate()?;
    Ok(config)
}

/// The configuration of the container with an id.
fn named(config: &Config, id: &str) -> Config {
    let mut config = config.clone();
    if let Some(cgroup) = &mut config.cgroups {
        id.clone_into(&mut cgroup.name);
    }
    config
}

/// Refuses a configuration of which there can be one container at a time only.
fn check(config: &Config) -> Result<()> {
    if config.supervise {
        let reason = "an init that waits in a pool becomes the program, and cannot stay";
        return Err(Error::config("supervise", true, reason));
    }
    let reason = "is of one container; a pool has several";
    if let Some(network) = config.networks.iter().find(|network| network.kind != "loopback") {
        return Err(Error::config("networks", &network.name, reason));
    }
    match config.net_devices.keys().next() {
        Some(device) => Err(Error::config("net_devices", device, reason)),
        None => Ok(()),
    }
}

/// Makes way for those who wait for their programs. On Linux it is the thread's own priority.
///
/// The inits have the caller's all the same, since other threads clone them: the programs that they
/// become have it for good. An ordinary user could lower it for the time of the refill and never
/// raise it again, and who can would have to do so while a program is waited for, or leave one whose
/// pool dies meanwhile behind with the wrong one.
fn lower_priority() {
    if let Ok(priority) = getpriority_process(None) {
        let _ = setpriority_process(None, priority.saturating_add(NICER));
    }
}

//! Operations on a running container: inspect, pause, signal, update its limits.

use std::os::fd::AsFd;

use pidone_config::config::NamespaceType;
use pidone_config::{Code, Config, Result};
use pidone_host::{cgroup, net, pidfd, proc};
use pidone_plan::dropped::Filtered;
use rustix::process::Signal;

use super::{Container, Stats};
use crate::container::state::State;
use crate::container::state::journal::Journal;
use crate::container::state::lock::Lock;

/// The signals that end an init that waits. They end runc's, too.
const ENDING: [Signal; 5] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::ABORT, Signal::TERM];

impl Container {
    /// Returns the ids of all processes of the container, in the caller's pid namespace.
    ///
    /// They come from its cgroups, until [`Container::destroy`], also after the first process has
    /// ended. For a container without a cgroup, they are the processes of its pid namespace.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if the container was not started, or if it has no cgroup and
    /// its first process has ended; [`Code::ContainerNotExists`] if it has been destroyed;
    /// [`Code::SystemError`] if the ids cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match self.started_cgroups("processes")? {
            Some(cgroups) => cgroups.processes(),
            None => proc::in_pid_namespace_of(self.pid()),
        }
    }

    /// Returns the resource usage of the container, until [`Container::destroy`].
    ///
    /// After the first process has ended, the counters of the cgroup are the container's totals,
    /// such as its peak of memory. Its interfaces have ended with it.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if the container was not started, or if it has no cgroup and
    /// its first process has ended; [`Code::ContainerNotExists`] if it has been destroyed;
    /// [`Code::SystemError`] if a counter cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let cgroup = self.started_cgroups("stats")?.map(|cgroups| cgroups.stats()).transpose()?;
        let state = self.known();
        let runs = self.open_init()?.is_some();
        let links = state.host_links.iter().filter(|_| runs).map(String::as_str);
        Ok(Stats { interfaces: net::statistics(links)?, cgroup })
    }

    /// Returns how many processes of the container the kernel has killed for lack of memory, until
    /// [`Container::destroy`]; 0 if its cgroup does not count them.
    ///
    /// # Errors
    /// As [`Container::stats`].
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(self.started_cgroups("oom kills")?.map_or(0, |cgroups| cgroups.oom_kills()))
    }

    /// Returns the cgroups of a container that was started, or `None` if it has none and its first
    /// process runs.
    fn started_cgroups(&self, verb: &'static str) -> Result<Option<cgroup::Cgroups>> {
        if !self.exists()? {
            return Err(self.error(Code::ContainerNotExists, verb, "container does not exist"));
        }
        // Cgroups that this container did not make may be another container's.
        let journal = Journal::read(self.directory.as_fd())?;
        let has_made = self.pid() > 0 || journal.process.is_some();
        let cgroups = self.own_cgroups(&journal)?;
        match cgroups {
            Some(cgroups) if has_made && !cgroups.paths().is_empty() => Ok(Some(cgroups)),
            _ => self.running_init(verb).map(|_| None),
        }
    }

    /// Suspends all processes of the container by freezing its cgroup.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`]; [`Code::SystemError`] if the container has no cgroup or it
    /// cannot be frozen.
    pub fn pause(&self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        self.running_init("pause")?;
        // The init could not go on, and the creation would fail.
        self.check_created("pause")?;
        self.cgroups_for("pause")?.freeze()
    }

    /// Resumes all processes of a paused container.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`]; [`Code::SystemError`] if the container has no cgroup or it
    /// cannot be thawed.
    pub fn resume(&self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.running_init("resume")?;
        self.cgroups_for("resume")?.thaw()
    }

    /// Sends a signal to the first process, by number as in `signal(7)`.
    ///
    /// As long as its program was not executed, `SIGHUP`, `SIGINT`, `SIGQUIT`, `SIGABRT` and
    /// `SIGTERM` end it.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if it has ended or was not started.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let init = self.running_init("signal")?;
        let pid = self.pid();
        let ending = ENDING.iter().any(|ending| ending.as_raw() == signal);
        if ending && self.is_deaf()? {
            // The program must not be executed in between, and get the other signal.
            let _lock = Lock::take(self.directory.as_fd(), self.id())?;
            if self.is_deaf()? {
                return pidfd::send(init.as_fd(), pid, Signal::KILL.as_raw());
            }
        }
        pidfd::send(init.as_fd(), pid, signal)
    }

    /// Whether the first process is an init that no signal but `SIGKILL` would end: it has not
    /// executed the program yet, and is process 1 of a pid namespace, which gets no signal without
    /// a handler.
    fn is_deaf(&self) -> Result<bool> {
        let state = self.known();
        if !state.config.has_new(NamespaceType::Pid) {
            return Ok(false);
        }
        // A supervising init passes signals on to the program.
        let waits = !state.config.supervise && self.waits_for_start();
        Ok(waits || self.is_being_created()?)
    }

    /// Sends a signal to all processes of the container, by number as in `signal(7)`.
    ///
    /// For a container with a cgroup, the first process need not run any more. `SIGKILL` also ends
    /// processes that are frozen or that fork meanwhile.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if there is no cgroup and the first process has ended;
    /// [`Code::SystemError`] if the processes cannot be found or signalled.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        // Cgroups that this container did not make may be another container's.
        let cgroups = self.own_cgroups(&Journal::read(self.directory.as_fd())?)?;
        if signal == Signal::KILL.as_raw()
            && let Some(cgroups) = &cgroups
        {
            cgroups.verify()?;
            return cgroups.kill();
        }
        let pids = match &cgroups {
            Some(cgroups) => cgroups.processes()?,
            None => {
                // Once it has ended, its pid may belong to an unrelated process.
                self.running_init("signal")?;
                proc::in_pid_namespace_of(self.pid())?
            }
        };
        for pid in pids {
            let sent =
                if pid == self.pid() { self.signal(signal) } else { pidfd::signal(pid, signal) };
            match sent {
                // It ended after the list was read.
                Err(error) if error.code() == Code::ContainerNotRunning => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Replaces the configuration, and applies its cgroup limits at once.
    ///
    /// Settings that cannot change while the container runs take effect at its next start.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] for an invalid value; [`Code::SystemError`] if the kernel rejects a
    /// limit. Nothing is changed then.
    pub fn set(&mut self, config: &Config) -> Result<()> {
        config.validate()?;
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        let cgroups = self.cgroups()?;
        if let (Some(cgroups), Some(limits)) = (&cgroups, &config.cgroups) {
            cgroups.set(limits)?;
        }
        let before = self.known();
        self.change_state(|State { config: former, dropped, .. }| {
            // A supervising init keeps the former filter, and what it starts would inherit that.
            if dropped.filter == Filtered::AsConfigured
                && (&former.seccomp, &former.seccomp_profile)
                    != (&config.seccomp, &config.seccomp_profile)
            {
                dropped.filter = Filtered::Otherwise;
            }
            former.clone_from(config);
        });
        self.drop_caches();
        self.write_state().inspect_err(|_| {
            if let (Some(cgroups), Some(limits)) = (&cgroups, &before.config.cgroups) {
                let _ = cgroups.set(limits);
            }
            self.change_state(|state| state.clone_from(&before));
        })
    }

    /// Returns a watcher that reports when the kernel kills a process for lack of memory.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`]; [`Code::SystemError`] without a memory cgroup.
    pub fn notify_oom(&self) -> Result<cgroup::Watcher> {
        self.running_init("oom")?;
        self.cgroups_for("oom")?.watch_oom()
    }

    /// Returns a watcher that reports when memory becomes scarce.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`]; [`Code::SystemError`] without a memory cgroup.
    pub fn notify_memory_pressure(&self, level: cgroup::PressureLevel) -> Result<cgroup::Watcher> {
        self.running_init("memory pressure")?;
        self.cgroups_for("memory pressure")?.watch_memory_pressure(level)
    }
}

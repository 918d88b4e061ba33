//! What is done with a container that runs: look, pause, signal, change its limits.

use std::os::fd::AsFd;

use pidone_config::{Code, Config, Result};
use pidone_host::{cgroup, net, pidfd, proc};
use pidone_plan::dropped::Filtered;
use rustix::process::Signal;

use super::{Container, Stats};
use crate::container::state::State;
use crate::container::state::journal::Journal;
use crate::container::state::lock::Lock;

impl Container {
    /// The ids of all processes, in the caller's pid namespace.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if none runs, [`Code::SystemError`] if they cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        self.running_init("processes")?;
        match self.cgroups()? {
            Some(cgroups) => cgroups.processes(),
            None => proc::in_pid_namespace_of(self.state.init_process_pid),
        }
    }

    /// What the container uses.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if none of its processes runs.
    pub fn stats(&self) -> Result<Stats> {
        self.running_init("stats")?;
        let cgroup = self.cgroups()?.map(|cgroups| cgroups.stats()).transpose()?;
        let links = self.state.host_links.iter().map(String::as_str);
        Ok(Stats { interfaces: net::statistics(links)?, cgroup })
    }

    /// Makes all processes stand still.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`], or [`Code::SystemError`] if there is no cgroup or it does
    /// not freeze.
    pub fn pause(&mut self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.running_init("pause")?;
        self.cgroups_for("pause")?.freeze()
    }

    /// Lets all processes run again.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`], or [`Code::SystemError`] if there is no cgroup or it does
    /// not thaw.
    pub fn resume(&mut self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.running_init("resume")?;
        self.cgroups_for("resume")?.thaw()
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let init = self.running_init("signal")?;
        pidfd::send(init.as_fd(), self.state.init_process_pid, signal)
    }

    /// Sends a signal to all processes of the container.
    ///
    /// # Errors
    /// [`Code::SystemError`] if they cannot be found.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        // Those that were only asked for may be another container's.
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
                // Its number may be a stranger's once it has ended.
                self.running_init("signal")?;
                proc::in_pid_namespace_of(self.state.init_process_pid)?
            }
        };
        for pid in pids {
            match pidfd::signal(pid, signal) {
                // It has ended meanwhile.
                Err(error) if error.code() == Code::ContainerNotRunning => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Applies new limits to the running container and keeps the configuration.
    ///
    /// What a running container cannot change is kept for its next start.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] for a wrong value, [`Code::SystemError`] if the kernel refuses it.
    pub fn set(&mut self, config: &Config) -> Result<()> {
        config.validate()?;
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        if let (Some(cgroups), Some(limits)) = (self.cgroups()?, &config.cgroups) {
            cgroups.set(limits)?;
        }
        let State { config: former, dropped, .. } = &mut self.state;
        // Its init is under the former filter, and so would be what it starts.
        if dropped.filter == Filtered::AsConfigured
            && (&former.seccomp, &former.seccomp_profile)
                != (&config.seccomp, &config.seccomp_profile)
        {
            dropped.filter = Filtered::Otherwise;
        }
        former.clone_from(config);
        self.drop_caches();
        self.write_state()
    }

    /// Watches for processes killed for want of memory.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`], or [`Code::SystemError`] without a memory cgroup.
    pub fn notify_oom(&self) -> Result<cgroup::Watcher> {
        self.running_init("oom")?;
        self.cgroups_for("oom")?.watch_oom()
    }

    /// Watches for memory becoming scarce.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`], or [`Code::SystemError`] without a memory cgroup.
    pub fn notify_memory_pressure(&self, level: cgroup::PressureLevel) -> Result<cgroup::Watcher> {
        self.running_init("memory pressure")?;
        self.cgroups_for("memory pressure")?.watch_memory_pressure(level)
    }
}

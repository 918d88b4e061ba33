//! Starts by the library: create, start, wait, destroy; and further processes.

use std::os::fd::BorrowedFd;

use pidone::{Config, Container, Factory, Options, Process, Running, Stdio, Strategy};

use crate::payload::{self, Output};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};

/// Starts the payload in containers of one configuration.
#[derive(Debug)]
pub struct Library {
    factory: Factory,
    config: Config,
    process: Process,
    output: Output,
    prefix: String,
    count: u64,
    two_steps: bool,
}

/// When a start began, and the nanoseconds from there to the end of each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// The beginning, by [`clock::now`].
    pub begin: u64,
    /// Until the container is created; in two steps, until its init waits as well.
    pub created: u64,
    /// Until the payload's first instruction.
    pub first: u64,
    /// Until the start has returned.
    pub started: u64,
    /// Until the process is reaped.
    pub reaped: u64,
    /// Until the container is removed.
    pub removed: u64,
}

impl Library {
    /// Prepares starts of a scenario. `worker` distinguishes those that run at the same time.
    ///
    /// # Errors
    /// If the directory of the states cannot be made.
    pub fn new(
        place: &Place,
        scenario: Scenario,
        strategy: Strategy,
        worker: usize,
    ) -> Result<Self> {
        Self::with(place, scenario, Options::default().strategy(strategy), worker)
    }

    /// As for [`Library::new`], with any options.
    ///
    /// # Errors
    /// If the directory of the states cannot be made.
    pub fn with(
        place: &Place,
        scenario: Scenario,
        options: Options,
        worker: usize,
    ) -> Result<Self> {
        let strategy = options.strategy;
        let output = Output::new()?;
        Ok(Self {
            factory: Factory::new(place.directory().join("states"), options)?,
            config: scenario.config(&place.rootfs(), (&place.cgroup_parent(), "bench")),
            process: process(scenario, &output)?,
            output,
            prefix: format!("{scenario}-{strategy:?}-{worker}-").to_lowercase(),
            count: 0,
            two_steps: false,
        })
    }

    /// Makes starts in two steps: prepare and release.
    #[must_use]
    pub fn in_two_steps(mut self) -> Self {
        self.two_steps = true;
        self.named("two-")
    }

    /// Adds a prefix to the ids of containers, to distinguish them from others at the same place.
    #[must_use]
    pub fn named(mut self, prefix: &str) -> Self {
        self.prefix.insert_str(0, prefix);
        self
    }

    /// Starts the payload once.
    ///
    /// # Errors
    /// As for [`Starter::start`].
    pub fn phases(&mut self) -> Result<Phases> {
        Ok(self.run()?.0)
    }

    /// Starts the payload once. Returns the ended process as well.
    ///
    /// # Errors
    /// As for [`Starter::start`].
    pub fn run(&mut self) -> Result<(Phases, Running)> {
        self.count += 1;
        let id = format!("{}{}", self.prefix, self.count);
        if let Some(cgroup) = &mut self.config.cgroups {
            cgroup.name.clone_from(&id);
        }
        let begin = clock::now();
        let mut container = self.factory.create(&id, &self.config)?;
        let mut created = clock::now();
        let running = if self.two_steps {
            container.prepare(&self.process).and_then(|running| {
                created = clock::now();
                container.release()?;
                Ok(running)
            })
        } else {
            container.start(&self.process)
        };
        let mut running = match running {
            Ok(running) => running,
            Err(error) => {
                container.kill()?;
                container.destroy()?;
                return Err(error.into());
            }
        };
        let started = clock::now();
        let exit = running.wait()?;
        let reaped = clock::now();
        container.destroy()?;
        let removed = clock::now();
        if exit.status() != 0 {
            return Err(format!("the payload ended with status {}", exit.status()).into());
        }
        let first = self.output.stamp()?;
        let since = |time: u64| time.saturating_sub(begin);
        let phases = Phases {
            begin,
            created: since(created),
            first: since(first),
            started: since(started),
            reaped: since(reaped),
            removed: since(removed),
        };
        Ok((phases, running))
    }
}

impl Starter for Library {
    fn start(&mut self) -> Result<Sample> {
        let phases = self.phases()?;
        Ok(Sample { begin: phases.begin, first: phases.first, whole: phases.removed })
    }
}

/// Returns the payload as a process of the library.
pub(crate) fn process(scenario: Scenario, output: &Output) -> Result<Process> {
    Ok(Process {
        args: vec![payload::PATH.into()],
        env: vec!["PATH=/bin".into()],
        stdin: Stdio::Null,
        stdout: Stdio::Fd(output.writer().try_clone_to_owned()?),
        no_new_privileges: scenario.is_oci(),
        ..Process::default()
    })
}

/// A container whose program waits. It is removed on drop.
#[derive(Debug)]
pub struct Held {
    container: Container,
    running: Running,
}

impl Held {
    /// Creates the container and starts its program. The name is also that of its cgroup.
    ///
    /// # Errors
    /// If the container does not start.
    pub fn new(place: &Place, scenario: Scenario, name: &str) -> Result<Self> {
        let config = scenario.config(&place.rootfs(), (&place.cgroup_parent(), name));
        Self::with(place, (scenario, config), name, Container::start)
    }

    /// The same with a supervising init, which starts further processes.
    ///
    /// # Errors
    /// If the container does not start.
    pub fn supervised(place: &Place, scenario: Scenario, name: &str) -> Result<Self> {
        let config = scenario.config(&place.rootfs(), (&place.cgroup_parent(), name));
        let config = Config { supervise: true, ..config };
        Self::with(place, (scenario, config), name, Container::start)
    }

    /// Prepares the container, so that its init waits for the release.
    ///
    /// # Errors
    /// If the container does not start.
    pub fn waiting(place: &Place, scenario: Scenario, name: &str) -> Result<Self> {
        let config = scenario.config(&place.rootfs(), (&place.cgroup_parent(), name));
        Self::with(place, (scenario, config), name, Container::prepare)
    }

    fn with(
        place: &Place,
        (scenario, config): (Scenario, Config),
        name: &str,
        start: fn(&Container, &Process) -> pidone::Result<Running>,
    ) -> Result<Self> {
        let factory = Factory::new(place.directory().join("states"), Options::default())?;
        let mut container = factory.create(name, &config)?;
        let waiting = Process {
            args: vec![payload::PATH.into(), payload::WAIT.into()],
            stdout: Stdio::Null,
            ..process(scenario, &Output::new()?)?
        };
        match start(&container, &waiting) {
            Ok(running) => Ok(Self { container, running }),
            Err(error) => {
                container.destroy()?;
                Err(error.into())
            }
        }
    }

    /// Returns the pidfd of the first process.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.running.pidfd()
    }

    /// Returns the id of the first process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // If something cannot be removed, the next container with this name fails with the reason.
        let _ = self.container.kill();
        let _ = self.running.wait();
        let _ = self.container.destroy();
    }
}

/// Starts further processes in a container.
#[derive(Debug)]
pub struct Exec {
    container: Held,
    process: Process,
    output: Output,
}

impl Exec {
    /// Starts the container.
    ///
    /// # Errors
    /// If the container does not start.
    pub fn new(place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        let container = Held::new(place, scenario, &format!("exec-{scenario}-{worker}"))?;
        Self::within(container, scenario)
    }

    /// Starts the container with a supervising init, which starts the processes.
    ///
    /// # Errors
    /// If the container does not start.
    pub fn supervised(place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        let name = format!("spawn-{scenario}-{worker}");
        Self::within(Held::supervised(place, scenario, &name)?, scenario)
    }

    fn within(container: Held, scenario: Scenario) -> Result<Self> {
        let output = Output::new()?;
        Ok(Self { container, process: process(scenario, &output)?, output })
    }
}

impl Starter for Exec {
    fn start(&mut self) -> Result<Sample> {
        let begin = clock::now();
        let exit = self.container.container.exec(&self.process)?.wait()?;
        let end = clock::now();
        if exit.status() != 0 {
            return Err(format!("the payload ended with status {}", exit.status()).into());
        }
        let first = self.output.stamp()?;
        Ok(Sample::from_clock(begin, first, end))
    }
}

//! The library: create, start, wait, destroy.

use pidone::{Config, Factory, Options, Process, Running, Stdio, Strategy};

use crate::payload::{self, Output};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};

/// The library, with one configuration.
#[derive(Debug)]
pub struct Library {
    factory: Factory,
    config: Config,
    process: Process,
    output: Output,
    prefix: String,
    count: u64,
}

/// When each step of a start was done, in nanoseconds from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// The container is created.
    pub created: u64,
    /// The payload's first instruction.
    pub first: u64,
    /// The start has returned.
    pub started: u64,
    /// The process has ended and is reaped.
    pub reaped: u64,
    /// The container is removed.
    pub removed: u64,
}

impl Library {
    /// Prepares starts of a scenario. `worker` tells those apart that run at the same time.
    ///
    /// # Errors
    /// The directory of the states cannot be made.
    pub fn new(
        place: &Place,
        scenario: Scenario,
        strategy: Strategy,
        worker: usize,
    ) -> Result<Self> {
        Self::with(place, scenario, Options::default().strategy(strategy), worker)
    }

    /// As [`Library::new`], with any options.
    ///
    /// # Errors
    /// The directory of the states cannot be made.
    pub fn with(
        place: &Place,
        scenario: Scenario,
        options: Options,
        worker: usize,
    ) -> Result<Self> {
        let strategy = options.strategy;
        let output = Output::new()?;
        let process = Process {
            args: vec![payload::PATH.to_owned()],
            env: vec!["PATH=/bin".to_owned()],
            stdin: Stdio::Null,
            stdout: Stdio::Fd(output.writer().try_clone_to_owned()?),
            no_new_privileges: scenario.is_oci(),
            ..Process::default()
        };
        Ok(Self {
            factory: Factory::new(place.directory().join("states"), options)?,
            config: scenario.config(&place.rootfs(), (&place.cgroup_parent(), "bench")),
            process,
            output,
            prefix: format!("{scenario}-{strategy:?}-{worker}-").to_lowercase(),
            count: 0,
        })
    }

    /// Starts the payload once.
    ///
    /// # Errors
    /// As [`Starter::start`].
    pub fn phases(&mut self) -> Result<Phases> {
        Ok(self.run()?.0)
    }

    /// Starts the payload once, and gives the ended process as well.
    ///
    /// # Errors
    /// As [`Starter::start`].
    pub fn run(&mut self) -> Result<(Phases, Running)> {
        self.count += 1;
        let id = format!("{}{}", self.prefix, self.count);
        if let Some(cgroup) = &mut self.config.cgroups {
            cgroup.name.clone_from(&id);
        }
        let begin = clock::now();
        let mut container = self.factory.create(&id, &self.config)?;
        let created = clock::now();
        let running = container.start(&self.process);
        let mut running = match running {
            Ok(running) => running,
            Err(error) => {
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
        Ok(Sample { first: phases.first, whole: phases.removed })
    }
}

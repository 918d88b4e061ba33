//! Starts from a warm pool of the library.

use std::thread;
use std::time::Duration;

use pidone::pool::{Pool, Sizes};
use pidone::{Factory, Options, Process};

use crate::library::process;
use crate::payload::Output;
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};

/// The size of the pool.
const SIZE: usize = 16;

/// How long the pool may take to fill.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts the payload in containers that are ready.
#[derive(Debug)]
pub struct Warm {
    pool: Pool,
    process: Process,
    output: Output,
}

impl Warm {
    /// Makes the pool. `worker` distinguishes pools that exist at the same time.
    ///
    /// # Errors
    /// If a container cannot be made.
    pub fn new(place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        let output = Output::new()?;
        let states = place.directory().join(format!("pool-{scenario}-{worker}"));
        let factory = Factory::new(states, Options::default())?;
        let config = scenario.config(&place.rootfs(), (&place.cgroup_parent(), "bench"));
        let model = Process { no_new_privileges: scenario.is_oci(), ..Process::default() };
        let pool = Pool::new(&factory, &config, model, Sizes { size: SIZE, low: 1 })?;
        Ok(Self { pool, process: process(scenario, &output)?, output })
    }
}

impl Starter for Warm {
    fn start(&mut self) -> Result<Sample> {
        if self.pool.status().ready <= 1 {
            self.pool.wait_until_full(TIMEOUT)?;
        }
        // Removing the previous container must not overlap with the start.
        while self.pool.status().ended > 0 {
            thread::sleep(Duration::from_micros(100));
        }
        let begin = clock::now();
        let mut lease = self.pool.start(&self.process)?;
        if !lease.is_warm() {
            return Err("the pool was empty".into());
        }
        let exit = lease.wait()?;
        let end = clock::now();
        if exit.status() != 0 {
            return Err(format!("the payload ended with status {}", exit.status()).into());
        }
        let first = self.output.stamp()?;
        Ok(Sample::from_clock(begin, first, end))
    }
}

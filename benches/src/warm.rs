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

/// How many containers wait.
const SIZE: usize = 16;

/// How long it may take until they do.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The payload in a container that waits for it.
#[derive(Debug)]
pub struct Warm {
    pool: Pool,
    process: Process,
    output: Output,
}

impl Warm {
    /// Fills the pool. `worker` tells those apart that exist at the same time.
    ///
    /// # Errors
    /// A container cannot be made.
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
        // What ended before is out of the way.
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
        Ok(Sample::of(begin, first, end))
    }
}

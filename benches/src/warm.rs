//! Starts from a warm pool.

use std::time::Duration;

use pidone::pool::{Pool, Sizes};
use pidone::{Factory, Options, Process};

use crate::payload::Output;
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock, library};

/// How many containers wait.
const SIZE: usize = 16;

const PATIENCE: Duration = Duration::from_secs(60);

/// The payload in a container that waits for it.
#[derive(Debug)]
pub struct Warm {
    pool: Pool,
    process: Process,
    output: Output,
}

impl Warm {
    /// Makes the pool. `worker` tells those apart that are there at the same time.
    ///
    /// # Errors
    /// A container does not start.
    pub fn new(place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        let output = Output::new()?;
        let states = place.directory().join(format!("pool-{scenario}-{worker}"));
        let factory = Factory::new(states, Options::default())?;
        let name = format!("pool-{scenario}-{worker}");
        let config = scenario.config(&place.rootfs(), (&place.cgroup_parent(), &name));
        let model = Process { no_new_privileges: scenario.is_oci(), ..Process::default() };
        let pool = Pool::new(&factory, &config, model, Sizes { size: SIZE, low: 1 })?;
        Ok(Self { pool, process: library::process(scenario, &output)?, output })
    }

    /// Waits until starting has nothing to do with making.
    fn settle(&self) -> Result<()> {
        if self.pool.status().ready <= 1 {
            self.pool.wait_until_full(PATIENCE)?;
        }
        // What ended before is out of the way.
        while self.pool.status().ended > 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}

impl Starter for Warm {
    fn start(&mut self) -> Result<Sample> {
        self.settle()?;
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
        Ok(Sample { first: first.saturating_sub(begin), whole: end - begin })
    }
}

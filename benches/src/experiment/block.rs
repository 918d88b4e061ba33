//! A block: a few starts of a contestant in a row, and what was measured.

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::contestant::{Contestant, Verb};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::used::Used;
use crate::{Result, Sample, Starter};

/// A request for a few starts in a row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Block {
    /// The contestant.
    pub contestant: Contestant,
    /// What it does.
    pub verb: Verb,
    /// The container.
    pub scenario: Scenario,
    /// How many start at the same time.
    pub workers: usize,
    /// The number of starts of all workers together, at least.
    pub count: usize,
    /// The pause before each start.
    pub pause: Duration,
}

/// The measurements of a contestant.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Of each start, the nanoseconds to the payload's first instruction.
    pub first: Vec<u64>,
    /// Of each start, the nanoseconds until the process is reaped and the container removed.
    pub whole: Vec<u64>,
    /// The elapsed time in nanoseconds, including pauses.
    pub elapsed: u64,
    /// The processor time of this process and its descendants, in microseconds.
    pub cpu: u64,
    /// Their page faults without I/O.
    pub faults: u64,
}

impl Measured {
    /// Adds the measurements of another block.
    pub fn add(&mut self, other: Self) {
        self.first.extend(other.first);
        self.whole.extend(other.whole);
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
        self.faults += other.faults;
    }
}

/// Prepared starters, which are reused by all blocks.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "starters are of many kinds")]
pub struct Starters(HashMap<(Contestant, Verb, Scenario), Vec<Box<dyn Starter>>>);

impl Starters {
    /// Runs a block.
    ///
    /// # Errors
    /// If one of the starts fails.
    pub fn run(&mut self, place: &Place, block: &Block) -> Result<Measured> {
        let Block { contestant, verb, scenario, .. } = *block;
        let starters = self.0.entry((contestant, verb, scenario)).or_default();
        while starters.len() < block.workers {
            starters.push(contestant.prepare(verb, place, scenario, starters.len())?);
        }
        let starters = starters.get_mut(..block.workers).unwrap_or_default();
        let before = Used::so_far()?;
        let (samples, elapsed) = match starters {
            [one] => {
                let begin = Instant::now();
                (run_in_sequence(one.as_mut(), block.count, block.pause)?, begin.elapsed())
            }
            many => run_in_parallel(many, block)?,
        };
        let used = Used::so_far()? - before;
        Ok(Measured {
            first: samples.iter().map(|sample| sample.first).collect(),
            whole: samples.iter().map(|sample| sample.whole).collect(),
            elapsed: u64::try_from(elapsed.as_nanos())?,
            cpu: used.user + used.system,
            faults: used.faults,
        })
    }
}

/// Starts `count` times.
fn run_in_sequence(
    starter: &mut dyn Starter,
    count: usize,
    pause: Duration,
) -> Result<Vec<Sample>> {
    let start = |_| {
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        starter.start()
    };
    (0..count).map(start).collect()
}

/// Runs each starter in its own thread, all at the same time.
fn run_in_parallel(
    starters: &mut [Box<dyn Starter>],
    block: &Block,
) -> Result<(Vec<Sample>, Duration)> {
    let count = block.count.div_ceil(starters.len());
    let barrier = Barrier::new(starters.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = starters
            .iter_mut()
            .map(|starter| {
                scope.spawn(|| {
                    barrier.wait();
                    run_in_sequence(starter.as_mut(), count, block.pause)
                })
            })
            .collect();
        barrier.wait();
        let begin = Instant::now();
        let mut samples = Vec::new();
        for thread in threads {
            samples.extend(thread.join().map_err(|_| "a worker has panicked")??);
        }
        Ok((samples, begin.elapsed()))
    })
}

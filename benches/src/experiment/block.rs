//! A few starts in a row, and what they cost.

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

/// What is to be started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Block {
    /// Who does it.
    pub contestant: Contestant,
    /// What is done.
    pub verb: Verb,
    /// With which container.
    pub scenario: Scenario,
    /// How many start at the same time.
    pub workers: usize,
    /// How many starts all of them make together, at least.
    pub count: usize,
    /// The pause before each start.
    pub pause: Duration,
}

/// What was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Nanoseconds to the first instruction.
    pub first: Vec<u64>,
    /// Nanoseconds until reaped and removed.
    pub whole: Vec<u64>,
    /// Nanoseconds that passed, pauses included.
    pub elapsed: u64,
    /// Microseconds of processor time of this process, its children and theirs.
    pub cpu: u64,
    /// Page faults without I/O of the same.
    pub faults: u64,
}

impl Measured {
    /// Adds what another block measured.
    pub fn add(&mut self, other: Self) {
        self.first.extend(other.first);
        self.whole.extend(other.whole);
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
        self.faults += other.faults;
    }
}

/// Starters that were prepared, so that only the first start pays for what is made once.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "starters are of many kinds")]
pub struct Starters(HashMap<(Contestant, Verb, Scenario), Vec<Box<dyn Starter>>>);

impl Starters {
    /// Makes the starts of a block.
    ///
    /// # Errors
    /// One of them failed.
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
                (starts(one.as_mut(), block.count, block.pause)?, begin.elapsed())
            }
            many => together(many, block)?,
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

fn starts(starter: &mut dyn Starter, count: usize, pause: Duration) -> Result<Vec<Sample>> {
    let one = |_| {
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        starter.start()
    };
    (0..count).map(one).collect()
}

/// Each starter in a thread of its own, all at once.
fn together(starters: &mut [Box<dyn Starter>], block: &Block) -> Result<(Vec<Sample>, Duration)> {
    let count = block.count.div_ceil(starters.len());
    let barrier = Barrier::new(starters.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = starters
            .iter_mut()
            .map(|starter| {
                scope.spawn(|| {
                    barrier.wait();
                    starts(starter.as_mut(), count, block.pause)
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

//! Experiments: many starts by several contestants, which take turns.
//!
//! Each place, with a number of host mounts and a view of the cgroups, has its own process. The
//! program goes around the processes and has each contestant start a few containers at a time, so
//! that a disturbance of the machine affects all of them alike.

mod block;
mod row;
mod serve;

use std::time::Duration;

pub use block::{Block, Measured, Starters};
pub use row::{Row, Times};
pub use serve::{Answer, Server, serve};

use crate::Result;
use crate::contestant::{Contestant, Verb};
use crate::place::View;
use crate::scenario::Scenario;

/// A situation in which contestants are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// What each contestant does.
    pub verb: Verb,
    /// The container.
    pub scenario: Scenario,
    /// The visible cgroups.
    pub view: View,
    /// Numbers of host mounts; each contestant takes part with each of them.
    pub mounts: Vec<usize>,
    /// How many start at the same time.
    pub workers: usize,
    /// The pause before each start, in milliseconds.
    pub pause: u64,
    /// The number of starts of each contestant.
    pub starts: usize,
    /// The participants.
    pub contestants: Vec<Contestant>,
}

/// The processes of all places, started when they are needed.
#[derive(Debug, Default)]
pub struct Servers(Vec<Server>);

impl Servers {
    /// Returns the process of a place.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn at(&mut self, mounts: usize, view: View) -> Result<&mut Server> {
        let is = |server: &Server| server.mounts == mounts && server.view == view;
        let index = match self.0.iter().position(is) {
            Some(index) => index,
            None => {
                self.0.push(Server::spawn(mounts, view)?);
                self.0.len() - 1
            }
        };
        self.0.get_mut(index).ok_or_else(|| "no such place".into())
    }
}

/// A contestant at a place, with what has been measured so far.
struct Turn {
    mounts: usize,
    contestant: Contestant,
    measured: Measured,
}

impl Experiment {
    /// Runs the experiment, with `length` starts of a contestant in a row.
    ///
    /// Calls `skipped` with each contestant that cannot take part, and the reason. It has no row.
    ///
    /// # Errors
    /// If a contestant fails after its first start.
    pub fn run(
        &self,
        servers: &mut Servers,
        length: usize,
        mut skipped: impl FnMut(Contestant, &str),
    ) -> Result<Vec<Row>> {
        let mut turns: Vec<Turn> = Vec::new();
        for &contestant in self.contestants.iter().filter(|one| one.does(self.verb)) {
            for &mounts in &self.mounts {
                // The first start of each is not counted, since it makes what later ones reuse.
                match servers.at(mounts, self.view)?.run(self.block(contestant, self.workers))? {
                    Ok(_) => turns.push(Turn { mounts, contestant, measured: Measured::default() }),
                    Err(reason) => skipped(contestant, &reason),
                }
            }
        }
        let length = length.max(self.workers);
        for round in 0..self.starts.div_ceil(length) {
            let count = turns.len().max(1);
            for turn in 0..count {
                // The order rotates, so that nobody always follows the same other contestant.
                let Some(turn) = turns.get_mut((turn + round) % count) else { continue };
                let more = servers
                    .at(turn.mounts, self.view)?
                    .run(self.block(turn.contestant, length))?
                    .map_err(|reason| format!("{}: {reason}", turn.contestant))?;
                turn.measured.add(more);
            }
        }
        let measured =
            turns.into_iter().map(|turn| (turn.mounts, turn.contestant, turn.measured)).collect();
        Ok(row::rows(self, measured))
    }

    fn block(&self, contestant: Contestant, count: usize) -> Block {
        let Self { verb, scenario, workers, .. } = *self;
        let pause = Duration::from_millis(self.pause);
        Block { contestant, verb, scenario, workers, count, pause }
    }
}

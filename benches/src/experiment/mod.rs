//! Experiments: many starts of several contestants, which take turns.
//!
//! Each place, a number of host mounts and a view of control groups, has a process of its own;
//! the program goes from one to the next and has each start a few containers with each contestant,
//! so that what disturbs the machine disturbs all of them.

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

/// One situation in which contestants are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// What is done.
    pub verb: Verb,
    /// With which container.
    pub scenario: Scenario,
    /// Among which control groups.
    pub view: View,
    /// Numbers of host mounts.
    pub mounts: Vec<usize>,
    /// How many do it at the same time.
    pub workers: usize,
    /// Milliseconds before each.
    pub pause: u64,
    /// How often each contestant does it.
    pub starts: usize,
    /// Who takes part.
    pub contestants: Vec<Contestant>,
}

/// Processes at places, started when they are needed.
#[derive(Debug, Default)]
pub struct Servers(Vec<Server>);

impl Servers {
    /// The process of a place.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn at(&mut self, mounts: usize, view: View) -> Result<&mut Server> {
        let is = |server: &Server| server.mounts == mounts && server.view == view;
        let place = match self.0.iter().position(is) {
            Some(place) => place,
            None => {
                self.0.push(Server::spawn(mounts, view)?);
                self.0.len() - 1
            }
        };
        self.0.get_mut(place).ok_or_else(|| "no such place".into())
    }
}

/// Whose turn it is, where, and what came of it so far.
struct Turn {
    mounts: usize,
    contestant: Contestant,
    measured: Measured,
}

impl Experiment {
    /// Runs it, `length` starts of a contestant in a row. Who cannot take part is told to `skipped`
    /// with the reason, and has no row.
    ///
    /// # Errors
    /// A contestant that has started once fails later.
    pub fn run(
        &self,
        servers: &mut Servers,
        length: usize,
        mut skipped: impl FnMut(Contestant, &str),
    ) -> Result<Vec<Row>> {
        let mut turns: Vec<Turn> = Vec::new();
        for &contestant in self.contestants.iter().filter(|who| who.does(self.verb)) {
            for &mounts in &self.mounts {
                // The first start of each is not counted: what is made once is made there.
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
                // Nobody always comes behind the same other one.
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

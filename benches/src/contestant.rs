//! The contestants, and what they are compared in.

use std::fmt;

use clap::ValueEnum;
use pidone::Strategy;
use serde::{Deserialize, Serialize};

use crate::library::{self, Library};
use crate::peer::{self, Peer};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::warm::Warm;
use crate::{Result, Starter, floor};

/// What a contestant does repeatedly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Makes a container, runs the payload in it, and removes it.
    Run,
    /// The same in two steps: the container waits before the payload is executed.
    Create,
    /// Runs the payload as a further process in a container.
    Exec,
    /// The same by a supervising init, for the contestants that have one. The floor is a process of
    /// the host.
    Spawn,
    /// Starts the payload in a container from a warm pool. The floor is a process of the host.
    Pool,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Run => "run",
            Self::Create => "create and start",
            Self::Exec => "exec",
            Self::Spawn => "spawn",
            Self::Pool => "start from a pool",
        })
    }
}

/// A program or library that takes part in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// The bare system calls.
    Floor,
    /// The library with default options.
    #[value(alias = "template")]
    Library,
    /// The library with the strategy that copies the host's mounts.
    Host,
    /// The command line.
    Pidone,
    /// The OCI runtime in C.
    Crun,
    /// The OCI runtime in Go.
    Runc,
    /// bubblewrap, without a cgroup and a seccomp filter.
    Bwrap,
    /// `unshare(1)`: only namespaces, the root and `/proc`.
    Unshare,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "floor",
            Self::Library => "library",
            Self::Host => "library, host",
            Self::Pidone | Self::Crun | Self::Runc | Self::Bwrap | Self::Unshare => {
                self.peer().map_or("", Peer::program)
            }
        })
    }
}

impl Contestant {
    /// All contestants, in the order of the tables.
    pub const ALL: [Self; 8] = [
        Self::Floor,
        Self::Library,
        Self::Host,
        Self::Pidone,
        Self::Crun,
        Self::Runc,
        Self::Bwrap,
        Self::Unshare,
    ];

    /// Returns the program, for contestants that are programs.
    #[must_use]
    pub fn peer(self) -> Option<Peer> {
        match self {
            Self::Floor | Self::Library | Self::Host => None,
            Self::Pidone => Some(Peer::Pidone),
            Self::Crun => Some(Peer::Crun),
            Self::Runc => Some(Peer::Runc),
            Self::Bwrap => Some(Peer::Bwrap),
            Self::Unshare => Some(Peer::Unshare),
        }
    }

    /// Whether the contestant supports a verb.
    #[must_use]
    pub fn does(self, verb: Verb) -> bool {
        match (self, verb) {
            (_, Verb::Run) | (Self::Library, _) => true,
            (_, Verb::Pool) => self == Self::Floor,
            (Self::Floor, verb) => verb != Verb::Create,
            (Self::Host, _) | (Self::Pidone, Verb::Spawn) => false,
            _ => self.peer().is_some_and(Peer::is_oci_runtime),
        }
    }

    /// Prepares starts. `worker` distinguishes those that run at the same time.
    ///
    /// # Errors
    /// If the contestant is not installed, or does not support the verb here.
    pub fn prepare(
        self,
        verb: Verb,
        place: &Place,
        scenario: Scenario,
        worker: usize,
    ) -> Result<Box<dyn Starter>> {
        let library = |strategy| Library::new(place, scenario, strategy, worker);
        Ok(match (self.peer(), verb) {
            (Some(_), Verb::Pool) => return Err("it has no pool".into()),
            (Some(peer), Verb::Run) => Box::new(peer.once(place, scenario, worker)?),
            (Some(peer), Verb::Create) => {
                Box::new(peer::Steps::new(peer, place, scenario, worker)?)
            }
            (Some(peer), Verb::Exec | Verb::Spawn) => {
                let name = format!("{verb}-{worker}");
                Box::new(peer::Exec::new(peer, place, scenario, &name)?)
            }
            (None, Verb::Run) => match self {
                Self::Floor => Box::new(floor::Floor::new(place, scenario, worker)?),
                Self::Host => Box::new(library(Strategy::Host)?),
                _ => Box::new(library(Strategy::Auto)?),
            },
            (None, Verb::Create) => Box::new(library(Strategy::Auto)?.in_two_steps()),
            (None, Verb::Exec) => match self {
                Self::Floor => Box::new(floor::Exec::new(place, scenario, worker)?),
                _ => Box::new(library::Exec::new(place, scenario, worker)?),
            },
            (None, Verb::Spawn) => match self {
                Self::Floor => Box::new(floor::Plain::new(place)?),
                _ => Box::new(library::Exec::supervised(place, scenario, worker)?),
            },
            (None, Verb::Pool) => match self {
                Self::Floor => Box::new(floor::Plain::new(place)?),
                _ => Box::new(Warm::new(place, scenario, worker)?),
            },
        })
    }
}

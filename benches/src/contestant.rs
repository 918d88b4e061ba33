//! Who is compared, and in what.

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

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// A container is made, runs the payload, and is removed.
    Run,
    /// The same in two steps: the container waits before the payload comes.
    Create,
    /// The payload runs as a further process of a container.
    Exec,
    /// The same, started by the container's own init where there is one that does so; the floor is
    /// a process of the host.
    Spawn,
    /// The payload starts in a container that waits for it in a warm pool; the floor is a process
    /// of the host.
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

/// One of those that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// The system calls alone.
    Floor,
    /// The library, as it is without being told otherwise.
    #[value(alias = "template")]
    Library,
    /// The library, always from the host's mounts.
    Host,
    /// The command line of the library.
    Pidone,
    /// The OCI runtime in C.
    Crun,
    /// The OCI runtime in Go.
    Runc,
    /// bubblewrap; it makes no cgroup and loads no filter.
    Bwrap,
    /// unshare(1): namespaces and `/proc` alone.
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
    /// All of them, in the order of the table.
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

    /// The program that it is.
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

    /// Whether it has a way to do something.
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

    /// Prepares it. `worker` tells those apart that run at the same time.
    ///
    /// # Errors
    /// It is not installed, or cannot do that here.
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

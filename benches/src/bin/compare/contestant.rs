//! Who starts containers.

use std::fmt;

use clap::ValueEnum;
use pidone::Strategy;
use pidone_benches::floor::Floor;
use pidone_benches::library::Library;
use pidone_benches::peer::Peer;
use pidone_benches::place::Place;
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Starter};
use serde::{Deserialize, Serialize};

/// One of those that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contestant {
    /// The system calls alone.
    Floor,
    /// The library, from its template mount namespace.
    Template,
    /// The library, from the host's mounts.
    Host,
    /// `crun run`.
    Crun,
    /// `runc run`.
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
            Self::Template => "library, template",
            Self::Host => "library, host",
            Self::Crun => Peer::Crun.program(),
            Self::Runc => Peer::Runc.program(),
            Self::Bwrap => Peer::Bwrap.program(),
            Self::Unshare => Peer::Unshare.program(),
        })
    }
}

impl Contestant {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 7] = [
        Self::Floor,
        Self::Template,
        Self::Host,
        Self::Crun,
        Self::Runc,
        Self::Bwrap,
        Self::Unshare,
    ];

    /// Prepares its starts of a scenario.
    pub(crate) fn prepare(
        self,
        place: &Place,
        scenario: Scenario,
        worker: usize,
    ) -> Result<Box<dyn Starter>> {
        let library = |strategy| -> Result<Box<dyn Starter>> {
            Ok(Box::new(Library::new(place, scenario, strategy, worker)?))
        };
        let peer = |peer: Peer| -> Result<Box<dyn Starter>> {
            Ok(Box::new(peer.prepare(place, scenario, worker)?))
        };
        match self {
            Self::Floor => Ok(Box::new(Floor::new(place, scenario, worker)?)),
            Self::Template => library(Strategy::Template),
            Self::Host => library(Strategy::Host),
            Self::Crun => peer(Peer::Crun),
            Self::Runc => peer(Peer::Runc),
            Self::Bwrap => peer(Peer::Bwrap),
            Self::Unshare => peer(Peer::Unshare),
        }
    }
}

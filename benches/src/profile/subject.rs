//! Starts that are recorded.

use std::fs;
use std::path::PathBuf;

use pidone::trace;

use super::Cost;
use super::timeline::{Parts, Timeline};
use crate::contestant::{Contestant, Verb};
use crate::floor::{Floor, Plain};
use crate::part::Part;
use crate::peer::Peer;
use crate::place::{Place, View};
use crate::scenario::Scenario;
use crate::used::Used;
use crate::{Result, Starter};

/// The worker number of profiled starts, which distinguishes them from others at the same place.
const WORKER: usize = 1000;

/// A way to start the payload that records the parts of a start.
pub(super) enum Subject {
    /// The library.
    Library(Box<dyn Starter>),
    /// The command line, which writes its recording to a file.
    Program(Box<dyn Starter>, PathBuf),
    Floor(Box<Floor>),
    Plain(Plain),
}

impl Subject {
    /// Prepares recorded starts by a contestant.
    pub(super) fn new(
        contestant: Contestant,
        verb: Verb,
        place: &Place,
        scenario: Scenario,
    ) -> Result<Self> {
        let file = place.directory().join(format!("{verb}.json").replace(' ', "-"));
        Ok(match (contestant, verb) {
            (Contestant::Library | Contestant::Host, _) => {
                Self::Library(contestant.prepare(verb, place, scenario, WORKER)?)
            }
            (Contestant::Pidone, Verb::Run) => {
                let once = Peer::Pidone.once(place, scenario, WORKER)?;
                Self::Program(Box::new(once.traced(&file)), file)
            }
            (Contestant::Pidone, Verb::Exec) => {
                let exec = crate::peer::Exec::new(Peer::Pidone, place, scenario, "profile")?;
                Self::Program(Box::new(exec.traced(&file)), file)
            }
            _ => return Err(format!("{contestant} cannot record {verb}").into()),
        })
    }

    /// Prepares the floor of a subject, if it has one.
    pub(super) fn floor(
        subject: &Self,
        verb: Verb,
        place: &Place,
        scenario: Scenario,
    ) -> Result<Option<Self>> {
        Ok(match (subject, verb) {
            (Self::Library(_), Verb::Run) if place.view() == View::V2 => {
                Some(Self::Floor(Box::new(Floor::new(place, scenario, WORKER)?)))
            }
            (Self::Library(_), Verb::Spawn | Verb::Pool) => Some(Self::Plain(Plain::new(place)?)),
            _ => None,
        })
    }

    /// Starts once, and returns the parts.
    pub(super) fn parts(&mut self) -> Result<Parts> {
        match self {
            Self::Library(starter) => {
                let (sample, trace) = trace::record(|| starter.start());
                let sample = sample?;
                let end = sample.begin + sample.first;
                Ok(Timeline::from_trace(&trace)?.divide([sample.begin, end]))
            }
            Self::Program(starter, file) => {
                let sample = starter.start()?;
                let timeline = Timeline::read(&fs::read(file)?)?;
                let [first, end] = [sample.first, sample.whole].map(|time| sample.begin + time);
                let mut parts = timeline.divide([sample.begin, first]);
                let rest = "from the first instruction to the end of the command line";
                parts.insert(rest.to_owned(), end.saturating_sub(first));
                Ok(parts)
            }
            Self::Floor(floor) => Ok(named(floor.parts()?)),
            Self::Plain(plain) => Ok(named(plain.parts()?)),
        }
    }
}

/// Replaces parts by their names.
fn named(parts: impl IntoIterator<Item = (Part, u64)>) -> Parts {
    parts.into_iter().map(|(part, time)| (part.name().to_owned(), time)).collect()
}

/// Programs that take turns with a subject, without a recording, to measure their usage.
pub(super) struct Peers(Vec<(Contestant, Box<dyn Starter>, Used)>);

impl Peers {
    /// Prepares the command line and crun for a subject that is the command line, otherwise
    /// nothing.
    pub(super) fn new(
        subject: &Subject,
        verb: Verb,
        place: &Place,
        scenario: Scenario,
    ) -> Result<Self> {
        let mut peers = Vec::new();
        if matches!(subject, Subject::Program(..)) {
            for contestant in [Contestant::Pidone, Contestant::Crun] {
                let mut starter = contestant.prepare(verb, place, scenario, WORKER + 1)?;
                starter.start()?;
                peers.push((contestant, starter, Used::default()));
            }
        }
        Ok(Self(peers))
    }

    /// Has each start once.
    pub(super) fn start(&mut self) -> Result<()> {
        for (_, starter, used) in &mut self.0 {
            let before = Used::so_far()?;
            starter.start()?;
            *used += Used::so_far()? - before;
        }
        Ok(())
    }

    /// Returns what each used for one of `starts` starts.
    pub(super) fn costs(self, starts: usize) -> Vec<Cost> {
        let count = u64::try_from(starts).unwrap_or(u64::MAX).max(1);
        let each = |used: Used| Used {
            user: used.user / count,
            system: used.system / count,
            faults: used.faults / count,
        };
        self.0
            .into_iter()
            .map(|(contestant, _, used)| Cost { contestant, used: each(used) })
            .collect()
    }
}

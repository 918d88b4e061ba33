//! Profiles: where the time of a start goes, and how much more that is than in the floor.
//!
//! Recorded starts and starts of the floor take turns, and the profile has the median of each part.
//! A recording costs a few clock readings itself.

mod subject;
mod timeline;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::contestant::{Contestant, Verb};
use crate::figures::{median, ratio};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::used::Used;
use subject::{Peers, Subject};
use timeline::Parts;

/// A profile of starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The number of starts.
    pub starts: usize,
    /// Nanoseconds up to the payload's first instruction; for the command line, up to its end.
    pub total: u64,
    /// The same for the floor, or for the profile that this one is compared with.
    pub floor: Option<u64>,
    /// The parts, in descending order of their excess over the floor.
    pub parts: Vec<Share>,
    /// The processor time of the command line and of crun, if the profile is of the command line.
    pub costs: Vec<Cost>,
}

/// A part of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The name of the part.
    pub name: String,
    /// Its median in nanoseconds.
    pub time: u64,
    /// Its median in the floor.
    pub floor: u64,
}

/// What one call of a program uses, including its descendants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// The program.
    pub contestant: Contestant,
    /// Its usage for one call.
    pub used: Used,
}

/// The least share of the parts that [`Profile::words`] mentions.
const LEAST: f64 = 0.03;

/// The maximum number of parts that [`Profile::words`] mentions.
const MOST: usize = 8;

impl Profile {
    /// Records `starts` starts by a contestant.
    ///
    /// # Errors
    /// If it cannot be recorded, or does not start.
    pub fn measure(
        contestant: Contestant,
        verb: Verb,
        place: &Place,
        scenario: Scenario,
        starts: usize,
    ) -> Result<Self> {
        let mut subject = Subject::new(contestant, verb, place, scenario)?;
        let mut floor = Subject::floor(&subject, verb, place, scenario)?;
        let mut peers = Peers::new(&subject, verb, place, scenario)?;
        // The first start also makes what later ones reuse.
        subject.parts()?;
        let mut samples = Vec::with_capacity(starts);
        let mut floors = Vec::with_capacity(starts);
        for _ in 0..starts {
            samples.push(subject.parts()?);
            if let Some(floor) = &mut floor {
                floors.push(floor.parts()?);
            }
            peers.start()?;
        }
        let profile = Self::from_samples(&samples, peers.costs(starts));
        Ok(if floor.is_some() {
            profile.over(&Self::from_samples(&floors, Vec::new()))
        } else {
            profile
        })
    }

    /// Makes a profile from the parts of each start.
    fn from_samples(samples: &[Parts], costs: Vec<Cost>) -> Self {
        let mut names: Vec<&String> = samples.iter().flat_map(Parts::keys).collect();
        names.sort_unstable();
        names.dedup();
        let share = |name: &String| {
            let times = samples.iter().map(|sample| sample.get(name).copied().unwrap_or(0));
            Share { name: name.clone(), time: median(times), floor: 0 }
        };
        let mut parts: Vec<_> = names.into_iter().map(share).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.time));
        let total = median(samples.iter().map(|sample| sample.values().sum()));
        Self { starts: samples.len(), total, floor: None, parts, costs }
    }

    /// Compares the profile with another one as its floor.
    #[must_use]
    pub fn over(mut self, floor: &Self) -> Self {
        self.floor = Some(floor.total);
        for other in &floor.parts {
            let same = self.parts.iter().position(|part| part.name == other.name);
            // Where the init records nothing, one part covers all of the floor's.
            let whole = || self.parts.iter().position(|part| part.name == timeline::UNRECORDED);
            let part = same.or_else(whole).and_then(|index| self.parts.get_mut(index));
            match part {
                Some(part) => part.floor += other.time,
                None => {
                    let name = other.name.clone();
                    self.parts.push(Share { name, time: 0, floor: other.time });
                }
            }
        }
        self.parts.sort_by_key(|part| {
            std::cmp::Reverse((part.time.saturating_sub(part.floor), part.time))
        });
        self
    }

    /// Describes the largest parts in words. Shares are of the sum of all medians.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = format!("of {} µs", self.total / 1000);
        let excess = self.floor.map(|floor| self.total.saturating_sub(floor));
        if let Some(excess) = excess {
            let _ = write!(text, ", and of the {} µs that it is over", excess / 1000);
        }
        let percent = |time, of| ratio(time, of) * 100.0;
        let share_of =
            |part: &Share| excess.map_or(part.time, |_| part.time.saturating_sub(part.floor));
        // The medians of the parts do not add up to the median of the whole.
        let all: u64 = self.parts.iter().map(|part| part.time).sum();
        let excess = excess.map(|_| self.parts.iter().map(share_of).sum());
        let least = |part: &&Share| ratio(share_of(part), excess.unwrap_or(all)) >= LEAST;
        for (number, part) in self.parts.iter().filter(least).take(MOST).enumerate() {
            let sign = if number == 0 { ':' } else { ',' };
            let _ = write!(text, "{sign} {} {:.0} %", part.name, percent(part.time, all));
            if let Some(excess) = excess {
                let _ = write!(text, " and {:.0} %", percent(share_of(part), excess));
            }
        }
        for Cost { contestant, used } in &self.costs {
            let _ = write!(
                text,
                "; {contestant} uses {} µs in programs, {} µs in the kernel, {} page faults",
                used.user, used.system, used.faults
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(parts: &[(&str, u64)]) -> Parts {
        parts.iter().map(|(name, time)| ((*name).to_owned(), *time)).collect()
    }

    #[test]
    fn parts_are_sorted_by_excess() {
        let slow = sample(&[("clone", 50_000), ("mounts", 30_000), ("journal", 20_000)]);
        let slow = Profile::from_samples(&[slow], Vec::new());
        assert_eq!(slow.words(), "of 100 µs: clone 50 %, mounts 30 %, journal 20 %");
        let floor = sample(&[("clone", 45_000), ("mounts", 10_000), ("exec", 5_000)]);
        let over = slow.over(&Profile::from_samples(&[floor], Vec::new()));
        assert_eq!(
            over.words(),
            "of 100 µs, and of the 40 µs that it is over: mounts 30 % and 44 %, \
             journal 20 % and 44 %, clone 50 % and 11 %"
        );
        assert_eq!(over.parts.last().map(|part| (part.time, part.floor)), Some((0, 5_000)));
    }

    #[test]
    fn unrecorded_init_is_compared_with_all_parts_of_the_floor() {
        let asked = sample(&[(timeline::UNRECORDED, 80_000), ("host: ask the init", 20_000)]);
        let floor = sample(&[("clone", 30_000), ("exec", 10_000)]);
        let over = Profile::from_samples(&[asked], Vec::new())
            .over(&Profile::from_samples(&[floor], Vec::new()));
        assert_eq!(
            over.words(),
            "of 100 µs, and of the 60 µs that it is over: the init and the process that it \
             starts 80 % and 67 %, host: ask the init 20 % and 33 %"
        );
    }

    #[test]
    fn each_part_has_its_own_median() {
        let samples =
            [sample(&[("a", 1), ("b", 9)]), sample(&[("a", 3), ("b", 2)]), sample(&[("a", 2)])];
        let profile = Profile::from_samples(&samples, Vec::new());
        let parts: Vec<_> =
            profile.parts.iter().map(|part| (part.name.as_str(), part.time)).collect();
        assert_eq!(parts, [("a", 2), ("b", 2)]);
        assert_eq!((profile.total, profile.starts), (5, 3));
    }

    #[test]
    fn usage_of_programs_is_in_the_words() {
        let used = Used { user: 1, system: 2, faults: 3 };
        let costs = vec![Cost { contestant: Contestant::Crun, used }];
        let profile = Profile::from_samples(&[sample(&[("a", 1000)])], costs);
        assert_eq!(
            profile.words(),
            "of 1 µs: a 100 %; crun uses 1 µs in programs, 2 µs in the kernel, 3 page faults"
        );
    }
}

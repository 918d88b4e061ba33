//! What a start spends its time on, and how much more that is than the floor does.
//!
//! Starts on record and those of the floor take turns, and medians of each part are told. A record
//! costs a few clock readings itself.

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

/// What a start spends its time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// How many starts there were.
    pub starts: usize,
    /// Nanoseconds: to the payload's first instruction, of a whole program to its end.
    pub total: u64,
    /// The same of the floor, or of what else is in its place.
    pub floor: Option<u64>,
    /// The parts, those first that are the most longer than in the floor.
    pub parts: Vec<Share>,
    /// What whole programs use.
    pub costs: Vec<Cost>,
}

/// A part of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What was done.
    pub name: String,
    /// Nanoseconds.
    pub time: u64,
    /// Nanoseconds of the floor.
    pub floor: u64,
}

/// What one call of a program uses, and all that it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Whose program.
    pub contestant: Contestant,
    /// Of one call.
    pub used: Used,
}

/// Parts with less than this share are not told in words.
const LEAST: f64 = 0.03;

/// As many are told.
const MOST: usize = 8;

impl Profile {
    /// Has a contestant do something again and again, on record.
    ///
    /// # Errors
    /// It leaves no record, or does not start.
    pub fn measure(
        contestant: Contestant,
        verb: Verb,
        place: &Place,
        scenario: Scenario,
        starts: usize,
    ) -> Result<Self> {
        let mut subject = Subject::new(contestant, verb, place, scenario)?;
        let mut floor = Subject::floor(&subject, verb, place, scenario)?;
        let mut peers = Peers::of(&subject, verb, place, scenario)?;
        // What is made once is made by the first starts.
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
        let profile = Self::of(&samples, peers.costs(starts));
        Ok(if floor.is_some() { profile.over(&Self::of(&floors, Vec::new())) } else { profile })
    }

    fn of(samples: &[Parts], costs: Vec<Cost>) -> Self {
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

    /// The same, compared with another one.
    #[must_use]
    pub fn over(mut self, floor: &Self) -> Self {
        self.floor = Some(floor.total);
        for other in &floor.parts {
            let same = self.parts.iter().position(|part| part.name == other.name);
            // Where the init tells nothing, what the floor does is within its part.
            let whole = || self.parts.iter().position(|part| part.name == timeline::UNTOLD);
            let place = same.or_else(whole).and_then(|place| self.parts.get_mut(place));
            match place {
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

    /// The largest parts in words: what is in the way. Shares are those of all medians together.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = format!("of {} µs", self.total / 1000);
        let excess = self.floor.map(|floor| self.total.saturating_sub(floor));
        if let Some(excess) = excess {
            let _ = write!(text, ", and of the {} µs that it is over", excess / 1000);
        }
        let percent = |time, of| ratio(time, of) * 100.0;
        let of_what =
            |part: &Share| excess.map_or(part.time, |_| part.time.saturating_sub(part.floor));
        // Medians of parts do not add up to that of the whole, less so on a busy machine.
        let all: u64 = self.parts.iter().map(|part| part.time).sum();
        let excess = excess.map(|_| self.parts.iter().map(of_what).sum());
        let least = |part: &&Share| ratio(of_what(part), excess.unwrap_or(all)) >= LEAST;
        for (number, part) in self.parts.iter().filter(least).take(MOST).enumerate() {
            let sign = if number == 0 { ':' } else { ',' };
            let _ = write!(text, "{sign} {} {:.0} %", part.name, percent(part.time, all));
            if let Some(excess) = excess {
                let _ = write!(text, " and {:.0} %", percent(of_what(part), excess));
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
    fn the_largest_excess_comes_first() {
        let slow = sample(&[("clone", 50_000), ("mounts", 30_000), ("journal", 20_000)]);
        let slow = Profile::of(&[slow], Vec::new());
        assert_eq!(slow.words(), "of 100 µs: clone 50 %, mounts 30 %, journal 20 %");
        let floor = sample(&[("clone", 45_000), ("mounts", 10_000), ("exec", 5_000)]);
        let over = slow.over(&Profile::of(&[floor], Vec::new()));
        assert_eq!(
            over.words(),
            "of 100 µs, and of the 40 µs that it is over: mounts 30 % and 44 %, \
             journal 20 % and 44 %, clone 50 % and 11 %"
        );
        assert_eq!(over.parts.last().map(|part| (part.time, part.floor)), Some((0, 5_000)));
    }

    #[test]
    fn what_the_init_does_not_tell_holds_all_of_the_floor() {
        let asked = sample(&[(timeline::UNTOLD, 80_000), ("host: ask the init", 20_000)]);
        let floor = sample(&[("clone", 30_000), ("exec", 10_000)]);
        let over = Profile::of(&[asked], Vec::new()).over(&Profile::of(&[floor], Vec::new()));
        assert_eq!(
            over.words(),
            "of 100 µs, and of the 60 µs that it is over: the init and the process that it \
             starts 80 % and 67 %, host: ask the init 20 % and 33 %"
        );
    }

    #[test]
    fn medians_are_of_each_part() {
        let samples =
            [sample(&[("a", 1), ("b", 9)]), sample(&[("a", 3), ("b", 2)]), sample(&[("a", 2)])];
        let profile = Profile::of(&samples, Vec::new());
        let parts: Vec<_> =
            profile.parts.iter().map(|part| (part.name.as_str(), part.time)).collect();
        assert_eq!(parts, [("a", 2), ("b", 2)]);
        assert_eq!((profile.total, profile.starts), (5, 3));
    }

    #[test]
    fn what_whole_programs_use_is_told() {
        let used = Used { user: 1, system: 2, faults: 3 };
        let costs = vec![Cost { contestant: Contestant::Crun, used }];
        let profile = Profile::of(&[sample(&[("a", 1000)])], costs);
        assert_eq!(
            profile.words(),
            "of 1 µs: a 100 %; crun uses 1 µs in programs, 2 µs in the kernel, 3 page faults"
        );
    }
}

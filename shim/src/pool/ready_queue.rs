//! What a pool has: containers that wait, and when there shall be more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pidone_config::{Error, Result};
use serde::Serialize;

use super::Sizes;
use crate::container::{Container, Parked};

/// How long a refill rests behind its first failure; twice as long behind each further one.
const REST: Duration = Duration::from_millis(100);

/// How long it rests at most.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// A container that waits for its program.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) container: Container,
    pub(super) parked: Parked,
}

impl Place {
    /// Ends the init, and removes the container.
    pub(super) fn end(self) -> Result<()> {
        let Self { mut container, parked } = self;
        parked.end();
        container.destroy()
    }
}

/// What a pool has, and had since it began.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// How many containers wait.
    pub ready: usize,
    /// How many are being made.
    pub making: usize,
    /// As many are ready after a refill.
    pub size: usize,
    /// A refill begins when fewer are ready.
    pub low: usize,
    /// How many programs were started in containers that waited.
    pub warm: u64,
    /// How many were started in new ones.
    pub cold: u64,
    /// How many containers were thrown away since their init was gone or they were damaged.
    pub discarded: u64,
    /// How many containers have ended and are not removed yet.
    pub ended: usize,
    /// Why the last container could not be made or removed.
    pub error: Option<String>,
}

/// The containers that wait, the oldest first.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    sizes: Sizes,
    places: VecDeque<Place>,
    /// How many are being made.
    making: usize,
    /// Whether a refill has begun and has not come to its end.
    refilling: bool,
    /// Whether it is drained.
    closed: bool,
    /// Whether the threads shall end.
    pub(super) stopped: bool,
    /// Why the last container was not made.
    error: Option<Error>,
    failures: u32,
    rested: Instant,
    pub(super) warm: u64,
    pub(super) cold: u64,
    pub(super) discarded: u64,
}

impl ReadyQueue {
    /// An empty one.
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            places: VecDeque::new(),
            making: 0,
            refilling: true,
            closed: false,
            stopped: false,
            error: None,
            failures: 0,
            rested: Instant::now(),
            warm: 0,
            cold: 0,
            discarded: 0,
        }
    }

    /// Takes the oldest.
    pub(super) fn take(&mut self) -> Option<Place> {
        self.places.pop_front()
    }

    /// Takes all, and wants no more until [`ReadyQueue::open`].
    pub(super) fn close(&mut self) -> VecDeque<Place> {
        self.closed = true;
        std::mem::take(&mut self.places)
    }

    /// Begins a refill, however many are there.
    pub(super) fn want_all(&mut self) {
        self.refilling = true;
    }

    /// Wants to be full again.
    pub(super) fn open(&mut self) {
        self.closed = false;
        self.want_all();
        self.rested = Instant::now();
    }

    /// Whether another container is wanted now. One that is answers for [`ReadyQueue::made`].
    pub(super) fn begin(&mut self) -> bool {
        let Sizes { size, low } = self.sizes;
        let have = self.places.len() + self.making;
        // Between both marks it goes on with what it did.
        self.refilling = have < low || (self.refilling && have < size);
        let wanted = self.refilling && !self.closed && Instant::now() >= self.rested;
        self.making += usize::from(wanted);
        wanted
    }

    /// Whether a thread should look.
    pub(super) fn is_low(&self) -> bool {
        !self.closed && self.places.len() + self.making < self.sizes.low
    }

    /// Whether all that shall be there is.
    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= self.sizes.size
    }

    /// Takes what was made; gives it back if it is wanted no more.
    pub(super) fn made(&mut self, made: Result<Place>) -> Option<Place> {
        self.making -= 1;
        match made {
            Ok(place) if self.closed || self.stopped => return Some(place),
            Ok(place) => {
                self.places.push_back(place);
                (self.error, self.failures) = (None, 0);
            }
            Err(error) => {
                self.error = Some(error);
                let rest = REST.saturating_mul(1 << self.failures.min(10)).min(LONGEST_REST);
                self.failures += 1;
                self.rested = Instant::now() + rest;
            }
        }
        None
    }

    /// Puts one back that was looked at.
    pub(super) fn put_back(&mut self, place: Place) -> Option<Place> {
        if self.closed || self.stopped {
            return Some(place);
        }
        self.places.push_back(place);
        None
    }

    /// How many are there.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Why the last container was not made.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// What there is; `ended` and `error` are what the caller knows of containers that ended.
    pub(super) fn status(&self, ended: usize, error: Option<&Error>) -> Status {
        Status {
            ready: self.places.len(),
            making: self.making,
            size: self.sizes.size,
            low: self.sizes.low,
            warm: self.warm,
            cold: self.cold,
            discarded: self.discarded,
            ended,
            error: self.error.as_ref().or(error).map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<Place> {
        Err(Error::config("test", "", "no"))
    }

    #[test]
    fn a_burst_is_as_long_as_the_pool() {
        let mut shelf = ReadyQueue::new(Sizes { size: 3, low: 1 });
        let wanted = std::iter::from_fn(|| shelf.begin().then_some(())).count();
        assert_eq!(wanted, 3);
        // As if two of three were taken: one is left, and no burst begins.
        shelf.making = 1;
        assert!(!shelf.begin());
        shelf.making = 0;
        assert!(shelf.is_low());
        let wanted = std::iter::from_fn(|| shelf.begin().then_some(())).count();
        assert_eq!(wanted, 3);
    }

    #[test]
    fn rests_behind_a_failure() {
        let mut shelf = ReadyQueue::new(Sizes { size: 2, low: 2 });
        assert!(shelf.begin());
        assert!(shelf.made(failed()).is_none());
        assert!(!shelf.begin(), "at once");
        assert!(shelf.status(0, None).error.is_some_and(|error| error.contains("no")));
        shelf.rested = Instant::now();
        assert!(shelf.begin());
        assert!(shelf.made(failed()).is_none());
        assert!(shelf.rested > Instant::now() + REST);
    }

    #[test]
    fn closed_it_wants_nothing() {
        let mut shelf = ReadyQueue::new(Sizes { size: 2, low: 1 });
        assert!(shelf.close().is_empty());
        assert!(!shelf.begin() && !shelf.is_low());
        shelf.open();
        assert!(shelf.begin());
    }
}

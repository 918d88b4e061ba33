//! The containers of a pool that are ready, and when it is refilled.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pidone_config::{Error, Result};
use serde::Serialize;

use super::Sizes;
use crate::container::{Container, Parked};

/// The pause after the first failure of a refill. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A container whose init waits for its program.
#[derive(Debug)]
pub(super) struct ReadyContainer {
    pub(super) container: Container,
    pub(super) parked: Parked,
}

impl ReadyContainer {
    /// Kills the init, and removes the container.
    pub(super) fn end(self) -> Result<()> {
        let Self { mut container, parked } = self;
        parked.end();
        container.destroy()
    }
}

/// The state of a pool, and its counters since it was created.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The number of containers that are ready.
    pub ready: usize,
    /// The number of containers that are being created.
    pub making: usize,
    /// The number of containers that are ready after a refill: [`Sizes::size`].
    pub size: usize,
    /// A refill begins when fewer are ready: [`Sizes::low`].
    pub low: usize,
    /// The number of programs that were started in containers that were ready.
    pub warm: u64,
    /// The number of programs that were started in new containers.
    pub cold: u64,
    /// The number of ready containers that were discarded, since their init had ended or they were
    /// damaged.
    pub discarded: u64,
    /// The number of used containers that are not removed yet.
    pub ended: usize,
    /// Why the last container could not be created or removed.
    pub error: Option<String>,
}

/// The containers that are ready, the oldest first.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    sizes: Sizes,
    containers: VecDeque<ReadyContainer>,
    /// The number of containers that are being created.
    making: usize,
    /// Whether a refill has begun and is not complete.
    refilling: bool,
    /// Whether the pool is drained.
    closed: bool,
    /// Whether the threads of the pool must end.
    pub(super) stopped: bool,
    /// Why the last container was not created.
    error: Option<Error>,
    /// The number of failures since the last success.
    failures: u32,
    /// The end of the pause after the last failure.
    paused_until: Instant,
    pub(super) warm: u64,
    pub(super) cold: u64,
    pub(super) discarded: u64,
}

impl ReadyQueue {
    /// Returns an empty queue, which wants to be filled.
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            containers: VecDeque::new(),
            making: 0,
            refilling: true,
            closed: false,
            stopped: false,
            error: None,
            failures: 0,
            paused_until: Instant::now(),
            warm: 0,
            cold: 0,
            discarded: 0,
        }
    }

    /// Takes the oldest container.
    pub(super) fn take(&mut self) -> Option<ReadyContainer> {
        self.containers.pop_front()
    }

    /// Takes all containers, and wants no more until [`ReadyQueue::open`].
    pub(super) fn close(&mut self) -> VecDeque<ReadyContainer> {
        self.closed = true;
        std::mem::take(&mut self.containers)
    }

    /// Begins a refill, however many containers are ready.
    pub(super) fn want_all(&mut self) {
        self.refilling = true;
    }

    /// Wants to be filled again, after [`ReadyQueue::close`].
    pub(super) fn open(&mut self) {
        self.closed = false;
        self.want_all();
        self.paused_until = Instant::now();
    }

    /// Returns whether another container is wanted now. If so, the caller must create one and call
    /// [`ReadyQueue::made`].
    pub(super) fn begin(&mut self) -> bool {
        let Sizes { size, low } = self.sizes;
        let have = self.containers.len() + self.making;
        // Between `low` and `size`, a refill that has begun continues.
        self.refilling = have < low || (self.refilling && have < size);
        let wanted = self.refilling && !self.closed && Instant::now() >= self.paused_until;
        self.making += usize::from(wanted);
        wanted
    }

    /// Whether a refill must begin.
    pub(super) fn is_low(&self) -> bool {
        !self.closed && self.containers.len() + self.making < self.sizes.low
    }

    /// Whether all containers are ready.
    pub(super) fn is_full(&self) -> bool {
        self.containers.len() >= self.sizes.size
    }

    /// Adds a new container, or counts the failure. Returns a container that is no longer wanted.
    pub(super) fn made(&mut self, made: Result<ReadyContainer>) -> Option<ReadyContainer> {
        self.making -= 1;
        match made {
            Ok(ready) if self.closed || self.stopped => return Some(ready),
            Ok(ready) => {
                self.containers.push_back(ready);
                (self.error, self.failures) = (None, 0);
            }
            Err(error) => {
                self.error = Some(error);
                let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
                self.failures += 1;
                self.paused_until = Instant::now() + pause;
            }
        }
        None
    }

    /// Puts back a container after its check. Returns it if it is no longer wanted.
    pub(super) fn put_back(&mut self, ready: ReadyContainer) -> Option<ReadyContainer> {
        if self.closed || self.stopped {
            return Some(ready);
        }
        self.containers.push_back(ready);
        None
    }

    /// Returns the number of ready containers.
    pub(super) fn len(&self) -> usize {
        self.containers.len()
    }

    /// Returns why the last container was not created.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Returns the status. `ended` is the number of used containers that are not removed yet, and
    /// `error` is why the last one could not be.
    pub(super) fn status(&self, ended: usize, error: Option<&Error>) -> Status {
        Status {
            ready: self.containers.len(),
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

    fn failed() -> Result<ReadyContainer> {
        Err(Error::config("test", "", "no"))
    }

    #[test]
    fn a_refill_begins_below_the_low_mark_and_fills_the_pool() {
        let mut queue = ReadyQueue::new(Sizes { size: 3, low: 1 });
        let wanted = std::iter::from_fn(|| queue.begin().then_some(())).count();
        assert_eq!(wanted, 3);
        // As if two of three were taken: one is left, which is not below the mark.
        queue.making = 1;
        assert!(!queue.begin());
        queue.making = 0;
        assert!(queue.is_low());
        let wanted = std::iter::from_fn(|| queue.begin().then_some(())).count();
        assert_eq!(wanted, 3);
    }

    #[test]
    fn the_pause_after_a_failure_doubles() {
        let mut queue = ReadyQueue::new(Sizes { size: 2, low: 2 });
        assert!(queue.begin());
        assert!(queue.made(failed()).is_none());
        assert!(!queue.begin(), "no pause");
        assert!(queue.status(0, None).error.is_some_and(|error| error.contains("no")));
        queue.paused_until = Instant::now();
        assert!(queue.begin());
        assert!(queue.made(failed()).is_none());
        assert!(queue.paused_until > Instant::now() + PAUSE);
    }

    #[test]
    fn a_closed_queue_wants_nothing_until_it_is_opened() {
        let mut queue = ReadyQueue::new(Sizes { size: 2, low: 1 });
        assert!(queue.close().is_empty());
        assert!(!queue.begin() && !queue.is_low());
        queue.open();
        assert!(queue.begin());
    }
}

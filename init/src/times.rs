//! How long each operation took.

use pidone_proto::{Report, limits};
use rustix::io::Errno;

use crate::channel::Channel;
use crate::failure::Result;
use crate::sys;

/// The stamps of the operations so far.
pub(crate) struct Times {
    /// Nanoseconds, as little-endian numbers of 32 bits.
    nanoseconds: &'static mut [u8],
    count: usize,
    /// When the last one was done: [`sys::now`].
    last: u64,
}

impl Times {
    /// Starts the clock.
    pub(crate) fn new() -> core::result::Result<Self, Errno> {
        Ok(Self { nanoseconds: sys::memory(4 * limits::TIMED)?, count: 0, last: sys::now() })
    }

    /// An operation is done.
    pub(crate) fn stamp(&mut self) {
        let now = sys::now();
        let took = u32::try_from(now.saturating_sub(self.last)).unwrap_or(u32::MAX);
        self.last = now;
        if let Some(place) = self.nanoseconds.as_chunks_mut::<4>().0.get_mut(self.count) {
            *place = took.to_le_bytes();
            self.count += 1;
        }
    }

    /// Tells the host.
    pub(crate) fn report(&self, channel: &mut Channel) -> Result {
        let stamped = self.nanoseconds.get(..4 * self.count).unwrap_or_default();
        let mut first = 1;
        for batch in stamped.chunks(4 * limits::TIMES_PER_REPORT) {
            channel.send(&Report::Times { first, nanoseconds: batch }, None)?;
            // At most `limits::TIMED`.
            first += u32::try_from(batch.len() / 4).unwrap_or(0);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;
    use std::vec::Vec;

    use super::*;
    use crate::peer::Peer;

    /// The batches that a number of stamps are reported in: the first number and how many.
    fn batches(stamps: usize) -> Vec<(u32, usize)> {
        let (peer, mut channel) = Peer::pair();
        let mut times = Times::new().unwrap();
        for _ in 0..stamps {
            times.stamp();
        }
        times.report(&mut channel).unwrap();
        drop(channel);
        let expected = stamps.min(limits::TIMED).div_ceil(limits::TIMES_PER_REPORT);
        (0..expected)
            .map(|_| match peer.receive().report() {
                Report::Times { first, nanoseconds } => (first, nanoseconds.len() / 4),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn times_come_in_batches() {
        assert_eq!(batches(0), []);
        assert_eq!(batches(1), [(1, 1)]);
        assert_eq!(batches(256), [(1, 256)]);
        assert_eq!(batches(257), [(1, 256), (257, 1)]);
    }

    #[test]
    fn operations_behind_the_limit_are_not_timed() {
        let batches = batches(limits::TIMED + 10);
        assert_eq!(batches.len(), 16);
        assert_eq!(batches.last(), Some(&(3841, 256)));
    }

    #[test]
    fn a_time_is_how_long_it_took() {
        let mut times = Times::new().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        times.stamp();
        times.stamp();
        let (both, _) = times.nanoseconds[..8].as_chunks::<4>();
        let [slept, at_once] = [both[0], both[1]].map(u32::from_le_bytes);
        assert!(slept >= 20_000_000, "{slept}");
        assert!(at_once < slept, "{at_once}");
    }
}

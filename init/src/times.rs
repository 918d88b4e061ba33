//! When each operation was finished.

use pidone_proto::{Report, limits};
use rustix::io::Errno;

use crate::channel::Channel;
use crate::failure::Result;
use crate::kernel::memory::allocate;
use crate::kernel::now;

/// The size of a stamp.
const STAMP: usize = size_of::<u64>();

/// The stamps so far.
pub(crate) struct Times {
    /// Results of [`now`] as little-endian numbers of 64 bits.
    stamps: &'static mut [u8],
    count: usize,
}

impl Times {
    /// Starts with the time when the program began, 0 if that is not known, and the current time.
    pub(crate) fn new(begun: u64) -> core::result::Result<Self, Errno> {
        let mut times = Self { stamps: allocate(STAMP * limits::TIMES)?, count: 0 };
        times.push(begun);
        times.stamp();
        Ok(times)
    }

    /// Records that an operation is finished.
    pub(crate) fn stamp(&mut self) {
        self.push(now());
    }

    fn push(&mut self, stamp: u64) {
        if let Some(place) = self.stamps.as_chunks_mut::<STAMP>().0.get_mut(self.count) {
            *place = stamp.to_le_bytes();
            self.count += 1;
        }
    }

    /// Reports the stamps to the host.
    pub(crate) fn report(&self, channel: &mut Channel) -> Result {
        let stamps = self.stamps.get(..STAMP * self.count).unwrap_or_default();
        let mut first = 0;
        for batch in stamps.chunks(STAMP * limits::TIMES_PER_REPORT) {
            channel.send(&Report::Times { first, nanoseconds: batch }, None)?;
            // At most `limits::TIMES`.
            first += u32::try_from(batch.len() / STAMP).unwrap_or(0);
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

    /// Returns the batches that are reported after some operations: the first number and how many.
    fn batches(operations: usize) -> Vec<(u32, usize)> {
        let (peer, mut channel) = Peer::pair();
        let mut times = Times::new(7).unwrap();
        for _ in 0..operations {
            times.stamp();
        }
        times.report(&mut channel).unwrap();
        drop(channel);
        let stamps = (operations + 2).min(limits::TIMES);
        (0..stamps.div_ceil(limits::TIMES_PER_REPORT))
            .map(|_| match peer.receive().report() {
                Report::Times { first, nanoseconds } => (first, nanoseconds.len() / STAMP),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn times_are_reported_in_batches() {
        assert_eq!(batches(0), [(0, 2)]);
        assert_eq!(batches(254), [(0, 256)]);
        assert_eq!(batches(255), [(0, 256), (256, 1)]);
    }

    #[test]
    fn operations_beyond_the_limit_are_not_timed() {
        let batches = batches(limits::TIMES + 10);
        assert_eq!(batches.len(), 16);
        assert_eq!(batches.last(), Some(&(3840, 256)));
    }

    #[test]
    fn a_stamp_is_the_monotonic_clock() {
        let before = now();
        let mut times = Times::new(before).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        times.stamp();
        let (stamps, _) = times.stamps[..3 * STAMP].as_chunks::<STAMP>();
        let [begun, read, slept] = [0, 1, 2].map(|at| u64::from_le_bytes(stamps[at]));
        assert_eq!(begun, before);
        assert!(read >= begun && slept - read >= 20_000_000, "{read} {slept}");
        assert!(slept <= now());
    }
}

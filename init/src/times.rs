//! How long each operation took.

use core::time::Duration;

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
    last: Duration,
}

impl Times {
    /// Starts the clock.
    pub(crate) fn new() -> core::result::Result<Self, Errno> {
        Ok(Self { nanoseconds: sys::memory(4 * limits::TIMED)?, count: 0, last: sys::now() })
    }

    /// An operation is done.
    pub(crate) fn stamp(&mut self) {
        let now = sys::now();
        let took = now.saturating_sub(self.last).as_nanos();
        let took = u32::try_from(took).unwrap_or(u32::MAX);
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

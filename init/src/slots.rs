//! The table of descriptors that operations name.

use pidone_proto::{Call, Slot, limits};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

use crate::failure::{Failure, Result};

/// Descriptors by slot.
pub(crate) struct Slots {
    table: [Option<OwnedFd>; limits::SLOTS],
}

impl Slots {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Self { table: [const { None }; limits::SLOTS] }
    }

    /// Keeps a descriptor that came with a message. Closes it if there are too many; the check of
    /// the header then fails.
    pub(crate) fn put_received(&mut self, index: usize, fd: OwnedFd) {
        if let Some(place) = self.table.get_mut(index) {
            *place = Some(fd);
        }
    }

    /// Keeps a descriptor that the init made.
    pub(crate) fn put(&mut self, slot: Slot, fd: OwnedFd) -> Result {
        *self.place(slot)? = Some(fd);
        Ok(())
    }

    /// Borrows a descriptor.
    pub(crate) fn get(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        self.table.get(usize::from(slot.0)).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(EMPTY)
    }

    /// Removes a descriptor from its slot.
    pub(crate) fn take(&mut self, slot: Slot) -> Result<OwnedFd> {
        self.place(slot)?.take().ok_or(EMPTY)
    }

    /// Moves all descriptors to numbers that are not below `number`.
    pub(crate) fn move_above(&mut self, number: i32) -> core::result::Result<(), Errno> {
        use rustix::fd::AsRawFd as _;
        for fd in self.table.iter_mut().flatten().filter(|fd| fd.as_raw_fd() < number) {
            *fd = rustix::io::fcntl_dupfd_cloexec(&*fd, number)?;
        }
        Ok(())
    }

    /// Returns the lowest descriptor from `number` up, or `other` if that is lower.
    pub(crate) fn lowest_from(&self, number: i32, other: i32) -> i32 {
        use rustix::fd::AsRawFd as _;
        let mut lowest = other;
        for fd in self.table.iter().flatten() {
            let fd = fd.as_raw_fd();
            if fd >= number && fd < lowest {
                lowest = fd;
            }
        }
        lowest
    }

    /// Removes the first descriptor that was received; the others move down by one slot.
    pub(crate) fn take_first(&mut self) -> Result<OwnedFd> {
        let first = self.take(Slot(0))?;
        if let Some(received) = self.table.get_mut(..limits::DESCRIPTORS) {
            received.rotate_left(1);
        }
        Ok(first)
    }

    fn place(&mut self, slot: Slot) -> Result<&mut Option<OwnedFd>> {
        self.table.get_mut(usize::from(slot.0)).ok_or(EMPTY)
    }
}

const EMPTY: Failure = Failure::new(Call::Slot, Errno::BADF);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::peer::{is_closed, pipe};

    const LAST: Slot = Slot(511);
    const BEYOND: Slot = Slot(512);

    #[test]
    fn a_descriptor_is_borrowed_and_taken_from_its_slot() {
        let mut slots = Slots::new();
        let (ours, theirs) = pipe();
        slots.put(LAST, theirs).unwrap();
        assert!(slots.get(LAST).is_ok());
        let taken = slots.take(LAST).unwrap();
        assert!(!is_closed(&ours));
        drop(taken);
        assert!(is_closed(&ours));
        assert_eq!(slots.take(LAST).unwrap_err(), EMPTY);
        assert_eq!(slots.get(LAST).unwrap_err(), EMPTY);
    }

    #[test]
    fn slots_out_of_range_are_empty() {
        let mut slots = Slots::new();
        let (ours, theirs) = pipe();
        for slot in [Slot(0), LAST, BEYOND, Slot(u16::MAX)] {
            assert_eq!(slots.get(slot).unwrap_err(), EMPTY);
            assert_eq!(slots.take(slot).unwrap_err(), EMPTY);
        }
        assert_eq!(slots.put(BEYOND, theirs).unwrap_err(), EMPTY);
        assert!(is_closed(&ours), "a descriptor without a slot is closed");
    }

    #[test]
    fn a_replaced_descriptor_is_closed() {
        let mut slots = Slots::new();
        let (first, theirs) = pipe();
        slots.put_received(3, theirs);
        let (second, theirs) = pipe();
        slots.put_received(3, theirs);
        assert!(is_closed(&first));
        assert!(!is_closed(&second));
        let (third, theirs) = pipe();
        slots.put(Slot(3), theirs).unwrap();
        assert!(is_closed(&second));
        assert!(!is_closed(&third));
    }

    #[test]
    fn a_received_descriptor_out_of_range_is_closed() {
        let mut slots = Slots::new();
        let (ours, theirs) = pipe();
        slots.put_received(limits::SLOTS, theirs);
        assert!(is_closed(&ours));
    }
}

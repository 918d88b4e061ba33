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

    /// Keeps a descriptor that came with a message; too many are closed, and the header tells.
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

    /// Lends a descriptor.
    pub(crate) fn get(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        self.table.get(usize::from(slot.0)).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(EMPTY)
    }

    /// Gives a descriptor away.
    pub(crate) fn take(&mut self, slot: Slot) -> Result<OwnedFd> {
        self.place(slot)?.take().ok_or(EMPTY)
    }

    /// Gives the first of those received away; the others take the slots before theirs.
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

//! What an interpreter has: the socket to the host, descriptors by slot, and the root that names
//! are resolved in.
//!
//! Operations depend on this and not on how they are run.

use core::ffi::CStr;
#[cfg(feature = "supervise")]
use core::sync::atomic::{AtomicBool, Ordering};

use pidone_proto::frame::HEADER_LENGTH;
use pidone_proto::{Call, FrameType, Header, Report};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::channel::Channel;
use crate::failure::{self, Context as _, Failure, Result};
use crate::kernel;
use crate::root::Root;
use crate::slots::Slots;
use crate::times::Times;

/// The state of an interpreter.
pub(crate) struct Init {
    /// The socket to the host.
    pub(crate) channel: Channel,
    /// Descriptors by slot.
    pub(crate) slots: Slots,
    root: Option<Root>,
    /// All descriptors from this number up are close-on-exec.
    pub(crate) fixed: u32,
    /// The first candidate for the program to try, counted from 1, or 0: `Op::FindProgram`.
    pub(crate) found: u16,
    /// The directory of the last node or link that was made.
    place: Option<Place>,
    /// The times of the operations so far, if the host wants them.
    pub(crate) times: Option<Times>,
    /// The operation that runs, counted from 1; 0 before the first.
    pub(crate) step: u32,
    /// What a child may use that shares the memory of its parent.
    #[cfg(feature = "supervise")]
    pub(crate) shared: Option<Shared>,
}

/// What a process may use that shares the memory of its parent.
#[cfg(feature = "supervise")]
pub(crate) struct Shared {
    /// Memory for its own use: what it maps would stay in the parent.
    pub(crate) memory: &'static mut [u8],
    /// Set when the program comes next, as long as the parent is the one that reads reports.
    pub(crate) executing: Option<&'static AtomicBool>,
}

impl Init {
    /// The state before the first operation.
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            slots: Slots::new(),
            root: None,
            fixed: 3,
            found: 0,
            place: None,
            times: None,
            step: 0,
            #[cfg(feature = "supervise")]
            shared: None,
        }
    }

    /// Returns the root that names are resolved in: the plan's, or the process's own.
    pub(crate) fn root(&mut self) -> core::result::Result<&Root, Errno> {
        let root = match self.root.take() {
            Some(root) => root,
            None => Root::current()?,
        };
        Ok(self.root.insert(root))
    }

    /// Opens a path below the root: [`Root::open`].
    #[inline(never)]
    pub(crate) fn open(
        &mut self,
        path: &CStr,
        flags: OFlags,
        follow: bool,
    ) -> core::result::Result<OwnedFd, Errno> {
        self.root()?.open(path, flags, follow)
    }

    /// Opens a path below the root, and makes what is missing: [`Root::make`].
    #[inline(never)]
    pub(crate) fn make(&mut self, path: &[u8], file: bool, follow: bool) -> Result<OwnedFd> {
        self.root().during(Call::Open)?.make(path, file, follow)
    }

    /// Opens the directory that contains the last component of a path, and returns it with that
    /// component, which is not looked at. Makes the directory and those above it if they are
    /// missing; none of them may be a link.
    ///
    /// For one of a series of operations: a directory is opened once for all nodes and links that
    /// are made in it in sequence.
    #[inline(never)]
    pub(crate) fn parent_in_series<'p>(
        &mut self,
        path: &'p CStr,
    ) -> Result<(BorrowedFd<'_>, &'p CStr)> {
        let (above, name) = Root::split(path)?;
        let place = match self.place.take() {
            Some(place) if place.is_at(above) => place,
            _ => Place::new(above, self.make(above, false, false)?),
        };
        let place: &Place = self.place.insert(place);
        Ok((place.directory.as_fd(), name))
    }

    /// Ends a series of [`Init::parent_in_series`]: other operations may change what the path leads
    /// to.
    pub(crate) fn end_series(&mut self) {
        self.place = None;
    }

    /// Closes all slots and the root. Names are resolved in the process's own root from then on.
    pub(crate) fn close_all(&mut self) {
        self.slots = Slots::new();
        self.close_root();
    }

    /// Closes the root. Names are resolved in the process's own root from then on.
    pub(crate) fn close_root(&mut self) {
        self.root = None;
    }

    /// Changes the root that names are resolved in.
    pub(crate) fn set_root(&mut self, root: Root) {
        self.root = Some(root);
    }

    /// Returns memory that is used until the program is executed.
    pub(crate) fn memory(
        &mut self,
        length: usize,
    ) -> core::result::Result<&'static mut [u8], Errno> {
        #[cfg(feature = "supervise")]
        if let Some(Shared { memory, .. }) = &mut self.shared {
            return memory.split_off_mut(..length).ok_or(Errno::NOMEM);
        }
        kernel::memory::allocate(length)
    }

    /// Waits until the host lets the init proceed.
    pub(crate) fn wait(&mut self) -> Result {
        let mut buffer = [0; HEADER_LENGTH];
        match self.channel.receive(&mut buffer, &mut self.slots) {
            Ok((Header { frame_type: FrameType::Proceed, descriptors: 0, .. }, b"")) => Ok(()),
            Ok(_) => Err(Failure::unexpected(Call::Receive)),
            Err(failure) => Err(failure),
        }
    }

    /// Reports that the program is executed next.
    pub(crate) fn report_executing(&mut self) -> Result {
        #[cfg(feature = "supervise")]
        if let Some(Shared { executing: Some(executing), .. }) = &self.shared {
            executing.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.channel.send(&Report::Executing, None)
    }

    /// Reports why the program was not executed, and exits.
    pub(crate) fn fail(&mut self, failure: Failure) -> ! {
        // The operation that failed took time too.
        if let Some(mut times) = self.times.take() {
            times.stamp();
            let _ = times.report(&mut self.channel);
        }
        let errno = u16::try_from(failure.errno.raw_os_error()).unwrap_or(0);
        let Failure { call, detail, .. } = failure;
        let report = Report::Failed { step: self.step, call, detail, errno };
        // If the host is gone, nothing can be reported.
        let _ = self.channel.send(&report, None);
        kernel::process::exit(failure::EXIT_STATUS)
    }
}

/// An open directory with its path, if that is short enough to be kept.
struct Place {
    path: [u8; 16],
    length: usize,
    directory: OwnedFd,
}

impl Place {
    fn new(path: &[u8], directory: OwnedFd) -> Self {
        let mut place = Self { path: [0; 16], length: 0, directory };
        if let Some(kept) = place.path.get_mut(..path.len()) {
            kept.copy_from_slice(path);
            place.length = path.len();
        }
        place
    }

    fn is_at(&self, path: &[u8]) -> bool {
        // A path that was not kept has length 0, like no other.
        !path.is_empty() && self.path.get(..self.length) == Some(path)
    }
}

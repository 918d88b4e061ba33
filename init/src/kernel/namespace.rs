//! Namespaces of this process.
#![allow(unsafe_code, reason = "unshare is unsafe in rustix")]

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe,
};

/// Moves this process into new namespaces: `unshare(2)`.
pub(crate) fn unshare(flags: u32) -> Result<(), Errno> {
    // SAFETY: the init has one thread, so no other thread loses a descriptor.
    unsafe { unshare_unsafe(UnshareFlags::from_bits_retain(flags)) }
}

/// Joins a namespace by its file, or several by a pidfd: `setns(2)`.
pub(crate) fn setns(target: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    move_into_thread_name_spaces(target, ThreadNameSpaceType::from_bits_retain(flags))
}

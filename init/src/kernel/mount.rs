//! Attributes of mounts.
#![allow(unsafe_code, reason = "raw system calls")]

use linux_raw_sys::general::{__NR_mount_setattr, AT_EMPTY_PATH, AT_RECURSIVE, mount_attr};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use super::{raw, syscall};

/// Changes attributes of the mount that a descriptor refers to: `mount_setattr(2)`.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let args = [
        raw(mount),
        c"".as_ptr() as usize,
        flags as usize,
        (&raw const attributes) as usize,
        size_of_val(&attributes),
        0,
    ];
    // SAFETY: the path and the structure outlive the call, which only reads them.
    unsafe { syscall(__NR_mount_setattr, args) }.map(drop)
}

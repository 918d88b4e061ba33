//! System calls that rustix does not offer, or not as this program needs them.
//!
//! [`arch`] is what differs by architecture; the other modules are calls by subject. Where rustix
//! has a call too, a comment says why it is not used. Numbers, flags and structures come from
//! `linux-raw-sys`, as in rustix, except the few that it does not have.
#![allow(unsafe_code, reason = "raw system calls")]

mod arch;
pub(crate) mod attributes;
pub(crate) mod descriptor;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod socket;

use linux_raw_sys::general::{__NR_clock_gettime, CLOCK_MONOTONIC};
use rustix::fd::{AsRawFd as _, BorrowedFd};
use rustix::io::Errno;

/// Makes a system call.
///
/// # Safety
/// As [`arch::syscall`].
unsafe fn syscall(number: u32, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the contract is the same.
    unsafe { arch::syscall(number as usize, args) }
}

/// Returns a descriptor as an argument.
fn raw(fd: BorrowedFd<'_>) -> usize {
    fd.as_raw_fd().cast_unsigned() as usize
}

/// Returns the monotonic clock in nanoseconds.
///
/// Rustix finds the vDSO first and keeps its address in writable data, which the image does not
/// have.
pub(crate) fn now() -> u64 {
    let mut time = [0_u64; 2];
    let args = [CLOCK_MONOTONIC as usize, (&raw mut time) as usize, 0, 0, 0, 0];
    // SAFETY: the kernel writes seconds and nanoseconds, two numbers of 64 bits.
    let _ = unsafe { syscall(__NR_clock_gettime, args) };
    time[0].saturating_mul(1_000_000_000).saturating_add(time[1])
}

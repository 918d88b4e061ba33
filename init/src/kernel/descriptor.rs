//! Descriptors by their numbers.
#![allow(unsafe_code, reason = "raw system calls")]

use linux_raw_sys::general::{__NR_close_range, __NR_dup3};
use rustix::fd::{AsRawFd as _, BorrowedFd, RawFd};
use rustix::io::Errno;

use super::{raw, syscall};

/// Has everything from `first` up closed at exec: `close_range(2)` with `CLOSE_RANGE_CLOEXEC`.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // linux/close_range.h, which linux-raw-sys does not have.
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    let args = [first as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0, 0];
    // SAFETY: no descriptor is closed by the call itself.
    unsafe { syscall(__NR_close_range, args) }.map(drop)
}

/// Closes the descriptors from `first` to `last`: `close_range(2)`. Does nothing if there are none.
///
/// # Safety
/// No [`OwnedFd`](rustix::fd::OwnedFd) that is still used may have one of these numbers.
pub(crate) unsafe fn close_range(first: u32, last: u32) {
    // SAFETY: the caller's promise; no memory is involved.
    let _ = unsafe { syscall(__NR_close_range, [first as usize, last as usize, 0, 0, 0, 0]) };
}

/// Duplicates a descriptor to a number that the program will have: `dup3(2)`.
///
/// Rustix takes the old descriptor at that number, which the init does not own.
///
/// # Safety
/// No [`OwnedFd`](rustix::fd::OwnedFd) that is still used may have the number `to`, except `from`
/// itself.
pub(crate) unsafe fn duplicate_to(from: BorrowedFd<'_>, to: u16) -> Result<(), Errno> {
    if from.as_raw_fd() == RawFd::from(to) {
        return Ok(());
    }
    // SAFETY: the caller's promise; no memory is involved.
    unsafe { syscall(__NR_dup3, [raw(from), usize::from(to), 0, 0, 0, 0]) }.map(drop)
}

/// Makes a descriptor standard input, output and error.
pub(crate) fn duplicate_to_stdio(from: BorrowedFd<'_>) -> Result<(), Errno> {
    for number in 0..=2 {
        // SAFETY: stdio has no owner in this program.
        unsafe { duplicate_to(from, number) }?;
    }
    Ok(())
}

/// Borrows a descriptor of stdio for one call; `None` if the number is above 2.
pub(crate) fn stdio(number: u8) -> Option<BorrowedFd<'static>> {
    // SAFETY: the init never closes stdio. If the host left it closed, calls return EBADF.
    (number <= 2).then(|| unsafe { BorrowedFd::borrow_raw(RawFd::from(number)) })
}

//! Raw system calls, which the child of a vfork may make.
#![allow(unsafe_code, reason = "raw system calls")]

use std::ffi::{CStr, c_long};
use std::os::fd::RawFd;

/// An argument of a system call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Argument(usize);

impl From<&CStr> for Argument {
    fn from(string: &CStr) -> Self {
        Self(string.as_ptr() as usize)
    }
}

impl<T, const N: usize> From<&[T; N]> for Argument {
    fn from(data: &[T; N]) -> Self {
        Self(data.as_ptr() as usize)
    }
}

impl From<RawFd> for Argument {
    fn from(fd: RawFd) -> Self {
        Self(fd.cast_unsigned() as usize)
    }
}

impl From<*const u8> for Argument {
    fn from(pointer: *const u8) -> Self {
        Self(pointer as usize)
    }
}

impl From<c_long> for Argument {
    fn from(number: c_long) -> Self {
        Self(usize::from_ne_bytes(number.to_ne_bytes()))
    }
}

impl From<u32> for Argument {
    fn from(number: u32) -> Self {
        Self(number as usize)
    }
}

impl From<usize> for Argument {
    fn from(number: usize) -> Self {
        Self(number)
    }
}

impl From<u64> for Argument {
    #[expect(clippy::cast_possible_truncation, reason = "the machine has 64 bits")]
    fn from(number: u64) -> Self {
        Self(number as usize)
    }
}

/// The number of a failed system call, and the error number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed {
    pub(super) number: c_long,
    pub(super) errno: i32,
}

/// Makes a system call and returns its result.
///
/// Pointers among the arguments come from references, which the kernel does not use after the call.
/// It must not be used for calls that write to memory.
pub(super) fn call<const N: usize>(
    number: c_long,
    arguments: [Argument; N],
) -> Result<c_long, Failed> {
    let mut all = [0; 6];
    for (slot, argument) in all.iter_mut().zip(arguments) {
        *slot = argument.0;
    }
    let [a, b, c, d, e, f] = all;
    // SAFETY: the floor makes no call that writes to memory of this program, and every pointer
    // among the arguments comes from a reference that the caller still borrows.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if answer == -1 {
        // This reads the thread's errno and takes no lock.
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Failed { number, errno });
    }
    Ok(answer)
}

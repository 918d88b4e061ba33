//! Mappings.
#![allow(unsafe_code, reason = "raw system calls")]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use linux_raw_sys::general::{
    __NR_mmap, __NR_mprotect, __NR_munmap, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE,
    PROT_READ, PROT_WRITE,
};
use pidone_proto::Call;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;

use super::{raw, syscall};
use crate::failure::{Context as _, Failure, Result};

/// A private mapping, which is unmapped when it is dropped.
///
/// The calls are unsafe in rustix too, and its conversions cost some bytes.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps new memory, filled with zeros. Pages that are not touched cost nothing.
    pub(crate) fn new(length: usize) -> core::result::Result<Self, Errno> {
        // No memory is reserved for it before it is touched.
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        Self::map(length, PROT_READ | PROT_WRITE, flags, usize::MAX)
    }

    /// Maps a memfd of at most `limit` bytes for reading. It must be sealed so that it can no
    /// longer change.
    pub(crate) fn sealed(file: &OwnedFd, limit: usize) -> Result<Self> {
        let seals = fcntl_get_seals(file).during(Call::Receive)?;
        let length = fstat(file).during(Call::Stat)?.st_size;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) || length > limit {
            return Err(Failure::unexpected(Call::Receive));
        }
        Self::map(length, PROT_READ, MAP_PRIVATE, raw(file.as_fd())).during(Call::Memory)
    }

    fn map(
        length: usize,
        protection: u32,
        flags: u32,
        file: usize,
    ) -> core::result::Result<Self, Errno> {
        let args = [0, length, protection as usize, flags as usize, file, 0];
        // SAFETY: a new mapping at an address that the kernel chooses affects no other.
        let address = unsafe { syscall(__NR_mmap, args) }?;
        // SAFETY: without MAP_FIXED the kernel maps nothing at address 0.
        let start = unsafe { NonNull::new_unchecked(address as *mut u8) };
        Ok(Self { start, length })
    }

    /// Returns the bytes, and never unmaps them.
    pub(crate) fn leak(self) -> &'static [u8] {
        let mapping = ManuallyDrop::new(self);
        // SAFETY: the mapping stays for ever.
        unsafe { mapping.bytes() }
    }

    /// Returns the bytes with any lifetime.
    ///
    /// # Safety
    /// They must not be used after the mapping is dropped, nor while something writes to them.
    pub(crate) unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: the mapping is `length` bytes long and readable. It is memory that is filled
        // with zeros, or a file whose seals keep it from changing and shrinking.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// Returns its address.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Makes the first `length` bytes inaccessible, so that an access is a fault: `mprotect(2)`.
    ///
    /// # Safety
    /// Nothing may refer to these bytes.
    pub(crate) unsafe fn protect(&self, length: usize) -> core::result::Result<(), Errno> {
        let args = [self.start.as_ptr() as usize, length, PROT_NONE as usize, 0, 0, 0];
        // SAFETY: the caller's promise.
        unsafe { syscall(__NR_mprotect, args) }.map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let args = [self.start.as_ptr() as usize, self.length, 0, 0, 0, 0];
        // SAFETY: this value is the only owner of the mapping; see `bytes` for what is borrowed.
        let _ = unsafe { syscall(__NR_munmap, args) };
    }
}

/// Maps new memory for ever, filled with zeros. Pages that are not touched cost nothing.
pub(crate) fn allocate(length: usize) -> core::result::Result<&'static mut [u8], Errno> {
    let mapping = ManuallyDrop::new(Mapping::new(length)?);
    // SAFETY: the mapping is new, `length` bytes long, zeroed, writable, and never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(mapping.start.as_ptr(), length) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn allocated_memory_is_new_and_zeroed() {
        let one = allocate(10_000).unwrap();
        assert!(one.iter().all(|&byte| byte == 0));
        one.fill(1);
        let other = allocate(10_000).unwrap();
        assert!(other.iter().all(|&byte| byte == 0));
        assert_eq!(allocate(0).unwrap_err(), Errno::INVAL);
        assert_eq!(allocate(usize::MAX / 2).unwrap_err(), Errno::NOMEM);
    }
}

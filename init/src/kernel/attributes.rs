//! Attributes of this process that the program inherits: limits, groups, scheduling, filters.
#![allow(unsafe_code, reason = "raw system calls")]

use core::ffi::CStr;

use linux_raw_sys::general::{
    __NR_ioprio_set, __NR_keyctl, __NR_personality, __NR_sched_setaffinity, __NR_sched_setattr,
    __NR_seccomp, __NR_set_mempolicy, __NR_setgroups, __NR_setrlimit,
};
use linux_raw_sys::ptrace::{
    SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_SET_MODE_FILTER, sock_filter, sock_fprog,
};
use rustix::fd::{FromRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;

use super::syscall;

/// Sets the supplementary groups: `setgroups(2)`. `ids` are native 32-bit numbers.
///
/// Rustix takes a slice of `Gid`, which must be aligned.
pub(crate) fn setgroups(ids: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel copies as many numbers as the slice holds, and requires no alignment.
    unsafe { syscall(__NR_setgroups, [ids.len() / 4, ids.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets a resource limit by the number of the resource: `setrlimit(2)`.
///
/// Rustix takes an enum of the resources that it knows.
pub(crate) fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: the kernel only reads the pair.
    unsafe { syscall(__NR_setrlimit, [resource as usize, limit.as_ptr() as usize, 0, 0, 0, 0]) }
        .map(drop)
}

/// Installs a filter of native instructions: `seccomp(2)`. Returns its listener, if the flags ask
/// for one.
pub(crate) fn seccomp(flags: u32, filter: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    let (instructions, rest) = filter.as_chunks::<{ size_of::<sock_filter>() }>();
    let len = u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?;
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let program = sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    let mode = SECCOMP_SET_MODE_FILTER as usize;
    let args = [mode, flags as usize, (&raw const program) as usize, 0, 0, 0];
    // SAFETY: the kernel copies as many instructions as the slice holds, and requires no
    // alignment.
    let result = unsafe { syscall(__NR_seccomp, args) }?;
    if flags & SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the kernel returns a new descriptor.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(result).unwrap_or(-1)) }))
}

/// Sets the execution domain: `personality(2)`.
pub(crate) fn personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { syscall(__NR_personality, [persona as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Joins a session keyring whose keys its possessor and its user may search: `keyctl(2)`.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    // linux/keyctl.h, which linux-raw-sys does not have.
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    const KEYCTL_SETPERM: usize = 5;
    // KEY_POS_ALL without SETATTR, and KEY_USR_VIEW, READ, SEARCH and LINK.
    const PERMISSIONS: usize = 0x3f1b_0000;
    let args = [KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the name outlives the call.
    let keyring = unsafe { syscall(__NR_keyctl, args) }?;
    // SAFETY: no memory is involved.
    unsafe { syscall(__NR_keyctl, [KEYCTL_SETPERM, keyring, PERMISSIONS, 0, 0, 0]) }.map(drop)
}

/// Sets policy and priority of this thread: `sched_setattr(2)`. The structure begins with its own
/// size.
pub(crate) fn sched_setattr(attributes: &[u8]) -> Result<(), Errno> {
    if attributes.first_chunk().map(|size| u32::from_ne_bytes(*size) as usize)
        != Some(attributes.len())
    {
        return Err(Errno::INVAL);
    }
    // SAFETY: the kernel reads as many bytes as the first field says, which is the slice's length.
    unsafe { syscall(__NR_sched_setattr, [0, attributes.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets class and priority of I/O of this thread: `ioprio_set(2)`.
pub(crate) fn ioprio_set(value: u32) -> Result<(), Errno> {
    // linux/ioprio.h, which linux-raw-sys does not have.
    const IOPRIO_WHO_PROCESS: usize = 1;
    // SAFETY: no memory is involved.
    unsafe { syscall(__NR_ioprio_set, [IOPRIO_WHO_PROCESS, 0, value as usize, 0, 0, 0]) }.map(drop)
}

/// Sets the processors that this thread may run on: `sched_setaffinity(2)`.
///
/// Rustix takes a set of at most 1024 processors.
pub(crate) fn sched_setaffinity(mask: &[u8]) -> Result<(), Errno> {
    let args = [0, mask.len(), mask.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel only reads the mask.
    unsafe { syscall(__NR_sched_setaffinity, args) }.map(drop)
}

/// Sets the NUMA memory policy: `set_mempolicy(2)`.
pub(crate) fn set_mempolicy(mode: u32, nodes: &[u8]) -> Result<(), Errno> {
    // The kernel uses one bit less than the number it gets.
    let (mask, bits) =
        if nodes.is_empty() { (0, 0) } else { (nodes.as_ptr() as usize, nodes.len() * 8 + 1) };
    // SAFETY: the kernel reads one bit less than the number, and so nothing after the mask.
    unsafe { syscall(__NR_set_mempolicy, [mode as usize, mask, bits, 0, 0, 0]) }.map(drop)
}

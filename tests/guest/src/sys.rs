//! System calls that rustix has no safe or no allocation-free wrapper for.
#![allow(unsafe_code, reason = "raw system calls")]

use core::ffi::CStr;

use rustix::io::Errno;

use crate::arch::syscall;

/// Numbers of system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const MMAP: usize = 9;
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const IOCTL: usize = 16;
    pub(super) const CLONE: usize = 56;
    pub(super) const WAIT4: usize = 61;
    pub(super) const KILL: usize = 62;
    pub(super) const FCNTL: usize = 72;
    pub(super) const GETCWD: usize = 79;
    pub(super) const GETGROUPS: usize = 115;
    pub(super) const GETRESUID: usize = 118;
    pub(super) const GETRESGID: usize = 120;
    pub(super) const PRCTL: usize = 157;
    pub(super) const CLOCK_GETTIME: usize = 228;
    pub(super) const EXIT_GROUP: usize = 231;
    pub(super) const PRLIMIT64: usize = 302;
    pub(super) const NAME_TO_HANDLE_AT: usize = 303;
    pub(super) const OPEN_BY_HANDLE_AT: usize = 304;
}

/// Numbers of system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const GETCWD: usize = 17;
    pub(super) const FCNTL: usize = 25;
    pub(super) const IOCTL: usize = 29;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const CLOCK_GETTIME: usize = 113;
    pub(super) const KILL: usize = 129;
    pub(super) const RT_SIGACTION: usize = 134;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const GETRESUID: usize = 148;
    pub(super) const GETRESGID: usize = 150;
    pub(super) const GETGROUPS: usize = 158;
    pub(super) const PRCTL: usize = 167;
    pub(super) const CLONE: usize = 220;
    pub(super) const MMAP: usize = 222;
    pub(super) const WAIT4: usize = 260;
    pub(super) const PRLIMIT64: usize = 261;
    pub(super) const NAME_TO_HANDLE_AT: usize = 264;
    pub(super) const OPEN_BY_HANDLE_AT: usize = 265;
}

/// `AT_FDCWD`
const CURRENT_DIRECTORY: usize = (-100_isize).cast_unsigned();

/// Pads arguments.
fn call<const N: usize>(number: usize, given: [usize; N]) -> Result<usize, Errno> {
    let mut args = [0; 6];
    for (place, arg) in args.iter_mut().zip(given) {
        *place = arg;
    }
    // SAFETY: callers in this file pass numbers, and pointers to what outlives the call and is as
    // long as the kernel takes it to be.
    unsafe { syscall(number, args) }
}

/// Any system call, whatever it does: what tests ask for.
pub(crate) fn any(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: nothing can be known of it. A call that breaks this process fails the test that
    // asked for it.
    unsafe { syscall(number, args) }
}

/// `exit_group(2)`.
pub(crate) fn exit(status: u8) -> ! {
    loop {
        let _ = call(number::EXIT_GROUP, [usize::from(status)]);
    }
}

/// `getresuid(2)`: real, effective, saved.
pub(crate) fn user_ids() -> [u32; 3] {
    three(number::GETRESUID)
}

/// `getresgid(2)`: real, effective, saved.
pub(crate) fn group_ids() -> [u32; 3] {
    three(number::GETRESGID)
}

fn three(number: usize) -> [u32; 3] {
    let mut ids = [u32::MAX; 3];
    let [real, effective, saved] = &mut ids;
    let _ = call(
        number,
        [real, effective, saved].map(|id| core::ptr::from_mut(id).expose_provenance()),
    );
    ids
}

/// `getgroups(2)`.
pub(crate) fn groups(buffer: &mut [u32]) -> Result<&[u32], Errno> {
    let count = call(number::GETGROUPS, [buffer.len(), buffer.as_mut_ptr().expose_provenance()])?;
    Ok(buffer.get(..count).unwrap_or_default())
}

/// `getcwd(2)`, as the kernel says it.
pub(crate) fn working_directory(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    let length = call(number::GETCWD, [buffer.as_mut_ptr().expose_provenance(), buffer.len()])?;
    Ok(buffer.get(..length.saturating_sub(1)).unwrap_or_default())
}

/// `prlimit(2)` of this process: soft and hard.
pub(crate) fn limit(resource: usize) -> Option<[u64; 2]> {
    let mut limit = [0_u64; 2];
    let place = limit.as_mut_ptr().expose_provenance();
    call(number::PRLIMIT64, [0, resource, 0, place]).ok().map(|_| limit)
}

/// `prctl(2)` of the kind that returns a value.
pub(crate) fn control(option: usize) -> Result<usize, Errno> {
    call(number::PRCTL, [option])
}

/// `prctl(PR_GET_PDEATHSIG)`.
pub(crate) fn parent_death_signal() -> i32 {
    const PR_GET_PDEATHSIG: usize = 2;
    let mut signal = 0_i32;
    let place = (&raw mut signal).expose_provenance();
    let _ = call(number::PRCTL, [PR_GET_PDEATHSIG, place]);
    signal
}

/// The signals that are blocked, as a mask.
pub(crate) fn blocked() -> u64 {
    let mut mask = 0_u64;
    let place = (&raw mut mask).expose_provenance();
    let _ = call(number::RT_SIGPROCMASK, [0, 0, place, size_of::<u64>()]);
    mask
}

/// The handler of a signal: 0 for the default, 1 if it is ignored.
pub(crate) fn action(signal: usize) -> usize {
    let mut action = [0_usize; 4];
    let place = action.as_mut_ptr().expose_provenance();
    let _ = call(number::RT_SIGACTION, [signal, 0, place, size_of::<u64>()]);
    action[0]
}

/// Ignores a signal.
pub(crate) fn ignore(signal: usize) -> Result<(), Errno> {
    // struct sigaction of the kernel: SIG_IGN, no flags, no restorer, an empty mask.
    let action = [1_usize, 0, 0, 0];
    let place = action.as_ptr().expose_provenance();
    call(number::RT_SIGACTION, [signal, place, 0, size_of::<u64>()]).map(drop)
}

/// `kill(2)`.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    call(number::KILL, [signed(pid), signed(signal)]).map(drop)
}

/// `fork(2)`: 0 in the child.
pub(crate) fn fork() -> Result<usize, Errno> {
    const SIGCHLD: usize = 17;
    call(number::CLONE, [SIGCHLD])
}

/// `wait(2)` for any child.
pub(crate) fn wait() -> Result<usize, Errno> {
    call(number::WAIT4, [signed(-1), 0, 0, 0])
}

/// `fcntl(F_GETFD)` of a number that may be no descriptor.
pub(crate) fn descriptor_flags(fd: u32) -> Option<usize> {
    const F_GETFD: usize = 1;
    call(number::FCNTL, [fd as usize, F_GETFD]).ok()
}

/// The monotonic clock, in nanoseconds.
pub(crate) fn now() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    let mut time = [0_u64; 2];
    let place = time.as_mut_ptr().expose_provenance();
    let _ = call(number::CLOCK_GETTIME, [CLOCK_MONOTONIC, place]);
    time[0] * 1_000_000_000 + time[1]
}

/// Maps memory and touches every page.
pub(crate) fn touch(length: usize) -> Result<(), Errno> {
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS: usize = 0x22;
    const PAGE: usize = 4096;
    let address = call(number::MMAP, [0, length, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0])?;
    let memory: *mut u8 = core::ptr::with_exposed_provenance_mut(address);
    for offset in (0..length).step_by(PAGE) {
        // SAFETY: the page is in the mapping, which is new and stays.
        unsafe { memory.wrapping_add(offset).write_volatile(1) };
    }
    Ok(())
}

/// `ioctl(2)` that reads one byte.
pub(crate) fn control_byte(fd: u32, request: usize, byte: u8) -> Result<usize, Errno> {
    let place = (&raw const byte).expose_provenance();
    call(number::IOCTL, [fd as usize, request, place])
}

/// `ioctl(2)` that stores a number of 32 bits.
pub(crate) fn control_number(fd: u32, request: usize) -> Result<i32, Errno> {
    let mut number = 0_i32;
    let place = (&raw mut number).expose_provenance();
    call(number::IOCTL, [fd as usize, request, place]).map(|_| number)
}

/// Opens a file by its handle: `name_to_handle_at(2)`, then `open_by_handle_at(2)`.
///
/// The error names the call that failed.
pub(crate) fn open_by_handle(path: &CStr) -> Result<usize, (&'static str, Errno)> {
    const BYTES: u32 = 128;
    /// `struct file_handle`
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        handle: [u8; BYTES as usize],
    }
    let mut handle = Handle { bytes: BYTES, kind: 0, handle: [0; BYTES as usize] };
    let mut mount = 0_i32;
    let place = (&raw mut handle).expose_provenance();
    let path = path.as_ptr().expose_provenance();
    let mount_place = (&raw mut mount).expose_provenance();
    call(number::NAME_TO_HANDLE_AT, [CURRENT_DIRECTORY, path, place, mount_place, 0])
        .map_err(|errno| ("name_to_handle_at", errno))?;
    call(number::OPEN_BY_HANDLE_AT, [CURRENT_DIRECTORY, place, 0])
        .map_err(|errno| ("open_by_handle_at", errno))
}

/// A negative number as the kernel takes it.
fn signed(number: i32) -> usize {
    (number as isize).cast_unsigned()
}

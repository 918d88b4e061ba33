//! The system calls that rustix does not offer, or offers only as unsafe, behind safe functions.
#![allow(unsafe_code, reason = "raw system calls")]

use core::ffi::{CStr, c_char};

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

use crate::syscall::syscall;

/// Numbers of system calls; those above 400 are the same everywhere.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const MMAP: usize = 9;
    pub(super) const MPROTECT: usize = 10;
    pub(super) const MUNMAP: usize = 11;
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const EXECVE: usize = 59;
    pub(super) const SETGROUPS: usize = 116;
    pub(super) const SETRLIMIT: usize = 160;
    pub(super) const CLOCK_GETTIME: usize = 228;
    pub(super) const EXIT_GROUP: usize = 231;
    pub(super) const UNSHARE: usize = 272;
    pub(super) const DUP3: usize = 292;
    pub(super) const SETNS: usize = 308;
    pub(super) const SECCOMP: usize = 317;
    pub(super) const SENDMSG: usize = 46;
    pub(super) const RECVMSG: usize = 47;
    pub(super) const PERSONALITY: usize = 135;
    pub(super) const SCHED_SETAFFINITY: usize = 203;
    pub(super) const SET_MEMPOLICY: usize = 238;
    pub(super) const KEYCTL: usize = 250;
    pub(super) const IOPRIO_SET: usize = 251;
    pub(super) const SCHED_SETATTR: usize = 314;
}

/// Numbers of system calls; those above 400 are the same everywhere.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const DUP3: usize = 24;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const UNSHARE: usize = 97;
    pub(super) const CLOCK_GETTIME: usize = 113;
    pub(super) const RT_SIGACTION: usize = 134;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const SETGROUPS: usize = 159;
    pub(super) const SETRLIMIT: usize = 164;
    pub(super) const EXECVE: usize = 221;
    pub(super) const MUNMAP: usize = 215;
    pub(super) const MMAP: usize = 222;
    pub(super) const MPROTECT: usize = 226;
    pub(super) const SETNS: usize = 268;
    pub(super) const SECCOMP: usize = 277;
    pub(super) const SENDMSG: usize = 211;
    pub(super) const RECVMSG: usize = 212;
    pub(super) const IOPRIO_SET: usize = 30;
    pub(super) const PERSONALITY: usize = 92;
    pub(super) const SCHED_SETAFFINITY: usize = 122;
    pub(super) const KEYCTL: usize = 219;
    pub(super) const SET_MEMPOLICY: usize = 237;
    pub(super) const SCHED_SETATTR: usize = 274;
}

const CLONE3: usize = 435;
const CLOSE_RANGE: usize = 436;
const MOUNT_SETATTR: usize = 442;

/// A descriptor as an argument.
fn fd(fd: BorrowedFd<'_>) -> usize {
    fd.as_raw_fd().cast_unsigned() as usize
}

/// `exit_group(2)`: ends the process.
pub(crate) fn exit(status: u8) -> ! {
    loop {
        // SAFETY: the call does not return and touches no memory.
        let _ = unsafe { syscall(number::EXIT_GROUP, [usize::from(status), 0, 0, 0, 0, 0]) };
    }
}

/// `unshare(2)` of namespaces.
pub(crate) fn unshare(flags: u32) -> Result<(), Errno> {
    // SAFETY: the init has one thread and no descriptor that another thread could lose.
    unsafe { syscall(number::UNSHARE, [flags as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// `setns(2)`.
pub(crate) fn setns(target: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    // SAFETY: the init has one thread, and no memory is involved.
    unsafe { syscall(number::SETNS, [fd(target), flags as usize, 0, 0, 0, 0]) }.map(drop)
}

/// `clone3(2)` of this process as its own sibling: the pidfd in the parent, `None` in the child.
pub(crate) fn fork(flags: u32) -> Result<Option<OwnedFd>, Errno> {
    const CLONE_PIDFD: u64 = 0x1000;
    const CLONE_PARENT: u64 = 0x8000;
    let mut pidfd: RawFd = -1;
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal (inherited with
    // CLONE_PARENT), stack, stack_size, tls.
    let args: [u64; 8] =
        [u64::from(flags) | CLONE_PIDFD | CLONE_PARENT, (&raw mut pidfd) as u64, 0, 0, 0, 0, 0, 0];
    let call = [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0];
    // SAFETY: without CLONE_VM the child has a copy of the memory and of the stack, and returns
    // from here like the parent; this is the only thread.
    match unsafe { syscall(CLONE3, call) }? {
        0 => Ok(None),
        // SAFETY: the kernel made the descriptor for this call.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// `mount_setattr(2)` on the mount itself that a descriptor stands for.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    const AT_EMPTY_PATH: usize = 0x1000;
    const AT_RECURSIVE: usize = 0x8000;
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    let attributes: [u64; 4] = [set, clear, propagation, 0];
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let args = [
        fd(mount),
        c"".as_ptr() as usize,
        flags,
        attributes.as_ptr() as usize,
        size_of_val(&attributes),
        0,
    ];
    // SAFETY: the path and the structure outlive the call, which only reads them.
    unsafe { syscall(MOUNT_SETATTR, args) }.map(drop)
}

/// `setgroups(2)`; `ids` are native 32-bit numbers one behind the other.
pub(crate) fn setgroups(ids: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel copies as many numbers as the slice holds, and asks no alignment.
    unsafe { syscall(number::SETGROUPS, [ids.len() / 4, ids.as_ptr() as usize, 0, 0, 0, 0]) }
        .map(drop)
}

/// `setrlimit(2)` by the number of the resource.
pub(crate) fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: the kernel only reads the pair.
    unsafe { syscall(number::SETRLIMIT, [resource as usize, limit.as_ptr() as usize, 0, 0, 0, 0]) }
        .map(drop)
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)`; answers with a listener if the flags ask for one.
pub(crate) fn seccomp(flags: u32, filter: &[u8]) -> Result<usize, Errno> {
    const SET_MODE_FILTER: usize = 1;
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const u8,
    }
    let (instructions, rest) = filter.as_chunks::<8>();
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?;
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let program = Program { length, filter: filter.as_ptr() };
    let args = [SET_MODE_FILTER, flags as usize, (&raw const program) as usize, 0, 0, 0];
    // SAFETY: the kernel copies as many instructions of 8 bytes as the slice holds.
    unsafe { syscall(number::SECCOMP, args) }
}

/// The listener that [`seccomp`] answered with.
pub(crate) fn listener(answer: usize) -> OwnedFd {
    // SAFETY: the kernel made the descriptor for this filter, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(answer).unwrap_or(-1)) }
}

/// `personality(2)`.
pub(crate) fn personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { syscall(number::PERSONALITY, [persona as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// `keyctl(2)`: joins a session keyring, whose keys its possessor and its user may search.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: usize = 1;
    const SETPERM: usize = 5;
    // KEY_POS_ALL without SETATTR, and KEY_USR_VIEW, READ, SEARCH and LINK.
    const PERMISSIONS: usize = 0x3f1b_0000;
    let args = [JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the name outlives the call.
    let keyring = unsafe { syscall(number::KEYCTL, args) }?;
    // SAFETY: no memory is involved.
    unsafe { syscall(number::KEYCTL, [SETPERM, keyring, PERMISSIONS, 0, 0, 0]) }.map(drop)
}

/// `sched_setattr(2)` of this thread; the structure begins with its own size.
pub(crate) fn sched_setattr(attributes: &[u8]) -> Result<(), Errno> {
    if attributes.first_chunk().map(|size| u32::from_ne_bytes(*size) as usize)
        != Some(attributes.len())
    {
        return Err(Errno::INVAL);
    }
    // SAFETY: the kernel reads as many bytes as the structure's first field says, which are there.
    unsafe { syscall(number::SCHED_SETATTR, [0, attributes.as_ptr() as usize, 0, 0, 0, 0]) }
        .map(drop)
}

/// `ioprio_set(2)` of this thread.
pub(crate) fn ioprio_set(value: u32) -> Result<(), Errno> {
    const WHO_PROCESS: usize = 1;
    // SAFETY: no memory is involved.
    unsafe { syscall(number::IOPRIO_SET, [WHO_PROCESS, 0, value as usize, 0, 0, 0]) }.map(drop)
}

/// `sched_setaffinity(2)` of this thread.
pub(crate) fn sched_setaffinity(mask: &[u8]) -> Result<(), Errno> {
    let args = [0, mask.len(), mask.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel only reads the mask.
    unsafe { syscall(number::SCHED_SETAFFINITY, args) }.map(drop)
}

/// `set_mempolicy(2)`. The kernel takes one bit less than it is told.
pub(crate) fn set_mempolicy(mode: u32, nodes: &[u8]) -> Result<(), Errno> {
    let (mask, bits) =
        if nodes.is_empty() { (0, 0) } else { (nodes.as_ptr() as usize, nodes.len() * 8 + 1) };
    // SAFETY: the kernel reads one bit less than the number, and so nothing behind the mask.
    unsafe { syscall(number::SET_MEMPOLICY, [mode as usize, mask, bits, 0, 0, 0]) }.map(drop)
}

/// The kernel's `struct msghdr`, for one piece of memory.
#[repr(C)]
struct MessageHeader {
    name: usize,
    name_length: usize,
    pieces: *const Piece,
    count: usize,
    control: usize,
    control_length: usize,
    flags: usize,
}

/// The kernel's `struct iovec`.
#[repr(C)]
struct Piece {
    address: usize,
    length: usize,
}

/// The kernel's `struct cmsghdr` with descriptors.
#[repr(C)]
struct Descriptors<const N: usize> {
    length: usize,
    level: i32,
    kind: i32,
    numbers: [RawFd; N],
}

/// The length of `struct cmsghdr` alone.
const CONTROL: usize = 16;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;

/// `sendmsg(2)` of one message, with a descriptor or without: an error, and no signal, if the other
/// end is gone.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    const NOSIGNAL: usize = 0x4000;
    let piece = Piece { address: message.as_ptr() as usize, length: message.len() };
    let number = descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd());
    // The kernel wants the length without the padding at the end.
    let control =
        Descriptors { length: CONTROL + 4, level: SOL_SOCKET, kind: SCM_RIGHTS, numbers: [number] };
    let header = MessageHeader {
        name: 0,
        name_length: 0,
        pieces: &raw const piece,
        count: 1,
        control: (&raw const control) as usize,
        control_length: if descriptor.is_some() { size_of_val(&control) } else { 0 },
        flags: 0,
    };
    let args = [fd(socket), (&raw const header) as usize, NOSIGNAL, 0, 0, 0];
    // SAFETY: the kernel only reads the structures and what they point to, which outlive the call.
    unsafe { syscall(number::SENDMSG, args) }.map(drop)
}

/// `recvmsg(2)` of one message, its descriptors close-on-exec and given to `each`: how long it is,
/// and whether a part of it was cut.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    each: &mut dyn FnMut(OwnedFd),
) -> Result<(usize, bool), Errno> {
    const CMSG_CLOEXEC: usize = 0x4000_0000;
    const TRUNC: usize = 0x20;
    const CTRUNC: usize = 8;
    let piece = Piece { address: buffer.as_mut_ptr() as usize, length: buffer.len() };
    let mut control = Descriptors::<{ pidone_proto::limits::DESCRIPTORS }> {
        length: 0,
        level: 0,
        kind: 0,
        numbers: [-1; _],
    };
    let mut header = MessageHeader {
        name: 0,
        name_length: 0,
        pieces: &raw const piece,
        count: 1,
        control: (&raw mut control) as usize,
        control_length: size_of_val(&control),
        flags: 0,
    };
    let args = [fd(socket), (&raw mut header) as usize, CMSG_CLOEXEC, 0, 0, 0];
    // SAFETY: the kernel writes no more than the lengths say, into memory that is lent for it.
    let length = unsafe { syscall(number::RECVMSG, args) }?;
    // The socket carries no other kind of control message: nobody asked for one.
    if (control.level, control.kind) == (SOL_SOCKET, SCM_RIGHTS) {
        let count = control.length.saturating_sub(CONTROL) / size_of::<RawFd>();
        for &number in control.numbers.iter().take(count) {
            // SAFETY: the kernel made the descriptor for this message.
            each(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok((length, header.flags & (TRUNC | CTRUNC) != 0))
}

/// `execve(2)`: only an error returns. Both lists end in a null pointer.
///
/// # Safety
/// Both must be lists of pointers to strings that end in NUL, with a null pointer behind.
pub(crate) unsafe fn execve(
    path: &CStr,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    let args = [path.as_ptr() as usize, arguments as usize, environment as usize, 0, 0, 0];
    // SAFETY: the strings are the caller's promise; on success nothing of this program remains.
    match unsafe { syscall(number::EXECVE, args) } {
        Ok(_) => Errno::IO,
        Err(errno) => errno,
    }
}

/// `close_range(2)` with `CLOSE_RANGE_CLOEXEC`: everything from `first` up is closed at exec.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    const CLOEXEC: usize = 4;
    // SAFETY: no descriptor is closed by the call itself.
    unsafe { syscall(CLOSE_RANGE, [first as usize, u32::MAX as usize, CLOEXEC, 0, 0, 0]) }.map(drop)
}

/// `close_range(2)`: closes descriptors that the init knows nothing of.
pub(crate) fn close_range(first: u32, last: u32) {
    // SAFETY: what the caller owns is not among them, as it says.
    let _ = unsafe { syscall(CLOSE_RANGE, [first as usize, last as usize, 0, 0, 0, 0]) };
}

/// `dup3(2)` over a descriptor that the program will have: stdio, which nobody here owns, or one
/// from which all that is owned was moved away.
pub(crate) fn duplicate_over(from: BorrowedFd<'_>, to: u16) -> Result<(), Errno> {
    if from.as_raw_fd() == RawFd::from(to) {
        return Ok(());
    }
    // SAFETY: no `OwnedFd` of the init has that number, as the caller says.
    unsafe { syscall(number::DUP3, [fd(from), usize::from(to), 0, 0, 0, 0]) }.map(drop)
}

/// The descriptor that the host left for the init.
///
/// Called once, at the start: the init then owns it.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: nothing else in this program knows the descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Makes new zeroed memory, for ever. Pages that are not touched cost nothing.
pub(crate) fn memory(length: usize) -> Result<&'static mut [u8], Errno> {
    const READ_WRITE: usize = 3;
    // Private, anonymous, and not counted before it is touched.
    const FLAGS: usize = 0x4022;
    let args = [0, length, READ_WRITE, FLAGS, usize::MAX, 0];
    // SAFETY: a new mapping at a place that the kernel chooses disturbs no other.
    let address = unsafe { syscall(number::MMAP, args) }?;
    // SAFETY: the mapping is new, `length` bytes long, zeroed, and never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length) })
}

/// Maps a file that can no longer change, for ever.
pub(crate) fn map(file: BorrowedFd<'_>, length: usize) -> Result<&'static [u8], Errno> {
    const READ: usize = 1;
    const PRIVATE: usize = 2;
    // SAFETY: a new mapping at a place that the kernel chooses disturbs no other.
    let address = unsafe { syscall(number::MMAP, [0, length, READ, PRIVATE, fd(file), 0]) }?;
    // SAFETY: the mapping is `length` bytes long and never unmapped; the caller has checked the
    // seals that keep the file from changing and from shrinking under it.
    Ok(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
}

/// `mprotect(2)`: nobody may touch a part of [`memory`] any more.
#[cfg(feature = "supervise")]
pub(crate) fn forbid(start: *const u8, length: usize) -> Result<(), Errno> {
    // SAFETY: the caller gives the part up: who touches it all the same gets a fault.
    unsafe { syscall(number::MPROTECT, [start as usize, length, 0, 0, 0, 0]) }.map(drop)
}

/// `munmap(2)` of what [`map`] or [`memory`] has made, which nobody may look at any more.
#[cfg(feature = "supervise")]
pub(crate) fn unmap(start: *const u8, length: usize) {
    // SAFETY: the caller gives up what it has of the mapping.
    let _ = unsafe { syscall(number::MUNMAP, [start as usize, length, 0, 0, 0, 0]) };
}

/// Gives every signal its default action and unblocks all: what the host ignores or blocks is
/// inherited by exec, and is not the container's business.
pub(crate) fn reset_signals() {
    const SIGNALS: usize = 64;
    const SIGKILL: usize = 9;
    const SIGSTOP: usize = 19;
    const SIG_SETMASK: usize = 2;
    const MASK_SIZE: usize = 8;
    // struct sigaction of the kernel: SIG_DFL, no flags, no restorer, an empty mask.
    let default = [0_u64; 4];
    for signal in (1..=SIGNALS).filter(|&signal| signal != SIGKILL && signal != SIGSTOP) {
        let args = [signal, default.as_ptr() as usize, 0, MASK_SIZE, 0, 0];
        // SAFETY: the kernel only reads the structure, and no handler is installed.
        let _ = unsafe { syscall(number::RT_SIGACTION, args) };
    }
    let empty = 0_u64;
    let args = [SIG_SETMASK, (&raw const empty) as usize, 0, MASK_SIZE, 0, 0];
    // SAFETY: the kernel only reads the mask.
    let _ = unsafe { syscall(number::RT_SIGPROCMASK, args) };
}

/// The monotonic clock, in nanoseconds.
pub(crate) fn now() -> u64 {
    const MONOTONIC: usize = 1;
    let mut time = [0_u64; 2];
    let args = [MONOTONIC, (&raw mut time) as usize, 0, 0, 0, 0];
    // SAFETY: the kernel writes seconds and nanoseconds, two numbers of 64 bits.
    let _ = unsafe { syscall(number::CLOCK_GETTIME, args) };
    time[0].saturating_mul(1_000_000_000).saturating_add(time[1])
}

/// `ioctl(SIOCSIFFLAGS)`: brings the interface `lo` up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    const SIOCSIFFLAGS: usize = 0x8914;
    const UP_RUNNING: u16 = 0x1 | 0x40;
    #[cfg(target_arch = "x86_64")]
    const IOCTL: usize = 16;
    #[cfg(target_arch = "aarch64")]
    const IOCTL: usize = 29;
    // struct ifreq: a name of 16 bytes, flags, and the rest of a union of 24 bytes.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&UP_RUNNING.to_ne_bytes());
    let args = [fd(socket), SIOCSIFFLAGS, request.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads 40 bytes and writes none for this request.
    unsafe { syscall(IOCTL, args) }.map(drop)
}

/// A descriptor of stdio, for one look at it; `None` if the number is none of them.
pub(crate) fn stdio(number: u8) -> Option<BorrowedFd<'static>> {
    // SAFETY: stdio is never closed by the init. If the host left it closed, calls answer EBADF.
    (number <= 2).then(|| unsafe { BorrowedFd::borrow_raw(RawFd::from(number)) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn memory_is_new_and_zeroed() {
        let one = memory(10_000).unwrap();
        assert!(one.iter().all(|&byte| byte == 0));
        one.fill(1);
        let other = memory(10_000).unwrap();
        assert!(other.iter().all(|&byte| byte == 0));
        assert_eq!(memory(0).unwrap_err(), Errno::INVAL);
        assert_eq!(memory(usize::MAX / 2).unwrap_err(), Errno::NOMEM);
    }
}

//! Children and signals: the system calls that rustix does not offer, behind safe functions.
#![allow(unsafe_code, reason = "raw system calls")]

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

use crate::syscall::syscall;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const MUNMAP: usize = 11;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const WAIT4: usize = 61;
    pub(super) const KILL: usize = 62;
    pub(super) const SIGNALFD4: usize = 289;
    pub(super) const DUP3: usize = 292;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const DUP3: usize = 24;
    pub(super) const SIGNALFD4: usize = 74;
    pub(super) const KILL: usize = 129;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const MUNMAP: usize = 215;
    pub(super) const WAIT4: usize = 260;
}

const CLONE3: usize = 435;
const SIG_SETMASK: usize = 2;
const MASK_SIZE: usize = 8;

/// Cannot be handled.
pub(crate) const SIGKILL: i32 = 9;
/// A child has ended.
pub(crate) const SIGCHLD: i32 = 17;

/// A child that was reaped: `wait4(2)`, `getrusage(2)`.
pub(crate) struct Ended {
    pub(crate) pid: i32,
    /// What it exited with; 0 if a signal killed it.
    pub(crate) code: u32,
    /// The signal that killed it; 0 if it exited.
    pub(crate) signal: u32,
    pub(crate) core: bool,
    /// Microseconds.
    pub(crate) user: u64,
    /// Microseconds.
    pub(crate) system: u64,
    /// KiB.
    pub(crate) max_rss: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
}

/// What a look for ended children finds.
pub(crate) enum Waited {
    /// One has ended, and is reaped.
    Ended(Ended),
    /// All run.
    Running,
    /// There is none.
    Nobody,
}

/// Sets the mask of blocked signals.
fn set_mask(mask: u64) -> Result<(), Errno> {
    let args = [SIG_SETMASK, (&raw const mask) as usize, 0, MASK_SIZE, 0, 0];
    // SAFETY: the kernel only reads the mask.
    unsafe { syscall(number::RT_SIGPROCMASK, args) }.map(drop)
}

/// Blocks all signals and has them read from a descriptor: `signalfd(2)`.
///
/// A blocked signal reaches process 1 of a namespace too, where one without a handler does not.
pub(crate) fn signals() -> Result<OwnedFd, Errno> {
    const CLOEXEC: usize = 0o2_000_000;
    const NONBLOCK: usize = 0o4_000;
    set_mask(u64::MAX)?;
    let mask = u64::MAX;
    let args = [usize::MAX, (&raw const mask) as usize, MASK_SIZE, CLOEXEC | NONBLOCK, 0, 0];
    // SAFETY: the kernel only reads the mask.
    let fd = unsafe { syscall(number::SIGNALFD4, args) }?;
    // SAFETY: the kernel made the descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// Lets all signals through again, as a program expects it.
pub(crate) fn unblock_signals() {
    let _ = set_mask(0);
}

/// The next signal of [`signals`]; none if no other has come.
pub(crate) fn next_signal(signals: BorrowedFd<'_>) -> Option<i32> {
    // struct signalfd_siginfo begins with the number.
    let mut info = [0; 128];
    match rustix::io::read(signals, &mut info) {
        Ok(128) => info.first_chunk().map(|number| i32::from_ne_bytes(*number)),
        _ => None,
    }
}

/// `kill(2)` by number: of a process, of a group if negative, of all if -1.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    let args = [pid.cast_unsigned() as usize, signal.cast_unsigned() as usize, 0, 0, 0, 0];
    // SAFETY: no memory is involved, and this process is told of its own signals by a descriptor.
    unsafe { syscall(number::KILL, args) }.map(drop)
}

/// `clone3(2)` as `fork(2)`: id and pidfd of the child in the parent, `None` in the child.
pub(crate) fn fork() -> Result<Option<(i32, OwnedFd)>, Errno> {
    const CLONE_PIDFD: u64 = 0x1000;
    let mut pidfd: RawFd = -1;
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let args: [u64; 8] = [CLONE_PIDFD, (&raw mut pidfd) as u64, 0, 0, 17, 0, 0, 0];
    let call = [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0];
    // SAFETY: without CLONE_VM the child has a copy of the memory and of the stack, and returns
    // from here like the parent; this is the only thread.
    match unsafe { syscall(CLONE3, call) }? {
        0 => Ok(None),
        pid => {
            // SAFETY: the kernel made the descriptor for this call.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Some((i32::try_from(pid).map_err(|_| Errno::RANGE)?, pidfd)))
        }
    }
}

/// `wait4(2)` of any child that has ended.
pub(crate) fn wait() -> Waited {
    const NOHANG: usize = 1;
    let mut status: u32 = 0;
    // struct rusage: two times of two numbers each, then 14 numbers.
    let mut usage = [0_u64; 18];
    let args = [usize::MAX, (&raw mut status) as usize, NOHANG, usage.as_mut_ptr() as usize, 0, 0];
    // SAFETY: the kernel writes the status and the 144 bytes of the structure.
    let pid = match unsafe { syscall(number::WAIT4, args) } {
        Ok(0) | Err(Errno::INTR) => return Waited::Running,
        Ok(pid) => i32::try_from(pid).unwrap_or(-1),
        Err(_) => return Waited::Nobody,
    };
    let time = |seconds: u64, micros: u64| seconds.saturating_mul(1_000_000).saturating_add(micros);
    Waited::Ended(Ended {
        pid,
        code: if status & 0x7f == 0 { status >> 8 & 0xff } else { 0 },
        signal: status & 0x7f,
        core: status & 0x80 != 0,
        user: time(usage[0], usage[1]),
        system: time(usage[2], usage[3]),
        max_rss: usage[4],
        minor_faults: usage[8],
        major_faults: usage[9],
    })
}

/// Unmaps what [`crate::sys::map`] has mapped, which nobody may look at any more.
pub(crate) fn unmap(mapped: &'static [u8]) {
    // SAFETY: the caller gives up what it has of the mapping.
    let _ =
        unsafe { syscall(number::MUNMAP, [mapped.as_ptr() as usize, mapped.len(), 0, 0, 0, 0]) };
}

/// `dup3(2)` in a child that is about to execute its program: over descriptors of the supervisor,
/// which the child has copies of and no use for.
pub(crate) fn duplicate_to(from: BorrowedFd<'_>, to: u16) -> Result<(), Errno> {
    let from = from.as_raw_fd();
    if from == RawFd::from(to) {
        return Ok(());
    }
    let args = [from.cast_unsigned() as usize, usize::from(to), 0, 0, 0, 0];
    // SAFETY: nothing that the child still uses is below the number: it was moved above.
    unsafe { syscall(number::DUP3, args) }.map(drop)
}

/// `close_range(2)` of all descriptors behind stdio but two.
pub(crate) fn close_others(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<(), Errno> {
    const CLOSE_RANGE: usize = 436;
    let [one, other] = [one, other].map(|fd| fd.as_raw_fd().cast_unsigned());
    let (low, high) = (one.min(other), one.max(other));
    for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, u32::MAX)] {
        if first <= last {
            let args = [first as usize, last as usize, 0, 0, 0, 0];
            // SAFETY: the caller holds no other descriptor.
            unsafe { syscall(CLOSE_RANGE, args) }?;
        }
    }
    Ok(())
}

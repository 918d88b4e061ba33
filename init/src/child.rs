//! Children: made without what `clone3(2)` needs, put in a process group, and reaped.
#![allow(unsafe_code, reason = "raw system calls")]

#[cfg(feature = "supervise")]
use rustix::fd::{FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

use crate::signal;
#[cfg(feature = "supervise")]
use crate::syscall::decode;
use crate::syscall::syscall;

/// Numbers of system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const IOCTL: usize = 16;
    pub(super) const CLONE: usize = 56;
    pub(super) const WAIT4: usize = 61;
    pub(super) const SETPGID: usize = 109;
    pub(super) const GETPGID: usize = 121;
    pub(super) const PRCTL: usize = 157;
}

/// Numbers of system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const IOCTL: usize = 29;
    pub(super) const SETPGID: usize = 154;
    pub(super) const GETPGID: usize = 155;
    pub(super) const PRCTL: usize = 167;
    pub(super) const CLONE: usize = 220;
    pub(super) const WAIT4: usize = 260;
}

/// `fork(2)`: the child's number in the parent, `None` in the child.
///
/// By `clone(2)`, since the default profiles of seccomp in containers refuse `clone3(2)`.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: without CLONE_VM the child has a copy of the memory and of the stack, and returns
    // from here like the parent; this is the only thread.
    let child = unsafe { syscall(number::CLONE, [usize::from(signal::CHLD), 0, 0, 0, 0, 0]) }?;
    Ok(i32::try_from(child).ok().filter(|&child| child != 0))
}

/// A child that shares the memory and runs `body` beside this process, with a pidfd of it. Its stack
/// is below `argument`, which it is given.
///
/// # Safety
/// The stack must be large enough, `argument` aligned to 16, and both the child's as long as it has
/// not become a program and not ended. `body` must touch nothing else that this process writes to.
#[cfg(feature = "supervise")]
pub(crate) unsafe fn clone_beside(
    argument: *mut u8,
    body: extern "C" fn(*mut u8) -> !,
) -> Result<(i32, OwnedFd), Errno> {
    const CLONE_VM: usize = 0x100;
    const CLONE_PIDFD: usize = 0x1000;
    let mut pidfd: RawFd = -1;
    let flags = CLONE_VM | CLONE_PIDFD | usize::from(signal::CHLD);
    // SAFETY: the child goes on behind the call on a stack of its own, and never returns; the rest is
    // the caller's promise. One descriptor is written.
    let child = unsafe {
        syscall_on_stack(number::CLONE, [flags, (&raw mut pidfd) as usize], argument, body)
    }?;
    // SAFETY: the kernel made the descriptor for this call.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((i32::try_from(child).unwrap_or(0), pidfd))
}

/// Makes a call of `clone(2)` with flags and the place for a pidfd; the child runs `body` with
/// `argument`, below which is its stack.
///
/// # Safety
/// As [`syscall()`]; the stack and what `body` touches must be the child's.
#[cfg(all(target_arch = "x86_64", feature = "supervise"))]
unsafe fn syscall_on_stack(
    number: usize,
    [flags, pidfd]: [usize; 2],
    argument: *mut u8,
    body: extern "C" fn(*mut u8) -> !,
) -> Result<usize, Errno> {
    let answer: isize;
    // SAFETY: the parent goes on behind the jump as behind any call. The child has the registers of
    // the parent but for the stack, and calls a function that does not return.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "call r12",
            "2:",
            inlateout("rax") number => answer,
            in("rdi") flags,
            in("rsi") argument,
            in("rdx") pidfd,
            in("r10") 0,
            in("r8") 0,
            in("r12") body,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    decode(answer)
}

/// Makes a call of `clone(2)` with flags and the place for a pidfd; the child runs `body` with
/// `argument`, below which is its stack.
///
/// # Safety
/// As [`syscall()`]; the stack and what `body` touches must be the child's.
#[cfg(all(target_arch = "aarch64", feature = "supervise"))]
unsafe fn syscall_on_stack(
    number: usize,
    [flags, pidfd]: [usize; 2],
    argument: *mut u8,
    body: extern "C" fn(*mut u8) -> !,
) -> Result<usize, Errno> {
    let answer: isize;
    // SAFETY: the parent goes on behind the jump as behind any call. The child has the registers of
    // the parent but for the stack, and calls a function that does not return.
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, sp",
            "blr x9",
            "2:",
            in("x8") number,
            inlateout("x0") flags => answer,
            in("x1") argument,
            in("x2") pidfd,
            in("x3") 0,
            in("x4") 0,
            in("x9") body,
        );
    }
    decode(answer)
}

/// A child that was reaped: `wait4(2)`.
pub(crate) struct Ended {
    pub(crate) pid: i32,
    status: u32,
    /// The kernel's `struct rusage`: two times of seconds and microseconds, then 14 numbers.
    usage: [u64; 18],
}

impl Ended {
    /// What it exited with; 0 if a signal killed it.
    pub(crate) fn code(&self) -> u8 {
        if self.signal() == 0 { self.status.to_le_bytes()[1] } else { 0 }
    }

    /// The signal that killed it; 0 if it exited.
    pub(crate) fn signal(&self) -> u8 {
        self.status.to_le_bytes()[0] & 0x7f
    }

    /// Whether the signal had it dump its memory.
    pub(crate) fn core(&self) -> bool {
        self.status & 0x80 != 0
    }

    /// The status that a shell would tell: its own, or 128 and the signal.
    pub(crate) fn shell_status(&self) -> u8 {
        match self.signal() {
            0 => self.code(),
            signal => 128 + signal,
        }
    }

    /// The time that it ran: in user mode, and in the kernel for it; microseconds.
    pub(crate) fn times(&self) -> [u64; 2] {
        let time =
            |at: usize| self.usage[at].wrapping_mul(1_000_000).wrapping_add(self.usage[at + 1]);
        [time(0), time(2)]
    }

    /// The most memory that it had, in KiB.
    pub(crate) fn max_rss(&self) -> u64 {
        self.usage[4]
    }

    /// Page faults: without and with I/O.
    pub(crate) fn faults(&self) -> [u64; 2] {
        [self.usage[8], self.usage[9]]
    }
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

/// Reaps a child that has ended. Does not wait for one.
pub(crate) fn reap() -> Waited {
    const ANY: usize = usize::MAX;
    const WNOHANG: usize = 1;
    let mut ended = Ended { pid: 0, status: 0, usage: [0; 18] };
    let status = (&raw mut ended.status) as usize;
    let args = [ANY, status, WNOHANG, ended.usage.as_mut_ptr() as usize, 0, 0];
    // SAFETY: the kernel writes the status and the 144 bytes of the structure.
    match unsafe { syscall(number::WAIT4, args) } {
        Ok(0) => Waited::Running,
        Ok(pid) => {
            ended.pid = i32::try_from(pid).unwrap_or(0);
            Waited::Ended(ended)
        }
        Err(_) => Waited::Nobody,
    }
}

/// `setpgid(2)`: makes a process, 0 for this one, the leader of a process group of its own.
pub(crate) fn lead_group(process: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { syscall(number::SETPGID, [process.cast_unsigned() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Whether standard input is the terminal of this process's session, and this process's group is
/// the one in its foreground.
pub(crate) fn has_terminal() -> bool {
    const TIOCGPGRP: usize = 0x540f;
    let mut foreground = 0_u32;
    let args = [0, TIOCGPGRP, (&raw mut foreground) as usize, 0, 0, 0];
    // SAFETY: the kernel writes a number of 32 bits, if it is a terminal.
    let asked = unsafe { syscall(number::IOCTL, args) };
    // Groups from outside the process namespace are 0, both.
    asked.is_ok() && own_group() == foreground as usize
}

/// Puts this process's group in the foreground of the terminal at standard input. `SIGTTOU` must
/// be blocked.
pub(crate) fn take_terminal() {
    const TIOCSPGRP: usize = 0x5410;
    let group = u32::try_from(own_group()).unwrap_or(0);
    let args = [0, TIOCSPGRP, (&raw const group) as usize, 0, 0, 0];
    // SAFETY: the kernel reads a number of 32 bits. A terminal that was hung up meanwhile is no
    // reason not to go on.
    let _ = unsafe { syscall(number::IOCTL, args) };
}

fn own_group() -> usize {
    // SAFETY: no memory is involved.
    unsafe { syscall(number::GETPGID, [0; 6]) }.unwrap_or(0)
}

/// `PR_SET_CHILD_SUBREAPER`: orphans below this process become its children.
pub(crate) fn become_subreaper() -> Result<(), Errno> {
    prctl(36, 1)
}

/// `PR_SET_PDEATHSIG`: the signal that this process gets when its parent ends.
pub(crate) fn set_parent_death(signal: u8) -> Result<(), Errno> {
    prctl(1, signal)
}

fn prctl(option: usize, value: u8) -> Result<(), Errno> {
    // SAFETY: neither option that is used here involves memory.
    unsafe { syscall(number::PRCTL, [option, usize::from(value), 0, 0, 0, 0]) }.map(drop)
}

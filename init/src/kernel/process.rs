//! Processes: children are made and reaped, and this one executes a program or exits.
//!
//! Rustix has none of these calls in its public interface, or none that returns what is needed.
#![allow(unsafe_code, reason = "raw system calls")]

use core::ffi::{CStr, c_char};

use linux_raw_sys::general::{
    __NR_clone, __NR_clone3, __NR_execve, __NR_exit_group, __NR_getpgid, __NR_ioctl, __NR_prctl,
    __NR_wait4, CLONE_PARENT, CLONE_PIDFD, CLONE_VM, SIGCHLD, WNOHANG, clone_args, rusage,
};
use linux_raw_sys::ioctl::{TIOCGPGRP, TIOCSPGRP};
use linux_raw_sys::prctl::PR_SET_PDEATHSIG;
use rustix::fd::{FromRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;

use super::syscall;

/// Ends this process: `exit_group(2)`.
pub(crate) fn exit(status: u8) -> ! {
    loop {
        // SAFETY: the call does not return and touches no memory.
        let _ = unsafe { syscall(__NR_exit_group, [usize::from(status), 0, 0, 0, 0, 0]) };
    }
}

/// Clones this process as its own sibling: `clone3(2)` with `CLONE_PARENT`. Returns a pidfd in the
/// parent, `None` in the child.
///
/// # Safety
/// `flags` may only name new namespaces. In particular, the child must not share the memory.
pub(crate) unsafe fn clone_sibling(flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let mut pidfd: RawFd = -1;
    // The signal at exit is inherited. What follows `tls` is newer than this call needs.
    let args = clone_args {
        flags: u64::from(flags | CLONE_PIDFD | CLONE_PARENT),
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // CLONE_ARGS_SIZE_VER0.
    let call = [(&raw const args) as usize, core::mem::offset_of!(clone_args, set_tid), 0, 0, 0, 0];
    // SAFETY: the child has a copy of the memory and of the stack, and returns from here like the
    // parent; this is the only thread.
    match unsafe { syscall(__NR_clone3, call) }? {
        0 => Ok(None),
        // SAFETY: the kernel made the descriptor for this call.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Forks: returns the child's pid in the parent, `None` in the child.
///
/// By `clone(2)`, since the default seccomp profiles of container engines refuse `clone3(2)`.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: without CLONE_VM the child has a copy of the memory and of the stack, and returns
    // from here like the parent; this is the only thread.
    let child = unsafe { syscall(__NR_clone, [SIGCHLD as usize, 0, 0, 0, 0, 0]) }?;
    Ok(i32::try_from(child).ok().filter(|&child| child != 0))
}

/// Makes a child that shares the memory and runs `body` with `argument` concurrently with this
/// process. Returns its pid and a pidfd. Its stack is the memory below `argument`.
///
/// # Safety
/// The stack must be large enough and `argument` aligned to 16. Both must be the child's alone
/// until it has executed a program or ended. `body` must not touch anything else that this process
/// writes to.
pub(crate) unsafe fn clone_sharing_memory(
    argument: *mut u8,
    body: extern "C" fn(*mut u8) -> !,
) -> Result<(i32, OwnedFd), Errno> {
    let mut pidfd: RawFd = -1;
    let flags = (CLONE_VM | CLONE_PIDFD | SIGCHLD) as usize;
    let place = (&raw mut pidfd) as usize;
    // SAFETY: the child continues on its own stack and never returns; the rest is the caller's
    // promise. The kernel writes one descriptor.
    let child = unsafe {
        super::arch::clone_on_stack(__NR_clone as usize, [flags, place], argument, body)
    }?;
    // SAFETY: the kernel made the descriptor for this call.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((i32::try_from(child).unwrap_or(0), pidfd))
}

/// Executes a program: `execve(2)`. Only an error returns.
///
/// # Safety
/// Both lists must be pointers to strings that end with NUL, followed by a null pointer.
pub(crate) unsafe fn execve(
    path: &CStr,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    let args = [path.as_ptr() as usize, arguments as usize, environment as usize, 0, 0, 0];
    // SAFETY: the strings are the caller's promise; on success nothing of this program remains.
    match unsafe { syscall(__NR_execve, args) } {
        Ok(_) => Errno::IO,
        Err(errno) => errno,
    }
}

/// A child that was reaped.
pub(crate) struct Ended {
    pub(crate) pid: i32,
    status: u32,
    usage: rusage,
}

impl Ended {
    /// Returns what it exited with; 0 if a signal killed it.
    pub(crate) fn code(&self) -> u8 {
        if self.signal() == 0 { self.status.to_le_bytes()[1] } else { 0 }
    }

    /// Returns the signal that killed it; 0 if it exited.
    pub(crate) fn signal(&self) -> u8 {
        self.status.to_le_bytes()[0] & 0x7f
    }

    /// Returns whether it dumped core.
    pub(crate) fn core(&self) -> bool {
        self.status & 0x80 != 0
    }

    /// Returns the status as a shell reports it: its own, or 128 and the signal.
    pub(crate) fn shell_status(&self) -> u8 {
        match self.signal() {
            0 => self.code(),
            signal => 128 + signal,
        }
    }

    /// Returns its processor time in user mode and in the kernel, in microseconds.
    pub(crate) fn times(&self) -> [u64; 2] {
        [&self.usage.ru_utime, &self.usage.ru_stime].map(|time| {
            let seconds = time.tv_sec.cast_unsigned().wrapping_mul(1_000_000);
            seconds.wrapping_add(time.tv_usec.cast_unsigned())
        })
    }

    /// Returns the most memory that it had, in KiB.
    pub(crate) fn max_rss(&self) -> u64 {
        self.usage.ru_maxrss.cast_unsigned()
    }

    /// Returns its page faults without and with I/O.
    pub(crate) fn faults(&self) -> [u64; 2] {
        [self.usage.ru_minflt.cast_unsigned(), self.usage.ru_majflt.cast_unsigned()]
    }
}

/// What [`reap`] finds.
pub(crate) enum Waited {
    /// A child has ended and is reaped.
    Ended(Ended),
    /// All children still run.
    Running,
    /// There are no children.
    Nobody,
}

/// Reaps a child that has ended, without waiting for one: `wait4(2)`.
///
/// What rustix offers returns no resource usage.
pub(crate) fn reap() -> Waited {
    const ANY: usize = usize::MAX;
    // SAFETY: the structure is plain numbers.
    let usage = unsafe { core::mem::zeroed() };
    let mut ended = Ended { pid: 0, status: 0, usage };
    let status = (&raw mut ended.status) as usize;
    let args = [ANY, status, WNOHANG as usize, (&raw mut ended.usage) as usize, 0, 0];
    // SAFETY: the kernel writes the status and the structure.
    match unsafe { syscall(__NR_wait4, args) } {
        Ok(0) => Waited::Running,
        Ok(pid) => {
            ended.pid = i32::try_from(pid).unwrap_or(0);
            Waited::Ended(ended)
        }
        Err(_) => Waited::Nobody,
    }
}

/// Returns whether standard input is the controlling terminal, with this process's group in the
/// foreground.
pub(crate) fn is_in_foreground() -> bool {
    let mut foreground = 0_u32;
    let args = [0, TIOCGPGRP as usize, (&raw mut foreground) as usize, 0, 0, 0];
    // SAFETY: the kernel writes a number of 32 bits, if it is a terminal.
    let result = unsafe { syscall(__NR_ioctl, args) };
    // A group from outside the pid namespace is 0 in both, which rustix takes for an error.
    result.is_ok() && own_group() == foreground as usize
}

/// Puts this process's group in the foreground of the terminal at standard input. `SIGTTOU` must
/// be blocked.
pub(crate) fn enter_foreground() {
    let group = u32::try_from(own_group()).unwrap_or(0);
    let args = [0, TIOCSPGRP as usize, (&raw const group) as usize, 0, 0, 0];
    // SAFETY: the kernel reads a number of 32 bits. It does not matter if the terminal was hung up
    // meanwhile.
    let _ = unsafe { syscall(__NR_ioctl, args) };
}

/// Returns this process's group, 0 if it is from outside the pid namespace. Rustix relies on it not
/// to be 0.
fn own_group() -> usize {
    // SAFETY: no memory is involved.
    unsafe { syscall(__NR_getpgid, [0; 6]) }.unwrap_or(0)
}

/// Sets the signal that this process gets when its parent ends: `PR_SET_PDEATHSIG`.
///
/// Rustix takes only signals that have a name.
pub(crate) fn set_parent_death(signal: u32) -> Result<(), Errno> {
    let args = [PR_SET_PDEATHSIG as usize, signal as usize, 0, 0, 0, 0];
    // SAFETY: no memory is involved.
    unsafe { syscall(__NR_prctl, args) }.map(drop)
}

//! Children: made without what `clone3(2)` needs, put in a process group, and reaped.
#![allow(unsafe_code, reason = "raw system calls")]

use rustix::io::Errno;

use crate::signal;
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
    let args = [usize::from(signal::CHLD), 0, 0, 0, 0, 0];
    // SAFETY: without CLONE_VM the child has a copy of the memory and of the stack, and returns
    // from here like the parent; this is the only thread.
    let child = unsafe { syscall(number::CLONE, args) }?;
    Ok(i32::try_from(child).ok().filter(|&child| child != 0))
}

/// Reaps all children that have ended, and tells of each its number and the status that a shell
/// would tell: its own, or 128 and the signal that ended it. Does not wait for others.
pub(crate) fn reap(each: &mut dyn FnMut(i32, u8)) {
    const ANY: usize = usize::MAX;
    const WNOHANG: usize = 1;
    loop {
        let mut status = 0_u32;
        let args = [ANY, (&raw mut status) as usize, WNOHANG, 0, 0, 0];
        // SAFETY: the kernel writes the status, and is asked for no more.
        match unsafe { syscall(number::WAIT4, args) } {
            Ok(0) | Err(_) => return,
            Ok(pid) => {
                let [low, code, ..] = status.to_le_bytes();
                let ended_by = low & 0x7f;
                let status = if ended_by == 0 { code } else { 128 + ended_by };
                each(i32::try_from(pid).unwrap_or(0), status);
            }
        }
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

/// `close_range(2)`: closes every descriptor from `first` up. Nothing of this program may own one.
pub(crate) fn close_from(first: u32) {
    const CLOSE_RANGE: usize = 436;
    let args = [first as usize, u32::MAX as usize, 0, 0, 0, 0];
    // SAFETY: nothing owns what is closed, as the caller says.
    let _ = unsafe { syscall(CLOSE_RANGE, args) };
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

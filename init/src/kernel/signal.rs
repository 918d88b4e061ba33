//! Signals that are waited for instead of handled: all are blocked, and taken one by one.
//!
//! Rustix does not offer these calls, except `kill(2)` for signals that have a name.
#![allow(unsafe_code, reason = "raw system calls")]

use core::ptr;

use linux_raw_sys::general::{
    __NR_kill, __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigtimedwait, __NR_signalfd4,
    __kernel_timespec, _NSIG, O_CLOEXEC, O_NONBLOCK, SIG_SETMASK, SIGCHLD, SIGINT, SIGKILL,
    SIGPIPE, SIGSTOP, SIGTERM, kernel_sigaction, kernel_sigset_t,
};
use rustix::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;

use super::syscall;

pub(crate) const INT: u8 = byte(SIGINT);
pub(crate) const KILL: u8 = byte(SIGKILL);
pub(crate) const TERM: u8 = byte(SIGTERM);
pub(crate) const CHLD: u8 = byte(SIGCHLD);

/// The last real-time signal.
pub(crate) const LAST: u8 = byte(_NSIG);

/// Converts the number of a signal.
const fn byte(signal: u32) -> u8 {
    signal.to_le_bytes()[0]
}

/// The size of a set of signals.
const SET: usize = size_of::<kernel_sigset_t>();

/// The default action of a signal.
const DEFAULT: kernel_sigaction = kernel_sigaction {
    sa_handler_kernel: None,
    sa_flags: 0,
    sa_restorer: None,
    sa_mask: kernel_sigset_t { sig: [0] },
};

/// What [`block`] has changed, to be restored for the program.
pub(crate) struct Saved {
    mask: u64,
    child: kernel_sigaction,
}

/// Blocks all signals, so that each stays pending until [`wait`] takes it, even one that is
/// ignored. A fault of this process still kills it.
///
/// `SIGCHLD` gets its default action: while it is ignored, which exec does not change, the kernel
/// reaps children itself and sends no signal.
pub(crate) fn block() -> Saved {
    let mut saved = Saved { mask: 0, child: DEFAULT };
    set_action(SIGCHLD, &DEFAULT, &raw mut saved.child);
    set_mask(u64::MAX, &raw mut saved.mask);
    saved
}

impl Saved {
    /// Restores all of it.
    pub(crate) fn restore(&self) {
        set_action(SIGCHLD, &self.child, ptr::null_mut());
        set_mask(self.mask, ptr::null_mut());
    }
}

/// Gives every signal its default action and unblocks all: what the host ignores or blocks would
/// be inherited by the program, which must not depend on it.
pub(crate) fn reset() {
    for signal in 1..=_NSIG {
        if signal != SIGKILL && signal != SIGSTOP {
            set_action(signal, &DEFAULT, ptr::null_mut());
        }
    }
    unblock();
}

/// Unblocks all signals, as a program expects.
pub(crate) fn unblock() {
    set_mask(0, ptr::null_mut());
}

/// Sets an action, which is the default or one that this process began with: exec leaves no
/// handlers. `old` is null, or where the action so far is written.
fn set_action(signal: u32, new: &kernel_sigaction, old: *mut kernel_sigaction) {
    let args = [signal as usize, ptr::from_ref(new) as usize, old as usize, SET, 0, 0];
    // SAFETY: the kernel reads one structure and writes the other, a local one of the callers here.
    let _ = unsafe { syscall(__NR_rt_sigaction, args) };
}

/// Sets the mask. `old` is null, or where the mask so far is written.
fn set_mask(new: u64, old: *mut u64) {
    let args = [SIG_SETMASK as usize, (&raw const new) as usize, old as usize, SET, 0, 0];
    // SAFETY: the kernel reads one set and writes the other, a local one of the callers here.
    let _ = unsafe { syscall(__NR_rt_sigprocmask, args) };
}

/// Waits for the next signal and takes it: `sigtimedwait(2)`. All must be blocked.
pub(crate) fn wait() -> u8 {
    loop {
        // An error means that the process was stopped and continued.
        if let Some(signal) = take(u64::MAX, ptr::null()) {
            return signal;
        }
    }
}

/// Takes the `SIGPIPE` that a write of this process to a closed pipe has raised: it is not for the
/// program. All signals must be blocked.
pub(crate) fn discard_pipe() {
    take(1 << (SIGPIPE - 1), &__kernel_timespec { tv_sec: 0, tv_nsec: 0 });
}

/// Takes a signal of a set. Waits for no longer than `timeout`, which is null for ever.
#[inline(never)]
fn take(set: u64, timeout: *const __kernel_timespec) -> Option<u8> {
    let args = [(&raw const set) as usize, 0, timeout as usize, SET, 0, 0];
    // SAFETY: the kernel reads the set and the timeout, and writes nothing.
    let taken = unsafe { syscall(__NR_rt_sigtimedwait, args) };
    taken.ok().and_then(|signal| u8::try_from(signal).ok())
}

/// Blocks all signals and opens a descriptor to read them from: `signalfd(2)`.
///
/// Process 1 of a namespace gets a blocked signal too, but not an unblocked one without a handler.
pub(crate) fn open() -> Result<OwnedFd, Errno> {
    let all = u64::MAX;
    set_mask(all, ptr::null_mut());
    // SFD_CLOEXEC and SFD_NONBLOCK have the same values.
    let flags = O_CLOEXEC | O_NONBLOCK;
    let args = [usize::MAX, (&raw const all) as usize, SET, flags as usize, 0, 0];
    // SAFETY: the kernel only reads the set.
    let fd = unsafe { syscall(__NR_signalfd4, args) }?;
    // SAFETY: the kernel made the descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// Reads the next signal of a descriptor of [`open`]; `None` if no other is pending.
pub(crate) fn next(descriptor: BorrowedFd<'_>) -> Option<u8> {
    // struct signalfd_siginfo begins with the number.
    let mut info = [0; 128];
    let length = rustix::io::read(descriptor, &mut info);
    (length == Ok(info.len())).then_some(info[0])
}

/// Sends a signal to a process, to a process group by its negated number, or to all by -1:
/// `kill(2)`.
pub(crate) fn send(target: i32, signal: u8) -> Result<(), Errno> {
    let args = [target.cast_unsigned() as usize, usize::from(signal), 0, 0, 0, 0];
    // SAFETY: no memory is involved.
    unsafe { syscall(__NR_kill, args) }.map(drop)
}

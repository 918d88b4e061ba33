//! Signals that are waited for instead of handled: all are blocked, and taken one by one.
#![allow(unsafe_code, reason = "raw system calls")]

use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

use crate::syscall::syscall;

/// Numbers of system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const KILL: usize = 62;
    pub(super) const RT_SIGTIMEDWAIT: usize = 128;
    pub(super) const SIGNALFD4: usize = 289;
}

/// Numbers of system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const SIGNALFD4: usize = 74;
    pub(super) const KILL: usize = 129;
    pub(super) const RT_SIGACTION: usize = 134;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGTIMEDWAIT: usize = 137;
}

pub(crate) const INT: u8 = 2;
pub(crate) const KILL: u8 = 9;
pub(crate) const TERM: u8 = 15;
pub(crate) const CHLD: u8 = 17;

/// The last real-time signal.
const LAST: u8 = 64;

/// The names of the signals from 1 on, without `SIG`: the same on x86-64 and aarch64.
const NAMES: &[u8] = b"HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM \
STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// A set of signals as the kernel has it.
const SET: usize = 8;

/// The kernel's `struct sigaction`: handler, flags, restorer, mask.
type Action = [u64; 4];

/// What [`block`] has changed, for the process that is executed.
pub(crate) struct Before {
    mask: u64,
    child: Action,
}

/// Blocks all signals, so that each stays until [`wait`] takes it, even one that is ignored. A
/// fault of this process kills it all the same.
///
/// `SIGCHLD` gets its default action: while it is ignored, which exec does not change, the kernel
/// reaps children itself and tells nobody.
pub(crate) fn block() -> Before {
    let mut before = Before { mask: 0, child: [0; 4] };
    action(&[0; 4], &mut before.child);
    set_mask(u64::MAX, &mut before.mask);
    before
}

impl Before {
    /// Puts everything back as it was.
    pub(crate) fn restore(&self) {
        action(&self.child, &mut [0; 4]);
        set_mask(self.mask, &mut 0);
    }
}

fn action(new: &Action, old: &mut Action) {
    let args = [usize::from(CHLD), new.as_ptr() as usize, old.as_mut_ptr() as usize, SET, 0, 0];
    // SAFETY: the kernel reads one structure and writes the other. An action is the default one or
    // what this process began with: exec leaves no handlers.
    let _ = unsafe { syscall(number::RT_SIGACTION, args) };
}

fn set_mask(new: u64, old: &mut u64) {
    const SIG_SETMASK: usize = 2;
    let args = [SIG_SETMASK, (&raw const new) as usize, (&raw mut *old) as usize, SET, 0, 0];
    // SAFETY: the kernel reads one set and writes the other.
    let _ = unsafe { syscall(number::RT_SIGPROCMASK, args) };
}

/// Waits for the next signal, and takes it. All must be blocked.
pub(crate) fn wait() -> u8 {
    let all = u64::MAX;
    loop {
        let args = [(&raw const all) as usize, 0, 0, SET, 0, 0];
        // SAFETY: the kernel reads the set, and is asked to write nothing.
        let taken = unsafe { syscall(number::RT_SIGTIMEDWAIT, args) };
        // An error is that the process was stopped and goes on.
        if let Some(signal) = taken.ok().and_then(|signal| u8::try_from(signal).ok()) {
            return signal;
        }
    }
}

/// Blocks all signals and has them read from a descriptor: `signalfd(2)`.
///
/// A blocked signal reaches process 1 of a namespace too, where one without a handler does not.
pub(crate) fn descriptor() -> Result<OwnedFd, Errno> {
    const CLOEXEC: usize = 0o2_000_000;
    const NONBLOCK: usize = 0o4_000;
    let all = u64::MAX;
    set_mask(all, &mut 0);
    let args = [usize::MAX, (&raw const all) as usize, SET, CLOEXEC | NONBLOCK, 0, 0];
    // SAFETY: the kernel only reads the set.
    let fd = unsafe { syscall(number::SIGNALFD4, args) }?;
    // SAFETY: the kernel made the descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// The next signal of a [`descriptor`]; none if no other has come.
pub(crate) fn next(descriptor: BorrowedFd<'_>) -> Option<u8> {
    // struct signalfd_siginfo begins with the number.
    let mut info = [0; 128];
    let length = rustix::io::read(descriptor, &mut info);
    (length == Ok(info.len())).then_some(info[0])
}

/// Lets all signals through again, as a program expects it.
pub(crate) fn unblock() {
    set_mask(0, &mut 0);
}

/// `kill(2)`: sends a signal to a process, to a process group by its negated number, to all by -1.
pub(crate) fn send(target: i32, signal: u8) -> Result<(), Errno> {
    let args = [target.cast_unsigned() as usize, usize::from(signal), 0, 0, 0, 0];
    // SAFETY: no memory is involved.
    unsafe { syscall(number::KILL, args) }.map(drop)
}

/// The signal of a name, with or without `SIG`, or of a number.
pub(crate) fn parse(text: &[u8]) -> Option<u8> {
    let name = text.strip_prefix(b"SIG").unwrap_or(text);
    let named = (1..=31).zip(NAMES.split(|&byte| byte == b' ')).find(|(_, known)| *known == name);
    named.map(|(signal, _)| signal).or_else(|| {
        let signal = u8::try_from(crate::program::number(text)?).ok()?;
        (1..=LAST).contains(&signal).then_some(signal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, signal) in [
            ("SIGHUP", Some(1)),
            ("HUP", Some(1)),
            ("SIGKILL", Some(9)),
            ("TERM", Some(TERM)),
            ("CHLD", Some(CHLD)),
            ("SIGSYS", Some(31)),
            ("1", Some(1)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("256", None),
            ("", None),
            ("SIG", None),
            ("SIG9", None),
            ("sigterm", None),
            ("HUP INT", None),
        ] {
            assert_eq!(parse(text.as_bytes()), signal, "{text:?}");
        }
    }
}

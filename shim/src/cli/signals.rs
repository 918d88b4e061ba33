//! Signals to the command line are signals to the program in the container.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Running;
use crate::error::{Code, Error, Result};

/// Signals that are not taken: the end of children is told by their pidfds; a write that nobody
/// reads answers `EPIPE`; and the terminal's own stop a background job as they stop any other.
const LEFT: [Signal; 4] = [Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGTTIN, Signal::SIGTTOU];

/// The signals of this process, blocked and read from a descriptor.
///
/// None interrupts what is under way, so that no container is left half made or half removed.
#[derive(Debug)]
pub(super) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Takes the signals; before the first container is made, and before the first thread.
    pub(super) fn take() -> Result<Self> {
        let mut taken = SigSet::all();
        for signal in LEFT {
            taken.remove(signal);
        }
        taken.thread_block().map_err(|errno| Error::system("sigprocmask", "", errno))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&taken, flags)
            .map_err(|errno| Error::system("signalfd", "", errno))?;
        Ok(Self { fd })
    }

    /// The next signal that came, by its number.
    pub(super) fn next(&self) -> Result<Option<i32>> {
        match self.fd.read_signal() {
            Ok(info) => Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok())),
            Err(nix::Error::EINTR) => Ok(None),
            Err(errno) => Err(Error::system("read", "signalfd", errno)),
        }
    }

    /// A signal that came and asks this process to end.
    pub(super) fn interrupted(&self) -> Result<Option<i32>> {
        while let Some(signal) = self.next()? {
            if is_termination(signal) {
                return Ok(Some(signal));
            }
        }
        Ok(None)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a signal is one by which terminals, users and init systems end a program.
pub(super) fn is_termination(signal: i32) -> bool {
    matches!(signal, libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM)
}

/// Stops this process as SIGTSTP does by default, until it is continued. The kernel leaves alone
/// a process that no shell could continue.
pub(super) fn stop_here() {
    let stop = SigSet::from(Signal::SIGTSTP);
    let mut before = SigSet::empty();
    if raise(Signal::SIGTSTP).is_ok()
        && nix::sys::signal::sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&stop), Some(&mut before))
            .is_ok()
    {
        let _ = before.thread_set_mask();
    }
}

/// Sends a signal to the program and answers whether it was killed in its place.
///
/// The kernel drops signals that PID 1 of a pid namespace has no handler for. A program that knows
/// nothing of being PID 1 would then never end by Ctrl-C: what is the default elsewhere is done
/// from here, where the kernel lets SIGKILL and SIGSTOP through.
pub(super) fn forward(running: &Running, signal: i32) -> Result<bool> {
    let dropped = Dispositions::of(running.pid()).is_some_and(|own| own.drops(signal));
    let sent = match default_action(signal) {
        Action::End if dropped => libc::SIGKILL,
        Action::Stop if dropped => libc::SIGSTOP,
        _ => signal,
    };
    match running.signal(sent) {
        // It has just ended, which is told elsewhere.
        Err(error) if error.code() == Code::ContainerNotRunning => Ok(false),
        sending => sending.map(|()| sent == libc::SIGKILL),
    }
}

/// What happens to a process that has no handler: `signal(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    End,
    Stop,
    Nothing,
}

fn default_action(signal: i32) -> Action {
    match signal {
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => Action::Nothing,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Action::Stop,
        _ => Action::End,
    }
}

/// What a process does with signals: `proc_pid_status(5)`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dispositions {
    /// Whether it is PID 1 of its pid namespace.
    first: bool,
    /// The signals that it blocks, ignores or catches.
    handled: u64,
}

impl Dispositions {
    fn of(pid: i32) -> Option<Self> {
        std::fs::read_to_string(format!("/proc/{pid}/status")).ok().map(|text| Self::parse(&text))
    }

    fn parse(status: &str) -> Self {
        let mut own = Self::default();
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            match key {
                "NSpid" => own.first = value.split_ascii_whitespace().next_back() == Some("1"),
                "SigBlk" | "SigIgn" | "SigCgt" => {
                    own.handled |= u64::from_str_radix(value.trim(), 16).unwrap_or(u64::MAX);
                }
                _ => {}
            }
        }
        own
    }

    /// Whether the kernel drops a signal to the process.
    fn drops(&self, signal: i32) -> bool {
        let bit = u32::try_from(signal - 1).ok().and_then(|place| 1_u64.checked_shl(place));
        self.first && bit.is_some_and(|bit| self.handled & bit == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh: NSpid:\t7\nNSpid:\t4711\t1\nSigQ:\t0/1\n\
        SigPnd:\t0000000000000002\nSigBlk:\t0000000000010000\nSigIgn:\t0000000000000004\n\
        SigCgt:\t0000000000004001\n";

    #[test]
    fn the_first_process_misses_what_it_does_not_handle() {
        let own = Dispositions::parse(STATUS);
        for (signal, dropped) in [
            (libc::SIGHUP, false),
            (libc::SIGINT, true),
            (libc::SIGQUIT, false),
            (libc::SIGTERM, false),
            (libc::SIGCHLD, false),
            (libc::SIGUSR1, true),
            (64, true),
        ] {
            assert_eq!(own.drops(signal), dropped, "{signal}");
        }
    }

    #[test]
    fn another_process_misses_nothing() {
        let own = Dispositions::parse(&STATUS.replace("4711\t1", "4711\t12"));
        assert!(!own.drops(libc::SIGINT));
        assert!(!Dispositions::parse("SigCgt:\tx\nNSpid:\t1").drops(libc::SIGINT));
        assert!(!Dispositions::parse("").drops(libc::SIGINT));
    }
}

//! Forwards the signals that this process receives to the program in the container.
#![allow(unsafe_code, reason = "the action of a signal has no safe wrapper")]

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pidone::Running;
use pidone_config::{Code, Error, Result};
use pidone_host::proc;

/// Signals that are not blocked. Pidfds report the exit of children, and a write without a reader
/// returns `EPIPE`. The terminal's stop signals stop this process in the background like any other.
const NOT_BLOCKED: [Signal; 4] =
    [Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGTTIN, Signal::SIGTTOU];

/// Gives `SIGCHLD` its default action. While it is ignored, which exec does not change, the kernel
/// reaps children itself, and their statuses are lost.
pub(super) fn keep_statuses() {
    // SAFETY: no handler is installed, so none can run at a wrong time.
    // It fails only for a signal that does not exist.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// The signals of this process, blocked and read from a descriptor.
///
/// A signal therefore never interrupts the creation or removal of a container.
#[derive(Debug)]
pub(super) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals, and unblocks the others, whatever the caller has blocked. Must be called
    /// before the first thread starts and before the first container is created.
    ///
    /// # Errors
    /// [`Code::SystemError`] if sigprocmask(2) or signalfd(2) fails.
    pub(super) fn block() -> Result<Self> {
        let mut blocked = SigSet::all();
        for signal in NOT_BLOCKED {
            blocked.remove(signal);
        }
        blocked.thread_set_mask().map_err(|errno| Error::system("sigprocmask", "", errno))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&blocked, flags)
            .map_err(|errno| Error::system("signalfd", "", errno))?;
        Ok(Self { fd })
    }

    /// Returns the number of the next pending signal, without waiting.
    pub(super) fn next(&self) -> Result<Option<i32>> {
        match self.fd.read_signal() {
            Ok(info) => Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok())),
            Err(nix::Error::EINTR) => Ok(None),
            Err(errno) => Err(Error::system("read", "signalfd", errno)),
        }
    }

    /// Reads all pending signals up to one that asks this process to end, and returns that one.
    pub(super) fn next_termination(&self) -> Result<Option<i32>> {
        while let Some(signal) = self.next()? {
            if is_termination(signal) && !is_ignored(signal) {
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

/// Parses a signal: a number from 0 to 64, or a name with or without `SIG`. Real-time signals are
/// `RTMIN+n` and `RTMAX-n`.
pub(super) fn parse(text: &str) -> std::result::Result<i32, &'static str> {
    const LAST: i32 = 64;
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i32>().ok()).flatten()
    };
    if let Some(number) = number(text) {
        return (0..=LAST).contains(&number).then_some(number).ok_or("must be from 0 to 64");
    }
    let name = text.to_ascii_uppercase();
    let bare = name.strip_prefix("SIG").unwrap_or(&name);
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let real_time = |text: &str, mark| match text.strip_prefix(mark) {
        None => text.is_empty().then_some(0),
        Some(offset) => number(offset),
    };
    let found = if let Some(offset) = bare.strip_prefix("RTMIN") {
        real_time(offset, '+').and_then(|offset| first.checked_add(offset))
    } else if let Some(offset) = bare.strip_prefix("RTMAX") {
        real_time(offset, '-').and_then(|offset| last.checked_sub(offset))
    } else {
        return format!("SIG{bare}")
            .parse::<Signal>()
            .map(|signal| signal as i32)
            .map_err(|_| "no such signal");
    };
    found.filter(|signal| (first..=last).contains(signal)).ok_or("no such signal")
}

/// Returns whether the caller of this process has made it ignore a signal, as nohup(1) does. It is
/// read nevertheless, since blocked signals stay pending.
pub(super) fn is_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| {
        proc::parse_signal_set(&status, "SigIgn").unwrap_or(0) & bit(signal) != 0
    })
}

/// Returns whether terminals, users or init systems send this signal to end a program.
fn is_termination(signal: i32) -> bool {
    matches!(signal, libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM)
}

/// Stops this process until it is continued, which is the default action of SIGTSTP.
///
/// The kernel ignores this in an orphaned process group, where no shell could continue the process.
pub(super) fn stop_this_process() {
    let stop = SigSet::from(Signal::SIGTSTP);
    let mut before = SigSet::empty();
    if raise(Signal::SIGTSTP).is_ok()
        && nix::sys::signal::sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&stop), Some(&mut before))
            .is_ok()
    {
        let _ = before.thread_set_mask();
    }
}

/// Forwards signals to the program.
///
/// The kernel drops signals to process 1 of a PID namespace that it has no handler for, so that
/// Ctrl-C would not end an ordinary program. The forwarder therefore performs their default action
/// from outside, by SIGKILL or SIGSTOP, which the kernel delivers.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    /// Signals that the program blocks, and how often they were found blocked. Shells block signals
    /// for a moment around each fork, other programs to receive them by sigwait(3).
    held: Vec<(i32, u32)>,
    killed_for: Option<i32>,
}

/// How often a signal must be found blocked before it is sent nevertheless.
const MAX_CHECKS: u32 = 10;

impl Forwarder {
    /// Sends a signal, or holds it back while the program blocks it. One that this process ignores
    /// is sent only to a program that handles it, and never has its default effect.
    ///
    /// # Errors
    /// Those of [`Running::signal`]. It is not an error if the program has just exited.
    pub(super) fn forward(&mut self, running: &Running, signal: i32) -> Result<()> {
        if is_ignored(signal) && Dispositions::read(running.pid()).handled & bit(signal) == 0 {
            return Ok(());
        }
        self.send(running, signal)
    }

    /// Sends a signal, or holds it back while the program blocks it.
    ///
    /// # Errors
    /// Those of [`Running::signal`]. It is not an error if the program has just exited.
    pub(super) fn send(&mut self, running: &Running, signal: i32) -> Result<()> {
        // Signal 0 only tests whether the process exists, and has no default action.
        if signal == 0 {
            return send(running, signal);
        }
        let fate = Dispositions::read(running.pid()).fate(signal);
        match (fate, default_action(signal)) {
            // Stop at once: this process is about to stop too.
            (Fate::Dropped, _) | (Fate::Held, Action::Stop) => {
                self.perform_default(running, signal)
            }
            (Fate::Held, Action::End) => {
                if !self.held.iter().any(|(held, _)| *held == signal) {
                    self.held.push((signal, 1));
                }
                Ok(())
            }
            _ => send(running, signal),
        }
    }

    /// Returns whether signals are held back, so that [`Forwarder::retry_held`] must be called
    /// soon.
    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sends the signals that are held back and no longer blocked, or blocked for too long.
    ///
    /// # Errors
    /// As [`Forwarder::send`].
    pub(super) fn retry_held(&mut self, running: &Running) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let dispositions = Dispositions::read(running.pid());
        for (signal, checks) in std::mem::take(&mut self.held) {
            match dispositions.fate(signal) {
                Fate::Held if checks < MAX_CHECKS => self.held.push((signal, checks + 1)),
                Fate::Dropped => self.perform_default(running, signal)?,
                _ => send(running, signal)?,
            }
        }
        Ok(())
    }

    /// Performs the default action of a signal.
    fn perform_default(&mut self, running: &Running, signal: i32) -> Result<()> {
        match default_action(signal) {
            Action::End => {
                self.killed_for.get_or_insert(signal);
                send(running, libc::SIGKILL)
            }
            Action::Stop => send(running, libc::SIGSTOP),
            Action::Nothing => send(running, signal),
        }
    }

    /// Returns the signal instead of which SIGKILL was sent, if there was one.
    pub(super) fn killed_for(&self) -> Option<i32> {
        self.killed_for
    }
}

fn send(running: &Running, signal: i32) -> Result<()> {
    match running.signal(signal) {
        // It has just exited, which the caller sees on its pidfd.
        Err(error) if error.code() == Code::ContainerNotRunning => Ok(()),
        sent => sent,
    }
}

/// The default action of a signal: signal(7).
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

/// What the kernel does with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The kernel delivers it as usual: the process handles or ignores it, or is not process 1.
    Delivered,
    /// It is blocked, and pending until the process unblocks or waits for it.
    Held,
    /// The kernel drops it, since process 1 has no handler.
    Dropped,
}

/// How a process handles signals: proc_pid_status(5).
#[derive(Debug, Default, PartialEq, Eq)]
struct Dispositions {
    /// Whether it is process 1 of its PID namespace.
    first: bool,
    /// The signals that it ignores or catches.
    handled: u64,
    blocked: u64,
}

impl Dispositions {
    /// Reads those of a process. If they cannot be read, all signals count as delivered.
    fn read(pid: i32) -> Self {
        let read_file = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let (Ok(status), Ok(wait_channel)) = (read_file("status"), read_file("wchan")) else {
            return Self::default();
        };
        let mut dispositions = Self::parse(&status);
        // A signal that sigwait(3) waits for is not blocked, but the kernel does not drop it.
        dispositions.first &= !wait_channel.contains("sigtimedwait");
        dispositions
    }

    fn parse(status: &str) -> Self {
        let set = |key| proc::parse_signal_set(status, key).unwrap_or(0);
        Self {
            first: proc::parse_innermost_pid(status) == Some(1),
            handled: set("SigIgn") | set("SigCgt"),
            blocked: set("SigBlk"),
        }
    }

    fn fate(&self, signal: i32) -> Fate {
        let bit = bit(signal);
        if !self.first || self.handled & bit != 0 {
            Fate::Delivered
        } else if self.blocked & bit != 0 {
            Fate::Held
        } else {
            Fate::Dropped
        }
    }
}

/// Returns the bit of a signal in a set, or 0 for a number that is not a signal.
fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh: NSpid:\t7\nNSpid:\t4711\t1\nSigQ:\t0/1\n\
        SigPnd:\t0000000000000002\nShdPnd:\t0000000000000004\nSigBlk:\t0000000000010000\n\
        SigIgn:\t0000000000000004\nSigCgt:\t0000000000004001\n";

    #[test]
    fn unhandled_signals_to_process_1_are_dropped() {
        let dispositions = Dispositions::parse(STATUS);
        for (signal, fate) in [
            (libc::SIGHUP, Fate::Delivered),
            (libc::SIGINT, Fate::Dropped),
            (libc::SIGQUIT, Fate::Delivered),
            (libc::SIGTERM, Fate::Delivered),
            (libc::SIGCHLD, Fate::Held),
            (libc::SIGUSR1, Fate::Dropped),
            (64, Fate::Dropped),
        ] {
            assert_eq!(dispositions.fate(signal), fate, "{signal}");
        }
    }

    #[test]
    fn signals_are_parsed_by_name_and_number() {
        for (text, signal) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("TERM", libc::SIGTERM),
            ("sigkill", libc::SIGKILL),
            ("SIGRTMIN", libc::SIGRTMIN()),
            ("rtmin+3", libc::SIGRTMIN() + 3),
            ("SIGRTMAX-1", libc::SIGRTMAX() - 1),
        ] {
            assert_eq!(parse(text), Ok(signal), "{text}");
        }
        for bad in
            ["", "65", "-9", "+9", "SIG", "SIGSIGTERM", "RTMIN+31", "RTMIN-1", "RTMAX-99", "9x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_signals_to_another_process_are_delivered() {
        let dispositions = Dispositions::parse(&STATUS.replace("4711\t1", "4711\t12"));
        assert_eq!(dispositions.fate(libc::SIGINT), Fate::Delivered);
        assert_eq!(Dispositions::parse("").fate(libc::SIGINT), Fate::Delivered);
        assert_eq!(bit(0), 0);
        assert_eq!(bit(65), 0);
    }
}

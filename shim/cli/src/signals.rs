//! Signals to the command line are signals to the program in the container.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pidone::Running;
use pidone_config::{Code, Error, Result};
use pidone_host::proc;

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

/// A signal by its number, or its name with or without `SIG`; real-time signals are `RTMIN+n` and
/// `RTMAX-n`.
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

/// Whether a signal is one by which terminals, users and init systems end a program.
fn is_termination(signal: i32) -> bool {
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

/// Passes signals on to the program.
///
/// The kernel drops signals that PID 1 of a pid namespace has no handler for. A program that knows
/// nothing of being PID 1 would then never end by Ctrl-C: what is the default elsewhere is done
/// from here, where the kernel lets SIGKILL and SIGSTOP through.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    /// Signals that the program blocks, and how often it was found so. Shells do it for a moment
    /// around each fork; others to take them by sigwait(3).
    held: Vec<(i32, u32)>,
    killed_for: Option<i32>,
}

/// How often a signal must be found blocked before it is sent all the same.
const LOOKS: u32 = 10;

impl Forwarder {
    /// Sends a signal.
    pub(super) fn send(&mut self, running: &Running, signal: i32) -> Result<()> {
        let fate = Dispositions::of(running.pid()).fate(signal);
        match (fate, default_action(signal)) {
            // Stopping does not wait: this process is about to stop too.
            (Fate::Dropped, _) | (Fate::Held, Action::Stop) => self.act(running, signal),
            (Fate::Held, Action::End) => {
                if !self.held.iter().any(|(held, _)| *held == signal) {
                    self.held.push((signal, 1));
                }
                Ok(())
            }
            _ => send(running, signal),
        }
    }

    /// Whether [`Forwarder::settle`] is to be called again soon.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.held.is_empty()
    }

    /// Looks again at signals that were blocked.
    pub(super) fn settle(&mut self, running: &Running) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let dispositions = Dispositions::of(running.pid());
        for (signal, looks) in std::mem::take(&mut self.held) {
            match dispositions.fate(signal) {
                Fate::Held if looks < LOOKS => self.held.push((signal, looks + 1)),
                Fate::Dropped => self.act(running, signal)?,
                _ => send(running, signal)?,
            }
        }
        Ok(())
    }

    /// Does what a signal does by default.
    fn act(&mut self, running: &Running, signal: i32) -> Result<()> {
        match default_action(signal) {
            Action::End => {
                self.killed_for.get_or_insert(signal);
                send(running, libc::SIGKILL)
            }
            Action::Stop => send(running, libc::SIGSTOP),
            Action::Nothing => send(running, signal),
        }
    }

    /// The signal in whose place the program was killed, if it was.
    pub(super) fn killed_for(&self) -> Option<i32> {
        self.killed_for
    }
}

fn send(running: &Running, signal: i32) -> Result<()> {
    match running.signal(signal) {
        // It has just ended, which is told elsewhere.
        Err(error) if error.code() == Code::ContainerNotRunning => Ok(()),
        sent => sent,
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

/// What becomes of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The process has something of it, or it is none that the kernel treats differently.
    Taken,
    /// It waits until the process unblocks it, or asks for it.
    Held,
    /// The kernel drops it.
    Dropped,
}

/// What a process does with signals: `proc_pid_status(5)`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dispositions {
    /// Whether it is PID 1 of its pid namespace.
    first: bool,
    /// The signals that it ignores or catches.
    handled: u64,
    blocked: u64,
}

impl Dispositions {
    /// Those of a process. Where they cannot be known it is as if there were nothing special.
    fn of(pid: i32) -> Self {
        let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let (Ok(status), Ok(sleeps_in)) = (read("status"), read("wchan")) else {
            return Self::default();
        };
        let mut own = Self::parse(&status);
        // In sigwait(3) a signal is not blocked, and yet the kernel does not drop it.
        own.first &= !sleeps_in.contains("sigtimedwait");
        own
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
            Fate::Taken
        } else if self.blocked & bit != 0 {
            Fate::Held
        } else {
            Fate::Dropped
        }
    }
}

/// A signal's place in a set.
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
    fn the_first_process_misses_what_it_does_not_handle() {
        let own = Dispositions::parse(STATUS);
        for (signal, fate) in [
            (libc::SIGHUP, Fate::Taken),
            (libc::SIGINT, Fate::Dropped),
            (libc::SIGQUIT, Fate::Taken),
            (libc::SIGTERM, Fate::Taken),
            (libc::SIGCHLD, Fate::Held),
            (libc::SIGUSR1, Fate::Dropped),
            (64, Fate::Dropped),
        ] {
            assert_eq!(own.fate(signal), fate, "{signal}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
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
    fn another_process_misses_nothing() {
        let own = Dispositions::parse(&STATUS.replace("4711\t1", "4711\t12"));
        assert_eq!(own.fate(libc::SIGINT), Fate::Taken);
        assert_eq!(Dispositions::parse("").fate(libc::SIGINT), Fate::Taken);
        assert_eq!(bit(0), 0);
        assert_eq!(bit(65), 0);
    }
}

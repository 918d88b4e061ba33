//! Signals to processes, and waiting for their end, also if they are not children of this process.
#![allow(unsafe_code, reason = "signals by number, which no safe wrapper offers")]

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use pidone_config::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{exit, proc};

/// How long a killed process may take to end. One that waits for a disk or is frozen takes longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the id of the process of a pidfd, `None` if the process was reaped: `pidfd_open(2)`.
///
/// # Errors
/// `EINVAL` if the descriptor is not a pidfd.
pub fn process_id(pidfd: BorrowedFd<'_>) -> Result<Option<i32>> {
    let number = pidfd.as_raw_fd();
    let fail =
        |error: std::io::Error| Error::path("read", format!("/proc/self/fdinfo/{number}"), error);
    let pid = proc::descriptor_value(number, "Pid").map_err(fail)?;
    let pid: Option<i32> = pid.and_then(|pid| pid.parse().ok());
    let pid = pid.ok_or_else(|| fail(Errno::INVAL.into()).with_hint("no pidfd"))?;
    Ok((pid > 0).then_some(pid))
}

/// Sends a signal to a process by its id.
///
/// The process is opened first, so that an error cannot belong to a later process with the same id.
///
/// # Errors
/// [`Code::ContainerNotRunning`] if the process has ended.
pub fn signal(pid: i32, signal: i32) -> Result<()> {
    let gone = |errno| {
        Error::system("signal", pid.to_string(), errno).with_code(Code::ContainerNotRunning)
    };
    let pid_of = Pid::from_raw(pid).ok_or_else(|| gone(Errno::SRCH))?;
    let pidfd = pidfd_open(pid_of, PidfdFlags::empty()).map_err(gone)?;
    send(pidfd.as_fd(), pid, signal)
}

/// Sends a signal to the process of a pidfd. `pid` is its id, for messages.
///
/// # Errors
/// [`Code::ContainerNotRunning`] if the process has ended.
pub fn send(pidfd: BorrowedFd<'_>, pid: i32, signal: i32) -> Result<()> {
    let known = Signal::from_named_raw(signal);
    // Real-time signals have no name. The kernel checks whether they exist.
    let sent = match known {
        Some(signal) => pidfd_send_signal(pidfd, signal),
        None => send_numbered(pidfd, signal),
    };
    sent.map_err(|errno| {
        let error = Error::system("signal", pid.to_string(), errno);
        if errno == Errno::SRCH { error.with_code(Code::ContainerNotRunning) } else { error }
    })
}

/// Calls `pidfd_send_signal(2)` with the number of a signal.
fn send_numbered(pidfd: BorrowedFd<'_>, signal: i32) -> rustix::io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no structure is passed, and the kernel checks the number.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Waits until a process has ended, which need not be a child. `pid` is its id, for messages.
///
/// # Errors
/// `ETIMEDOUT` after 10 seconds.
pub fn wait_for_end(pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let timeout = Timespec::try_from(TIMEOUT).ok();
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Err(Error::system("kill", pid.to_string(), Errno::TIMEDOUT)),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", pid.to_string(), errno)),
        }
    }
}

/// Reaps a child whenever it ends, in another thread: one that [`wait_for_end`] has given up. `pid`
/// is its id.
pub fn reap_later(pidfd: OwnedFd, pid: i32) {
    let reap = move || {
        let is_late = |error: &Error| error.errno() == Some(Errno::TIMEDOUT);
        while wait_for_end(pidfd.as_fd(), pid).as_ref().is_err_and(is_late) {}
        let _ = exit::wait(pidfd.as_fd());
    };
    // Without a thread it stays a zombie as long as this process runs.
    let _ = thread::Builder::new().name("pidone-reap".into()).spawn(reap);
}

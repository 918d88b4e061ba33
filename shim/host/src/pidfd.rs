//! Processes that are not our children.
#![allow(unsafe_code, reason = "signals by number, which no safe wrapper offers")]

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use pidone_config::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::proc;

/// How long a killed process may take to end.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The id of the process of a pidfd, `None` if it has ended and was reaped: `proc_pid_fdinfo(5)`.
///
/// # Errors
/// The descriptor is no pidfd.
pub fn process_id(pidfd: BorrowedFd<'_>) -> Result<Option<i32>> {
    let number = pidfd.as_raw_fd();
    let fail =
        |error: std::io::Error| Error::path("read", format!("/proc/self/fdinfo/{number}"), error);
    let pid = proc::descriptor_value(number, "Pid").map_err(fail)?;
    let pid: Option<i32> = pid.and_then(|pid| pid.parse().ok());
    let pid = pid.ok_or_else(|| fail(Errno::INVAL.into()).with_hint("no pidfd"))?;
    Ok((pid > 0).then_some(pid))
}

/// Sends a signal to a process by its id, without a way to mistake another for it later.
pub fn signal(pid: i32, signal: i32) -> Result<()> {
    let gone = |errno| {
        Error::system("signal", pid.to_string(), errno).with_code(Code::ContainerNotRunning)
    };
    let pid_of = Pid::from_raw(pid).ok_or_else(|| gone(Errno::SRCH))?;
    let pidfd = pidfd_open(pid_of, PidfdFlags::empty()).map_err(gone)?;
    send(pidfd.as_fd(), pid, signal)
}

/// Sends a signal to the process of a pidfd.
pub fn send(pidfd: BorrowedFd<'_>, pid: i32, signal: i32) -> Result<()> {
    let known = Signal::from_named_raw(signal);
    // Real-time signals have no name; the kernel knows which exist.
    let sent = match known {
        Some(signal) => pidfd_send_signal(pidfd, signal),
        None => send_numbered(pidfd, signal),
    };
    sent.map_err(|errno| {
        let error = Error::system("signal", pid.to_string(), errno);
        if errno == Errno::SRCH { error.with_code(Code::ContainerNotRunning) } else { error }
    })
}

/// `pidfd_send_signal(2)` by number.
fn send_numbered(pidfd: BorrowedFd<'_>, signal: i32) -> rustix::io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no structure is passed, and the kernel checks the number.
    let answer =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if answer == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Waits for a process to end, of which we need not be the parent.
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

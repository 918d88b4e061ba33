//! How a process ended and what it used: `waitid(2)` with resource usage.
#![allow(unsafe_code, reason = "no safe wrapper of waitid returns the usage")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

/// How a process ended.
///
/// ```
/// use pidone_host::exit::Exit;
///
/// let exit = Exit::killed();
/// assert_eq!((exit.code, exit.signal), (None, Some(9)));
/// assert_eq!(exit.status(), 137);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit status; `None` if a signal killed the process.
    pub code: Option<i32>,
    /// The signal that killed the process; `None` if it exited.
    pub signal: Option<i32>,
    /// Whether the process left a core dump.
    pub core: bool,
    /// The resources that the process used, including those of children that it waited for.
    pub usage: Usage,
}

/// The resources that a process used: `getrusage(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The CPU time in user mode.
    pub user: Duration,
    /// The CPU time in the kernel.
    pub system: Duration,
    /// The largest resident set size, in KiB, of one process: the program or a child that it has
    /// waited for. It is not that of all processes together, which a cgroup counts (the `max_usage`
    /// of its memory statistics). What a process had before its exec counts too, so it can be
    /// that of the init, or of the program that started the container.
    pub max_rss: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
}

impl Exit {
    /// Returns the status as shells report it: the exit status, or 128 plus the signal.
    #[must_use]
    pub fn status(&self) -> i32 {
        self.code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(255)
    }

    /// Returns the exit of a process that was killed with `SIGKILL` and whose usage is not known.
    pub fn killed() -> Self {
        Self { code: None, signal: Some(libc::SIGKILL), core: false, usage: Usage::default() }
    }
}

/// Reaps the child of a pidfd, without waiting. Returns `None` if it has not ended.
///
/// # Errors
/// `ECHILD` if the process is not a child of this process, or was reaped already.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>, Errno> {
    // SAFETY: both structures are plain data that the kernel fills.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both structures outlive the call, in which the kernel fills them. libc's
        // waitid lacks the last argument.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                pidfd.as_raw_fd(),
                &raw mut info,
                libc::WEXITED | libc::WNOHANG | libc::__WALL,
                &raw mut usage,
            )
        };
        if result == 0 {
            break;
        }
        match Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(Errno::INTR) => {}
            errno => return Err(errno.unwrap_or(Errno::IO)),
        }
    }
    // SAFETY: the field is zero if no child has ended, else the id of the child.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: a child has ended, so the kernel has filled in its status.
    let status = unsafe { info.si_status() };
    let (code, signal) = match info.si_code {
        libc::CLD_EXITED => (Some(status), None),
        _ => (None, Some(status)),
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec.unsigned_abs())
            + Duration::from_micros(value.tv_usec.unsigned_abs())
    };
    Ok(Some(Exit {
        code,
        signal,
        core: info.si_code == libc::CLD_DUMPED,
        usage: Usage {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
            max_rss: usage.ru_maxrss.unsigned_abs(),
            minor_faults: usage.ru_minflt.unsigned_abs(),
            major_faults: usage.ru_majflt.unsigned_abs(),
        },
    }))
}

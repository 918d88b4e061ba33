//! `waitid(2)` with resource usage, which no safe wrapper offers.
#![allow(unsafe_code, reason = "libc's waitid lacks the usage")]

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
    /// The status it exited with; `None` if a signal killed it.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether it left a core dump.
    pub core: bool,
    /// What it used, with the children that it waited for.
    pub usage: Usage,
}

/// The resources that a process used: `getrusage(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time outside the kernel.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The largest resident memory, in KiB.
    pub max_rss: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
}

impl Exit {
    /// The status as shells tell it: the code, or 128 and the signal.
    #[must_use]
    pub fn status(&self) -> i32 {
        self.code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(255)
    }
}

impl Exit {
    /// The exit of a process of which nothing is known but that it was killed.
    pub fn killed() -> Self {
        Self { code: None, signal: Some(libc::SIGKILL), core: false, usage: Usage::default() }
    }
}

/// Reaps the child of a pidfd if it has ended.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>, Errno> {
    // SAFETY: both structures are plain data that the kernel fills.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both structures live here; libc's waitid lacks the last argument.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                pidfd.as_raw_fd(),
                &raw mut info,
                libc::WEXITED | libc::WNOHANG | libc::__WALL,
                &raw mut usage,
            )
        };
        if answer == 0 {
            break;
        }
        match Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(Errno::INTR) => {}
            errno => return Err(errno.unwrap_or(Errno::IO)),
        }
    }
    // SAFETY: it is zero if no child has ended, else that child's id.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel filled in a child's end, which has a status.
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

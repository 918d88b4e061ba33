//! A process in a container: what is asked for, and the one that runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use crate::cgroup::Cgroups;
use crate::child::{Child, First};
use crate::config::{CapabilitySets, CpuAffinity, Rlimit, Scheduler};
use crate::error::{Code, Error, Result};
use crate::wait::{self, Exit};

/// A process to start.
#[derive(Debug, Default)]
pub struct Process {
    /// The arguments, the program first. Without a slash it is looked up in the process's
    /// `$PATH`, in the container.
    pub args: Vec<String>,
    /// The environment, as `NAME=value`. `HOME` is added if it is missing.
    pub env: Vec<String>,
    /// The working directory; empty for `/`.
    pub cwd: String,
    /// Whether the working directory of a first process is made if it is missing.
    pub make_cwd: bool,
    /// `user`, `uid`, `user:group` or `uid:gid`, names as in the container; empty for root.
    pub user: String,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// Descriptors from 3 up.
    pub extra_files: Vec<OwnedFd>,
    /// Capabilities instead of the container's.
    pub capabilities: Option<Vec<String>>,
    /// Each capability set by itself, instead of [`Process::capabilities`].
    pub capability_sets: Option<CapabilitySets>,
    /// The user by numbers, instead of [`Process::user`] and the container's groups.
    pub ids: Option<Ids>,
    /// Resource limits instead of the container's.
    pub rlimits: Option<Vec<Rlimit>>,
    /// The AppArmor profile instead of the container's.
    pub apparmor_profile: Option<String>,
    /// The SELinux label instead of the container's.
    pub label: Option<String>,
    /// Likes to be killed for want of memory, -1000 to 1000: `proc_pid_oom_score_adj(5)`.
    pub oom_score_adj: Option<i32>,
    /// How the kernel schedules it.
    pub scheduler: Option<Scheduler>,
    /// The class and priority of its I/O: `ioprio_set(2)`.
    pub io_priority: Option<u32>,
    /// Its processors, for a further process.
    pub affinity: Option<CpuAffinity>,
    /// A cgroup below the container's for a further process, by controller; `""` for all.
    pub sub_cgroups: BTreeMap<String, String>,
    /// A terminal of the container's own, with this size, in place of stdio.
    pub terminal: Option<TerminalSize>,
    /// No privileges are gained by exec.
    pub no_new_privileges: bool,
    /// Join the container also where its init could start a further process, so that it is a child
    /// of the caller: for who passes its end on to a parent or a subreaper.
    pub own_child: bool,
    /// Start a further process also in a paused container: it waits there for the resume, and so
    /// does who starts it.
    pub ignore_paused: bool,
}

/// The user of a process by numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// The user id in the container.
    pub uid: u32,
    /// The group id in the container.
    pub gid: u32,
    /// The supplementary groups, these and no others.
    pub groups: Vec<u32>,
    /// The file mode creation mask; 0022 if absent.
    pub umask: Option<u32>,
}

/// One of the standard descriptors.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own.
    #[default]
    Inherit,
    /// The null device.
    Null,
    /// A pipe, whose other end is in [`Running`].
    Pipe,
    /// This descriptor.
    Fd(OwnedFd),
}

/// The size of a terminal in characters; 0 leaves the kernel's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// The height.
    pub rows: u16,
    /// The width.
    pub columns: u16,
}

/// A process that was started.
#[derive(Debug)]
pub struct Running {
    pub(crate) pid: i32,
    pub(crate) child: Arc<Child>,
    /// The writing end of standard input, if it is a pipe.
    pub stdin: Option<File>,
    /// The reading end of standard output, if it is a pipe.
    pub stdout: Option<File>,
    /// The reading end of standard error, if it is a pipe.
    pub stderr: Option<File>,
    /// The master of the terminal, if there is one.
    pub console: Option<OwnedFd>,
    /// What is killed when the process ends: all of a container without a pid namespace.
    pub(crate) cgroups: Option<Cgroups>,
    /// Whether it is the first process of a container.
    pub(crate) first: Option<First>,
}

impl Running {
    /// A process that runs, with the caller's ends of its pipes.
    pub(crate) fn new(
        pid: i32,
        child: Arc<Child>,
        [stdin, stdout, stderr]: [Option<File>; 3],
        console: Option<OwnedFd>,
    ) -> Self {
        let (cgroups, first) = (None, None);
        Self { pid, child, stdin, stdout, stderr, console, cgroups, first }
    }

    /// The process's id, in the caller's pid namespace; 0 for one that the container's init started
    /// and that had ended before it could be looked at.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that stands for the process and becomes readable when it ends: `pidfd_open(2)`.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// Waits for the end of the process.
    ///
    /// For the first process of a container without a pid namespace, all its others are killed
    /// then: no kernel does it. With one, it ends only when every further process of the caller's
    /// has been reaped, which is done here; [`Running::wait`] of those still tells their exits.
    ///
    /// # Errors
    /// [`Code::SystemError`], with `ECHILD` if something else has reaped the process.
    pub fn wait(&mut self) -> Result<Exit> {
        let exit = match &self.first {
            Some(first) => first.wait(&self.child),
            None => self.child.wait(),
        }
        .map_err(|errno| Error::system("waitid", self.pid.to_string(), errno))?;
        if let Some(cgroups) = self.cgroups.take() {
            cgroups.kill()?;
        }
        Ok(exit)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`] if the process has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        send(self.child.as_fd(), self.pid, signal)
    }
}

/// Sends a signal to the process of a pidfd.
pub(crate) fn send(pidfd: BorrowedFd<'_>, pid: i32, signal: i32) -> Result<()> {
    let known = Signal::from_named_raw(signal);
    // Real-time signals have no name; the kernel knows which exist.
    let sent = match known {
        Some(signal) => pidfd_send_signal(pidfd, signal),
        None => wait::send_numbered(pidfd, signal),
    };
    sent.map_err(|errno| {
        let error = Error::system("signal", pid.to_string(), errno);
        if errno == Errno::SRCH { error.with_code(Code::ContainerNotRunning) } else { error }
    })
}

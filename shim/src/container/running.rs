//! A process of a container that was started.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pidone_config::{Error, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::exit::Exit;
use pidone_host::pidfd;

use crate::container::children::{Child, FirstProcess};
use crate::launch::Started;
use crate::launch::stdio::Descriptors;

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
    pub(crate) first: Option<FirstProcess>,
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

    /// A started process with the caller's ends of its pipes.
    pub(crate) fn from_started(started: Started, descriptors: Descriptors<'_>) -> Self {
        let Started { child, console, .. } = started;
        Self::new(child.pid, Child::new(child.pidfd), descriptors.kept, console)
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
    /// [`pidone_config::Code::SystemError`], with `ECHILD` if something else has reaped the process.
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

    /// Whether it is the first process of its container, with which the container ends.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.first.is_some()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`pidone_config::Code::ContainerNotRunning`] if the process has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd::send(self.child.as_fd(), self.pid, signal)
    }
}

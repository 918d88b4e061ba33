//! A handle for a started process.

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

/// A handle for a process that was started.
///
/// Dropping it closes the caller's ends of the pipes, and neither kills nor reaps the process.
///
/// ```no_run
/// # use pidone::{Config, Factory, Options, Process};
/// # fn main() -> pidone::Result<()> {
/// # let factory = Factory::new("/run/example", Options::default())?;
/// # let mut container = factory.create("job", &Config::template("/srv/busybox".into()))?;
/// # let args = ["/bin/sleep", "60"].map(String::from).into();
/// let mut running = container.start(&Process { args, ..Process::default() })?;
/// println!("process {}", running.pid());
/// // The first process of a pid namespace ignores signals without a handler, except for SIGKILL.
/// running.signal(9)?;
/// assert_eq!(running.wait()?.signal, Some(9));
/// # Ok(())
/// # }
/// ```
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
    /// The master side of the terminal, if the process has one.
    pub console: Option<OwnedFd>,
    /// The cgroups to kill when the process ends: those of a container without a pid namespace.
    pub(crate) cgroups: Option<Cgroups>,
    /// The registration of a container's first process; `None` for other processes.
    pub(crate) first: Option<FirstProcess>,
}

impl Running {
    /// Makes a handle for a running process, with the caller's ends of its pipes.
    pub(crate) fn new(
        pid: i32,
        child: Arc<Child>,
        [stdin, stdout, stderr]: [Option<File>; 3],
        console: Option<OwnedFd>,
    ) -> Self {
        let (cgroups, first) = (None, None);
        Self { pid, child, stdin, stdout, stderr, console, cgroups, first }
    }

    /// Makes a handle for a process that was launched with `descriptors`.
    pub(crate) fn from_started(started: Started, descriptors: Descriptors<'_>) -> Self {
        let Started { child, console, .. } = started;
        Self::new(child.pid, Child::new(child.pidfd), descriptors.kept, console)
    }

    /// Returns the id of the process in the caller's pid namespace. It is 0 for a process that was
    /// started by the container's init and ended before its id could be read.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the pidfd of the process, which becomes readable when it ends: `pidfd_open(2)`.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// Waits until the process ends, and reaps it. Further calls return the same exit.
    ///
    /// After the first process of a container without a pid namespace, this kills the others, which
    /// the kernel does not do. In a pid namespace, the first process cannot be reaped before the
    /// further ones that this program started there, so this reaps them too; [`Running::wait`] of
    /// those still returns their exits.
    ///
    /// ```no_run
    /// # use pidone::{Config, Factory, Options, Process};
    /// # fn main() -> pidone::Result<()> {
    /// # let factory = Factory::new("/run/example", Options::default())?;
    /// # let mut container = factory.create("job", &Config::template("/srv/busybox".into()))?;
    /// # let args = ["/bin/sh", "-c", "exit 3"].map(String::from).into();
    /// let exit = container.start(&Process { args, ..Process::default() })?.wait()?;
    /// assert_eq!((exit.code, exit.signal), (Some(3), None));
    /// println!("{} KiB at most", exit.usage.max_rss);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Code::SystemError`](pidone_config::Code::SystemError), with `ECHILD` if something else has
    /// reaped the process.
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

    /// Whether this is the first process of its container, which ends with it.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.first.is_some()
    }

    /// Sends a signal, by number as in `signal(7)`.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`](pidone_config::Code::ContainerNotRunning) if the process has
    /// ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd::send(self.child.as_fd(), self.pid, signal)
    }
}

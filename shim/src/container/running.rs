//! A handle for a started process.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::exit::Exit;
use pidone_host::pidfd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::container::children::{self, Child, FirstProcess};
use crate::launch::Started;
use crate::launch::stdio::Descriptors;

/// A handle for a process that was started, as `std::process::Child`.
///
/// Dropping it closes the caller's ends of the pipes, and neither kills nor reaps the process,
/// unless [`Running::kill_on_drop`] was called.
///
/// ```no_run
/// # use pidone::{Config, Factory, Options, Process};
/// # fn main() -> pidone::Result<()> {
/// # let factory = Factory::new("/run/example", Options::default())?;
/// # let container = factory.create("job", &Config::template("/srv/busybox".into()))?;
/// # let args = ["/bin/sleep", "60"].map(Into::into).into();
/// let mut running = container.start(&Process { args, ..Process::default() })?;
/// println!("process {}", running.pid());
/// // The first process of a pid namespace ignores signals without a handler, except for SIGKILL.
/// running.kill()?;
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
    kill_on_drop: bool,
}

/// A handle that sends signals to a process while another thread waits for it.
///
/// [`Running::signaller`] returns it. It may outlive the process, also after its id has been reused
/// for another one.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn f(mut running: pidone::Running) -> pidone::Result<()> {
/// let signaller = running.signaller();
/// let waiter = std::thread::spawn(move || running.wait());
/// signaller.signal(15)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Signaller {
    pid: i32,
    child: Arc<Child>,
}

/// What a process has written, and how it ended: [`Running::wait_with_output`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard output, if that is a pipe.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, if that is a pipe.
    pub stderr: Vec<u8>,
}

impl Running {
    /// Makes a handle for a running process, with the caller's ends of its pipes.
    pub(crate) fn new(
        pid: i32,
        child: Arc<Child>,
        [stdin, stdout, stderr]: [Option<File>; 3],
        console: Option<OwnedFd>,
    ) -> Self {
        let (cgroups, first, kill_on_drop) = (None, None, false);
        Self { pid, child, stdin, stdout, stderr, console, cgroups, first, kill_on_drop }
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

    /// Closes standard input, if it is a pipe and was not taken, waits until the process ends, and
    /// reaps it. Further calls return the same exit.
    ///
    /// Take [`Running::stdin`] to keep it open. Output is not read: a process that writes more than
    /// a pipe holds waits for its reader, so [`Running::wait_with_output`] suits those with pipes.
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
    /// # let container = factory.create("job", &Config::template("/srv/busybox".into()))?;
    /// # let args = ["/bin/sh", "-c", "exit 3"].map(Into::into).into();
    /// let exit = container.start(&Process { args, ..Process::default() })?.wait()?;
    /// assert_eq!((exit.code, exit.signal), (Some(3), None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Code::SystemError`](pidone_config::Code::SystemError), with `ECHILD` if something else has
    /// reaped the process.
    pub fn wait(&mut self) -> Result<Exit> {
        drop(self.stdin.take());
        loop {
            if let Some(exit) = self.wait_until(None)? {
                return Ok(exit);
            }
        }
    }

    /// Reaps the process if it has ended, and returns its exit; `None` if it runs. Standard input
    /// stays open.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn try_wait(&mut self) -> Result<Option<Exit>> {
        let reaped = children::reap(&self.child, self.first.as_ref());
        self.ended(reaped)
    }

    /// As [`Running::wait`], but returns `None` if the process still runs after `timeout`. Standard
    /// input stays open.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn f(mut running: pidone::Running) -> pidone::Result<()> {
    /// let exit = match running.wait_timeout(Duration::from_secs(10))? {
    ///     Some(exit) => exit,
    ///     None => {
    ///         running.kill()?;
    ///         running.wait()?
    ///     }
    /// };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Exit>> {
        // A deadline that cannot be represented never comes.
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Waits until the process ends or the deadline has passed.
    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<Option<Exit>> {
        let waited = children::wait(&self.child, self.first.as_ref(), deadline);
        self.ended(waited)
    }

    /// Kills the rest of a container without a pid namespace once its first process has ended.
    fn ended(&mut self, exit: rustix::io::Result<Option<Exit>>) -> Result<Option<Exit>> {
        let exit = exit.map_err(|errno| Error::system("waitid", self.pid.to_string(), errno))?;
        if exit.is_some()
            && let Some(cgroups) = self.cgroups.take()
        {
            cgroups.kill()?;
        }
        Ok(exit)
    }

    /// Closes standard input, reads standard output and error to their ends, as far as they are
    /// pipes and were not taken, and waits until the process ends.
    ///
    /// ```no_run
    /// # use pidone::{Config, Factory, Options, Process, Stdio};
    /// # fn main() -> pidone::Result<()> {
    /// # let factory = Factory::new("/run/example", Options::default())?;
    /// # let container = factory.create("job", &Config::template("/srv/busybox".into()))?;
    /// let args = ["/bin/sh", "-c", "echo out; echo err >&2"].map(Into::into).into();
    /// let (stdout, stderr) = (Stdio::Pipe, Stdio::Pipe);
    /// let process = Process { args, stdout, stderr, ..Process::default() };
    /// let output = container.start(&process)?.wait_with_output()?;
    /// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Running::wait`], and if a pipe cannot be read. The process may run on then.
    pub fn wait_with_output(mut self) -> Result<Output> {
        drop(self.stdin.take());
        let mut pipes = Pipes::new([self.stdout.take(), self.stderr.take()]);
        while !pipes.all_ended() {
            pipes
                .read(false)
                .map_err(|errno| Error::system("read the output", self.pid.to_string(), errno))?;
        }
        let [stdout, stderr] = pipes.into_bytes();
        Ok(Output { exit: self.wait()?, stdout, stderr })
    }

    /// Whether this is the first process of its container, which ends with it.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.first.is_some()
    }

    /// Returns a handle that sends signals while another thread waits.
    #[must_use]
    pub fn signaller(&self) -> Signaller {
        Signaller { pid: self.pid, child: Arc::clone(&self.child) }
    }

    /// Sends a signal, by number as in `signal(7)`; 0 sends none, and reports whether the process
    /// exists.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`](pidone_config::Code::ContainerNotRunning) if the process has
    /// ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd::send(self.child.as_fd(), self.pid, signal)
    }

    /// Sends `SIGKILL`. Nothing happens if the process has ended. In a pid namespace, the others
    /// end with the first process.
    ///
    /// # Errors
    /// [`Code::SystemError`](pidone_config::Code::SystemError) if the kernel refuses it.
    pub fn kill(&self) -> Result<()> {
        kill(&self.child, self.pid)
    }

    /// Sets whether dropping the handle kills the process and reaps it.
    ///
    /// The drop then waits for the end, as [`Running::wait`]. For a container's first process, the
    /// directory and the cgroups remain until [`Container::destroy`](crate::Container::destroy).
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has been reaped is not killed: `kill` succeeds, and `wait` returns its exit.
        if self.kill_on_drop && self.kill().is_ok() {
            let _ = self.wait();
        }
    }
}

impl Signaller {
    /// Sends a signal, by number as in `signal(7)`; 0 sends none, and reports whether the process
    /// exists.
    ///
    /// # Errors
    /// [`Code::ContainerNotRunning`](pidone_config::Code::ContainerNotRunning) if the process has
    /// ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd::send(self.child.as_fd(), self.pid, signal)
    }

    /// Sends `SIGKILL`. Nothing happens if the process has ended.
    ///
    /// # Errors
    /// [`Code::SystemError`](pidone_config::Code::SystemError) if the kernel refuses it.
    pub fn kill(&self) -> Result<()> {
        kill(&self.child, self.pid)
    }
}

fn kill(child: &Child, pid: i32) -> Result<()> {
    match pidfd::send(child.as_fd(), pid, Signal::KILL.as_raw()) {
        Err(error) if error.code() == Code::ContainerNotRunning => Ok(()),
        sent => sent,
    }
}

/// Two pipes that are read at the same time, since a process may fill either first.
#[derive(Debug)]
pub(super) struct Pipes {
    /// `None` for one that has ended.
    open: [Option<File>; 2],
    bytes: [Vec<u8>; 2],
}

impl Pipes {
    pub(super) fn new(open: [Option<File>; 2]) -> Self {
        Self { open, bytes: [Vec::new(), Vec::new()] }
    }

    pub(super) fn all_ended(&self) -> bool {
        self.open.iter().all(Option::is_none)
    }

    /// Returns those that have not ended.
    #[cfg(feature = "tokio")]
    pub(super) fn open(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().flatten().map(|pipe| pipe.as_fd())
    }

    /// Reads from those that are readable. Waits until one is, unless it must return at once.
    pub(super) fn read(&mut self, at_once: bool) -> rustix::io::Result<()> {
        let timeout = at_once.then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut fds: Vec<PollFd<'_>> =
            self.open.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let open = self.open.iter_mut().zip(&mut self.bytes).filter(|(pipe, _)| pipe.is_some());
        let mut chunk = [0; 16 * 1024];
        for ((slot, bytes), _) in open.zip(ready).filter(|(_, ready)| *ready) {
            let Some(pipe) = slot else { continue };
            let length = rustix::io::retry_on_intr(|| rustix::io::read(&*pipe, &mut chunk))?;
            bytes.extend_from_slice(chunk.get(..length).unwrap_or_default());
            if length == 0 {
                *slot = None;
            }
        }
        Ok(())
    }

    pub(super) fn into_bytes(self) -> [Vec<u8>; 2] {
        self.bytes
    }
}

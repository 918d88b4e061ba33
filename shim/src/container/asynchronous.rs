//! Waiting for processes in an event loop of tokio.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::{Error, Result};
use pidone_host::exit::Exit;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::container::children;
use crate::container::running::{Output, Pipes, Running};

/// A process that an event loop of tokio can wait for, as `tokio::process::Child`. Needs the
/// feature `tokio`.
///
/// The kernel reports the end of the process through its pidfd, so that no thread waits and no
/// signal is handled. A start still blocks, for about a millisecond: make it on a thread for
/// blocking calls.
///
/// ```no_run
/// use pidone::{AsyncRunning, Container, Exit, Process};
///
/// async fn run(container: &Container, process: &Process) -> pidone::Result<Exit> {
///     AsyncRunning::new(container.start(process)?).wait().await
/// }
/// ```
#[derive(Debug)]
pub struct AsyncRunning(Running);

impl AsyncRunning {
    /// Wraps the handle of a process. [`Running::kill_on_drop`] keeps its effect.
    #[must_use]
    pub fn new(running: Running) -> Self {
        Self(running)
    }

    /// Returns the handle, for its pipes, to send signals and to kill the process.
    ///
    /// `tokio::net::unix::pipe` has pipes for the event loop, which are made from those of the
    /// handle.
    #[must_use]
    pub fn running(&mut self) -> &mut Running {
        &mut self.0
    }

    /// Returns the handle.
    #[must_use]
    pub fn into_inner(self) -> Running {
        self.0
    }

    /// As [`Running::wait`]: closes standard input, waits until the process ends, and reaps it.
    ///
    /// If the future is dropped, the process runs on, and the call can be repeated. It must be
    /// polled in a runtime of tokio that has I/O enabled, or it panics, as all of tokio's I/O.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub async fn wait(&mut self) -> Result<Exit> {
        drop(self.0.stdin.take());
        loop {
            if let Some(exit) = self.0.try_wait()? {
                return Ok(exit);
            }
            let set = {
                let first = self.0.first.as_ref();
                let joined = first.map(children::FirstProcess::running).unwrap_or_default();
                children::awaited(&self.0.child, first, &joined)
                    .and_then(|fds| set_of(fds.iter().map(AsFd::as_fd)))
                    .map_err(|errno| Error::system("waitid", self.0.pid.to_string(), errno))?
            };
            readable(set).await?;
        }
    }

    /// As [`Running::wait_with_output`]: reads standard output and error to their ends, and waits
    /// until the process ends.
    ///
    /// # Errors
    /// As [`Running::wait_with_output`].
    pub async fn wait_with_output(mut self) -> Result<Output> {
        drop(self.0.stdin.take());
        let fail = |pid: i32| move |errno| Error::system("read the output", pid.to_string(), errno);
        let mut pipes = Pipes::new([self.0.stdout.take(), self.0.stderr.take()]);
        while !pipes.all_ended() {
            readable(set_of(pipes.open()).map_err(fail(self.0.pid))?).await?;
            pipes.read(true).map_err(fail(self.0.pid))?;
        }
        let [stdout, stderr] = pipes.into_bytes();
        Ok(Output { exit: self.wait().await?, stdout, stderr })
    }
}

/// Returns a descriptor that is readable when one of the others is.
fn set_of<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>) -> rustix::io::Result<OwnedFd> {
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    for fd in fds {
        epoll::add(&set, fd, EventData::new_u64(0), EventFlags::IN)?;
    }
    Ok(set)
}

/// Waits until a descriptor is readable.
async fn readable(fd: OwnedFd) -> Result<()> {
    let fail = |error| Error::system("epoll", "", error);
    #[allow(
        deprecated,
        reason = "the replacement is unsafe, and an OwnedFd meets its requirements"
    )]
    let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(fail)?;
    fd.readable().await.map(drop).map_err(fail)
}

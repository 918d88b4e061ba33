//! A program that a pool has started, and its container.

use std::sync::Arc;

use pidone_config::{Error, Result};
use pidone_host::exit::Exit;

use super::manager::PoolManager;
use crate::container::Container;
use crate::container::running::Running;

/// A container of a pool that runs a program.
///
/// No other program uses the container. When the lease is dropped, the processes that still run in
/// the container are killed and it is removed, in the background as long as the pool exists.
///
/// ```no_run
/// use std::ffi::OsString;
/// use std::io::Read as _;
///
/// use pidone::pool::Lease;
/// use pidone::{Pool, Process, Result, Stdio};
///
/// /// Runs a command in a container of the pool, and returns its output.
/// fn run(pool: &Pool, args: Vec<OsString>) -> Result<String> {
///     let process = Process { args, stdout: Stdio::Pipe, ..Process::default() };
///     let mut lease: Lease = pool.start(&process)?;
///     let mut output = String::new();
///     if let Some(mut stdout) = lease.running().stdout.take() {
///         let _ = stdout.read_to_string(&mut output);
///     }
///     let exit = lease.wait()?;
///     eprintln!("{}: status {}", lease.container().id(), exit.status());
///     Ok(output)
/// }
/// ```
#[derive(Debug)]
pub struct Lease {
    /// `None` only while the lease is dropped.
    used: Option<UsedContainer>,
    warm: bool,
    refill_error: Option<Error>,
    manager: Arc<PoolManager>,
}

/// A container and its first process.
#[derive(Debug)]
pub(super) struct UsedContainer {
    pub(super) container: Container,
    pub(super) running: Running,
    /// Whether the first process has ended and is reaped.
    pub(super) reaped: bool,
}

impl UsedContainer {
    /// Kills the processes, and removes the container.
    pub(super) fn remove(mut self) -> Result<()> {
        if !self.reaped {
            self.container.kill()?;
            self.running.wait()?;
        }
        self.container.destroy()
    }
}

impl Lease {
    pub(super) fn new(
        container: Container,
        running: Running,
        warm: bool,
        refill_error: Option<Error>,
        manager: &Arc<PoolManager>,
    ) -> Self {
        let used = Some(UsedContainer { container, running, reaped: false });
        Self { used, warm, refill_error, manager: Arc::clone(manager) }
    }

    /// Whether the program was started in a container that was ready, rather than in a new one.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Returns why the pool could not be refilled at the time of the start; `None` if it could, and
    /// for a warm start.
    #[must_use]
    pub fn refill_error(&self) -> Option<&Error> {
        self.refill_error.as_ref()
    }

    /// Returns the container, for its id, its statistics, signals and further processes.
    #[must_use]
    pub fn container(&mut self) -> &mut Container {
        &mut self.used().container
    }

    /// Returns the program, with the caller's ends of its pipes.
    #[must_use]
    pub fn running(&mut self) -> &mut Running {
        &mut self.used().running
    }

    fn used(&mut self) -> &mut UsedContainer {
        self.used.as_mut().expect("only taken when the lease is dropped")
    }

    /// Waits for the end of the program. The container is removed when the lease is dropped.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn wait(&mut self) -> Result<Exit> {
        let used = self.used();
        let exit = used.running.wait()?;
        used.reaped = true;
        Ok(exit)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(used) = self.used.take() {
            self.manager.reap(used);
        }
    }
}

//! Reports the readiness of a container to the service manager that started this process:
//! sd_notify(3).

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use pidone::{Container, Running};
use pidone_config::{Config, Error, Process, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::notify::{Listening, Notify};

/// Returns the socket of the service manager, if one started this process.
fn manager() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(Into::into)
}

/// Configures a container that is about to be created to report its readiness.
///
/// Returns `None` if no service manager started this process.
pub(super) fn configure(
    root: &Path,
    id: &str,
    config: &mut Config,
    process: &mut Process,
) -> Result<Option<Notify>> {
    let Some(manager) = manager() else { return Ok(None) };
    let notify = Notify::new(&root.join(id), manager);
    notify.configure(config, process)?;
    Ok(Some(notify))
}

/// Creates the socket for the container. Must be called before its program is executed.
pub(super) fn listen(root: &Path, id: &str) -> Result<Option<Listening>> {
    manager().map(|manager| Notify::new(&root.join(id), manager).listen()).transpose()
}

/// Starts the program of a created container, and waits until it is ready.
pub(super) fn release(container: &mut Container, root: &Path) -> Result<()> {
    let Some(listening) = listen(root, container.id())? else { return container.release() };
    // Opened before the release, which fails if the first process is gone: the pidfd is then not
    // that of another process.
    let pid = container.pid();
    let pidfd = Pid::from_raw(pid).ok_or(Errno::SRCH);
    let pidfd = pidfd
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|errno| Error::system("pidfd_open", pid.to_string(), errno))?;
    container.release()?;
    listening.forward(pid, pidfd.as_fd())
}

/// The thread that waits until the container is ready.
#[derive(Debug)]
pub(super) struct Forwarding(JoinHandle<Result<()>>);

/// Starts a thread that waits until the container is ready and reports it. This process stays the
/// main process of the service.
pub(super) fn forward(listening: Listening, running: &Running) -> Result<Forwarding> {
    let fail = |error| Error::system("notify", "", error);
    let pidfd = running.pidfd().try_clone_to_owned().map_err(fail)?;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let thread = std::thread::Builder::new()
        .spawn(move || listening.forward(own, pidfd.as_fd()))
        .map_err(fail)?;
    Ok(Forwarding(thread))
}

impl Forwarding {
    /// Returns the result if the thread has finished. Does not wait for a manager that does not
    /// read.
    pub(super) fn result(self) -> Option<Result<()>> {
        self.0.is_finished().then(|| self.0.join().ok()).flatten()
    }
}

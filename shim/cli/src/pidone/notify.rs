//! Readiness of a container, for a service manager that started this process: sd_notify(3).

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use pidone::{Container, Running};
use pidone_config::{Config, Error, Process, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::notify::{Listening, Notify};

/// The service manager's socket, if one started this process.
fn manager() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(Into::into)
}

/// Gives a container that is about to be made a socket to tell its readiness.
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

/// Listens on that socket, before the program can tell anything.
pub(super) fn listen(root: &Path, id: &str) -> Result<Option<Listening>> {
    manager().map(|manager| Notify::new(&root.join(id), manager).listen()).transpose()
}

/// Lets the program of a created container come, and waits until it is ready.
pub(super) fn release(container: &mut Container, root: &Path) -> Result<()> {
    let Some(listening) = listen(root, container.id())? else { return container.release() };
    // Opened before the release, which fails if the first process is gone: it is not another's.
    let pid = container.pid();
    let pidfd = Pid::from_raw(pid).ok_or(Errno::SRCH);
    let pidfd = pidfd
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|errno| Error::system("pidfd_open", pid.to_string(), errno))?;
    container.release()?;
    listening.forward(pid, pidfd.as_fd())
}

/// What waits for the container's word while this process attends it.
#[derive(Debug)]
pub(super) struct Forwarding(JoinHandle<Result<()>>);

/// Passes the container's word on meanwhile. This process stays the service's main one.
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
    /// What became of it, if it is over. A manager that does not read is not waited for.
    pub(super) fn end(self) -> Option<Result<()>> {
        self.0.is_finished().then(|| self.0.join().ok()).flatten()
    }
}
